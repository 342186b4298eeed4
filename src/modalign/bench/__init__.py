"""Measures training against its peers, each ratio in one process; nothing of the product imports it."""
