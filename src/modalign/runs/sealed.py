"""Checkpoints as folders sealed by digests: which there are, and whether each is whole, told without torch."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from modalign.errors import ModalignError
from modalign.runs.identity import canonical
from modalign.runs.manifest import find_manifest

FORMAT = 1
SEAL = "digests.json"
STATE = "state.pt"
UNFINISHED = ".unfinished-"
CHUNK_BYTES = 1 << 22

log = logging.getLogger(__name__)


def seal_bytes(contents: dict[str, Any]) -> bytes:
    """The seal of a checkpoint: its contents, a digest of the weights alone, and one of the seal itself.

    The last makes a flipped bit in the seal noticed too.
    """
    weights = {part: [contents["files"][name]["sha256"] for name in names] for part, names in contents["parts"].items()}
    contents = {**contents, "weights": _digest(weights)}
    return json.dumps({**contents, "seal": _digest(contents)}, indent=1, sort_keys=True).encode()


def read_seal(path: Path) -> dict[str, Any]:
    """The seal of the checkpoint at `path`; ModalignError where it is missing, damaged or of a later format."""
    file = Path(path) / SEAL
    try:
        contents = json.loads(file.read_bytes())
        digest = contents.pop("seal")
    except (FileNotFoundError, NotADirectoryError):
        raise damaged(path, f"{SEAL} is missing") from None
    except (OSError, ValueError, AttributeError, KeyError):
        raise damaged(path, f"{SEAL} cannot be read") from None
    if digest != _digest(contents):
        raise damaged(path, f"{SEAL} was altered")
    if contents["format"] > FORMAT:
        raise ModalignError(f"{path} has format {contents['format']}, this modalign reads up to {FORMAT}: update it")
    return dict(contents)


def checkpoint_digest(path: Path) -> str:
    """The digest of a checkpoint's weights (64 hex digits), read from its seal.

    The state to go on from has no part in it: a run trained again to the same weights is the same parent.
    """
    return str(read_seal(path)["weights"])


def verify_checkpoint(path: Path, quick: bool = False) -> str:
    """The digest of the weights at `path` after every file was proved whole; `quick` compares only sizes."""
    seal = read_seal(path)
    for name, known in seal["files"].items():
        file = Path(path) / name
        if not file.is_file():
            raise damaged(path, f"{name} is missing")
        size = file.stat().st_size
        if size != known["bytes"]:
            raise damaged(path, f"{name} holds {size} bytes, {known['bytes']} were written")
        if not quick and _file_digest(file) != known["sha256"]:
            raise damaged(path, f"{name} was altered")
    return str(seal["weights"])


def read_sealed(path: Path, name: str, seal: dict[str, Any]) -> bytes:
    """The contents of one file of a checkpoint, proved to be what was written."""
    known = seal["files"].get(name)
    if known is None:
        raise damaged(path, f"{SEAL} does not name {name}")
    try:
        data = (Path(path) / name).read_bytes()
    except OSError as error:
        raise damaged(path, f"{name} cannot be read, {(error.strerror or str(error)).lower()}") from error
    if len(data) != known["bytes"]:
        raise damaged(path, f"{name} holds {len(data)} bytes, {known['bytes']} were written")
    if hashlib.sha256(data).hexdigest() != known["sha256"]:
        raise damaged(path, f"{name} was altered")
    return data


def list_checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in `folder`, whole or damaged, oldest first."""
    if not Path(folder).is_dir():
        return []
    found = [(order, path) for path in Path(folder).iterdir() if (order := _order(path)) is not None]
    return [path for _, path in sorted(found)]


def newest_valid(folder: Path) -> Path | None:
    """The newest checkpoint in `folder` that is whole, or None; a damaged one is named in a warning."""
    for path in reversed(list_checkpoints(folder)):
        try:
            verify_checkpoint(path)
        except ModalignError as error:
            log.warning("%s; an earlier checkpoint is used", error)
        else:
            return path
    return None


def prune(folder: Path, keep: int = 1, also: Iterable[Path] = (), every: int = 0) -> list[Path]:
    """Delete checkpoints but the `keep` newest that are whole, the final ones and `also`; returns what was deleted.

    Those at multiples of `every` steps stay too (0: none). Nothing is deleted while no whole one is left. An older
    checkpoint of a step that was saved again goes too.
    """
    kept = {Path(path).resolve() for path in also}
    whole: list[Path] = []
    steps: set[int] = set()
    for path in reversed(list_checkpoints(folder)):
        try:
            verify_checkpoint(path, quick=True)
            seal = read_seal(path)
        except ModalignError:
            continue
        stays = seal["final"] or (every and seal["step"] % every == 0)
        if seal["step"] not in steps and (len(whole) < max(1, keep) or stays):
            whole.append(path)
        steps.add(seal["step"])
    if not whole:
        return []
    kept |= {path.resolve() for path in whole}
    gone = [path for path in list_checkpoints(folder) if path.resolve() not in kept]
    for path in gone:
        # Renamed first: one that is killed half deleted must not pass for a damaged checkpoint.
        shutil.rmtree(path.rename(path.with_name(f"{UNFINISHED}{path.name}.gone")))
    return gone


def sweep(folder: Path) -> None:
    """Remove what a writer left that was killed while it saved or pruned."""
    for stale in Path(folder).glob(f"{UNFINISHED}*"):
        shutil.rmtree(stale, ignore_errors=True)


def next_name(folder: Path, step: int) -> str:
    """The name of a new checkpoint of `step`; a step that is saved again gets a number, so that none is overwritten."""
    numbers = [order[1] for path in list_checkpoints(folder) if (order := _order(path)) and order[0] == step]
    return f"step-{step:08d}" + (f".{max(numbers) + 1}" if numbers else "")


def damaged(path: Path, how: str) -> ModalignError:
    """The error for a checkpoint that cannot be used, and what to do."""
    if _final_of_finished(path):
        return ModalignError(
            f"checkpoint {path} is damaged: {how}; its run is finished with it: put a whole copy back, or delete "
            f"{Path(path).parent.parent} and give the command that made it again"
        )
    return ModalignError(
        f"checkpoint {path} is damaged: {how}; delete that folder and give the command that made it again (it goes on "
        f"from an earlier checkpoint where there is one)"
    )


def _final_of_finished(path: Path) -> bool:
    """Whether a finished run stands on this checkpoint: without it, no earlier one is gone on from."""
    run = Path(path).parent.parent
    try:
        manifest = find_manifest(run)
    except ModalignError:
        return False
    known = manifest.checkpoint if manifest is not None and manifest.status == "finished" else None
    return known is not None and run / known["path"] == Path(path)


def _order(path: Path) -> tuple[int, int] | None:
    """(step, how often that step was saved before) of a checkpoint's folder, None for anything else."""
    match = re.fullmatch(r"step-(\d{8,})(?:\.(\d+))?", path.name)
    return (int(match[1]), int(match[2] or 1)) if match and path.is_dir() else None


def _digest(contents: dict[str, Any]) -> str:
    return hashlib.sha256(canonical(contents)).hexdigest()


def _file_digest(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as opened:
        while chunk := opened.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
