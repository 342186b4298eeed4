"""What an evaluation found in W&B's terms: samples with their media and texts, scores, ledger and router as charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modalign.callbacks.wandb_media import shown_medium
from modalign.evaluation.ledger import Ledger
from modalign.evaluation.report.samples import is_right
from modalign.evaluation.report.source import RunRecord, ledger_of, read_ancestors, read_run
from modalign.evaluation.scores import Results, ShownSample

_SCORES = ("modality", "task", "split", "metric", "value", "low", "high", "chance", "items")
_TEXTS = ("split", "key", "question", "reference", "generated", "right")


def evaluation_values(folder: Path) -> dict[str, Any]:
    """Everything to be logged of the results in a run's folder; nothing where it was not evaluated."""
    run = read_run(folder)
    if run.results is None:
        return {}
    chain = [*read_ancestors(run), run]
    values: dict[str, Any] = {"phase": len([r for r in chain if r.results is not None])}
    values |= _scores(run.results) | _samples(folder, run.results) | _router(run.results)
    if (ledger := ledger_of(chain)) is not None:
        values |= _ledger(ledger)
    if run.results.text_loss is not None:
        values["score/text_loss"] = run.results.text_loss.value
    return values | _parts(run)


def _scores(results: Results) -> dict[str, Any]:
    """Each score as a number of its own, and all with intervals and chance in one table."""
    import wandb

    rows = [[s.modality, s.task, s.split, s.metric, s.value, s.low, s.high, s.chance, s.n] for s in results.scores]
    single = {f"score/{s.task}/{s.split}/{s.metric}/{s.modality}": s.value for s in results.scores}
    return {**single, "scores": wandb.Table(columns=list(_SCORES), data=rows)} if rows else {}


def _samples(folder: Path, results: Results) -> dict[str, Any]:
    """A table a modality: its media as W&B shows them, then the texts."""
    import wandb

    groups: dict[str, list[ShownSample]] = {}
    for sample in results.samples:
        groups.setdefault(sample.modality, []).append(sample)
    tables = {}
    for modality, members in groups.items():
        senses = list(dict.fromkeys(sense for sample in members for sense in sample.media))
        table = wandb.Table(columns=[*senses, *_TEXTS])
        for sample in members:
            table.add_data(*(shown_medium(folder, sample, sense) for sense in senses), *_texts(sample))
        tables[f"samples/{modality}"] = table
    return tables


def _texts(sample: ShownSample) -> list[Any]:
    texts = [sample.split, sample.key, sample.question or "", sample.reference, sample.generated]
    return [*texts, is_right(sample)]


def _ledger(ledger: Ledger) -> dict[str, Any]:
    """The ledger as curves over the phases and as a table; its last changes as numbers."""
    import wandb

    rows: list[list[Any]] = []
    curves: dict[str, list[tuple[int, float]]] = {}
    for number, phase in enumerate(ledger.phases):
        for modality in ledger.modalities:
            value = ledger.value(number, modality)
            if value is not None:
                own = ledger.own_phase[modality] == number
                rows.append([number + 1, phase, modality, value, ledger.change(number, modality), own])
                curves.setdefault(modality, []).append((number + 1, value))
    columns = ["phase", "run", "modality", "value", "change since its own phase", "its own phase"]
    last = {m: ledger.final_change(m) for m in ledger.modalities}
    values: dict[str, Any] = {f"ledger/change/{m}": change for m, change in last.items() if change is not None}
    transfers = {"backward": ledger.backward_transfer(), "forward": ledger.forward_transfer()}
    values |= {f"ledger/{name}_transfer": value for name, value in transfers.items() if value is not None}
    if curves:
        values["ledger_chart"] = wandb.plot.line_series(
            [[x for x, _ in curve] for curve in curves.values()], [[y for _, y in curve] for curve in curves.values()],
            keys=list(curves), title=f"{ledger.metric} after each phase", xname="phase",
        )  # fmt: skip
    return {**values, "ledger_table": wandb.Table(columns=list(columns), data=rows)}


def _router(results: Results) -> dict[str, Any]:
    """The router's mean weights and the distances between experts: numbers, a chart a modality, a table."""
    import wandb

    values: dict[str, Any] = {}
    for modality, weights in results.router.items():
        values |= {f"router/{modality}/expert_{k + 1}": weight for k, weight in enumerate(weights)}
        table = wandb.Table(columns=["expert", "weight"], data=[[f"expert {k + 1}", w] for k, w in enumerate(weights)])
        values[f"router_chart/{modality}"] = wandb.plot.bar(table, "expert", "weight", title=f"router: {modality}")
    if len(results.expert_distance) > 1:
        values["expert_distances"] = _matrix(results.expert_distance)
    return values


def _matrix(rows: Sequence[Sequence[float]]) -> Any:
    import wandb

    names = [f"expert {k + 1}" for k in range(len(rows))]
    return wandb.Table(columns=["", *names], data=[[name, *row] for name, row in zip(names, rows, strict=True)])


def _parts(run: RunRecord) -> dict[str, Any]:
    """The freeze map with its proofs."""
    import wandb

    def row(part: Mapping[str, Any]) -> list[Any]:
        proof = part.get("gradient") if part["trains"] else {True: "unchanged", False: "CHANGED"}.get(part["unchanged"])
        return [part["name"], part["parameters"], part["trains"], proof or ""]

    columns = ["part", "parameters", "trains", "gradient, or proof of being frozen"]
    return {"parts": wandb.Table(columns=list(columns), data=[row(part) for part in run.manifest.parts])}
