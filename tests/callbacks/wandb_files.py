"""Reads what W&B wrote without a network: a `.wandb` file is LevelDB's log format around W&B's own records."""

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path

from wandb.proto import wandb_internal_pb2

BLOCK, HEAD, PREAMBLE = 32768, 7, 7
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path):
    """The records of a file, in order."""
    data = Path(path).read_bytes()
    assert data[:4] == b":W&B", f"{path} is no file of W&B's"
    place, piece = PREAMBLE, b""
    while place + HEAD <= len(data):
        left = BLOCK - place % BLOCK
        if left < HEAD:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + HEAD])
        if kind == 0:
            break
        content = data[place + HEAD : place + HEAD + length]
        place += HEAD + length
        piece = content if kind in (WHOLE, FIRST) else piece + content
        if kind in (WHOLE, LAST):
            yield wandb_internal_pb2.Record.FromString(piece)


@dataclass
class Written:
    """What a file holds: the run's own record, its config, rows of history, summary, axes, artifacts and files."""

    run: object = None
    config: dict = field(default_factory=dict)
    rows: list = field(default_factory=list)
    summary: dict = field(default_factory=dict)
    axes: dict = field(default_factory=dict)
    artifacts: dict = field(default_factory=dict)
    used: list = field(default_factory=list)
    files: list = field(default_factory=list)


def plain(items):
    """Keys and JSON values as a dict; nested keys are joined by a point."""
    return {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def read(path):
    """The whole of one file."""
    found = Written()
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found.run = record.run
            found.config |= plain(record.run.config.update)
        elif kind == "config":
            found.config |= plain(record.config.update)
        elif kind == "history":
            found.rows.append(plain(record.history.item))
        elif kind == "summary":
            found.summary |= plain(record.summary.update)
        elif kind == "metric":
            found.axes[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind == "artifact":
            found.artifacts[record.artifact.name] = record.artifact
        elif kind == "use_artifact":
            found.used.append(record.use_artifact.name)
        elif kind == "files":
            found.files += [file.path for file in record.files.files]
    return found
