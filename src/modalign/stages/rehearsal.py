"""What configuration alone can get wrong, found before the first phase trains and not when its turn comes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from modalign.config.build import build, resolve
from modalign.config.meaning import ADAPTER_SETTING, ADAPTERS
from modalign.config.schema import FROM_CAPTIONS, ModalitySettings
from modalign.config.specs import RunSpec
from modalign.data.templates import CaptionTemplate
from modalign.errors import BadSample, ModalignError
from modalign.models.caption_start import fitted_tokenizer
from modalign.stages.assemble import build_tokenizers, find_text_tokenizer, require_room
from modalign.stages.captioned import expect_captions
from modalign.stages.phase_parts import parts_that_train
from modalign.stages.skeleton import skeleton
from modalign.stages.sources import SourceBook, template_of
from modalign.types import MediaBatch

# What stages/phase_run.py gives a stage's module besides the settings.
MODULE = ("model", "plan", "optimizer", "total_steps", "scales", "max_bad_share")
# How many samples are tried for one that decodes; bad ones are counted when they are trained on.
TRIES = 8
WEIGHTS = (".safetensors", ".bin")

log = logging.getLogger(__name__)


def rehearse(sources: SourceBook, specs: Sequence[RunSpec]) -> None:
    """Build what the runs to come are made of, on no device and without weights; ModalignError for what does not build.

    Encoders and the language model may have to be read from disk: of them only the settings' names are checked.
    """
    settings = sources.settings
    declared = _declared(sources, specs)
    for name in declared:
        sources.decoder(name)
        sources.augmentations(name)
    with torch.device("meta"):
        tokenizers = build_tokenizers(declared)
        for name, modality in declared.items():
            if modality.tokenizer.get("start") == FROM_CAPTIONS:
                fitted_tokenizer(tokenizers[modality.tokenizer["part"]], f"modalities.{name}.tokenizer")
        for name, target in settings.model.projectors.items():
            members = [m for m, modality in declared.items() if modality.projector == name]
            if members:
                width = tokenizers[declared[members[0]].tokenizer["part"]].width
                build(target, f"model.projectors.{name}", width_in=width, width_out=width, modalities=members)
    for name, target in settings.model.encoders.items():
        resolve(target, f"model.encoders.{name}")
    resolve(settings.model.fusion, "model.fusion")
    resolve(settings.model.language_model, "model.language_model")
    _language_model(sources, specs)
    for spec in specs:
        stage = settings.stages[spec.stage]
        template_of(stage)
        resolve(stage.module, f"stages.{spec.stage}.module", **dict.fromkeys(MODULE))


def _language_model(sources: SourceBook, specs: Sequence[RunSpec]) -> None:
    """What of each kind of run can be known of a language model by name, and of its adapters, without its weights."""
    settings, source = sources.settings, sources.settings.model.language_model.get("source")
    aligned = [spec for spec in specs if settings.stages[spec.stage].backbone is None]
    kinds = {(spec.stage, spec.adapters): spec for spec in aligned}
    if aligned and settings.model.language_model.get(ADAPTER_SETTING) and not any(adapters for _, adapters in kinds):
        log.warning(
            "model.language_model.lora is declared, but no run of this command trains it (%s in a stage's train)",
            ADAPTERS,
        )
    if not kinds or not (isinstance(source, str) or any(adapters for _, adapters in kinds)):
        return
    if isinstance(source, str) and not (Path(source).is_dir() or settings.model.language_model.get("architecture")):
        return  # a name of the hub, of which nothing may be here
    for spec in kinds.values():
        model = skeleton(settings, spec.modalities, spec.num_experts, spec.adapters)
        parts_that_train(model, spec, settings, sources.book)
    if isinstance(source, str) and Path(source).is_dir():
        tokenizer = find_text_tokenizer(settings, ())
        require_room(tokenizer, model.llm)
        if not any(file.suffix in WEIGHTS for file in Path(source).iterdir()):
            raise ModalignError(
                f"model.language_model.source={source}: no weights in that folder (*{', *'.join(WEIGHTS)}); save them "
                f"with save_pretrained"
            )


def rehearse_data(sources: SourceBook, specs: Sequence[RunSpec]) -> None:
    """Put a sample of every recipe through decoder and tokenizer, of which only the shapes count."""
    declared = _declared(sources, specs)
    with torch.device("meta"):
        tokenizers = build_tokenizers(declared)
    for recipe in dict.fromkeys(name for spec in specs for name in spec.recipes):
        _try_recipe(sources, recipe, declared, tokenizers)
    for spec in specs:
        for name in spec.new:
            if declared[name].tokenizer.get("start") == FROM_CAPTIONS:
                expect_captions(sources, spec.recipes, name, TRIES)


def _try_recipe(
    sources: SourceBook, recipe: str, declared: Mapping[str, ModalitySettings], tokenizers: Mapping[str, nn.Module]
) -> None:
    source = sources.source(recipe, "train", CaptionTemplate())
    tries, bad = min(TRIES, len(source)), None
    for index in range(tries):
        try:
            _, media, _ = source.media(index)
        except BadSample as error:
            bad = bad or error
            continue
        for span in media:
            tokenizer = tokenizers[declared[span.modality].tokenizer["part"]]
            try:
                tokenizer(MediaBatch(span.value[None], standard=span.standard).to("meta").values, (span.variant,))
            except ModalignError as error:
                raise ModalignError(f"modalities.{span.modality}, recipe {recipe}: {error}") from None
        return
    if bad is not None:
        raise ModalignError(f"recipe {recipe}: its first {tries} samples cannot be used; the first of them, {bad}")


def _declared(sources: SourceBook, specs: Sequence[RunSpec]) -> dict[str, ModalitySettings]:
    """The modalities that the runs have; all others may be wrong without harm."""
    wanted = {modality for spec in specs for modality in spec.modalities}
    return {name: modality for name, modality in sources.settings.modalities.items() if name in wanted}
