"""A name on the command line -> the sink that it means."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from streamerge.interfaces import Sink
from streamerge.sinks.ownership import Ownership
from streamerge.sinks.tar import open_tar

__all__ = ["FORMATS", "SinkOptions", "format_of", "open_sink"]

FORMATS = ("tar", "dir")


@dataclass(frozen=True, slots=True)
class SinkOptions:
    """How to write. ``level`` is for compressed tars; ``ownership``, ``xattrs`` and ``force`` for directories."""

    level: int | None = None
    fsync: bool = True
    force: bool = False
    xattrs: bool = True
    ownership: Ownership = field(default_factory=Ownership)
    helpers: int = 0


def format_of(output: str) -> str:
    """What an output is by its name: a directory if it ends in a slash or is one, else a tar."""
    return "dir" if output.endswith(os.sep) or os.path.isdir(output) else "tar"


def open_sink(output: str, form: str, options: SinkOptions, warn: Callable[[str], None]) -> Sink:
    """Open ``output`` as one of :data:`FORMATS`. Raises SinkError, ValueError for a level out of range."""
    if form == "dir":
        from streamerge.sinks.directory import DirectorySink  # 10 ms that a tar does not need

        return DirectorySink(
            output,
            ownership=options.ownership,
            xattrs=options.xattrs,
            force=options.force,
            fsync=options.fsync,
            helpers=options.helpers,
            warn=warn,
        )
    return open_tar(output, level=options.level, fsync=options.fsync)
