"""Ways to label the steps of an episode: one file for each, behind the protocol `Labeller`."""
