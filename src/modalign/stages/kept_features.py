"""Features of held-out items, kept from phase to phase where the weights on their way are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from modalign.data.memory import MemoryCache
from modalign.evaluation.items import Item
from modalign.models.aligned import AlignedModel
from modalign.models.freezing import frozen_digest
from modalign.stages.frozen_path import path_parts
from modalign.types import DECODED, FEATURES, MediaBatch

# Modality, digest of the weights on the way, device, and the items, known by their place in memory.
_Name = tuple[str, str, str, tuple[int, ...]]


class KeptFeatures(MemoryCache[_Name, tuple[tuple[Item, ...], Tensor]]):
    """Features beside the items of which they are, by whole batches, since their last bits may hang on how many media
    are computed together."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes, lambda entry: entry[1].nbytes)


@dataclass(slots=True)
class ItemFeatures:
    """A batch's media as features of one model, whose weights must stay as they are meanwhile."""

    model: AlignedModel
    kept: KeptFeatures
    _digests: dict[str, str] = field(default_factory=dict)

    def __call__(self, items: Sequence[Item], media: Mapping[str, MediaBatch]) -> dict[str, MediaBatch]:
        """The features of the items' media, from memory or computed; what is further already stays as it is."""
        return {m: self._features(items, m, batch) if batch.reached == DECODED else batch for m, batch in media.items()}

    def _features(self, items: Sequence[Item], modality: str, media: MediaBatch) -> MediaBatch:
        device = media.values.device
        name = (modality, self._digest(modality), str(device), tuple(map(id, items)))
        _, found = self.kept.get(name, lambda: (tuple(items), self.model.features(modality, media).values.cpu()))
        return MediaBatch(found.to(device), media.variants, reached=FEATURES)

    def _digest(self, modality: str) -> str:
        if modality not in self._digests:
            parts = [p for p in path_parts(self.model, modality) if not p.startswith("projectors.")]
            digests = frozen_digest(self.model, parts)
            self._digests[modality] = " ".join(digests[part] for part in parts)
        return self._digests[modality]
