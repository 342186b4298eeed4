"""How threads wait is settled before torch is imported: by the user, else by whether anything else computes."""

import gc
import os

import pytest

from modalign.cli import environment
from modalign.cli.environment import SPINS, machine_is_busy, nothing_collected, prepare_environment


@pytest.fixture
def unset(monkeypatch):
    """An environment that says nothing of threads."""
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(("busy", "spins"), [(True, "0"), (False, str(SPINS))])
def test_threads_spin_only_where_nothing_else_computes(busy, spins, unset):
    unset.setattr(environment, "machine_is_busy", lambda: busy)
    prepare_environment()
    assert (os.environ["OMP_WAIT_POLICY"], os.environ["GOMP_SPINCOUNT"]) == ("passive", spins)


def test_what_the_user_has_said_of_threads_stays(unset):
    unset.setattr(environment, "machine_is_busy", lambda: pytest.fail("nobody asked"))
    unset.setenv("OMP_WAIT_POLICY", "active")
    prepare_environment()
    assert os.environ["OMP_WAIT_POLICY"] == "active"
    assert "GOMP_SPINCOUNT" not in os.environ


@pytest.mark.parametrize(
    ("computed", "busy"),
    [([2], False), ([18] * 5, True), ([18, 18, 2], False)],
    ids=["quiet", "busy for as long as is looked", "a command that begins meanwhile"],
)
def test_a_machine_is_busy_where_its_cores_go_on_computing(computed, busy, tmp_path, monkeypatch):
    statistics, ticks, looks = tmp_path / "stat", {"busy": 500, "idle": 9000}, iter(computed)

    def pass_time(seconds=0.0, ran=0):
        ticks["busy"] += ran
        ticks["idle"] += 20 - ran
        statistics.write_text(f"cpu  {ticks['busy']} 0 100 {ticks['idle']} 7 0 3 0 0 0\ncpu0 1 1 1 1\n")

    pass_time()
    monkeypatch.setattr(environment.time, "sleep", lambda seconds: pass_time(seconds, next(looks)))
    assert machine_is_busy(statistics) is busy
    assert next(looks, None) is None


def test_a_machine_that_does_not_tell_is_taken_for_busy(tmp_path):
    assert machine_is_busy(tmp_path / "stat")


def test_garbage_is_collected_again_afterwards_even_after_an_error():
    with nothing_collected():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), nothing_collected():
        raise KeyError
    assert gc.isenabled()


def test_where_garbage_was_not_collected_it_stays_so():
    gc.disable()
    try:
        with nothing_collected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
