"""Other processes of one `modalign ablate`: they make runs of the same studies, and are ended when it ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def beside(arguments: Sequence[str], count: int) -> Iterator[list[str]]:
    """While entered, `count` - 1 processes do the same; on leaving they are waited for, or ended after an error.

    The list that it gives holds a line for each that failed, once it is left.
    """
    own = [sys.executable, "-m", "modalign.cli.main", "ablate", *arguments]
    others = [subprocess.Popen([*own, "--worker", f"{number}/{count}"]) for number in range(1, count)]
    failed: list[str] = []
    try:
        yield failed
        for number, other in enumerate(others, 1):
            if code := other.wait():
                failed.append(f"process {number + 1} of {count} ended with code {code}")
    finally:
        for other in others:
            if other.poll() is None:
                other.terminate()
                other.wait()
