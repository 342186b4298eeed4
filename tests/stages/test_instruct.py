"""Instruction tuning supervises answers and nothing else."""

import pytest

from modalign.data.slices import SliceDataset


def supervised_text(batch, number, tokenizer):
    """What carries loss in one sample of a batch, decoded span by span, and what does not."""
    told, untold = [], []
    for segment in batch.layout[number]:
        if segment.modality is None:
            span = slice(segment.start, segment.start + segment.length)
            weights = set(batch.loss_weights[span].tolist())
            assert weights in ({0.0}, {1.0})
            (told if weights == {1.0} else untold).append(tokenizer.decode(batch.text_ids[span].tolist()))
    return told, untold


def batches_of(phase, recipe, count=2):
    source = phase.data.sources[recipe]
    dataset = SliceDataset({recipe: source}, Only(recipe), phase.data.slice_size, 0, 1, phase.data.collator)
    return [dataset[n] for n in range(count)]


class Only:
    """A schedule of one source."""

    def __init__(self, name):
        self.name = name

    def at(self, n):
        return self.name, n


@pytest.fixture(scope="module")
def chats(backbones, audio):
    return backbones.phase("stage=instruct", "modality=[image,audio]", "stages.instruct.caption_share=0.5")


@pytest.mark.parametrize("recipe", ["world_image", "world_audio", "world_pairs_image_audio", "world_chat"])
def test_the_answers_of_a_conversation_are_what_is_supervised(chats, recipe):
    tokenizer = chats.model.text_tokenizer
    kinds = set()
    for batch in batches_of(chats, recipe):
        for number, meta in enumerate(batch.metas):
            told, untold = supervised_text(batch, number, tokenizer)
            answers = [f" {turn['answer']}\n###" for turn in meta["conversation"]]
            captions = [[f" {caption}\n###"] for caption in meta.get("captions", [])]
            assert told == answers or told in captions
            kinds.add("answers" if told == answers else "caption")
            questions = [turn["question"] for turn in meta["conversation"]]
            asked = "".join(untold)
            assert all(question in asked for question in questions) or told in captions
            assert not any(answer.strip("\n# ") and answer in asked for answer in answers)
    assert "answers" in kinds
    if recipe in {"world_image", "world_audio"}:
        assert kinds == {"answers", "caption"}


def test_a_sample_over_two_senses_brings_both_before_the_question(chats):
    (batch, *_) = batches_of(chats, "world_pairs_image_audio", 1)
    for layout in batch.layout:
        kinds = [segment.modality for segment in layout]
        assert {"image", "audio"} <= set(kinds)
        assert None not in kinds[kinds.index("image") : kinds.index("audio")]
        assert kinds[-1] is None


def test_text_only_conversations_are_in_the_mixture(chats):
    assert "world_chat" in chats.spec.recipes
    (batch,) = batches_of(chats, "world_chat", 1)
    assert not batch.media


def test_only_recipes_whose_senses_are_aligned_take_part(chats):
    senses = {m for name in chats.spec.recipes for m in chats.data.sources[name].recipe.media}
    assert senses == {"image", "audio"}
    assert sum(chats.spec.shares.values()) == 1


def test_several_turns_are_asked_one_after_another(chats):
    turns = [len(meta["conversation"]) for batch in batches_of(chats, "world_image", 3) for meta in batch.metas]
    assert max(turns) > 1


def test_a_caption_stage_supervises_the_caption_and_its_end(backbones, image):
    phase = backbones.phase("stage=align", "modality=image")
    tokenizer = phase.model.text_tokenizer
    (batch,) = phase.slices(1)
    for number, meta in enumerate(batch.metas):
        told, untold = supervised_text(batch, number, tokenizer)
        assert len(told) == 1
        assert told[0] in meta["captions"]
        assert "".join(untold) == ""  # nothing but the token that begins every sequence
        last = batch.layout[number][-1]
        assert int(batch.text_ids[last.start + last.length - 1]) == tokenizer.eos_id
