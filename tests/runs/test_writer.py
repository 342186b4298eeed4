"""One write at a time, at once or beside the training, and no failure of it goes unheard."""

import logging
import threading

import pytest

from modalign.errors import ModalignError
from modalign.runs.writer import Writer


class Gate:
    """A write that lasts until it is let through."""

    def __init__(self, done, name, error=None):
        self.done, self.name, self.error = done, name, error
        self.begun, self.opened = threading.Event(), threading.Event()

    def __call__(self):
        self.begun.set()
        assert self.opened.wait(60)
        if self.error is not None:
            raise self.error
        self.done.append(self.name)


def full():
    raise ModalignError("disk full")


def test_in_the_foreground_a_write_is_done_when_the_call_returns():
    done = []
    writer = Writer(before=lambda: done.append("rows"))
    writer(lambda: done.append("written"))
    assert done == ["rows", "written"]
    with pytest.raises(ModalignError, match="disk full"):
        writer(full)


def test_in_the_background_the_call_returns_while_the_write_goes_on():
    done = []
    writer, gate = Writer(background=True, before=lambda: done.append("rows")), Gate(done, "written")
    writer(gate)
    assert gate.begun.wait(60)
    writer.check()
    assert done == ["rows"]
    gate.opened.set()
    writer.wait()
    assert done == ["rows", "written"]
    writer.wait()


def test_a_second_write_waits_for_the_first():
    done, asked = [], threading.Event()
    writer, first, second = Writer(background=True), Gate(done, 1), Gate(done, 2)
    second.opened.set()
    writer(first)

    def ask():
        asked.set()
        writer(second)

    training = threading.Thread(target=ask)
    training.start()
    assert asked.wait(60)
    assert not second.begun.wait(0.05)
    first.opened.set()
    training.join(60)
    writer.wait()
    assert done == [1, 2]


@pytest.mark.parametrize("speak", [Writer.check, Writer.wait, lambda writer: writer(list)])
def test_the_error_of_a_write_is_raised_once_where_the_writer_is_next_spoken_to(speak):
    writer = Writer(background=True)
    writer(full)
    writer._thread.join()
    with pytest.raises(ModalignError, match="disk full"):
        speak(writer)
    writer.check()
    writer.wait()


def test_where_rows_cannot_be_written_no_checkpoint_is():
    done = []
    writer = Writer(background=True, before=full)
    writer(lambda: done.append("written"))
    with pytest.raises(ModalignError, match="disk full"):
        writer.wait()
    assert not done


def test_who_leaves_the_writer_finds_everything_on_disk():
    done = []
    gate = Gate(done, "written")
    with Writer(background=True) as writer:
        writer(gate)
        threading.Timer(0.05, gate.opened.set).start()
    assert done == ["written"]
    with pytest.raises(ModalignError, match="disk full"), Writer(background=True) as writer:
        writer(full)


def test_the_error_that_ended_the_training_is_not_replaced_by_one_of_the_disk(caplog):
    def train():
        with Writer(background=True) as writer:
            writer(full)
            raise ValueError("not finite")

    with caplog.at_level(logging.WARNING), pytest.raises(ValueError, match="not finite"):
        train()
    assert "disk full" in caplog.text
