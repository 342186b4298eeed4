"""Names in the settings that must exist elsewhere in them: told before torch is imported, let alone a model built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import filter as matching
from fnmatch import fnmatchcase
from typing import Any

from modalign.config.meaning import ADAPTER_SETTING, ADAPTERS
from modalign.config.places import conf_folder
from modalign.config.recipes import RecipeBook
from modalign.config.schema import FROM_CAPTIONS, FROM_ENCODER, ModalitySettings, Settings, StageSettings
from modalign.data.guard import TRAINING
from modalign.errors import ModalignError, unknown_name
from modalign.targets import check_trusted

NOWHERE = "none"  # a modality whose own parts start from no other's
OF_TORCH = frozenset({
    "apply", "children", "clear", "compile", "cpu", "cuda", "double", "eval", "float", "forward", "half", "items",
    "keys", "modules", "parameters", "pop", "to", "train", "training", "type", "update", "values",
})  # fmt: skip


def check_references(settings: Settings, book: RecipeBook) -> None:
    """Raise ModalignError for the first name that is declared nowhere; it lists the known ones and the nearest."""
    _check_names(settings)
    for name, modality in settings.modalities.items():
        _check_modality(settings, name, modality)
    for name in settings.curriculum.additive:
        _known("modality", name, _all_modalities(settings), "curriculum.additive")
    for name in settings.curriculum.steps:
        _known("modality", name, [*_all_modalities(settings), "default"], "curriculum.steps")
    _check_recipes(settings, book)
    _check_targets(settings)


def check_parts(settings: Settings, stage: str) -> None:
    """Raise ModalignError where `train` or `optimizer.scale` of a stage names a part that these settings do not make.

    How many experts there are, and what is in a part, is known only once the model is built.
    """
    own = settings.stages[stage]
    if own.train != "new":
        for selector in own.train:
            _check_selector(settings, own, selector, f"stages.{stage}.train")
            _check_bits(settings, selector, f"stages.{stage}.train")
    for setting in ("frozen", "frozen_after"):
        for selector in getattr(own, setting):
            _check_selector(settings, own, selector, f"stages.{stage}.{setting}")
    for selector in own.optimizer.scale:
        _check_selector(settings, own, selector, f"stages.{stage}.optimizer.scale")


def trains_adapters(train: Iterable[str] | str) -> bool:
    """Whether a stage's `train` names the language model's adapters (not the whole language model)."""
    wanted = ADAPTERS.split(".")
    selectors = () if isinstance(train, str) else [selector.split(".") for selector in train]
    return any(len(words) == 2 and all(map(fnmatchcase, wanted, words)) for words in selectors)


def _check_names(settings: Settings) -> None:
    """Parts are submodules by these names: no dot, and nothing that torch calls its own."""
    parts = [str(m.tokenizer["part"]) for m in settings.modalities.values()]
    named: dict[str, Iterable[str]] = {
        "modalities": settings.modalities, "model.encoders": settings.model.encoders,
        "model.projectors": settings.model.projectors, "tokenizer.part": parts,
    }  # fmt: skip
    for where, names in named.items():
        for name in names:
            if not name.isidentifier() or name in OF_TORCH:
                raise ModalignError(
                    f"{where}: '{name}' cannot be the name of a part of the model: take letters, digits and "
                    f"underscores, and none of torch's own words ({', '.join(sorted(OF_TORCH))})"
                )


def _check_modality(settings: Settings, name: str, modality: ModalitySettings) -> None:
    where = f"modalities.{name}"
    if modality.encoder is not None:
        _known("encoder", modality.encoder, settings.model.encoders, f"{where}.encoder")
    _known("projector", modality.projector, settings.model.projectors, f"{where}.projector")
    _known("modality", modality.start.source, [*settings.modalities, NOWHERE], f"{where}.start.from")
    built = [m.tokenizer["part"] for m in settings.modalities.values() if "_target_" in m.tokenizer]
    _known("tokenizer part", modality.tokenizer["part"], built, f"{where}.tokenizer.part")
    if (start := modality.tokenizer.get("start")) is not None:
        _known("start", str(start), (FROM_ENCODER, FROM_CAPTIONS), f"{where}.tokenizer.start (null: at random)")


def _check_recipes(settings: Settings, book: RecipeBook) -> None:
    data = settings.data
    for modality, recipes in data.align.items():
        _known("modality", modality, _all_modalities(settings), "data.align")
        for recipe in recipes:
            carried = book.media(recipe)
            if modality in settings.modalities and modality not in carried:
                raise ModalignError(
                    f"data.align.{modality}: recipe {recipe} carries {', '.join(carried) or 'text alone'}; "
                    f"recipes that carry {modality}: {', '.join(book.carrying(modality)) or 'none'}"
                )
    for key in ("instruct", "pretrain_text", "pretrain_contrast", "pairs"):
        for recipe in getattr(data, key):
            _known("recipe", recipe, book.paths, f"data.{key}")
            if key != "pairs":
                _check_trainable(book, recipe, f"data.{key}")
    for name in settings.modalities:
        for recipe in book.alignment_recipes(name):
            _check_trainable(book, recipe, f"data.align.{name}")
    for name in data.locations:
        _known("recipe", name, book.paths, "data.locations")
    for name in data.train_samples:
        _known("recipe", name, book.paths, "data.train_samples")
    if data.train_samples and data.reader == "webdataset":
        raise ModalignError(
            "data.train_samples and data.reader=webdataset: a stream is read as it comes, so that it cannot stop after "
            "its first samples; leave one of them out"
        )
    for name in data.accept_licences:
        _known("recipe", name, book.paths, "data.accept_licences")
    if training := sorted(TRAINING & set(settings.evaluation.splits)):
        raise ModalignError(
            f"evaluation.splits: '{training[0]}' is what training reads: measure on splits that it never sees"
        )
    if data.text_loss is not None:
        _known("recipe", data.text_loss, book.paths, "data.text_loss")
    used = [recipe for name in settings.modalities for recipe in book.alignment_recipes(name)]
    splits = {split for recipe in used for split in book.get(recipe).splits}
    for split in settings.evaluation.splits:
        _known("split", split, splits or [split], "evaluation.splits")


def _check_trainable(book: RecipeBook, name: str, where: str) -> None:
    """A recipe without a training split is for evaluation, and cannot enter training under any other name."""
    splits = book.get(name).splits
    if splits and not TRAINING & set(splits):
        raise ModalignError(
            f"{where}: recipe {name} has no training split (its splits: {', '.join(splits)}): an evaluation split "
            f"cannot enter training; it can be measured by data.pairs"
        )


def _check_targets(settings: Settings) -> None:
    """Every `_target_` lies in a trusted package: a configuration is data, not a way to run code."""
    model = settings.model
    groups: dict[str, Mapping[str, Any]] = {"model.fusion": model.fusion, "model.language_model": model.language_model}
    groups |= {f"model.encoders.{name}": target for name, target in model.encoders.items()}
    groups |= {f"model.projectors.{name}": target for name, target in model.projectors.items()}
    groups |= {f"modalities.{name}.decoder": m.decoder for name, m in settings.modalities.items()}
    groups |= {f"modalities.{n}.augment": each for n, m in settings.modalities.items() for each in m.augment}
    groups |= {f"modalities.{name}.tokenizer": m.tokenizer for name, m in settings.modalities.items()}
    groups |= {f"stages.{name}.module": stage.module for name, stage in settings.stages.items()}
    for where, target in groups.items():
        if "_target_" in target:
            check_trusted(str(target["_target_"]), where)


def _check_selector(settings: Settings, stage: StageSettings, selector: str, where: str) -> None:
    if trains_adapters((selector,)) and not settings.model.language_model.get(ADAPTER_SETTING):
        raise ModalignError(
            f"{where}: {selector}: the language model has no adapters: declare them, "
            f"'model.language_model.{ADAPTER_SETTING}={{rank: 16}}'"
        )
    groups = _part_names(settings, stage)
    first, *rest = selector.split(".")
    if not matching(groups, first):
        raise unknown_name("part", selector, groups, where)
    members = {name for group in matching(groups, first) for name in groups[group]}
    if rest and members and not matching(members, rest[0]):
        raise unknown_name("part", selector, [f"{first}.{name}" for name in members], where)


def _check_bits(settings: Settings, selector: str, where: str) -> None:
    bits = settings.model.language_model.get("bits")
    if bits is not None and fnmatchcase("llm", selector):
        raise ModalignError(
            f"{where}: {selector}: a language model in {bits} bits cannot train (model.language_model.bits): train "
            f"{ADAPTERS} with 'model.language_model.{ADAPTER_SETTING}={{rank: 16}}', or set bits=null"
        )


def _part_names(settings: Settings, stage: StageSettings) -> dict[str, list[str]]:
    """The first two words of every part's name, for the kind of model that a stage trains."""
    tokenizers = [m.tokenizer["part"] for m in settings.modalities.values()]
    groups = {"tokenizers": list(dict.fromkeys(tokenizers)), "encoders": list(settings.model.encoders)}
    if stage.template == "contrast":
        return groups | {"text": []}
    projectors = list(settings.model.projectors)
    return groups | {"positions": list(settings.modalities), "projectors": projectors, "fusion": [], "llm": ["lora"]}


def _all_modalities(settings: Settings) -> list[str]:
    """Those of the model's set and of the other shipped sets: a curriculum may speak of modalities that a set lacks."""
    shipped = {path.stem for path in (conf_folder() / "modalities").glob("*/*.yaml")}
    return sorted({*settings.modalities, *shipped})


def _known(kind: str, name: str, names: Iterable[str], where: str) -> None:
    if name not in (known := list(names)):
        raise unknown_name(kind, name, known, where)
