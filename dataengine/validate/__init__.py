"""Checks of an episode: what is wrong with it, named for the fault."""
