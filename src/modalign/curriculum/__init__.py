"""Which phases, in which order, with what replay: plain Python, no torch."""
