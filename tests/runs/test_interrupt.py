"""Signals as a flag."""

import os
import signal
import threading
import time

import pytest

from modalign.runs.interrupt import InterruptFlag


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_sets_the_flag_and_work_goes_on(number):
    with InterruptFlag() as flag:
        assert not flag
        assert flag.raised is None
        os.kill(os.getpid(), number)
        assert flag.raised == number.name
        assert flag


def test_a_second_interrupt_from_the_keyboard_does_not_wait():
    with InterruptFlag() as flag:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert flag.raised == "SIGINT"


def test_earlier_handlers_come_back_even_after_an_error():
    before = [signal.getsignal(number) for number in InterruptFlag().signals]
    with pytest.raises(ZeroDivisionError), InterruptFlag():
        1 / 0  # noqa: B018
    assert [signal.getsignal(number) for number in InterruptFlag().signals] == before


def test_a_library_that_takes_the_handlers_away_gives_them_back():
    taken = []
    with InterruptFlag() as flag:
        signal.signal(signal.SIGTERM, lambda number, frame: taken.append(number))
        flag.take_back()
        os.kill(os.getpid(), signal.SIGTERM)
        assert flag.raised == "SIGTERM"
    assert not taken
    InterruptFlag().take_back()  # never entered: nothing to take
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_forked_worker_still_ends_on_sigterm_and_ignores_the_rest():
    with InterruptFlag() as flag:
        child = os.fork()
        if child == 0:
            while True:
                time.sleep(0.01)
        time.sleep(0.05)
        os.kill(child, signal.SIGINT)
        os.kill(child, signal.SIGUSR1)
        time.sleep(0.05)
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        os.kill(child, signal.SIGTERM)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
        assert flag.raised is None


def test_outside_the_main_thread_it_is_never_raised_and_harms_nothing():
    seen = []

    def work():
        with InterruptFlag() as flag:
            seen.append(flag.raised)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]
