"""Several processes train what one would: same samples, same losses, same weights; stopped and changed midway, too."""

import pytest

from modalign.runs.metrics import MetricLog

IMAGE = ("stage=align", "modality=image", "+modalities.image.positions.std=0.41")
FSDP2 = "trainer.engine=fsdp2"
MUON = (
    "stages.align.optimizer.muon={parts: [projectors, tokenizers], learning_rate: 0.01}",
    "+stages.instruct.optimizer.muon={parts: [llm], learning_rate: 0.01}",
)
# Slices of two sources, one of which has variants that a rank's share may lack; two slices a step.
FMRI = (
    "stage=align", "modality=fmri", "curriculum.groups=[[image],[fmri]]", "stages.align.slices_per_step=2",
    "curriculum.steps.image=1", "evaluation.probe_every=1",
)  # fmt: skip


def test_two_processes_end_with_the_weights_of_one_whatever_the_engine(train):
    one = train(1, *IMAGE)
    probed = []
    for more in ((), (FSDP2, "trainer.activation_checkpointing=true")):
        two = train(2, *IMAGE, *more, "evaluation.probe_every=2")
        probed.append({row[1]: row[2] for row in MetricLog(two.folder.metrics_file).read() if "probe/" in row[1]})
        assert two.errors == [None, None]
        assert two.apart_from(one) < 1e-6
        assert two.losses == pytest.approx(one.losses, rel=1e-6)
        assert two.samples == one.samples
        found, expected = two.folder.manifest(), one.folder.manifest()
        assert (found.status, found.consumed) == ("finished", expected.consumed)
        assert [part["gradient"] for part in found.parts] == [part["gradient"] for part in expected.parts]
    alike = ("probe/loss_", "probe/gradient/")  # the others count what is nearest, and may fall to either side
    ddp, fsdp2 = ({name: value for name, value in values.items() if name.startswith(alike)} for values in probed)
    assert ddp == pytest.approx(fsdp2, rel=1e-3)
    assert {"probe/loss_real/image", "probe/gradient/projectors.upm.ports.image"} <= ddp.keys()


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), (FSDP2,)], ids=["ddp", "fsdp2"])
@pytest.mark.parametrize(
    "phase",
    [FMRI, ("stage=pretrain_contrast", "seed=1"), ("stage=instruct", "modality=image", "seed=0")],
    ids=["align", "contrast", "instruct"],
)
def test_every_stage_is_the_same_on_two_processes(phase, more, train):
    one, two = train(1, *phase), train(2, *phase, *more)
    assert two.errors == [None, None]
    assert two.samples == one.samples
    assert two.losses == pytest.approx(one.losses, rel=2e-6)
    assert two.apart_from(one) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), (FSDP2,)], ids=["ddp", "fsdp2"])
@pytest.mark.parametrize("phase", [IMAGE, ("stage=instruct", "modality=image")], ids=["align", "instruct"])
def test_orthogonal_steps_are_the_same_on_two_processes(phase, more, train):
    exact = {"before": "orthogonal_in_float32"}  # rounding to bfloat16 would make last bits large
    one, two = train(1, *phase, *MUON, **exact), train(2, *phase, *MUON, *more, **exact)
    assert two.errors == [None, None]
    assert two.losses == pytest.approx(one.losses, rel=1e-5)
    assert two.apart_from(one) < 1e-3  # a direction whose gradient is rounding moves as far as any other
    assert one.losses != pytest.approx(train(1, *phase).losses, rel=1e-5)


@pytest.mark.slow
def test_any_number_of_processes_sees_the_same_samples_at_each_step_and_has_the_same_losses(train, own_shop):
    """Contract 6, over fifty steps: one, two and four processes, and four that become two in mid-epoch."""
    more = ("stage=align", "modality=fmri", "curriculum.groups=[[image],[fmri]]", "stages.align.steps=null",
            "curriculum.steps.fmri=25", "curriculum.steps.image=1",
            "stages.align.optimizer.learning_rate=2e-4")  # fmt: skip
    one = train(1, *more)
    last = [entry for entry in one.samples if entry[1] == "world_fmri"]
    assert len(one.losses) == 50
    for others in (train(2, *more), train(4, *more)):
        assert others.errors == [None] * len(others.results)
        assert others.samples == one.samples
        assert others.losses == pytest.approx(one.losses, rel=1e-6)
    shop = own_shop()
    begun = train(4, *more, shop=shop, before="stop", rank=3, step=17)
    assert all("stopped by SIGTERM at step 17 of 50" in error for error in begun.errors)
    changed = train(2, *more, shop=shop)
    assert [*begun.samples, *changed.samples] == one.samples
    assert changed.losses == pytest.approx(one.losses, rel=1e-6)
    assert len({key for entry in last for key in entry[2]}) < sum(len(entry[2]) for entry in last)  # past an epoch


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), (FSDP2,)], ids=["ddp", "fsdp2"])
def test_a_run_of_two_processes_that_was_stopped_ends_bit_identical(more, train, own_shop):
    phase = ("stage=align", "modality=audio", "stages.align.slices_per_step=2", *more)
    whole = train(2, *phase)
    shop = own_shop()
    stopped = train(2, *phase, shop=shop, before="stop", rank=1, step=5)  # image, before it, has four steps
    assert {result["code"] for result in stopped.results} == {75}
    assert stopped.folder.manifest().status == "interrupted"
    resumed = train(2, *phase, shop=shop)
    assert resumed.folder.manifest().checkpoint == whole.folder.manifest().checkpoint
    assert resumed.losses == whole.losses


@pytest.mark.slow
def test_every_engine_goes_on_where_another_has_stopped(train, own_shop):
    phase = ("stage=align", "modality=audio")
    whole = train(1, *phase)
    shop = own_shop()
    parts = [
        train(1, *phase, shop=shop, before="stop", rank=0, step=2),
        train(2, *phase, "trainer.engine=ddp", shop=shop, before="stop", rank=1, step=4),
        train(2, *phase, FSDP2, shop=shop, before="stop", rank=0, step=6),
        train(1, *phase, "trainer.engine=single", shop=shop),
    ]
    assert [part.results[0]["code"] for part in parts] == [75, 75, 75, 0]
    assert [entry for part in parts for entry in part.samples] == whole.samples
    assert parts[-1].losses == pytest.approx(whole.losses, rel=1e-6)
    assert parts[-1].apart_from(whole) < 1e-5
    assert parts[-1].folder.manifest().consumed == whole.folder.manifest().consumed


@pytest.mark.slow
def test_bf16_computes_alike_in_every_engine_and_keeps_its_weights_in_float32(train):
    more = (*IMAGE, "trainer.precision=bf16-mixed")
    one, two, sharded = train(1, *more), train(2, *more), train(2, *more, FSDP2)
    for run in (one, two, sharded):
        assert {str(tensor.dtype) for tensor in run.weights.values()} == {"torch.float32"}
    assert two.losses == pytest.approx(one.losses, rel=1e-2)
    assert sharded.losses == pytest.approx(one.losses, rel=1e-2)
    assert one.losses != pytest.approx(train(1, *IMAGE).losses, rel=1e-7)
