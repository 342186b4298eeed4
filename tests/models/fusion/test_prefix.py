"""The sequence that enters the language model: order, padding, labels."""

from __future__ import annotations

import pytest
import torch

from modalign.errors import ModalignError
from modalign.models.fusion.prefix import PrefixFusion
from modalign.types import TokenSet

IGNORED = -100


def token_sets(media, length=2):
    return {m: TokenSet(torch.randn(x.values.shape[0], length, 24), name=m) for m, x in media.items()}


def test_text_and_media_lie_in_the_order_of_the_layout(make_llm, make_media, make_batch):
    llm, media = make_llm(), make_media("image", "cloud", count=2)
    batch = make_batch(
        [
            [("<bos>", 0), "image", "cloud", ("a red cube", 1)],
            [("<bos>", 0), ("a", 0), "cloud", ("ball", 1), "image"],
        ],
        media,
    )
    sets = token_sets(media)
    composed = PrefixFusion().compose(batch, sets, llm)
    text = llm.embed(batch.text_ids)
    image, cloud = sets["image"].values, sets["cloud"].values
    first = torch.cat([text[:1], image[0], cloud[0], text[1:4]])
    second = torch.cat([text[4:6], cloud[1], text[6:7], image[1]])
    assert torch.equal(composed.embeddings[0], first)
    assert torch.equal(composed.embeddings[1, :7], second)
    assert composed.embeddings[1, 7:].abs().sum() == 0
    assert composed.attention_mask.tolist() == [[1] * 8, [1] * 7 + [0]]


def test_a_position_is_labelled_with_the_token_that_follows(make_llm, make_media, make_batch):
    media = make_media("image")
    batch = make_batch([[("<bos>", 0), "image", ("a red cube", 1), ("is", 0), ("seen", 0.5)]], media)
    composed = PrefixFusion().compose(batch, token_sets(media), make_llm())
    ids = batch.text_ids.tolist()
    assert composed.labels[0].tolist() == [IGNORED, IGNORED, ids[1], ids[2], ids[3], IGNORED, ids[5], IGNORED]
    assert composed.weights[0].tolist() == [0, 0, 1, 1, 1, 0, 0.5, 0]


def test_the_first_token_of_a_sequence_is_never_a_label(make_llm, make_batch):
    composed = PrefixFusion().compose(make_batch([[("a red", 1)]], {}), {}, make_llm())
    assert composed.labels.tolist() == [[5, IGNORED]]


@pytest.mark.parametrize("padding", ["right", "left"])
def test_padding_changes_nothing_for_what_is_there(make_model, make_media, make_batch, padding):
    model = make_model().eval()
    media = make_media("image", "voxels", count=2)
    samples = [
        [("<bos>", 0), "image", ("a red cube is seen left", 1)],
        [("<bos>", 0), "voxels", ("a ball", 1)],
        [("<bos>", 0), "image", "voxels", ("a", 1)],
    ]
    composed = model.compose(make_batch(samples, media), padding)
    together = model.hidden(composed)
    soft = model.soft_tokens(media)
    text = model.llm.embed(make_batch(samples, media).text_ids)
    alone = torch.cat([text[7:8], soft["voxels"].values[0], text[8:10]]).unsqueeze(0)
    alone = model.llm.hidden(alone, None, torch.arange(alone.shape[1]).unsqueeze(0))
    valid = together[1][composed.attention_mask[1].bool()]
    torch.testing.assert_close(valid, alone[0], atol=1e-5, rtol=1e-5)


def test_masked_soft_tokens_take_no_position(make_llm, make_media, make_batch):
    media = make_media("image", count=2)
    sets = token_sets(media, length=4)
    sets["image"].mask = torch.tensor([[True] * 4, [True, False, True, False]])
    batch = make_batch([[("<bos>", 0), "image", ("a", 1)], [("<bos>", 0), "image", ("a", 1)]], media)
    composed = PrefixFusion().compose(batch, sets, make_llm())
    assert composed.attention_mask.sum(dim=1).tolist() == [6, 4]
    assert torch.equal(composed.embeddings[1, 1:3], sets["image"].values[1, [0, 2]])


def test_left_padded_positions_count_from_the_first_token(make_llm, make_batch):
    batch = make_batch([[("a red cube", 1)], [("a", 1)]], {})
    composed = PrefixFusion().compose(batch, {}, make_llm(), padding="left")
    assert composed.position_ids.tolist() == [[0, 1, 2], [0, 0, 0]]
    assert composed.attention_mask.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_gradients_reach_the_soft_tokens(make_llm, make_media, make_batch):
    media = make_media("image")
    sets = token_sets(media)
    sets["image"].values.requires_grad_()
    batch = make_batch([[("<bos>", 0), "image", ("a", 1)]], media)
    PrefixFusion().compose(batch, sets, make_llm()).embeddings.sum().backward()
    assert torch.equal(sets["image"].values.grad, torch.ones(1, 2, 24))


def test_bad_batches_are_named(make_llm, make_media, make_batch):
    batch = make_batch([[("a", 1)], ["image", ("a", 1)]], make_media("image"))
    with pytest.raises(ModalignError, match="'image' in the layout of sample s1"):
        PrefixFusion().compose(batch, {}, make_llm())
    with pytest.raises(ModalignError, match="sample s0 is empty"):
        PrefixFusion().compose(make_batch([[]], {}), {}, make_llm())
    with pytest.raises(ModalignError, match="known: left, right"):
        PrefixFusion().compose(make_batch([[("a", 1)]], {}), {}, make_llm(), padding="top")
