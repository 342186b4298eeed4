"""What we have to say is heard, what libraries say is not."""

import logging

import pytest

from modalign.stages.notices import LIBRARIES, OURS, Notices, quiet_libraries


@pytest.fixture(autouse=True)
def _levels_come_back():
    loggers = [logging.getLogger(name) for name in (None, OURS, *LIBRARIES)]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers = handlers


def test_our_warnings_and_notes_reach_stderr_once(capsys):
    quiet_libraries()
    quiet_libraries()
    logging.getLogger("modalign.stages.speakable").warning("recipe %s: it cannot say\nthose words", "gestures")
    logging.getLogger("modalign.stages.sources").info("making the world")
    assert capsys.readouterr().err == "warning: recipe gestures: it cannot say those words\nnote: making the world\n"


@pytest.mark.parametrize("name", [*LIBRARIES, "somebody.else"])
def test_libraries_are_not_heard(name, capsys):
    quiet_libraries()
    assert not logging.getLogger(name).isEnabledFor(logging.WARNING)
    logging.getLogger(name).warning("a deprecated thing")
    assert capsys.readouterr().err == ""


def test_there_is_one_handler_however_often_it_is_asked_for():
    quiet_libraries()
    quiet_libraries()
    assert sum(isinstance(handler, Notices) for handler in logging.getLogger(OURS).handlers) == 1
