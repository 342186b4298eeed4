"""What the processes send each other: gradients of what trains, once an optimizer step; and one of them writes."""

import pytest

from modalign.runs.checkpoint import list_checkpoints, load_checkpoint

FSDP2 = "trainer.engine=fsdp2"
PHASES = {
    "align under ddp": ("stage=align", "modality=image"),
    "align under fsdp2": ("stage=align", "modality=image", FSDP2),
    "instruct under ddp": ("stage=instruct", "modality=image"),
    "instruct under fsdp2": ("stage=instruct", "modality=image", FSDP2),
}


@pytest.mark.parametrize(
    "phase",
    [
        "align under ddp",
        "instruct under fsdp2",
        pytest.param("align under fsdp2", marks=pytest.mark.slow),
        pytest.param("instruct under ddp", marks=pytest.mark.slow),
    ],
)
def test_an_optimizer_step_reduces_the_gradients_of_what_trains_once_and_nothing_else(phase, train):
    stage = phase.split()[0]
    more = (f"stages.{stage}.slices_per_step=3", f"stages.{stage}.steps=2", "trainer.checkpoint_every=2")
    run = train(2, *PHASES[phase], *more, before="count_bytes")
    assert run.errors == [None, None]
    for result in run.results:
        slices = result["noted"]
        assert [one["slice"] for one in slices] == [0, 1, 2, 3, 4, 5]
        size = slices[0]["padded" if "fsdp2" in phase else "trains"]
        assert size > 0
        assert size < 1.1 * slices[0]["trains"]
        assert [one["bytes"] for one in slices] == [0, 0, size, 0, 0, size]


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), (FSDP2,)], ids=["ddp", "fsdp2"])
def test_checkpoints_written_while_several_processes_go_on_are_those_of_a_run_that_waits(more, train):
    phase = ("stage=align", "modality=image", "trainer.checkpoint_every=1", "trainer.keep_every=1", *more)
    phase += ("+modalities.image.positions.std=0.44",)
    waits = train(2, *phase, "trainer.async_checkpoints=false")
    goes_on = train(2, *phase, "trainer.async_checkpoints=true", before="write_late")
    assert goes_on.errors == [None, None]
    assert goes_on.results[0]["noted"] == [(1, True), (2, True), (3, True), (4, False)]
    assert goes_on.results[1]["noted"] == []
    pairs = list(zip(*(list_checkpoints(run.folder.checkpoints) for run in (waits, goes_on)), strict=True))
    assert len(pairs) == 4
    for one, other in pairs:
        one, other = load_checkpoint(one), load_checkpoint(other)
        assert one.digest == other.digest
        assert moments(one) == moments(other)


def moments(read):
    """What the optimizer has gathered, as plain numbers."""
    return {
        (name, key): value.tolist() if hasattr(value, "tolist") else value
        for name, values in read.state["optimizer_states"][0]["state"].items()
        for key, value in values.items()
    }
