"""Between two rows of the log nothing reads a number back from the device: a GPU would stand still for it.

Transformers' own mask of padded rows looks at their positions once a forward; packed rows need no mask.
"""

from __future__ import annotations

import traceback

import lightning.pytorch as pl
import pytest
import torch

READS = ("item", "tolist", "nonzero", "__bool__", "__float__", "__int__")


class Listening(pl.Callback):
    """Notes who reads a tensor that the training computed, in the steps between the first and the last."""

    def __init__(self, monkeypatch):
        self.readers = []
        self.on = False
        for name in READS:
            monkeypatch.setattr(torch.Tensor, name, self.heard(name, getattr(torch.Tensor, name)))

    def heard(self, name, read):
        def reading(tensor, *args):
            if self.on:
                frames = traceback.extract_stack()[:-1]
                self.readers.append(f"{name} in " + " < ".join(f"{f.filename}:{f.lineno}" for f in frames[:-4:-1]))
            return read(tensor, *args)

        return reading

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.on = batch_idx == 1

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.on = False


@pytest.mark.parametrize("stage", ["align", "instruct"])
def test_no_step_reads_a_number_back(backbones, image, stage, monkeypatch):
    more = {"align": ("modality=audio", "stages.align.steps=2"), "instruct": ("modality=[image]",)}[stage]
    for attention, allowed in (("packed", "nobody"), ("sdpa", "transformers/masking_utils")):
        named = f"model.language_model.attention={attention}"
        phase = backbones.phase(f"stage={stage}", *more, named, "trainer.log_every=1000", parent=image)
        with monkeypatch.context() as patch:
            listening = Listening(patch)
            phase.fit(listening)
        assert [reader for reader in listening.readers if allowed not in reader] == []
