"""`modalign show RECIPE`: samples as training sees them, with the supervised tokens marked."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modalign.cli.environment import prepare_environment
from modalign.cli.marked import pieces, print_marked, token_counts
from modalign.cli.parser import VerbParser, read_settings
from modalign.cli.terminal import print_table, say
from modalign.config.recipes import RecipeBook
from modalign.config.schema import Settings, StageSettings
from modalign.errors import BadSample, ModalignError, unknown_name

if TYPE_CHECKING:
    from modalign.data.dataset import Source
    from modalign.types import MediaSpan, Sample

SUMMARY = """Print samples of recipes, decoded and laid out as a stage lays them out. Tokens that carry loss are marked
(in colour on a terminal, as «…» elsewhere); media stand in square brackets where their soft tokens go. Without a recipe
it shows all that feed the stage. At the end stands which share of each recipe's text tokens is supervised."""
EXAMPLES = ("modalign show digits", "modalign show world_audio --stage instruct -n 5", "modalign show --stage align")
COUNTED = 64


def run(arguments: Sequence[str]) -> int:
    """Print the first samples in training order, and which share of their text tokens is supervised."""
    options = _parsed(arguments)
    settings, _ = read_settings(options)
    book = RecipeBook(settings)
    names = options.recipes or recipes_of(settings, book, options.stage)
    stages = {name: _stage(settings, options.stage, book.get(name).task) for name in names}
    prepare_environment()
    from modalign.stages.sources import SourceBook, template_of

    sources = SourceBook(settings, book)
    sources.ensure([name for name in names if options.recipes or book.is_generated(name)])
    printed = options.n or (3 if len(names) == 1 else 1)
    display = Display(settings)
    say(display.tokenizer_note)
    for name, stage in stages.items():
        if not sources.present(name):
            say(f"\n{name}: nothing at {book.folder(name)}")
            continue
        book.check_split(options.split, [name])
        laid_out = settings.stages[stage]
        source = sources.source(name, options.split, template_of(laid_out), laid_out)
        say(f"\n{name}/{options.split}, {len(source)} samples, laid out for stage {stage}")
        display.recipe(source, laid_out, printed, max(printed, options.over or COUNTED))
    display.total()
    return 0


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = VerbParser("show", SUMMARY, EXAMPLES)
    parser.add_argument("words", metavar="RECIPE|key=value", nargs="*", help="recipes; settings as in train.py")
    parser.add_argument("--stage", help="whose layout: align, instruct … (default: as the recipe's task asks for)")
    parser.add_argument("--split", default="train")
    parser.add_argument("-n", type=int, metavar="N", help="how many samples (default 3; of several recipes 1 each)")
    parser.add_argument("--over", type=int, metavar="N", help=f"samples whose tokens are counted (default {COUNTED})")
    parser.add_settings(words=False)
    options = parser.parse(arguments)
    options.recipes = [word for word in options.words if "=" not in word]
    options.settings = [word for word in options.words if "=" in word]
    if not options.recipes and options.stage is None:
        parser.error("name a recipe, or with --stage the stage whose recipes are to be shown")
    for option, number in (("-n", options.n), ("--over", options.over)):
        if number is not None and number < 1:
            raise ModalignError(f"{option} {number}: show at least one sample")
    return options


def recipes_of(settings: Settings, book: RecipeBook, stage: str) -> list[str]:
    """The recipes that feed a stage, in the order of their modalities or of the mixture."""
    if stage not in settings.stages:
        raise unknown_name("stage", stage, settings.stages)
    if stage == "align":
        names = [name for modality in settings.modalities for name in book.alignment_recipes(modality)]
    else:
        names = list(getattr(settings.data, stage, ()))
    if not names:
        raise ModalignError(f"no recipe feeds stage {stage}: name one (modalign recipes lists them)")
    return list(dict.fromkeys(names))


def _stage(settings: Settings, wanted: str | None, task: str) -> str:
    """The stage asked for, or the first whose template suits the recipe's task."""
    if wanted is not None:
        if wanted not in settings.stages:
            raise unknown_name("stage", wanted, settings.stages)
        return wanted
    template = {"caption": "caption", "conversation": "chat", "text": "text"}[task]
    return next((name for name, stage in settings.stages.items() if stage.template == template), "align")


class Display:
    """Prints samples; counts their supervised tokens by recipe."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.tokenizer, self.tokenizer_note = text_tokenizer(settings)
        self.counts: dict[str, tuple[int, int, int]] = {}

    def recipe(self, source: Source, stage: StageSettings, printed: int, counted: int) -> None:
        """Print a source's first samples and count the tokens of a few more."""
        from modalign.data.collate import Collator

        tokenizer = self.tokenizer
        longest = stage.max_text_tokens or self.settings.model.max_text_tokens
        collate = Collator(tokenizer.encode, tokenizer.bos_id, tokenizer.eos_id, longest, require_targets=False)
        samples = tokens = supervised = 0
        for position in range(min(counted, len(source))):
            try:
                sample = source.sample(position)
            except BadSample as bad:
                if position < printed:
                    say(f"\nbad sample {bad.key}: {bad.reason}")
                continue
            batch = collate([sample])
            if position < printed:
                self.show(sample, batch)
            ours, marked = token_counts(batch, 0)
            samples, tokens, supervised = samples + 1, tokens + ours, supervised + marked
        self.counts[source.recipe.name] = samples, tokens, supervised

    def show(self, sample: Sample, batch: Any) -> None:
        """Print one sample: its media's shapes and its text."""
        from modalign.types import MediaSpan

        say(f"\n{sample.key}")
        for span in sample.spans:
            if isinstance(span, MediaSpan):
                say(f"  {describe(span)}")
        if cut := batch.metas[0].get("truncated"):
            say(f"  cut off: {cut} tokens beyond max_text_tokens")
        print_marked(pieces(batch, 0, self.tokenizer))

    def total(self) -> None:
        """Print the share of supervised tokens by recipe; a recipe without any is an error."""
        say("")
        if len(self.counts) == 1:
            ((samples, tokens, supervised),) = self.counts.values()
            say(f"supervised: {supervised} of {tokens} text tokens ({_share(supervised, tokens)}) in {samples} samples")
        elif self.counts:
            rows = [
                [name, str(samples), str(tokens), str(supervised), _share(supervised, tokens)]
                for name, (samples, tokens, supervised) in self.counts.items()
            ]
            print_table(("recipe", "samples", "text tokens", "supervised", "share"), rows, numbers=(1, 2, 3, 4))
        without = [name for name, (samples, _, supervised) in self.counts.items() if samples and not supervised]
        if without:
            raise ModalignError(
                f"no sample shown of {', '.join(without)} has a supervised token: training would refuse them"
            )


def _share(supervised: int, tokens: int) -> str:
    return f"{supervised / max(tokens, 1):.0%}"


def describe(span: MediaSpan) -> str:
    """A decoded medium in one line: shape, range, mean, as a model sees it."""
    value = span.value if span.standard is None else span.standard(span.value)
    shape = " x ".join(map(str, value.shape))
    numbers = f"{float(value.min()):.3g} to {float(value.max()):.3g}, mean {float(value.mean()):.3g}"
    return f"{span.modality}: {shape}, {numbers}" + (f", variant {span.variant}" if span.variant else "")


def text_tokenizer(settings: Settings) -> tuple[Any, str]:
    """The text tokenizer of the configured model and a note on it; words stand in where none was trained yet."""
    from modalign.config.places import shipped_runs
    from modalign.config.specs import Planner
    from modalign.runs.finished import locate
    from modalign.stages.assemble import find_text_tokenizer

    folders = []
    for backbone in settings.model.backbones:
        asked = settings.model_copy(update={"stage": backbone, "modality": None})
        specs = Planner(asked, RecipeBook(asked)).plan()
        folders += [locate(Path(settings.paths.runs), spec, shipped=shipped_runs()).path for spec in specs]
    try:
        return find_text_tokenizer(settings, folders), "tokens are the language model's"
    except ModalignError:
        if settings.model.text_tokenizer is not None:
            raise
        return Words(), "no text tokenizer is trained yet: words stand in for tokens"


class Words:
    """Words as tokens, numbered as they come; ids 0 and 1 begin and end a text."""

    bos_id, eos_id = 0, 1

    def __init__(self) -> None:
        self.known = ["<bos>", "<eos>"]

    def encode(self, text: str) -> list[int]:
        """Ids of the words, each with the space before it."""
        import re

        ids = []
        for word in re.findall(r"\s*\S+|\s+$", text):
            if word not in self.known:
                self.known.append(word)
            ids.append(self.known.index(word))
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The words of ids."""
        return "".join(self.known[token] for token in ids)
