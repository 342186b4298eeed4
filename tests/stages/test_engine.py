"""Stopped and started again, with other workers or with a look at validation: a run ends as if nothing had been."""

import re

import pytest
import torch

from modalign.callbacks.wandb_history import steps_in
from modalign.evaluation.scores import read_results
from modalign.runs.folder import RunFolder
from modalign.runs.metrics import MetricLog
from modalign.stages.engine import set_threads
from modalign.stages.load_run import load_run
from modalign.stages.phase_run import Interrupted
from modalign.stages.sources import template_of

SECRET = "planted-where-anything-may-stand"
# What runs, the step at which it is told to stop, and what is other in the stopped run than in the unbroken one.
CASES = {
    "two slices a step": (("stage=align", "modality=image", "stages.align.slices_per_step=2"), 1, ()),
    "replay, and other workers": (
        ("stage=align", "modality=audio"), 3, ("data.workers=2", "trainer.async_checkpoints=true"),
    ),
    "instruct, and a dashboard": (
        ("stage=instruct", "modality=[image]"), 2,
        ("logger=wandb", "logger.mode=offline", f"+modalities.image.display.api_key={SECRET}"),
    ),
    "orthogonal steps": (
        ("stage=align", "modality=image",
         "stages.align.optimizer.muon={parts: [projectors, tokenizers], learning_rate: 0.02}"), 2, (),
    ),
    "adapters that drop out": (
        ("stage=instruct", "modality=[image]", "stages.instruct.train=[llm.lora]",
         "model.language_model.lora={rank: 2, dropout: 0.2}"),
        2, (),
    ),
}  # fmt: skip


def rows(folder):
    """Everything logged but speeds, which no two runs share."""
    return [row for row in MetricLog(folder.metrics_file).read() if not row.name.startswith("speed/")]


@pytest.mark.parametrize("name", CASES)
def test_a_run_stopped_by_a_signal_ends_bit_identical_to_the_unbroken_one(name, own_shop, told_to_stop):
    more, step, other = CASES[name]
    whole = own_shop().train(*more)
    shop = own_shop()
    more = (*more, "trainer.checkpoint_every=100", *other)
    says = rf"stopped by SIGTERM at step {step} of \d+, saved; the same command"
    with told_to_stop(step), pytest.raises(Interrupted, match=says):
        shop.train(*more)
    folder = RunFolder(shop.runs / whole.name)
    assert folder.manifest().status == "interrupted"
    assert Interrupted.exit_code == 75
    assert {row.step for row in rows(folder)} == set(range(1, step + 1))

    assert shop.train(*more).path == folder.path
    assert folder.manifest().status == "finished"
    assert folder.manifest().checkpoint == whole.manifest().checkpoint  # the digest of every tensor
    assert rows(folder) == rows(whole)
    assert folder.manifest().consumed == whole.manifest().consumed
    assert [p["gradient"] for p in folder.manifest().parts] == [p["gradient"] for p in whole.manifest().parts]
    assert read_results(folder.results_file).text_loss == read_results(whole.results_file).text_loss

    if "logger=wandb" in other:
        logged = [path for path in (folder.path / "wandb").rglob("*") if path.is_file() and not path.is_symlink()]
        assert len([path for path in logged if path.suffix == ".wandb"]) == 2  # two sittings
        assert {path.stem.split("-")[-1] for path in logged if path.suffix == ".wandb"} == {
            (folder.path / "wandb-id").read_text()
        }
        sittings = sorted(path for path in logged if path.suffix == ".wandb")
        sent = [step for path in sittings for step in steps_in(path.read_bytes())]
        assert sent == [
            *range(1, folder.manifest().steps + 1),
            folder.manifest().steps + 1,
        ]  # each once, then the results
        assert not [path.name for path in [*logged, folder.manifest_file] if SECRET.encode() in path.read_bytes()]


@pytest.fixture(scope="module")
def validated(backbones, tmp_path_factory):
    """Image aligned once more elsewhere, looking at the validation loss every other step."""
    shop = backbones.elsewhere(tmp_path_factory.mktemp("validated"), *backbones.runs.glob("pretrain_*"))
    return shop.train("stage=align", "modality=image", "evaluation.validation_every=2")


def test_validation_losses_are_logged_by_modality_where_they_are_due(validated, image):
    steps = [row.step for row in rows(validated) if row.name == "val/loss/image"]
    assert steps == [2, 4]
    assert not [row for row in rows(image) if row.name.startswith("val/")]


def test_looking_at_validation_changes_nothing(validated, image):
    assert validated.manifest().checkpoint["digest"] == image.manifest().checkpoint["digest"]
    assert [row for row in rows(validated) if not row.name.startswith("val/")] == rows(image)


def test_the_last_validation_loss_is_that_of_the_finished_model(validated, backbones):
    run = load_run(validated.path)
    sources = backbones.sources("stage=align", "evaluation.validation_every=2")
    source = sources.source("world_image", "val", template_of(sources.settings.stages["align"]))
    phase = backbones.phase("stage=align", "modality=image")
    batch = phase.data.collator([source.at(i) for i in range(8)], "world_image")
    with torch.no_grad():
        output = run.model.loss(batch)
    last = [row.value for row in rows(validated) if row.name == "val/loss/image"][-1]
    assert float(output.loss_sum / output.weight_sum) == pytest.approx(last, rel=1e-5)


def test_warm_up_and_cosine_count_optimizer_steps_and_not_slices(own_shop):
    more = ("stage=align", "modality=image", "stages.align.slices_per_step=3", "stages.align.steps=3")
    run = own_shop().train(*more, "stages.align.optimizer.warmup_steps=1")
    rates = [row.value for row in rows(run) if row.name == "lr/tokenizers.visual"]
    assert [row.step for row in rows(run) if row.name == "train/loss"] == [1, 2, 3]
    # Of each step the rate that it was taken with: one of warm-up, the whole, half-way down to the floor.
    assert rates == pytest.approx([1e-3 / 2, 1e-3, 1e-3 * (0.05 + 0.95 * 0.5)])
    assert run.manifest().consumed == {"world_image": 3 * 3 * 8}


def test_threads_are_what_is_asked_for_or_what_workers_leave(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    try:
        for threads, workers, expected in ((3, 0, 3), (0, 0, 4), (0, 1, 3), (0, 9, 1)):
            set_threads(threads, workers)
            assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(1)


def test_a_run_folder_holds_nothing_that_was_only_needed_on_the_way(image):
    names = {re.sub(r"-\w{8}.*", "", path.name) for path in image.path.iterdir()}
    assert names <= {"manifest.json", "metrics.csv", "results.json", "report.html", "checkpoints", "lock", "samples"}
    assert [path.name for path in (image.path / "checkpoints").iterdir()] == ["step-00000004"]
