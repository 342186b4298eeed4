"""What goes wrong between a name in the configuration and weights in memory, told in one line with what to do."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from modalign.errors import ModalignError

LONGEST = 300  # characters of a library's own words
UNREACHED = (OfflineModeIsEnabled, LocalEntryNotFoundError, ConnectionError, TimeoutError)
# In this order: a gated repository is also one that was not found, and a file missing here is also a missing file.
REASONS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    (
        (GatedRepoError,),
        "its weights are gated: accept the licence on its page, then give your token (HF_TOKEN, or `hf auth login`)",
    ),
    (
        UNREACHED,
        "the hub cannot be reached and no copy is in its cache: connect once, or name a local folder or file",
    ),
    (
        (RepositoryNotFoundError,),
        "the hub has no such repository, or a private one (HF_TOKEN): mend the name, or name a local folder",
    ),
    ((EntryNotFoundError,), "the repository lacks a file that this kind of model has: it is another kind of model"),
    ((HFValidationError,), "this is neither a local folder nor a name on the hub (owner/name)"),
    ((HfHubHTTPError,), "the hub answered with an error: try again later, or name a local folder"),
)


def local_file(source: str, *names: str) -> Path | None:
    """The first of these files in a local folder, or in this machine's copy of a repository of the hub."""
    for name in names:
        if Path(source, name).is_file():
            return Path(source, name)
        if not Path(source).exists() and isinstance(found := try_to_load_from_cache(source, name), str):
            return Path(found)
    return None


@contextmanager
def telling_hub(what: str, name: str, key: str) -> Iterator[None]:
    """Errors of loading `what` (in words) called `name` by the setting `key` become one line."""
    try:
        yield
    except ModalignError:
        raise
    except Exception as error:  # each library raises its own kinds, and wraps the hub's in them
        raise ModalignError(f"cannot load {what} '{name}' ({key}): {_reason(error)}") from error


def is_here(name: str, files: Sequence[str]) -> bool:
    """Whether `name` is a path here, or the hub's cache on this machine holds one of `files` of that repository."""
    return Path(name).exists() or local_file(name, *files) is not None


def require_folder(what: str, name: str, key: str) -> None:
    """ModalignError where `name` can only be a folder here, by its shape, and is not there.

    Else a mistyped folder would be asked of the hub, for as long as that does not answer. Of `a/b` nobody knows: a
    repository's owner may be a folder here, too.
    """
    path = Path(name)
    like_a_path = name.startswith((".", "~", "/")) or name.count("/") > 1
    if path.exists() or not like_a_path:
        return
    nearest = []
    with contextlib.suppress(OSError, RuntimeError):  # a folder that may not be read, a user whom nobody knows
        beside = [folder.name for folder in path.parent.iterdir() if folder.is_dir()]
        nearest = [str(path.parent / name) for name in difflib.get_close_matches(path.name, beside, n=1, cutoff=0.5)]
    with contextlib.suppress(OSError, RuntimeError):
        nearest = [str(home)] if (home := path.expanduser()).exists() else nearest
    advice = f"did you mean '{nearest[0]}'?" if nearest else "mend the path, or name a repository of the hub"
    raise ModalignError(f"cannot load {what} '{name}' ({key}): there is no such folder; {advice}")


def _reason(error: BaseException) -> str:
    """The reason of the innermost known error, or what the outermost says."""
    chain = list(_chain(error))
    for kinds, told in REASONS:
        if any(isinstance(one, kinds) for one in chain) or (kinds is UNREACHED and any(map(_transport, chain))):
            return told
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    place = next((n for n, line in enumerate(lines) if not line.startswith("Error(s) in loading")), None)
    told = type(error).__name__ if place is None else lines[place]
    if told.endswith(":") and place is not None:  # what it says comes in the lines below
        told = " ".join(lines[place:])
    return told if len(told) <= LONGEST else f"{told[:LONGEST]}…"


def _transport(error: BaseException) -> bool:
    """Whether an HTTP client never got an answer; by name, since the hub's library changes clients."""
    return any(kind.__name__ == "TransportError" for kind in type(error).__mro__)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
