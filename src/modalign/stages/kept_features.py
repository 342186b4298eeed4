"""Features of held-out items, kept from phase to phase where the weights on their way are the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from modalign.evaluation.items import Item
from modalign.models.aligned import AlignedModel
from modalign.models.freezing import frozen_digest
from modalign.stages.frozen_path import path_parts
from modalign.types import DECODED, FEATURES, MediaBatch

_Name = tuple[str, str, str, tuple[int, ...]]


class KeptFeatures:
    """Features by modality, digest of the weights that made them, device, and items; the oldest go beyond `max_bytes`.

    They are kept by whole batches, since their last bits may hang on how many media are computed together.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        # Items are kept with what was made of them: they are known by their place in memory.
        self._kept: OrderedDict[_Name, tuple[tuple[Item, ...], Tensor]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, name: _Name) -> Tensor | None:
        """What is kept under a name, which counts as used now."""
        if name not in self._kept:
            return None
        self._kept.move_to_end(name)
        return self._kept[name][1]

    def put(self, name: _Name, items: Sequence[Item], features: Tensor) -> None:
        """Keep a batch's features, unless they alone are more than the bound."""
        if features.nbytes > self.max_bytes:
            return
        self._kept[name] = tuple(items), features
        self._bytes += features.nbytes
        while self._bytes > self.max_bytes:
            _, (_, oldest) = self._kept.popitem(last=False)
            self._bytes -= oldest.nbytes


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
        found = self.kept.get(name)
        if found is None:
            found = self.model.features(modality, media).values
            self.kept.put(name, items, found.cpu())
        return MediaBatch(found.to(device), media.variants, reached=FEATURES)

    def _digest(self, modality: str) -> str:
        if modality not in self._digests:
            parts = [p for p in path_parts(self.model, modality) if not p.startswith("projectors.")]
            digests = frozen_digest(self.model, parts)
            self._digests[modality] = " ".join(digests[part] for part in parts)
        return self._digests[modality]
