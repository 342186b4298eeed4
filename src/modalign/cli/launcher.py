"""Starts the other processes of a node for `trainer.devices=N`, and sees to it that none is left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from modalign.cli.terminal import GRACE_S, warn
from modalign.runs.launch import Launch, environment_of

_TICK_S = 0.2


@contextmanager
def started(launch: Launch, command: Sequence[str]) -> Iterator[None]:
    """While entered, `command` runs as the other processes of this node, where this process has any to start.

    The node's first process stands for all of them: it waits for the others when it ends, and ends when one fails.
    """
    if not launch.to_start:
        yield
        return
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(_free_port()))
    os.environ.update(environment_of(launch, 0))
    others = [
        subprocess.Popen(command, env=os.environ | environment_of(launch, number))
        for number in range(1, launch.to_start + 1)
    ]
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(others, ended, _end), daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()
        _wait_for(others)


def own_command(script: Path, arguments: Sequence[str]) -> list[str]:
    """The command line of this very program."""
    return [sys.executable, str(script.resolve()), *arguments]


def _watch(others: list[subprocess.Popen[bytes]], ended: threading.Event, end: Callable[[], None]) -> None:
    """Ends this process where another has failed and this one, stuck without it, does not end by itself."""
    while not ended.wait(_TICK_S):
        failed = [other for other in others if other.poll() not in (None, 0)]
        if failed and not ended.wait(GRACE_S):
            warn(f"error: process {failed[0].pid} of this run ended with code {failed[0].returncode}")
            _kill(others)
            end()


def _wait_for(others: list[subprocess.Popen[bytes]]) -> None:
    for other in others:
        try:
            other.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            _kill([other])


def _kill(others: list[subprocess.Popen[bytes]]) -> None:
    for other in others:
        if other.poll() is None:
            other.kill()
            other.wait()


def _end() -> None:
    os._exit(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
