"""What goes wrong in one process of several: all learn of it, one tells, the folder says so."""

import time

import pytest

IMAGE = ("stage=align", "modality=image", "+modalities.image.positions.std=0.42")
FSDP2 = "trainer.engine=fsdp2"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["loss", "gradient"])
@pytest.mark.parametrize("more", [(), (FSDP2,)], ids=["ddp", "fsdp2"])
def test_a_step_that_is_not_finite_in_one_process_is_skipped_by_all_and_counted(more, kind, train):
    run = train(2, *IMAGE, *more, "trainer.log_every=1", before="spoil", rank=1, step=2, kind=kind)
    assert run.errors == [None, None]
    assert run.folder.manifest().extra["skipped_steps"] == {"count": 1, "first": [2]}
    assert all(bool(tensor.isfinite().all()) for tensor in run.weights.values())
    rows = run.folder.metrics_file.read_text().splitlines()
    assert [row for row in rows if "skipped" in row] == [f"{step},train/skipped_steps,1.0" for step in (2, 3, 4)]
    assert {part["gradient"] for part in run.folder.manifest().parts if part["trains"]} == {"ok"}


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), (FSDP2,)], ids=["ddp", "fsdp2"])
def test_a_rank_whose_share_is_all_bad_still_takes_part_and_changes_nothing(more, train):
    """Slices of eight: the second half of the second one, and the whole third one, are bad."""
    torn = {"before": "lose_samples", "positions": [12, 13, 14, 15, *range(16, 24)]}
    share = ("data.max_bad_share=0.5",)
    one, two = train(1, *IMAGE, *share, **torn), train(2, *IMAGE, *share, *more, **torn)
    assert two.errors == [None, None]
    assert two.samples == one.samples
    assert [len(keys) for _, _, keys in two.samples[-4:]] == [8, 4, 0, 8]  # the backbones come before
    assert two.apart_from(one) < 1e-5
    for run in (one, two):
        assert run.folder.manifest().holes["world_image"]["count"] == 12
        assert run.folder.manifest().holes["world_image"]["examples"][0]["key"] == "p12"


@pytest.mark.slow
def test_too_many_bad_samples_are_told_once(train):
    run = train(2, *IMAGE, before="lose_samples", positions=list(range(8, 16)))
    told = sorted(run.errors)
    assert told[0].startswith("ModalignError: recipe world_image: 8 of")
    assert told[1].startswith("ToldElsewhere: recipe world_image: 8 of")
    assert "8 of" in run.folder.manifest().reason


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "reason"), [
    ("told", "rank 1: the disk of this node is on fire"),
    ("mistake", "rank 1: a mistake in the code"),
    ("killed", "a process of this run is gone without a word, rank 0 noticed"),
])  # fmt: skip
def test_when_one_process_fails_the_run_says_which_and_why(kind, reason, train):
    begin = time.monotonic()
    run = train(2, *IMAGE, before="fail", rank=1, step=2, kind=kind, may_die=True)
    assert time.monotonic() - begin < 120
    manifest = run.folder.manifest()
    assert (manifest.status, manifest.reason.startswith(reason)) == ("failed", True)
    first = run.results[0]
    assert first["error"].startswith("LostProcess" if kind == "killed" else "ToldElsewhere")
    again = train(2, *IMAGE)
    assert again.folder.manifest().status == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), (FSDP2,)], ids=["ddp", "fsdp2"])
def test_a_process_that_hangs_is_named_with_its_modality_and_step(more, train):
    begin = time.monotonic()
    run = train(2, *IMAGE, *more, "trainer.step_timeout_s=4", before="hang", rank=1, step=3, may_die=True)
    assert time.monotonic() - begin < 120
    assert run.results == [1, 1]
    manifest = run.folder.manifest()
    assert manifest.status == "failed"
    assert (
        "no progress for 4 s (trainer.step_timeout_s): rank 1 hangs at slice 2 (modality image) of step 3: forward"
        in (manifest.reason)
    )
    assert "rank 0 waits at slice 2 (modality image) of step 3" in manifest.reason
