"""The bench's report in words: a table for a terminal, and the block of a page that holds it."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from pathlib import Path

from modalign.bench.run import MAX_SPREAD, Report, Verdict
from modalign.errors import ModalignError

HEADER = ("row", "ratio", "lowest to highest", "FLOP ratio", "A/A", "gate", "target", "verdict", "ours", "peer")
NUMBERS = (1, 2, 3, 4, 5, 6)
_BLOCK = re.compile(r"<!-- bench -->.*?<!-- /bench -->", re.DOTALL)


def cells(verdict: Verdict) -> list[str]:
    """One row of the table."""
    result, bar = verdict.result, verdict.bar
    ratio = result.ratio
    return [
        verdict.name, number(ratio.value), f"{number(ratio.low)} to {number(ratio.high)}",
        "" if result.flops is None else number(result.flops),
        "" if result.spread is None else f"{100 * result.spread:.1f} %",
        "" if bar is None else bound(bar.gate, verdict.row.less),
        "" if bar is None else bound(bar.target, verdict.row.less),
        verdict.word, result.ours, result.peer,
    ]  # fmt: skip


def number(value: float) -> str:
    """A ratio with as many places as mean something."""
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def bound(value: float, less: bool) -> str:
    """A bar, with the way it points."""
    return f"{'≤' if less else '≥'} {value:g}"


def facts(report: Report) -> list[str]:
    """What the table was measured on, in lines."""
    told, versions = report.machine, report.machine["versions"]
    rates = ", ".join(f"{name} {rate / 1e9:,.0f} GFLOP/s" for name, rate in report.gemm.items())
    load = f"load {told['load']} at the start"
    return [
        f"{told['gpu'] or told['processor']}; {told['threads']} threads of {told['cores']} cores, "
        f"kernels {told['kernels']}, {load}",
        f"products of matrices in the same run: {rates}",
        f"size {' '.join((report.size, *report.changes))}, {report.rounds} rounds (three times as many of what a "
        f"framework costs on the same batches), {report.clock} clock, {told['date']}, "
        f"Python {told['python']}, " + ", ".join(f"{name} {version}" for name, version in versions.items()),
    ]


def markdown(report: Report) -> str:
    """The marked block of a page."""
    lines = ["<!-- bench -->", "| what | ratio | lowest to highest | FLOP ratio | A/A | gate / target | verdict |"]
    lines.append("|---|---|---|---|---|---|---|")
    for verdict in report.verdicts:
        _, ratio, span, flops, again, gate, target, word, ours, peer = cells(verdict)
        bars = f"{gate} / {target}" if gate else ""
        what = f"`{verdict.name}` {verdict.row.title} ({ours}; peer {peer})"
        lines.append(f"| {what} | **{ratio}** | {span} | {flops} | {again} | {bars} | {word} |")
    return "\n".join(
        [
            *lines, "", *(f"{line}." for line in unjudged(report)), ". ".join(facts(report)) + ".", "",
            *(f"- {line}." for line in ceilings(report)), "<!-- /bench -->",
        ]
    )  # fmt: skip


def ceilings(report: Report) -> list[str]:
    """How near steps are to the rate of large products, and what a row's ratio is where ours has all of it.

    That rate is torch's own product's, measured when the bench begins: on a shared host a step may find another, and
    where linear maps take oneDNN's kernel its rate may be a fifth higher, so this is no bound.
    """
    lines = []
    for verdict in report.verdicts:
        result = verdict.result
        rate = report.gemm.get(result.computes)
        if result.work is None or not rate:
            continue
        ours, peer = (
            work / statistics.median(result.seconds[who]) / rate
            for work, who in zip(result.work, ("ours", "peer"), strict=True)
        )
        most = result.work[1] / result.work[0] / peer
        lines.append(
            f"{verdict.name}: ours at {ours:.2f} of the rate of products in {result.computes}, its peer at {peer:.2f}; "
            f"if ours were at all of it, the ratio would be {number(most)}"
        )
    return lines


def unjudged(report: Report) -> list[str]:
    """Why some rows have no verdict, where that is so."""
    count = sum(verdict.word.startswith("not judged") for verdict in report.verdicts)
    if not count:
        return []
    return [
        f"{count} of {len(report.verdicts)} rows are not judged: ours timed twice differs by more than "
        f"{100 * MAX_SPREAD:.0f} %, so the machine was too busy for them"
    ]


def write_page(page: Path, report: Report) -> None:
    """Put the block into a page that has one."""
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise ModalignError(f"--page {page}: {error.strerror}") from error
    if not _BLOCK.search(text):
        raise ModalignError(f"--page {page} has no block between <!-- bench --> and <!-- /bench -->: add both lines")
    page.write_text(_BLOCK.sub(lambda _: markdown(report), text), encoding="utf-8")


def below(verdicts: Sequence[Verdict]) -> list[str]:
    """Names of the rows that miss their gate."""
    return [verdict.name for verdict in verdicts if verdict.word == "below"]
