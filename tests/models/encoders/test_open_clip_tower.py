"""The tower is open_clip's, token by token; items stay apart; gradients go through while its weights are frozen."""

from __future__ import annotations

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from modalign.errors import ModalignError
from modalign.models.encoders.identity import NoEncoder
from modalign.models.encoders.open_clip_tower import OpenClipTower, clip_to_tower, tower_to_clip

VISION = {"image_size": 16, "patch_size": 8, "width": 16, "layers": 2, "head_width": 4}
TEXT = {"context_length": 8, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}


def own_tokens(tower, pictures):
    return torch.nn.functional.conv2d(pictures, tower.patch_weight, stride=8).flatten(2).transpose(1, 2)


def test_pictures_give_the_features_that_open_clip_gives(tmp_path):
    clip = open_clip.CLIP(8, VISION, TEXT, quick_gelu=True).eval()
    save_file(clip.state_dict(), tmp_path / "clip.safetensors")
    tower = OpenClipTower(
        {"embed_dim": 8, "vision_cfg": VISION, "quick_gelu": True}, str(tmp_path / "clip.safetensors")
    ).eval()
    pictures = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        features = tower(own_tokens(tower, pictures))
        torch.testing.assert_close(features[:, 0] @ tower.projection, clip.visual(pictures))
        clip.visual.output_tokens = True
        torch.testing.assert_close(features[:, 1:], clip.visual(pictures)[1])


def test_changing_one_item_leaves_the_others_unchanged(make_tower):
    tower = make_tower().eval()
    tokens = torch.randn(3, 4, 16)
    changed = tokens.clone()
    changed[1] = torch.randn(4, 16)
    before, after = tower(tokens), tower(changed)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.equal(before[1], after[1])


def test_gradients_flow_through_a_frozen_tower(make_tower):
    tower = make_tower().requires_grad_(False).eval()
    tokens = torch.randn(2, 4, 16, requires_grad=True)
    tower(tokens).square().sum().backward()
    assert tokens.grad.abs().min() > 0
    assert all(p.grad is None for p in tower.parameters())


def test_no_graph_is_built_where_nothing_before_it_trains(make_tower):
    tower = make_tower().requires_grad_(False)
    assert not tower(torch.randn(2, 4, 16)).requires_grad


def test_own_positions_replace_the_towers(make_tower):
    tower = make_tower().eval()
    table = torch.randn(7, 16)
    assert tower(torch.randn(2, 6, 16), table).shape == (2, 7, 16)
    with pytest.raises(ModalignError, match="6 tokens came, but there are positions for 4"):
        tower(torch.randn(2, 6, 16))


def test_only_what_a_path_uses_counts_as_parameters(make_tower):
    tower = make_tower()
    tower(torch.randn(1, 4, 16)).square().sum().backward()
    assert all(p.grad is not None for p in tower.parameters())
    assert {"patch_weight", "projection"} <= set(dict(tower.named_buffers()))


def test_names_go_to_a_clip_and_back(make_tower):
    names = list(make_tower().state_dict())
    assert [clip_to_tower(tower_to_clip(n)) for n in names] == names
    assert {tower_to_clip(n) for n in names} == {
        n for n in open_clip.CLIP(8, VISION, TEXT).state_dict() if n.startswith("visual.")
    }


def test_weights_that_do_not_fit_are_named(make_tower, tmp_path):
    tower = make_tower()
    state = tower.state_dict()
    with pytest.raises(ModalignError, match=r"lacks 1 tensors of the vision tower, the first is ln_pre.weight"):
        tower.load_clip({n: t for n, t in state.items() if n != "ln_pre.weight"}, "x.safetensors")
    with pytest.raises(ModalignError, match=r"ln_pre.weight has shape"):
        tower.load_clip({**state, "ln_pre.weight": torch.ones(3)}, "x.safetensors")


def test_an_unknown_architecture_is_refused():
    with pytest.raises(ModalignError, match="nearest are ViT-L-1"):
        OpenClipTower("ViT-L-41")
    with pytest.raises(ModalignError, match="choose a ViT"):
        OpenClipTower({"embed_dim": 8, "vision_cfg": {**VISION, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8}})


def test_no_encoder_adds_positions_and_nothing_else():
    tokens, table = torch.randn(2, 4, 8), torch.randn(5, 8)
    torch.testing.assert_close(NoEncoder()(tokens, table), tokens + table[1:])
    assert NoEncoder()(tokens) is tokens


def test_a_name_is_built_without_weights_and_without_its_text_side():
    with torch.device("meta"):
        tower = OpenClipTower("ViT-B-32-quickgelu")
    assert (tower.width, tower.num_patches) == (768, 49)


def test_a_frozen_tower_may_be_kept_in_half_precision(make_tower):
    tower = OpenClipTower({"embed_dim": 8, "vision_cfg": VISION}, dtype="bfloat16").eval()
    assert tower(torch.randn(2, 4, 16)).dtype == torch.bfloat16


def test_an_encoder_without_the_expected_tower_is_told_in_one_line():
    with pytest.raises(ModalignError, match=r"is timm's vit_base_patch16_siglip_224: use .*TimmTower"):
        OpenClipTower("ViT-B-16-SigLIP2")
    with pytest.raises(
        ModalignError, match=r"unknown pretrained 'openal' in the encoder ViT-L-14.*did you mean 'openai'"
    ):
        OpenClipTower("ViT-L-14-quickgelu", "openal")


def test_a_file_of_another_clip_is_told_in_one_line(tmp_path):
    save_file(open_clip.CLIP(8, VISION, TEXT).state_dict(), tmp_path / "clip.safetensors")
    wide = {**VISION, "width": 32, "head_width": 8}
    with pytest.raises(ModalignError, match=r"has shape \(16,\), the tower's is \(32,\)"):
        OpenClipTower({"embed_dim": 8, "vision_cfg": wide}, str(tmp_path / "clip.safetensors"))
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "clip.safetensors").read_bytes()[:200])
    with pytest.raises(ModalignError, match=r"cannot load the encoder '.*cut\.safetensors'"):
        OpenClipTower({"embed_dim": 8, "vision_cfg": VISION}, str(tmp_path / "cut.safetensors"))


def test_a_tower_with_a_seed_is_the_same_in_every_run_and_leaves_other_draws_alone():
    """One that never trains is in no checkpoint: a later phase has to draw the same one, whatever it built before."""
    towers = []
    for before in (0, 5):
        torch.manual_seed(1)
        torch.randn(before)
        towers.append(OpenClipTower({"embed_dim": 8, "vision_cfg": VISION}, seed=3).state_dict())
    assert all(torch.equal(tensor, towers[1][name]) for name, tensor in towers[0].items())
    torch.manual_seed(2)
    undisturbed = torch.randn(4)
    torch.manual_seed(2)
    OpenClipTower({"embed_dim": 8, "vision_cfg": VISION}, seed=3)
    assert torch.equal(torch.randn(4), undisturbed)
