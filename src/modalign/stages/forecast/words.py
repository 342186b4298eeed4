"""The text tokenizer that a run will have, where it is on this machine; else an estimate of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from modalign.config.schema import Settings
from modalign.config.specs import RunSpec
from modalign.errors import ModalignError
from modalign.models.hub import is_here
from modalign.models.text_tokenizer import TextTokenizer
from modalign.stages.assemble import find_text_tokenizer
from modalign.stages.forecast.slices import EstimatedTokenizer
from modalign.stages.skeleton import without_weights

FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")


def text_tokenizer_of(settings: Settings, spec: RunSpec, runs: Mapping[str, Path]) -> TextTokenizer:
    """The run's own; an estimate where it is not here yet. `runs`: folders by identity. Nothing is fetched."""
    chain: list[Path] = []
    ancestor: RunSpec | None = spec
    while ancestor is not None:
        chain.insert(0, runs[ancestor.identity])
        ancestor = ancestor.parent
    named = settings.model.text_tokenizer or settings.model.language_model.get("source")
    if isinstance(named, str) and not is_here(named, FILES):
        return estimate(settings)
    try:
        return find_text_tokenizer(settings, chain)
    except ModalignError:
        return estimate(settings)


def estimate(settings: Settings) -> EstimatedTokenizer:
    """One token for every few characters, out of as many as the language model embeds."""
    source = without_weights(settings).model.language_model["source"]
    return EstimatedTokenizer(int(source.get("vocab_size", 0)))
