"""`modalign new-modality NAME SAMPLE`: read one sample of a new sensor and write the YAML that adds it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from modalign.cli.drafts.host import Host, find_host
from modalign.cli.drafts.sample import KINDS, read_sample
from modalign.cli.environment import prepare_environment
from modalign.cli.parser import VerbParser
from modalign.cli.recipe_file import recipe_file
from modalign.cli.terminal import say
from modalign.config.compose import compose_settings
from modalign.config.places import PACKAGE, conf_folder
from modalign.config.recipes import RecipeBook
from modalign.errors import ModalignError
from modalign.runs.files import make_folder, write_atomic

SUMMARY = """Read one sample of a new sensor (.npy, .csv, .wav, .flac, .png, .jpg, .mp4, .ply …), choose decoder and
tokenizer by its shape, and write conf/modalities/<set>/NAME.yaml. Both are run on the sample first."""
EXAMPLES = (
    "modalign new-modality gesture glove/0001.npy --recipe glove/captions.csv",
    "modalign new-modality radar sweep.npy --kind map --out my_conf",
)


def run(arguments: Sequence[str]) -> int:
    """Write the YAML (and with --recipe the recipe) and say what comes next."""
    options = _parser().parse(arguments)
    name, base = options.name, options.out or _default_conf()
    host = find_host(options.set, base if options.out and base.is_dir() else None)
    _check_name(name, host)
    book = RecipeBook(host.settings)
    recipe = recipe_file(name, options.recipes, book) if options.recipe else None
    prepare_environment()
    from modalign.cli.drafts.kinds import draft
    from modalign.cli.drafts.table import find_table, write_table_recipe
    from modalign.cli.drafts.writing import place_of, token_warning, try_out, yaml_text

    sample = read_sample(options.sample, options.kind)
    title = options.title or name.replace("_", " ").capitalize()
    table = find_table(options.recipe) if options.recipe else None
    recipes = [*sorted(book.carrying(name)), *([name] if recipe else [])]
    text = yaml_text(name, title, sample, host, draft(sample, name, host), recipes)
    count, frames = try_out(name, text, sample, host)
    file = place_of(options.set, name, base)
    _write(file, text, host, base if options.out else None)
    say(f"{options.sample}: taken for {sample.kind} ({sample.why})")
    if recipe is not None and table is not None:
        try:
            say(f"{recipe}: {write_table_recipe(recipe, table, sample, title, name)}")
        except ModalignError:
            file.unlink()
            raise
    say(f"{file}: {count} tokens of width {host.width}" + (f", averaged over {frames} frames" if frames > 1 else ""))
    if warning := token_warning(count):
        say(warning)
    _next(options, name, host, recipe, recipes)
    return 0


def _parser() -> VerbParser:
    parser = VerbParser("new-modality", SUMMARY, EXAMPLES)
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("sample", metavar="SAMPLE", type=Path)
    parser.add_argument("--set", default="embedded", metavar="SET", help="the set that it joins (default: embedded)")
    parser.add_argument("--kind", choices=KINDS, help="what the sample is, where its shape does not tell")
    parser.add_argument("--title", help="its name in words (default: NAME)")
    parser.add_argument("--out", metavar="DIR", type=Path, help="configuration folder to write to (default: conf)")
    parser.add_argument(
        "--recipe", metavar="FOLDER|TABLE", type=Path, help="files with a caption table: write a recipe for them too"
    )
    parser.add_argument("--recipes", metavar="DIR", type=Path, help="where that recipe goes (default: data_recipes)")
    return parser


def _default_conf() -> Path:
    """The checkout's conf; of an installed package, which must not be written, ./conf."""
    return conf_folder() if (PACKAGE.parents[1] / "conf").is_dir() else Path("conf")


def _check_name(name: str, host: Host) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ModalignError(f"'{name}' cannot name a modality: use small letters, digits and '_', a letter first")
    if name in host.settings.modalities:
        raise ModalignError(f"there is a modality '{name}' already: choose another name, or edit its YAML")


def _write(file: Path, text: str, host: Host, config_dir: Path | None) -> None:
    """Write the file, and take it back where the configuration does not compose with it."""
    if file.exists():
        raise ModalignError(f"{file} is there already: remove it, or choose another name")
    make_folder(file.parent)
    write_atomic(file, text.encode())
    try:
        settings, _ = compose_settings([f"model={host.model}"], config_dir)
        if file.stem not in settings.modalities:
            raise ModalignError(f"{file} is not among the modalities of model {host.model}: write it to conf/")
    except ModalignError:
        file.unlink()
        raise


def _next(options: argparse.Namespace, name: str, host: Host, recipe: Path | None, recipes: Sequence[str]) -> None:
    extra = f" --config-dir {options.out}" if options.out else ""
    if recipe is not None and recipe.resolve().parent not in _recipe_folders(host):
        extra += f" 'paths.recipes=[{recipe.parent}]'"
    if host.model != "embedded":
        extra += f" model={host.model}"
    say("next:")
    if not recipes:
        say(f"  write a recipe (data_recipes/{name}.yaml) and name it under `recipes` in that file")
    say(f"  modalign shards {name}{extra}")
    say(f"  modalign show {name}{extra}")
    say(f"  python train.py stage=align modality={name}{extra}")


def _recipe_folders(host: Host) -> set[Path]:
    return {path.resolve().parent for path in RecipeBook(host.settings).paths.values()}
