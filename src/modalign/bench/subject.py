"""What is measured: the full-size configuration's model at a size of the bench, random weights, random batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modalign.bench.sizes import Scale
from modalign.config.compose import compose_settings
from modalign.config.schema import Settings
from modalign.models.aligned import AlignedModel
from modalign.models.freezing import plan_freeze
from modalign.models.packed_attention import register_packed
from modalign.stages.assemble import build_model
from modalign.stages.skeleton import without_weights
from modalign.types import Batch, MediaBatch, Segment

MODALITY = "image"
BOS, FIRST_WORD = 1, 3
PADDED = "sdpa"  # attention of rows that are padded, those of like length together
# What trains: the published code leaves the image tokenizer inside the frozen encoder, and so does the bench.
ALIGN, INSTRUCT, RELEASED = ("projectors",), ("llm",), ("projectors", "llm")


@dataclass(frozen=True)
class Subject:
    """A model on a device with what it was built from."""

    model: AlignedModel
    settings: Settings
    scale: Scale
    device: torch.device

    @property
    def half(self) -> bool:
        """Whether language model and encoder are kept in bfloat16; steps then compute in it too."""
        return self.model.llm.embedding_rows.dtype == torch.bfloat16

    @property
    def size_px(self) -> int:
        """Height and width of a picture."""
        tower = self.settings.model.tower
        assert tower is not None
        return tower.size_px

    def captions(self, seed: int, samples: int | None = None, lengths: Tensor | None = None) -> Batch:
        """Pictures with captions whose lengths are spread like those of captions (or are `lengths`)."""
        count = samples or self.scale.samples
        drawn = spread_lengths(count, self.scale.caption_mean, self.scale.caption_pad - 1, seed)
        return self._batch([(0, int(n)) for n in (drawn if lengths is None else lengths)], seed)

    def conversations(self, seed: int) -> Batch:
        """Pictures with a question and an answer, of which the answer, half of the words, is supervised."""
        scale = self.scale
        lengths = spread_lengths(scale.chat_samples, scale.chat_mean, scale.chat_pad - 1, seed)
        return self._batch([(int(n) - int(n) // 2, int(n) // 2) for n in lengths], seed)

    def _batch(self, lengths: list[tuple[int, int]], seed: int) -> Batch:
        random = torch.Generator().manual_seed(seed)
        media = torch.randn(len(lengths), 3, self.size_px, self.size_px, generator=random)
        ids: list[int] = []
        weights: list[float] = []
        layout = []
        for place, (given, wanted) in enumerate(lengths):
            begin = Segment(None, len(ids), 1)
            words = torch.randint(FIRST_WORD, self.model.llm.vocab_size, (given + wanted,), generator=random)
            layout.append((begin, Segment(MODALITY, place), Segment(None, len(ids) + 1, given + wanted)))
            ids += [BOS, *words.tolist()]
            weights += [0.0] * (1 + given) + [1.0] * wanted
        keys = tuple(str(place) for place in range(len(lengths)))
        text, loss_weights = torch.tensor(ids), torch.tensor(weights)
        batch = Batch({MODALITY: MediaBatch(media)}, tuple(layout), text, loss_weights, keys, source="pictures",
                      supervised=tuple(i for i, weight in enumerate(weights) if weight))  # fmt: skip
        return batch.to(self.device)


def spread_lengths(count: int, mean: int, most: int, seed: int) -> Tensor:
    """Lengths of texts: their logarithms are normal, and they are at least 2."""
    random = torch.Generator().manual_seed(seed)
    drawn = torch.exp(0.5 * torch.randn(count, generator=random) - 0.125) * mean
    return drawn.round().clamp(2, most).long()


def make_subject(
    scale: Scale,
    device: torch.device,
    changes: Sequence[str] = (),
    half: bool = False,
    seed: int = 0,
    modality: str = MODALITY,
) -> Subject:
    """The scale's model with random weights and `changes` of its settings.

    `half` keeps language model and encoder in bfloat16, as at full size.
    """
    dtype = "bfloat16" if half else "float32"
    kept = (f"model.language_model.dtype={dtype}", f"model.encoders.clip.dtype={dtype}")
    settings, _ = compose_settings([*scale.settings, *kept, *changes])
    settings = without_weights(settings)
    torch.manual_seed(seed)
    with torch.device(device):
        model = build_model(settings, (modality,), None, None)
        model.match_scale()
    model.train()
    return Subject(model, settings, scale, device)


def in_half(subject: Subject, changes: Sequence[str] = ()) -> Subject:
    """The same weights, those of language model and encoder rounded to bfloat16."""
    made = make_subject(subject.scale, subject.device, changes, half=True)
    made.model.load_state_dict(subject.model.state_dict())
    return made


@contextmanager
def training(model: AlignedModel, parts: tuple[str, ...]) -> Iterator[list[nn.Parameter]]:
    """Within it, exactly these parts train; yields their parameters. Gradients are dropped at the end."""
    plan_freeze(model, parts).apply(model)
    try:
        yield [p for p in model.parameters() if p.requires_grad]
    finally:
        model.zero_grad(set_to_none=True)


@contextmanager
def attending(model: AlignedModel, attention: str | None) -> Iterator[None]:
    """Within it, the language model's attention is this one (None: the one that it has)."""
    llm = model.llm.model
    kept = llm.config._attn_implementation
    register_packed()
    llm.set_attn_implementation(attention or kept)
    try:
        yield
    finally:
        llm.set_attn_implementation(kept)
