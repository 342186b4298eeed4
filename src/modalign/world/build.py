"""Makes a world on disk: every recipe's splits as shards, on two processes; what is there already is kept."""

from __future__ import annotations

import fcntl
import logging
import multiprocessing
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modalign.data.manifest import MANIFEST_NAME, read_manifest
from modalign.data.shards import ShardWriter
from modalign.errors import ModalignError, unknown_name
from modalign.world.catalogue import PAIR_RECIPES, RECIPES, SENSOR_RECIPES, num_samples
from modalign.world.difficulty import WorldSettings, settings_of, world_folder
from modalign.world.samples import world_sample, world_samples
from modalign.world.scene import EXTENSIONS
from modalign.world.splits import SPLITS

__all__ = ["make_recipe", "make_world", "num_samples", "world_folder", "world_sample", "world_samples"]

log = logging.getLogger(__name__)

SAMPLES_PER_SHARD = 1000
# Fewer samples than this are made in the calling process: starting others takes longer.
MIN_FOR_PROCESSES = 1500
# Rough milliseconds a sample, by file type: the longest work is handed out first.
COST_MS = {"mp4": 4.0, "flac": 1.2, "jpg": 0.9, "png": 1.1, "npy": 0.5}
TEXT_COST_MS = 0.3

# A piece of work: recipe and split.
Piece = tuple[str, str]


def make_world(
    settings: WorldSettings | Mapping[str, Any],
    root: Path | str,
    recipes: Iterable[str] | None = None,
    workers: int = 2,
) -> Path:
    """Writes what is missing of a world below `root` and returns its folder, <root>/<name>-<8 hex>.

    `recipes` narrows to some (default: all that the settings give samples). A second process that asks for the same
    world waits for the first.
    """
    settings = settings_of(settings)
    wanted = list(RECIPES if recipes is None else recipes)
    pieces = [(recipe, split) for recipe in wanted for split in SPLITS if num_samples(settings, recipe, split)]
    folder = Path(root) / settings.folder_name
    if all(_is_made(settings, folder, piece) for piece in pieces):
        return folder
    with _alone(folder):
        missing = [piece for piece in pieces if not _is_made(settings, folder, piece)]
        missing.sort(key=lambda piece: -_cost_ms(settings, piece))
        few = sum(num_samples(settings, *piece) for piece in missing) < MIN_FOR_PROCESSES
        if few or workers < 2 or len(missing) < 2:
            for piece in missing:
                write_piece(settings, folder, piece)
        else:
            _write_in_processes(settings, folder, missing, workers)
    return folder


def make_recipe(recipe: str, world: WorldSettings | Mapping[str, Any], root: Path | str) -> Path:
    """Makes one recipe of a world and returns its folder of splits; the target of the recipes' `make`."""
    if recipe not in RECIPES:
        raise unknown_name("recipe", recipe, RECIPES, "the embedded world")
    return make_world(world, root, [recipe]) / recipe


def write_piece(settings: WorldSettings, folder: Path, piece: Piece) -> None:
    """Writes one split of one recipe as shards."""
    recipe, split = piece
    with ShardWriter(folder / recipe / split, SAMPLES_PER_SHARD) as writer:
        for key, members in world_samples(settings, recipe, split):
            writer.write(key, members)
    log.debug("made %s/%s: %d samples", recipe, split, writer.num_samples)


def _write_in_processes(settings: WorldSettings, folder: Path, pieces: list[Piece], workers: int) -> None:
    # A fork server imports the heavy writer once for all workers, and forks from a process without threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["webdataset.writer", __name__])
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = [pool.submit(write_piece, settings, folder, piece) for piece in pieces]
        for future in futures:
            future.result()


def _is_made(settings: WorldSettings, folder: Path, piece: Piece) -> bool:
    path = folder / piece[0] / piece[1]
    if not (path / MANIFEST_NAME).is_file():
        return False
    found, expected = read_manifest(path).samples, num_samples(settings, *piece)
    if found != expected:
        raise ModalignError(f"{path} holds {found} samples but the world's settings say {expected}: remove the folder")
    return True


def _cost_ms(settings: WorldSettings, piece: Piece) -> float:
    recipe, _ = piece
    sensors = (SENSOR_RECIPES[recipe],) if recipe in SENSOR_RECIPES else PAIR_RECIPES.get(recipe, ())
    each = sum(COST_MS[EXTENSIONS[sensor]] for sensor in sensors) or TEXT_COST_MS
    return each * num_samples(settings, *piece)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds the world's lock; waits where another process makes the same world."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise ModalignError(f"cannot write the world into {folder}: {error.strerror}; set paths.data") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another process is making %s: waiting for it", folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
