"""W&B beside the CSV: what its own files hold, and what a server is told by them, however often a run was stopped."""

import contextlib
import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modalign.callbacks.wandb_dashboard import WandbDashboard, open_dashboard
from modalign.callbacks.wandb_history import last_logged_step
from modalign.config.schema import LoggerSettings
from modalign.errors import ModalignError
from modalign.runs.folder import RunFolder
from modalign.runs.grouping import experiment_of
from modalign.runs.manifest import write_manifest
from modalign.runs.metrics import MetricLog

pytest.importorskip("wandb")

HERE = Path(__file__).parent


def beside(path):
    """A module of the tests' own."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


wandb_files = beside(HERE / "wandb_files.py")
wandb_server = beside(HERE / "wandb_server.py")
fabricated = beside(HERE.parent / "evaluation" / "report" / "conftest.py")

PLANTED = {
    "api_key": "planted-by-its-key",
    "nested": {"hf_token": "planted-deeper", "credentials": {"user": "planted-under-a-secret-key"}},
    "listed": [{"password": 4711471147}],
    "shaped": "hf_plantedByShape0123",
    "hash": "a1b2c3d4e5" * 4,
    "url": "https://me:planted-in-a-url@example.org/data",
    "ghp_plantedAsAKey0123456789": "a value",
    "from_outside": "see planted-in-the-environment here",
}
SECRETS = [
    "planted-by-its-key", "planted-deeper", "planted-under-a-secret-key", "4711471147", "hf_plantedByShape0123",
    "a1b2c3d4e5", "planted-in-a-url", "ghp_plantedAsAKey0123456789", "planted-in-the-environment",
    "planted-on-the-command-line", "hf_plantedInATag0123",
]  # fmt: skip
SETTINGS = LoggerSettings(wandb=True, mode="offline", tags=("ablation", "hf_plantedInATag0123"))
NEW, SEEN = ("point", "audio", "video", "depth"), ("image",)


def parts_of(folder):
    """The files of a run's sittings, the first first."""
    return [wandb_files.read(path) for path in sorted(folder.path.glob("wandb/offline-run-*/*.wandb"))]


@pytest.fixture(scope="module")
def sittings(tmp_path_factory):
    """A run that was stopped at step 20 and resumed from step 15 in another sitting, offline, and then ended well."""
    root = tmp_path_factory.mktemp("wandb")
    parent = fabricated.make_run(root, "align", SEEN, ())
    folder = RunFolder(fabricated.make_run(root, "align", NEW, SEEN, parent=parent))
    manifest = folder.manifest()
    manifest.config |= PLANTED
    manifest.command = ["train.py", "experiment=routers", "+api_key=planted-on-the-command-line"]
    rows = MetricLog(folder.metrics_file).read()
    consumed = lambda step: dict.fromkeys((*SEEN, *NEW), 4 * step)  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_API_KEY", "planted-in-the-environment")
        patch.setattr("sys.argv", ["train.py", "+api_key=planted-on-the-command-line"])
        write_manifest(folder.path, manifest)
        with contextlib.suppress(KeyboardInterrupt), open_dashboard(SETTINGS, folder, manifest) as first:
            first.consumed = consumed
            first.begin([row for row in rows if row.step <= 10])
            first.log({"train/loss": 1.5, "train/loss/audio": 1.6}, 15)
            first.log({"train/loss": 1.4}, 20)
            first.log({"val/loss/audio": 1.7}, 20)
            raise KeyboardInterrupt
        with open_dashboard(SETTINGS, folder, manifest) as second:
            second.consumed = consumed
            second.begin([row for row in rows if row.step <= 15])
            for row in rows:
                if row.step > 15:
                    second.log({row.name: row.value}, row.step)
    return folder, first, second


def test_every_sitting_writes_a_file_under_one_and_the_same_id(sittings):
    folder, first, second = sittings
    runs = [part.run for part in parts_of(folder)]
    assert [run.run_id for run in runs] == [(folder.path / "wandb-id").read_text()] * 2
    assert first._run.id == second._run.id
    assert len(first._run.id) == 8


def test_group_is_the_experiment_job_type_the_stage_and_tags_are_the_modalities(sittings):
    folder, *_ = sittings
    run = parts_of(folder)[-1].run
    assert (run.project, run.run_group, run.job_type, run.display_name) == ("modalign", "routers", "align", folder.name)
    assert list(run.tags) == ["ablation", "(removed)", *NEW, *SEEN]


def test_an_experiment_is_what_the_command_names_and_settings_come_first():
    assert experiment_of(["train.py", "stage=align", "experiment=no_replay"]) == "no_replay"
    assert experiment_of(["train.py", "+experiment=a", "experiment=b"]) == "b"
    assert experiment_of(["train.py", "experiment=null"]) is None
    assert experiment_of(["train.py", "stage=align"]) is None


def test_both_sittings_together_hold_every_step_once(sittings):
    folder, *_ = sittings
    first, second = ([row["step"] for row in part.rows] for part in parts_of(folder))
    assert first == [5, 10, 15, 20]
    assert second == [*range(25, 251, 5), 250]  # the last row holds the results


def test_all_values_of_a_step_are_one_row_with_the_samples_behind_it(sittings):
    folder, *_ = sittings
    last = parts_of(folder)[0].rows[-1]
    assert last["train/loss"] == 1.4
    assert last["val/loss/audio"] == 1.7
    assert (last["_step"], last["step"], last["samples/audio"]) == (20, 20, 80)
    row = next(row for row in parts_of(folder)[1].rows if row["step"] == 50)
    written = {r.name: r.value for r in MetricLog(folder.metrics_file).read() if r.step == 50}
    assert {name: row[name] for name in written} == pytest.approx(written)


def test_losses_of_a_modality_stand_over_its_own_samples_all_else_over_the_optimizer_step(sittings):
    folder, *_ = sittings
    for part in parts_of(folder):
        assert part.axes["train/loss/audio"] == part.axes["val/loss/audio"] == "samples/audio"
        assert part.axes["*"] == "step"
        assert part.axes["score/*"] == part.axes["ledger/*"] == part.axes["router/*"] == "phase"


def test_the_config_says_what_ran_and_grew_from_what(sittings):
    folder, *_ = sittings
    config = parts_of(folder)[-1].config
    assert config["seed"] == 1
    assert config["api_key"] == "(removed)"
    assert config["run"]["parent"] == {key: folder.manifest().parent[key] for key in ("name", "digest")}
    assert config["run"]["command"] == ["train.py", "experiment=routers", "+api_key=(removed)"]
    assert config["run"]["new"] == list(NEW)


@pytest.mark.parametrize("secret", SECRETS)
def test_no_planted_secret_is_in_any_file(sittings, secret):
    folder, *_ = sittings
    files = [path for path in folder.path.rglob("*") if path.is_file()]
    assert {"manifest.json", "wandb-id", "debug.log", f"run-{sittings[1]._run.id}.wandb"} <= {f.name for f in files}
    assert not [path.name for path in files if secret.encode() in path.read_bytes()]


def table_of(folder, name):
    """A logged table and the files beside it, as W&B will be sent them."""
    (artifact,) = [a for key, a in parts_of(folder)[-1].artifacts.items() if name.replace("/", "") in key.split("-")]
    files = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
    assert all(folder.path in file.parents for file in files.values()), "a run's files lie in its folder"
    return json.loads(files[f"{name}.table.json"].read_text()), files


def test_samples_are_tables_with_media_and_texts(sittings):
    folder, *_ = sittings
    kinds = {}
    for modality in (*SEEN, *NEW):
        table, files = table_of(folder, f"samples/{modality}")
        assert table["columns"] == [modality, "split", "key", "question", "reference", "generated", "right"]
        medium, *_, reference, generated, right = table["data"][1]
        assert (reference, generated, right) == (
            "one small red cube at the left", "one small red ball at the left", False,
        )  # fmt: skip
        kinds[modality] = medium["_type"]
        assert files[medium["path"]].stat().st_size > 0
    assert kinds == {
        "image": "image-file", "point": "object3D-file", "audio": "audio-file", "video": "video-file",
        "depth": "html-file",
    }  # fmt: skip


def test_scores_ledger_router_and_freeze_map_are_there_as_numbers_tables_and_charts(sittings):
    folder, *_ = sittings
    row = parts_of(folder)[-1].rows[-1]
    assert row["phase"] == 2
    assert row["score/caption/test/attribute_accuracy/audio"] == pytest.approx(0.93, abs=0.03)
    assert row["ledger/change/image"] == pytest.approx(-0.016)
    assert sum(row[f"router/audio/expert_{k}"] for k in (1, 2, 3)) == pytest.approx(1)
    ledger = table_of(folder, "ledger_table")[0]
    assert [line[2] for line in ledger["data"]] == ["image", "image", *NEW]
    assert [line[0] for line in table_of(folder, "expert_distances")[0]["data"]] == [
        "expert 1",
        "expert 2",
        "expert 3",
    ]
    parts = {line[0]: line[2:] for line in table_of(folder, "parts")[0]["data"]}
    assert parts["tokenizers.audio"] == [True, "ok"]
    assert parts["llm"] == [False, "unchanged"]
    charts = parts_of(folder)[-1].config.keys()
    assert {"_wandb.visualize.ledger_chart", "_wandb.visualize.router_chart/audio"} <= charts


def test_the_summary_holds_the_last_values_and_the_scores(sittings):
    folder, *_ = sittings
    summary = parts_of(folder)[-1].summary
    assert summary["step"] == 250
    assert summary["score/text_loss"] == pytest.approx(0.1042)
    assert (
        summary["train/loss/audio"]
        == [r.value for r in MetricLog(folder.metrics_file).read() if r.name == "train/loss/audio"][-1]
    )


def test_the_parents_checkpoint_is_used_and_the_childs_is_logged(sittings):
    folder, *_ = sittings
    artifacts = parts_of(folder)[-1].artifacts
    manifest = folder.manifest()
    parent, own = (artifacts[name.replace("+", "-")] for name in (manifest.parent["name"], manifest.name))
    assert (parent.use_after_commit, own.use_after_commit) == (True, False)
    assert {parent.type, own.type} == {"checkpoint"}
    assert json.loads(own.metadata)["digest"] == manifest.checkpoint["digest"]
    assert json.loads(parent.metadata)["digest"] == manifest.parent["digest"]
    assert "latest" in own.aliases


def test_two_runs_have_two_ids(sittings, tmp_path):
    from modalign.callbacks.wandb_dashboard import _run_id

    folder, first, _ = sittings
    assert _run_id(folder) == first._run.id
    assert _run_id(RunFolder(tmp_path / "other").prepare()) != first._run.id


def synced(folder, tmp_path):
    """What a server holds after `wandb sync` of everything that lies in the run's folder."""
    with wandb_server.WandbServer() as server:
        files = sorted(map(str, folder.path.glob("wandb/offline-run-*")))
        done = subprocess.run(
            [sys.executable, "-m", "wandb", "sync", *files], env=server.environment(tmp_path),
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert server.runs, done.stderr
        (run,) = server.runs.values()
        return run


def test_the_sittings_sync_to_one_run_and_one_curve(tmp_path):
    folder = RunFolder(fabricated.make_run(tmp_path, "align", ("image",), ()))
    rows = MetricLog(folder.metrics_file).read()
    for start, end in ((0, 60), (50, 120), (100, 250)):  # each begins at the checkpoint before the last one's end
        dashboard = WandbDashboard(SETTINGS, folder, folder.manifest())
        dashboard.begin([row for row in rows if row.step <= start])
        for row in rows:
            if start < row.step <= end:
                dashboard.log({row.name: row.value}, row.step)
        dashboard.finish()
    run = synced(folder, tmp_path)
    assert run.name == (folder.path / "wandb-id").read_text()
    curve = [(row["step"], row["train/loss/image"]) for row in run.rows]
    assert curve == [(r.step, r.value) for r in rows if r.name == "train/loss/image"]


KILLED = """
import os, signal, sys
from pathlib import Path
from modalign.callbacks.wandb_dashboard import WandbDashboard
from modalign.config.schema import LoggerSettings
from modalign.runs.folder import RunFolder
folder = RunFolder(Path(sys.argv[1]))
dashboard = WandbDashboard(LoggerSettings(wandb=True, mode="offline"), folder, folder.manifest())
for step in range(1, 31):
    dashboard.log({"train/loss": 1 / step}, step)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_what_a_killed_sitting_had_not_written_down_is_sent_by_the_next(tmp_path):
    folder = RunFolder(fabricated.make_run(tmp_path, "align", ("image",), ()))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder.path)], env=wandb_server.alone(), timeout=300, check=False
    )
    assert done.returncode == -signal.SIGKILL
    folder.metrics_file.unlink()
    metrics = MetricLog(folder.metrics_file)
    for step in range(1, 31):
        metrics.append(step, {"train/loss": 1 / step})
    held = last_logged_step(folder.path / "wandb", (folder.path / "wandb-id").read_text())
    assert held < 30  # the last row at least was still open
    dashboard = WandbDashboard(SETTINGS, folder, folder.manifest())
    dashboard.begin(metrics.read())
    dashboard.log({"train/loss": 1 / 31}, 31)
    dashboard.finish()
    run = synced(folder, tmp_path)
    assert [(row["step"], row["train/loss"]) for row in run.rows] == [(step, 1 / step) for step in range(1, 32)]


ONLINE = """
import sys
from pathlib import Path
from modalign.callbacks.wandb_dashboard import open_dashboard
from modalign.config.schema import LoggerSettings
from modalign.runs.folder import RunFolder
from modalign.runs.metrics import Metric
folder = RunFolder(Path(sys.argv[1]))
start, end = map(int, sys.argv[2:])
with open_dashboard(LoggerSettings(wandb=True), folder, folder.manifest()) as dashboard:
    dashboard.begin([Metric(step, "train/loss", 1 / step) for step in range(1, start + 1)])
    for step in range(start + 1, end + 1):
        dashboard.log({"train/loss": 1 / step}, step)
    if end < 20:
        raise SystemExit(0)
"""


@pytest.mark.slow
def test_online_a_resumed_run_sends_what_the_server_does_not_hold(tmp_path):
    folder = RunFolder(fabricated.make_run(tmp_path, "align", ("image",), ()))
    with wandb_server.WandbServer() as server:
        for start, end in ((0, 13), (10, 20)):
            done = subprocess.run(
                [sys.executable, "-c", ONLINE, str(folder.path), str(start), str(end)],
                env=server.environment(tmp_path), capture_output=True, text=True, timeout=300, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
        (run,) = server.runs.values()
    rows = [(row["step"], row["train/loss"]) for row in run.rows if "train/loss" in row]
    assert rows == [(step, 1 / step) for step in range(1, 21)]
    assert run.summary["score/text_loss"] == pytest.approx(0.1042)
    assert not list(folder.path.glob("wandb/offline-run-*"))


def test_without_a_login_the_way_out_is_named(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    folder = RunFolder(fabricated.make_run(tmp_path, "align", ("image",), ()))
    with pytest.raises(ModalignError, match=r"logger=wandb cannot begin .*logger\.mode=offline"):
        WandbDashboard(LoggerSettings(wandb=True, patience_s=2), folder, folder.manifest())
