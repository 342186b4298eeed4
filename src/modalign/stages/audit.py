"""Did a finished curriculum do what it declares? Its runs' records and checkpoints against what their identity says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from modalign.config.recipes import RecipeBook
from modalign.curriculum.schedule import SliceSchedule
from modalign.errors import ModalignError
from modalign.evaluation.scores import read_results
from modalign.models.parts import count_parameters
from modalign.runs.identity import identity
from modalign.runs.lineage import lineage, parent_of
from modalign.runs.manifest import Manifest, find_manifest, read_manifest
from modalign.runs.metrics import MetricLog
from modalign.runs.record import CurriculumRecord, read_record
from modalign.runs.sealed import read_seal, verify_checkpoint
from modalign.stages.inspection.retrace import trained_spec
from modalign.stages.load_run import settings_of
from modalign.stages.phase_parts import parts_that_train
from modalign.stages.proof import explained
from modalign.stages.skeleton import skeleton
from modalign.stages.sources import SourceBook


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of a run (or of the curriculum): `holds` None where there is nothing to check it with."""

    where: str
    check: str
    holds: bool | None
    told: str


_ROUNDING = 1e-6  # between a score and the mean of its items

Check = Callable[[Path, Manifest], tuple[bool | None, str]]


def audit_curriculum(folder: Path) -> Iterator[Finding]:
    """Every check of the curriculum in `folder`, and of each of its runs in order."""
    record = read_record(folder)
    runs = {phase.run: Path(os.path.normpath(folder.resolve() / phase.run)) for phase in record.phases}
    found = {name: find_manifest(run) for name, run in runs.items()}
    gone = [name for name, manifest in found.items() if manifest is None]
    yield Finding(
        record.name, "finished", record.status == "finished" and not gone,
        f"{record.reason or record.status}, {len(runs)} phases" + (f"; gone: {', '.join(gone)}" if gone else ""),
    )  # fmt: skip
    yield Finding(record.name, "complete", *_complete(record, [m for m in found.values() if m is not None]))
    for name, run in runs.items():
        if found[name] is not None:
            yield from audit_run(run)


def audit_run(run: Path) -> Iterator[Finding]:
    """Every check of one run; what a check raises is its fault."""
    manifest = read_manifest(run)
    for check, look in CHECKS.items():
        try:
            holds, told = look(run, manifest)
        except ModalignError as error:
            holds, told = False, str(error)
        yield Finding(manifest.name, check, holds, told)


def _complete(record: CurriculumRecord, manifests: list[Manifest]) -> tuple[bool | None, str]:
    """Every declared phase is there, in order, and no other."""
    made = [manifest.identity for manifest in manifests]
    if not record.declared:
        return None, "the record does not say which phases were declared (made by an earlier version)"
    missing = [one[:8] for one in record.declared if one not in made]
    surplus = [m.name for m in manifests if m.identity not in record.declared]
    if missing:
        return False, f"missing: {', '.join(missing)}"
    if surplus:
        return False, f"not declared: {', '.join(surplus)}"
    if made != record.declared:
        return False, "the phases are in another order than declared"
    return True, f"all {len(made)} declared phases, in their order"


def _ended(run: Path, manifest: Manifest) -> tuple[bool, str]:
    rows = MetricLog(run / "metrics.csv").read()
    last = max((row.step for row in rows), default=0)
    saved = read_seal(_checkpoint(run, manifest))
    steps = int(manifest.spec["steps"])
    holds = manifest.status == "finished" and manifest.steps == last == saved["step"] == steps and saved["final"]
    skipped = manifest.extra.get("skipped_steps", {}).get("count", 0)
    also = f", {skipped} of them skipped since something was not finite" if skipped else ""
    return holds, f"{manifest.status}; {steps} steps declared, {last} logged, checkpoint of {saved['step']}{also}"


def _named(run: Path, manifest: Manifest) -> tuple[bool | None, str]:
    found = identity(manifest.spec)
    if found == manifest.identity:
        return True, f"its settings give {found[:8]}"
    if "redacted" in str(manifest.spec).lower():
        return None, "settings that hold secrets are not written down, so their digest cannot be told"
    return False, f"its settings give {found[:8]}, its manifest says {manifest.identity[:8]}: one was altered"


def _trained(run: Path, manifest: Manifest) -> tuple[bool, str]:
    """The parts that trained are those that the model of these settings has under the declared names."""
    settings, spec = settings_of(manifest), trained_spec(manifest)
    model = skeleton(settings, spec.modalities, spec.num_experts, spec.adapters)
    plan = parts_that_train(model, spec, settings, RecipeBook(settings))
    trained = {part["name"]: part["gradient"] for part in manifest.parts if part["trains"]}
    if wrong := set(plan.trains) ^ set(trained):
        return False, f"declared and trained parts differ: {', '.join(sorted(wrong))}"
    sizes = count_parameters(model)
    if other := [p["name"] for p in manifest.parts if sizes.get(p["name"]) != p["parameters"]]:
        return False, f"sizes differ from those declared: {', '.join(other)}"
    without = [f"{name} ({verdict})" for name, verdict in trained.items() if verdict != "ok"]
    if without and not explained(trained):
        return False, f"no usable gradient: {', '.join(without)}"
    total = sum(sizes[name] for name in trained)
    also = f"; never reached: {', '.join(without)}" if without else ""
    return True, f"{len(trained)} parts, {total:,} parameters, each with a finite gradient that is not zero{also}"


def _frozen(run: Path, manifest: Manifest) -> tuple[bool, str]:
    """Digests before and after were equal; the checkpoint, read whole, holds what trained or began, nothing else."""
    frozen = [part for part in manifest.parts if not part["trains"]]
    if changed := [part["name"] for part in frozen if part["unchanged"] is not True]:
        return False, f"not proved unchanged: {', '.join(changed)}"
    checkpoint = _checkpoint(run, manifest)
    digest = verify_checkpoint(checkpoint)
    if manifest.checkpoint is None or digest != manifest.checkpoint["digest"]:
        return False, f"{checkpoint.name} is not the one of the manifest"
    held = set(read_seal(checkpoint)["parts"])
    trained = {part["name"] for part in manifest.parts if part["trains"]}
    begun = {part["name"] for part in manifest.parts if part.get("begun")}
    if beyond := held - trained - begun:
        return False, f"{checkpoint.name} holds parts that were frozen: {', '.join(sorted(beyond))}"
    for parts, what in ((trained, "trained"), (begun, "began")):
        if lost := parts - held:
            return False, f"{checkpoint.name} lacks parts that {what}: {', '.join(sorted(lost))}"
    return True, f"{len(frozen)} parts equal before and after by SHA-256; every byte of {checkpoint.name} verified"


def _consumed(run: Path, manifest: Manifest) -> tuple[bool, str]:
    spec = trained_spec(manifest)
    stage = spec.stage_settings
    assert stage is not None
    slices = SliceSchedule(spec.shares, manifest.seed).counts(spec.steps * stage.slices_per_step)
    declared = {name: number * stage.slice_size for name, number in slices.items()}
    for name in declared.keys() | manifest.consumed.keys():
        if declared.get(name, 0) != manifest.consumed.get(name, 0):
            return False, f"{name}: {manifest.consumed.get(name, 0)} read, the mixture says {declared.get(name, 0)}"
    bad = sum(hole["count"] for hole in manifest.holes.values())
    told = ", ".join(f"{name} {number}" for name, number in declared.items())
    return True, told + (f"; {bad} bad samples left out" if bad else "")


def _data(run: Path, manifest: Manifest) -> tuple[bool | None, str]:
    settings = settings_of(manifest)
    sources = SourceBook(settings, RecipeBook(settings))
    there = [name for name in manifest.recipes if sources.present(name)]
    altered = [name for name in there if sources.digest(name) != manifest.recipes[name]["digest"]]
    if altered:
        return False, f"the shards are others than it was trained on: {', '.join(altered)}"
    gone = len(manifest.recipes) - len(there)
    also = f", {gone} not there" if gone else ""
    return None if gone else True, f"{len(there)} recipes with the same digests{also}"


def _parent(run: Path, manifest: Manifest) -> tuple[bool, str]:
    parent = parent_of(run, manifest)
    if parent is None:
        return manifest.spec["parent"] is None, "none"
    found = read_manifest(parent)
    if found.identity != manifest.spec["parent"]:
        return False, f"{found.name} is not the run that its settings name ({str(manifest.spec['parent'])[:8]})"
    return True, f"{found.name}, same digest; {len(lineage(run, full=True)) - 1} ancestors verified"


def _measured(run: Path, manifest: Manifest) -> tuple[bool, str]:
    results = read_results(run)
    modalities = [*manifest.modalities["seen"], *manifest.modalities["new"]]
    without = [m for m in dict.fromkeys(modalities) if not any(s.modality == m for s in results.scores)]
    if without:
        return False, f"no score of {', '.join(without)}"
    if results.run not in (manifest.name, run.resolve().name, ""):
        return False, f"the results are those of {results.run}"
    for score in results.scores:
        shares = score.shares()
        if shares and abs(sum(shares) / len(shares) - score.value) > _ROUNDING:
            told = f"{score.metric} of {score.modality} ({score.task}, {score.split}) is {score.value:.4f}"
            return False, f"{told}, its items have {sum(shares) / len(shares):.4f}: one was altered"
    return results.step == manifest.steps, f"{len(results.scores)} scores after step {results.step}"


def _checkpoint(run: Path, manifest: Manifest) -> Path:
    if manifest.checkpoint is None:
        raise ModalignError(f"run {manifest.name} has no final checkpoint: it is {manifest.status}")
    return run / manifest.checkpoint["path"]


CHECKS: dict[str, Check] = {
    "ended": _ended,
    "identity": _named,
    "trained": _trained,
    "frozen": _frozen,
    "consumed": _consumed,
    "data": _data,
    "parent": _parent,
    "measured": _measured,
}
