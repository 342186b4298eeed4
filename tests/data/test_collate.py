"""Collation: the layout of segments, what carries loss, what is cut, and samples that would teach nothing."""

import pytest
import torch

from modalign.data.collate import Collator
from modalign.errors import BadSample, ModalignError
from modalign.types import MediaSpan, Sample, Segment, TextSpan


def encode(text):
    return [ord(letter) for letter in text]


def sample(key, *spans, **meta):
    return Sample(key, "greys", tuple(spans), meta)


def picture(value, shape=(3, 2, 2), variant=None):
    return MediaSpan("image", torch.full(shape, float(value)), variant)


def test_segments_give_every_span_in_order():
    collator = Collator(encode, bos_id=1, eos_id=2)
    batch = collator(
        [
            sample("a", picture(0), TextSpan("ab", target=True, end=True)),
            sample("b", TextSpan("q"), picture(1), TextSpan("xyz", target=True, weight=0.5)),
        ],
        source="greys",
    )
    assert batch.text_ids.tolist() == [1, 97, 98, 2, 1, 113, 120, 121, 122]
    assert batch.loss_weights.tolist() == [0, 1, 1, 1, 0, 0, 0.5, 0.5, 0.5]
    assert batch.layout == (
        (Segment(None, 0, 1), Segment("image", 0), Segment(None, 1, 3)),
        (Segment(None, 4, 1), Segment(None, 5, 1), Segment("image", 1), Segment(None, 6, 3)),
    )
    assert batch.media["image"].values[:, 0, 0, 0].tolist() == [0, 1]
    assert (batch.keys, batch.source, batch.media["image"].variants) == (("a", "b"), "greys", (None, None))


def test_without_special_tokens_none_are_added():
    batch = Collator(encode, None, None)([sample("a", picture(0), TextSpan("ab", target=True, end=True))])
    assert batch.text_ids.tolist() == [97, 98]
    assert batch.layout == ((Segment("image", 0), Segment(None, 0, 2)),)


def test_vectors_of_several_sizes_are_padded_and_say_whose_they_are():
    short, long = (MediaSpan("fmri", torch.ones(size), variant) for size, variant in ((3, "s1"), (5, "s2")))
    words = TextSpan("x", target=True)
    media = Collator(encode, 1, 2)([sample("a", short, words), sample("b", long, words)]).media["fmri"]
    assert media.values.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert media.variants == ("s1", "s2")


def test_other_shapes_that_differ_are_an_error_that_names_both():
    words = TextSpan("x", target=True)
    with pytest.raises(ModalignError, match=r"samples a and b .* image of shapes \(3, 2, 2\) and \(3, 4, 4\)"):
        Collator(encode, 1, 2)([sample("a", picture(0), words), sample("b", picture(0, (3, 4, 4)), words)])


def test_long_texts_are_cut_and_the_cut_is_counted():
    batch = Collator(encode, 1, 2, max_text_tokens=4)(
        [sample("a", TextSpan("ab"), TextSpan("cdef", target=True, end=True)), sample("b", TextSpan("c", target=True))]
    )
    assert batch.text_ids.tolist() == [1, 97, 98, 99, 1, 99]
    assert [meta["truncated"] for meta in batch.metas] == [4, 0]


@pytest.mark.parametrize(
    ("spans", "reason"),
    [
        ([TextSpan("only a prompt")], "its caption or answer is empty"),
        ([TextSpan("prompt"), TextSpan("", target=True)], "its caption or answer is empty"),
        ([TextSpan("prompt"), TextSpan("x", target=True, weight=0)], "its caption or answer is empty"),
        (
            [TextSpan("a prompt that is far too long"), TextSpan("x", target=True)],
            "max_text_tokens=10 cut 21 tokens off",
        ),
    ],
)
def test_a_sample_without_supervised_token_is_an_error_that_names_it(spans, reason):
    collator = Collator(encode, 1, 2, max_text_tokens=10)
    with pytest.raises(ModalignError, match=f"sample k7 of recipe greys has no supervised token: {reason}"):
        collator([sample("k1", TextSpan("x", target=True)), sample("k7", *spans)])


def test_a_sample_that_is_only_too_long_is_a_bad_one_before_it_is_collated():
    collator = Collator(encode, 1, 2, max_text_tokens=10)
    answer = TextSpan("x", target=True)
    cut = sample("k7", picture(0), TextSpan("nine char"), answer)
    with pytest.raises(BadSample, match="sample k7: max_text_tokens=10 cut off all that it is to learn: raise it"):
        collator.checked(cut)
    fits, turns = sample("a", TextSpan("8 chars."), answer), sample("b", answer, TextSpan("nine char"), answer)
    without_bos = Collator(encode, None, 2, max_text_tokens=10)
    for checking, one in ((collator, fits), (collator, turns), (without_bos, cut)):
        assert checking.checked(one) is one
        assert checking([one]).loss_weights.sum() > 0
    assert Collator(encode, 1, 2, max_text_tokens=10, require_targets=False).checked(cut) is cut


def test_an_answer_that_is_empty_is_not_a_matter_of_length():
    empty = sample("k7", TextSpan("a prompt that is far too long"), TextSpan("", target=True))
    collator = Collator(encode, 1, 2, max_text_tokens=10)
    with pytest.raises(ModalignError, match="its caption or answer is empty"):
        collator([collator.checked(empty)])


def test_inference_needs_no_targets():
    batch = Collator(encode, 1, 2, require_targets=False)([sample("a", picture(0), TextSpan("what?"))])
    assert batch.loss_weights.sum() == 0


def test_a_batch_of_holes_alone_is_empty_and_well_formed():
    batch = Collator(encode, 1, 2)([], "greys", [("greys", "k", "broken")])
    assert (batch.keys, batch.layout, batch.media) == ((), (), {})
    assert batch.text_ids.shape == batch.loss_weights.shape == (0,)
    assert batch.holes == (("greys", "k", "broken"),)
