"""A tokenizer that is a linear map may start as the regression from its sense's values to the words of its captions.

For few samples of many values (brain responses, spectra): gradient steps through the encoder learn such samples by
heart, a ridge regression finds the few directions in which the values say something of the words. Ridge regression onto
features of text is how brain responses are usually decoded (Takagi and Nishimoto, CVPR 2023, section 3.3).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from modalign.errors import ModalignError
from modalign.models.language_model import CausalLanguageModel
from modalign.models.ridge import fit_ridge
from modalign.models.start_values import Copied
from modalign.models.text_tokenizer import TextTokenizer
from modalign.models.tokenizers.vector import VectorTokenizer

log = logging.getLogger(__name__)

FEWEST = 4  # of fewer samples leaving one out says nothing


@dataclass(frozen=True)
class Example:
    """A training sample's decoded values, the variant that they are of, and its caption."""

    values: Tensor
    variant: str | None
    caption: str


@dataclass(frozen=True)
class Fit:
    """A variant's map [V, F] and bias [F] with what they are worth, or without them why there is none."""

    words: str
    weight: Tensor | None = None
    bias: Tensor | None = None


@dataclass(frozen=True)
class MapFromCaptions:
    """A tokenizer's linear maps start as ridge regressions onto its captions, put into each token by a random map.

    A caption is the mean of the language model's embeddings of its tokens. `examples` gives the training samples;
    `of_first` has the first of several processes do what it is given, and hands its result to all.
    """

    tokenizer: str
    examples: Callable[[], Sequence[Example]]
    seed: int = 0
    of_first: Callable[[Callable[[], dict[str, Fit]]], dict[str, Fit]] = lambda action: action()

    def apply(self, model: nn.Module, inherited: frozenset[str]) -> list[Copied]:
        """Fits and sets one map a variant; one that nothing can be said of keeps its random start, and is named."""
        part = f"tokenizers.{self.tokenizer}"
        tokenizer = fitted_tokenizer(cast(nn.ModuleDict, model.tokenizers)[self.tokenizer], part)
        done = []
        for variant, fit in self.of_first(lambda: self._fits(model, tokenizer)).items():
            if fit.weight is None or fit.bias is None:
                log.warning(
                    "%s: variant '%s' begins at random, not from its captions: %s; take `start: captions` and "
                    "`tokenizer_rate_scale` out of the modality's file, or try another kind of tokenizer",
                    part, variant, fit.words,
                )  # fmt: skip
                done.append(Copied("map_at_random", f"{part}.linears.{variant}", fit.words, 2))
                continue
            tokenizer.set_map(variant, fit.weight, fit.bias)
            done.append(Copied("map_from_captions", f"{part}.linears.{variant}", fit.words, 2))
        return done

    def _fits(self, model: nn.Module, tokenizer: VectorTokenizer) -> dict[str, Fit]:
        examples = self.examples()
        wanted = _standardised(embedded(cast(CausalLanguageModel, model.llm), _words_of(model), examples))
        generator = torch.Generator().manual_seed(self.seed)
        shape = wanted.shape[1], tokenizer.num_tokens * tokenizer.width
        into_tokens = torch.randn(shape, generator=generator, dtype=torch.float64) / shape[0] ** 0.5
        names = [tokenizer.variant(example.variant) for example in examples]
        fits = {}
        for variant in tokenizer.sizes:
            chosen = [i for i, name in enumerate(names) if name == variant]
            if len(chosen) < FEWEST:
                fits[variant] = Fit(f"{len(chosen)} captions are too few")
                continue
            values = torch.stack([tokenizer.values_of(variant, examples[i].values) for i in chosen])
            fits[variant] = _fit(values, wanted[chosen], into_tokens)
        return fits


def _fit(values: Float[Tensor, "N V"], wanted: Float[Tensor, "N D"], into_tokens: Float[Tensor, "D F"]) -> Fit:
    """One variant's map, at which tokens differ between samples by one on average."""
    ridge = fit_ridge(values, wanted)
    worth = f"penalty {ridge.penalty:.3g}, explains {ridge.explained:.0%} of those left out"
    if ridge.explained <= 0:
        return Fit(f"a regression on {len(values)} samples foretells nothing of the captions of those left out")
    weight, bias = ridge.weight @ into_tokens, ridge.bias @ into_tokens
    tokens = values.double() @ weight
    spread = float((tokens - tokens.mean(dim=0)).std().clamp_min(1e-12))
    return Fit(f"{len(values)} captions ({worth})", (weight / spread).float(), (bias / spread).float())


def fitted_tokenizer(tokenizer: nn.Module, where: str) -> VectorTokenizer:
    """The tokenizer, where it can start from captions; ModalignError names `where` it cannot."""
    if not isinstance(tokenizer, VectorTokenizer):
        raise ModalignError(
            f"{where} is a {type(tokenizer).__name__}: only a VectorTokenizer can start from captions; "
            f"take `start: captions` out"
        )
    if not tokenizer.has_bias:
        raise ModalignError(f"{where} has no bias, so it cannot start from captions: take `bias: false` out")
    return tokenizer


def embedded(llm: CausalLanguageModel, words: TextTokenizer, examples: Sequence[Example]) -> Float[Tensor, "N D"]:
    """Each caption as the mean of the language model's embeddings of its tokens; an empty one is zeros."""
    rows = llm.embedding_rows.detach()
    found = torch.zeros(len(examples), rows.shape[1])
    for row, example in zip(found, examples, strict=True):
        if ids := words.encode(example.caption):
            row.copy_(rows[torch.tensor(ids, device=rows.device)].float().mean(dim=0))
    return found


def _standardised(targets: Tensor) -> Tensor:
    """Around zero, in units of their common spread: directions in which captions differ little stay small."""
    centred = targets.double() - targets.double().mean(dim=0)
    return centred / centred.std().clamp_min(1e-12)


def _words_of(model: nn.Module) -> TextTokenizer:
    words = cast(TextTokenizer | None, model.text_tokenizer)
    if words is None:
        raise ModalignError("a start from captions needs the text tokenizer: set model.text_tokenizer")
    return words
