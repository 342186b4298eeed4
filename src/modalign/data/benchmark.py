"""How a dataset is measured: the benchmark section of a recipe, with what is asked, what counts, what was published."""

from __future__ import annotations

import string
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

METRICS = ("vqa", "exact", "contains", "letter", "class", "mme", "cider", "bleu4", "rougeL")
"""What a benchmark may be scored by; see `evaluation.benchmark_scores`."""
CAPTION_METRICS = ("cider", "bleu4", "rougeL")
FIELDS = frozenset({"question", "options", "classes"})
"""What a prompt may name in braces."""


class Predictions(BaseModel):
    """The file that the official scorer reads.

    `json` is a list of entries, `jsonl` the same a line each, `csv` and `tsv` a table, `map` a mapping from the column
    `key` to the other column (or, of several, to a mapping of them). `columns` maps the scorer's names to names, or
    templates in braces, of what is known of an item: its kept columns, and key, question, text, answer (the text
    normalised as VQA does), reference, letter, number_chosen (the chosen option from 0) and right (the right one). `by`
    gives each value of a kept column a file of its own, `header` False leaves a table's names out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["json", "jsonl", "csv", "tsv", "map"]
    columns: dict[str, str]
    inside: str = ""
    """Under which key of a mapping the list stands."""
    by: str | None = None
    header: bool = True


class Benchmark(BaseModel):
    """One benchmark; shares are published in percent, CIDEr times 100, MME in points."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    split: str
    prompt: str
    metrics: tuple[str, ...] = Field(min_length=1)
    """The first is the headline."""
    classes: tuple[str, ...] | dict[str, tuple[str, ...]] = ()
    """The class list, or each class with further wordings; empty: all classes that the items have."""
    group: str | None = None
    """A kept column by which the details are told."""
    unit: str | None = None
    """A kept column whose equal rows count together: an item is right only where all of them are (letter), or a picture
    of two questions (mme)."""
    predictions: Predictions
    scorer: str
    """Where the official scorer is."""
    published: dict[str, float | None]
    """OneLLM-7B's scores by metric; null where no source at hand gives one."""
    published_source: str | None = None
    max_new_tokens: int = 32
    note: str | None = None

    @field_validator("prompt")
    @classmethod
    def _prompt_is_fillable(cls, prompt: str) -> str:
        names = {name for _, name, _, _ in string.Formatter().parse(prompt) if name is not None}
        if names - FIELDS:
            raise ValueError(f"prompt names {{{min(names - FIELDS)}}}; known: {', '.join(sorted(FIELDS))}")
        return prompt

    @field_validator("metrics")
    @classmethod
    def _metrics_are_known(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        for metric in metrics:
            if metric not in METRICS:
                raise ValueError(f"metric '{metric}' is unknown; known: {', '.join(METRICS)}")
        return metrics
