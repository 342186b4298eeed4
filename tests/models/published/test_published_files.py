"""A released checkpoint read and written back is the same to the bit; what does not fit is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from modalign.errors import ModalignError
from modalign.models.published.files import load_published, read_state, write_published
from modalign.models.published.sizes import PublishedSizes, infer_sizes, read_sizes

DATA = Path(__file__).parents[2] / "parity" / "data"
WEIGHTS = DATA / "onellm_tiny.weights.safetensors"
SIZES = json.loads((DATA / "onellm_tiny.json").read_text())


@pytest.fixture(scope="module")
def released():
    return load_file(WEIGHTS)


def equal(one, other):
    return set(one) == set(other) and all(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_round_trip_is_exact_to_the_bit(released, tmp_path, suffix):
    write_published(load_published(WEIGHTS, SIZES), tmp_path / f"back{suffix}")
    back = read_state(tmp_path / f"back{suffix}")
    assert equal(back, released)
    assert load_published(tmp_path / f"back{suffix}", SIZES).state_dict().keys()


def test_what_lies_beside_the_model_and_its_dtype_come_back_too(released, tmp_path):
    beside = {"llma.clip.logit_scale": torch.tensor(2.6), "llma.clip.token_embedding.weight": torch.randn(3, 4)}
    halves = {n: t.bfloat16() for n, t in {**released, **beside}.items()}
    save_file(halves, tmp_path / "half.safetensors")
    model = load_published(tmp_path / "half.safetensors", SIZES)
    assert model.llm.embedding_rows.dtype == torch.float32
    write_published(model, tmp_path / "back.safetensors", like=tmp_path / "half.safetensors")
    assert equal(load_file(tmp_path / "back.safetensors"), halves)


def test_it_may_be_loaded_in_another_dtype_and_from_several_files(released, tmp_path):
    names = sorted(released)
    for part, chosen in enumerate((names[:100], names[100:])):
        save_file({n: released[n] for n in chosen}, tmp_path / f"{part}.safetensors")
    model = load_published([tmp_path / "0.safetensors", tmp_path / "1.safetensors"], SIZES, dtype="bfloat16")
    assert {t.dtype for t in model.state_dict().values()} == {torch.bfloat16}
    assert torch.get_default_dtype() == torch.float32


def test_the_patch_convolution_serves_tower_and_tokenizer_and_the_trained_one_is_written(released, tmp_path):
    model = load_published(WEIGHTS, SIZES)
    assert torch.equal(model.tokenizers["visual"].conv.weight, model.encoders["clip"].patch_weight)
    with torch.no_grad():
        model.tokenizers["visual"].conv.weight.add_(1.0)
    write_published(model, tmp_path / "back.safetensors")
    written = load_file(tmp_path / "back.safetensors")["llma.clip.visual.conv1.weight"]
    assert torch.equal(written, released["llma.clip.visual.conv1.weight"] + 1.0)


def test_sizes_are_read_off_the_tensors(released):
    sizes = infer_sizes(released, SIZES)
    assert {n: getattr(sizes, n) for n in SIZES if n not in ("params", "multiple_of")} == {
        n: v for n, v in SIZES.items() if n not in ("params", "multiple_of")
    }
    assert (sizes.expert_hidden, sizes.llm_hidden) == (96, 128)
    assert (sizes.imu_steps, sizes.point_groups, sizes.fmri_tokens) == (400, 1024, 8)


def test_unstated_sizes_are_those_of_the_released_7b_model():
    sizes = PublishedSizes()
    assert sizes.hidden_of(sizes.llm_dim, 0) == 11008
    assert sizes.hidden_of(sizes.clip_width, 0) == 2816
    assert sizes.num_patches == 256
    assert read_sizes(SIZES).hidden_of(48, 0) == 128


def test_files_that_do_not_fit_are_named(released, tmp_path):
    def saved(state):
        save_file(state, tmp_path / "x.safetensors")
        return tmp_path / "x.safetensors"

    less = {n: t for n, t in released.items() if n != "llma.norm.weight"}
    with pytest.raises(ModalignError, match=r"lacks llma\.norm\.weight, which llm\.model\.model\.norm\.weight needs"):
        load_published(saved(less), SIZES)
    with pytest.raises(ModalignError, match=r"1 tensors that belong to no part of the model, the first is llma\.odd"):
        load_published(saved({**released, "llma.odd": torch.ones(1)}), SIZES)
    with pytest.raises(ModalignError, match="no released OneLLM checkpoint"):
        load_published(saved({"weight": torch.ones(1)}), SIZES)
    with pytest.raises(ModalignError, match="did you mean 'llm_heads'"):
        load_published(WEIGHTS, {"llm_head": 4})
    with pytest.raises(ModalignError, match="a second time"):
        load_published([WEIGHTS, WEIGHTS], SIZES)


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(WEIGHTS.read_bytes()[:1000])
    (tmp_path / "cut.pth").write_bytes(b"no archive")
    torch.save({"model": [1, 2]}, tmp_path / "list.pth")
    for name, words in {
        "none.pth": "there is no checkpoint file",
        "cut.safetensors": "cannot read",
        "cut.pth": "cannot read",
        "list.pth": "holds no table of tensors",
    }.items():
        with pytest.raises(ModalignError, match=words):
            load_published(tmp_path / name, SIZES)
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(ModalignError, match=r"unknown suffix '\.bin'"):
        load_published(tmp_path / "weights.bin", SIZES)


def test_nothing_but_tensors_is_unpickled(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ModalignError, match="cannot read"):
        load_published(tmp_path / "evil.pth", SIZES)
    assert not (tmp_path / "ran").exists()


def test_another_architecture_is_not_written_in_the_released_format(make_model, tmp_path):
    with pytest.raises(ModalignError, match="only a model that build_published made"):
        write_published(make_model(), tmp_path / "x.safetensors")
    with pytest.raises(ModalignError, match=r"unknown suffix '\.bin'"):
        write_published(load_published(WEIGHTS, SIZES), tmp_path / "x.bin")
