"""How far frozen parts carry a modality, and that whatever decides their outputs is another shelf."""

import pytest
import torch

from modalign.config.compose import compose_settings
from modalign.data.features import FeatureStore
from modalign.stages import frozen_path
from modalign.stages.frozen_path import path_parts, reach, shelves
from modalign.types import FEATURES, SOFT_TOKENS

CPU = torch.device("cpu")
BOTH = ("image", "audio")


@pytest.fixture(scope="module")
def tuned(backbones, audio):
    """The model of an instruct phase, with its settings."""
    return backbones.phase("stage=instruct", "modality=[image,audio]"), compose_settings(backbones.overrides())[0]


@pytest.fixture
def contexts(tmp_path, tuned):
    def find(settings=None, rows=4, model=None):
        phase, own = tuned
        store = FeatureStore(tmp_path, 10**6)
        found = shelves(settings or own, model or phase.model, BOTH, rows, CPU, store)
        return {name: shelf.context for name, shelf in found.items()}

    return find


def test_in_instruct_soft_tokens_are_reached_and_where_a_projector_trains_features(backbones, image, tuned):
    assert {reach(tuned[0].model, m) for m in BOTH} == {SOFT_TOKENS}
    frozen = backbones.phase("stage=align", "modality=audio", "stages.align.train=[projectors]", parent=image)
    assert {reach(frozen.model, m) for m in BOTH} == {FEATURES}
    assert reach(backbones.phase("stage=align", "modality=audio").model, "audio") is None


def test_a_path_s_parts_are_shared_ones_and_its_own(tuned):
    parts = path_parts(tuned[0].model, "audio")
    assert {"tokenizers.audio", "encoders.clip", "projectors.upm.experts.0", "projectors.upm.ports.audio"} <= set(parts)
    assert not [part for part in parts if part.endswith((".image", ".visual")) or part == "llm"]


def test_another_weight_on_the_way_is_another_shelf_and_one_beside_it_is_not(contexts, tuned):
    before, weights = contexts(), dict(tuned[0].model.named_parameters())
    speaks = next(name for name in weights if name.startswith("llm."))
    for name, changed in (
        ("encoders.clip.ln_post.weight", set(BOTH)), ("projectors.upm.ports.audio.queries", {"audio"}), (speaks, set()),
    ):  # fmt: skip
        weight = weights[name]
        kept = weight.detach().clone()
        with torch.no_grad():
            weight.view(-1)[0] += 1e-6 + 1e-3 * weight.view(-1)[0].abs()
        after = contexts()
        assert {m for m in BOTH if after[m] != before[m]} == changed, name
        with torch.no_grad():
            weight.copy_(kept)
    assert contexts() == before


def test_settings_threads_and_code_that_decide_a_bit_are_another_shelf(contexts, tuned, monkeypatch):
    before, own = contexts(), tuned[1]
    decoder = {**own.modalities["audio"].decoder, "mean": -1.5}
    audio = own.modalities["audio"].model_copy(update={"decoder": decoder})
    other = own.model_copy(update={"modalities": {**own.modalities, "audio": audio}})
    assert contexts(other)["audio"] != before["audio"]
    assert contexts(other)["image"] == before["image"]
    half = own.model_copy(update={"trainer": own.trainer.model_copy(update={"precision": "bf16-mixed"})})
    assert not set(contexts(half).values()) & set(before.values())
    assert not set(contexts(rows=3).values()) & set(before.values())
    told = own.model_copy(update={"seed": 7})
    assert contexts(told) == before
    with monkeypatch.context() as patch:
        patch.setattr(frozen_path, "code_digest", lambda: "0" * 64)
        assert not set(contexts().values()) & set(before.values())
    torch.set_num_threads(2)
    assert not set(contexts().values()) & set(before.values())
