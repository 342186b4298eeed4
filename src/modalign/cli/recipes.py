"""`modalign recipes`: what data there are, and whether their shards lie on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modalign.cli.parser import VerbParser, read_settings
from modalign.cli.terminal import count, file_size, print_table, say
from modalign.config.recipes import RecipeBook
from modalign.data.manifest import MANIFEST_NAME, read_manifest
from modalign.data.remote import RemotePath
from modalign.errors import ModalignError

SUMMARY = "List the recipes: whether their shards are there, modality, size, licence."
MUST_ACCEPT = "*"


def run(arguments: Sequence[str]) -> int:
    """Print one row a recipe."""
    parser = VerbParser("recipes", SUMMARY, ["modalign recipes", "modalign recipes 'paths.recipes=[my_recipes]'"])
    parser.add_settings()
    options = parser.parse(arguments)
    settings, _ = read_settings(options)
    book = RecipeBook(settings)
    rows = [_row(book, name) for name in sorted(book.paths)]
    print_table(("recipe", "shards", "modality", "task", "samples", "licence", "raw copy", "title"), rows)
    say(f"\nshards lie below {settings.paths.data}; `modalign shards RECIPE` makes them")
    say(f"{MUST_ACCEPT}: must be accepted first (--accept-licence)")
    return 0


def _row(book: RecipeBook, name: str) -> list[str]:
    recipe = book.get(name)
    media = "+".join(recipe.media) or "text"
    splits = {split: book.num_samples(name, split) for split in recipe.splits}
    sizes = ", ".join(f"{split} {count(number)}" for split, number in splits.items() if number)
    licence = f"{MUST_ACCEPT} {recipe.licence}" if recipe.accept_licence else recipe.licence
    there = presence(book.folder(name))
    return [name, there, media, recipe.task, sizes, licence, recipe.size or "made here", recipe.title]


def presence(folder: Path | RemotePath) -> str:
    """How much of a recipe lies in its folder: nothing, or the size of its shards."""
    try:
        splits = [path.parent for path in folder.glob(f"*/{MANIFEST_NAME}")]
    except ModalignError:
        return "out of reach"
    if not splits:
        return "none"
    try:
        return file_size(sum(shard.bytes for split in splits for shard in read_manifest(split).shards))
    except ModalignError:
        return "damaged"
