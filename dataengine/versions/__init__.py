"""Versions of a store: log, diff, restore, removal, garbage collection, purge."""
