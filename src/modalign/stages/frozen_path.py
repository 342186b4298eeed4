"""How far frozen parts alone carry a modality's media, and the digest of all that decides what comes out there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import modalign
from modalign.config.schema import Settings
from modalign.data.features import FeatureStore, Shelf
from modalign.models.aligned import AlignedModel
from modalign.models.freezing import frozen_digest
from modalign.models.parts import part_of
from modalign.runs.checks import package_versions, processor
from modalign.runs.identity import identity
from modalign.types import FEATURES, SOFT_TOKENS, MediaBatch, TokenSet

FORMAT = 1
# Sources that decide an output's bits, below the package.
_CODE = ("models", "data/decoders", "data/augment.py", "types.py")
_DECLARED = ("decoder", "augment", "tokenizer", "positions", "encoder", "projector")


def path_parts(model: AlignedModel, modality: str) -> list[str]:
    """The parts on a modality's path; of a projector only what is shared or its own."""
    path = model.path(modality)
    on = {f"tokenizers.{path.tokenizer}", f"positions.{modality}", f"encoders.{path.encoder}"}
    others = {part for m in model.paths if m != modality for part in model.own_parts(m)}
    known = dict.fromkeys(part_of(name) for name in model.state_dict())
    projector = f"projectors.{path.projector}."
    return [p for p in known if p in on or (p.startswith(projector) and p not in others)]


def reach(model: AlignedModel, modality: str) -> str | None:
    """What a modality's media become before anything trains: soft tokens, features, or nothing (None)."""
    trains = {part_of(name) for name, parameter in model.named_parameters() if parameter.requires_grad}
    training = [part for part in path_parts(model, modality) if part in trains]
    if not training:
        return SOFT_TOKENS
    return FEATURES if all(part.startswith("projectors.") for part in training) else None


def output(model: AlignedModel, modality: str, reached: str, media: MediaBatch) -> TokenSet:
    """What a modality's media have become there."""
    if reached == SOFT_TOKENS:
        return model.soft_tokens({modality: media})[modality]
    return model.features(modality, media)


def shelves(
    settings: Settings, model: AlignedModel, modalities: Sequence[str], rows: int, device: torch.device,
    store: FeatureStore,
) -> dict[str, Shelf]:  # fmt: skip
    """A shelf for each modality that frozen parts carry anywhere, where `rows` media are computed together."""
    reached = {m: found for m in modalities if (found := reach(model, m)) is not None}
    table = {m: _counted(path_parts(model, m), reached[m]) for m in reached}
    digests = frozen_digest(model, {part for parts in table.values() for part in parts})
    machine = _machine(settings, device)
    made = {}
    for modality, parts in table.items():
        weights = {part: digests[part] for part in parts}
        context = _context(settings, model, modality, reached[modality], rows, machine, weights)
        made[modality] = Shelf(store, context, reached[modality])
    return made


def _counted(parts: list[str], reached: str) -> list[str]:
    return [p for p in parts if reached == SOFT_TOKENS or not p.startswith("projectors.")]


def _context(
    settings: Settings, model: AlignedModel, modality: str, reached: str, rows: int, machine: Mapping[str, Any],
    digests: Mapping[str, str],
) -> str:  # fmt: skip
    path, declared = model.path(modality), settings.modalities[modality].model_dump(mode="json", include=set(_DECLARED))
    encoder = None if path.encoder is None else settings.model.encoders.get(path.encoder)
    projector = settings.model.projectors.get(path.projector) if reached == SOFT_TOKENS else None
    shared = [other.tokenizer for other in settings.modalities.values() if other.tokenizer["part"] == path.tokenizer]
    return identity(
        {
            "format": FORMAT, "modality": modality, "reached": reached, "rows": rows, "weights": dict(digests),
            "declared": declared, "tokenizers": shared, "encoder": encoder, "projector": projector,
            "machine": dict(machine),
        }
    )  # fmt: skip


def _machine(settings: Settings, device: torch.device) -> dict[str, Any]:
    """What of code and machine decides the last bits."""
    return {
        "code": code_digest(),
        "versions": package_versions(),
        "precision": settings.trainer.precision,
        "products": torch.get_float32_matmul_precision(),
        "processor": processor(),
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }


def code_digest() -> str:
    """SHA-256 of the sources that decode and compute."""
    state, package = hashlib.sha256(), Path(modalign.__file__).resolve().parent
    for place in _CODE:
        files = [package / place] if place.endswith(".py") else sorted((package / place).rglob("*.py"))
        for file in files:
            state.update(f"{file.relative_to(package).as_posix()}\0".encode())
            state.update(hashlib.sha256(file.read_bytes()).digest())
    return state.hexdigest()
