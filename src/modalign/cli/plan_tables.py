"""How a plan reads on a terminal: for each run its data, parts, memory and hours; then sums, assumptions, gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modalign.cli.terminal import count, file_size, print_table, say

if TYPE_CHECKING:
    from modalign.stages.forecast.forecast import PhaseForecast, RecipeForecast
    from modalign.stages.forecast.memory import Memory
    from modalign.stages.forecast.plan import Plan

DIRECTIONS = ("forward", "backward", "recompute")
WORDS = {"estimated": " estimated", "assumed": " assumed"}


def print_plan(plan: Plan) -> None:
    """All of it."""
    for phase in plan.phases:
        _print_phase(plan, phase)
    _print_sums(plan)
    if plan.missing:
        say("\nmissing")
        for line in plan.missing:
            say(f"  {line}")


def _print_phase(plan: Plan, phase: PhaseForecast) -> None:
    steps = f"{count(phase.steps)} steps, {count(phase.samples)} samples"
    say(f"\n{phase.run}: {steps}, {amount(phase.total_flops, 'FLOP')}, {span(phase.hours)}")
    rows = [_recipe_row(phase, recipe) for recipe in phase.recipes]
    header = (
        "  recipe",
        "",
        "samples",
        "passes",
        "media to soft tokens",
        "text tokens (supervised)",
        "a sample",
        "in all",
    )
    print_table(header, rows, numbers=(2, 3, 6, 7))
    _print_parts(phase)
    _print_memory(plan, phase)


def _recipe_row(phase: PhaseForecast, recipe: RecipeForecast) -> list[str]:
    per_sample = sum(number for directions in recipe.flops_per_sample.values() for number in directions.values())
    passes = f"{recipe.samples / recipe.size:.2f}" if recipe.size else "?"
    media = "; ".join(_tokens(phase, modality) for modality in recipe.modalities if modality in phase.tokens)
    text = f"{recipe.text_tokens:.1f} ({recipe.supervised_tokens:.1f}){WORDS.get(recipe.words, '')}"
    return [
        f"  {recipe.name}", "replayed" if recipe.replayed else "", count(recipe.samples), passes, media or "-", text,
        amount(per_sample, "FLOP"), amount(recipe.flops, "FLOP"),
    ]  # fmt: skip


def _tokens(phase: PhaseForecast, modality: str) -> str:
    made = phase.tokens[modality]
    frames = f"{made.frames} x " if made.frames > 1 else ""
    return f"{modality} {frames}{made.encoded} > {made.soft}"


def _print_parts(phase: PhaseForecast) -> None:
    """One row a group of parts: those that share their first two words and train, or do not, alike."""
    rows: dict[tuple[str, bool], list[float]] = {}
    for part in phase.parts:
        row = rows.setdefault((group(part.name), part.trains), [0.0] * 5)
        for place, number in enumerate(
            (part.parameters, part.weights, part.gradients, part.optimizer, part.activations)
        ):
            row[place] += number
    flops: dict[str, dict[str, float]] = {}
    for name, directions in phase.flops.items():
        row_of = flops.setdefault(group(name), {})
        for direction, flop in directions.items():
            row_of[direction] = row_of.get(direction, 0.0) + flop
    shown = [d for d in DIRECTIONS if any(d in directions for directions in flops.values())]
    table = []
    told: set[str] = set()
    for (name, trains), numbers in rows.items():
        own = flops.get(name, {}) if name not in told else {}
        told.add(name)
        table.append([
            f"  {name}", "trains" if trains else "frozen", count(round(numbers[0])), *map(_bytes, numbers[1:]),
            *(amount(own[d] / phase.samples, "FLOP") if own.get(d) else "" for d in shown),
        ])  # fmt: skip
    header = (
        "  part",
        "",
        "parameters",
        "weights",
        "gradients",
        "optimizer",
        "activations",
        *(f"{d} a sample" for d in shown),
    )
    print_table(header, table, numbers=range(2, len(header)))


def _print_memory(plan: Plan, phase: PhaseForecast) -> None:
    own = phase.memory
    exchange = f", exchange {file_size(own.exchange)}" if own.exchange else ""
    say(
        f"  memory of a process: {file_size(own.peak)}{_fits(plan, own)} (weights {file_size(own.weights)}, gradients "
        f"{file_size(own.gradients)}, optimizer {file_size(own.optimizer)}, activations {file_size(own.activations)}"
        f"{exchange}); with texts as long as allowed {file_size(phase.longest.peak)}{_fits(plan, phase.longest)}"
    )
    say(
        f"  activations kept {file_size(phase.kept)}, with checkpointing {file_size(phase.recomputed)}; "
        f"a checkpoint on disk {file_size(phase.checkpoint.weights + phase.checkpoint.state)} "
        f"(weights {file_size(phase.checkpoint.weights)} in {_files(phase.checkpoint.files)}); {_shards(phase)}"
    )


def _fits(plan: Plan, memory: Memory) -> str:
    if plan.hardware.memory_gb is None:
        return ""
    return " fits" if memory.peak <= plan.hardware.memory_gb * 1e9 else f" DOES NOT FIT {plan.hardware.memory_gb:g} GB"


def _files(number: int) -> str:
    return "1 file" if number == 1 else f"{count(number)} files"


def _shards(phase: PhaseForecast) -> str:
    there = [recipe for recipe in phase.recipes if recipe.shards is not None]
    size = file_size(sum(recipe.shard_bytes or 0 for recipe in there))
    return f"shards of {len(there)} of {len(phase.recipes)} recipes are here" + (f" ({size})" if there else "")


def _print_sums(plan: Plan) -> None:
    flops, hours = sum(p.total_flops for p in plan.phases), sum(p.hours for p in plan.phases)
    engine, hardware = plan.engine, plan.hardware
    say(
        f"\nin all {amount(flops, 'FLOP')}, {span(hours)} of training on {engine.world_size} x {hardware.name} "
        f"({plan.precision}: peak {plan.peak_tflops:g} TFLOP/s each, of which {hardware.utilisation:.0%} are assumed; "
        f"engine {engine.name}, activation checkpointing {'on' if engine.recompute else 'off'}); "
        f"measuring after each phase comes on top"
    )


def group(part: str) -> str:
    """The first two words of a part's name."""
    return ".".join(part.split(".")[:2])


def amount(number: float, unit: str) -> str:
    """A number with a prefix: 12.3 GFLOP."""
    for prefix in ("", "k", "M", "G", "T", "P", "E"):
        if abs(number) < 1000:
            return f"{number:.3g} {prefix}{unit}"
        number /= 1000
    return f"{number:.3g} Z{unit}"


def span(hours: float) -> str:
    """A time in the unit that suits it."""
    if hours < 1 / 3600:
        return "less than a second"
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    if hours < 1:
        return f"{hours * 60:.1f} min"
    return f"{hours:.1f} h" if hours < 96 else f"{hours / 24:.1f} days"


def _bytes(number: float) -> str:
    return file_size(number) if number else ""
