"""Transforms, as frozen dataclasses with a way back: of batches in a training loop (pictures, rotations, relative actions, tokens), and views of trajectories."""
