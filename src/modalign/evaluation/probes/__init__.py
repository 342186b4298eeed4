"""Probes: what a model does with its sensors, asked of the model itself rather than of what it says."""
