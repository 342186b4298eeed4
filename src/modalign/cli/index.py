"""`modalign index FOLDER`: a WebDataset folder that somebody else made becomes readable at random, and a recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from modalign.cli.parser import VerbParser, read_settings
from modalign.cli.recipe_file import guess_media, parse_media, recipe_file, write_recipe
from modalign.cli.terminal import count, file_size, print_table, say, working
from modalign.config.recipes import RecipeBook
from modalign.data.index import index_folder
from modalign.data.manifest import SplitManifest, read_index
from modalign.errors import ModalignError

SUMMARY = """Index the *.tar of a folder (or of the splits below it): a manifest, and every sample's place in its tar.
Nothing in the tars is changed. With --write-recipe the folder becomes a recipe that training can name; the index
then lies below the data folder and points at the tars."""
EXAMPLES = (
    "modalign index /datasets/mine/train",
    "modalign index /datasets/mine --write-recipe mine --media image=jpg",
)


def run(arguments: Sequence[str]) -> int:
    """Index, say what was found, and write the recipe where that is asked for."""
    options = _parser().parse(arguments)
    settings, _ = read_settings(options)
    book = RecipeBook(settings)
    splits = tar_folders(options.folder, options.split)
    name, file = options.write_recipe, None
    if name is not None:
        file = recipe_file(name, options.recipes, book)
    manifests: dict[str, SplitManifest] = {}
    found: Counter[str] = Counter()
    for split, folder in splits.items():
        target = folder if name is None else _own_place(Path(settings.paths.data) / name / split)
        with working(lambda folder=folder: f"reading {folder}"):  # type: ignore[misc]
            manifest = manifests[split] = index_folder(folder, target, options.again or name is not None)
        found += extensions(target, manifest)
        _tell(folder, target, manifest)
    say("members: " + ", ".join(f".{extension} {count(number)}" for extension, number in found.most_common()))
    if file is not None:
        media = parse_media(options.media, found) if options.media else guess_media(found, book)
        sizes = {split: manifest.samples for split, manifest in manifests.items()}
        write_recipe(file, media=media, found=found, splits=sizes, source=str(options.folder), licence=options.licence)
        _next(file, media, book)
    return 0


def _parser() -> VerbParser:
    parser = VerbParser("index", SUMMARY, EXAMPLES)
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    parser.add_argument("--again", action="store_true", help="index again what is indexed already")
    parser.add_argument("--split", default="train", help="the split that tars of FOLDER itself are (default: train)")
    parser.add_argument("--write-recipe", metavar="NAME", help="write <recipes folder>/NAME.yaml")
    parser.add_argument("--recipes", metavar="DIR", type=Path, help="where recipes are written (default: data_recipes)")
    parser.add_argument("--licence", default="unknown", help="what the recipe says of the licence")
    parser.add_argument(
        "--media", action="append", metavar="MODALITY=EXT", help="which member is which medium (default: guessed)"
    )
    parser.add_settings()
    return parser


def tar_folders(folder: Path, split: str) -> dict[str, Path]:
    """Split to the folder of its tars: FOLDER itself, or those folders in it that hold tars."""
    if not folder.is_dir():
        raise ModalignError(f"no folder to index at {folder}")
    if any(folder.glob("*.tar")):
        return {split: folder}
    below = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and any(path.glob("*.tar"))}
    return below or {split: folder}


def _own_place(target: Path) -> Path:
    """Where an index that points at tars elsewhere is written: never over shards that lie there themselves."""
    if any(target.glob("*.tar")):
        raise ModalignError(f"{target} holds shards of its own: choose another name for the recipe")
    return target


def extensions(folder: Path, manifest: SplitManifest) -> Counter[str]:
    """How many samples have a member of each extension."""
    found: Counter[str] = Counter()
    for entry in manifest.shards:
        found.update(read_index(folder, entry).num_members())
    return found


def _tell(folder: Path, target: Path, manifest: SplitManifest) -> None:
    size = file_size(sum(shard.bytes for shard in manifest.shards))
    say(f"{folder}: {count(manifest.samples)} samples in {len(manifest.shards)} tars, {size}; index in {target}")
    if manifest.problems:
        rows = [[problem.shard, problem.where, problem.reason] for problem in manifest.problems]
        print_table(("tar", "where", "what was found"), rows)
        say(f"{count(manifest.num_problems)} problems in all; what they spoil is not among the samples")


def _next(file: Path, media: dict[str, str], book: RecipeBook) -> None:
    known = file.resolve().parent in {path.resolve().parent for path in book.paths.values()}
    places = "" if known else f" 'paths.recipes=[{file.parent}]'"
    say(f"recipe written: {file} (look over its title, source and licence)")
    say(f"next: modalign show {file.stem}{places}")
    for modality in media:
        say(f"      python train.py stage=align modality={modality} '+data.align.{modality}=[{file.stem}]'{places}")
