"""Open a sink for an output's name and format."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from streamerge.interfaces import Sink
from streamerge.sinks.formats import FILESYSTEMS
from streamerge.sinks.tar import open_tar

if TYPE_CHECKING:
    from streamerge.sinks.directory.ownership import Ownership
    from streamerge.sinks.mkfs.options import FilesystemOptions

__all__ = ["SinkOptions", "open_sink"]


class SinkOptions(NamedTuple):
    """How to write. ``level`` is for compressed tars and cpio archives; ``ownership``, ``xattrs`` and ``force`` are for
    directories; ``filesystem`` is for file system images.
    """

    level: int | None = None
    fsync: bool = True
    force: bool = False
    xattrs: bool = True
    ownership: Ownership | None = None
    workers: int = 0
    filesystem: FilesystemOptions | None = None


def open_sink(
    output: str, form: str, options: SinkOptions | None = None, warn: Callable[[str], None] = lambda text: None
) -> Sink:
    """Return a sink that writes ``output`` in one of the :data:`~streamerge.sinks.formats.FORMATS`.

    ``warn`` gets one line for each kind of data that the format cannot store. Raises SinkError if the output cannot be
    written, ValueError for a level out of range, UsageError for options that do not fit.
    """
    options = options if options is not None else SinkOptions()
    if form in FILESYSTEMS:
        from streamerge.sinks.mkfs.opening import open_filesystem  # these take 10 ms, and a tar does not need them

        return open_filesystem(output, form, options.filesystem, warn)
    if form == "cpio":
        from streamerge.sinks.cpio.sink import open_cpio

        return open_cpio(output, level=options.level, fsync=options.fsync, warn=warn)
    if form == "dir":
        from streamerge.sinks.directory.sink import DirectorySink

        if options.level is not None:
            raise ValueError("a directory is not compressed, so it has no compression level")
        return DirectorySink(
            output,
            ownership=options.ownership,
            xattrs=options.xattrs,
            force=options.force,
            fsync=options.fsync,
            workers=options.workers,
            warn=warn,
        )
    return open_tar(output, level=options.level, fsync=options.fsync, workers=min(options.workers, 1))
