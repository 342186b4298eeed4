"""What a phase will cost, before it runs: arithmetic, memory, hours; on no device and without weights."""
