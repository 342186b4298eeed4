"""`modalign compare RUN RUN`: in which settings two runs differ, what they read, what they trained, what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modalign.cli.parser import VerbParser
from modalign.cli.terminal import count, print_table, say
from modalign.evaluation.score_difference import Difference, score_difference
from modalign.evaluation.scores import RESULTS_FILE, Results, Score, read_results
from modalign.runs.identity import differences
from modalign.runs.manifest import Manifest, read_manifest

SUMMARY = """Put two runs side by side: the settings of their identities that differ, the samples they read, the parts
they trained, and the scores that both have, each difference with its 95 % interval (item by item where both kept the
results of the same items). The first run is what the second is compared with."""
HEADLINES = ("attribute_accuracy", "exact_match")


def run(arguments: Sequence[str]) -> int:
    """Print the tables."""
    parser = VerbParser("compare", SUMMARY, ["modalign compare runs/align-audio-1a2b3c4d runs/align-audio-5e6f7a8b"])
    parser.add_argument("first", metavar="RUN", type=Path)
    parser.add_argument("second", metavar="RUN", type=Path)
    parser.add_argument("--all", action="store_true", help="parts that are alike too, and CIDEr, BLEU-4, ROUGE-L")
    options = parser.parse(arguments)
    first, second = read_manifest(options.first), read_manifest(options.second)
    changed = differences(first.spec, second.spec)
    say("the settings that make up the runs are equal" if not changed else f"{len(changed)} settings differ:")
    for line in changed:
        say(f"  {line}")
    ways = [manifest.extra.get("measuring", {}) for manifest in (first, second)]
    if all(ways) and (apart := differences(*ways)):
        say(f"they were measured in other ways: {'; '.join(apart)}")
    names = (options.first.resolve().name, options.second.resolve().name)
    _data(first, second, names)
    _parts(first, second, names, options.all)
    results = [read_results(p) if (p / RESULTS_FILE).is_file() else None for p in (options.first, options.second)]
    missing = [m.name for m, found in zip((first, second), results, strict=True) if found is None]
    if missing:
        say(f"\nno results: {', '.join(missing)} (`modalign evaluate` with the run's folder measures it)")
    if results[0] is not None and results[1] is not None:
        _scores(results[0], results[1], _same_data(first, second), names, options.all)
    return 0


def _data(first: Manifest, second: Manifest, names: tuple[str, str]) -> None:
    rows = []
    for recipe in dict.fromkeys([*first.consumed, *second.consumed]):
        cells = [_consumed(manifest, recipe) for manifest in (first, second)]
        digests = [manifest.recipes.get(recipe, {}).get("digest") for manifest in (first, second)]
        other = "other shards" if None not in digests and digests[0] != digests[1] else ""
        rows.append([recipe, *cells, other])
    if rows:
        say("\nsamples read (passes)")
        print_table(("recipe", *names, ""), rows, numbers=(1, 2))


def _consumed(manifest: Manifest, recipe: str) -> str:
    read, size = manifest.consumed.get(recipe, 0), manifest.recipes.get(recipe, {}).get("samples")
    return f"{count(read)} ({read / size:.1f})" if read and size else count(read) if read else "none"


def _parts(first: Manifest, second: Manifest, names: tuple[str, str], everything: bool) -> None:
    states = [{part["name"]: _state(part) for part in manifest.parts} for manifest in (first, second)]
    rows = []
    for part in dict.fromkeys([*states[0], *states[1]]):
        row = [part, *(state.get(part, "not there") for state in states)]
        if everything or row[1] != row[2]:
            rows.append(row)
    if rows:
        say("\nparts" if everything else "\nparts that one of them alone trained or has")
        print_table(("part", *names), rows)
    else:
        say("\nboth trained the same parts and froze the same")


def _state(part: dict[str, object]) -> str:
    """What a part did and what is proved of it."""
    if part["trains"]:
        return "trained" if part["gradient"] == "ok" else f"trained (gradient {part['gradient']})"
    return {True: "frozen, unchanged", False: "frozen, CHANGED"}.get(part["unchanged"], "frozen")  # type: ignore[call-overload,no-any-return]


def _same_data(first: Manifest, second: Manifest) -> bool:
    """Whether the recipes that both know are of the same data: the measured items are their first ones.

    For scores that keep no digest of their items.
    """
    recipes, others = first.spec.get("recipes", {}), second.spec.get("recipes", {})
    shared = recipes.keys() & others.keys()
    return bool(shared) and all(others[name] == recipes[name] for name in shared)


def _scores(first: Results, second: Results, same_items: bool, names: tuple[str, str], everything: bool) -> None:
    rows, paired = [], True
    for score in first.scores:
        other = second.find(score.modality, score.task, score.split, score.metric)
        if other is None or not (everything or score.metric in HEADLINES):
            continue
        apart = score_difference(score, other, same_items)
        paired = paired and (apart.paired or score.metric not in HEADLINES)
        rows.append(_row(score, other, apart, everything))
    say("\nscores that both have, with 95 % intervals" if rows else "\nno score that both have")
    if rows:
        metric = ("metric",) if everything else ()
        header = ("modality", "task", "split", *metric, *names, "difference", "", "")
        print_table(header, rows, numbers=tuple(range(3 + len(metric), 6 + len(metric))))
        say("beyond: the interval of the difference leaves zero out (one row of twenty does so by chance)")
        if not paired:
            say("intervals alone: other items, or one of the runs kept no hits by item (`modalign evaluate` adds them)")
    if first.text_loss and second.text_loss:
        one, two = first.text_loss, second.text_loss
        changed = f"{100 * (two.value / one.value - 1):+.1f} %" if one.tokens == two.tokens else "on other texts"
        say(f"plain text: {one.value:.4f} and {two.value:.4f} nats a token ({changed})")


def _row(score: Score, other: Score, apart: Difference, everything: bool) -> list[str]:
    scale, digits = (1, 3) if score.metric == "cider" else (100, 1)

    def told(number: float, sign: str = "") -> str:
        return f"{scale * number:{sign}.{digits}f}"

    cells = [f"{told(s.value)} ({told(s.low)} to {told(s.high)})" for s in (score, other)]
    low, high = told(apart.low, "+"), told(apart.high, "+")
    how = "item by item" if apart.paired else "intervals alone"
    verdict = "beyond" if apart.beyond else "equal on every item" if apart.paired and low == high else "within"
    return [
        score.modality, score.task, score.split, *([score.metric] if everything else []), *cells,
        told(apart.value, "+") + (" points" if scale == 100 else ""),
        f"{low} … {high}, {how}", verdict,
    ]  # fmt: skip
