"""Settings of libraries that only work before torch is imported."""

from __future__ import annotations

import os


def prepare_environment() -> None:
    """Threads that wait sleep instead of spinning (else two processes on one machine slow each other tenfold)."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP warns of slices in which every part is used
