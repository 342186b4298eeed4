"""Which steps the files of earlier sittings hold: what a killed process had not written down must be sent again."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

# A `.wandb` file: seven bytes of its own, then LevelDB's log format, blocks of records in pieces.
_PREAMBLE = b":W&B"
_BLOCK_BYTES, _HEAD_BYTES = 32768, 7
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def last_logged_step(folder: Path, run_id: str) -> int:
    """The last step of the run `run_id` that any file below W&B's own `folder` holds; -1 where none does."""
    files = sorted(Path(folder).glob(f"*run-*-{run_id}/run-{run_id}.wandb"))
    return max((step for file in files for step in steps_in(file.read_bytes())), default=-1)


def drop_empty(folder: Path, run_id: str) -> None:
    """Delete the files in which a killed process had not written anything yet: `wandb sync` stops at such a file."""
    for file in Path(folder).glob(f"*run-*-{run_id}/run-{run_id}.wandb"):
        if next(_records(file.read_bytes()), None) is None:
            file.unlink()


def steps_in(data: bytes) -> Iterator[int]:
    """The steps of the rows in the bytes of one file, as far as it was written."""
    from wandb.proto import wandb_internal_pb2 as written

    for content in _records(data):
        record = written.Record.FromString(content)  # type: ignore[attr-defined]
        if record.WhichOneof("record_type") == "history":
            named = (".".join(item.nested_key) or item.key for item in record.history.item)
            yield from (
                int(item.value_json) for name, item in zip(named, record.history.item, strict=True) if name == "_step"
            )


def _records(data: bytes) -> Iterator[bytes]:
    if not data.startswith(_PREAMBLE):
        return
    place, content = _HEAD_BYTES, b""
    while place + _HEAD_BYTES <= len(data):
        left = _BLOCK_BYTES - place % _BLOCK_BYTES
        if left < _HEAD_BYTES:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + _HEAD_BYTES])
        piece = data[place + _HEAD_BYTES : place + _HEAD_BYTES + length]
        if kind not in (_WHOLE, _FIRST, _MIDDLE, _LAST) or len(piece) < length:
            return  # the end of what a killed process wrote
        place += _HEAD_BYTES + length
        content = piece if kind in (_WHOLE, _FIRST) else content + piece
        if kind in (_WHOLE, _LAST):
            yield content
