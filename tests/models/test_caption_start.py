"""A vector tokenizer's start from captions: what is fitted, what is refused, what it tells of unseen samples."""

from __future__ import annotations

import logging

import pytest
import torch

from modalign.errors import ModalignError
from modalign.models.caption_start import Example, MapFromCaptions, embedded
from modalign.models.start_values import start_from_parent
from modalign.models.tokenizers.vector import VectorTokenizer

COLOURS, SHAPES = ("red", "blue"), ("cube", "ball")
SIZES = {"a": 40, "b": 50}


def examples(count, seed=0, variants=("a", "b"), noise=0.5):
    """Values in which colour and shape lie each along a direction of its variant, in noise of all values."""
    generator = torch.Generator().manual_seed(seed)
    tuned = {v: torch.randn(2, SIZES[v], generator=torch.Generator().manual_seed(size)) for v, size in SIZES.items()}
    made = []
    for i in range(count):
        variant, colour, shape = variants[i % len(variants)], i // 2 % 2, i // 4 % 2
        signal = torch.tensor([2.0 * colour - 1, 2.0 * shape - 1]) @ tuned[variant]
        values = signal + noise * torch.randn(SIZES[variant], generator=generator) + 1.0
        made.append(Example(values, variant, f"a {COLOURS[colour]} {SHAPES[shape]}"))
    return made


@pytest.fixture
def model(make_model):
    made = make_model(["voxels"])
    made.tokenizers["voxels"] = VectorTokenizer(16, 4, SIZES)
    return made


def tokens_of(model, some):
    tokenizer = model.tokenizers["voxels"]
    rows = [tokenizer(e.values[None], (e.variant,)).flatten() for e in some]
    return torch.stack(rows).detach()


def nearest_caption(model, known, others):
    """Which caption's mean tokens those of the others are nearest to."""
    tokens, labels = tokens_of(model, known), [e.caption for e in known]
    means = {c: tokens[[i for i, label in enumerate(labels) if label == c]].mean(0) for c in set(labels)}
    found = tokens_of(model, others)
    return [min(means, key=lambda c, t=t: float((t - means[c]).norm())) for t in found]


def share_of_captions(model, some):
    """The share of the tokens' variance that is between captions."""
    tokens = tokens_of(model, some)
    labels = [e.caption for e in some]
    means = {c: tokens[[i for i, label in enumerate(labels) if label == c]].mean(0) for c in set(labels)}
    between = torch.stack([means[label] for label in labels])
    return float(between.var(0).sum() / tokens.var(0).sum())


def test_tokens_tell_captions_of_samples_that_were_not_fitted_and_little_else(model):
    train, test = examples(80, noise=2.0), examples(400, seed=1, noise=2.0, variants=("a",))
    random = share_of_captions(model, test)
    (one, two) = start_from_parent(model, {}, [MapFromCaptions("voxels", lambda: train)])
    assert (one.target, two.target) == ("tokenizers.voxels.linears.a", "tokenizers.voxels.linears.b")
    assert one.tensors == 2
    assert one.source.startswith("40 captions (penalty ")
    assert share_of_captions(model, test) > 0.7 > 0.5 > random


def test_tokens_have_unit_spread_in_each_variant(model):
    train = examples(60)
    start_from_parent(model, {}, [MapFromCaptions("voxels", lambda: train)])
    for variant in SIZES:
        tokens = tokens_of(model, [e for e in train if e.variant == variant])
        assert float((tokens - tokens.mean(0)).std()) == pytest.approx(1.0, rel=1e-3)


def test_both_variants_speak_one_language(model):
    """What one variant's values of a caption give lies nearest to what the other's of the same caption give."""
    start_from_parent(model, {}, [MapFromCaptions("voxels", lambda: examples(80))])
    first = [e for e in examples(40, seed=2) if e.variant == "a"]
    second = [e for e in examples(40, seed=3) if e.variant == "b"]
    assert nearest_caption(model, first, second) == [e.caption for e in second]


def test_the_same_seed_gives_the_same_map_and_another_another(model):
    train = examples(20)
    maps = []
    for seed in (0, 0, 1):
        start_from_parent(model, {}, [MapFromCaptions("voxels", lambda: train, seed)])
        maps.append(model.tokenizers["voxels"].linears["a"].weight.clone())
    assert torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0], maps[2])


def test_a_caption_is_the_mean_of_its_tokens_embeddings(model):
    one, none = examples(1)[0], Example(torch.zeros(40), "a", "")
    found = embedded(model.llm, model.text_tokenizer, [one, none])
    ids = model.text_tokenizer.encode(one.caption)
    assert torch.allclose(found[0], model.llm.embedding_rows[ids].mean(0))
    assert not found[1].any()


def test_a_variant_of_which_nothing_can_be_said_keeps_its_random_start_and_is_named(model, caplog):
    before = model.tokenizers["voxels"].linears["b"].weight.clone()
    noise = [Example(torch.randn(50), "b", e.caption) for e in examples(30, variants=("b",))]
    for others, why in (
        (examples(2)[1:], "1 captions are too few"),
        (noise, "a regression on 30 samples foretells nothing"),
    ):
        with caplog.at_level(logging.WARNING):
            one, other = start_from_parent(
                model, {}, [MapFromCaptions("voxels", lambda o=others: [*examples(20, variants=("a",)), *o])]
            )
        assert (one.rule, other.rule) == ("map_from_captions", "map_at_random")
        assert f"variant 'b' begins at random, not from its captions: {why}" in caplog.text
        assert torch.equal(model.tokenizers["voxels"].linears["b"].weight, before)


def test_the_first_of_several_processes_fits_for_all(model):
    fitted = MapFromCaptions("voxels", lambda: examples(20))._fits(model, model.tokenizers["voxels"])
    asked = []

    def from_first(action):
        asked.append(action)
        return fitted

    def never():
        raise AssertionError("only the first process reads samples")

    start_from_parent(model, {}, [MapFromCaptions("voxels", never, 0, from_first)])
    assert len(asked) == 1
    assert torch.equal(model.tokenizers["voxels"].linears["a"].weight, fitted["a"].weight.T)


def test_what_cannot_start_so_is_refused_in_one_line(make_model, model):
    with pytest.raises(ModalignError, match=r"tokenizers\.cloud is a PointTokenizer: only a VectorTokenizer"):
        start_from_parent(make_model(["cloud"]), {}, [MapFromCaptions("cloud", lambda: examples(4))])
    short = [Example(torch.zeros(39), "a", "a red cube")] * 4
    with pytest.raises(ModalignError, match="variant 'a' has 40 values, but vectors of 39 came"):
        start_from_parent(model, {}, [MapFromCaptions("voxels", lambda: short)])
    model.tokenizers["voxels"] = VectorTokenizer(16, 4, SIZES, bias=False)
    with pytest.raises(ModalignError, match=r"tokenizers\.voxels has no bias"):
        start_from_parent(model, {}, [MapFromCaptions("voxels", lambda: examples(20))])
    model.tokenizers["voxels"], model.text_tokenizer = VectorTokenizer(16, 4, SIZES), None
    with pytest.raises(ModalignError, match=r"set model\.text_tokenizer"):
        start_from_parent(model, {}, [MapFromCaptions("voxels", lambda: examples(20))])
