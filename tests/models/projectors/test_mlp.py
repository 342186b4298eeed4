"""The plain projector: as many tokens leave as came, lengths go with them."""

from __future__ import annotations

import pytest
import torch

from modalign.errors import ModalignError
from modalign.models.projectors.mlp import MlpProjector
from modalign.types import TokenSet


def test_every_feature_leaves_as_a_token_and_the_mask_goes_with_it():
    projector = MlpProjector(16, 24, ["image"])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    tokens = projector(TokenSet(torch.randn(2, 3, 16), mask), "image")
    assert tokens.values.shape == (2, 3, 24)
    assert tokens.lengths.tolist() == [3, 1]


def test_modalities_have_their_own_mlp_unless_it_is_shared():
    features = TokenSet(torch.randn(2, 3, 16))
    own, shared = (MlpProjector(16, 24, ["image", "audio"], shared=s) for s in (False, True))
    assert not torch.equal(own(features, "image").values, own(features, "audio").values)
    assert torch.equal(shared(features, "image").values, shared(features, "audio").values)


def test_scale_is_matched_where_there_is_a_norm():
    projector = MlpProjector(16, 24, ["image"], out_norm=True)
    projector.match_scale(0.05)
    assert float(projector(TokenSet(torch.randn(9, 3, 16)), "image").values.std()) == pytest.approx(0.05, rel=0.1)


def test_an_unknown_modality_is_refused():
    with pytest.raises(ModalignError, match="known: image"):
        MlpProjector(16, 24, ["image"])(TokenSet(torch.randn(1, 3, 16)), "sound")
