"""DROID: the folder that its recorder leaves for each episode, and what its numbers mean wherever they are found."""
