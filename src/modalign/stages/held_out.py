"""Which held-out splits runs read beside their training data, so that one that is not there is told beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modalign.config.recipes import RecipeBook
from modalign.config.schema import Settings
from modalign.config.specs import RunSpec
from modalign.data.manifest import MANIFEST_NAME
from modalign.data.recipes import make_hint
from modalign.errors import ModalignError
from modalign.stages.probing import SPLITS


def measured_splits(settings: Settings, spec: RunSpec, modality: str) -> tuple[str, ...]:
    """The splits that a run measures a modality on; a phase that adds senses may measure earlier ones on fewer."""
    earlier = bool(spec.new) and modality not in spec.new
    return settings.evaluation.splits[: settings.evaluation.earlier_splits if earlier else None]


def require_held_out(settings: Settings, book: RecipeBook, specs: Sequence[RunSpec]) -> None:
    """ModalignError for the first split that is not there."""
    for told in absent_splits(settings, book, specs):
        raise ModalignError(told)


def absent_splits(settings: Settings, book: RecipeBook, specs: Sequence[RunSpec]) -> Iterator[str]:
    """One line for each split that a recipe declares, that these runs will read, and that is not there.

    A recipe of which nothing is there is left to who looks for training data; a world is made with all its splits.
    """
    for name, split in dict.fromkeys(pair for spec in specs for pair in _read_by(settings, book, spec)):
        folder = book.folder(name)
        if book.is_generated(name) or not (folder / "train" / MANIFEST_NAME).is_file():
            continue
        if book.num_samples(name, split) and not (folder / split / MANIFEST_NAME).is_file():
            yield (
                f"recipe {name}: nothing at {folder / split}, on which it is validated or measured: "
                f"{make_hint(book.get(name))}, or leave '{split}' out of the recipe's splits"
            )


def _read_by(settings: Settings, book: RecipeBook, spec: RunSpec) -> Iterator[tuple[str, str]]:
    """Recipe and split of what one run is validated, probed and measured on."""
    stage, evaluation = settings.stages[spec.stage], settings.evaluation
    if evaluation.validation_every:
        yield from ((name, "val") for name in spec.recipes)
    if stage.backbone is not None:
        return
    for modality in spec.modalities:
        for name in book.alignment_recipes(modality):
            yield from ((name, split) for split in measured_splits(settings, spec, modality))
            if evaluation.probe_every:
                yield from [(name, split) for split in SPLITS if book.num_samples(name, split)][:1]
    if stage.template == "chat":
        pairs = [name for name in settings.data.pairs if set(book.media(name)) <= set(spec.modalities)]
        yield from ((name, split) for name in pairs for split in evaluation.splits)
    if settings.data.text_loss is not None:
        yield settings.data.text_loss, "test"
