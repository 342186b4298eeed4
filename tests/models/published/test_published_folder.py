"""A released checkpoint becomes a folder of parts and comes back to the bit, in its own dtype."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from modalign.errors import ModalignError
from modalign.models.published.files import load_published, read_state
from modalign.models.published.folder import folder_to_released, load_folder, released_to_folder

DATA = Path(__file__).parents[2] / "parity" / "data"
WEIGHTS = DATA / "onellm_tiny.weights.safetensors"
SIZES = json.loads((DATA / "onellm_tiny.json").read_text())


def test_there_and_back_is_exact_with_what_lies_beside_the_model(tmp_path):
    beside = {"llma.clip.logit_scale": torch.tensor(2.6), "llma.clip.token_embedding.weight": torch.randn(3, 4)}
    released = {n: t.half() for n, t in {**load_file(WEIGHTS), **beside}.items()}
    torch.save(released, tmp_path / "consolidated.00-of-01.pth")
    parts = released_to_folder(tmp_path / "consolidated.00-of-01.pth", tmp_path / "onellm", SIZES)
    assert {"llm", "encoders.clip", "tokenizers.visual", "projectors.upm.ports.depth"} <= set(parts)
    folder_to_released(tmp_path / "onellm", tmp_path / "back.pth")
    back = read_state(tmp_path / "back.pth")
    assert set(back) == set(released)
    assert all(t.dtype == torch.float16 and torch.equal(t, released[n]) for n, t in back.items())


def test_the_folder_is_the_model(tmp_path):
    released_to_folder(WEIGHTS, tmp_path, SIZES)
    one, other = load_folder(tmp_path).state_dict(), load_published(WEIGHTS, SIZES).state_dict()
    assert all(torch.equal(one[n], t) for n, t in other.items())


def test_a_folder_that_is_none_or_not_whole_is_named(tmp_path):
    with pytest.raises(ModalignError, match=r"no converted checkpoint: it holds no sizes\.json"):
        load_folder(tmp_path)
    released_to_folder(WEIGHTS, tmp_path, SIZES)
    (tmp_path / "projectors.upm.experts.1.safetensors").unlink()
    with pytest.raises(ModalignError, match=r"its part projectors\.upm\.experts\.1 is missing"):
        folder_to_released(tmp_path, tmp_path / "x.pth")
    llm = load_file(tmp_path / "llm.safetensors")
    save_file({n: t for n, t in llm.items() if "norm" not in n}, tmp_path / "llm.safetensors")
    with pytest.raises(ModalignError, match="its part llm is missing or incomplete"):
        load_folder(tmp_path)
