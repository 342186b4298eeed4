"""Settings against the number of processes: what cannot run is said before torch is imported."""

import re
from dataclasses import dataclass
from typing import Any

import pytest

from modalign.config.compose import compose_settings
from modalign.config.processes import check_processes, engine_of, find_launch
from modalign.errors import ModalignError
from modalign.runs.launch import Launch

TWO, THREE = Launch(0, 0, 2, 2), Launch(0, 0, 3, 3, "torchrun")


@dataclass
class Run:
    """What is known of a run before it runs."""

    name: str = "align-image-1a"
    stage: str = "align"
    stage_settings: Any = None


def settings(*more):
    return compose_settings(["debug=tiny", *more])[0]


def test_one_process_trains_by_itself_and_several_by_ddp_unless_told_otherwise():
    assert engine_of(settings().trainer, Launch()) == "single"
    assert engine_of(settings().trainer, TWO) == "ddp"
    assert engine_of(settings("trainer.engine=fsdp2").trainer, Launch()) == "fsdp2"


def test_a_slice_that_does_not_divide_names_a_number_that_fits():
    check_processes(settings(), [Run()], TWO)
    told = r"slice_size=8 does not divide among 3 processes \(torchrun\): start 2 processes, or set it to 9"
    with pytest.raises(ModalignError, match=told):
        check_processes(settings(), [Run(), Run()], THREE)


def test_a_slice_that_a_phase_alone_has_is_told_with_the_phase():
    own = settings().stages["align"].model_copy(update={"slice_size": 6})
    told = "stages.align.slice_size=6 for align-video-1a, by what stages.align.phases names does not divide among 4"
    with pytest.raises(ModalignError, match=re.escape(told)):
        check_processes(settings(), [Run(), Run("align-video-1a", stage_settings=own)], Launch(4, 0, 4, 0, "torchrun"))


def test_the_single_engine_takes_one_process():
    with pytest.raises(ModalignError, match=r"trainer\.engine=single, but 2 processes run this \(trainer\.devices\)"):
        check_processes(settings("trainer.engine=single"), [Run()], TWO)


def test_auto_devices_on_the_cpu_are_one(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    assert find_launch(settings("trainer.devices=auto", "trainer.accelerator=cpu").trainer).world_size == 1
    assert find_launch(settings("trainer.devices=auto").trainer).world_size == 4


def test_an_unknown_engine_is_refused_with_the_known_ones():
    with pytest.raises(ModalignError, match=r"trainer\.engine: should be 'auto', 'single', 'ddp' or 'fsdp2'"):
        settings("trainer.engine=deepspeed")


def test_a_command_for_three_processes_is_refused_within_two_seconds(train_command):
    import time

    begin = time.monotonic()
    done = train_command("stage=align", "modality=image", "debug=tiny", "trainer.devices=3", "trainer.accelerator=cpu")
    assert time.monotonic() - begin < 20  # whatever else the machine does
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "error: stages.align.slice_size=8 does not divide among 3 processes (trainer.devices): start 2 processes, or "
        "set it to 9, which is another run"
    ]
