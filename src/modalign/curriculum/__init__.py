"""Which modalities are taught in which order, with how much of the earlier ones mixed in: plain Python, no torch."""
