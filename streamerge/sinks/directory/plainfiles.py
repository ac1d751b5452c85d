"""Plain files and symlinks made straight from their headers, with the fewest system calls that they can have.

It is the directory sink's work on many files at once, by whatever process it is done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from streamerge.engine.scan import SYMLINK, files_of
from streamerge.errors import SinkError
from streamerge.sinks.directory.attributes import Attributes, CreatePlan
from streamerge.sinks.directory.fds import DirectoryFds
from streamerge.sinks.directory.replace import PRIVATE
from streamerge.sinks.output import changed, copy_range, read_place, write_all
from streamerge.streams import CHUNK
from streamerge.tar.header import BLOCK, parse_number

__all__ = ["CREATE", "PlainFiles", "failed"]

CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
_MOST_PLANS = 4096


class PlainFiles:
    """Makes files in directories that are there; what the system refuses, ``attributes`` counts."""

    def __init__(self, attributes: Attributes, fds: DirectoryFds) -> None:
        self._attributes = attributes
        self._fds = fds
        self._plans: dict[bytes, CreatePlan] = {}
        self._room = bytearray(2 * CHUNK)

    def make(self, run: memoryview) -> None:
        """Make the files of a run; see :func:`streamerge.engine.scan.files_of`. Raises SinkError."""
        self._make(run, write_all)

    def _make(self, run: memoryview, write_body: Callable[[int, memoryview], None]) -> None:
        path, here, parent = b"", None, -1
        try:
            for path, cut, header, body in files_of(run):
                if path[:cut] != here:
                    here, parent = path[:cut], self._fds.get(path[: cut - 1] if cut else b"")
                if header[156] == SYMLINK:
                    self._make_symlink(path[cut:], parent, header)
                    continue
                fd, plan = self._create(path[cut:], parent, header)
                try:
                    write_body(fd, body)
                    self._complete(fd, plan, header)
                finally:
                    os.close(fd)
        except OSError as error:
            raise failed(error).at(path=path) from error
        except SinkError as error:
            raise error.at(path=path) from error.__cause__

    def fetch(self, file: int, places: Sequence[int], _to: int = 0) -> None:
        """Make what lies in a file at (position, size, …): runs, or a large file with its header alone.

        The headers were looked at before, elsewhere; should they have changed since then, that is an error.
        """
        room = memoryview(self._room)
        try:
            for position, size in zip(places[::2], places[1::2], strict=True):
                if size <= len(room):
                    read_place(file, position, room[:size])
                    self.make(room[:size])
                else:
                    read_place(file, position, room[:BLOCK])
                    self._make(room[:BLOCK], self._copier(file, position + BLOCK, size - BLOCK))
        except (ValueError, IndexError):  # a number that is none, a header that is cut short
            raise changed() from None

    def directory_mode(self, header: bytes) -> int:
        """What to make a directory with: its own mode, unless that must be set later, or we could not work in it."""
        plan = self._plan(header)
        return plan.create if plan.mode is None and plan.create & PRIVATE == PRIVATE else PRIVATE

    def complete_directory(self, fd: int, header: bytes) -> None:
        """Give a directory, into which nothing more goes, what its header says. Raises OSError, SinkError."""
        plan = self._plan(header)
        self._complete(fd, plan if plan.mode is not None else plan._replace(mode=plan.create), header)

    def _copier(self, file: int, position: int, size: int) -> Callable[[int, memoryview], None]:
        """How a large body is written that has not been read."""
        return lambda fd, _: copy_range(file, position, size, fd, 0)

    def _create(self, name: bytes, parent: int, header: bytes) -> tuple[int, CreatePlan]:
        plan = self._plan(header)
        return os.open(name, CREATE, plan.create, dir_fd=parent), plan

    def _complete(self, fd: int, plan: CreatePlan, header: bytes) -> None:
        if plan.owner is not None:
            self._attributes.own(fd, plan.owner)
        if plan.mode is not None:
            os.fchmod(fd, plan.mode)
        os.utime(fd, ns=_times(header))

    def _make_symlink(self, name: bytes, parent: int, header: bytes) -> None:
        os.symlink(header[157:257].partition(b"\0")[0], name, dir_fd=parent)
        self.complete_named(name, parent, header)

    def complete_named(self, name: bytes, parent: int, header: bytes) -> None:
        """Give a symlink, or a directory that was made with its mode, the rest of what its header says."""
        plan = self._plan(header)
        if plan.owner is not None:
            self._attributes.own(name, plan.owner, parent=parent)
        os.utime(name, ns=_times(header), dir_fd=parent, follow_symlinks=False)

    def _plan(self, header: bytes) -> CreatePlan:
        """What mode and owner ask for: those of most files are among a few, so it is worked out once for each."""
        key = header[100:124]
        plan = self._plans.get(key)
        return plan if plan is not None else self._new_plan(key)

    def _new_plan(self, key: bytes) -> CreatePlan:
        mode, uid, gid = parse_number(key[:8]) & 0o7777, parse_number(key[8:16]), parse_number(key[16:])
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        plan = self._plans[key] = self._attributes.plan(mode, uid, gid)
        return plan


def failed(error: OSError) -> SinkError:
    """In our words, what the system says of a file that was to be made."""
    return SinkError(f"cannot write it: {error.strerror or error}")


def _times(header: bytes) -> tuple[int, int]:
    """Access and modification, in nanoseconds. The field holds octal digits and blanks alone, as all in a run do."""
    digits = header[136:147]
    mtime = int(digits, 8) if digits.isdigit() else parse_number(header[136:148])
    return mtime * 1_000_000_000, mtime * 1_000_000_000
