"""The seams are open: other projectors and fusions are named in a configuration, and nothing else changes."""

from __future__ import annotations

import pytest
import yaml

from modalign.config.build import build
from modalign.models.seams import Encoder, Fusion, Projector, Tokenizer

PROJECTORS = """
upm:
  _target_: modalign.models.projectors.upm.UniversalProjector
  {width: 16, num_experts: 2, expert_layers: 1, num_heads: 4, hidden: 24, num_queries: 3, router: {kind: sparse}}
mlp:
  _target_: modalign.models.projectors.mlp.MlpProjector
  {hidden: 20, out_norm: true}
"""
FUSIONS = {
    "prefix": {"_target_": "modalign.models.fusion.prefix.PrefixFusion"},
    "cross": {
        "_target_": "modalign.models.fusion.cross_attention.GatedCrossAttentionFusion",
        "width": 24,
        "media_width": 24,
        "sites": [1],
        "num_heads": 4,
        "hidden": 32,
    },
}


def projector_of(name: str) -> dict:
    return yaml.safe_load(PROJECTORS.replace("\n  {", "\n  <<: {"))[name]


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("projector", ["upm", "mlp"])
def test_every_projector_goes_with_every_fusion(make_model, make_batch, make_media, projector, fusion):
    modalities = ["image", "cloud", "voxels"]
    built = build(projector_of(projector), "model.projectors.upm", width_in=16, width_out=24, modalities=modalities)
    model = make_model(projectors={"upm": built}, fusion=build(FUSIONS[fusion], "model.fusion"))
    model.match_scale()
    batch = make_batch([[("<bos>", 0), *modalities, ("a red cube", 1)]], make_media(*modalities))
    output = model(batch)
    output.loss_sum.backward()
    assert output.weight_sum == 3
    assert len(model.eval().generate(batch, 2)) == 1


def test_the_stock_parts_fit_the_seams(make_model):
    model = make_model()
    assert all(isinstance(t, Tokenizer) for t in model.tokenizers.values())
    assert all(isinstance(e, Encoder) for e in model.encoders.values())
    assert all(isinstance(p, Projector) for p in model.projectors.values())
    assert isinstance(model.fusion, Fusion)
