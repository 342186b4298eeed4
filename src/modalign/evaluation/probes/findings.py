"""What probes found, typed, and its file probes.json: read by the report without torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from modalign.errors import ModalignError
from modalign.runs.files import write_atomic

PROBES_FILE = "probes.json"


@dataclass(frozen=True, slots=True)
class InputUse:
    """Losses in nats per supervised token with the real input, another sample's, and a blank one.

    `gain` is what the real input is worth: shuffled less real, with its 95 % interval over the items.
    """

    real: float
    shuffled: float
    blank: float
    gain: float
    low: float
    high: float

    @property
    def used(self) -> bool:
        """Whether the model is surely better off with the input that belongs to the text."""
        return self.low > 0


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How often the caption of an input is the best, or among the best five, of `candidates` distinct ones."""

    at_1: float
    at_5: float
    chance_1: float
    chance_5: float
    candidates: int


@dataclass(frozen=True, slots=True)
class Routing:
    """The router over items and query tokens, entropies as shares of the largest possible one.

    `load` is each expert's mean weight and `balance` its entropy (1: all experts carry alike); `entropy` is the mean of
    each query token's own (0: every token has chosen one expert).
    """

    load: tuple[float, ...]
    entropy: float
    balance: float


@dataclass(frozen=True, slots=True)
class NearestWord:
    """The vocabulary row that lies nearest to soft token number `token`: of most items, that `share` of them."""

    token: int
    word: str
    share: float
    cosine: float


@dataclass(frozen=True, slots=True)
class ModalityProbe:
    """All that was found of one modality after `step` optimizer steps; `gradients` are norms by part."""

    step: int
    items: int
    use: InputUse
    retrieval: Retrieval | None = None
    routing: Routing | None = None
    words: tuple[NearestWord, ...] = ()
    gradients: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Probes:
    """The content of probes.json; `expert_distance` by projector, relative to the size of the weights."""

    run: str
    split: str
    modalities: Mapping[str, ModalityProbe] = field(default_factory=dict)
    expert_distance: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)


def scalars(modality: str, probe: ModalityProbe) -> dict[str, float]:
    """The numbers of one modality as rows of metrics.csv."""
    use = probe.use
    values = {"loss_real": use.real, "loss_shuffled": use.shuffled, "loss_blank": use.blank}
    if probe.retrieval is not None:
        values |= {"retrieval_at_1": probe.retrieval.at_1, "retrieval_at_5": probe.retrieval.at_5}
    if probe.routing is not None:
        values |= {"router_entropy": probe.routing.entropy, "router_balance": probe.routing.balance}
    if probe.words:
        values["word_cosine"] = sum(word.cosine for word in probe.words) / len(probe.words)
    rows = {f"probe/{name}/{modality}": value for name, value in values.items()}
    loads = enumerate(probe.routing.load if probe.routing else (), 1)
    return rows | {f"probe/router_load/{modality}/expert_{k}": load for k, load in loads}


def write_probes(folder: Path, probes: Probes) -> Path:
    """Write probes.json into `folder`, wholly or not at all; a modality whose loss is not finite is left out."""
    path = Path(folder) / PROBES_FILE
    finite = {name: probe for name, probe in probes.modalities.items() if math.isfinite(probe.use.gain)}
    content = asdict(probes) | {"modalities": {name: asdict(probe) for name, probe in finite.items()}}
    write_atomic(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return path


def find_probes(folder: Path) -> Probes | None:
    """The probes in `folder`, None where there are none; ModalignError where they cannot be read."""
    path = Path(folder) / PROBES_FILE
    try:
        data = json.loads(path.read_bytes())
        modalities = {name: _modality(row) for name, row in data["modalities"].items()}
        distance = {name: tuple(map(tuple, rows)) for name, rows in data["expert_distance"].items()}
        return Probes(data["run"], data["split"], modalities, distance)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModalignError(f"{path} cannot be read ({error}): delete it, `modalign probe` writes it again") from None


def _modality(row: Mapping[str, Any]) -> ModalityProbe:
    values = dict(row)
    routing = values["routing"]
    values["use"] = InputUse(**values["use"])
    values["retrieval"] = values["retrieval"] and Retrieval(**values["retrieval"])
    values["routing"] = routing and Routing(**{**routing, "load": tuple(routing["load"])})
    values["words"] = tuple(NearestWord(**word) for word in values["words"])
    return ModalityProbe(**values)
