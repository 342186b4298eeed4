"""W&B beside the CSV: files without a network, one id however often a run is resumed, and no secret in any of them."""

import pytest

from modalign.callbacks.wandb_dashboard import WandbDashboard
from modalign.config.schema import LoggerSettings
from modalign.runs.folder import RunFolder

pytest.importorskip("wandb")

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


@pytest.fixture(scope="module")
def dashboards(tmp_path_factory):
    """A run that was logged, stopped and logged again, offline."""
    folder = RunFolder(tmp_path_factory.mktemp("wandb") / "align-image-12345678").prepare()
    settings = LoggerSettings(wandb=True, mode="offline", tags=("ablation", "hf_plantedInATag0123"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_API_KEY", "planted-in-the-environment")
        patch.setattr("sys.argv", ["train.py", "+api_key=planted-on-the-command-line"])
        ids = []
        for step in (10, 20):
            dashboard = WandbDashboard(settings, folder, "align", ("image",), {"stage": "align", **PLANTED})
            dashboard.log({"train/loss": 2.5, "val/loss/image": 3.5}, step)
            ids.append(dashboard._run.id)
            dashboard.finish()
    return folder, ids


def test_an_offline_run_writes_files_beside_the_metrics(dashboards):
    folder, _ = dashboards
    files = [path for path in (folder.path / "wandb").rglob("*.wandb") if path.stat().st_size > 0]
    assert files


def test_a_resumed_run_goes_on_under_the_same_id(dashboards):
    folder, ids = dashboards
    assert ids[0] == ids[1] == (folder.path / "wandb-id").read_text()
    assert len(ids[0]) == 8


def test_two_runs_have_two_ids(dashboards, tmp_path):
    from modalign.callbacks.wandb_dashboard import _run_id

    folder, ids = dashboards
    assert _run_id(folder) == ids[0]
    assert _run_id(RunFolder(tmp_path / "other").prepare()) != ids[0]


def test_what_was_measured_is_in_the_files(dashboards):
    folder, _ = dashboards
    written = b"".join(path.read_bytes() for path in (folder.path / "wandb").rglob("*") if path.is_file())
    assert b"val/loss/image" in written
    assert b"ablation" in written


@pytest.mark.parametrize("secret", SECRETS)
def test_no_planted_secret_is_in_any_file(dashboards, secret):
    folder, _ = dashboards
    leaks = [p.name for p in folder.path.rglob("*") if p.is_file() and secret.encode() in p.read_bytes()]
    assert not leaks
