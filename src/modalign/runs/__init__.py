"""The run folder: identity, manifest, checkpoints, lock, lineage."""
