"""`modalign inspect RUN --step N`: train that optimizer step again, show what it saw, and prove its bits."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modalign.cli.environment import prepare_environment
from modalign.cli.marked import pieces, print_marked, token_counts
from modalign.cli.parser import VerbParser, quoted, settings_only
from modalign.cli.run_settings import changed_settings
from modalign.cli.terminal import print_table, say, working
from modalign.runs.files import write_atomic
from modalign.stages.inspection.route import Route, find_route

if TYPE_CHECKING:
    from modalign.stages.inspection.retrace import Inspection
    from modalign.stages.inspection.witness import SliceSeen, StepSeen

SUMMARY = """Train one optimizer step of a run again, from the nearest checkpoint before it or from the start values,
and show its samples with their supervised tokens, its loss, and its gradient by part. What the run logged and saved is
compared to the bit; the exit code is 1 where it differs. The run's folder is only read."""
EXAMPLES = (
    "modalign inspect runs/align-audio-1a2b3c4d --step 137",
    "modalign inspect runs/align-audio-1a2b3c4d --step 137 --prove",
)


def run(arguments: Sequence[str]) -> int:
    """Show the step; 0 where every bit that can be compared is the run's."""
    options = _parsed(arguments)
    route = find_route(options.run, options.step, options.prove, options.from_start)
    words = settings_only(options.settings)
    words += [f"paths.data={quoted(options.data)}"] if options.data is not None else []
    settings = changed_settings(route.manifest, words)
    say(_course(route, options.from_start))
    prepare_environment()
    from modalign.stages.inspection.retrace import retrace
    from modalign.stages.notices import quiet_libraries

    quiet_libraries()
    with working(lambda: f"training steps {route.first + 1} to {route.last} again"):
        found = retrace(route, settings)
    for one in found.seen.slices:
        _slice(one, found.tokenizer, options.n)
    _gradient(found.seen)
    _verdict(route, found)
    if options.json is not None:
        write_atomic(options.json, json.dumps(_plain(route, found), indent=1).encode() + b"\n")
    return 0 if found.holds else 1


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = VerbParser("inspect", SUMMARY, EXAMPLES)
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("--step", metavar="N", type=int, required=True, help="which optimizer step; the first is 1")
    parser.add_argument("--prove", action="store_true", help="go on to the run's next checkpoint, compare all weights")
    parser.add_argument("--from-start", action="store_true", help="from the start values, whatever checkpoint is kept")
    parser.add_argument("-n", metavar="N", type=int, default=2, help="samples printed of each slice (default 2)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything to a file, all samples included")
    parser.add_argument("--data", metavar="DIR", help="folder of shards (paths.data)")
    parser.add_argument("settings", nargs="*", default=[], metavar="key=value", help="paths.…, trainer.…, data.…")
    return parser.parse(arguments)


def _course(route: Route, chosen: bool) -> str:
    """Where training begins, where it ends and why."""
    kept = "no checkpoint before it is kept (trainer.keep_every=… keeps some), so from the start values"
    begin = f"from {route.start.name}" if route.start else "from the start values" if chosen else kept
    end = "" if route.last == route.step else f"; on to step {route.last}, where the run left something to compare with"
    num_steps = route.last - route.first
    took = f"; the run took {route.seconds:.0f} s for these {num_steps} steps" if route.seconds else ""
    return f"{route.manifest.name}, step {route.step} of {route.manifest.steps}: {begin}{end}{took}"


def _slice(one: SliceSeen, tokenizer: Any, shown: int) -> None:
    batch = one.batch.to("cpu")
    counts = [token_counts(batch, row) for row in range(len(batch.keys))]
    tokens, supervised = sum(t for t, _ in counts), sum(s for _, s in counts)
    losses = ", ".join(f"{name} {total / max(count, 1e-8):.6f}" for name, (total, count) in one.terms.items())
    say(
        f"\nslice {one.number}: {batch.source}, {batch.num_samples} samples; {losses}; {supervised} of {tokens} text "
        f"tokens supervised ({supervised / max(tokens, 1):.0%})"
    )
    rows = []
    for key, meta, (text, marked), loss in zip(batch.keys, batch.metas, counts, one.sample_losses, strict=True):
        place = (str(meta.get("epoch", "")), str(meta.get("position", "")), str(text), str(marked))
        rows.append([key, *place, "" if loss is None else f"{loss:.4f}"])
    if rows:
        print_table(("sample", "epoch", "position", "tokens", "supervised", "loss"), rows, numbers=(1, 2, 3, 4, 5))
    for recipe, key, reason in batch.holes:
        say(f"bad sample {key} of {recipe}: {reason}")
    for row in range(min(shown, len(batch.keys)) if tokenizer is not None else 0):
        say(f"{batch.keys[row]}:")
        print_marked(pieces(batch, row, tokenizer))


def _gradient(seen: StepSeen) -> None:
    say("")
    if seen.skipped:
        say("this step was skipped: its loss or its gradient was not finite")
    rates = [[seen.rates.get(name) for name in (part, f"{part}/muon")] for part in seen.norms]
    told = [["" if rate is None else f"{rate:.4g}" for rate in pair] for pair in rates]
    rows = [[part, f"{norm:.6g}", *pair] for (part, norm), pair in zip(seen.norms.items(), told, strict=True)]
    print_table(("part", "gradient norm", "AdamW's rate", "Muon's rate"), rows, numbers=(1, 2, 3))
    clipped = f", clipped to {seen.clip}" if seen.clip and seen.norm > seen.clip else ""
    say(f"loss of the step {seen.loss:.6f}; norm of its whole gradient {seen.norm:.6g}{clipped}")
    say(f"weights after it: sha256 {seen.weights}")


def _verdict(route: Route, found: Inspection) -> None:
    say("")
    rows, weights = found.rows, found.weights
    if rows.total:
        at = f"{rows.steps[0]} to {rows.steps[-1]}" if len(rows.steps) > 1 else str(rows.steps[0])
        say(f"logged at step {at}: {rows.equal} of {rows.total} losses and rates are equal to the bit")
    else:
        say("the run logged nothing from that step on: there is no loss to compare with")
    if rows.first is not None:
        logged, came = rows.first
        say(
            f"first that differs: {logged.name} at step {logged.step}, logged {logged.value!r}, now {came!r} "
            f"(largest relative difference {rows.relative:.1e})"
        )
    if weights is not None:
        same = weights.tensors - len(weights.differing)
        say(f"{weights.checkpoint.name}: {same} of {weights.tensors} tensors are equal to the bit")
        if weights.differing:
            say(f"first that differs: {weights.differing[0]}")
    elif route.target is None:
        say("no checkpoint lies at the end of this way; --prove goes on to the next one, if the run has kept one")
    for change in found.changes:
        say(f"other than then: {change}")
    say("the bits are the run's" if found.holds and (rows.total or weights) else _doubt(found))


def _doubt(found: Inspection) -> str:
    if found.holds:
        return "nothing could be compared"
    if found.changes:
        return "the bits are not the run's; what is other than then (above) may be why"
    return (
        "the bits are not the run's, and nothing that is known is other than then; the versions, machine and threads "
        "that are known are those of its last sitting: earlier ones with others, or altered records, would explain it"
    )


def _plain(route: Route, found: Inspection) -> dict[str, Any]:
    """Everything, for a program to read."""
    seen, slices = found.seen, []
    for one in seen.slices:
        batch = one.batch.to("cpu")
        samples = [
            {"key": key, "epoch": meta.get("epoch"), "position": meta.get("position"), "loss": loss,
             "tokens": token_counts(batch, row)[0], "supervised": token_counts(batch, row)[1]}
            for row, (key, meta, loss) in enumerate(zip(batch.keys, batch.metas, one.sample_losses, strict=True))
        ]  # fmt: skip
        terms = {name: {"sum": total, "count": count} for name, (total, count) in one.terms.items()}
        slices.append({"number": one.number, "recipe": batch.source, "terms": terms, "samples": samples})
    weights = found.weights
    return {
        "run": route.manifest.name, "identity": route.manifest.identity, "step": seen.step,
        "from": route.start.name if route.start else None, "loss": seen.loss, "skipped": seen.skipped,
        "gradient_norm": seen.norm, "gradient_norms": seen.norms, "learning_rates": seen.rates, "weights": seen.weights,
        "rows": {"equal": found.rows.equal, "total": found.rows.total, "steps": list(found.rows.steps)},
        "checkpoint": None if weights is None else
        {"name": weights.checkpoint.name, "tensors": weights.tensors, "differing": list(weights.differing)},
        "changes": found.changes, "holds": found.holds, "slices": slices,
    }  # fmt: skip
