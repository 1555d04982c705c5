"""Verdicts: how good labels are, beside baselines, with intervals over episodes."""
