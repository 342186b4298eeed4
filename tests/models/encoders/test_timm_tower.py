"""SigLIP and DINOv2 through timm: token by token what timm gives, items apart, gradients through."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file

from modalign.errors import ModalignError
from modalign.models.encoders.timm_tower import TimmTower
from modalign.models.seams import Encoder

# Name, pixels of a patch, prefix tokens; each is built for 4 x 4 patches.
KINDS = {
    "a plain ViT with a class token": ("test_vit", 16, 1),
    "DINOv2": ("vit_small_patch14_dinov2", 14, 1),
    "DINOv2 with registers": ("vit_small_patch14_reg4_dinov2", 14, 5),
    "SigLIP without a class token": ("vit_base_patch16_siglip_224", 16, 0),
}


@pytest.fixture
def tower():
    return TimmTower("test_vit", size_px=64).eval()


def own_tokens(tower, pictures, patch_px):
    return torch.nn.functional.conv2d(pictures, tower.patch_weight, stride=patch_px).flatten(2).transpose(1, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_give_the_features_that_timm_gives(kind, tmp_path):
    name, patch_px, num_prefix = KINDS[kind]
    model = timm.create_model(name, num_classes=0, img_size=4 * patch_px, depth=2).eval()
    torch.nn.init.normal_(model.patch_embed.proj.bias)
    tower = TimmTower.__new__(TimmTower)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", lambda *_, **__: model)
        tower.__init__(name, size_px=4 * patch_px)
    pictures = torch.randn(2, 3, 4 * patch_px, 4 * patch_px)
    with torch.no_grad():
        features = tower.eval()(own_tokens(tower, pictures, patch_px))
        torch.testing.assert_close(features, model.forward_features(pictures), rtol=1e-5, atol=1e-5)
    assert features.shape == (2, 16 + num_prefix, tower.width)
    assert (tower.num_prefix, tower.num_patches) == (num_prefix, 16)


def test_weights_come_from_a_file_and_positions_fit_another_size_of_pictures(tmp_path):
    model = timm.create_model("test_vit", num_classes=0)
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    tower = TimmTower("test_vit", str(tmp_path / "vit.safetensors"), size_px=96)
    assert tower.num_patches == 36
    assert torch.equal(tower.blocks[0].attn.qkv.weight, model.blocks[0].attn.qkv.weight)
    assert TimmTower("test_vit", str(tmp_path / "vit.safetensors"), dtype="bfloat16").prefix.dtype == torch.bfloat16


def test_changing_one_item_leaves_the_others_unchanged(tower):
    tokens = torch.randn(3, 16, tower.width)
    changed = tokens.clone()
    changed[1] = torch.randn(16, tower.width)
    before, after = tower(tokens), tower(changed)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.equal(before[1], after[1])


def test_gradients_flow_through_a_frozen_tower(tower):
    tower.requires_grad_(False)
    tokens = torch.randn(2, 16, tower.width, requires_grad=True)
    tower(tokens).square().sum().backward()
    assert tokens.grad.abs().sum(dim=-1).min() > 0
    assert all(p.grad is None for p in tower.parameters())


def test_only_what_a_path_uses_counts_as_parameters(tower):
    tower(torch.randn(1, 16, tower.width)).square().sum().backward()
    assert all(p.grad is not None for p in tower.parameters())
    assert isinstance(tower, Encoder)


def test_own_positions_replace_the_towers_and_their_first_row_is_the_class_tokens(tower):
    table = torch.randn(7, tower.width)
    tokens = torch.randn(2, 6, tower.width)
    features = tower(tokens, table)
    assert features.shape == (2, 7, tower.width)
    moved = torch.cat([table[:1] + 1, table[1:]])
    assert not torch.equal(tower(tokens, moved), features)
    with pytest.raises(ModalignError, match="6 tokens came, but there are positions for 16"):
        tower(tokens)


def test_an_encoder_without_the_expected_tower_is_told_in_one_line(tmp_path):
    with pytest.raises(ModalignError, match=r"unknown timm model 'vit_larg_patch14_dinov2': nearest are .*vit_large"):
        TimmTower("vit_larg_patch14_dinov2")
    with pytest.raises(ModalignError, match=r"timm's ResNet, no plain vision transformer .*choose a ViT such as"):
        TimmTower("resnet10t")
    with pytest.raises(ModalignError, match=r"unknown pretrained 'lvd' for .*dinov2: its tags are lvd142m"):
        TimmTower("vit_small_patch14_dinov2", "lvd")
    with pytest.raises(ModalignError, match=r"there is no file of weights .*gone\.safetensors"):
        TimmTower("test_vit", str(tmp_path / "gone.safetensors"))


def test_weights_of_another_width_or_architecture_are_told_in_one_line(tmp_path):
    file = str(tmp_path / "vit.safetensors")
    state = timm.create_model("test_vit", num_classes=0).state_dict()
    save_file({**state, "norm.weight": torch.ones(32), "norm.bias": torch.ones(32)}, file)
    with pytest.raises(ModalignError, match=r"cannot load the encoder 'test_vit' .*size mismatch for norm") as told:
        TimmTower("test_vit", file)
    assert "\n" not in str(told.value)
    save_file({name: tensor for name, tensor in state.items() if name != "norm.weight"}, file)
    with pytest.raises(ModalignError, match=r"lacks 1 tensors, the first is norm\.weight"):
        TimmTower("test_vit", file)
    save_file({**state, "blocks.6.attn.qkv.weight": torch.ones(1)}, file)
    with pytest.raises(ModalignError, match=r"has, unknown to the encoder, 1 tensors, the first is blocks\.6\.attn"):
        TimmTower("test_vit", file)
