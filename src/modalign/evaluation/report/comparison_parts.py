"""What several runs trained, how they were set, what their routers do, and what they say of the same samples."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from modalign.evaluation.report.charts import stacked_bars
from modalign.evaluation.report.media import Medium, show
from modalign.evaluation.report.page import folded, table, text
from modalign.evaluation.report.phrases import METRIC_NAMES, SPLIT_NAMES, count, score_interval, score_value
from modalign.evaluation.report.samples import is_right, marked
from modalign.evaluation.report.source import RunRecord
from modalign.evaluation.scores import ShownSample

Runs = Mapping[str, RunRecord]

_MARKS = {
    (True, "ok"): '<span class="good">trained</span>',
    (True, "zero"): '<span class="bad">trained, gradient zero</span>',
    (True, "none"): '<span class="warn">trained, never used</span>',
    (True, "nonfinite"): '<span class="bad">trained, gradient not finite</span>',
    (False, True): '<span class="soft">frozen, proved</span>',
    (False, False): '<span class="bad">frozen, CHANGED</span>',
}
_MANY = 16
_SHOWN_PER_MODALITY = 2
_LONGEST = 70
_ABSENT = "(absent)"


def freeze_map_html(runs: Runs) -> str:
    """A row a part, a column a run: trained or frozen, with the proof; equal rows are folded."""
    parts: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, run in runs.items():
        for part in run.manifest.parts:
            parts.setdefault(part["name"], {})[name] = part
    same: list[list[str]] = []
    differ: list[list[str]] = []
    for name_of_part, where in parts.items():
        cells = [_mark(where[name]) if name in where else '<span class="soft">·</span>' for name in runs]
        (same if len(set(cells)) == 1 else differ).append([text(name_of_part), *cells])
    header = ("part", *runs)
    shown = table(header, differ) if differ else "<p>Every part is treated alike.</p>" if same else ""
    equal = table(header, same) if same else ""
    return shown + (folded(f"{len(same)} parts alike in all runs", equal) if differ else equal)


def settings_html(runs: Runs) -> str:
    """The settings of the runs' identities in which they differ, then those of the whole configuration, folded."""
    meant = _table_of_differences({name: _flat(run.manifest.spec) for name, run in runs.items()})
    whole = _table_of_differences({name: _flat(run.manifest.config) for name, run in runs.items()})
    if not meant:
        meant = "<p>The settings that make up the runs are equal.</p>"
    return meant + folded("differences in the whole configuration", whole)


def routers_html(runs: Runs) -> str:
    """The routers' mean weights, a group of bars a modality, and the mean distance between a run's experts."""
    weights: dict[str, tuple[float, ...]] = {}
    for modality in dict.fromkeys(m for run in runs.values() if run.results for m in run.results.router):
        for name, run in runs.items():
            if run.results and modality in run.results.router:
                weights[f"{modality} · {name}"] = run.results.router[modality]
    most = max((len(row) for row in weights.values()), default=0)
    bars = stacked_bars(weights, [f"expert {k + 1}" for k in range(most)]) if weights else ""
    rows = [[text(name), _mean_distance(run)] for name, run in runs.items() if _mean_distance(run)]
    return bars + (table(("run", "mean distance between experts"), rows, numbers=(1,)) if rows else "")


def samples_beside_html(runs: Runs) -> str:
    """The items that more than one run was shown, with what each of them said."""
    said: dict[tuple[str, str, str, str | None], dict[str, ShownSample]] = {}
    for name, run in runs.items():
        for sample in run.results.samples if run.results else ():
            said.setdefault((sample.modality, sample.split, sample.key, sample.question), {})[name] = sample
    groups: dict[str, list[dict[str, ShownSample]]] = {}
    for (modality, *_), found in said.items():
        if len(found) > 1:
            groups.setdefault(modality, []).append(found)
    html = []
    for modality, members in groups.items():
        cards = "".join(_card(runs, found) for found in members[:_SHOWN_PER_MODALITY])
        html.append(f'<h3>{text(modality)}</h3><div class="cards wide">{cards}</div>')
    return "".join(html)


def results_table_html(runs: Runs) -> str:
    """Every number of every run in one folded table."""
    keys = dict.fromkeys(
        (s.modality, s.task, s.split, s.metric) for run in runs.values() if run.results for s in run.results.scores
    )
    rows = []
    for modality, task, split, metric in keys:
        found = [run.results.find(modality, task, split, metric) if run.results else None for run in runs.values()]
        cells = [f"{score_value(s)} <small>({score_interval(s)})</small>" if s else "" for s in found]
        rows.append(
            [
                text(modality),
                text(task),
                text(SPLIT_NAMES.get(split, split)),
                text(METRIC_NAMES.get(metric, metric)),
                *cells,
            ]
        )
    loss = [
        f"{run.results.text_loss.value:.4f}" if run.results and run.results.text_loss else "" for run in runs.values()
    ]
    rows += [["plain text", "loss", "test", "nats per token", *loss]] if any(loss) else []
    listing = table(("modality", "task", "split", "metric", *runs), rows, numbers=range(4, 4 + len(runs)))
    return listing if 0 < len(rows) <= _MANY else folded(f"{count(len(rows))} numbers", listing) if rows else ""


def _mark(part: Mapping[str, Any]) -> str:
    trains = bool(part["trains"])
    return _MARKS.get(
        (trains, part.get("gradient") if trains else part.get("unchanged")), "trains" if trains else "frozen"
    )


def _card(runs: Runs, found: Mapping[str, ShownSample]) -> str:
    name, sample = next(iter(found.items()))
    folder = runs[name].folder
    media = "".join(
        show(Medium(sense, folder / file, sample.display.get(sense), sample.axes.get(sense, {})))
        for sense, file in sample.media.items()
    )
    rows = [("asked", text(sample.question))] if sample.question else []
    rows.append(("reference", text(sample.reference)))
    rows += [(text(run), _said(one) or "<em>nothing</em>") for run, one in found.items()]
    listing = "".join(f"<dt>{label}</dt><dd>{value}</dd>" for label, value in rows)
    split = SPLIT_NAMES.get(sample.split, sample.split)
    footer = f"<footer><span>{text(split)}, {text(sample.key)}</span></footer>"
    return f'<article class="card"><div class="media">{media}</div><dl>{listing}</dl>{footer}</article>'


def _said(sample: ShownSample) -> str:
    return text(sample.generated) if is_right(sample) else marked(sample.generated, sample.reference)


def _mean_distance(run: RunRecord) -> str:
    rows = run.results.expert_distance if run.results else ()
    values = [value for i, row in enumerate(rows) for value in row[i + 1 :]]
    return f"{sum(values) / len(values):.3f}" if values else ""


def _table_of_differences(flat: Mapping[str, Mapping[str, Any]]) -> str:
    """Settings that all runs have and that differ, then, folded, those that only some of them have."""
    everywhere: list[list[str]] = []
    somewhere: list[list[str]] = []
    for key in dict.fromkeys(key for values in flat.values() for key in values):
        values = [_short(found[key]) if key in found else _ABSENT for found in flat.values()]
        if len({str(found.get(key, _ABSENT)) for found in flat.values()}) > 1:
            row = [f'<code style="white-space:nowrap">{text(key)}</code>', *(text(value) for value in values)]
            (somewhere if _ABSENT in values else everywhere).append(row)
    header = ("setting", *flat)
    shown = table(header, everywhere) if everywhere else ""
    rest = folded(f"{len(somewhere)} settings that not every run has", table(header, somewhere)) if somewhere else ""
    return shown + rest


def _short(value: Any) -> str:
    words = str(value)
    if re.fullmatch(r"[0-9a-f]{40,}", words):
        return words[:12]
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted key; a list that holds mappings is opened too."""
    if isinstance(value, list) and any(isinstance(child, Mapping) for child in value):
        value = {str(i): child for i, child in enumerate(value)}
    if isinstance(value, Mapping) and value:
        return {
            key: leaf
            for name, child in value.items()
            for key, leaf in _flat(child, f"{prefix}.{name}" if prefix else str(name)).items()
        }
    return {prefix: value}
