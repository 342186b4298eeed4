"""What a run says beside its bar: our own notes and warnings go to stderr, those of libraries are kept quiet."""

from __future__ import annotations

import logging
import sys
import warnings

LIBRARIES = ("lightning", "lightning.pytorch", "lightning.fabric", "transformers", "httpx")
OURS = "modalign"


class Notices(logging.Handler):
    """Writes `note: …` or `warning: …` to whatever stderr is at that moment (a progress bar puts itself in between)."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        kind = "note" if record.levelno < logging.WARNING else record.levelname.lower()
        sys.stderr.write(f"{kind}: {' '.join(record.getMessage().split())}\n")


def quiet_libraries(tell: bool = True) -> None:
    """Keep libraries' notices out of the terminal, and show ours; without `tell` (not the first process) errors."""
    logging.getLogger().setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\b")
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.ERROR)
    ours = logging.getLogger(OURS)
    # The root's level would count for them too, were theirs not set.
    ours.setLevel(logging.INFO if tell else logging.ERROR)
    if not any(isinstance(handler, Notices) for handler in ours.handlers):
        ours.addHandler(Notices())
