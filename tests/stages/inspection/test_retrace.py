"""A step trained again, from a checkpoint or the start values, has the run's bits; where it has not, it is told."""

import csv
import math
import shutil
from dataclasses import replace

import pytest
import torch

from modalign.cli.run_settings import changed_settings
from modalign.errors import ModalignError
from modalign.runs.manifest import read_manifest, write_manifest
from modalign.runs.metrics import MetricLog
from modalign.stages.inspection.retrace import retrace
from modalign.stages.inspection.route import find_route

TWO_SLICES = ("stage=align", "modality=image", "stages.align.slices_per_step=2")


def look(folder, step, *changes, **options):
    route = find_route(folder, step, **options)
    return route, retrace(route, changed_settings(route.manifest, changes))


def files(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def copied(image, backbones, tmp_path):
    """The aligned image beside copies of its parents, which a test may alter."""
    for folder in [*backbones.runs.glob("pretrain_*"), image.path]:
        shutil.copytree(folder, tmp_path / folder.name)
    return tmp_path / image.name


def test_a_step_of_several_slices_is_seen_from_the_checkpoint_before_it(own_shop):
    shop = own_shop()
    run = shop.train(*TWO_SLICES, "trainer.keep_every=1", "trainer.log_every=3").path
    kept = [path.name for path in sorted((run / "checkpoints").iterdir())]
    assert kept == [f"step-{step:08d}" for step in (1, 2, 3, 4)]
    before = files(run)
    route, found = look(run, 2)
    assert (route.start.name, route.first, route.last, route.target.name) == (kept[0], 1, 3, kept[2])
    assert found.holds
    assert found.rows.total > 0
    assert found.rows.steps == (3,)
    assert found.weights.tensors > 0
    assert [one.number for one in found.seen.slices] == [2, 3]
    slices = shop.phase(*TWO_SLICES).slices(4)[2:]
    for one, expected in zip(found.seen.slices, slices, strict=True):
        assert one.batch.keys == expected.keys
        assert [meta["position"] for meta in one.batch.metas] == [meta["position"] for meta in expected.metas]
        assert torch.equal(one.batch.text_ids, expected.text_ids)
        total, count = one.terms["next_token"]
        assert count == float((expected.loss_weights > 0).sum())
        assert total == pytest.approx(
            sum(loss * float(number) for loss, number in zip(one.sample_losses, supervised(expected), strict=True)),
            rel=1e-5,
        )
    assert files(run) == before


def supervised(batch):
    """Supervised tokens of each sample."""
    return [
        sum(float((batch.loss_weights[s.start : s.start + s.length] > 0).sum()) for s in row if s.modality is None)
        for row in batch.layout
    ]


def test_a_step_of_a_run_that_kept_its_final_checkpoint_alone_is_reached_from_the_start_values(audio):
    route, found = look(audio.path, 7, prove=True)
    assert route.start is None
    assert (route.last, route.target.name) == (8, "step-00000008")
    assert found.rows.steps == tuple(range(1, 9))
    assert found.rows.equal == found.rows.total >= 8
    assert found.weights.differing == ()
    assert {one.batch.source for one in found.seen.slices} <= {"world_audio", "world_image"}
    logged = {row.step: row.value for row in MetricLog(audio.metrics_file).read() if row.name == "train/loss"}
    assert found.seen.loss == pytest.approx(logged[7], rel=1e-12)


def test_an_instruction_tuned_language_model_is_seen_too_with_answers_alone_supervised(instructed):
    _, found = look(instructed.path, 3, prove=True)
    assert found.holds
    assert set(found.seen.norms) == {"llm"}
    assert found.seen.norm > 0
    for one in found.seen.slices:
        assert 0 < float((one.batch.loss_weights > 0).float().mean()) <= 1


def test_gradient_norms_are_those_that_the_step_clips(image, monkeypatch):
    clipped = []
    original = torch.nn.utils.clip_grads_with_norm_

    def watch(parameters, most, norm):
        truth = torch.nn.utils.get_total_norm([p.grad for p in parameters])
        assert torch.equal(norm, truth)  # what torch's own clipping would measure, to the bit
        clipped.append(float(norm))
        original(parameters, most, norm)

    monkeypatch.setattr(torch.nn.utils, "clip_grads_with_norm_", watch)
    _, found = look(image.path, 2)
    assert found.seen.norm == pytest.approx(clipped[1], rel=1e-5)
    assert found.seen.clip == 1.0
    assert set(found.seen.norms) == {part["name"] for part in image.manifest().parts if part["trains"]}


def test_a_loss_that_was_altered_in_its_last_bit_is_noticed(copied):
    rows = list(csv.reader((copied / "metrics.csv").open()))
    (place,) = (n for n, row in enumerate(rows) if row[:2] == ["2", "train/loss"])
    rows[place][2] = repr(math.nextafter(float(rows[place][2]), 9))
    with (copied / "metrics.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    _, found = look(copied, 2)
    assert not found.holds
    assert found.rows.equal == found.rows.total - 1
    logged, came = found.rows.first
    assert (logged.step, logged.name) == (2, "train/loss")
    assert logged.value == math.nextafter(came, 9)


def test_data_that_are_others_than_then_are_refused(copied):
    manifest = read_manifest(copied)
    manifest.recipes["world_image"]["digest"] = "0" * 64
    write_manifest(copied, manifest)
    with pytest.raises(ModalignError, match=r"data altered: .* was trained on world_image with digest 000000000000"):
        look(copied, 1)


def test_a_parent_that_is_gone_or_another_is_refused(copied):
    manifest = read_manifest(copied)
    write_manifest(copied, replace(manifest, parent=manifest.parent | {"digest": "1" * 64}))
    with pytest.raises(ModalignError, match="parent altered"):
        look(copied, 1)
    shutil.rmtree(copied.parent / manifest.parent["name"])
    write_manifest(copied, manifest)
    with pytest.raises(ModalignError, match="parent gone"):
        look(copied, 1)


def test_checkpoints_that_were_deleted_leave_the_losses_to_compare_with(copied):
    shutil.rmtree(copied / "checkpoints")
    route, found = look(copied, 2, prove=True)
    assert route.target is None
    assert found.holds
    assert found.weights is None
    assert found.rows.steps == (1, 2)


@pytest.mark.parametrize(
    ("step", "changes", "message"),
    [
        (0, [], "has done steps 1 to 4 of 4, and no step 0"),
        (5, [], "has done steps 1 to 4 of 4, and no step 5"),
        (1, ["trainer.precision=bf16-mixed"], "was trained with 32-true"),
        (1, ["data.block=7"], "data.block=7: run align-image-.* was trained with"),
    ],
)
def test_what_cannot_be_seen_is_told_in_one_line(image, step, changes, message):
    with pytest.raises(ModalignError, match=message):
        look(image.path, step, *changes)


def test_streamed_data_cannot_be_told(copied):
    manifest = read_manifest(copied)
    manifest.config["data"]["reader"] = "webdataset"
    write_manifest(copied, manifest)
    with pytest.raises(ModalignError, match="streamed its data"):
        look(copied, 1)


def test_what_is_other_now_than_then_is_listed(copied):
    manifest = read_manifest(copied)
    manifest.versions["torch"] = "1.0"
    manifest.extra["machine"]["processes"] = 2
    write_manifest(copied, manifest)
    _, found = look(copied, 1)
    assert any(line.startswith("torch 1.0 then, ") for line in found.changes)
    assert "processes: 2 then, 1 now" in found.changes
