"""Privacy: faces blurred and personal facts scrubbed between a reader and the store, with a record of what was done."""
