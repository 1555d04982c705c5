"""Mergeable statistics of columns."""
