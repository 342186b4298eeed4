"""The seams between parts, as protocols: whatever fits one of them can be named in a configuration and used.

Letters: N media, T frames, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from torch import Tensor

from modalign.types import Batch, TokenSet

if TYPE_CHECKING:
    from modalign.models.fusion.sequence import Composed, CrossSource
    from modalign.models.language_model import CausalLanguageModel


@runtime_checkable
class Tokenizer(Protocol):
    """A decoded medium [N, ...] to tokens [N, T, L, D]."""

    width: int
    num_tokens: int

    def __call__(self, values: Tensor, variants: tuple[str | None, ...] = ()) -> Tensor:
        """Tokens of each frame (T is 1 where there are none)."""
        ...


@runtime_checkable
class Encoder(Protocol):
    """Tokens [N, L, D] with a table of positions (None: its own) to features."""

    width: int

    def __call__(self, tokens: Tensor, positions: Tensor | None = None) -> Tensor:
        """Features of every token; an encoder may add one for its class token."""
        ...


@runtime_checkable
class Projector(Protocol):
    """A modality's features to soft tokens of the fusion's width."""

    width_in: int
    width_out: int

    def __call__(self, features: TokenSet, modality: str) -> TokenSet:
        """Soft tokens, as many as the projector likes."""
        ...

    def match_scale(self, std: float) -> None:
        """Starts the output at the scale of the language model's embeddings."""
        ...


@runtime_checkable
class Fusion(Protocol):
    """Where soft tokens enter the language model."""

    def media_width(self, language_model: CausalLanguageModel) -> int:
        """The width that soft tokens must have."""
        ...

    def attach(self, language_model: CausalLanguageModel) -> None:
        """Called once: may insert modules into the language model."""
        ...

    def compose(
        self,
        batch: Batch,
        token_sets: Mapping[str, TokenSet],
        language_model: CausalLanguageModel,
        padding: str = "right",
    ) -> Composed:
        """What enters the language model for a batch."""
        ...

    def reading(self, cross: CrossSource | None) -> AbstractContextManager[None]:
        """A context in which inserted modules read `cross`, from one packed row of positions where it has a packing."""
        ...
