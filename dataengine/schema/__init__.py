"""The format as data: reads `schemas/v1` and validates what the store writes; describes known datasets and bodies from `configs`."""
