"""Transforms: views of trajectories, as frozen dataclasses with a way back."""
