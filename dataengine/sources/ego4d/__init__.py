"""Ego4D: long first-person videos, what was said of them, and inertial samples."""
