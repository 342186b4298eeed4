"""Steps that torch's profiler looks at: what is written, and that nothing else changes."""

import gzip
import json

import pytest

from modalign.callbacks.profile import WARM_UP, StepProfile
from modalign.runs.folder import RunFolder
from modalign.runs.interrupt import Interrupted

WORDS = ("stage=align", "modality=image", "stages.align.steps=10", "fresh=true")


def test_a_profile_is_in_the_run_and_the_run_is_what_it_is_without(own_shop):
    shop = own_shop()
    plain = shop.train(*WORDS)
    shop.train(*WORDS, "trainer.profile=2")
    run = RunFolder(shop.runs / f"{plain.name}-2")
    assert run.manifest().identity == plain.manifest().identity
    assert run.manifest().checkpoint == plain.manifest().checkpoint
    assert not (plain.path / "profile").exists()
    words = (run.path / "profile" / "operations.txt").read_text()
    assert words.startswith(f"optimizer steps {WARM_UP + 1} to {WARM_UP + 2}, ")
    assert "aten::mm" in words
    trace = json.loads(gzip.decompress((run.path / "profile" / "trace.json.gz").read_bytes()))
    assert len([e for e in trace["traceEvents"] if str(e.get("name")).startswith("Optimizer.step")]) >= 2


def test_a_run_that_is_stopped_before_the_profile_ends_keeps_what_was_seen(own_shop, told_to_stop):
    shop = own_shop()
    with told_to_stop(WARM_UP + 2), pytest.raises(Interrupted):
        shop.train(*WORDS, "trainer.profile=100")
    (table,) = shop.runs.glob("align-image-*/profile/operations.txt")
    assert table.read_text().startswith(f"optimizer steps {WARM_UP + 1} to {WARM_UP + 2}, ")


def test_a_run_that_fails_before_its_first_step_writes_none(tmp_path):
    StepProfile(tmp_path, 3)._end(0)
    assert not list(tmp_path.iterdir())
