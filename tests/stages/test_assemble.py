"""From settings to a model: other values at the seams train through the same command, and what does not fit is told."""

import pytest
import torch

from modalign.errors import ModalignError
from modalign.models.fusion.cross_attention import GatedCrossAttentionFusion
from modalign.models.projectors.mlp import MlpProjector
from modalign.stages.assemble import build_model, build_tokenizers, find_text_tokenizer
from modalign.stages.load_run import load_run

SHORT = ("stage=align", "modality=image", "stages.align.steps=2")
MLP = ("~model.projectors.upm", "+model.projectors.upm={_target_: modalign.models.projectors.mlp.MlpProjector}")
CROSS = (
    "~model.fusion",
    "+model.fusion={_target_: modalign.models.fusion.cross_attention.GatedCrossAttentionFusion,"
    "width: ${model.language_model.source.hidden_size}, media_width: 96, sites: [0], num_heads: 4, hidden: 64}",
)


def verdicts(run):
    return {part["name"]: part["gradient"] for part in run.manifest().parts if part["trains"]}


def test_a_plain_mlp_that_passes_every_feature_on_trains_in_the_projector_s_place(backbones, image):
    run = backbones.train(*SHORT, *MLP)
    model = load_run(run.path).model
    assert isinstance(model.projectors["upm"], MlpProjector)
    assert verdicts(run) == {"tokenizers.visual": "ok", "projectors.upm.ports.image": "ok"}
    (batch,) = backbones.phase(*SHORT, *MLP).slices(1)
    tokens = model.soft_tokens(batch.media)["image"]
    patches = model.tokenizers["visual"].num_tokens
    assert tokens.values.shape == (8, patches + 1, model.llm.width)  # the class token too


def test_gated_cross_attention_trains_in_the_prefix_s_place(backbones, image):
    train = "stages.align.train=[tokenizers,positions,projectors,fusion]"
    run = backbones.train(*SHORT, *CROSS, train)
    model = load_run(run.path).model
    assert isinstance(model.fusion, GatedCrossAttentionFusion)
    assert set(verdicts(run).values()) == {"ok"}
    assert "fusion" in verdicts(run)
    assert float(model.fusion.blocks["0"].gate_attention.abs()) > 0
    (batch,) = backbones.phase(*SHORT, *CROSS, train).slices(1)
    composed = model.compose(batch)
    assert composed.cross is not None
    assert composed.embeddings.shape[1] < model.tokenizers["visual"].num_tokens  # text alone


def test_cross_attention_that_is_left_frozen_is_told_since_no_gradient_passes_its_closed_gates(backbones, image):
    with pytest.raises(ModalignError, match=r"no usable gradient: .*tokenizers\.visual \(zero\)"):
        backbones.train(*SHORT, *CROSS)


def test_backbones_are_shared_by_whatever_is_put_between_them(backbones):
    usual = backbones.specs(*SHORT)
    for others in (MLP, CROSS):
        other = backbones.specs(*SHORT, *others)
        assert [s.identity for s in other[:2]] == [s.identity for s in usual[:2]]
        assert other[-1].identity != usual[-1].identity


def test_a_vocabulary_larger_than_the_language_model_is_told_with_both_numbers(backbones):
    sources = backbones.sources("model.language_model.source.vocab_size=400")
    (text,) = backbones.runs.glob("pretrain_text-*")
    tokenizer = find_text_tokenizer(backbones.sources().settings, [text])
    with pytest.raises(ModalignError, match=rf"{tokenizer.vocab_size} tokens, the language model embeds 400"):
        build_model(sources.settings, ["image"], None, tokenizer)


def test_a_modality_may_name_a_tokenizer_that_another_declares(backbones):
    settings = backbones.sources("modalities.depth.tokenizer={part: visual}", "~modalities.depth.tokenizer._target_",
                                 "~modalities.depth.tokenizer.patch_px").settings  # fmt: skip
    declared = {name: settings.modalities[name] for name in ("image", "depth")}
    assert list(build_tokenizers(declared)) == ["visual"]
    with pytest.raises(ModalignError, match=r"unknown tokenizer part 'visual' in modalities\.depth"):
        build_tokenizers({"depth": declared["depth"]})


def test_without_any_text_tokenizer_the_command_that_makes_one_is_named(backbones):
    with pytest.raises(ModalignError, match="stage=pretrain_text"):
        find_text_tokenizer(backbones.sources().settings, [])


def test_the_projector_starts_at_the_scale_of_the_embeddings(backbones, image):
    phase = backbones.phase("stage=align", "modality=image")
    (batch,) = phase.slices(1)
    with torch.no_grad():
        tokens = phase.model.soft_tokens(batch.media)["image"].values
    ratio = float(tokens.std()) / phase.model.llm.embedding_std()
    assert 0.2 < ratio < 5


def test_the_same_seed_assembles_the_same_model_and_another_seed_another(backbones, image):
    one, two = (backbones.phase("stage=align", "modality=image").model.state_dict() for _ in range(2))
    other = backbones.phase("stage=align", "modality=image", "seed=5", parent=parent_of(image)).model.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one if "ports" in name)


def parent_of(run):
    from modalign.runs.folder import RunFolder

    return RunFolder((run.path / run.manifest().parent["path"]).resolve())
