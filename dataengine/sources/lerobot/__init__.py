"""LeRobot datasets of every version (v1, v2.0, v2.1, v3.0) and the GR00T flavour of them."""
