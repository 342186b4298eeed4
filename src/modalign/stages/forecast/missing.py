"""What a command needs and this machine has not: recipes' data, weights, text tokenizers, earlier phases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from modalign.config.command import command_for
from modalign.config.planning import PlanningBook
from modalign.config.schema import Settings
from modalign.config.specs import RunSpec
from modalign.data.licences import require_accepted
from modalign.data.recipes import make_hint
from modalign.errors import ModalignError
from modalign.models.encoders.open_clip_tower import repository
from modalign.models.hub import is_here
from modalign.stages.held_out import absent_splits
from modalign.stages.sources import SourceBook

WEIGHTS = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
    "open_clip_model.safetensors", "open_clip_pytorch_model.bin",
)  # fmt: skip


def missing(settings: Settings, book: PlanningBook, specs: Sequence[RunSpec], words: Sequence[str]) -> list[str]:
    """One line for each thing that the runs to be made (`specs`) need and that is not here.

    `words` are the settings as they were given.
    """
    return [
        *_phases(settings, book, specs, words),
        *_licences(settings, book, specs),
        *_recipes(settings, book, specs),
        *absent_splits(settings, book, specs),
        *_files(settings, specs),
    ]


def _phases(settings: Settings, book: PlanningBook, specs: Sequence[RunSpec], words: Sequence[str]) -> Iterator[str]:
    """Earlier phases of a model whose phases are not begun unasked."""
    for spec in specs:
        if not spec.requested and not settings.model.make_missing:
            yield f"phase {book.name(spec)}: `{command_for(spec, words)}`"


def _recipes(settings: Settings, book: PlanningBook, specs: Sequence[RunSpec]) -> Iterator[str]:
    sources = SourceBook(settings, book)
    absent = [name for name in dict.fromkeys(n for spec in specs for n in spec.recipes) if not sources.present(name)]
    if generated := [name for name in absent if book.is_generated(name)]:
        yield f"made by the runs themselves: {', '.join(generated)}"
    for name in absent:
        if name in generated:
            continue
        recipe = book.get(name)
        unknown = ", of unknown size (counted as one sample)" if name in book.unsized else ""
        raw = f" (raw copy: {recipe.size})" if recipe.size else ""
        yield f"recipe {name}{unknown}: nothing at {book.folder(name)}{raw}: {make_hint(recipe)}"


def _licences(settings: Settings, book: PlanningBook, specs: Sequence[RunSpec]) -> Iterator[str]:
    for name in dict.fromkeys(name for spec in specs for name in spec.recipes):
        try:
            require_accepted(book.get(name), book.folder(name), settings.data.accept_licences)
        except ModalignError as error:
            yield str(error)


def _files(settings: Settings, specs: Sequence[RunSpec]) -> Iterator[str]:
    """Weights that the configuration names and that no backbone of ours stands for."""
    if not any(settings.stages[spec.stage].backbone is None for spec in specs):
        return
    source = settings.model.language_model.get("source")
    if isinstance(source, str) and not is_here(source, WEIGHTS):
        yield f"language model {source}: neither a folder here nor in the hub's cache; training fetches it"
    tokenizer = settings.model.text_tokenizer
    if tokenizer is not None and not is_here(tokenizer, ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")):
        yield f"text tokenizer {tokenizer}: neither a file here nor in the hub's cache; training fetches it"
    for name, target in settings.model.encoders.items():
        pretrained = target.get("pretrained")
        if pretrained is None:
            continue
        if Path(str(pretrained)).suffix:
            if not Path(str(pretrained)).is_file():
                yield f"encoder {name}: no file at {pretrained}"
            continue
        architecture = str(target["architecture"])
        places = (repository(architecture, pretrained), f"timm/{architecture}.{pretrained}")
        if not any(place is not None and is_here(place, WEIGHTS) for place in places):
            yield f"encoder {architecture} {pretrained}: not in the hub's cache; training fetches it"
