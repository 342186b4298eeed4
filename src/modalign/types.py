"""The types at the seams: a sample as spans, a batch as media plus text, and the tokens that flow between parts.

Shape letters: N media items, B samples, T frames, L tokens, D width, S text tokens of a whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

# How far along its path a medium has come: decoded, or what its frozen parts have made of it.
DECODED, FEATURES, SOFT_TOKENS = "decoded", "features", "soft_tokens"
# The variant of a medium that names none, where a modality has variants.
DEFAULT_VARIANT = "default"


@dataclass(frozen=True, slots=True)
class TextSpan:
    """Text of a sample; `target` carries loss with `weight`, `end` appends the end-of-sequence token."""

    text: str
    target: bool = False
    weight: float = 1.0
    end: bool = False


@dataclass(frozen=True, slots=True)
class Standard:
    """How pictures of 8-bit levels become numbers around zero: the mean and the spread of each channel, in 0..1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, levels: UInt8[Tensor, "*rest C H W"]) -> Float[Tensor, "*rest C H W"]:
        """Levels 0..255 in 0..1, less the mean, over the spread."""
        values = levels.float().div_(255)
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            values.select(-3, channel).sub_(mean).div_(std)  # plain numbers: a tensor would have to be sent
        return values


@dataclass(frozen=True, slots=True)
class MediaSpan:
    """One decoded medium of a modality's path; `variant` selects among parts (a subject of voxel vectors).

    With a `standard` its values are 8-bit levels, standardised when their batch is on its device. `kept_as` names what
    frozen parts make of it, where that may be kept; `reached` says that it is that already.
    """

    modality: str
    value: Tensor
    variant: str | None = None
    target: bool = False
    reached: str = DECODED
    kept_as: str | None = None
    standard: Standard | None = None


Span = TextSpan | MediaSpan


@dataclass(frozen=True, slots=True)
class Sample:
    """An ordered list of spans, with where it came from and what else is known of it (references, attributes)."""

    key: str
    recipe: str
    spans: tuple[Span, ...]
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class TokenSet:
    """Tokens between two parts: values, and what is known of each."""

    values: Float[Tensor, "B L D"]
    mask: Bool[Tensor, "B L"] | None = None
    positions: Int[Tensor, "B L A"] | None = None
    name: str = "tokens"

    @property
    def lengths(self) -> Int[Tensor, "B"]:
        """Number of valid tokens of each item."""
        if self.mask is not None:
            return self.mask.sum(dim=1)
        return self.values.new_full((self.values.shape[0],), self.values.shape[1]).long()


@dataclass(slots=True)
class MediaBatch:
    """The media of one modality in a batch, stacked; vectors of several sizes are zero-padded, told by `variants`.

    All have come equally far (`reached`); `kept_as` names what is made of each, where that may be kept. With a
    `standard` the values are still 8-bit levels, a quarter of the bytes to collate, to send and to copy.
    """

    values: Shaped[Tensor, "N ..."]
    variants: tuple[str | None, ...] = ()
    reached: str = DECODED
    kept_as: tuple[str | None, ...] = ()
    standard: Standard | None = None

    def standardised(self) -> MediaBatch:
        """The same media as numbers around zero, as models read them."""
        return self if self.standard is None else replace(self, values=self.standard(self.values), standard=None)

    def to(self, device: Any) -> MediaBatch:
        """The same media on `device`, standardised there."""
        return replace(self, values=_sent(self.values, device)).standardised()


@dataclass(frozen=True, slots=True)
class Segment:
    """Where a span of a sample lies: `modality` None is text [start, start+length), else medium number `start`."""

    modality: str | None
    start: int
    length: int = 1


@dataclass(slots=True)
class Batch:
    """What one micro-step sees: media by modality, all text tokens in a row, and each sample's layout of segments.

    An `idle` one stands in for a share of which every sample was bad: computed like any other, it counts nothing.
    `supervised` are the numbers of the text tokens that carry loss, where the host knows them (else they are read back
    from `loss_weights`, for which a device must have finished what it is doing).
    """

    media: dict[str, MediaBatch]
    layout: tuple[tuple[Segment, ...], ...]
    text_ids: Int[Tensor, "S"]
    loss_weights: Float[Tensor, "S"]
    keys: tuple[str, ...]
    source: str = ""
    metas: tuple[dict[str, Any], ...] = ()
    holes: tuple[tuple[str, str, str], ...] = ()
    idle: bool = False
    supervised: tuple[int, ...] | None = None

    @property
    def num_samples(self) -> int:
        """How many samples count."""
        return 0 if self.idle else len(self.keys)

    def to(self, device: Any) -> Batch:
        """The same batch with its tensors on `device`, 8-bit pictures standardised there."""
        media = {name: m.to(device) for name, m in self.media.items()}
        return self._with(media, _sent(self.text_ids, device), _sent(self.loss_weights, device))

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory (called by the DataLoader)."""
        media = {name: replace(m, values=m.values.pin_memory()) for name, m in self.media.items()}
        return self._with(media, self.text_ids.pin_memory(), self.loss_weights.pin_memory())

    def _with(self, media: dict[str, MediaBatch], text_ids: Tensor, loss_weights: Tensor) -> Batch:
        return replace(self, media=media, text_ids=text_ids, loss_weights=loss_weights)


def _sent(tensor: Tensor, device: Any) -> Tensor:
    """On `device`; nobody waits on the way there, but on the way back to the host, where it is read at once."""
    return tensor.to(device, non_blocking=str(device) != "cpu")
