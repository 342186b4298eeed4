"""What a person reads: answers on stdout, errors as one line on stderr."""

from __future__ import annotations

import sys
from typing import NoReturn

from modalign.errors import ModalignError


def say(text: str) -> None:
    """Write an answer to stdout."""
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()


def warn(text: str) -> None:
    """Write one line to stderr."""
    sys.stderr.write(" ".join(text.split()) + "\n")


def exit_with(error: ModalignError) -> NoReturn:
    """End with the error's line and exit code."""
    sys.stderr.write(f"error: {error}\n")
    sys.exit(error.exit_code)
