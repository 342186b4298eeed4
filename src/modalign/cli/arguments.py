"""The few flags beside Hydra's overrides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modalign.errors import ModalignError, unknown_name

FLAGS = ("--help", "-h", "--multirun", "-m", "--config-dir")


@dataclass(frozen=True, slots=True)
class TrainArguments:
    """Flags and overrides of a training command."""

    overrides: tuple[str, ...]
    help: bool = False
    multirun: bool = False
    config_dir: Path | None = None

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> TrainArguments:
        """Split flags from overrides; an unknown flag names the nearest known one."""
        overrides: list[str] = []
        flags: set[str] = set()
        config_dir = None
        rest = list(arguments)
        while rest:
            item = rest.pop(0)
            if item == "--config-dir" or item.startswith("--config-dir="):
                config_dir = Path(item.partition("=")[2] or (rest.pop(0) if rest else ""))
                if not config_dir.is_dir() or not str(config_dir):
                    raise ModalignError(f"--config-dir {config_dir}: no such folder")
            elif item in FLAGS:
                flags.add(item)
            elif item.startswith("-") and "=" not in item:
                raise unknown_name("flag", item, FLAGS)
            elif "=" not in item and not item.startswith("~"):
                raise ModalignError(f"'{item}': settings are given as key=value (python train.py --help)")
            else:
                overrides.append(item)
        return cls(
            tuple(overrides),
            bool(flags & {"--help", "-h"}),
            bool(flags & {"--multirun", "-m"}),
            config_dir,
        )
