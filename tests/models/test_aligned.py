"""The whole model: from media to text, and what is refused."""

from __future__ import annotations

import pytest
import torch

from modalign.errors import ModalignError
from modalign.models.aligned import Path
from modalign.models.freezing import plan_freeze
from modalign.models.positions import Positions
from modalign.types import MediaBatch

CAPTIONS = [
    [("<bos>", 0), "image", ("a red cube", 1)],
    [("<bos>", 0), "cloud", ("a ball", 1)],
    [("<bos>", 0), "image", "voxels", ("is seen", 1), (".", 2)],
]


@pytest.fixture
def batch(make_media, make_batch):
    media = {**make_media("image", count=2), **make_media("cloud"), **make_media("voxels")}
    return make_batch(CAPTIONS, media)


def test_features_are_averaged_over_frames(make_model, make_media):
    model = make_model(["image"]).eval()
    clip = make_media("video", count=2)["video"].values
    frames = model.features("image", MediaBatch(clip.flatten(0, 1))).values
    video = model.features("image", MediaBatch(clip)).values
    torch.testing.assert_close(video, frames.unflatten(0, (2, 3)).mean(dim=1))


def test_the_order_of_frames_counts_once_they_are_marked(make_model, make_media):
    plain = make_model(["image"]).eval()
    marked = make_model(["image"], positions={"image": Positions(4, 16, False, num_frames=3, std=1.0)}).eval()
    clip = make_media("video")["video"].values
    for model, same in ((plain, True), (marked, False)):
        one, other = (model.features("image", MediaBatch(x)).values for x in (clip, clip.flip(1)))
        assert torch.allclose(one, other, atol=1e-5) == same


def test_the_loss_counts_every_supervised_token_by_its_weight(make_model, batch):
    output = make_model()(batch)
    assert output.weight_sum == 3 + 2 + 2 + 2
    assert output.per_sample_weight.tolist() == [3, 2, 4]
    torch.testing.assert_close(output.per_sample_sum.sum(), output.loss_sum.detach())


def test_what_trains_in_align_gets_gradients_through_everything_frozen(make_model, batch):
    model = make_model()
    plan_freeze(model, ["tokenizers", "positions", "projectors"]).apply(model)
    model.loss(batch).loss_sum.backward()
    for name, parameter in model.named_parameters():
        if name.startswith(("encoders", "llm")):
            assert parameter.grad is None, name
        elif "linears.b" not in name:  # the one vector of the batch is of the other variant
            assert parameter.grad is not None, name


def test_in_instruct_no_graph_is_built_before_the_language_model(make_model, batch):
    model = make_model()
    plan_freeze(model, ["llm"]).apply(model)
    assert not any(t.values.requires_grad for t in model.soft_tokens(batch.media).values())
    model.loss(batch).loss_sum.backward()
    assert all(p.grad is not None for p in model.llm.parameters())


def test_a_sample_never_reaches_another(make_model, batch):
    model = make_model().eval()
    before = model(batch).per_sample_sum
    batch.media["cloud"].values.add_(torch.randn(1, 24, 6))
    after = model(batch).per_sample_sum
    torch.testing.assert_close(before[[0, 2]], after[[0, 2]])
    assert before[1] != after[1]


def test_a_frozen_encoder_and_language_model_may_be_kept_in_half_precision(make_model, batch):
    model = make_model()
    plan_freeze(model, ["tokenizers", "positions", "projectors"]).apply(model)
    model.encoders.bfloat16()
    model.llm.bfloat16()
    output = model.loss(batch)
    output.loss_sum.backward()
    assert output.loss_sum.dtype == torch.float32
    assert model.tokenizers["visual"].conv.weight.grad.abs().sum() > 0


def test_generation_gives_text_up_to_a_stop_string(make_model, make_batch, make_media, text_tokenizer):
    model = make_model(["image"]).eval()
    prompts = make_batch([[("<bos>", 0), "image"], [("<bos>", 0), "image", ("a red", 0)]], make_media("image", count=2))
    free = model.generate(prompts, max_new_tokens=6)
    assert len(free) == 2
    words = free[0].split()
    stop = next(w for w in words[1:] if w != words[0])
    assert model.generate(prompts, 6, stop=[stop])[0].split() == words[: words.index(stop)]


def test_generation_equals_the_models_own_next_tokens(make_model, make_batch, make_media, text_tokenizer):
    model = make_model(["image"]).eval()
    media = make_media("image", count=1)
    text = model.generate(make_batch([[("<bos>", 0), "image", ("a", 0)]], media), 3)[0]
    ids = text_tokenizer.encode(text)
    composed = model.compose(make_batch([[("<bos>", 0), "image", ("a " + text, 1)]], media))
    predicted = model.llm.logits(model.hidden(composed))[0].argmax(dim=-1)
    assert predicted[-1 - len(ids) : -1].tolist() == ids


def test_a_model_without_a_text_tokenizer_says_so(make_model, batch):
    with pytest.raises(ModalignError, match="without a text tokenizer"):
        make_model(text_tokenizer=None).generate(batch, 3)


def test_an_additive_phase_may_train_what_is_the_modalitys_own(make_model):
    model = make_model()
    assert model.own_parts("cloud") == [
        "positions.cloud",
        "projectors.upm.ports.cloud",
        "projectors.upm.router.cloud",
        "tokenizers.cloud",
    ]
    assert "positions.image" not in model.own_parts("image")
    shared = make_model(["image"], num_experts=1, paths={m: Path("visual", "clip", "upm") for m in ("image",)})
    assert shared.own_parts("image") == ["projectors.upm.ports.image", "tokenizers.visual"]


def test_scale_is_that_of_the_embeddings(make_model, batch):
    model = make_model()
    model.match_scale()
    soft = model.soft_tokens(batch.media)["cloud"].values
    assert float(soft.std()) == pytest.approx(model.llm.embedding_std(), rel=0.3)


def test_paths_that_do_not_fit_are_refused_when_built(make_model, make_upm):
    with pytest.raises(ModalignError, match="unknown tokenizer 'visuals' in the path of image: did you mean 'visual'"):
        make_model(["image"], paths={"image": Path("visuals", "clip", "upm")})
    with pytest.raises(ModalignError, match="unknown encoder 'klip'"):
        make_model(["image"], paths={"image": Path("visual", "klip", "upm")})
    with pytest.raises(ModalignError, match="tokenizer has width 16, but encoder wants 8"):
        make_model(["image"], encoders={"clip": _narrow_tower()})
    with pytest.raises(ModalignError, match="unknown positions 'image'"):
        make_model(["image"], positions={})
    with pytest.raises(ModalignError, match=r"image: its tokenizer makes 6 tokens, but .* positions for 4: cut"):
        make_model(["image"], positions={"image": Positions(6, 16, learned=False)})


def _narrow_tower():
    from modalign.models.encoders.open_clip_tower import OpenClipTower

    vision = {"image_size": 16, "patch_size": 8, "width": 8, "layers": 1, "head_width": 4}
    return OpenClipTower({"embed_dim": 8, "vision_cfg": vision})


def test_unknown_modalities_and_sequences_that_are_too_long_are_refused(make_model, make_batch, make_media):
    model = make_model(["image"])
    with pytest.raises(ModalignError, match="unknown modality 'imag' in the model: did you mean 'image'"):
        model.features("imag", make_media("image")["image"])
    long = make_batch([[("<bos>", 0), "image", ("a " * 70, 1)]], make_media("image"))
    with pytest.raises(ModalignError, match="76 positions does not fit into the language model's 64"):
        model.loss(long)
