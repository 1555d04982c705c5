"""Video with its numbers in an NPZ beside it, as sets that were made from BridgeData are handed around."""
