"""What a run means: every setting that changes its results, from which its identity is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from modalign.config.recipes import RecipeBook
from modalign.config.schema import Settings, StageSettings
from modalign.curriculum.phases import Phase

FORMAT = 1  # part of every identity: raised when the meaning of a run changes
BY_PHASE = "by phase"
ADAPTERS = "llm.lora"
ADAPTER_SETTING = "lora"
# Of the language model, what only the stages after its own training know.
_NOT_YET = (ADAPTER_SETTING, "bits")
# Of the evaluation, what changes no score of a finished run.
NO_MEASURE = {
    "batch_size", "features_mb", "num_shown", "validation_every", "validation_items", "forward_items", "probe_every",
    "probe_items",
}  # fmt: skip
# Settings that came later, by what they are where nobody sets them: left out then, so that runs stay what they were.
LATER: dict[str, Any] = {
    "augment": (),
    "tokenizer_rate_scale": 1.0,
    "max_text_tokens": None,
    "muon": None,
    "earlier_scale": 1.0,
    "earlier_splits": None,
    "frozen": (),
    "frozen_after": (),
}


def common_meaning(
    settings: Settings,
    book: RecipeBook,
    phase: Phase,
    stage: StageSettings,
    mixture: Mapping[str, Fraction],
    steps: int,
    parent: str | None,
) -> dict[str, Any]:
    """What every run's results depend on; not devices, workers, loggers, paths."""
    return {
        "format": FORMAT,
        "stage": [phase.stage, _stage(stage) | _replayed(phase)],
        "steps": steps,
        "mixture": {name: str(share) for name, share in mixture.items()},
        "recipes": {name: book.meaning(name) for name in mixture},
        "order": [settings.data.block, settings.data.window, settings.data.max_bad_share, *_drawn(phase, stage)],
        **({} if settings.data.reader == "indexed" else {"reader": settings.data.reader}),
        "precision": settings.trainer.precision,
        **({} if settings.trainer.compile == "off" else {"compile": settings.trainer.compile}),
        "seed": settings.seed,
        "parent": parent,
    }


def _stage(stage: StageSettings) -> dict[str, Any]:
    told = _told(stage.model_dump(exclude={"parts", "phases"}))
    return {**told, "optimizer": _told(told["optimizer"])}


def _drawn(phase: Phase, stage: StageSettings) -> tuple[str, ...]:
    """A phase that stands on others of alignment draws an order of samples of its own."""
    return (BY_PHASE,) if phase.seen and stage.backbone is None else ()


def _replayed(phase: Phase) -> dict[str, Any]:
    """Where there is nothing to replay, no rule of replay makes another run: all are told as the first one was."""
    return {"replay": "balanced", "replay_keep": "new"} if phase.new and not phase.seen else {}


def backbone_meaning(settings: Settings, modalities: Sequence[str]) -> dict[str, Any]:
    """What a backbone's run depends on besides: its own part of the model, and what it reads of modalities."""
    kept = {"language_model", "text_tokenizer"} | ({"encoders"} if modalities else set())
    read = {
        name: {key: values[key] for key in ("decoder", "augment", "tokenizer") if key in values}
        for name, values in _modalities(settings, modalities).items()
    }
    model = settings.model.model_dump(include=kept)
    model["language_model"] = _without(model["language_model"], _NOT_YET)
    return {"model": model, "modalities": read}


def aligned_meaning(
    settings: Settings, phase: Phase, modalities: Sequence[str], experts: int | None, adapters: bool
) -> dict[str, Any]:
    """What an aligned model's run depends on besides; adapters count from the run on that trains them."""
    untold = ("title", "recipes", "display")
    model = settings.model.model_dump(exclude={"name", "backbones", "backbones_from", "make_missing", "tower"})
    if not adapters:
        model["language_model"] = _without(model["language_model"], (ADAPTER_SETTING,))
    return {
        "new": list(phase.new),
        "seen": list(phase.seen),
        "experts": experts,
        "noise": settings.curriculum.expert_noise,
        "model": model,
        "modalities": {n: _without(values, untold) for n, values in _modalities(settings, modalities).items()},
    }


def measuring_meaning(settings: Settings, pairs: bool = True) -> dict[str, Any]:
    """What the numbers of a finished run depend on besides its weights; no part of its identity.

    `pairs`: whether questions over two sensors are asked, as where a stage speaks by the chat template.
    """
    how = _told(settings.evaluation.model_dump(mode="json", exclude=NO_MEASURE))
    asked = {"pairs": list(settings.data.pairs)} if pairs else {}
    return how | asked | {"text_loss": settings.data.text_loss}


def _modalities(settings: Settings, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    return {name: _told(settings.modalities[name].model_dump(by_alias=True)) for name in names}


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value != LATER.get(key, ...)}


def _without(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in names}
