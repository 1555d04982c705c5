"""From streams on their own clocks to one trajectory on a control clock."""
