"""Jobs on Ray and the command line: order of calls and resources, nothing else."""
