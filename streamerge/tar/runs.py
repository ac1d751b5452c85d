"""Runs of plain files and symlinks, taken apart: what a sink does that is given runs instead of Entries."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Final

from streamerge.entry import Entry
from streamerge.interfaces import Run, Takes, TreeSink
from streamerge.tar.fields import BLOCK, LINK_NAME, MAGIC, NAME, PREFIX, SIZE, TYPE_AT
from streamerge.tar.header import parse_entry

__all__ = ["SYMLINK", "FileByFileSink", "split_run"]

SYMLINK: Final = ord("2")
"""A symlink's type flag."""

_NAME_SIZE = NAME.stop
_PREFIX_AT = PREFIX.start
_USTAR = slice(MAGIC.start, MAGIC.start + 6)
_SIZE_DIGITS = slice(SIZE.start, SIZE.stop - 1)


class FileByFileSink(TreeSink):
    """The part of a :class:`~streamerge.interfaces.TreeSink` that is the same for all that take files one by one."""

    takes = Takes.FILE_RUNS

    def enter_directory(self, path: bytes) -> None:
        """Do nothing: the directory's own entry has come, or will come."""

    def write_run(self, run: Run) -> None:
        """Give each file of a run to :meth:`add_file`, each symlink to ``add``."""
        assert run.data is not None
        add_file = self.add_file
        for path, cut, header, body in split_run(memoryview(run.data)):
            if header[TYPE_AT] == SYMLINK:
                self.add(parse_entry(header), ())
            else:
                add_file(path, cut, header, body)

    def add_directory(self, path: bytes, header: bytes) -> None:
        """Give it to ``add``."""
        self.add(parse_entry(header), ())

    @abstractmethod
    def add(self, entry: Entry, body: Iterable[bytes | memoryview]) -> None:
        """Add an entry; see :class:`~streamerge.interfaces.Sink`."""
        raise NotImplementedError

    @abstractmethod
    def add_file(self, path: bytes, cut: int, header: bytes, body: memoryview) -> None:
        """Add a new plain file: its clean path, where the base name begins in it, its header, its whole body."""
        raise NotImplementedError


def split_run(run: memoryview) -> Iterator[tuple[bytes, int, bytes, memoryview]]:
    """Yield (path, where its base name begins, header, body) of each file and symlink in a run.

    Nothing is checked again: the scan has checked it. Cost: half a microsecond a file.
    """
    pos, end = 0, len(run)
    while pos < end:
        body = pos + BLOCK
        header = bytes(run[pos:body])
        stop = header.find(0)
        name = header[:stop] if stop < _NAME_SIZE else header[:_NAME_SIZE]
        if header[_PREFIX_AT] and header[_USTAR] == b"ustar\0":
            name = header[PREFIX].partition(b"\0")[0] + b"/" + name
        size = int(header[_SIZE_DIGITS], 8)
        yield name, name.rfind(b"/") + 1, header, run[body : body + size]
        pos = body + (size + BLOCK - 1 & -BLOCK)


def link_target(header: bytes) -> bytes:
    """Return the target of a symlink in a run."""
    return header[LINK_NAME].partition(b"\0")[0]
