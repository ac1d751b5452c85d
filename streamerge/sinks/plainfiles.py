"""Plain files and symlinks made straight from their headers, with the fewest system calls that they can have.

It is the directory sink's work on many files at once, by whatever process it is done.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from streamerge.errors import SinkError
from streamerge.hotpath import SYMLINK, files_of
from streamerge.sinks.attributes import Attributes, Plan
from streamerge.sinks.dirfds import DirectoryFds
from streamerge.sinks.output import changed, copy_range, read_place, write_all
from streamerge.streams import CHUNK
from streamerge.tarheader import BLOCK, parse_number

__all__ = ["CREATE", "PlainFiles", "failed"]

CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
_MOST_PLANS = 4096


class PlainFiles:
    """Makes files in directories that are there. ``base`` is what ``attributes`` had to refuse before."""

    def __init__(self, attributes: Attributes, fds: DirectoryFds) -> None:
        self._attributes = attributes
        self._fds = fds
        self._plans: dict[bytes, Plan] = {}
        self._refused_before = attributes.refused.copy()
        self._room = bytearray(2 * CHUNK)

    def make(self, run: memoryview) -> None:
        """Make the files of a run; see :func:`streamerge.hotpath.files_of`. Raises SinkError."""
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
                    if body:
                        write_all(fd, body)
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
                    self._make_large(file, position, size)
        except (ValueError, IndexError):  # a number that is none, a header that is cut short
            raise changed() from None

    def complete_directory(self, fd: int, header: bytes) -> None:
        """Give a directory, into which nothing more goes, what its header says. Raises OSError, SinkError."""
        plan = self._plan(header)
        if plan.owner is not None:
            self._attributes.own(fd, plan.owner)
        os.fchmod(fd, plan.create if plan.mode is None else plan.mode)
        _set_time(fd, header)

    def report(self) -> Counter[str]:
        """What the system refused since this was made."""
        return self._attributes.refused - self._refused_before

    def _make_large(self, file: int, position: int, size: int) -> None:
        head = memoryview(bytearray(BLOCK))
        read_place(file, position, head)
        ((path, cut, header, _),) = files_of(head)
        try:
            fd, plan = self._create(path[cut:], self._fds.get(path[: cut - 1] if cut else b""), header)
            try:
                copy_range(file, position + BLOCK, size - BLOCK, fd, 0)
                self._complete(fd, plan, header)
            finally:
                os.close(fd)
        except OSError as error:
            raise failed(error).at(path=path) from error
        except SinkError as error:
            raise error.at(path=path) from error.__cause__

    def _create(self, name: bytes, parent: int, header: bytes) -> tuple[int, Plan]:
        plan = self._plan(header)
        return os.open(name, CREATE, plan.create, dir_fd=parent), plan

    def _complete(self, fd: int, plan: Plan, header: bytes) -> None:
        if plan.owner is not None:
            self._attributes.own(fd, plan.owner)
        if plan.mode is not None:
            os.fchmod(fd, plan.mode)
        _set_time(fd, header)

    def _make_symlink(self, name: bytes, parent: int, header: bytes) -> None:
        os.symlink(header[157:257].partition(b"\0")[0], name, dir_fd=parent)
        plan = self._plan(header)
        if plan.owner is not None:
            self._attributes.own(name, plan.owner, parent=parent)
        mtime = _plain_number(header[136:148]) * 1_000_000_000
        os.utime(name, ns=(mtime, mtime), dir_fd=parent, follow_symlinks=False)

    def _plan(self, header: bytes) -> Plan:
        """What mode and owner ask for: those of most files are among a few, so it is worked out once for each."""
        key = header[100:124]
        plan = self._plans.get(key)
        return plan if plan is not None else self._new_plan(key)

    def _new_plan(self, key: bytes) -> Plan:
        mode, uid, gid = parse_number(key[:8]) & 0o7777, parse_number(key[8:16]), parse_number(key[16:])
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        plan = self._plans[key] = self._attributes.plan(mode, uid, gid)
        return plan


def failed(error: OSError) -> SinkError:
    """In our words, what the system says of a file that was to be made."""
    return SinkError(f"cannot write it: {error.strerror or error}")


def _set_time(fd: int, header: bytes) -> None:
    mtime = _plain_number(header[136:148]) * 1_000_000_000
    os.utime(fd, ns=(mtime, mtime))


def _plain_number(field: bytes) -> int:
    """A number field that holds octal digits and blanks alone, as all in a run do."""
    digits = field[:-1]
    return int(digits, 8) if digits.isdigit() else parse_number(field)
