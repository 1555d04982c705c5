"""Verdicts: how good labels are, and whether they help."""
