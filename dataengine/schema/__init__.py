"""The format as data: reads `schemas/v1` and validates what the store writes."""
