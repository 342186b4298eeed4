"""What a person reads: answers on stdout, errors as one line on stderr."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from modalign.errors import ModalignError, ToldElsewhere
from modalign.runs.interrupt import Interrupted

if TYPE_CHECKING:
    from rich.console import Console

# Wide enough for a table in a file or a pipe, where nobody has a width.
PIPE_WIDTH = 200
# What is left of a run whose one process has failed gets so long to tell why and to write it down.
GRACE_S = 20.0
_WATCHED = {"TORCHELASTIC_RUN_ID", "SLURM_PROCID"}
_TICK_S = 0.2
_LINE_S = 30.0


def say(text: str) -> None:
    """Write an answer to stdout."""
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()


def warn(text: str) -> None:
    """Write one line to stderr."""
    sys.stderr.write(" ".join(text.split()) + "\n")


def exit_with(error: ModalignError) -> NoReturn:
    """End with the error's line and exit code; what all processes of a node met alike is told by its first one.

    The others leave the time to do so: torchrun and srun end all processes as soon as one has failed.
    """
    first = int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0) == 0
    if not isinstance(error, ToldElsewhere) and (first or error.only_here):
        sys.stderr.write(f"error: {error}\n")
    elif not isinstance(error, Interrupted) and _WATCHED & os.environ.keys():
        time.sleep(GRACE_S)
    sys.exit(error.exit_code)


def console() -> Console:
    """A rich console on stdout that does not break lines where there is no terminal."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> None:
    """A table without lines; `numbers` are the columns that are set flush right."""
    if not sys.stdout.isatty():
        say(_plain_table([list(header), *map(list, rows)], numbers))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(header):
        table.add_column(Text(name), justify="right" if place in numbers else "left", no_wrap=place == 0)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console().print(table)


def _plain_table(rows: Sequence[Sequence[str]], numbers: Sequence[int]) -> str:
    """The same for a pipe or a file: a line a row, whatever its length."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if place in numbers else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


@contextmanager
def working(text: Callable[[], str]) -> Iterator[None]:
    """Show on a terminal that work goes on: `text` is asked a few times a second; elsewhere nothing is written."""
    from rich.console import Console

    screen = Console(stderr=True, highlight=False)
    if not screen.is_terminal:
        yield
        return
    ended = threading.Event()
    with screen.status(text()) as status:

        def follow() -> None:
            while not ended.wait(_TICK_S):
                status.update(text())

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@contextmanager
def making_progress(title: str, total: int | None) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, moved by the numbers written and dropped; elsewhere a line every half minute."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    screen = Console(stderr=True, highlight=False)
    if not screen.is_terminal:
        yield _Lines(title)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True) as bars:
        task = bars.add_task(title, total=total)

        def note(written: int, dropped: int) -> None:
            told = f"{title}, {count(dropped)} dropped" if dropped else title
            bars.update(task, completed=written + dropped, description=told)

        yield note


class _Lines:
    """Progress for a log: a line on stderr now and then."""

    def __init__(self, title: str) -> None:
        self.title, self.next = title, time.monotonic() + _LINE_S

    def __call__(self, written: int, dropped: int) -> None:
        if time.monotonic() >= self.next:
            self.next = time.monotonic() + _LINE_S
            warn(f"{self.title}: {count(written)} written, {count(dropped)} dropped")


def count(number: int) -> str:
    """A number with its thousands parted."""
    return f"{number:,}"


def file_size(num_bytes: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"
