"""The aligned model: sensors in, through tokenizer, encoder and projector, into one language model, text out.

Letters: N media, T frames, L tokens, D width, B samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from modalign.errors import ModalignError, unknown_name
from modalign.models.encoders.identity import NoEncoder
from modalign.models.freezing import FreezableModule
from modalign.models.fusion.sequence import Composed
from modalign.models.language_model import CausalLanguageModel
from modalign.models.length_groups import length_groups, part_of_batch
from modalign.models.linear import choose_libraries
from modalign.models.loss import LossOutput, joined, supervised_loss
from modalign.models.packing import packing_of
from modalign.models.positions import Positions
from modalign.models.seams import Encoder, Fusion, Projector, Tokenizer
from modalign.models.text_tokenizer import TextTokenizer
from modalign.types import FEATURES, SOFT_TOKENS, Batch, MediaBatch, TokenSet

Places = Sequence[Sequence[int]]
Keep = Callable[[str, str, TokenSet, MediaBatch], None]
"""Told of (modality, what its media have become, their tokens, the media), so that these can be kept."""


@dataclass(frozen=True)
class Path:
    """A modality's way through the parts, by name; no encoder means that tokens are features already."""

    tokenizer: str
    encoder: str | None
    projector: str


class AlignedModel(FreezableModule):
    """All parts by name, the paths through them, and the language model in which they end."""

    fusion: Fusion

    def __init__(
        self,
        paths: Mapping[str, Path],
        tokenizers: Mapping[str, nn.Module],
        positions: Mapping[str, nn.Module],
        encoders: Mapping[str, nn.Module],
        projectors: Mapping[str, nn.Module],
        fusion: Fusion,
        language_model: CausalLanguageModel,
        text_tokenizer: TextTokenizer | None = None,
    ) -> None:
        super().__init__()
        self.paths = dict(paths)
        self.tokenizers = nn.ModuleDict(tokenizers)
        self.positions = nn.ModuleDict(positions)
        self.encoders = nn.ModuleDict(encoders)
        self.projectors = nn.ModuleDict(projectors)
        self.fusion = fusion
        self.llm = language_model
        self.text_tokenizer = text_tokenizer
        # Off where all processes have to run the language model equally often, whatever the lengths of their samples.
        self.group_lengths = True
        self.keep: Keep | None = None
        check_paths(self)
        fusion.attach(language_model)
        choose_libraries(self)

    def forward(self, batch: Batch) -> LossOutput:
        """The loss of a batch; the entry that data-parallel wrappers call."""
        return self.loss(batch)

    def features(self, modality: str, media: MediaBatch) -> TokenSet:
        """A modality's features, averaged over frames: what its projector reads."""
        if media.reached == FEATURES:
            return TokenSet(media.values, name=modality)
        path, media = self.path(modality), media.standardised()
        positions = cast(Positions, self.positions[modality])
        tokenizer = cast(Tokenizer, self.tokenizers[path.tokenizer])
        tokens = positions.mark_frames(tokenizer(media.values, media.variants))
        num_items, num_frames = tokens.shape[:2]
        encoder = NoEncoder() if path.encoder is None else cast(Encoder, self.encoders[path.encoder])
        features = encoder(tokens.flatten(0, 1), positions.table())
        if num_frames > 1:
            features = features.unflatten(0, (num_items, num_frames)).mean(dim=1)
        return self._kept(modality, FEATURES, TokenSet(features, name=modality), media)

    def soft_tokens(self, media: Mapping[str, MediaBatch]) -> dict[str, TokenSet]:
        """Soft tokens of each modality's media, ready for the language model."""
        return {m: self._soft_tokens(m, x) for m, x in media.items()}

    def _soft_tokens(self, modality: str, media: MediaBatch) -> TokenSet:
        if media.reached == SOFT_TOKENS:
            return TokenSet(media.values, name=modality)
        tokens = self.projector_of(modality)(self.features(modality, media), modality)
        return self._kept(modality, SOFT_TOKENS, tokens, media)

    def _kept(self, modality: str, reached: str, tokens: TokenSet, media: MediaBatch) -> TokenSet:
        if self.keep is not None and media.kept_as:
            self.keep(modality, reached, tokens, media)
        return tokens

    def compose(self, batch: Batch, padding: str = "right") -> Composed:
        """The batch as what enters the language model."""
        composed = self.fusion.compose(batch, self.soft_tokens(batch.media), self.llm, padding)
        longest, limit = composed.embeddings.shape[1], self.llm.max_positions
        if limit is not None and longest > limit:
            raise ModalignError(
                f"a sequence of {longest} positions does not fit into the language model's {limit}; "
                "shorten the text (max_text_tokens) or take fewer media"
            )
        return composed

    def hidden(self, composed: Composed, wanted: Places | None = None) -> Float[Tensor, "B T D"]:
        """The language model's last hidden state; with `wanted` it means nothing at other positions of a sample."""
        mask = composed.attention_mask if composed.padding == "left" else None
        with self.fusion.reading(composed.cross):
            return self.llm.hidden(composed.embeddings, mask, composed.position_ids, wanted)

    def hidden_packed(self, composed: Composed, wanted: Places | None = None) -> Float[Tensor, "B T D"]:
        """The same with the samples in one row, none of whose padding is computed; there it means nothing."""
        embeddings = composed.embeddings
        packing = packing_of(composed.lengths, embeddings.shape[1], embeddings.device)
        with self.fusion.reading(composed.cross and replace(composed.cross, packing=packing)):
            return self.llm.hidden_packed(embeddings, composed.position_ids, packing, wanted)

    def loss(self, batch: Batch) -> LossOutput:
        """Sum of the weighted cross entropy of a batch's supervised tokens."""
        return self.language_loss(self.compose(batch))

    def language_loss(self, composed: Composed) -> LossOutput:
        """The loss of what entered the language model."""
        if self.llm.packs:
            return self._loss_of(self.hidden_packed(composed, composed.places), composed)
        if composed.cross is not None:
            return self._loss_of(self.hidden(composed, composed.places), composed)
        lengths = composed.lengths
        groups = (
            length_groups(lengths) if self.group_lengths else [sorted(range(len(lengths)), key=lambda r: -lengths[r])]
        )
        losses = []
        for rows in groups:
            part = part_of_batch(composed, rows, lengths[rows[0]])
            losses.append(self._loss_of(self.hidden(part, part.places), part))
        return joined(losses, groups)

    def _loss_of(self, hidden: Tensor, composed: Composed) -> LossOutput:
        wanted = composed.labels, composed.weights
        return supervised_loss(hidden, *wanted, self.llm.logits, self.llm.frozen_head, composed.places)

    @torch.no_grad()
    def generate(self, batch: Batch, max_new_tokens: int, stop: Sequence[str] = (), **sampling: Any) -> list[str]:
        """The text that follows each sample, up to its end token or the first stop string (which is cut off)."""
        tokenizer = self.text_tokenizer
        if tokenizer is None:
            raise ModalignError("this model was built without a text tokenizer: it can compute losses, not generate")
        composed = self.compose(batch, padding="left")
        ends = () if tokenizer.eos_id is None else (tokenizer.eos_id,)
        # A stop string spans at most as many tokens as it has characters; only the newest have to be looked at.
        tail = max((len(s) for s in stop), default=0) + 4
        finished = (lambda ids: any(s in tokenizer.decode(ids[-tail:]) for s in stop)) if stop else None
        with self.fusion.reading(composed.cross):
            ids = self.llm.generate(
                composed.embeddings, composed.attention_mask, max_new_tokens, ends, finished, **sampling
            )
        return [_cut(tokenizer.decode(row), stop) for row in ids]

    def match_scale(self) -> None:
        """Starts every projector's output at the scale of the language model's embeddings."""
        for projector in self.projectors.values():
            cast(Projector, projector).match_scale(self.llm.embedding_std())

    def own_parts(self, modality: str) -> list[str]:
        """The parts that only this modality uses: what an additive phase may train."""
        path = self.path(modality)
        own = [f"positions.{modality}", f"projectors.{path.projector}.ports.{modality}"]
        own.append(f"projectors.{path.projector}.router.{modality}")
        if all(p.tokenizer != path.tokenizer for m, p in self.paths.items() if m != modality):
            own.append(f"tokenizers.{path.tokenizer}")
        names = {name for name, _ in self.named_parameters()}
        return [part for part in own if any(name.startswith(part + ".") for name in names)]

    def projector_of(self, modality: str) -> Projector:
        """The projector at the end of a modality's path."""
        return cast(Projector, self.projectors[self.path(modality).projector])

    def path(self, modality: str) -> Path:
        """A modality's path; an unknown name is an error."""
        if modality not in self.paths:
            raise unknown_name("modality", modality, self.paths, "the model")
        return self.paths[modality]


def check_paths(model: AlignedModel) -> None:
    """Every path must name parts that exist and whose widths agree."""
    width_out = model.fusion.media_width(model.llm)
    for modality, path in model.paths.items():
        where = f"the path of {modality}"
        _known("tokenizer", path.tokenizer, model.tokenizers, where)
        _known("positions", modality, model.positions, where)
        _known("projector", path.projector, model.projectors, where)
        tokenizer = cast(Tokenizer, model.tokenizers[path.tokenizer])
        projector = model.projector_of(modality)
        width = tokenizer.width
        if path.encoder is not None:
            _known("encoder", path.encoder, model.encoders, where)
            width = cast(Encoder, model.encoders[path.encoder]).width
            _agree(where, "tokenizer", tokenizer.width, "encoder", width)
            _places(where, cast(Positions, model.positions[modality]), model.encoders[path.encoder])
        _agree(where, "features", width, "projector (width_in)", projector.width_in)
        _agree(where, "projector (width_out)", projector.width_out, "fusion", width_out)


def _known(kind: str, name: str, known: nn.ModuleDict, where: str) -> None:
    if name not in known:
        raise unknown_name(kind, name, known, where)


def _agree(where: str, left: str, left_width: int, right: str, right_width: int) -> None:
    if left_width != right_width:
        raise ModalignError(f"{where}: {left} has width {left_width}, but {right} wants {right_width}")


def _places(where: str, positions: Positions, encoder: nn.Module) -> None:
    """Tokens that take the encoder's own positions must be as many as it has; learned ones may be any number."""
    there = getattr(encoder, "num_patches", positions.num_tokens)
    if positions.table() is None and there != positions.num_tokens:
        raise ModalignError(
            f"{where}: its tokenizer makes {positions.num_tokens} tokens, but the encoder has positions for {there}: "
            f"cut pictures as the encoder does (model.tower.size_px, patch_px), or set positions.learned=true"
        )


def _cut(text: str, stop: Sequence[str]) -> str:
    places = [text.find(s) for s in stop if s in text]
    return text[: min(places)] if places else text
