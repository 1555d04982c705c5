"""What leaves the house as files that other tools read."""
