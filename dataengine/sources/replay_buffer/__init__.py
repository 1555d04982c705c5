"""Replay buffers of diffusion-policy and UMI: one Zarr group of all episodes, as a folder or a zip file."""
