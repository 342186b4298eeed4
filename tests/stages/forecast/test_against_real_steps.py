"""What is foreseen of the embedded model against what its real training steps take: arithmetic and memory."""

import weakref

import lightning.pytorch as pl
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from modalign.data.slices import SliceDataset
from modalign.stages.forecast.slice_cost import without_fast_path

CASES = {
    "pretrain_text": ("stage=pretrain_text", "stages.pretrain_text.slice_size=32"),
    "pretrain_contrast": ("stage=pretrain_contrast",),
    "align": ("stage=align", "modality=fmri", "curriculum.groups=[[image,video],[fmri]]"),
    "additive": ("stage=align", "modality=audio", "curriculum.groups=[[image],[audio]]", "stages.align.train=new"),
    "instruct": ("stage=instruct", "modality=[image,audio]", "curriculum.groups=[[image],[audio]]"),
    "accumulating": ("stage=align", "modality=image", "stages.align.slices_per_step=2"),
}


class LiveBytes(TorchDispatchMode):
    """Bytes of all tensors that live, each storage once, and their highest sum."""

    def __init__(self):
        super().__init__()
        self.alive, self.now, self.peak = {}, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.see((args, kwargs, result))
        return result

    def see(self, tensors):
        for leaf in tree_leaves(tensors):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in self.alive:
                    self.begin(storage._cdata, storage)
        self.peak = max(self.peak, self.now)

    def begin(self, key, storage):
        size = storage.nbytes()
        self.now += size

        def end(_):
            del self.alive[key]
            self.now -= size

        self.alive[key] = weakref.ref(storage, end)


def first_slices(phase):
    """The first slice of each of a phase's recipes, read and decoded."""
    data = phase.data
    for name in phase.spec.recipes:
        only = type("Only", (), {"at": lambda self, n, name=name: (name, n)})()
        yield name, SliceDataset(data.sources, only, data.slice_size, 0, 1, data.collator)[0]


def peak_of_training(phase):
    """The highest sum of tensor bytes in the phase's first steps, in Lightning's own loop."""
    module, data = phase.module, phase.data
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_steps=phase.spec.steps, max_epochs=-1, logger=False, limit_val_batches=0,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, gradient_clip_val=1.0,
        accumulate_grad_batches=data.slices_per_step,
    )  # fmt: skip
    with LiveBytes() as live:
        live.see([*module.parameters(), *module.buffers()])
        trainer.fit(module, data)
    assert trainer.global_step == phase.spec.steps
    return live.peak


QUICK = ("align", "instruct")


@pytest.mark.parametrize("case", [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in CASES])
def test_flops_and_memory_of_real_steps_are_those_foreseen(phase, case):
    """FLOPs of each recipe's slice within 2 % of torch's own counter; the peak of tensor bytes within 15 %."""
    real = phase(*CASES[case])
    foreseen = real.forecast()
    told = {recipe.name: recipe for recipe in foreseen.recipes}
    module = real.module
    for name, batch in first_slices(real):
        if name not in told:
            continue
        with without_fast_path(), FlopCounterMode(display=False) as counter:
            sum(term(module.model, batch).total for term in module.objective).backward()
        flops = sum(n for directions in told[name].flops_per_sample.values() for n in directions.values())
        assert flops * len(batch.keys) == pytest.approx(counter.get_total_flops(), rel=0.02), name
    module.zero_grad()
    assert foreseen.memory.peak == pytest.approx(peak_of_training(real), rel=0.15)
