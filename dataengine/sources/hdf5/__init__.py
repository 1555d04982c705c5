"""HDF5 recordings, by family."""
