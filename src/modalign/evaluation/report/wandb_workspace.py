"""What W&B shows of an experiment, as a workspace or a report: built from run folders alone, saved by whoever asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modalign.errors import ModalignError
from modalign.evaluation.report.comparison import labels_of
from modalign.evaluation.report.phrases import points, score_interval, score_value
from modalign.evaluation.report.source import RunRecord, ledger_of, read_ancestors

Panels = Mapping[str, Sequence[Any]]


def build_workspace(runs: Sequence[RunRecord], entity: str, project: str, group: str) -> Any:
    """A W&B workspace of the runs of `group`: a section each for scores, losses, ledger, router, samples, speed."""
    workspaces, reports = _libraries()
    sections = [
        workspaces.Section(name=name, panels=list(panels), is_open=number < 3)
        for number, (name, panels) in enumerate(panels_of(runs, reports).items())
    ]
    return workspaces.Workspace(
        entity=entity, project=project, name=f"modalign {group}", sections=sections,
        settings=workspaces.WorkspaceSettings(x_axis="step"),
        runset_settings=workspaces.RunsetSettings(filters=f"Group = '{group}'"),
    )  # fmt: skip


def build_report(runs: Sequence[RunRecord], entity: str, project: str, group: str) -> Any:
    """A W&B report of the same: the scores as they stood when it was built in words, then the live panels."""
    _, reports = _libraries()
    runset = reports.Runset(entity=entity, project=project, name=group, filters=f"Group = '{group}'")
    blocks: list[Any] = [
        reports.TableOfContents(),
        reports.H1(text="What was found"),
        reports.MarkdownBlock(summary_of(runs)),
    ]
    for name, panels in panels_of(runs, reports).items():
        blocks += [reports.H1(text=name), reports.PanelGrid(runsets=[runset], panels=list(panels))]
    return reports.Report(
        entity=entity, project=project, title=f"modalign: {group}", description=f"{len(runs)} runs", blocks=blocks,
        width="fluid",
    )  # fmt: skip


def panels_of(runs: Sequence[RunRecord], reports: Any) -> Panels:
    """The panels by section, of what the runs measured; a section without panels is left out."""
    modalities = list(dict.fromkeys(m for run in runs for m in run.modalities))
    curves = {name for run in runs for name in run.curves}
    found = {
        "Scores": [
            reports.BarPlot(
                title=f"{task}, {split}: {metric}", metrics=[f"score/{task}/{split}/{metric}/{m}" for m in names]
            )
            for (task, split, metric), names in _scored(runs).items()
        ],
        "Losses by modality": [
            reports.LinePlot(title=f"{m} over its own samples", x=f"samples/{m}", y=_known(curves, m), log_y=True)
            for m in modalities
            if _known(curves, m)
        ],
        "Losses by step": [
            reports.LinePlot(title=f"{m} over optimizer steps", x="step", y=_known(curves, m), log_y=True)
            for m in modalities
            if _known(curves, m)
        ],
        "Ledger": [
            reports.BarPlot(title="change since its own phase", metrics=[f"ledger/change/{m}" for m in modalities]),
            reports.BarPlot(title="transfer", metrics=["ledger/backward_transfer", "ledger/forward_transfer"]),
            reports.LinePlot(title="plain-text loss after each phase", x="phase", y=["score/text_loss"]),
        ],
        "Router": [
            reports.BarPlot(title=f"router: {m}", metrics=[f"router/{m}/expert_{k + 1}" for k in range(count)])
            for m, count in _experts(runs).items()
        ],
        "Samples": [reports.WeavePanelSummaryTable(table_name=f"samples/{m}") for m in modalities if _shown(runs, m)],
        "What trained": [reports.WeavePanelSummaryTable(table_name="parts"), reports.RunComparer(diff_only="split")],
        "Speed": [
            reports.LinePlot(title=name, x="step", y=[name]) for name in sorted(curves) if name.startswith("speed/")
        ],
    }
    return {name: panels for name, panels in found.items() if panels}


def summary_of(runs: Sequence[RunRecord]) -> str:
    """The runs in Markdown: what each added, its scores on its own new modalities, its largest fall."""
    lines = ["| run | new | steps | scores of the new, test | largest fall |", "|---|---|---|---|---|"]
    for name, run in labels_of(runs).items():
        scores = [s for s in (run.results.scores if run.results else ()) if s.split == "test" and s.modality in run.new]
        best = [s for s in scores if s.metric in ("attribute_accuracy", "exact_match")]
        told = ", ".join(f"{s.modality} {s.task} {score_value(s)} ({score_interval(s)})" for s in best)
        ledger = ledger_of([*read_ancestors(run), run])
        worst = ledger.worst_forgetting() if ledger else None
        fall = f"{points(worst.change)} points, {worst.modality}" if worst else ""
        lines.append(f"| {name} | {', '.join(run.new)} | {run.manifest.steps} | {told} | {fall} |")
    return "\n".join(lines)


def _scored(runs: Sequence[RunRecord]) -> dict[tuple[str, str, str], list[str]]:
    """The modalities of each task, split and metric."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for run in runs:
        for s in run.results.scores if run.results else ():
            names = found.setdefault((s.task, s.split, s.metric), [])
            names += [s.modality] if s.modality not in names else []
    return found


def _known(curves: set[str], modality: str) -> list[str]:
    return [name for name in (f"train/loss/{modality}", f"val/loss/{modality}") if name in curves]


def _experts(runs: Sequence[RunRecord]) -> dict[str, int]:
    """How many experts the router of each modality chooses among, in the run that has most."""
    found: dict[str, int] = {}
    for run in runs:
        for modality, weights in (run.results.router if run.results else {}).items():
            found[modality] = max(found.get(modality, 0), len(weights))
    return found


def _shown(runs: Sequence[RunRecord], modality: str) -> bool:
    return any(sample.modality == modality for run in runs if run.results for sample in run.results.samples)


def _libraries() -> tuple[Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as reports
        import wandb_workspaces.workspaces as workspaces
    except ImportError:
        raise ModalignError(
            "modalign wandb-report needs the package wandb-workspaces: pip install 'modalign[wandb]'"
        ) from None
    return workspaces, reports
