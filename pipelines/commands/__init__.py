"""What the commands do: from arguments to calls, and from results to what is printed."""
