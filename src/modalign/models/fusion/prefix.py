"""Soft tokens in the sequence itself, at the places where the sample has its media (OneLLM: in front of the text)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn

from modalign.models.fusion.sequence import Composed, CrossSource, lay_out, media_rows, rows_of
from modalign.models.language_model import CausalLanguageModel
from modalign.types import Batch, TokenSet


class PrefixFusion(nn.Module):
    """Media become positions of the language model's sequence; nothing is inserted into the model."""

    def media_width(self, language_model: CausalLanguageModel) -> int:
        """Soft tokens must have the width of the language model."""
        return language_model.width

    def attach(self, language_model: CausalLanguageModel) -> None:
        """Nothing to insert."""

    def compose(
        self,
        batch: Batch,
        token_sets: Mapping[str, TokenSet],
        language_model: CausalLanguageModel,
        padding: str = "right",
    ) -> Composed:
        """The batch as padded embeddings: text and soft tokens in the order of each sample's layout."""
        text = language_model.embed(batch.text_ids)
        rows = rows_of(batch, media_rows(token_sets, text.shape[0]))
        return lay_out(batch, rows, text, [t.values for t in token_sets.values()], padding)

    @contextmanager
    def reading(self, cross: CrossSource | None) -> Iterator[None]:
        """There is nothing to read beside the sequence."""
        yield
