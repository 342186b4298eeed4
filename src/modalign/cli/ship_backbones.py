"""`modalign ship-backbones`: train the embedded backbones and put what later phases need of them into the package."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modalign.cli.environment import prepare_environment
from modalign.cli.parser import VerbParser, quoted, read_settings
from modalign.cli.terminal import file_size, print_table, say
from modalign.config.places import shipped_runs
from modalign.config.recipes import RecipeBook
from modalign.config.schema import Settings
from modalign.config.specs import Planner, RunSpec
from modalign.errors import ModalignError
from modalign.runs.checks import finished_run
from modalign.runs.files import check_writable
from modalign.runs.finished import locate
from modalign.runs.manifest import read_manifest, write_manifest

if TYPE_CHECKING:
    from modalign.runs.manifest import Manifest

SUMMARY = """Train the runs that make the embedded model's backbones, anew, and copy them into the package: manifest,
metrics, text tokenizer, and one checkpoint of the weights. Settings are as in train.py."""
# Of contrastive training no later phase reads the text tower, which is a third of the bytes.
LEFT_OUT = ("text",)
# What the shipped manifests say of places: the defaults, never this machine's folders.
DATA, RUNS = "data", "runs"


def run(arguments: Sequence[str]) -> int:
    """Train, copy, prove that the copies are whole."""
    parser = VerbParser("ship-backbones", SUMMARY, ["modalign ship-backbones", "modalign ship-backbones --runs kept"])
    parser.add_argument("--runs", metavar="DIR", type=Path, help="keep the runs themselves there (default: they go)")
    parser.add_argument("--out", metavar="DIR", type=Path, help="where the copies go (default: into the package)")
    parser.add_settings()
    options = parser.parse(arguments)
    settings, _ = read_settings(options)
    if not settings.model.backbones:
        raise ModalignError(f"model {settings.model.name} has no backbones of its own: nothing is to be shipped")
    target = options.out or shipped_runs()
    check_writable(target)
    prepare_environment()
    with tempfile.TemporaryDirectory(prefix="backbones-") as temporary:
        runs = options.runs or Path(temporary)
        specs = [_train(options, stage, runs) for stage in settings.model.backbones]
        place = Path(temporary) / "shipped"
        for spec in specs:
            copy_run(locate(runs, spec).path, place, spec, RecipeBook(settings))
        _check(place, specs)
        replace(place, target, specs, settings)
    rows = [[spec.name, file_size(_size(target / spec.name))] for spec in specs]
    print_table(("run", "size"), rows, numbers=(1,))
    say(f"{target}: shipped")
    return 0


def _train(options: Any, stage: str, runs: Path) -> RunSpec:
    """Train one backbone anew; its parent is the one that was just trained."""
    from modalign.stages.curriculum_run import run_all

    asked = [f"stage={stage}", "fresh=true", f"paths.runs={quoted(str(runs))}"]
    settings, plain = read_settings(options, asked)
    specs = Planner(settings, RecipeBook(settings)).plan()
    plain["fresh"] = False
    plain["paths"] = {**plain["paths"], "data": DATA, "runs": RUNS}
    kept = [word for word in options.settings if not word.startswith("paths.")]
    command = ["train.py", f"stage={stage}", *kept, *([f"world={options.world}"] if options.world else [])]
    run_all(specs, settings, plain, command)
    return specs[-1]


def copy_run(run: Path, place: Path, spec: RunSpec, book: RecipeBook) -> Path:
    """Copy a finished run into `place` under its first name: weights without the state to go on from."""
    from modalign.runs.checkpoint import load_checkpoint, save_checkpoint
    from modalign.runs.lineage import checkpoint_entry, parent_entry, run_checkpoint

    manifest, folder = read_manifest(run), place / spec.name
    source = run_checkpoint(run, manifest)
    if manifest.status != "finished" or source is None:
        raise ModalignError(f"run {run} is {manifest.status}: only a finished one is shipped")
    loaded = load_checkpoint(source, with_state=False)
    tensors = {part: named for part, named in loaded.tensors.items() if part not in LEFT_OUT}
    folder.mkdir(parents=True)
    saved = save_checkpoint(folder / "checkpoints", loaded.step, tensors, None, final=True)
    shutil.copyfile(run / "metrics.csv", folder / "metrics.csv")
    if (run / "tokenizer").is_dir():
        shutil.copytree(run / "tokenizer", folder / "tokenizer")
    manifest.name = spec.name
    manifest.checkpoint = checkpoint_entry(folder, saved)
    manifest.parent = parent_entry(folder, place / spec.parent.name) if spec.parent else None
    _forget_places(manifest, book)
    manifest.extra["shipped_without"] = [part for part in loaded.tensors if part in LEFT_OUT]
    write_manifest(folder, manifest)
    return folder


def _forget_places(manifest: Manifest, book: RecipeBook) -> None:
    """Paths as a fresh checkout has them, not as this machine has."""
    for name, entry in manifest.recipes.items():
        entry["folder"] = str(book.get(name).path(DATA, world=book.world))


def _check(place: Path, specs: Sequence[RunSpec]) -> None:
    """Every copy counts as finished, and its lineage can be read."""
    from modalign.runs.lineage import load_assembled

    for spec in specs:
        if finished_run(place / spec.name, spec.identity) is None:
            raise ModalignError(f"the copy of {spec.name} is not whole")
        load_assembled(place / spec.name)


def replace(place: Path, target: Path, specs: Sequence[RunSpec], settings: Settings) -> None:
    """Put the copies at `target`; earlier backbones there go, other things stay."""
    for old in sorted(target.glob("*/manifest.json")):
        if read_manifest(old.parent).stage in settings.model.backbones:
            shutil.rmtree(old.parent)
            say(f"removed the earlier {old.parent.name}")
    for spec in specs:
        shutil.copytree(place / spec.name, target / spec.name)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
