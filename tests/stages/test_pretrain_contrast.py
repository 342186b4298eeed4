"""The embedded encoder's training: it learns, knows equal captions as equal, and hands on what alignment reads."""

import lightning.pytorch as pl
import pytest
import torch

from modalign.runs.lineage import load_assembled
from modalign.stages.pretrain_contrast import Contrast, attribute_words, caption_ids
from modalign.types import Batch, Segment


class Losses(pl.Callback):
    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.values.append(pl_module.meter.read({})["loss"])


def test_the_loss_falls_on_a_few_images(backbones):
    phase = backbones.phase(
        "stage=pretrain_contrast", "stages.pretrain_contrast.steps=24", "stages.pretrain_contrast.slice_size=16",
        parent=text_run(backbones),
    )  # fmt: skip
    seen = Losses()
    phase.fit(seen, clip=1.0)
    assert len(seen.values) == 24
    assert sum(seen.values[-6:]) / 6 < 0.9 * sum(seen.values[:3]) / 3
    assert set(phase.module.proof.result().values()) == {"ok"}


def test_the_tower_ends_with_the_patches_and_the_projection_that_were_trained(backbones):
    (run,) = backbones.runs.glob("pretrain_contrast-*")
    weights = load_assembled(run)
    patches = weights["tokenizers.visual.conv.weight"]
    assert torch.equal(weights["encoders.clip.patch_weight"], patches)
    projections = [t for n, t in weights.items() if n.startswith("encoders.clip") and n.endswith("projection")]
    assert len(projections) == 1
    assert torch.equal(projections[0], weights["text.image_projection"])


def test_it_does_not_touch_the_language_model_before_it(backbones):
    (contrast,) = backbones.runs.glob("pretrain_contrast-*")
    weights, before = load_assembled(contrast), load_assembled(text_run(backbones).path)
    assert any(name.startswith("llm.") for name in before)
    assert all(torch.equal(weights[name], tensor) for name, tensor in before.items())


def test_images_with_one_caption_are_all_right_answers_to_it(backbones):
    phase = backbones.phase("stage=pretrain_contrast", parent=text_run(backbones))
    (batch,) = phase.slices(1)
    same = Batch(
        batch.media, tuple(batch.layout[:1]) * len(batch.keys), batch.text_ids, batch.loss_weights, batch.keys,
        metas=({"attributes": {}},) * len(batch.keys),
    )  # fmt: skip
    output = Contrast(attribute_weight=0.0)(phase.model, same)
    # All pairs are right: the best that can be said is an even choice among them.
    assert float(output.total / output.count) == pytest.approx(torch.log(torch.tensor(8.0)).item(), rel=1e-2)


def test_an_images_loss_does_not_depend_on_how_slices_are_counted(backbones):
    phase = backbones.phase("stage=pretrain_contrast", parent=text_run(backbones))
    (batch,) = phase.slices(1)
    output = phase.module.objective[0](phase.model, batch)
    assert float(output.count) == len(batch.keys)


def test_only_attributes_that_every_sample_has_are_contrasted():
    records = [{"shape": "cube", "size": "small"}, {"shape": "ball"}]
    assert attribute_words(records) == {"shape": ["cube", "ball"]}


def test_the_caption_is_the_text_that_is_supervised():
    layout = ((Segment("image", 0), Segment(None, 0, 1), Segment(None, 1, 2)),)
    batch = Batch({}, layout, torch.tensor([7, 8, 9]), torch.tensor([0.0, 1.0, 1.0]), ("a",))
    assert caption_ids(batch) == [[8, 9]]


def text_run(shop):
    from modalign.runs.folder import RunFolder

    (run,) = shop.runs.glob("pretrain_text-*")
    return RunFolder(run)
