"""`modalign show RECIPE`: samples as training sees them, with the supervised tokens marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modalign.cli.environment import prepare_environment
from modalign.cli.parser import VerbParser, read_settings
from modalign.cli.terminal import console, say
from modalign.config.recipes import RecipeBook
from modalign.config.schema import Settings
from modalign.errors import BadSample, ModalignError, unknown_name

if TYPE_CHECKING:
    from modalign.types import Batch, Sample

SUMMARY = """Print samples of a recipe, decoded and laid out as a stage lays them out. Tokens that carry loss are marked
(in colour on a terminal, as «…» elsewhere); media stand in square brackets where their soft tokens go."""


def run(arguments: Sequence[str]) -> int:
    """Print the first samples in training order, and which share of their text tokens is supervised."""
    examples = ["modalign show digits", "modalign show world_audio --stage instruct -n 5"]
    parser = VerbParser("show", SUMMARY, examples)
    parser.add_argument("recipe", metavar="RECIPE")
    parser.add_argument("--stage", help="whose layout: align, instruct … (default: as the recipe's task asks for)")
    parser.add_argument("--split", default="train")
    parser.add_argument("-n", type=int, default=3, metavar="N", help="how many samples (default 3)")
    parser.add_settings()
    options = parser.parse(arguments)
    if options.n < 1:
        raise ModalignError(f"-n {options.n}: show at least one sample")
    settings, _ = read_settings(options)
    recipe = RecipeBook(settings).get(options.recipe)
    stage = _stage(settings, options.stage, recipe.task)
    prepare_environment()
    from modalign.stages.sources import SourceBook, template_of

    sources = SourceBook(settings, RecipeBook(settings))
    sources.ensure([recipe.name])
    source = sources.source(recipe.name, options.split, template_of(settings.stages[stage]), settings.stages[stage])
    display = Display(settings)
    say(f"{recipe.name}/{options.split}, {len(source)} samples, laid out for stage {stage}; {display.tokenizer_note}")
    for position in range(min(options.n, len(source))):
        try:
            display.show(source.sample(position))
        except BadSample as bad:
            say(f"\nbad sample {bad.key}: {bad.reason}")
    display.total()
    return 0


def _stage(settings: Settings, wanted: str | None, task: str) -> str:
    """The stage asked for, or the first whose template suits the recipe's task."""
    if wanted is not None:
        if wanted not in settings.stages:
            raise unknown_name("stage", wanted, settings.stages)
        return wanted
    template = {"caption": "caption", "conversation": "chat", "text": "text"}[task]
    return next((name for name, stage in settings.stages.items() if stage.template == template), "align")


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of a sample whose tokens are all supervised, or none; or one medium."""

    text: str
    supervised: bool = False
    medium: bool = False


class Display:
    """Prints samples; counts their supervised tokens."""

    def __init__(self, settings: Settings) -> None:
        from modalign.data.collate import Collator

        self.tokenizer, self.tokenizer_note = text_tokenizer(settings)
        tokenizer = self.tokenizer
        self.collate = Collator(
            tokenizer.encode, tokenizer.bos_id, tokenizer.eos_id, settings.model.max_text_tokens, require_targets=False
        )
        self.supervised = self.tokens = self.samples = 0

    def show(self, sample: Sample) -> None:
        """Print one sample: its media's shapes and its text."""
        from rich.text import Text

        from modalign.types import MediaSpan

        batch = self.collate([sample])
        self.samples += 1
        self.tokens += len(batch.text_ids)
        self.supervised += int((batch.loss_weights > 0).sum())
        say(f"\n{sample.key}")
        for span in sample.spans:
            if isinstance(span, MediaSpan):
                say(f"  {describe(span.modality, span.value, span.variant)}")
        if cut := batch.metas[0].get("truncated"):
            say(f"  cut off: {cut} tokens beyond model.max_text_tokens")
        screen, line = console(), Text()
        for piece in self.pieces(batch):
            marked = f"«{piece.text}»" if piece.supervised and not screen.is_terminal else piece.text
            line.append(marked, style="bold green" if piece.supervised else "cyan" if piece.medium else "dim")
        screen.print(line, soft_wrap=True)

    def pieces(self, batch: Batch) -> Iterator[Piece]:
        """The batch's one sample in order, neighbouring tokens of a kind together."""
        ids: list[int] = []
        marked = False
        for segment in batch.layout[0]:
            span = slice(segment.start, segment.start + segment.length)
            weights = [] if segment.modality is not None else batch.loss_weights[span].tolist()
            for token, weight in zip(batch.text_ids[span].tolist(), weights, strict=False):
                if ids and (weight > 0) != marked:
                    yield Piece(self.words(ids), marked)
                    ids = []
                marked = weight > 0
                ids.append(token)
            if segment.modality is not None:
                if ids:
                    yield Piece(self.words(ids), marked)
                    ids = []
                yield Piece(f"[{segment.modality}]", medium=True)
        if ids:
            yield Piece(self.words(ids), marked)

    def words(self, ids: Sequence[int]) -> str:
        """The text of ids, with beginning and end told as such."""
        names = {self.tokenizer.bos_id: "<bos>", self.tokenizer.eos_id: "<eos>"}
        text = ""
        plain: list[int] = []
        for token in ids:
            if token in names:
                text += self.tokenizer.decode(plain) + names[token]
                plain = []
            else:
                plain.append(token)
        return text + self.tokenizer.decode(plain)

    def total(self) -> None:
        """Print the share of supervised tokens."""
        share = self.supervised / max(self.tokens, 1)
        say(f"\nsupervised: {self.supervised} of {self.tokens} text tokens ({share:.0%}) in {self.samples} samples")
        if self.samples and not self.supervised:
            raise ModalignError("none of these samples has a supervised token: training would refuse them")


def describe(modality: str, value: Any, variant: str | None) -> str:
    """A decoded medium in one line: shape, range, mean."""
    shape = " x ".join(map(str, value.shape))
    numbers = f"{float(value.min()):.3g} to {float(value.max()):.3g}, mean {float(value.mean()):.3g}"
    return f"{modality}: {shape}, {numbers}" + (f", variant {variant}" if variant else "")


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
