"""The errors a user can cause and mend: one line that says what, where, the nearest valid name, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ModalignError(Exception):
    """A mistake in the input, told in one line; entry points print it and exit with `exit_code`."""

    exit_code = 2
    # Of several processes all that meet the same error, the first of each node tells it; unless only one met it.
    only_here = False

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class ToldElsewhere(ModalignError):
    """Ends one of several processes without a word: another of them tells the error."""

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class BadSample(ModalignError):
    """One sample that cannot be used; counted and named in the manifest, fatal only above a share."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"sample {key}: {reason}")
        self.key = key
        self.reason = " ".join(reason.split())


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """The known name that one may have meant, if any is like it."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)), None)


def unknown_name(kind: str, name: str, known: Iterable[str], where: str = "") -> ModalignError:
    """An error for a name that is not declared: names the nearest one and lists the known ones."""
    names = sorted(known)
    suggestion = f"did you mean '{nearest}'? " if (nearest := nearest_name(name, names)) else ""
    place = f" in {where}" if where else ""
    listing = ", ".join(names) if names else "none"
    return ModalignError(f"unknown {kind} '{name}'{place}: {suggestion}known: {listing}")
