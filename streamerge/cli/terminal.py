"""The command's output on stderr: progress on a terminal, warnings, and one line at the end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

from streamerge.errors import show
from streamerge.observe import Counts, Event, LayerStarted, MergeStarted, Observer, Report, Warned

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Terminal", "summary"]

_MAX_WARNINGS = 20


class Terminal(Observer):
    """Shows warnings on stderr, and progress if stderr is a terminal. A context manager."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._layers = 0
        self._names: dict[int, str] = {}
        self._quiet = quiet
        self._warnings = 0
        self._counts = Counts()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty():
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
        if self._warnings > _MAX_WARNINGS:
            from streamerge.query.sizes import show_count

            self._print(f"{show_count(self._warnings - _MAX_WARNINGS, 'more warning')} like these")

    def leave(self) -> None:
        """Stop the progress display, so that another program can show its own."""
        progress, self._progress = self._progress, None
        if progress is not None:
            progress.stop()

    def notify(self, event: Event) -> None:
        """Show an event: warnings and progress."""
        if isinstance(event, MergeStarted):
            self._counts = event.counts
            self._layers = event.layers
            if self._progress is not None and self._task is not None:
                self._progress.update(self._task, total=event.layers)
        elif isinstance(event, LayerStarted):
            self._names[event.layer] = event.name
            if self._progress is not None and self._task is not None:
                done = self._layers - 1 - event.layer
                self._progress.update(self._task, description=f"layer {event.layer} ({event.name})", completed=done)
        elif isinstance(event, Warned):
            self.warn(self._located(event))

    def warn(self, text: str) -> None:
        """Print a warning on stderr, unless there were many already."""
        self._warnings += 1
        if not self._quiet and self._warnings <= _MAX_WARNINGS:
            self._print(text)

    def _located(self, event: Warned) -> str:
        layer = f"layer {event.layer} ({self._names.get(event.layer, '?')}): " if event.layer is not None else ""
        path = f"{show(event.path)}: " if event.path is not None else ""
        return f"{layer}{path}{event.text}"

    def _print(self, text: str) -> None:
        print(f"streamerge: warning: {text}", file=sys.stderr)

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
        from rich.text import Text

        terminal = self

        class Entries(ProgressColumn):
            """The number of entries written so far."""

            def render(self, task: Task) -> Text:
                return Text(f"{terminal._counts.written:,} entries")

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
    """Return the line at the end of a merge."""
    from streamerge.query.sizes import show_count, show_size

    layers = show_count(report.layers, "layer")
    written = f"{report.written:,} {'entry' if report.written == 1 else 'entries'} written"
    hidden = f"{report.hidden:,} hidden ({show_size(report.hidden_bytes)})"
    promoted = f"{show_count(report.promoted, 'hard link')} promoted"
    return f"streamerge: {layers}: {written}, {hidden}, {promoted}, in {report.seconds:.2f} s"
