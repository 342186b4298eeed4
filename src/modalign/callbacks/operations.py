"""What a trace of torch's profiler says of operations: how long each of a kind took by itself, as a table.

Read from the trace, since torch's own averages take 0.1 ms an event: minutes for some steps of a large model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ON_HOST, ON_GPU = ("cpu_op", "user_annotation"), ("kernel", "gpu_memcpy", "gpu_memset")
_ENGINE = "autograd::engine::evaluate_function"  # calls what is computed backwards


@dataclass(slots=True)
class Operation:
    """Operations of one kind: their own time in µs, of which within the backward pass, and how many."""

    name: str
    shapes: str
    own_us: float = 0.0
    backward_us: float = 0.0
    calls: int = 0


def operations(events: Iterable[Mapping[str, Any]], kinds: Sequence[str], shapes: bool) -> list[Operation]:
    """Events of these categories by name (and shapes), the longest first; what they call is not theirs."""
    found: dict[tuple[str, str], Operation] = {}
    for event, own, backward in _own_times(e for e in events if e.get("ph") == "X" and e.get("cat") in kinds):
        name = _ENGINE if event["name"].startswith(_ENGINE) else event["name"]
        given = _shapes(event.get("args", {}).get("Input Dims")) if shapes else ""
        entry = found.setdefault((name, given), Operation(name, given))
        entry.own_us += own
        entry.backward_us += own if backward else 0.0
        entry.calls += 1
    return sorted(found.values(), key=lambda entry: -entry.own_us)


def table(found: Sequence[Operation], steps: int, wall_us: float, rows: int) -> str:
    """Milliseconds and calls a step, the share of the wall's time, and what came with which shapes."""
    lines = [f"{'ms a step':>10} {'share':>7} {'backward':>9} {'calls a step':>13}  operation and shapes"]
    for entry in found[:rows]:
        lines.append(
            f"{entry.own_us / steps / 1000:10.2f} {100 * entry.own_us / wall_us:6.1f}% "
            f"{100 * entry.backward_us / max(entry.own_us, 1e-9):8.0f}% {entry.calls / steps:13.1f}  "
            f"{entry.name} {entry.shapes}".rstrip()
        )
    if rest := found[rows:]:
        own, calls = sum(e.own_us for e in rest), sum(e.calls for e in rest)
        lines.append(
            f"{own / steps / 1000:10.2f} {100 * own / wall_us:6.1f}% {'':9} {calls / steps:13.1f}  "
            f"{len(rest)} other kinds"
        )
    return "\n".join(lines)


def _own_times(events: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], float, bool]]:
    """Each event with its time less that of those inside it, and whether it is part of a backward pass."""
    threads: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for event in events:
        threads[event.get("pid"), event.get("tid")].append(event)
    for listed in threads.values():
        listed.sort(key=lambda e: (e["ts"], -e["dur"]))
        stack: list[tuple[Mapping[str, Any], list[float], bool]] = []
        for event in listed:
            while stack and event["ts"] >= stack[-1][0]["ts"] + stack[-1][0]["dur"]:
                yield _left(*stack.pop())
            if stack:
                stack[-1][1].append(event["dur"])
            backward = event["name"].startswith(_ENGINE) or (bool(stack) and stack[-1][2])
            stack.append((event, [], backward))
        while stack:
            yield _left(*stack.pop())


def _left(event: Mapping[str, Any], inside: list[float], backward: bool) -> tuple[Mapping[str, Any], float, bool]:
    return event, max(0.0, event["dur"] - sum(inside)), backward


def _shapes(dims: Any) -> str:
    """Of the tensors among an operation's arguments."""
    return " ".join("x".join(map(str, d)) for d in dims or () if d and all(isinstance(n, int) for n in d))
