"""A finished run as a model again: settings from its manifest, weights from its lineage, every tensor accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from modalign.config.recipes import RecipeBook
from modalign.config.schema import Settings
from modalign.config.specs import RunSpec
from modalign.errors import ModalignError
from modalign.models.aligned import AlignedModel
from modalign.models.parts import load_parts, part_of, parts, state_by_part
from modalign.runs.finished import answering_run
from modalign.runs.folder import RunFolder
from modalign.runs.lineage import lineage, load_assembled
from modalign.runs.manifest import Manifest
from modalign.stages.assemble import build_model, find_text_tokenizer
from modalign.stages.code import warn_of_changes
from modalign.stages.sources import SourceBook
from modalign.stages.weights import from_elsewhere, refuse_other_weights


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """A run's model in eval mode, on the device that its settings choose, with what it was made from."""

    folder: RunFolder
    manifest: Manifest
    settings: Settings
    spec: RunSpec
    model: AlignedModel


def load_run(folder: Path, settings: Settings | None = None) -> LoadedRun:
    """The finished run in `folder`; `settings` replace those of its manifest (of the same model).

    Raises ModalignError for a run that is unfinished or has no language model in it, a parent that is gone or altered,
    a damaged checkpoint, and a tensor that should be there and is not.
    """
    manifest = answering_run(folder)
    settings = settings or settings_of(manifest)
    chain = lineage(folder)
    spec = spec_of(manifest)
    tokenizer = find_text_tokenizer(settings, [ancestor.path for ancestor in chain])
    torch.manual_seed(manifest.seed)
    model = build_model(settings, spec.modalities, spec.num_experts, tokenizer, spec.adapters)
    fill(model, load_assembled(folder), from_elsewhere(settings), manifest.name)
    refuse_other_weights(manifest, model, settings)
    warn_of_changes(manifest)
    model.eval().requires_grad_(False)
    return LoadedRun(RunFolder(folder), manifest, settings, spec, model.to(_device(settings)))


def measured_sources(run: LoadedRun) -> SourceBook:
    """The recipes that measuring the run reads; those of the embedded world are made where they are missing."""
    settings, modalities = run.settings, run.spec.modalities
    recipes = RecipeBook(settings)
    names = [name for modality in modalities for name in recipes.alignment_recipes(modality)]
    if settings.data.text_loss:
        names.append(settings.data.text_loss)
    if settings.stages[run.spec.stage].template == "chat":
        names += [name for name in settings.data.pairs if set(recipes.media(name)) <= set(modalities)]
    sources = SourceBook(settings, recipes)
    sources.ensure(list(dict.fromkeys(names)))
    return sources


def settings_of(manifest: Manifest) -> Settings:
    """The settings that a run was made with."""
    try:
        return Settings.model_validate(manifest.config)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ModalignError(
            f"run {manifest.name} was made by version {manifest.code.get('version')} of modalign, whose settings this "
            f"one does not read: {where}: {first['msg']}"
        ) from None


def spec_of(manifest: Manifest) -> RunSpec:
    """What is known of a run before it runs, from what was written when it did."""
    return RunSpec(
        name=manifest.name, identity=manifest.identity, stage=manifest.stage, new=tuple(manifest.modalities["new"]),
        seen=tuple(manifest.modalities["seen"]), shares={}, recipes=tuple(manifest.recipes), steps=manifest.steps,
        num_experts=manifest.spec.get("experts"), parent=None, meaning=manifest.spec,
    )  # fmt: skip


def fill(model: AlignedModel, tensors: Mapping[str, Tensor], elsewhere: tuple[str, ...], run: str) -> None:
    """Copy a lineage's tensors into the model; one that no run holds and nobody else brings is an error."""
    expected = state_by_part(model, parts(model))
    held: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if part_of(name) in expected:
            held.setdefault(part_of(name), {})[name] = tensor
    for part, names in expected.items():
        if part not in held and part not in elsewhere and names:
            raise ModalignError(
                f"run {run}: no run of its lineage holds part {part} (tensor {next(iter(names))}), "
                f"which its model needs"
            )
    load_parts(model, held)


def _device(settings: Settings) -> torch.device:
    wanted = settings.trainer.accelerator
    if wanted in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu")
