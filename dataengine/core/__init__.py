"""Value types, protocols, clock and image-header facts, errors, configuration and byte access: the floor everything stands on."""
