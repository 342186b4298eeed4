"""`modalign probe RUN`: what a finished run does with each of its sensors, as tables, JSON and in its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modalign.cli.environment import prepare_environment
from modalign.cli.parser import VerbParser, quoted, settings_only
from modalign.cli.run_settings import changed_settings
from modalign.cli.terminal import print_table, say, working
from modalign.config.recipes import RecipeBook
from modalign.errors import ModalignError, unknown_name
from modalign.evaluation.probes.findings import ModalityProbe, Probes, find_probes, write_probes
from modalign.runs.finished import answering_run
from modalign.runs.folder import RunFolder

if TYPE_CHECKING:
    from modalign.stages.load_run import LoadedRun

SUMMARY = """Ask a finished run's model what it does with each of its sensors: the loss with the real input, a wrong one
and a blank one, retrieval of captions, router, experts, nearest words, gradients. Writes probes.json and the report."""
EXAMPLES = (
    "modalign probe runs/align-audio-1a2b3c4d",
    "modalign probe runs/align-audio-1a2b3c4d --modality audio --items 128 --split test --out probed",
)
_WORDS = 8


def run(arguments: Sequence[str]) -> int:
    """Probe, write, print."""
    options = _parser().parse(arguments)
    manifest = answering_run(options.run)
    overrides = settings_only(options.settings)
    if options.data is not None:
        overrides.append(f"paths.data={quoted(options.data)}")
    settings = changed_settings(manifest, overrides)
    if options.items < 2 or options.candidates < 2:
        raise ModalignError(f"--items {options.items} --candidates {options.candidates}: a probe compares at least two")
    known = [*manifest.modalities["seen"], *manifest.modalities["new"]]
    for name in options.modality or ():
        if name not in known:
            raise unknown_name("modality", name, known, f"run {manifest.name}")
    if options.split is not None:
        book = RecipeBook(settings)
        book.check_split(options.split, [name for one in known for name in book.alignment_recipes(one)])
    prepare_environment()
    from modalign.stages.engine import set_threads
    from modalign.stages.load_run import load_run
    from modalign.stages.notices import quiet_libraries

    quiet_libraries()
    set_threads(settings.trainer.threads, 0)
    with working(lambda: f"loading {manifest.name}"):
        loaded = load_run(options.run, settings)
    with working(lambda: f"probing {manifest.name}"):
        found = probed(loaded, options.modality or known, options.items, options.candidates, options.split)
    target = RunFolder(options.run if options.out is None else options.out / options.run.resolve().name)
    with target.lock():
        earlier = find_probes(target.path) if options.modality else None
        if earlier is not None:
            found = Probes(found.run, found.split, {**earlier.modalities, **found.modalities}, found.expert_distance)
        path = write_probes(target.path, found)
        if options.out is None:
            from modalign.evaluation.report.run_report import write_run_report

            write_run_report(options.run)
    tell(found)
    say(f"probes: {path}")
    if options.out is None:
        say(f"report: {target.report_file}")
    return 0


def _parser() -> VerbParser:
    parser = VerbParser("probe", SUMMARY, EXAMPLES)
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("--modality", action="append", metavar="NAME", help="only this one (may be given again)")
    parser.add_argument("--items", type=int, default=64, metavar="N", help="samples of each modality (default 64)")
    parser.add_argument("--candidates", type=int, default=32, metavar="N", help="captions to choose from (default 32)")
    parser.add_argument("--split", metavar="NAME", help="default: val, or test where a recipe has none")
    parser.add_argument("--out", metavar="DIR", type=Path, help="write to DIR/<run's name>, leave the run as it is")
    parser.add_argument("--data", metavar="DIR", help="folder of shards (paths.data)")
    parser.add_argument("settings", nargs="*", default=[], metavar="key=value", help="trainer.…, data.…, paths.…")
    return parser


def probed(
    loaded: LoadedRun, modalities: Sequence[str], items: int, candidates: int, split: str | None = None
) -> Probes:
    """All probes of a loaded run, gradients of what it trained among them."""
    from modalign.data.collate import Collator
    from modalign.evaluation.probes.routing import expert_distances
    from modalign.models.parts import parts
    from modalign.stages.load_run import measured_sources
    from modalign.stages.probing import SPLITS, Probing

    model, settings, manifest = loaded.model, loaded.settings, loaded.manifest
    tokenizer = model.text_tokenizer
    assert tokenizer is not None
    longest = settings.stages[loaded.spec.stage].max_text_tokens or settings.model.max_text_tokens
    collator = Collator(tokenizer.encode, tokenizer.bos_id, tokenizer.eos_id, longest)
    splits = SPLITS if split is None else (split,)
    probing = Probing(measured_sources(loaded), loaded.spec.stage, collator, items, splits)
    trained, tensors = {part["name"] for part in manifest.parts if part["trains"]}, dict(model.named_parameters())
    groups = {part: [tensors[n] for n in names] for part, names in parts(model).items() if part in trained}
    found: dict[str, ModalityProbe] = {}
    for modality in modalities:
        probe = probing.probe(model, modality, manifest.steps, candidates, groups)
        if probe is None:
            raise ModalignError(
                f"{modality} has fewer than two samples in {' or '.join(splits)}: name another with --split"
            )
        found[modality] = probe
    return Probes(manifest.name, splits[0], found, expert_distances(model))


def tell(probes: Probes) -> None:
    """Print what was found, a table for each question."""
    _tell_use(probes)
    routed = {name: probe.routing for name, probe in probes.modalities.items() if probe.routing}
    if routed:
        count = max(len(routing.load) for routing in routed.values())
        header = ("router", *(f"expert {k}" for k in range(1, count + 1)), "entropy", "balance")
        rows = [
            [name, *(f"{v:.2f}" for v in r.load), f"{r.entropy:.2f}", f"{r.balance:.2f}"] for name, r in routed.items()
        ]
        say("")
        print_table(header, rows, numbers=range(1, count + 3))
    for name, distances in probes.expert_distance.items():
        pairs = [f"{i + 1}-{j + 1} {d:.3f}" for i, row in enumerate(distances) for j, d in enumerate(row) if j > i]
        say(f"\ndistance between the experts of {name}: {', '.join(pairs)}")
    words = [
        [name, *(f"{w.word.strip()} {w.cosine:.2f}" for w in sorted(p.words, key=lambda w: -w.cosine)[:_WORDS])]
        for name, p in probes.modalities.items()
    ]
    width = max(map(len, words))
    if width > 1:
        say("")
        header = ("nearest words", *("" for _ in range(width - 1)))
        print_table(header, [row + [""] * (width - len(row)) for row in words])
    _tell_gradients(probes)


def _tell_use(probes: Probes) -> None:
    header = ("modality", "after step", "items", "loss", "shuffled", "blank", "gain", "95 % interval", "used",
              "caption found", "in five", "of")  # fmt: skip
    rows = []
    for name, probe in probes.modalities.items():
        use, found = probe.use, probe.retrieval
        ranked = (
            [f"{100 * found.at_1:.0f} %", f"{100 * found.at_5:.0f} %", str(found.candidates)] if found else [""] * 3
        )
        losses = [f"{value:.3f}" for value in (use.real, use.shuffled, use.blank)]
        interval = f"{use.low:+.3f} … {use.high:+.3f}"
        used = "yes" if use.used else "NO"
        rows.append([name, str(probe.step), str(probe.items), *losses, f"{use.gain:+.3f}", interval, used, *ranked])
    print_table(header, rows, numbers=(1, 2, 3, 4, 5, 6, 7, 9, 10, 11))


def _tell_gradients(probes: Probes) -> None:
    """Norms by kind of part and modality; probes.json has every part."""
    kinds: dict[str, dict[str, float]] = {}
    for name, probe in probes.modalities.items():
        for part, norm in probe.gradients.items():
            kind = kinds.setdefault(".".join(part.split(".")[: 3 if part.startswith("projectors") else 1]), {})
            kind[name] = (kind.get(name, 0.0) ** 2 + norm**2) ** 0.5
    if kinds:
        say("")
        probed = [name for name, probe in probes.modalities.items() if probe.gradients]
        rows = [[kind, *(f"{norms.get(m, 0.0):.2e}" for m in probed)] for kind, norms in kinds.items()]
        print_table(("gradient of", *probed), rows, numbers=range(1, len(probed) + 1))
