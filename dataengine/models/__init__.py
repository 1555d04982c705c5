"""Networks: one file for each, shapes in trailing comments; how they are fitted, kept and found again."""
