"""What the whole suite shares: few threads, skipped tests that are named, and one tiny chain of finished runs."""

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

# Before torch is imported by anybody: the machine may have more cores than the suite is meant to use.
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config):
    """Name every skipped test and its reason at the end."""
    if "s" not in config.option.reportchars:
        config.option.reportchars += "s"


def load_train():
    """The entry point as a module; a script at the root is on no path."""
    spec = importlib.util.spec_from_file_location("train", ROOT / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class TinyRuns:
    """A finished chain at debug size: both backbones, image, video, instruction tuning; never to be written to."""

    runs: Path
    data: Path

    def one(self, start: str) -> Path:
        """The only folder whose name begins so."""
        (found,) = self.runs.glob(f"{start}*")
        return found

    @property
    def text(self) -> Path:
        return self.one("pretrain_text-")

    @property
    def contrast(self) -> Path:
        return self.one("pretrain_contrast-")

    @property
    def image(self) -> Path:
        return self.one("align-image-")

    @property
    def video(self) -> Path:
        return self.one("align-video-")

    @property
    def instruct(self) -> Path:
        return self.one("instruct-image+video-")

    @property
    def curricula(self) -> list[Path]:
        return sorted(self.runs.glob("curriculum-*"))

    @property
    def settings(self) -> list[str]:
        """The overrides under which the runs were made."""
        return tiny_settings(self.runs, self.data)


def tiny_settings(runs: Path, data: Path) -> list[str]:
    own = ["debug=tiny", f"paths.runs={runs}", f"paths.data={data}", "trainer.threads=1", "trainer.progress=false"]
    return [*own, "data.instruct.world_text=1.5"]  # the share with which the golden losses were written


@pytest.fixture(scope="session")
def tiny_runs(tmp_path_factory) -> TinyRuns:
    """About half a minute, once a session, in this process."""
    folder = tmp_path_factory.mktemp("tiny")
    made = TinyRuns(folder / "runs", folder / "data")
    train = load_train()
    assert train.main(["stage=align", "modality=video", *made.settings]) == 0
    assert train.main(["stage=instruct", "modality=[image,video]", *made.settings]) == 0
    return made


@pytest.fixture
def train_command():
    """Run `python train.py …` as a person would, in a process of its own; says what came of it."""

    def run(*arguments, cwd=None, timeout=60, env=None):
        return subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *map(str, arguments)],
            cwd=cwd or ROOT, capture_output=True, text=True, timeout=timeout, check=False,
            env=None if env is None else os.environ | env,
        )  # fmt: skip

    return run
