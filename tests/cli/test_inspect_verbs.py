"""Verbs that let anybody look behind a finished run: inspect, compare, check."""

import json
import shutil

import pytest

from modalign.runs.manifest import read_manifest, write_manifest
from modalign.runs.record import read_record, write_record


@pytest.fixture
def copy(tiny_runs, tmp_path):
    """A copy of the runs, which a test may change."""
    shutil.copytree(tiny_runs.runs, tmp_path / "runs")
    return type(tiny_runs)(tmp_path / "runs", tiny_runs.data)


def whole(runs):
    """The curriculum of the longest command."""
    return max(runs.curricula, key=lambda path: len((path / "curriculum.json").read_text()))


def test_a_step_is_shown_and_its_bits_are_proved(modalign, tiny_runs, tmp_path):
    said = modalign("inspect", tiny_runs.video, "--step", "2", "--prove", "-n", "1", "--json", tmp_path / "seen.json")
    assert said.code == 0, said.out + said.err
    assert "step 2 of 8: no checkpoint before it is kept" in said.out
    assert "]«" in said.out
    assert "projectors.upm.experts.0" in said.out
    assert "tensors are equal to the bit" in said.out
    assert said.out.rstrip().endswith("the bits are the run's")
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert seen["holds"]
    assert seen["checkpoint"]["differing"] == []
    samples = [sample for one in seen["slices"] for sample in one["samples"]]
    assert len(samples) == 8
    assert all(0 < sample["supervised"] < sample["tokens"] for sample in samples)


def test_a_run_whose_records_were_altered_is_found_out(modalign, copy):
    text = (copy.video / "metrics.csv").read_text().splitlines()
    place = next(n for n, line in enumerate(text) if line.startswith("1,train/loss,"))
    text[place] = "1,train/loss,0.5"
    (copy.video / "metrics.csv").write_text("\n".join(text) + "\n")
    said = modalign("inspect", copy.video, "--step", "1", "-n", "0")
    assert said.code == 1
    assert "first that differs: train/loss at step 1, logged 0.5, now" in said.out
    assert "the bits are not the run's" in said.out


def test_bits_that_are_not_the_runs_though_nothing_known_changed_accuse_nobody(modalign, copy, monkeypatch):
    rows = (copy.video / "metrics.csv").read_text().splitlines()
    rows = ["1,train/loss,0.5" if row.startswith("1,train/loss,") else row for row in rows]
    (copy.video / "metrics.csv").write_text("\n".join(rows) + "\n")
    monkeypatch.setattr("modalign.stages.inspection.retrace.changes_since", lambda *_: [])
    said = modalign("inspect", copy.video, "--step", "1", "-n", "0")
    assert said.code == 1
    assert "machine and threads that are known are those of its last sitting: earlier ones with others, or" in said.out
    monkeypatch.setattr("modalign.stages.inspection.retrace.changes_since", lambda *_: ["threads: 2 then, 4 now"])
    said = modalign("inspect", copy.video, "--step", "1", "-n", "0")
    assert "other than then: threads: 2 then, 4 now" in said.out
    assert said.out.rstrip().endswith("the bits are not the run's; what is other than then (above) may be why")


def test_two_runs_are_compared_in_data_parts_and_item_by_item(modalign, tiny_runs):
    said = modalign("compare", tiny_runs.image, tiny_runs.video)
    assert said.code == 0, said.err
    assert "samples read (passes)" in said.out
    lines = {line.split()[0]: line for line in said.out.splitlines() if line.strip()}
    assert lines["world_video"].split()[1] == "none"
    assert "not there" in lines["projectors.upm.ports.video"]
    assert "trained" in lines["projectors.upm.ports.video"]
    assert "item by item" in said.out
    assert "plain text:" in said.out
    tuned = modalign("compare", tiny_runs.video, tiny_runs.instruct, "--all")
    assert "frozen, unchanged" in tuned.out
    assert "cider" in tuned.out


def test_runs_that_kept_no_single_items_are_compared_by_their_intervals(modalign, copy):
    results = json.loads((copy.image / "results.json").read_text())
    for score in results["scores"]:
        del score["hits"]
    (copy.image / "results.json").write_text(json.dumps(results))
    said = modalign("compare", copy.image, copy.video)
    assert said.code == 0
    assert "intervals alone" in said.out
    assert "kept no hits by item" in said.out


def test_a_finished_curriculum_holds_what_it_declares(modalign, tiny_runs):
    said = modalign("check", whole(tiny_runs))
    assert said.code == 0, said.out
    assert "all 3 declared phases, in their order" in said.out
    for run in (tiny_runs.image, tiny_runs.video, tiny_runs.instruct):
        checks = [line.split()[1] for line in said.out.splitlines() if line.startswith(run.name)]
        assert checks == ["ended", "identity", "trained", "frozen", "consumed", "data", "parent", "measured"]
    assert "26 checks: 26 hold, 0 do not" in said.out
    quiet = modalign("check", tiny_runs.video, "--faults")
    assert quiet.out.strip() == "8 checks: 8 hold, 0 do not"


def faulty(modalign, folder):
    """The checks of a folder that do not hold."""
    said = modalign("check", folder, "--faults")
    assert said.code == 1
    return {line.split()[1]: line for line in said.out.splitlines() if " FAULT " in line}


def test_each_departure_from_the_declaration_is_found(modalign, copy):
    manifest = read_manifest(copy.video)
    manifest.consumed["world_video"] += 8
    manifest.parts[-1]["unchanged"] = None
    manifest.spec["seed"] = 7
    write_manifest(copy.video, manifest)
    (copy.video / "results.json").unlink()
    found = faulty(modalign, copy.video)
    assert set(found) == {"identity", "frozen", "consumed", "measured"}
    assert "not proved unchanged" in found["frozen"]
    assert "40 read, the mixture says 32" in found["consumed"]


def test_parts_that_trained_though_they_were_not_declared_are_found(modalign, copy):
    manifest = read_manifest(copy.video)
    (part,) = (part for part in manifest.parts if part["name"] == "llm")
    part.update(trains=True, gradient="ok", unchanged=None)
    write_manifest(copy.video, manifest)
    found = faulty(modalign, copy.video)
    assert "declared and trained parts differ: llm" in found["trained"]
    assert "lacks parts that trained: llm" in found["frozen"]


def test_a_flipped_bit_anywhere_in_the_lineage_is_found(modalign, copy):
    file = sorted(copy.image.glob("checkpoints/*/projectors*.safetensors"))[0]
    content = bytearray(file.read_bytes())
    content[-7] ^= 4
    file.write_bytes(bytes(content))
    assert "was altered" in faulty(modalign, copy.video)["parent"]
    assert "was altered" in faulty(modalign, copy.image)["frozen"]


def test_a_phase_that_is_missing_or_was_not_declared_is_found(modalign, copy):
    folder = whole(copy)
    record = read_record(folder)
    record.declared.append("f" * 64)
    write_record(folder, record)
    assert "missing: ffffffff" in faulty(modalign, folder)["complete"]
    record.declared = record.declared[1:2]
    write_record(folder, record)
    assert "not declared: " in faulty(modalign, folder)["complete"]
    name = copy.instruct.name
    shutil.rmtree(copy.instruct)
    assert f"gone: ../{name}" in faulty(modalign, folder)["finished"]
