"""What must not be written down: secrets, known by their name, by their shape, or since the environment keeps them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

REMOVED = "(removed)"

_NAMED = re.compile(
    r"(token(?!s|iz)|secret|passw(or)?d|passphrase|(api|access|private)_?key|credential|authorization)", re.IGNORECASE
)
_NAMED_WITHIN = re.compile(_NAMED.pattern + r"\w*['\"]?\s*:", re.IGNORECASE)  # {user: me, api_key: …} as one word
_SHAPED = re.compile(
    r"(hf_[A-Za-z0-9]{8,}|wandb_v\d_\w{8,}|sk-[\w-]{16,}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{20,}"
    r"|github_pat_\w{20,}|xox[abprs]-[\w-]{10,})"
)
_HEX = re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{40}(?![0-9A-Za-z])")  # an older key of W&B; also how git names a commit
_COMMIT = re.compile(r"(revision|commit|digest|sha\d*)$", re.IGNORECASE)
_LOGIN = re.compile(r"://[^/\s@]+@")
_SHORT = 8  # what is shorter could be any word


def redacted(value: Any) -> Any:
    """Plain values without secrets: whatever lies under a key that is named as one, and text that holds one.

    A revision of 40 hex digits stays where its key calls it so; of an address only the login is removed.
    """
    return _redacted(value, _of_environment(), commit=False)


def redacted_words(command: Sequence[str]) -> list[str]:
    """A command line without secrets: of `key=value` and of `--key value` the key stays."""
    words: list[str] = []
    kept = _of_environment()
    follows = False
    for word in command:
        key, equals, value = word.partition("=")
        named = follows or bool(equals and (_NAMED.search(key) or _NAMED_WITHIN.search(value)))
        shown = REMOVED if named else _text(value if equals else word, kept, commit=bool(_COMMIT.search(key)))
        words.append(f"{_text(key, kept)}={shown}" if equals and not follows else shown)
        follows = not equals and word.startswith("-") and bool(_NAMED.search(word))
    return words


def redacted_message(message: str) -> str:
    """A sentence without secrets: the words that hold one are removed, the others stay."""
    kept = _of_environment()
    for secret in kept:
        message = message.replace(secret, REMOVED)
    return re.sub(r"\S+", lambda word: _text(word[0], ()), message)


def _redacted(value: Any, secrets: Sequence[str], commit: bool) -> Any:
    if isinstance(value, Mapping):
        return {
            _text(str(key), secrets): REMOVED
            if child is not None and _NAMED.search(str(key))
            else _redacted(child, secrets, bool(_COMMIT.search(str(key))))
            for key, child in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_redacted(child, secrets, commit) for child in value]
    return _text(value, secrets, commit) if isinstance(value, str) else value


def _text(value: str, secrets: Iterable[str], commit: bool = False) -> str:
    """The text, or the word that stands for one that holds a secret."""
    if _SHAPED.search(value) or (not commit and _HEX.search(value)) or any(secret in value for secret in secrets):
        return REMOVED
    return _LOGIN.sub(f"://{REMOVED}@", value)


def _of_environment() -> tuple[str, ...]:
    """The values of variables that are named as secrets."""
    return tuple(value for name, value in os.environ.items() if _NAMED.search(name) and len(value) >= _SHORT)
