"""A blob in a regular file: the whole file or an extent of it, such as a member of an archive.

Blobs are read by position (``pread``), so any number of readers share one descriptor, in any thread. The descriptor
is closed with the last object that uses it: an image need not be closed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from streamerge.digest import Digest
from streamerge.fileio import Extent, FileHandle
from streamerge.streams import FileStream

__all__ = ["FileBlob"]


@dataclass(frozen=True, slots=True)
class FileBlob:
    """``size`` bytes from ``start`` of the file that ``open_file`` opens; ``name`` is what messages call them."""

    name: str
    start: int
    size: int
    open_file: Callable[[], FileHandle]
    digest: Digest | None = None

    def stream(self, offset: int = 0) -> FileStream:
        """Return a stream that starts ``offset`` bytes into the blob. Raises LayerError."""
        extent = Extent(self.open_file(), self.start, self.size).part(offset, self.size - offset)
        return FileStream(extent, self.name)
