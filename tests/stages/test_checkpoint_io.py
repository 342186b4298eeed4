"""Checkpoints of whole runs that are written while the training goes on: the same ones, and no failure is lost."""

import errno
import os

import pytest
import torch

from modalign.errors import ModalignError
from modalign.runs import checkpoint as checkpoints
from modalign.runs.checkpoint import list_checkpoints, load_checkpoint
from modalign.runs.folder import RunFolder
from modalign.runs.metrics import MetricLog
from modalign.runs.writer import Writer
from modalign.stages.checkpoint_io import PartCheckpointIO

BESIDE = "trainer.async_checkpoints=true"
IMAGE = (
    "stage=align",
    "modality=image",
    "trainer.checkpoint_every=1",
    "trainer.keep_every=1",
    "+modalities.image.positions.std=0.43",
)


def alike(one, other):
    """Whether two states are equal, tensors to the bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    return one == other


class Later(Writer):
    """Holds writes back until they are asked for."""

    def __init__(self):
        super().__init__(background=True)
        self.held = []

    def __call__(self, write):
        self.held.append(write)


def test_weights_that_change_after_the_call_do_not_change_what_is_written(tmp_path):
    writer, weight, moment = Later(), torch.nn.Parameter(torch.ones(2, 2)), torch.ones(2, 2)
    door = PartCheckpointIO(9, writer=writer)
    given = {
        "state_dict": {"projectors.upm.experts.0.w": weight}, "global_step": 3,
        "optimizer_states": [{"state": {"w": {"exp_avg": moment}}}],
    }  # fmt: skip
    door.save_checkpoint(given, tmp_path / "step-3")
    door.save_checkpoint({**given, "global_step": 4}, tmp_path / "step-4", ("optimizer_states",))
    weight.data.zero_()
    moment.zero_()
    assert list_checkpoints(tmp_path) == []
    for write in writer.held:
        write()
    first, second = (load_checkpoint(path) for path in list_checkpoints(tmp_path))
    assert (first.step, second.step) == (3, 4)
    assert [float(read.flat()["projectors.upm.experts.0.w"].sum()) for read in (first, second)] == [4, 4]
    moments = [read.state["optimizer_states"][0]["state"]["w"]["exp_avg"] for read in (first, second)]
    # What is said to be a copy already is not copied again.
    assert [float(moment.sum()) for moment in moments] == [4, 0]


def test_checkpoints_written_while_the_training_goes_on_are_those_of_one_that_waits(own_shop, written_late):
    waits = own_shop().train(*IMAGE, "trainer.async_checkpoints=false")
    late = written_late()
    goes_on = own_shop().train(*IMAGE, BESIDE)
    assert late == [(1, True), (2, True), (3, True), (4, False)]
    pairs = list(zip(list_checkpoints(waits.checkpoints), list_checkpoints(goes_on.checkpoints), strict=True))
    assert [path.name for _, path in pairs] == [f"step-{step:08d}" for step in (1, 2, 3, 4)]
    for one, other in pairs:
        one, other = load_checkpoint(one), load_checkpoint(other)
        assert one.digest == other.digest
        assert alike(one.state, other.state)
    assert goes_on.name == waits.name
    rows = [MetricLog(run.metrics_file).read() for run in (waits, goes_on)]
    assert [r for r in rows[0] if "loss" in r.name] == [r for r in rows[1] if "loss" in r.name]


def test_a_disk_that_fills_while_the_training_goes_on_ends_it_in_one_line_and_costs_nothing(own_shop, monkeypatch):
    whole = own_shop().train(*IMAGE, "trainer.async_checkpoints=false")
    shop = own_shop()
    write, begun = checkpoints.write_synced, []

    def full(path, data):
        if "step-00000002" in str(path):
            begun.append(path)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_synced", full)
        with pytest.raises(ModalignError, match=r"^disk full while writing .*step-00000002 .*to continue$"):
            shop.train(*IMAGE, BESIDE)
    assert len(begun) == 1
    folder = RunFolder(shop.runs / whole.name)
    assert folder.manifest().status == "failed"
    assert folder.manifest().reason.startswith("disk full while writing")
    assert os.listdir(folder.checkpoints) == ["step-00000001"]
    assert shop.train(*IMAGE, BESIDE).manifest().checkpoint == whole.manifest().checkpoint
