"""What a sweep needs, and what is wrong in one of its jobs, is told in one line."""

import logging
import sys
from types import SimpleNamespace

import pytest

from modalign.cli.arguments import TrainArguments
from modalign.cli.multirun import combinations, sweep
from modalign.config.places import conf_folder
from modalign.errors import ModalignError
from modalign.stages.notices import Notices

RUN = "modalign.stages.curriculum_run"


@pytest.fixture
def ran(monkeypatch, tmp_path):
    """Sweeps in this process, whose jobs train nothing: what they had as seeds, in the order that they began."""
    seeds = []
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def run_all(specs, settings, *_):
        seeds.append(settings.seed)
        return 0

    monkeypatch.setitem(sys.modules, RUN, SimpleNamespace(run_all=run_all))
    yield seeds
    root.handlers[:] = handlers
    root.setLevel(level)


def swept(tmp_path, *words):
    """A sweep of small jobs that leaves its files in `tmp_path`."""
    places = (f"hydra.sweep.dir={tmp_path / 'sweep'}", f"paths.data={tmp_path}", f"paths.runs={tmp_path}")
    return sweep(TrainArguments.parse(["--multirun", "stage=align", "modality=image", "debug=tiny", *places, *words]))


def test_a_launcher_that_is_not_installed_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "hydra_plugins.hydra_submitit_launcher", None)
    words = ["--multirun", "hydra/launcher=submitit_slurm", "stage=align", "modality=image", "seed=0,1"]
    with pytest.raises(ModalignError, match=r"needs the package hydra-submitit-launcher: pip install"):
        sweep(TrainArguments.parse(words))


def test_a_sweep_is_expanded_as_hydra_does_it():
    assert combinations(["stage=align", "seed=0,1", "~data.instruct.world_imu", "x=[a,b]", "seed=range(5,7)"]) == [
        ("stage=align", f"seed={seed}", "~data.instruct.world_imu", "x=[a,b]") for seed in (5, 6)
    ]
    assert combinations(["model=glob(embed*)", "hydra.sweep.dir=here"]) == [("model=embedded", "hydra.sweep.dir=here")]
    assert combinations(["hydra/sweeper=other", "seed=0,1"]) == []
    with pytest.raises(ModalignError, match="give the values one by one"):
        combinations(["seed=interval(0,1)"])


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("seed=0,x", "seed: should be a valid integer"),
        ("stages.align.replay=none,nonne", "unknown replay rule 'nonne' in .*: did you mean 'none'"),
        ("stages.align.replya=none,equal", "unknown setting 'replya' in stages.align: did you mean 'replay'"),
        ("trainer.devices=1,2", "trainer.devices=2: the jobs of a sweep are processes of a launcher"),
        ("seed=0,(", r"cannot read 'seed=0,\('"),
    ],
)
def test_what_is_wrong_in_one_job_is_told_before_any_is_run(ran, tmp_path, word, told):
    with pytest.raises(ModalignError, match=told):
        swept(tmp_path, word)
    assert not ran
    assert not (tmp_path / "sweep").exists()


def test_models_of_different_modality_sets_are_not_swept_together(ran, tmp_path, monkeypatch):
    monkeypatch.setattr("modalign.cli.multirun.modality_set", lambda words, _: words[-1])
    with pytest.raises(ModalignError, match=r"different sets of modalities \(seed=0, seed=1\)"):
        swept(tmp_path, "seed=0,1")
    assert not ran


def test_data_that_may_not_be_trained_on_is_refused_before_any_job(ran, tmp_path, monkeypatch):
    def refuse(*_):
        raise ModalignError("licence of world_image")

    monkeypatch.setattr("modalign.cli.multirun.check_permissions", refuse)
    with pytest.raises(ModalignError, match="licence of world_image"):
        swept(tmp_path, "seed=0,1")
    assert not ran


def test_a_job_that_fails_is_one_line_and_the_others_go_on(ran, tmp_path, capsys, monkeypatch):
    class Told(ModalignError):
        exit_code = 3

    def run_all(specs, settings, *_):
        ran.append(settings.seed)
        if settings.seed == 0:
            raise Told("the gate is shut")
        return 0

    monkeypatch.setitem(sys.modules, RUN, SimpleNamespace(run_all=run_all))
    assert swept(tmp_path, "seed=0,1") == 3
    assert ran == [0, 1]
    said = capsys.readouterr()
    assert said.err == "error: the gate is shut\n"
    assert "Traceback" not in said.out


def test_the_command_of_a_job_names_the_folder_of_own_settings(ran, tmp_path, monkeypatch):
    commands = []

    def run_all(specs, settings, plain, command, *_):
        commands.append(command)
        return 0

    own = tmp_path / "own"
    (own / "model").mkdir(parents=True)
    monkeypatch.setitem(sys.modules, RUN, SimpleNamespace(run_all=run_all))
    assert swept(tmp_path, "seed=0,1", "--config-dir", str(own)) == 0
    assert [words[:3] for words in commands] == [["train.py", "--config-dir", str(own)]] * 2
    assert {words[-1] for words in commands} == {"seed=0", "seed=1"}


def test_a_file_of_ones_own_stands_in_for_the_shipped_one_in_every_job(ran, tmp_path, monkeypatch):
    names = []

    def run_all(specs, settings, *_):
        names.append(settings.curriculum.name)
        return 0

    monkeypatch.setitem(sys.modules, RUN, SimpleNamespace(run_all=run_all))
    shipped = (conf_folder() / "curriculum" / "by_size.yaml").read_text()
    (tmp_path / "own" / "curriculum").mkdir(parents=True)
    (tmp_path / "own" / "curriculum" / "by_size.yaml").write_text(shipped.replace("name: by_size", "name: mine"))
    assert swept(tmp_path, "seed=0,1", "--config-dir", str(tmp_path / "own")) == 0
    assert names == ["mine", "mine"]


def test_a_notice_of_a_job_comes_to_the_terminal_once_and_into_its_file(ran, tmp_path, capsys, monkeypatch):
    ours = logging.getLogger("modalign")
    level, notices = ours.level, Notices()
    monkeypatch.setattr(ours, "handlers", [notices])

    def run_all(*_):
        logging.getLogger("modalign.progress").info("step 3/3")
        logging.getLogger("another").error("a library's word")
        return 0

    monkeypatch.setitem(sys.modules, RUN, SimpleNamespace(run_all=run_all))
    ours.setLevel(logging.INFO)
    try:
        assert swept(tmp_path) == 0
    finally:
        ours.setLevel(level)
    said = capsys.readouterr()
    assert said.err == "note: step 3/3\n"
    assert "step 3/3" not in said.out
    assert "a library's word" in said.out
    assert "step 3/3" in next((tmp_path / "sweep").glob("*/*.log")).read_text()
