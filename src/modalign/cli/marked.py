"""A sample's text with the tokens that carry loss marked: for `modalign show` and `modalign inspect`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modalign.cli.terminal import console

if TYPE_CHECKING:
    from modalign.types import Batch


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of a sample whose tokens are all supervised, or none; or one medium."""

    text: str
    supervised: bool = False
    medium: bool = False


def print_marked(pieces: Iterator[Piece]) -> None:
    """Print a sample: supervised text in colour on a terminal, as «…» elsewhere; media in square brackets."""
    from rich.text import Text

    screen, line = console(), Text()
    for piece in pieces:
        marked = f"«{piece.text}»" if piece.supervised and not screen.is_terminal else piece.text
        line.append(marked, style="bold green" if piece.supervised else "cyan" if piece.medium else "dim")
    screen.print(line, soft_wrap=True)


def pieces(batch: Batch, row: int, tokenizer: Any) -> Iterator[Piece]:
    """Sample number `row` of a batch in order, neighbouring tokens of a kind together."""
    ids: list[int] = []
    marked = False
    for segment in batch.layout[row]:
        span = slice(segment.start, segment.start + segment.length)
        weights = [] if segment.modality is not None else batch.loss_weights[span].tolist()
        for token, weight in zip(batch.text_ids[span].tolist(), weights, strict=False):
            if ids and (weight > 0) != marked:
                yield Piece(words_of(ids, tokenizer), marked)
                ids = []
            marked = weight > 0
            ids.append(token)
        if segment.modality is not None:
            if ids:
                yield Piece(words_of(ids, tokenizer), marked)
                ids = []
            yield Piece(f"[{segment.modality}]", medium=True)
    if ids:
        yield Piece(words_of(ids, tokenizer), marked)


def token_counts(batch: Batch, row: int) -> tuple[int, int]:
    """Text tokens of sample number `row` of a batch, and how many of them are supervised."""
    tokens = supervised = 0
    for segment in batch.layout[row]:
        if segment.modality is None:
            tokens += segment.length
            supervised += int((batch.loss_weights[segment.start : segment.start + segment.length] > 0).sum())
    return tokens, supervised


def words_of(ids: Sequence[int], tokenizer: Any) -> str:
    """The text of ids, with beginning and end told as such."""
    names = {tokenizer.bos_id: "<bos>", tokenizer.eos_id: "<eos>"}
    text = ""
    plain: list[int] = []
    for token in ids:
        if token in names:
            text += tokenizer.decode(plain) + names[token]
            plain = []
        else:
            plain.append(token)
    return text + tokenizer.decode(plain)
