"""Recordings that the engine makes itself: environments that are played, and what is recorded of them."""
