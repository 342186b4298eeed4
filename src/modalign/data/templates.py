"""From a record's words to spans: captions without prompt for alignment, chat for instruction, and plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.random import Generator

from modalign.errors import ModalignError
from modalign.types import MediaSpan, Span, TextSpan

Record = dict[str, Any]


class Template(Protocol):
    """What a source needs of a template."""

    def needs_prompts(self, task: str) -> bool:
        """Whether captions will be asked for by a prompt in a recipe of this task."""

    def spans(
        self, media: Sequence[MediaSpan], record: Record, prompts: Sequence[str], rng: Generator | None
    ) -> tuple[Span, ...]:
        """The sample as spans; raises ValueError where the record lacks the words."""


def caption_of(record: Record, rng: Generator | None = None) -> str:
    """The record's caption; of several, one drawn by `rng`, or the first without; raises ValueError where none is.

    An empty caption is returned as such: it leaves the sample without a supervised token, which is told later by name.
    """
    captions = record.get("captions") or [record.get("caption")]
    caption = captions[0 if rng is None else int(rng.integers(len(captions)))]
    if not isinstance(caption, str):
        raise ValueError(f"no caption in the record (its keys: {', '.join(sorted(record)) or 'none'})")
    return caption.strip()


def turns_of(record: Record) -> list[tuple[str, str]]:
    """The record's conversation as (question, answer) pairs; raises ValueError where it is none."""
    turns = record.get("conversation")
    if not isinstance(turns, list) or not turns:
        raise ValueError(f"no conversation in the record (its keys: {', '.join(sorted(record)) or 'none'})")
    try:
        return [(str(turn["question"]).strip(), str(turn["answer"]).strip()) for turn in turns]
    except (TypeError, KeyError) as error:
        raise ValueError(f"a turn of the conversation lacks its question or answer: {error}") from error


def caption_spans(
    media: Sequence[MediaSpan], record: Record, rng: Generator | None = None, prefix: str = ""
) -> tuple[Span, ...]:
    """The media, then the caption as the target; `prefix` goes before its first word (a space, for some tokenizers)."""
    caption = caption_of(record, rng)
    return (*media, TextSpan(prefix + caption if caption else "", target=True, end=bool(caption)))


def text_spans(record: Record) -> tuple[Span, ...]:
    """The record's plain text, all of it the target; raises ValueError where there is none."""
    text = record.get("text")
    if not isinstance(text, str):
        raise ValueError(f"no text in the record (its keys: {', '.join(sorted(record)) or 'none'})")
    return (TextSpan(text, target=True, end=bool(text)),)


class CaptionTemplate:
    """Alignment: media and caption, no prompt."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix

    def needs_prompts(self, task: str) -> bool:
        """Never."""
        return False

    def spans(
        self, media: Sequence[MediaSpan], record: Record, prompts: Sequence[str] = (), rng: Generator | None = None
    ) -> tuple[Span, ...]:
        """The media, then the caption as the target."""
        return caption_spans(media, record, rng, self.prefix)


class TextTemplate:
    """Pretraining on text: every token is a target; a record without text gives its caption."""

    def needs_prompts(self, task: str) -> bool:
        """Never."""
        return False

    def spans(
        self, media: Sequence[MediaSpan], record: Record, prompts: Sequence[str] = (), rng: Generator | None = None
    ) -> tuple[Span, ...]:
        """The record's text as the target."""
        return text_spans(record if "text" in record else {"text": caption_of(record, rng)})


class ChatTemplate:
    """Instruction: media, system text, then turns of question and answer, with loss on the answers alone.

    `user` holds {question} and `assistant`, the target, {answer}; where `assistant` ends with the text that `user`
    begins with, later turns do not repeat it. The defaults are OneLLM's. A record may bring its own system text.
    An empty answer gives an empty target, so that a sample of nothing else is told by name when it is collated.
    `caption_share` of the records that have both are asked for their caption, by one of the prompts, in place of their
    conversation. `end` appends the end-of-sequence token to the last answer. A record of plain text, with no
    conversation, is a target as a whole: it rehearses what the language model knew.
    """

    def __init__(
        self,
        system: str = "",
        user: str = "### Human: {question}\n### Assistant:",
        assistant: str = " {answer}\n###",
        stop: str = "###",
        caption_share: float = 0.0,
        end: bool = False,
    ) -> None:
        if "{question}" not in user or "{answer}" not in assistant:
            raise ModalignError("a chat template needs {question} in `user` and {answer} in `assistant`")
        if not assistant.endswith(stop):
            raise ModalignError(f"the chat template's `assistant` must end with its stop text '{stop}'")
        if not 0 <= caption_share <= 1:
            raise ModalignError(f"caption_share must be from 0 to 1, not {caption_share}")
        self.system, self.user, self.assistant, self.stop = system, user, assistant, stop
        self.caption_share, self.end = caption_share, end

    def needs_prompts(self, task: str) -> bool:
        """Where records hold captions alone, or a share of them is asked for its caption."""
        return task == "caption" or self.caption_share > 0

    def spans(
        self, media: Sequence[MediaSpan], record: Record, prompts: Sequence[str] = (), rng: Generator | None = None
    ) -> tuple[Span, ...]:
        """The record's conversation, or its caption as the answer to one of the prompts."""
        has_caption = bool(record.get("caption") or record.get("captions"))
        draw = 1.0 if rng is None else float(rng.random())
        if has_caption and prompts and (not record.get("conversation") or draw < self.caption_share):
            prompt = prompts[0 if rng is None else int(rng.integers(len(prompts)))]
            return self._chat(media, record, [(prompt, caption_of(record, rng))])
        if not media and "text" in record and not record.get("conversation"):
            return text_spans(record)
        return self._chat(media, record, turns_of(record))

    def conversation_spans(
        self, media: Sequence[MediaSpan], record: Record, prompt: str | None = None
    ) -> tuple[Span, ...]:
        """The record's conversation; with `prompt`, its caption as the answer to that."""
        turns = turns_of(record) if prompt is None else [(prompt, caption_of(record))]
        return self._chat(media, record, turns)

    def prompt_spans(
        self, media: Sequence[MediaSpan], question: str, history: Sequence[tuple[str, str]] = ()
    ) -> tuple[Span, ...]:
        """The media and a question that waits for its answer (inference), after earlier turns, if any."""
        return (*media, *self._head(self.system), *self._turns([*history, (question, "")])[:-1])

    def _chat(self, media: Sequence[MediaSpan], record: Record, turns: list[tuple[str, str]]) -> tuple[Span, ...]:
        return (*media, *self._head(str(record.get("system", self.system))), *self._turns(turns))

    def _head(self, system: str) -> tuple[Span, ...]:
        return (TextSpan(system),) if system else ()

    def _turns(self, turns: Sequence[tuple[str, str]]) -> list[Span]:
        spans: list[Span] = []
        for number, (question, answer) in enumerate(turns):
            asked = self.user.replace("{question}", question)
            said = self.assistant.replace("{answer}", answer) if answer else ""
            end = self.end and bool(said) and number == len(turns) - 1
            spans.append(TextSpan(asked.removeprefix(self.stop) if number else asked))
            spans.append(TextSpan(said, target=True, end=end))
        return spans
