"""Templates: what is said, what carries loss, and what a prompt draws."""

import numpy as np
import pytest
import torch

from modalign.data.templates import CaptionTemplate, ChatTemplate, TextTemplate, caption_spans, text_spans
from modalign.errors import ModalignError
from modalign.types import MediaSpan, TextSpan

MEDIA = [MediaSpan("image", torch.zeros(3, 4, 4)), MediaSpan("audio", torch.zeros(1, 4, 4))]
TURNS = {"conversation": [{"question": "what?", "answer": "a cube"}, {"question": "colour?", "answer": "red"}]}


def text(spans):
    return "".join(span.text for span in spans if isinstance(span, TextSpan))


def targets(spans):
    return [span.text for span in spans if isinstance(span, TextSpan) and span.target]


def test_a_caption_pair_is_media_and_a_target_that_ends():
    spans = caption_spans(MEDIA, {"caption": " a red cube "})
    assert spans[:2] == tuple(MEDIA)
    assert spans[2] == TextSpan("a red cube", target=True, end=True)


def test_of_several_captions_one_is_drawn():
    record = {"captions": ["one", "two", "three"]}
    drawn = {targets(CaptionTemplate().spans([], record, (), np.random.default_rng(s)))[0] for s in range(30)}
    assert drawn == {"one", "two", "three"}
    assert targets(CaptionTemplate().spans([], record)) == ["one"]


def test_chat_is_onellms_layout_with_loss_on_answers_alone():
    spans = ChatTemplate(system="Be brief.\n\n").spans(MEDIA, TURNS)
    assert spans[:2] == tuple(MEDIA)
    assert text(spans) == (
        "Be brief.\n\n### Human: what?\n### Assistant: a cube\n### Human: colour?\n### Assistant: red\n###"
    )
    assert targets(spans) == [" a cube\n###", " red\n###"]


def test_a_record_may_bring_its_own_system_text():
    assert text(ChatTemplate(system="A").spans([], TURNS | {"system": "B\n"})).startswith("B\n### Human")


def test_captions_are_asked_for_by_a_prompt_of_the_modality():
    template, record = ChatTemplate(), {"caption": "a cone"}
    spans = template.spans(MEDIA[:1], record, ["Describe it.", "What is shown?"], np.random.default_rng(0))
    assert targets(spans) == [" a cone\n###"]
    asked = {text(template.spans([], record, ["P1", "P2"], np.random.default_rng(s))).split("\n")[0] for s in range(20)}
    assert asked == {"### Human: P1", "### Human: P2"}


def test_the_caption_share_is_kept():
    template, record = ChatTemplate(caption_share=0.25), TURNS | {"caption": "a cone"}
    rng = np.random.default_rng(0)
    captions = sum(targets(template.spans([], record, ["Describe."], rng)) == [" a cone\n###"] for _ in range(2000))
    assert 420 < captions < 580
    # Without a generator (evaluation) the conversation is taken, without prompts there is nothing to ask by.
    assert targets(template.spans([], record, ["Describe."]))[0] == " a cube\n###"
    assert targets(template.spans([], record, [], rng))[0] == " a cube\n###"


def test_a_question_for_inference_ends_where_the_answer_begins():
    template = ChatTemplate(system="S\n")
    spans = template.prompt_spans(MEDIA, "what {is} this?")
    assert text(spans) == "S\n### Human: what {is} this?\n### Assistant:"
    assert targets(spans) == []
    later = template.prompt_spans(MEDIA, "colour?", history=[("what?", "a cube")])
    assert text(later) == "S\n### Human: what?\n### Assistant: a cube\n### Human: colour?\n### Assistant:"
    trained = template.conversation_spans(MEDIA, TURNS)
    assert text(trained).startswith(text(later))
    assert targets(template.conversation_spans([], {"caption": "a cone"}, "Describe.")) == [" a cone\n###"]


def test_plain_text_is_all_target():
    assert text_spans({"text": "a b c"}) == (TextSpan("a b c", target=True, end=True),)
    assert TextTemplate().spans([], {"caption": "a cone"}) == (TextSpan("a cone", target=True, end=True),)


def test_plain_text_without_a_conversation_is_rehearsed_whole_in_chat():
    spans = ChatTemplate(caption_share=0.5).spans((), {"text": "left is the opposite of right"})
    assert [(span.text, span.target) for span in spans] == [("left is the opposite of right", True)]


def test_empty_words_leave_no_target_to_be_told_by_name_later():
    for spans in (
        CaptionTemplate().spans([], {"caption": "  "}),
        ChatTemplate(end=True).spans([], {"conversation": [{"question": "q", "answer": ""}]}),
        TextTemplate().spans([], {"text": ""}),
    ):
        assert all(not span.text and not span.end for span in spans if span.target)


@pytest.mark.parametrize(
    ("template", "record", "reason"),
    [
        (CaptionTemplate(), {"text": "x"}, "no caption in the record \\(its keys: text\\)"),
        (ChatTemplate(), {"caption": "x"}, "no conversation"),
        (ChatTemplate(), {"conversation": [{"question": "x"}]}, "lacks its question or answer"),
        (ChatTemplate(), {"conversation": ["x"]}, "lacks its question or answer"),
        (TextTemplate(), {}, "no caption"),
    ],
)
def test_records_without_the_words_are_bad_samples(template, record, reason):
    with pytest.raises(ValueError, match=reason):
        template.spans([], record, (), None)


def test_templates_that_cannot_work_are_refused():
    with pytest.raises(ModalignError, match=r"needs \{question\}"):
        ChatTemplate(user="Human:")
    with pytest.raises(ModalignError, match="must end with its stop text '###'"):
        ChatTemplate(assistant="{answer}")
    with pytest.raises(ModalignError, match="from 0 to 1, not 40"):
        ChatTemplate(caption_share=40)
