"""Checkpoints: the tensors that trained, by part, and the state to go on from, written wholly or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from modalign.errors import ModalignError, unknown_name
from modalign.runs import sealed
from modalign.runs.files import make_folder, sync_folder, telling_errors, write_synced
from modalign.runs.sealed import STATE, checkpoint_digest, list_checkpoints, newest_valid, prune, verify_checkpoint

__all__ = [
    "Checkpoint",
    "checkpoint_digest",
    "list_checkpoints",
    "load_checkpoint",
    "newest_valid",
    "prune",
    "restore",
    "save_checkpoint",
    "verify_checkpoint",
]

MAX_FILE_BYTES = 4 << 30
PLAIN = (str, bytes, int, float, bool, type(None), torch.dtype, torch.Size)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that was read: `tensors` by part and name, and `state` (optimizer, scheduler, random numbers).

    `digest` is that of the weights alone.
    """

    path: Path
    step: int
    final: bool
    digest: str
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]

    def flat(self) -> dict[str, Tensor]:
        """All tensors by name."""
        return {name: tensor for part in self.tensors.values() for name, tensor in part.items()}


def save_checkpoint(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: dict[str, Any] | None,
    *,
    final: bool = False,
    keep: int | None = 2,
    keep_every: int = 0,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> Path:
    """Write `tensors` (by part, then name) and `state` after optimizer step `step`; returns the checkpoint's folder.

    `state` None leaves weights that others build on, from which training cannot go on.
    It appears under its name only once all of it is on disk, and nothing earlier is touched before. Then all but the
    `keep` newest, the final ones and those at multiples of `keep_every` steps are deleted (None keeps all). Where
    writing fails: ModalignError, and no trace.
    """
    if state is not None:
        _require_plain(state, "state")
    folder = make_folder(folder)
    sealed.sweep(folder)
    target = folder / sealed.next_name(folder, step)
    temporary = folder / f"{sealed.UNFINISHED}{target.name}"
    try:
        with telling_errors(target):
            temporary.mkdir()
            contents = _write_files(temporary, tensors, state, max_file_bytes)
            contents |= {"format": sealed.FORMAT, "step": step, "final": final}
            write_synced(temporary / sealed.SEAL, sealed.seal_bytes(contents))
            sync_folder(temporary)
            os.replace(temporary, target)
            sync_folder(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if keep is not None:
        prune(folder, keep, also=[target], every=keep_every)
    return target


def load_checkpoint(path: Path, *, parts: Iterable[str] | None = None, with_state: bool = True) -> Checkpoint:
    """The checkpoint at `path`, on the CPU, every byte proved to be what was written.

    `parts` narrows which parts are read (an unknown one is an error). ModalignError names a damaged file.
    """
    path = Path(path)
    seal = sealed.read_seal(path)
    names = list(seal["parts"]) if parts is None else list(parts)
    tensors: dict[str, dict[str, Tensor]] = {}
    for part in names:
        if part not in seal["parts"]:
            raise unknown_name("part", part, seal["parts"], where=str(path))
        tensors[part] = {}
        for file in seal["parts"][part]:
            tensors[part] |= load_safetensors(sealed.read_sealed(path, file, seal))
    state: dict[str, Any] = {}
    if with_state and STATE in seal["files"]:
        # weights_only: a checkpoint from elsewhere must not be able to run code.
        state = torch.load(io.BytesIO(sealed.read_sealed(path, STATE, seal)), map_location="cpu", weights_only=True)
    return Checkpoint(path, seal["step"], seal["final"], seal["weights"], tensors, state)


def restore(target: Mapping[str, Tensor], source: Mapping[str, Tensor], where: str) -> list[str]:
    """Copy `source` into the tensors of `target` of the same names; returns the names copied.

    ModalignError where `source` (read from `where`) lacks one of `target`, holds one too many, or differs in shape.
    """
    missing = sorted(target.keys() - source.keys())
    surplus = sorted(source.keys() - target.keys())
    if missing or surplus:
        which, names = ("lacks", missing) if missing else ("holds, unknown to the model,", surplus)
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise ModalignError(
            f"{where} {which} tensor {names[0]}{more} ({len(source)} there, {len(target)} in the model): it was made "
            f"with other model settings; use those, or fresh=true to train anew"
        )
    for name, tensor in target.items():
        if tensor.shape != source[name].shape:
            raise ModalignError(
                f"{where}: tensor {name} has shape {list(source[name].shape)}, the model's has {list(tensor.shape)}: "
                f"use the model settings it was made with"
            )
    with torch.no_grad():
        for name, tensor in target.items():
            tensor.copy_(source[name])
    return sorted(target)


def _write_files(
    folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: dict[str, Any] | None, max_file_bytes: int
) -> dict[str, Any]:
    """Write every part and the state, if any; returns what the seal says of them."""
    files: dict[str, dict[str, Any]] = {}
    parts: dict[str, list[str]] = {}

    def write(name: str, data: bytes) -> None:
        write_synced(folder / name, data)
        files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}

    for part, named in tensors.items():
        pieces = _pieces(named, max_file_bytes)
        parts[part] = [
            f"{part}.safetensors" if len(pieces) == 1 else f"{part}-{i:05d}-of-{len(pieces):05d}.safetensors"
            for i in range(1, len(pieces) + 1)
        ]
        for name, piece in zip(parts[part], pieces, strict=True):
            write(name, save_safetensors(_own(piece)))
    if state is not None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write(STATE, buffer.getvalue())
    return {"files": files, "parts": parts}


def _pieces(named: Mapping[str, Tensor], max_file_bytes: int) -> list[dict[str, Tensor]]:
    """The tensors of a part in order, cut where a file would exceed `max_file_bytes`."""
    pieces: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in named.items():
        if pieces[-1] and size + tensor.nbytes > max_file_bytes:
            pieces.append({})
            size = 0
        pieces[-1][name] = tensor
        size += tensor.nbytes
    return pieces


def _own(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors on the CPU that share no storage (safetensors refuses tied ones)."""
    seen: set[int] = set()
    own: dict[str, Tensor] = {}
    for name, tensor in named.items():
        tensor = tensor.detach().to("cpu").contiguous()
        storage = tensor.untyped_storage().data_ptr()
        own[name] = tensor.clone() if storage in seen else tensor
        seen.add(storage)
    return own


def _require_plain(value: Any, where: str) -> None:
    """Refuse what torch.load(weights_only=True) would refuse, before it is written and not when it is needed."""
    if type(value) in PLAIN or isinstance(value, Tensor):
        return
    if type(value) in (dict, OrderedDict):
        for key, child in value.items():
            _require_plain(key, f"{where}, key {key!r}")
            _require_plain(child, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, child in enumerate(value):
            _require_plain(child, f"{where}[{index}]")
    else:
        raise TypeError(f"{where} is {type(value).__name__}: a checkpoint's state holds plain values and tensors only")
