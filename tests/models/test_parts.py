"""The part table: every parameter once, under the name that a stage selects."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from modalign.errors import ModalignError
from modalign.models.parts import count_parameters, declared_parts, load_parts, match, part_of, parts, state_by_part


def test_every_parameter_belongs_to_exactly_one_part(make_model):
    model = make_model()
    table = parts(model)
    names = [n for group in table.values() for n in group]
    assert sorted(names) == sorted(n for n, _ in model.named_parameters())
    assert {"tokenizers.visual", "encoders.clip", "projectors.upm.experts.2", "projectors.upm.router.image"} <= set(
        table
    )
    assert part_of("llm.model.lm_head.weight") == "llm"
    assert sum(count_parameters(model).values()) == sum(p.numel() for p in model.parameters())


def test_tied_parameters_are_counted_and_saved_once(make_model, make_llm, tmp_path):
    model = make_model(language_model=make_llm(tie_word_embeddings=True))
    assert len([n for n in parts(model)["llm"] if "embed_tokens" in n or "lm_head" in n]) == 1
    saved = state_by_part(model, ["llm"])["llm"]
    save_file(saved, tmp_path / "llm.safetensors")
    assert set(load_file(tmp_path / "llm.safetensors")) == set(saved)


def test_a_selector_is_a_prefix_of_words_with_stars(make_model):
    known = parts(make_model())
    assert match("projectors.upm.experts", known) == [f"projectors.upm.experts.{k}" for k in range(3)]
    assert match("projectors.*.*.cloud", known) == ["projectors.upm.ports.cloud", "projectors.upm.router.cloud"]
    assert match("llm", known) == ["llm"]


@pytest.mark.parametrize("selector", ["projector", "projectors.upm.expert", "tokenizers.vis", "llm.model", ""])
def test_a_selector_that_matches_nothing_is_an_error_with_the_nearest_name(make_model, selector):
    with pytest.raises(ModalignError, match=f"unknown part '{selector}'.*known:"):
        match(selector, parts(make_model()))


def test_parts_without_parameters_are_declared_but_not_counted(make_model):
    model = make_model()
    assert "positions.image" in declared_parts(model)
    assert "positions.image" not in parts(model)


def test_states_go_to_a_twin_and_make_it_equal(make_model, make_batch, make_media):
    model, twin = make_model(), make_model()
    states = state_by_part(model, declared_parts(model))
    loaded = load_parts(twin, {part: {n: t.clone() for n, t in tensors.items()} for part, tensors in states.items()})
    assert set(loaded) == set(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), twin.state_dict().values(), strict=True))


def test_a_buffer_is_saved_with_its_part(make_model):
    assert "encoders.clip.patch_weight" in state_by_part(make_model(), ["encoders.clip"])["encoders.clip"]


def test_a_checkpoint_that_does_not_fit_is_named(make_model):
    model = make_model()
    state = state_by_part(model, ["tokenizers.visual"])["tokenizers.visual"]
    name = "tokenizers.visual.conv.weight"
    with pytest.raises(ModalignError, match=f"lacks {name}"):
        load_parts(model, {"tokenizers.visual": {}})
    with pytest.raises(ModalignError, match=r"has tokenizers.visual.more, which the model has not"):
        load_parts(model, {"tokenizers.visual": {**state, "tokenizers.visual.more": torch.ones(1)}})
    with pytest.raises(ModalignError, match=r"has shape \(2,\), but the model's is \(16, 3, 8, 8\)"):
        load_parts(model, {"tokenizers.visual": {name: torch.ones(2)}})
    with pytest.raises(ModalignError, match=r"did you mean 'tokenizers.visual'"):
        state_by_part(model, ["tokenizers.visul"])
