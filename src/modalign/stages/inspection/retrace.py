"""Train a run's steps again up to one that is to be seen, in a scratch folder: the run itself is only read."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from modalign.callbacks.metrics import MetricsWriter
from modalign.config.recipes import RecipeBook
from modalign.config.schema import Settings, StageSettings
from modalign.config.specs import RunSpec
from modalign.errors import ModalignError
from modalign.runs.folder import RunFolder
from modalign.runs.interrupt import InterruptFlag
from modalign.runs.lineage import parent_of
from modalign.runs.manifest import Manifest
from modalign.runs.metrics import MetricLog
from modalign.stages.base import StageModule
from modalign.stages.engine import Engine, machine_state
from modalign.stages.inspection.proof import RowProof, WeightProof, changes_since, compare_rows, compare_weights
from modalign.stages.inspection.route import Route
from modalign.stages.inspection.witness import StepSeen, StepWitness
from modalign.stages.load_run import spec_of
from modalign.stages.measure import Measure
from modalign.stages.phase_run import PhaseRun
from modalign.stages.sources import SourceBook

TOKENIZER = "tokenizer"


@dataclass(frozen=True, slots=True)
class Inspection:
    """A step that was seen again, what of the run it was compared with, and what is other now than then."""

    seen: StepSeen
    rows: RowProof
    weights: WeightProof | None
    changes: list[str]
    tokenizer: Any

    @property
    def holds(self) -> bool:
        """Whether everything that could be compared is equal to the bit."""
        return self.rows.holds and (self.weights is None or self.weights.holds)


def retrace(route: Route, settings: Settings) -> Inspection:
    """Train along a route, on this machine and in one process.

    ModalignError where data or parent are gone or altered, or `settings` would make another run.
    """
    manifest = route.manifest
    spec = trained_spec(manifest)
    settings = _alone(settings, manifest)
    _require_same_meaning(spec, settings)
    sources = SourceBook(settings, RecipeBook(settings))
    sources.ensure(list(spec.recipes))
    _require_same_data(manifest, sources)
    parent = parent_of(route.run, manifest)
    with tempfile.TemporaryDirectory(prefix="modalign-inspect-") as scratch:
        folder = RunFolder(Path(scratch) / route.run.resolve().name).prepare()
        if (route.run / TOKENIZER).is_dir():
            shutil.copytree(route.run / TOKENIZER, folder.path / TOKENIZER)
        parent_folder = RunFolder(parent) if parent else None
        phase = PhaseRun(spec, folder, parent_folder, sources, Measure(sources), manifest.command, manifest.config)
        module, data, _ = phase.assemble()
        _require_same_parts(manifest, module)
        engine = Engine(sources, spec, folder, InterruptFlag(), manifest.config)
        log, witness = MetricLog(folder.metrics_file), StepWitness(route.step, route.last)
        writer = MetricsWriter(log, settings.trainer.log_every, engine.source_names())
        engine.train(module, data, [writer, witness], route.start)
        log.close()
        rows = compare_rows([row for row in route.rows if row.step <= route.last], log.read(), route.first)
    weights = compare_weights(route.target, module.state_dict()) if route.target else None
    changes = changes_since(manifest, machine_state(settings.trainer.accelerator, 1))
    return Inspection(witness.seen, rows, weights, changes, module.model.text_tokenizer)


def trained_spec(manifest: Manifest) -> RunSpec:
    """What a run was to train, read back from what its identity is the digest of."""
    name, stage = manifest.spec["stage"]
    try:
        settings = StageSettings.model_validate(stage)
    except ValidationError as error:
        raise ModalignError(
            f"run {manifest.name}: this version of modalign does not read stage {name} of version "
            f"{manifest.code.get('version')}: {error.errors()[0]['msg']}"
        ) from None
    shares = {recipe: Fraction(share) for recipe, share in manifest.spec["mixture"].items()}
    return replace(spec_of(manifest), shares=shares, train=settings.train, stage_settings=settings)


def _alone(settings: Settings, manifest: Manifest) -> Settings:
    """The same in one process without dashboards, with as many threads as the run had."""
    threads = settings.trainer.threads or manifest.extra.get("machine", {}).get("threads", 0)
    changes = {"devices": 1, "num_nodes": 1, "engine": "single", "progress": False, "threads": threads}
    trainer = settings.trainer.model_copy(update=changes)
    logger = settings.logger.model_copy(update={"wandb": False})
    return settings.model_copy(update={"trainer": trainer, "logger": logger})


def _require_same_meaning(spec: RunSpec, settings: Settings) -> None:
    then = {"trainer.precision": spec.meaning["precision"], "seed": spec.meaning["seed"]}
    now: dict[str, Any] = {"trainer.precision": settings.trainer.precision, "seed": settings.seed}
    then |= dict(zip(("data.block", "data.window", "data.max_bad_share"), spec.meaning["order"], strict=False))
    data = settings.data
    now |= {"data.block": data.block, "data.window": data.window, "data.max_bad_share": data.max_bad_share}
    for key, value in then.items():
        if now[key] != value:
            raise ModalignError(f"{key}={now[key]}: run {spec.name} was trained with {value}; leave that setting out")


def _require_same_data(manifest: Manifest, sources: SourceBook) -> None:
    for name, recipe in manifest.recipes.items():
        found = sources.digest(name)
        if found != recipe["digest"]:
            raise ModalignError(
                f"data altered: run {manifest.name} was trained on {name} with digest {recipe['digest'][:12]}, the "
                f"shards at {sources.book.folder(name)} have {found[:12]}: put the earlier ones back, or name their "
                f"folder with --data"
            )


def _require_same_parts(manifest: Manifest, module: StageModule) -> None:
    then = {part["name"] for part in manifest.parts if part["trains"]}
    now = set(module.plan.trains)
    if then != now:
        raise ModalignError(
            f"run {manifest.name} trained {len(then)} parts, this version of modalign would train {len(now)} (they "
            f"differ in {min(then ^ now)}): use the run's own version, {manifest.code.get('version')} "
            f"({manifest.code.get('revision')})"
        )
