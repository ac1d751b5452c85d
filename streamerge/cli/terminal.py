"""What a person sees meanwhile: a line on a terminal, nothing in a pipe, and one line at the end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

from streamerge.engine.merging import Report
from streamerge.engine.onepass import Observer
from streamerge.engine.scan import Counts

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Terminal", "show_size", "summary"]

_MAX_WARNINGS = 20


class Terminal(Observer):
    """Shows warnings on stderr, and progress where stderr is a terminal. A context manager."""

    def __init__(self, layers: int, *, quiet: bool = False) -> None:
        self._layers = layers
        self._quiet = quiet
        self._warnings = 0
        self._tally = Counts()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty():
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
        if self._warnings > _MAX_WARNINGS:
            self._say(f"{self._warnings - _MAX_WARNINGS} more warnings like these")

    def leave(self) -> None:
        """Leave the terminal to another program, which shows its own progress."""
        progress, self._progress = self._progress, None
        if progress is not None:
            progress.stop()

    def layer(self, index: int, name: str, counts: Counts) -> None:
        """A layer begins."""
        self._tally = counts
        if self._progress is not None and self._task is not None:
            done = self._layers - 1 - index
            self._progress.update(self._task, description=f"layer {index} ({name})", completed=done)

    def warning(self, text: str) -> None:
        """One line on stderr, unless there have been very many."""
        self._warnings += 1
        if not self._quiet and self._warnings <= _MAX_WARNINGS:
            self._say(text)

    def _say(self, text: str) -> None:
        print(f"streamerge: warning: {text}", file=sys.stderr)

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
        from rich.text import Text

        terminal = self

        class Entries(ProgressColumn):
            """The counts, read whenever the line is drawn."""

            def render(self, task: Task) -> Text:
                return Text(f"{terminal._tally.written:,} entries")

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            Entries(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task("", total=self._layers)


def summary(report: Report) -> str:
    """The line at the end of a run."""
    layers = _count(report.layers, "layer")
    written = f"{report.written:,} entries written"
    hidden = f"{report.hidden:,} hidden ({show_size(report.hidden_bytes)})"
    promoted = f"{_count(report.promoted, 'hard link')} promoted"
    return f"streamerge: {layers}: {written}, {hidden}, {promoted}, in {report.seconds:.2f} s"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def show_size(size: float) -> str:
    """Bytes for people: 1.5 GiB.

    >>> show_size(1536)
    '1.5 KiB'
    """
    if size < 1024:
        return f"{size:.0f} bytes"
    power = min((int(size).bit_length() - 1) // 10, 4)
    return f"{size / (1 << 10 * power):.1f} {'KMGT'[power - 1]}iB"
