"""From rows of published annotations to a sample's words: captions, questions with their task prompt, conversations."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from modalign.data.sources.options import choices_of, filled, lettered, shuffled
from modalign.data.sources.patterns import fill_text
from modalign.data.sources.tables import Row, cell
from modalign.errors import ModalignError

_ASKS = frozenset({"human", "user"})
_SAYS = frozenset({"gpt", "assistant", "chatgpt", "bing", "bard", "model"})


class Words:
    """What to make of a sample's rows (several where rows are grouped); one of three kinds must be given.

    `caption` is a column or a template with columns in braces, or a list of them. `question` and `answer` are the same,
    and each row is a turn; lists in both are several turns; `prompt` is what is asked, with {question} and, where
    `options` names the choices, {options}: see `options.choices_of`. A prompt without {options} leaves the choices to
    the record, for benchmarks, which word their own; `shuffle_options` where the right one always has the same place.
    `answers` is a column of further answers that are kept; where `answer` names a list of them, the commonest counts;
    `one_question` makes of all rows one turn, their answers being those of several people. `fill` is a column of values
    for the question's places in angle brackets. `conversations` is a column of turns, {from, value} as LLaVA and
    ShareGPT write them, without their `marks` such as <image>. `region` gives {region}, four numbers from 0 to 1 (left,
    top, right, bottom): box is a column [x, y, width, height] or four, size the columns of the picture's width and
    height. `replace` maps texts to what stands for them; `containing` is what a caption must contain; `variant` is the
    column that is kept as the record's subject; `keep` maps names to columns or templates that are kept as they are.
    """

    def __init__(
        self,
        caption: str | Sequence[str] | None = None,
        question: str | None = None,
        answer: str | None = None,
        prompt: str = "{question}",
        options: str | Sequence[str] | None = None,
        answers: str | None = None,
        conversations: str | None = None,
        marks: Sequence[str] = (),
        region: Mapping[str, Any] | None = None,
        replace: Mapping[str, str] | None = None,
        containing: str | None = None,
        variant: str | None = None,
        shuffle_options: bool = False,
        one_question: bool = False,
        fill: str | None = None,
        keep: Mapping[str, str] | None = None,
    ) -> None:
        if (caption is None) + (answer is None) + (conversations is None) != 2:
            raise ModalignError("words: give a caption, or an answer with its prompt, or conversations")
        if caption is None and conversations is None and question is None and "{question}" in prompt:
            raise ModalignError("words: prompt asks for {question}: name its column as words.question")
        self.caption, self.question, self.answer, self.prompt = caption, question, answer, prompt
        self.options, self.answers, self.conversations, self.region = options, answers, conversations, region
        self.marks = tuple(marks)
        self.replace, self.containing, self.variant = dict(replace or {}), containing, variant
        self.shuffle_options, self.one_question = shuffle_options, one_question
        self.fill, self.keep = fill, dict(keep or {})

    def record(self, rows: Sequence[Row]) -> dict[str, Any]:
        """The sample's words; raises ValueError where there are none."""
        if self.region is not None:
            rows = [{**row, "region": _region(row, self.region)} for row in rows]
        record: dict[str, Any] = {}
        if self.caption is not None:
            found = self._captions(rows)
            record = {"caption": found[0]} if len(found) == 1 else {"captions": found}
        elif self.answer is not None:
            turns = self._questions(rows)
            record["conversation"] = [_agreed(turns)] if self.one_question and turns else turns
        else:
            assert self.conversations is not None
            turns = [turn for row in rows for turn in cell(row, self.conversations) or ()]
            record = _dialogue(turns, self.marks)
        if not record.get("conversation", True):
            raise ValueError("no question with an answer")
        if self.variant is not None:
            record["subject"] = str(cell(rows[0], self.variant))
        if self.keep:
            record["kept"] = {name: self._value(column, rows[0]) for name, column in self.keep.items()}
        return record

    def _captions(self, rows: Sequence[Row]) -> list[str]:
        assert self.caption is not None
        texts: list[str] = []
        columns = [self.caption] if isinstance(self.caption, str) else self.caption
        for value in (self._value(column, row) for row in rows for column in columns):
            for text in value if isinstance(value, list | tuple) else [value]:
                texts.append(self._clean(_text_of(text)))
        if not any(texts):
            raise ValueError("no caption")
        kept = [text for text in texts if text and (self.containing is None or self.containing in text)]
        if not kept:
            raise ValueError(f"its caption lacks '{self.containing}'")
        for old, new in self.replace.items():
            kept = [" ".join(text.replace(old, new).split()) for text in kept]
        if not (kept := [text for text in dict.fromkeys(kept) if text]):
            raise ValueError("no caption")
        return kept

    def _questions(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """The turns of all rows; one without a usable question is left out where others have one."""
        turns: list[dict[str, Any]] = []
        problem: ValueError | None = None
        for row in rows:
            try:
                turns += self._turns(row)
            except ValueError as error:
                problem = problem or error
        if not turns and problem is not None:
            raise problem
        return turns

    def _turns(self, row: Row) -> list[dict[str, Any]]:
        assert self.answer is not None
        asked = self._value(self.question, row) if self.question is not None else ""
        said = self._value(self.answer, row)
        if isinstance(asked, list) and isinstance(said, list):
            pairs = list(zip(asked, said, strict=False))
        else:
            pairs = [(asked, _commonest(said) if isinstance(said, list) else said)]
        turns = []
        for question, answer in pairs:
            choices, answer = self._options(row, question, answer)
            question, answer = self._clean(question), self._clean(answer)
            if not answer or (self.question is not None and not question):
                continue
            if self.fill is not None:
                question = filled(question, cell(row, self.fill))
            fields = {name: value for name, value in row.items() if isinstance(value, str | int | float)}
            asked_for = fill_text(self.prompt, {**fields, "question": question, "options": lettered(choices)})
            turn: dict[str, Any] = {"question": asked_for, "answer": answer}
            if choices and "{options}" not in self.prompt:
                turn["options"] = choices
            if self.answers is not None:
                turn["answers"] = [str(_text_of(one)) for one in cell(row, self.answers) or ()]
            turns.append(turn)
        return turns

    def _options(self, row: Row, question: Any, answer: Any) -> tuple[list[str], Any]:
        """The choices, and the letter of the right one; without choices none, and the answer."""
        if self.options is None:
            return [], answer
        assert self.answer is not None
        choices, right = choices_of(row, self.options, self.answer, answer)
        if self.shuffle_options:
            choices, right = shuffled(choices, right, str(question))
        return choices, string.ascii_uppercase[right]

    def _value(self, name: str, row: Row) -> Any:
        return fill_text(name, row) if "{" in name else cell(row, name)

    def _clean(self, value: Any) -> str:
        return "" if value is None else " ".join(str(value).split())


def _agreed(turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several people's answers to one question as one turn."""
    said = [turn["answer"] for turn in turns]
    return {**turns[0], "answer": _commonest(said), "answers": said}


def _text_of(entry: Any) -> Any:
    """The words of an entry of a list: the entry itself, or what COCO's annotations call it."""
    if not isinstance(entry, Mapping):
        return entry
    return next((entry[name] for name in ("answer", "caption", "raw") if name in entry), None)


def _commonest(answers: Sequence[Any]) -> str | None:
    """The answer that most annotators gave; of equals, the first."""
    counted = Counter(str(text) for text in map(_text_of, answers) if text)
    return counted.most_common(1)[0][0] if counted else None


def _dialogue(turns: Sequence[Mapping[str, Any]], marks: Sequence[str]) -> dict[str, Any]:
    """Question and answer in pairs; an answer without a question and a question without one fall away."""
    pairs: list[dict[str, str]] = []
    system: list[str] = []
    asked: list[str] = []
    for turn in turns:
        speaker = str(turn.get("from", turn.get("role", ""))).lower()
        text = str(turn.get("value", turn.get("content")) or "")
        for mark in marks:
            text = text.replace(mark, "")
        text = text.strip()
        if speaker in _ASKS:
            asked.append(text)
        elif speaker in _SAYS:
            if text and any(asked):
                pairs.append({"question": "\n".join(filter(None, asked)), "answer": text})
            asked = []
        elif speaker == "system":
            system.append(text)
        else:
            raise ValueError(f"an unknown speaker '{speaker}'")
    if not pairs:
        raise ValueError("no question with an answer")
    return {"conversation": pairs} | ({"system": "\n".join(system)} if any(system) else {})


def _region(row: Row, region: Mapping[str, Any]) -> str:
    """A box in pixels as shares of the picture, in two decimals."""
    try:
        box, size = region["box"], region["size"]
    except KeyError as error:
        raise ModalignError(f"words.region needs {error.args[0]}") from error
    values = cell(row, box) if isinstance(box, str) else [cell(row, name) for name in box]
    width, height = (float(cell(row, name)) for name in size)
    x, y, w, h = (float(value) for value in values)
    if min(width, height) <= 0:
        raise ValueError("a picture without a size")
    shares = (x / width, y / height, (x + w) / width, (y + h) / height)
    return "[" + ", ".join(f"{min(max(share, 0), 1):.2f}" for share in shares) + "]"


def make_words(declared: Words | Mapping[str, Any]) -> Words:
    """Words from a recipe's mapping; raises ModalignError for an unknown key."""
    if isinstance(declared, Words):
        return declared
    try:
        return Words(**dict(declared))
    except TypeError as error:
        raise ModalignError(f"words: {str(error).removeprefix('Words.__init__() ')}") from error
