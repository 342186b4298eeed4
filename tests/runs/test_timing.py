"""Seconds by section."""

import pytest

from modalign.runs.timing import Sections


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s

    def fail_after(self, seconds):
        self.now_s += seconds
        raise ZeroDivisionError


@pytest.fixture
def clock():
    return Clock()


def test_time_in_an_inner_section_counts_there_alone(clock):
    sections = Sections(clock=clock)
    clock.now_s = 5
    with sections("train"):
        clock.now_s += 2
        with sections("save"):
            clock.now_s += 10
        clock.now_s += 1
    clock.now_s += 100
    with sections("train"):
        clock.now_s += 4
    assert sections.seconds == {"train": 7, "save": 10}
    assert sections.total_s == 17


def test_an_open_section_is_counted_until_now_and_only_once(clock):
    sections = Sections(clock=clock)
    with sections("train"):
        clock.now_s += 3
        assert sections.seconds == {"train": 3}
        clock.now_s += 1
    assert sections.seconds == {"train": 4}


def test_a_section_inside_itself_is_one(clock):
    sections = Sections(clock=clock)
    with sections("a"):
        clock.now_s += 1
        with sections("a"):
            clock.now_s += 1
    assert sections.seconds == {"a": 2}


def test_a_resumed_run_goes_on_counting_and_an_error_closes_the_section(clock):
    sections = Sections({"train": 10.0}, clock=clock)
    with pytest.raises(ZeroDivisionError), sections("train"):
        clock.fail_after(1)
    clock.now_s += 1
    assert sections.seconds == {"train": 11}
