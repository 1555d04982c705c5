"""Scripts that run inside the virtual environments of peers; nothing of ours is imported there."""
