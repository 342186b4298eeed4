"""The sections that show what a run did: losses, what trained with its proofs, the data, the lineage, the time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from modalign.evaluation.report.charts import line_chart, spans_decades
from modalign.evaluation.report.page import folded, table, text
from modalign.evaluation.report.phrases import count, duration, percent
from modalign.evaluation.report.source import Curves, RunRecord
from modalign.runs.manifest import Manifest

_GRADIENTS = {
    "ok": '<span class="good">gradient finite, not zero</span>',
    "zero": '<span class="bad">gradient zero throughout</span>',
    "none": '<span class="warn">no gradient: never used</span>',
    "nonfinite": '<span class="bad">gradient not finite</span>',
}
_MANY_PARTS = 14


def losses_html(curves: Curves, tints: Mapping[str, int]) -> str:
    """Training and validation loss by modality side by side; every other curve that was kept, folded."""
    charts = []
    for prefix, label in (("train/loss", "training loss"), ("val/loss", "validation loss")):
        members = _below(curves, prefix) or ({"all": curves[prefix]} if prefix in curves else {})
        colours = {name: tints.get(name, 8) for name in sorted(members, key=lambda n: tints.get(n, 99))}
        chart = line_chart(members, colours, "optimizer step", label, width=430, log_y=spans_decades(members))
        charts.append(f"<figure>{chart}</figure>" if chart else "")
    shown = f'<div class="charts">{"".join(charts)}</div>' if any(charts) else ""
    return shown + folded("other curves", _other_curves(curves))


def parts_html(manifest: Manifest) -> str:
    """What trained and what did not, by kind of part, with the proof for each part folded where there are many."""
    parts = manifest.parts
    if not parts:
        return ""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for part in parts:
        kinds.setdefault(part["name"].split(".")[0], []).append(part)
    rows = [[text(kind), *_sums(members)] for kind, members in kinds.items()]
    rows.append(["all", *_sums(parts)])
    whole = table(("kind of part", "parts", "parameters", "of these train"), rows, numbers=(1, 2, 3), last="total")
    header = ("part", "parameters", "", "proof")
    ordered = sorted(parts, key=lambda part: not part["trains"])
    each = table(header, [_part_row(part) for part in ordered], numbers=(1,))
    return whole + (each if len(parts) <= _MANY_PARTS else folded(f"all {len(parts)} parts with their proofs", each))


def data_html(manifest: Manifest) -> str:
    """Per recipe: its size, what was consumed and how often it was seen, and the samples that could not be used."""
    rows = []
    total = sum(manifest.consumed.values()) or 1
    for name, recipe in manifest.recipes.items():
        used, have = manifest.consumed.get(name, 0), recipe.get("samples") or 0
        holes = manifest.holes.get(name, {}).get("count", 0)
        rows.append(
            [
                text(name),
                count(have),
                count(used),
                percent(used / total),
                f"{used / have:.2f}" if have else "",
                f'<span class="warn">{count(holes)}</span>' if holes else "0",
                f"<code>{text(str(recipe.get('digest', ''))[:12])}</code>",
            ]
        )
    header = ("recipe", "samples in it", "consumed", "share", "times seen", "bad, each time read", "digest")
    listing = table(header, rows, numbers=(1, 2, 3, 4, 5)) if rows else ""
    examples = [
        [text(name), text(example["key"]), text(example["reason"])]
        for name, hole in manifest.holes.items()
        for example in hole.get("examples", [])
    ]
    return listing + (f"<h3>Bad samples</h3>{table(('recipe', 'sample', 'reason'), examples)}" if examples else "")


def lineage_html(run: RunRecord, ancestors: Sequence[RunRecord]) -> str:
    """From the first run to this one, then where this one's start values came from."""
    manifest = run.manifest
    rows = [[text(r.manifest.name), text(r.label), count(r.manifest.steps), _weights(r.manifest)] for r in ancestors]
    if manifest.parent and not ancestors:
        rows.append([text(manifest.parent["name"]), "(not found here)", "", _code(manifest.parent["digest"])])
    rows.append([f"{text(manifest.name)} (this run)", text(run.label), count(manifest.steps), _weights(manifest)])
    html = table(("run", "phase", "steps", "digest of its weights"), rows, numbers=(2,))
    starts = [
        [text(s["target"]), text(s["source"]), text(s["rule"]), count(s["tensors"])] for s in manifest.start_values
    ]
    if starts:
        copied = table(("target", "copied from", "rule", "tensors"), starts, numbers=(3,))
        shown = copied if len(starts) <= _MANY_PARTS else folded(f"{len(starts)} rules", copied)
        html += f"<h3>Start values</h3>{shown}"
    return html


def provenance_html(manifest: Manifest) -> str:
    """The command, code, seed and versions, and the resolved configuration folded."""
    code = manifest.code
    revision = f"{code.get('version', '')} {str(code.get('revision') or '')[:12]}"
    revision += " with changes" if code.get("dirty") else ""
    revision += "".join(f", {module} (SHA-256 {digest[:12]})" for module, digest in code.get("own", {}).items())
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    rows = [
        ["command", f"<code>{text(manifest.shell_command)}</code>"],
        ["identity", _code(manifest.identity, 64)],
        ["code", text(revision)],
        ["seed", text(manifest.seed)],
        ["versions", text(versions)],
    ]
    body = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows)
    config = f"<pre><code>{text(json.dumps(manifest.config, indent=2, ensure_ascii=False))}</code></pre>"
    return f'<div class="scroll"><table>{body}</table></div>{folded("resolved configuration", config)}'


def time_html(seconds: Mapping[str, float]) -> str:
    """Where the time went, as a table with bars."""
    if not seconds:
        return ""
    total = sum(seconds.values()) or 1
    rows = [[text(name), duration(value), _share_bar(value / total)] for name, value in seconds.items()]
    rows.append(["all", duration(total), ""])
    return table(("section", "time", ""), rows, numbers=(1,), last="total")


def _below(curves: Curves, prefix: str) -> Curves:
    return {name.removeprefix(f"{prefix}/"): curve for name, curve in curves.items() if name.startswith(f"{prefix}/")}


def _other_curves(curves: Curves) -> str:
    groups: dict[str, Curves] = {}
    for name, curve in curves.items():
        if not name.startswith(("train/loss", "val/loss")):
            group, _, rest = name.rpartition("/")
            groups.setdefault(group or name, {})[rest] = curve
    charts = []
    for group, members in groups.items():
        colours = {name: i for i, name in enumerate(members)}
        log_y = spans_decades(members)
        charts.append(line_chart(members, colours, "optimizer step", group, width=430, height=210, log_y=log_y))
    return f'<div class="charts">{"".join(f"<figure>{chart}</figure>" for chart in charts)}</div>' if charts else ""


def _sums(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    total = sum(part["parameters"] for part in parts)
    training = sum(part["parameters"] for part in parts if part["trains"])
    share = f"{count(training)} ({percent(training / total)})" if training else "none"
    return [count(len(parts)), count(total), share]


def _part_row(part: Mapping[str, Any]) -> list[str]:
    if part["trains"]:
        return [_bold(part["name"]), count(part["parameters"]), "trains", _GRADIENTS.get(str(part.get("gradient")), "")]
    proof = {
        "True": '<span class="good">same to the bit</span>',
        "False": '<span class="bad">CHANGED though frozen</span>',
    }.get(str(part.get("unchanged")), "")
    return [text(part["name"]), count(part["parameters"]), "frozen", proof]


def _bold(name: str) -> str:
    return f"<strong>{text(name)}</strong>"


def _weights(manifest: Manifest) -> str:
    return _code(manifest.checkpoint["digest"]) if manifest.checkpoint else ""


def _code(digest: str, length: int = 12) -> str:
    return f"<code>{text(digest[:length])}</code>"


def _share_bar(share: float) -> str:
    return (
        f'<svg viewBox="0 0 160 12" style="width:160px"><rect width="{160 * share:.1f}" height="12" rx="2" '
        'fill="var(--c0)" fill-opacity=".6"/></svg>'
    )
