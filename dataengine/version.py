"""The version of the package; the format's version stands in `schemas/`."""

__version__ = "0.1.0"
