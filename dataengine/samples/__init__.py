"""A simulated world whose truth is known, and writers of genuine recordings of it."""
