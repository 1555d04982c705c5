"""What people look at: pages that stand alone, and the charts on them."""
