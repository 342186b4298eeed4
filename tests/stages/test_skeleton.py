"""Full size on no device: parameters by part beside the released code's, every language model and encoder."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from modalign.config.compose import compose_settings
from modalign.errors import ModalignError
from modalign.models.parts import count_parameters
from modalign.models.published.build import build_published
from modalign.models.published.sizes import PublishedSizes
from modalign.stages.skeleton import skeleton, without_weights

WIDTH, LLM = 1024, 4096
PICTURES = ("image", "video", "depth", "normal")
# Part: parameters of the released code (8587a47, `main_pretrain.py` on llama-2-7b), and what the paper says of it.
RELEASED = {
    "encoders.clip": (302_577_664, "ViT-L/14; with patch convolution and projection 303,966,208"),
    "llm": (6_738_415_616, "LLaMA2-7B"),
    "tokenizers.visual": (602_112, "14 x 14 convolution, 3 to 1024 channels"),
    "tokenizers.audio": (263_168, "16 x 16 convolution at stride 10"),
    "tokenizers.point": (7_168, "1 x 1 convolution, 6 to 1024 channels"),
    "tokenizers.imu": (61_440, "convolution of 10 steps, 6 to 1024 channels"),
    "tokenizers.fmri": (128_819_200, "'8196' = 1024 x 8 outputs of 15724 voxels"),
    "positions.audio": ((1212 + 1) * WIDTH, "1212 tokens"),
    "positions.point": ((1024 + 1) * WIDTH, "'512 groups', 'output 1024 x 1024'"),
    "positions.imu": ((391 + 1) * WIDTH, "'2000 x 6' input, 391 tokens: only 400 steps give so many"),
    "positions.fmri": ((8 + 1) * WIDTH, "8 tokens"),
    **{f"projectors.upm.experts.{k}": (102_776_832, "88 M") for k in range(3)},
    **{f"projectors.upm.router.{m}": (4_210_691, "an MLP") for m in (*PICTURES, "audio", "point", "imu", "fmri")},
    **{f"projectors.upm.ports.{m}": (5_297_152, "30 query tokens; the rest is not mentioned")
       for m in (*PICTURES, "audio", "point", "imu", "fmri")},
}  # fmt: skip


@cache
def counted(*overrides: str) -> dict[str, int]:
    settings, _ = compose_settings(overrides)
    return count_parameters(skeleton(settings, tuple(settings.modalities)))


def test_the_released_settings_give_the_released_codes_parameters_part_by_part():
    assert counted("experiment=onellm_released") == {part: count for part, (count, _) in RELEASED.items()}


def test_the_paper_s_configuration_has_the_released_code_s_parameters_part_by_part():
    assert counted("model=onellm_7b") == counted("experiment=onellm_released")


def test_the_paper_s_ten_seconds_of_motion_have_positions_for_1991_tokens():
    longer = ("modalities.imu.decoder.num_steps=2000", "modalities.imu.tokenizer.num_steps=2000")
    usual, long = counted("model=onellm_7b"), counted("model=onellm_7b", *longer)
    assert {part: long[part] for part in long if long[part] != usual[part]} == {"positions.imu": (1991 + 1) * WIDTH}


def test_conversion_of_a_published_checkpoint_meets_a_model_of_the_same_sizes():
    with torch.device("meta"):
        published = count_parameters(build_published(PublishedSizes()))
    assert published == counted("experiment=onellm_released")


def test_one_expert_of_the_first_phase_has_no_router():
    settings, _ = compose_settings(("model=onellm_7b",))
    parts = count_parameters(skeleton(settings, ("image",), num_experts=1))
    assert [part for part in parts if ".upm." in part] == ["projectors.upm.experts.0", "projectors.upm.ports.image"]


@pytest.mark.parametrize(
    ("choice", "llm", "width"),
    [("llama3_1_8b", 8_030_261_248, 4096), ("qwen3_5_9b", 8_953_803_264, 4096), ("smollm3_3b", 3_075_098_624, 2048)],
)
def test_a_language_model_of_today_takes_the_place_of_llama_2(choice, llm, width):
    settings, _ = compose_settings(("model=onellm_7b", f"model/language_model={choice}"))
    model = skeleton(settings, ("image",))
    assert count_parameters(model)["llm"] == llm
    assert model.llm.width == width == model.projectors["upm"].width_out


@pytest.mark.parametrize(
    ("choice", "name", "count", "tokens"),
    [
        ("clip_vit_l14_laion", "clip", 302_577_664, 257),
        # what timm counts, less the patch convolution, whose bias lies in the positions
        ("siglip2_so400m", "siglip2", 412_442_352 - (588 + 1) * 1152, 256),
        ("dinov2_vit_l14", "dinov2", 303_227_904 - (588 + 1) * 1024, 257),
    ],
)
def test_another_encoder_takes_the_place_of_clip_for_all_eight_modalities(choice, name, count, tokens):
    settings, _ = compose_settings(("model=onellm_7b", f"model/encoder={choice}", *SMALL))
    model = skeleton(settings, tuple(settings.modalities))
    assert {path.encoder for path in model.paths.values()} == {name}
    assert count_parameters(model)[f"encoders.{name}"] == count
    pictures = torch.zeros(1, 3, 224, 224, device="meta")
    assert model.encoders[name](model.tokenizers["visual"](pictures)[:, 0]).shape[1] == tokens


SMALL = (
    "model.language_model.source={model_type: llama, vocab_size: 64, hidden_size: 32, num_hidden_layers: 1,"
    "num_attention_heads: 4, intermediate_size: 32}",
)


def test_without_weights_nothing_is_named_that_would_have_to_be_fetched():
    settings, _ = compose_settings(("model=onellm_7b", "model.language_model.bits=4"))
    bare = without_weights(settings).model
    assert "pretrained" not in bare.encoders["clip"]
    assert bare.language_model["source"]["hidden_size"] == LLM
    assert not {"architecture", "bits"} & set(bare.language_model)


def test_sizes_that_nobody_here_knows_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    settings, _ = compose_settings(
        ("model=onellm_7b", "model.language_model.source=somebody/some-model", "model.language_model.architecture=null")
    )
    with pytest.raises(ModalignError, match=r"configuration 'somebody/some-model' .*name a local folder"):
        skeleton(settings, ("image",))
