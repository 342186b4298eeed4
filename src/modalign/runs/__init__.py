"""The run folder: identity, manifest, checkpoints, lock, lineage; all but the tensors themselves without torch."""
