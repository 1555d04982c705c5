"""Verdicts: how good labels are, beside baselines, and whether they help."""
