"""The report's section on probes: whether each sensor is used, and what its soft tokens and its router are like."""

from __future__ import annotations

from modalign.evaluation.probes.findings import ModalityProbe, Probes
from modalign.evaluation.report.page import folded, table, text
from modalign.evaluation.report.phrases import count, percent

_WORDS = 8


def probes_html(probes: Probes | None, share: float | None = None) -> str:
    """Tables of everything that was probed; `share` of the training's time went into it, where that is known."""
    if probes is None or not probes.modalities:
        return ""
    intro = (
        "<p>The loss (nats per supervised token) with the input that belongs to the text, with another sample's, and "
        "with a blank one. A sensor is used where the wrong input surely costs something.</p>"
    )
    header = ("modality", "after step", "items", "loss", "shuffled", "blank", "gain (95 % interval)", "used",
              "own caption first", "among five", "of")  # fmt: skip
    rows = [_use_row(name, probe) for name, probe in probes.modalities.items()]
    shown = table(header, rows, numbers=(1, 2, 3, 4, 5, 6, 8, 9, 10))
    cost = "" if share is None else f'<p class="soft">Probing took {percent(share)} of the training\'s time.</p>'
    return intro + shown + _router(probes) + _words(probes) + folded("gradient by part", _gradients(probes)) + cost


def _use_row(name: str, probe: ModalityProbe) -> list[str]:
    use, found = probe.use, probe.retrieval
    verdict = '<span class="good">yes</span>' if use.used else '<span class="bad">NO: ignored</span>'
    ranked = ["", "", ""]
    if found is not None:
        ranked = [
            f"{percent(found.at_1)} <small>chance {percent(found.chance_1)}</small>",
            f"{percent(found.at_5)} <small>chance {percent(found.chance_5)}</small>",
            count(found.candidates),
        ]
    losses = [f"{value:.3f}" for value in (use.real, use.shuffled, use.blank)]
    gain = f"{use.gain:+.3f} <small>({use.low:+.3f} to {use.high:+.3f})</small>"
    return [text(name), count(probe.step), count(probe.items), *losses, gain, verdict, *ranked]


def _router(probes: Probes) -> str:
    routed = {name: probe.routing for name, probe in probes.modalities.items() if probe.routing}
    if not routed:
        return ""
    experts = max(len(routing.load) for routing in routed.values())
    header = ("modality", *(f"expert {k + 1}" for k in range(experts)), "entropy of a token", "balance of the load")
    rows = [
        [text(name), *(percent(load) for load in r.load), f"{r.entropy:.2f}", f"{r.balance:.2f}"]
        for name, r in routed.items()
    ]
    note = (
        '<p class="soft">Entropies as shares of the largest: a token of entropy 0 has chosen one expert; a balance of '
        "1 is a load that all experts share alike.</p>"
    )
    return "<h3>Router load</h3>" + table(header, rows, numbers=range(1, experts + 3)) + note


def _words(probes: Probes) -> str:
    rows = []
    for name, probe in probes.modalities.items():
        best = sorted(probe.words, key=lambda word: -word.cosine)[:_WORDS]
        said = ", ".join(f"{text(word.word.strip())} <small>{word.cosine:.2f}</small>" for word in best)
        rows += [[text(name), said]] if best else []
    if not rows:
        return ""
    return "<h3>Nearest words to the soft tokens</h3>" + table(("modality", "word, with its cosine"), rows)


def _gradients(probes: Probes) -> str:
    parts = list(dict.fromkeys(part for probe in probes.modalities.values() for part in probe.gradients))
    with_gradients = [name for name, probe in probes.modalities.items() if probe.gradients]
    rows = [
        [text(part), *(f"{probes.modalities[name].gradients.get(part, 0.0):.2e}" for name in with_gradients)]
        for part in parts
    ]
    return table(("part", *with_gradients), rows, numbers=range(1, len(with_gradients) + 1)) if rows else ""
