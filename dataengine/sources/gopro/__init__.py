"""GoPro telemetry (GPMF): what the sensors of a camera wrote into its MP4, or into a raw file of its own."""
