"""Replay: what of the earlier modalities is mixed into a phase, and how many optimizer steps the phase then has."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from modalign.curriculum.shares import bounded, equal_shares
from modalign.errors import ModalignError, unknown_name

WITHOUT_VALUE = ("balanced", "equal", "none")
WITH_VALUE = ("ratio", "temperature")
KEEPS = ("new", "total")
# The settings that errors name: alignment alone replays.
RULE, KEEP = "stages.align.replay", "stages.align.replay_keep"


@dataclass(frozen=True, slots=True)
class ReplayRule:
    """A replay rule: `balanced`, `equal`, `none`, `ratio` (0 <= value < 1) or `temperature` (value > 0)."""

    kind: str = "balanced"
    value: float | None = None

    @classmethod
    def parse(cls, given: ReplayRule | str | Mapping[str, Any]) -> ReplayRule:
        """A rule from `balanced`, `ratio:0.3` or `{ratio: 0.3}`."""
        if isinstance(given, ReplayRule):
            return given
        kind, value = _split(given)
        if kind not in WITHOUT_VALUE + WITH_VALUE:
            raise unknown_name("replay rule", kind, WITHOUT_VALUE + WITH_VALUE, where=RULE)
        if kind in WITHOUT_VALUE:
            if value is not None:
                raise ModalignError(f"{RULE}={kind} takes no value, got {value!r}: write `{RULE}={kind}`")
            return cls(kind)
        return cls(kind, _number(kind, value))

    def __str__(self) -> str:
        return self.kind if self.value is None else f"{self.kind}:{self.value:g}"


def shares(
    new: Iterable[str],
    seen: Iterable[str],
    sizes: Mapping[str, int],
    rule: ReplayRule | str | Mapping[str, Any] = "balanced",
) -> dict[str, Fraction]:
    """The share of slices that each modality gets in a phase, summing to exactly 1; a modality without any is left out.

    `sizes` counts training samples by modality and is read by `temperature` alone.
    """
    new, seen, parsed = tuple(new), tuple(seen), ReplayRule.parse(rule)
    if set(new) & set(seen):
        raise ModalignError(f"{', '.join(sorted(set(new) & set(seen)))} both new and earlier in one phase")
    if parsed.kind == "none" or (not seen and parsed.kind != "temperature"):
        if not new:
            raise ModalignError(f"{RULE}={parsed} leaves nothing to train on: the phase has no new modality")
        return bounded(equal_shares(new))
    if parsed.kind == "temperature":
        return bounded(_by_temperature(new + seen, sizes, parsed.value or 1.0))
    if parsed.kind == "equal" or not new:
        return bounded(equal_shares(new + seen))
    old = Fraction(1, 2) if parsed.kind == "balanced" else Fraction(repr(parsed.value))
    mixed = {**equal_shares(new, 1 - old), **equal_shares(seen, old)}
    return bounded({name: share for name, share in mixed.items() if share > 0})


def phase_steps(
    new_samples: int,
    batch_size: int,
    shares: Mapping[str, Fraction],
    new: Iterable[str] = (),
    keep: str = "new",
) -> int:
    """Optimizer steps of a phase over `new_samples` samples of its `new` modalities.

    `keep="new"`: replay adds samples, so that as many new ones are seen as without it; `keep="total"`: replay takes
    their place. A phase without new modalities sees `new_samples` in all.
    """
    if keep not in KEEPS:
        raise unknown_name("value", keep, KEEPS, where=KEEP)
    if new_samples <= 0 or batch_size <= 0:
        raise ModalignError(f"a phase of {new_samples} samples in batches of {batch_size}: both must be at least 1")
    share = sum((shares.get(name, Fraction(0)) for name in new), Fraction(0))
    total = Fraction(new_samples) / share if keep == "new" and share > 0 else Fraction(new_samples)
    return math.ceil(total / batch_size)


def _split(given: str | Mapping[str, Any]) -> tuple[str, Any]:
    if isinstance(given, str):
        kind, _, value = given.partition(":")
        return kind.strip(), value.strip() or None
    if not isinstance(given, Mapping) or len(given) != 1:
        raise ModalignError(f"{RULE} is {given!r}: write one rule, as in balanced, ratio:0.3 or {{ratio: 0.3}}")
    kind, value = next(iter(given.items()))
    return str(kind), value


def _number(kind: str, value: Any) -> float:
    example = "ratio:0.3" if kind == "ratio" else "temperature:2"
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ModalignError(f"{RULE}={kind} needs a number, got {value!r}: write `{RULE}={example}`")
    if kind == "ratio" and not 0 <= number < 1:
        raise ModalignError(f"{RULE}=ratio:{number:g}: the share of earlier samples must be in [0, 1)")
    if kind == "temperature" and number <= 0:
        raise ModalignError(f"{RULE}=temperature:{number:g}: the temperature must be above 0")
    return number


def _by_temperature(names: tuple[str, ...], sizes: Mapping[str, int], temperature: float) -> dict[str, Fraction]:
    """p proportional to size^(1/T), in logarithms so that a small T cannot overflow."""
    missing = [name for name in names if sizes.get(name, 0) <= 0]
    if missing:
        raise ModalignError(f"{RULE}=temperature needs the dataset size of {', '.join(missing)}: none is known")
    if not names:
        raise ModalignError(f"{RULE}=temperature leaves nothing to train on: the phase has no modality")
    logs = {name: math.log(sizes[name]) / temperature for name in names}
    largest = max(logs.values())
    # A proportion that underflows would be silently dropped; bounded() then raises it to one slice a cycle.
    return {name: Fraction(max(math.exp(value - largest), 1e-12)) for name, value in logs.items()}
