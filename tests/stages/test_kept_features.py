"""Held-out items go through the encoder once for as many phases as leave their way there alone."""

from __future__ import annotations

import pytest
import torch

from modalign.stages.kept_features import ItemFeatures, KeptFeatures
from modalign.stages.measure import Measure

ALIGN = ("stage=align", "modality=audio")
MUCH = 1 << 20


class Counted:
    """A phase's model with its held-out pictures, and how often its encoder has run."""

    def __init__(self, shop):
        self.phase, self.measure = shop.phase(*ALIGN), Measure(shop.sources(*ALIGN))
        self.model, self.runs = self.phase.model.eval(), 0
        self.model.encoders["clip"].register_forward_hook(self._ran)
        self.items = self.measure.items("world_image", "test")

    def _ran(self, *_):
        self.runs += 1

    def say(self, kept, items=None):
        """Captions of the items, and the soft tokens they were made from."""
        items = items or self.items
        generate = self.measure.generator("align", self.model)
        object.__setattr__(generate, "features", None if kept is None else ItemFeatures(self.model, kept))
        texts = generate([(item, None) for item in items])
        return texts, [media["image"].values for _, media in generate._kept.values()]


@pytest.fixture
def counted(backbones, image):
    return Counted(backbones)


def test_what_is_kept_gives_the_same_bits_and_runs_no_encoder(counted):
    plain_texts, plain = counted.say(None)
    runs, kept = counted.runs, KeptFeatures(MUCH)
    for more in (runs, 0):
        before = counted.runs
        texts, soft = counted.say(kept)
        assert counted.runs - before == more
        assert texts == plain_texts
        assert all(torch.equal(a, b) for a, b in zip(soft, plain, strict=True))
    assert runs > 0


@pytest.mark.parametrize(
    ("changed", "again"),
    [("tokenizers.visual", True), ("encoders.", True), ("projectors.", False), ("llm.", False)],
)
def test_a_changed_weight_on_the_way_to_the_features_makes_them_anew(counted, changed, again):
    kept = KeptFeatures(MUCH)
    counted.say(kept)
    before = counted.runs
    on_the_way = [n for n, _ in counted.model.named_parameters() if n.startswith(changed) and "audio" not in n]
    assert on_the_way
    with torch.no_grad():
        for name in on_the_way:
            counted.model.get_parameter(name).add_(0.1)
    _, soft = counted.say(kept)
    assert (counted.runs > before) == again
    assert all(torch.equal(a, b) for a, b in zip(soft, counted.say(None)[1], strict=True))


def test_other_items_are_computed_themselves(counted):
    kept = KeptFeatures(MUCH)
    _, first = counted.say(kept)
    _, other = counted.say(kept, counted.items[::-1])
    assert len(kept) == 2 * len(first)
    assert not torch.equal(first[0], other[0])


def test_features_beyond_the_bound_are_computed_again(counted):
    kept = KeptFeatures(1)
    runs = []
    for _ in range(2):
        before = counted.runs
        counted.say(kept)
        runs.append(counted.runs - before)
    assert len(kept) == 0
    assert runs[0] == runs[1] > 0


def test_a_curriculum_scores_the_same_with_and_without(own_shop):
    kept, plain = (own_shop().train(*ALIGN, f"evaluation.features_mb={mb}").results_file.read_text() for mb in (64, 0))
    assert kept == plain
