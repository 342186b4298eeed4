"""Gated cross-attention: nothing changes at the start, everything can be learned, tensors keep their names."""

from __future__ import annotations

import copy

import pytest
import torch

from modalign.errors import ModalignError
from modalign.models.aligned import AlignedModel, Path
from modalign.models.blocks import large_blocks, recompute
from modalign.models.fusion.cross_attention import GatedCrossAttentionFusion
from modalign.models.positions import Positions
from modalign.models.projectors.mlp import MlpProjector
from modalign.models.tokenizers.patch import PatchTokenizer

FAMILIES = [{"model_type": "llama"}, {"model_type": "qwen2", "num_key_value_heads": 2}]


@pytest.fixture(params=FAMILIES, ids=lambda f: f["model_type"])
def model(request, make_llm, make_tower, text_tokenizer) -> AlignedModel:
    return AlignedModel(
        paths={"image": Path("visual", "clip", "mlp")},
        tokenizers={"visual": PatchTokenizer(16, 8, 16)},
        positions={"image": Positions(4, 16, learned=False)},
        encoders={"clip": make_tower()},
        projectors={"mlp": MlpProjector(16, 12, ["image"])},
        fusion=GatedCrossAttentionFusion(24, 12, sites=[0, 1], num_heads=2, hidden=16),
        language_model=make_llm(**request.param),
        text_tokenizer=text_tokenizer,
    ).eval()


def open_gates(model):
    with torch.no_grad():
        for block in model.fusion.blocks.values():
            block.gate_attention.fill_(1.0)
            block.gate_feed.fill_(0.5)


def captions(make_batch, media):
    return make_batch([[("<bos>", 0), "image", ("a red cube", 1)], [("<bos>", 0), "image", ("a ball", 1)]], media)


def test_at_the_start_logits_are_those_of_the_text_alone(model, make_batch, make_media):
    media = make_media("image", count=2)
    with_media = model.hidden(model.compose(captions(make_batch, media)))
    text = make_batch([[("<bos>", 0), ("a red cube", 1)], [("<bos>", 0), ("a ball", 1)]], {})
    assert torch.equal(with_media, model.hidden(model.compose(text)))


def test_open_gates_let_each_sample_read_its_own_media_and_no_other(model, make_batch, make_media):
    open_gates(model)
    media = make_media("image", count=2)
    before = model.hidden(model.compose(captions(make_batch, media)))
    media["image"].values[1] = torch.randn(3, 16, 16)
    after = model.hidden(model.compose(captions(make_batch, media)))
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1])


def test_every_feature_is_a_source(model, make_batch, make_media):
    composed = model.compose(captions(make_batch, make_media("image", count=2)))
    assert composed.cross.values.shape == (2, 5, 12)
    assert composed.embeddings.shape[1] == 4


def test_gradients_reach_gates_and_through_them_the_tokenizer(model, make_batch, make_media):
    model.llm.requires_grad_(False)
    batch = captions(make_batch, make_media("image", count=2))
    model.loss(batch).loss_sum.backward()
    assert all(b.gate_attention.grad.abs() > 0 for b in model.fusion.blocks.values())
    open_gates(model)
    model.loss(batch).loss_sum.backward()
    assert model.tokenizers["visual"].conv.weight.grad.abs().sum() > 0


def test_text_sees_only_media_that_came_before_what_it_predicts(model, make_batch, make_media):
    batch = make_batch([[("<bos> a", 0), "image", ("red cube", 1), "image", ("is", 1)]], make_media("image", count=2))
    visible = model.compose(batch).cross.visible
    assert visible.sum(dim=-1).tolist() == [[0, 5, 5, 10, 10]]


def test_a_sample_without_media_is_left_unchanged_to_the_bit(model, make_batch, make_media):
    open_gates(model)
    mixed = make_batch([[("<bos>", 0), "image", ("a", 1)], [("<bos>", 0), ("a", 1)]], make_media("image"))
    text = make_batch([[("<bos>", 0), ("a", 1)], [("<bos>", 0), ("a", 1)]], {})
    assert torch.equal(model.hidden(model.compose(mixed))[1], model.hidden(model.compose(text))[1])


def test_generation_reads_the_media_at_every_step(model, make_batch, make_media):
    open_gates(model)
    prompts = make_batch([[("<bos>", 0), "image", ("a red", 0)], [("<bos>", 0), "image"]], make_media("image", count=2))
    composed = model.compose(prompts, padding="left")
    with model.fusion.reading(composed.cross):
        ids = model.llm.generate(composed.embeddings, composed.attention_mask, 4)
    for row, prompt in enumerate(("<bos> a red", "<bos>")):
        media = {"image": copy.copy(prompts.media["image"])}
        media["image"].values = media["image"].values[row : row + 1]
        words = [prompt]
        for token in ids[row]:
            whole = make_batch([[("<bos>", 0), "image", *((w, 0) for w in " ".join(words).split()[1:])]], media)
            hidden = model.hidden(model.compose(whole))[0, -1]
            assert int(model.llm.logits(hidden).argmax()) == token
            words.append(model.text_tokenizer.tokenizer.convert_ids_to_tokens(token))


def test_outside_of_its_context_the_language_model_is_as_it_was(model):
    open_gates(model)
    embeddings = torch.randn(1, 3, 24)
    plain = copy.deepcopy(model.llm)
    for layer in plain.layers:
        layer._forward_pre_hooks.clear()
    assert torch.equal(model.llm.hidden(embeddings), plain.hidden(embeddings))


def test_tensors_keep_their_names_and_copies_their_own_blocks(model, make_batch, make_media):
    assert not any("fusion" in name for name in model.llm.state_dict())
    batch = captions(make_batch, make_media("image", count=2))
    twin = copy.deepcopy(model)
    open_gates(twin)
    assert not torch.allclose(twin.hidden(twin.compose(batch)), model.hidden(model.compose(batch)))


def test_sites_and_widths_are_checked(make_llm, make_batch):
    with pytest.raises(ModalignError, match="site 2 is no layer: the language model has 2"):
        GatedCrossAttentionFusion(24, 12, [2], 2, 16).attach(make_llm())
    with pytest.raises(ModalignError, match="built for width 32"):
        GatedCrossAttentionFusion(32, 12, [0], 2, 16).attach(make_llm())
    with pytest.raises(ModalignError, match="s0 has no text"):
        GatedCrossAttentionFusion(24, 12, [0], 2, 16).compose(make_batch([[]], {}), {}, make_llm())


def test_gradients_are_the_same_where_the_layers_are_computed_again(model, make_batch, make_media):
    """The backward pass runs a layer once more when its media are gone: what is inserted must not run again."""
    open_gates(model)
    batch = captions(make_batch, make_media("image", count=2))
    found = []
    for _ in range(2):
        model.zero_grad(set_to_none=True)
        model(batch).loss_sum.backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        recompute(large_blocks(model))
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(gradient, found[1][name]) for name, gradient in found[0].items())
