"""Where Hydra looks for files: in a folder of one's own before the shipped one, so that one's own of a name win."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin


class OwnFolder(SearchPathPlugin):
    """Puts the folder of `--config-dir` before Hydra's primary one; `hydra.searchpath` would put it behind."""

    folder: Path | None = None

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra whenever it makes a search path."""
        if OwnFolder.folder is not None:
            search_path.prepend("--config-dir", f"file://{OwnFolder.folder.resolve()}", anchor="main")


@contextmanager
def own_files_first(config_dir: Path | None) -> Iterator[None]:
    """While this lasts, what Hydra composes takes a file from `config_dir` where one of the name is there."""
    Plugins.instance().register(OwnFolder)
    before, OwnFolder.folder = OwnFolder.folder, config_dir
    try:
        yield
    finally:
        OwnFolder.folder = before
