"""`modalign world`: the whole embedded world as shards."""

from __future__ import annotations

from collections.abc import Sequence

from modalign.cli.parser import VerbParser, read_settings
from modalign.cli.terminal import count, print_table, say, working
from modalign.config.recipes import RecipeBook
from modalign.data.manifest import MANIFEST_NAME, read_manifest

SUMMARY = "Make the embedded world's shards; what is there already is kept."


def run(arguments: Sequence[str]) -> int:
    """Make every recipe of a world."""
    parser = VerbParser("world", SUMMARY, ["modalign world", "modalign world --world hard world.difficulty.noise=2"])
    parser.add_settings()
    options = parser.parse(arguments)
    settings, _ = read_settings(options)
    book = RecipeBook(settings)
    make_generated(book, [name for name in sorted(book.paths) if book.is_generated(name)])
    return 0


def make_generated(book: RecipeBook, names: Sequence[str]) -> None:
    """Make the named recipes of the configured world and print what each of them holds."""
    from modalign.world.build import make_world

    root = book.data_root() / "world"
    pieces = [(n, s) for n in names for s in book.get(n).splits if book.world_settings.count(n, s)]
    before = _made(book, pieces)
    wanted = sum(book.world_settings.count(*piece) for piece in pieces)

    def progress() -> str:
        done = sum(book.world_settings.count(*piece) for piece in _made(book, pieces))
        return f"making the world {book.world}: {count(done)} of {count(wanted)} samples in whole splits"

    with working(progress):
        folder = make_world(book.world_settings, root, names)
    rows = [[name, *_sizes(book, name)] for name in names]
    print_table(("recipe", "samples", "splits"), rows, numbers=(1,))
    new = len(pieces) - len(before)
    say(f"{folder}: {new} splits made, {len(before)} were there already; nothing was dropped")


def _made(book: RecipeBook, pieces: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [piece for piece in pieces if (book.folder(piece[0]) / piece[1] / MANIFEST_NAME).is_file()]


def _sizes(book: RecipeBook, name: str) -> list[str]:
    splits = [s for s in book.get(name).splits if book.world_settings.count(name, s)]
    sizes = {split: read_manifest(book.folder(name) / split).samples for split in splits}
    return [count(sum(sizes.values())), ", ".join(f"{split} {count(n)}" for split, n in sizes.items())]
