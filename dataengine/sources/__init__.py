"""Readers: one file for each format, one explicit dict of them in `registry`."""
