"""All probes of one modality in one look at the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modalign.evaluation.probes.findings import ModalityProbe, NearestWord
from modalign.evaluation.probes.gradients import gradient_norms
from modalign.evaluation.probes.inputs import input_use
from modalign.evaluation.probes.quiet import undisturbed
from modalign.evaluation.probes.retrieval import retrieval
from modalign.evaluation.probes.routing import routing, watching
from modalign.evaluation.probes.words import nearest_words
from modalign.types import Batch, TokenSet


def probe_modality(
    model: Any,
    batch: Batch,
    modality: str,
    step: int,
    candidates: int,
    parts: Mapping[str, Sequence[nn.Parameter]] | None = None,
) -> ModalityProbe:
    """Probe `modality` on a batch of at least two of its samples; gradients where their `parts` are given.

    `candidates` is the number of captions that retrieval chooses from. Nothing of the model is changed.
    """
    projector = model.projector_of(modality)
    with undisturbed(model):
        with torch.no_grad():
            with watching(projector, modality) as seen:
                real = model(batch)
            use = input_use(model, batch, modality, real)
            found = retrieval(model, batch, modality, candidates)
            words = _words(model, seen.soft_tokens)
        gradients = gradient_norms(model, batch, parts) if parts else {}
    routed = routing(projector, seen.weights)
    return ModalityProbe(step, batch.num_samples, use, found, routed, words, gradients)


def _words(model: Any, tokens: TokenSet | None) -> tuple[NearestWord, ...]:
    """The nearest words, where soft tokens have the width of the vocabulary's rows."""
    tokenizer = model.text_tokenizer
    if tokens is None or tokenizer is None:
        return ()
    rows: Tensor = model.llm.embedding_rows
    whole = getattr(rows, "full_tensor", None)  # of a sharded one all processes ask
    vocabulary = rows if whole is None else whole()
    return nearest_words(tokens, vocabulary, lambda word: tokenizer.decode([word]) or f"#{word}")
