"""Open a sink for an output's name and format."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from streamerge.interfaces import Sink
from streamerge.sinks.directory.ownership import Ownership
from streamerge.sinks.mkfs.options import FILESYSTEMS, FilesystemOptions
from streamerge.sinks.tar import open_tar

__all__ = ["FORMATS", "SinkOptions", "format_of", "open_sink"]

FORMATS = ("tar", "dir", "cpio", *FILESYSTEMS)

_SUFFIXES = {".cpio": "cpio", ".squashfs": "squashfs", ".sqfs": "squashfs", ".erofs": "erofs", ".ext4": "ext4"}
_CPIO_SUFFIXES = (".cpio.gz", ".cpio.zst", ".cpio.lz4", ".cpio.xz")


class SinkOptions(NamedTuple):
    """How to write. ``level`` is for compressed tars and cpio archives; ``ownership``, ``xattrs`` and ``force`` are for
    directories; ``filesystem`` is for file system images.
    """

    level: int | None = None
    fsync: bool = True
    force: bool = False
    xattrs: bool = True
    ownership: Ownership = Ownership()
    workers: int = 0
    filesystem: FilesystemOptions = FilesystemOptions()


def format_of(output: str) -> str:
    """Return the format for an output's name: ``dir`` for a final slash or a directory, else by suffix, else tar.

    >>> format_of("root.erofs"), format_of("initramfs.cpio.zst"), format_of("rootfs.tar.gz")
    ('erofs', 'cpio', 'tar')
    """
    if output.endswith(os.sep) or os.path.isdir(output):
        return "dir"
    lower = output.lower()
    if lower.endswith(_CPIO_SUFFIXES):
        return "cpio"
    return _SUFFIXES.get(os.path.splitext(lower)[1], "tar")


def open_sink(
    output: str, form: str, options: SinkOptions | None = None, warn: Callable[[str], None] = lambda text: None
) -> Sink:
    """Return a sink that writes ``output`` in one of the :data:`FORMATS`.

    ``warn`` gets one line for each kind of data that the format cannot store. Raises SinkError if the output cannot be
    written, ValueError for a level out of range, UsageError for options that do not fit.
    """
    options = options if options is not None else SinkOptions()
    if form in FILESYSTEMS:
        from streamerge.sinks.mkfs.opening import (
            open_filesystem,  # these three imports take 10 ms; a tar does not need them
        )

        return open_filesystem(output, form, options.filesystem, warn)
    if form == "cpio":
        from streamerge.sinks.cpio.sink import open_cpio

        return open_cpio(output, level=options.level, fsync=options.fsync, warn=warn)
    if form == "dir":
        from streamerge.sinks.directory.sink import DirectorySink

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
