"""What several tests need: tiny real inputs and the place of the shared recordings."""
