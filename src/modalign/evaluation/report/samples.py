"""Samples of each sensor: the medium as a person would want it, what was asked, what is right, what was said."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from modalign.evaluation.metrics import is_exact_match
from modalign.evaluation.report.media import Medium, show
from modalign.evaluation.report.page import text
from modalign.evaluation.report.phrases import SPLIT_NAMES
from modalign.evaluation.scores import ShownSample
from modalign.evaluation.words import normalise


def samples_html(folder: Path, samples: Sequence[ShownSample], most: int = 8) -> str:
    """Cards of at most `most` samples a modality, under the modality's name."""
    groups: dict[str, list[ShownSample]] = {}
    for sample in samples:
        groups.setdefault(sample.modality, []).append(sample)
    parts = []
    for modality, members in groups.items():
        wide = " wide" if any(len(sample.media) > 1 for sample in members) else ""
        cards = "".join(sample_card(folder, sample) for sample in members[:most])
        parts.append(f'<h3>{text(modality)}</h3><div class="cards{wide}">{cards}</div>')
    return "".join(parts)


def sample_card(folder: Path, sample: ShownSample) -> str:
    """One sample; where it is not right, the words of the generated text that the reference lacks are marked."""
    media = "".join(
        show(Medium(name, folder / file, sample.display.get(name), sample.axes.get(name, {})))
        for name, file in sample.media.items()
    )
    rows = [("asked", text(sample.question))] if sample.question else []
    said = text(sample.generated) if is_right(sample) else marked(sample.generated, sample.reference)
    rows += [("reference", text(sample.reference)), ("generated", said)]
    listing = "".join(f"<dt>{name}</dt><dd>{value or '<em>nothing</em>'}</dd>" for name, value in rows)
    split = SPLIT_NAMES.get(sample.split, sample.split)
    return (
        f'<article class="card"><div class="media">{media}</div><dl>{listing}</dl>'
        f"<footer>{_verdict(sample)}<span>{text(split)}, {text(sample.key)}</span></footer></article>"
    )


def marked(generated: str, reference: str) -> str:
    """The generated text as HTML, with the words marked that are not the reference's, in its order."""
    pieces = re.findall(r"\S+", generated)
    said, wanted = [normalise(piece) for piece in pieces], normalise(reference).split()
    shared = {
        block.a + i
        for block in difflib.SequenceMatcher(None, said, wanted, autojunk=False).get_matching_blocks()
        for i in range(block.size)
    }
    return " ".join(text(p) if i in shared or not said[i] else f"<mark>{text(p)}</mark>" for i, p in enumerate(pieces))


def is_right(sample: ShownSample) -> bool:
    """The evaluation's own verdict, or else whether the texts are equal after normalisation."""
    return is_exact_match(sample.generated, sample.reference) if sample.right is None else sample.right


def _verdict(sample: ShownSample) -> str:
    if is_right(sample):
        same = is_exact_match(sample.generated, sample.reference)
        words = "right" if same else "right, in other words"
        return f'<strong class="good">✓ {words}</strong>'
    if sample.right is None and not sample.question:
        return '<strong class="warn">differs from the reference</strong>'
    return '<strong class="bad">✗ wrong</strong>'
