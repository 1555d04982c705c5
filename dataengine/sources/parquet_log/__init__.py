"""Logs as Parquet tables, whose columns a side-car explains."""
