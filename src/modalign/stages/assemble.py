"""From settings to a model that holds its parent's weights and its declared start values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from modalign.config.build import build
from modalign.config.meaning import ADAPTER_SETTING
from modalign.config.schema import FROM_CAPTIONS, FROM_ENCODER, ModalitySettings, Settings
from modalign.errors import ModalignError, unknown_name
from modalign.models.aligned import AlignedModel
from modalign.models.aligned import Path as ModalityPath
from modalign.models.caption_start import MapFromCaptions
from modalign.models.contrast import ContrastiveModel
from modalign.models.language_model import CausalLanguageModel
from modalign.models.positions import Positions
from modalign.models.start_values import (
    Copied,
    ExpertsFromParent,
    ModalityFromModality,
    PatchFromEncoder,
    Rule,
    start_from_parent,
)
from modalign.models.text_tokenizer import TextTokenizer, load_text_tokenizer


def build_model(
    settings: Settings,
    modalities: Sequence[str],
    num_experts: int | None,
    text_tokenizer: TextTokenizer | None,
    adapters: bool = False,
) -> AlignedModel:
    """The aligned model for `modalities`: weights that the configuration names, the rest fresh.

    `num_experts` overrides the projectors' own number; `adapters` puts the declared ones into the language model.
    """
    declared = {name: settings.modalities[name] for name in modalities}
    language_model = build_language_model(settings, adapters)
    if text_tokenizer is not None:
        require_room(text_tokenizer, language_model)
    used = {m.encoder for m in declared.values()} - {None}
    encoders = {n: build(t, f"model.encoders.{n}") for n, t in settings.model.encoders.items() if n in used}
    tokenizers = build_tokenizers(declared)
    positions = {
        name: Positions(
            tokenizers[m.tokenizer["part"]].num_tokens,
            tokenizers[m.tokenizer["part"]].width,
            m.positions.learned,
            m.positions.num_frames,
            m.positions.std,
            m.positions.frame_gain,
        )
        for name, m in declared.items()
    }
    fusion = build(settings.model.fusion, "model.fusion")
    return AlignedModel(
        paths={n: ModalityPath(m.tokenizer["part"], m.encoder, m.projector) for n, m in declared.items()},
        tokenizers=tokenizers,
        positions=positions,
        encoders=encoders,
        projectors=_projectors(
            settings, declared, tokenizers, encoders, fusion.media_width(language_model), num_experts
        ),
        fusion=fusion,
        language_model=language_model,
        text_tokenizer=text_tokenizer,
    )


def build_language_model(settings: Settings, adapters: bool = False) -> CausalLanguageModel:
    """The language model; its adapters (`lora`) only where a run has come to the stage that trains them."""
    target = settings.model.language_model
    if not adapters:
        target = {key: value for key, value in target.items() if key != ADAPTER_SETTING}
    return build(target, "model.language_model")


def build_tokenizers(declared: Mapping[str, ModalitySettings]) -> dict[str, Any]:
    """One module a part name: built by the first modality that says how, shared by those that only name it."""
    built: dict[str, Any] = {}
    for name, modality in declared.items():
        part = modality.tokenizer["part"]
        if "_target_" in modality.tokenizer and part not in built:
            own = {key: value for key, value in modality.tokenizer.items() if key != "start"}
            built[part] = build(own, f"modalities.{name}.tokenizer")
    for name, modality in declared.items():
        if modality.tokenizer["part"] not in built:
            raise unknown_name("tokenizer part", modality.tokenizer["part"], built, f"modalities.{name}")
    return built


def build_contrastive(
    settings: Settings, modality: str, encoder: str, text_tokenizer: TextTokenizer
) -> ContrastiveModel:
    """The encoder with a text tower beside it, for contrastive pretraining on `modality`."""
    target = settings.model.encoders[encoder]
    architecture = target.get("architecture")
    if not isinstance(architecture, Mapping) or "text_cfg" not in architecture:
        raise ModalignError(f"model.encoders.{encoder}: contrastive pretraining needs an architecture with text_cfg")
    declared = {modality: settings.modalities[modality]}
    return ContrastiveModel(
        build_tokenizers(declared),
        {encoder: build(target, f"model.encoders.{encoder}")},
        {modality: declared[modality].tokenizer["part"]},
        architecture["text_cfg"],
        int(architecture["embed_dim"]),
        text_tokenizer,
    )


def start(
    model: nn.Module,
    settings: Settings,
    new: Sequence[str],
    parent: Mapping[str, Tensor],
    captions: Callable[[str, Sequence[str]], MapFromCaptions] | None = None,
) -> list[Copied]:
    """Give the model its parent's tensors and apply the start values that the configuration declares.

    `captions` gives the rule for a tokenizer that starts from those of modalities; without it none does.
    """
    return start_from_parent(model, parent, _rules(model, settings, new, parent, captions))


def _rules(
    model: nn.Module,
    settings: Settings,
    new: Sequence[str],
    parent: Mapping[str, Tensor],
    captions: Callable[[str, Sequence[str]], MapFromCaptions] | None,
) -> list[Rule]:
    rules: list[Rule] = []
    fitted: dict[str, list[str]] = {}
    for modality in new:
        declared = settings.modalities[modality]
        part, begins = declared.tokenizer["part"], declared.tokenizer.get("start")
        if any(name.startswith(f"tokenizers.{part}.") for name in parent):
            continue
        rule = PatchFromEncoder(part, str(declared.encoder))
        if begins == FROM_ENCODER and rule not in rules:
            rules.append(rule)
        elif begins == FROM_CAPTIONS:
            fitted.setdefault(part, []).append(modality)
    if captions is not None:
        rules += [captions(part, modalities) for part, modalities in fitted.items()]
    for name, projector in getattr(model, "projectors", {}).items():
        count = getattr(projector, "num_experts", 0)
        had = {key.split(".")[3] for key in parent if key.startswith(f"projectors.{name}.experts.")}
        if had and len(had) < count:
            rules.append(ExpertsFromParent(name, settings.curriculum.expert_noise, settings.seed))
    for modality in new:
        source = settings.modalities[modality].start.source
        projector = settings.modalities[modality].projector
        known = any(key.startswith(f"projectors.{projector}.ports.{source}.") for key in parent)
        if source != "none" and source != modality and known:
            rules.append(ModalityFromModality(modality, source))
    return rules


def _projectors(
    settings: Settings,
    declared: Mapping[str, ModalitySettings],
    tokenizers: Mapping[str, Any],
    encoders: Mapping[str, Any],
    width_out: int,
    num_experts: int | None,
) -> dict[str, nn.Module]:
    built: dict[str, nn.Module] = {}
    for name, target in settings.model.projectors.items():
        members = [m for m, modality in declared.items() if modality.projector == name]
        if not members:
            continue
        first = declared[members[0]]
        width_in = encoders[first.encoder].width if first.encoder else tokenizers[first.tokenizer["part"]].width
        own = dict(target)
        if num_experts is not None and "num_experts" in own:
            own["num_experts"] = num_experts
        built[name] = build(own, f"model.projectors.{name}", width_in=width_in, width_out=width_out, modalities=members)
    return built


def require_room(text_tokenizer: TextTokenizer, language_model: CausalLanguageModel) -> None:
    """ModalignError where a tokenizer has more tokens than its language model embeds."""
    if text_tokenizer.vocab_size > language_model.vocab_size:
        raise ModalignError(
            f"the text tokenizer has {text_tokenizer.vocab_size} tokens, the language model embeds "
            f"{language_model.vocab_size}: take the tokenizer of that language model (model.text_tokenizer), or, where "
            f"it is made from scratch, a larger model.language_model.source.vocab_size"
        )


def find_text_tokenizer(settings: Settings, lineage: Sequence[Path]) -> TextTokenizer:
    """The text tokenizer: the model's own by name, or the one that a run of the lineage trained (newest first)."""
    if settings.model.text_tokenizer is not None:
        return load_text_tokenizer(settings.model.text_tokenizer)
    for folder in reversed(lineage):
        if (file := folder / "tokenizer" / "tokenizer.json").is_file():
            return load_text_tokenizer(str(file), bos_token="<s>", eos_token="</s>")
    source = settings.model.language_model.get("source")
    if isinstance(source, str):
        return load_text_tokenizer(source, key="model.language_model.source")
    raise ModalignError(
        "no text tokenizer: set model.text_tokenizer, or run `python train.py stage=pretrain_text` first"
    )
