"""The command lines of the verbs: argparse, with its errors told in one line and the nearest option named."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from modalign.errors import ModalignError, unknown_name

if TYPE_CHECKING:
    from modalign.config.schema import Settings


class VerbParser(argparse.ArgumentParser):
    """The parser of one verb; options and words may stand in any order."""

    def __init__(self, verb: str, summary: str, examples: Sequence[str] = ()) -> None:
        epilog = "examples\n" + "\n".join(f"  {line}" for line in examples) if examples else None
        super().__init__(
            prog=f"modalign {verb}", description=summary, epilog=epilog, allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip

    def error(self, message: str) -> NoReturn:
        """Tell a wrong command line in one line."""
        raise ModalignError(f"{self.prog}: {message} ({self.prog} --help)")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The parsed arguments; what fits nowhere is an error that names the nearest option."""
        known = [name for name in self._option_string_actions if name.startswith("--")]
        for word in arguments:
            if word.startswith("--") and word.partition("=")[0] not in known:
                raise unknown_name("option", word.partition("=")[0], known, self.prog)
        namespace, rest = self.parse_known_intermixed_args(list(arguments))
        if rest:
            self.error(f"'{rest[0]}' is one word too many{several_folders(rest[0], arguments)}")
        return namespace

    def add_settings(self, words: bool = True) -> None:
        """Options that say where data lie, and settings as in train.py (`words` False: options alone)."""
        self.add_argument("--data", metavar="DIR", help="folder of shards (paths.data)")
        self.add_argument("--world", metavar="NAME", help="which embedded world: standard, hard, tiny (world=NAME)")
        self.add_argument("--config-dir", metavar="DIR", type=Path, help="a folder of own YAML files, as in conf/")
        if words:
            self.add_argument("settings", nargs="*", default=[], metavar="key=value", help="settings, as in train.py")


def several_folders(word: str, words: Sequence[str]) -> str:
    """What may be wrong where it is a folder: a shell puts all that fit a pattern, `words`, in its place."""
    if not Path(word).is_dir():
        return ""
    written = {path: file.stat().st_mtime for path in map(Path, words) for file in _records(path)}
    last = f" (the last written is {max(written, key=written.__getitem__)})" if written else ""
    return f"; if it comes from a pattern (runs/align-*), several folders fit: name one{last}"


def _records(folder: Path) -> list[Path]:
    """What tells that a folder is a run's or a curriculum's."""
    return [file for name in ("manifest.json", "curriculum.json") if (file := folder / name).is_file()]


def read_settings(options: argparse.Namespace, extra: Sequence[str] = ()) -> tuple[Settings, dict[str, Any]]:
    """Settings, checked and plain, of a parser that has `add_settings`."""
    from modalign.config.compose import compose_settings

    overrides = [*extra, *_overrides(options)]
    if options.config_dir is not None and not options.config_dir.is_dir():
        raise ModalignError(f"--config-dir {options.config_dir}: no such folder")
    return compose_settings(overrides, options.config_dir)


def setting_words(options: argparse.Namespace) -> list[str]:
    """The settings that a parser with `add_settings` was given, as words of `python train.py`."""
    own_files = [] if options.config_dir is None else ["--config-dir", str(options.config_dir)]
    return [*own_files, *_overrides(options)]


def _overrides(options: argparse.Namespace) -> list[str]:
    overrides = settings_only(getattr(options, "settings", []))
    if options.world is not None:
        overrides.append(f"world={options.world}")
    if options.data is not None:
        overrides.append(f"paths.data={quoted(options.data)}")
    return overrides


def settings_only(words: Sequence[str]) -> list[str]:
    """The words, each of which must be key=value."""
    for word in words:
        if "=" not in word:
            raise ModalignError(f"'{word}': settings are given as key=value")
    return list(words)


def quoted(value: str) -> str:
    """A text as a value in an override, whatever characters it holds."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
