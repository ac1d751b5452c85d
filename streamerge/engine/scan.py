"""The dense loop: plain tar bytes in, runs of adjacent kept entries out.

Nearly every entry of a real layer is a plain file, symlink or directory whose parent has been seen, and either
shows or does not. This loop decides that case with one lookup for the name, and one for the parent where it is not
that of the entry before, and makes no object. Adjacent kept entries, headers and bodies together, are written as
one piece of the decoded chunk. All else – hard links, PAX, whiteouts, odd numbers, names that need cleaning,
errors – goes to ``step``, which handles one entry the plain way (:class:`streamerge.engine.onepass.OnePass`). ``step``
alone must give the same output as the two together, and the tests hold them to it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from streamerge.entry import Entry
from streamerge.rules.placing import Decision, LayerView, fingerprint
from streamerge.rules.trie import SEALED, Child
from streamerge.rules.whiteout import Whiteouts
from streamerge.tar.header import BLOCK, adler32, expected_sums, parse_entry
from streamerge.tar.reader import TarReader, Write

__all__ = ["SYMLINK", "Counts", "FileByFile", "ScanHooks", "files_of", "scan"]

_FILE, SYMLINK, _DIRECTORY = b"025"
_FILE_OR_DIRECTORY = b"05"
_FIELDS = struct.Struct("100s24s11sB12s8sBB187xB166x").unpack
"""Name, mode and owners, size and the blank behind it, mtime, checksum, type, first bytes of link name and prefix."""

_DOT = b"."[0]
_BLANKS = b" \0"
_ZEROS = b"0 \0"
_PLAIN_NUMBERS = b"01234567 \0"
_NO_NAMES = (b"", b".", b"..")
_NOWHERE = b"?"  # no directory of ``walked``, whose names end in a slash
_MOST_FIELDS = 4096


@dataclass(slots=True)
class Counts:
    """What a merge has counted so far."""

    written: int = 0
    written_bytes: int = 0
    hidden: int = 0
    hidden_bytes: int = 0

    def add(self, written: int, hidden: int, hidden_bytes: int) -> None:
        """Count so many more."""
        self.written += written
        self.hidden += hidden
        self.hidden_bytes += hidden_bytes


class ScanHooks(NamedTuple):
    """What the loop asks of the merge around it.

    ``write`` takes a run and its offset; ``release`` writes the directories that waited for one that has just been
    written; ``step`` takes the next entry off the reader, whatever it is, and returns False at the layer's end.
    ``keep_hidden`` gets offset and bytes of hidden entries; None: they are skipped.

    With ``enter`` the runs are for a directory tree: they hold whole regular files and symlinks only, in directories
    that ``enter`` was given (``b"a/b/"``); ``add`` gets clean path and header of directories. The reader's ``fetch``,
    if there is one, gets offset and size, header included, of a file that is not in the buffer as a whole.
    """

    write: Write
    release: Callable[[], None]
    step: Callable[[], bool]
    keep_hidden: Callable[[int, memoryview], None] | None = None
    enter: Callable[[bytes], None] | None = None
    add: Callable[[bytes, bytes], None] | None = None


class _PlainNumbers(dict[bytes, bool]):
    """Number fields -> whether octal digits and blanks are all they hold. Most entries share theirs with others."""

    def __missing__(self, fields: bytes) -> bool:
        if len(self) >= _MOST_FIELDS:
            self.clear()
        plain = self[fields] = not fields.translate(None, _PLAIN_NUMBERS)
        return plain


def scan(reader: TarReader, view: LayerView, door: ScanHooks, counts: Counts) -> None:
    """Merge one layer by runs. Cost: one to two microseconds an entry."""
    sums, plain, fields = expected_sums, _PlainNumbers(), _FIELDS
    write, step, keep_hidden, enter, add = door.write, door.step, door.keep_hidden, door.enter, door.add
    to_tar, fetch = enter is None or add is None, reader.fetch
    walked, shown = view.walked, view.leaf_written
    by_name = view.tree.whiteouts is not Whiteouts.OVERLAY
    any_order = view.tree.any_order
    newer = (view.index + 1) << 2  # leaves from here on belong to newer layers
    here = _NOWHERE  # the directory of the entry before, as in ``walked``, if what is new in it is written at once
    children: dict[bytes, Child] = {}  # what is in it
    buf, pos, end = reader.buf, reader.pos, len(reader.buf)
    run = pos  # buf[run:pos] is kept and not yet written
    written = hidden = hidden_bytes = 0  # what ``counts`` has not been told
    same_owner = same_mtime = b""  # the number fields of the entry before, which are plain
    while True:
        if end - pos < BLOCK:
            if run < pos:
                write(memoryview(buf)[run:pos], reader.base + run)
            reader.pos = pos
            reader.have(BLOCK)
            counts.add(written, hidden, hidden_bytes)
            written = hidden = hidden_bytes = 0
            buf, pos, end = reader.buf, reader.pos, len(reader.buf)
            run = pos
        body = pos + BLOCK
        if body <= end:
            header = buf[pos:body]
            name, owner, digits, blank, mtime, stored, flag, target, prefix = fields(header)
            if (
                (flag in _FILE_OR_DIRECTORY or (flag == SYMLINK and target))
                and sums[stored] == adler32(header) & 0xFFFF
                and (owner == same_owner or plain[owner])
                and (mtime == same_mtime or plain[mtime])
            ):
                same_owner, same_mtime = owner, mtime
                name = name.partition(b"\0")[0]
                if prefix and header[257:263] == b"ustar\0":
                    name = header[345:500].partition(b"\0")[0] + b"/" + name
                if flag == _DIRECTORY and name[-1:] == b"/":
                    name = name[:-1]
                cut = name.rfind(b"/") + 1
                base = name[cut:]
                if name[:cut] != here:
                    node = walked.get(name[:cut])
                    here = _NOWHERE
                    if node is not None and node is not SEALED and (node.written or any_order):
                        here, children = name[:cut], node.children
                        if enter is not None:
                            enter(here)
                if base and base[0] == _DOT and (base[:4] == b".wh." or base in _NO_NAMES):
                    if (
                        by_name
                        and flag == _FILE
                        and base[4:5] not in _NO_NAMES  # nor what AUFS keeps its books by
                        and name[:cut] in walked
                        and not digits.strip(_ZEROS)
                        and blank in _BLANKS
                    ):
                        view.white_out(name[:cut], base[4:])
                        if run < pos:
                            write(memoryview(buf)[run:pos], reader.base + run)
                        run = pos = body
                        continue
                elif base:
                    try:
                        size = int(digits, 8) if digits.isdigit() and blank in _BLANKS else -1
                    except ValueError:
                        size = -1  # step knows the other ways to write a number, and the errors
                    if size < 0 or (size and flag != _FILE):
                        pass
                    elif flag == _DIRECTORY:
                        if here is not _NOWHERE or walked.get(name[:cut]) is SEALED:
                            kept = view.decide_directory(name, fingerprint(header), reader.base + pos) is Decision.KEEP
                            if not kept or not to_tar:
                                if run < pos:
                                    write(memoryview(buf)[run:pos], reader.base + run)
                                if kept and add is not None:
                                    written += 1
                                    add(name, header)
                                    if view.tree.has_released:
                                        door.release()
                                run = pos = body
                            else:
                                written += 1
                                pos = body
                                if view.tree.has_released:
                                    write(memoryview(buf)[run:pos], reader.base + run)
                                    door.release()
                                    run = pos
                            continue
                    elif here is not _NOWHERE and base not in children:
                        if to_tar or fetch is not None or size <= end - body:
                            children[base] = shown
                            written += 1
                            start, pos = pos, body + (size + 511 & -512)
                            if pos > end:
                                reader.pos = end
                                if to_tar:
                                    write(memoryview(buf)[run:], reader.base + run)
                                    reader.pass_on(pos - end, -size & 511, write)
                                elif fetch is not None and size > end - body:
                                    if run < start:
                                        write(memoryview(buf)[run:start], reader.base + run)
                                    offset = reader.base + start
                                    reader.skip(pos - end, -size & 511)
                                    fetch(offset, BLOCK + size)
                                else:  # all of it is here but for padding, which nobody needs
                                    write(memoryview(buf)[run:], reader.base + run)
                                    reader.skip(pos - end, -size & 511)
                                buf, pos, end = reader.buf, reader.pos, len(reader.buf)
                                run = pos
                            continue
                    elif (
                        (node := walked.get(name[:cut])) is not None
                        and (node is SEALED or (type(old := node.children.get(base)) is int and old >= newer))
                        and (keep_hidden is None or size <= end - body - BLOCK)
                        and name + b"/" not in walked
                    ):
                        view.hidden[name] = reader.base + pos
                        view.hidden_links.pop(name, None)
                        hidden += 1
                        hidden_bytes += size
                        if run < pos:
                            write(memoryview(buf)[run:pos], reader.base + run)
                        start, pos = pos, body + (size + 511 & -512)
                        if keep_hidden is not None:
                            keep_hidden(reader.base + start, memoryview(buf)[start:pos])
                        if pos > end:
                            reader.pos = end
                            reader.skip(pos - end, -size & 511)
                            buf, pos, end = reader.buf, reader.pos, len(reader.buf)
                        run = pos
                        continue
        if run < pos:
            write(memoryview(buf)[run:pos], reader.base + run)
        reader.pos = pos
        here = _NOWHERE
        counts.add(written, hidden, hidden_bytes)
        written = hidden = hidden_bytes = 0
        if not step():
            return
        if reader.global_records:  # from here on no entry is written as it came
            while step():
                pass
            return
        reader.end_body()  # of a hidden entry, which nobody has read
        buf, pos, end = reader.buf, reader.pos, len(reader.buf)
        run = pos


class FileByFile:
    """The part of a :class:`~streamerge.interfaces.FileSink` that is the same for all that take files one by one."""

    def enter(self, directory: bytes) -> None:
        """Nothing: the directory's own entry has come, or will come, by itself."""

    def write_files(self, run: bytes | memoryview, _offset: int = -1) -> None:
        """Give each file of a run to :meth:`put`, each symlink to ``add``."""
        put = self.put
        for path, cut, header, body in files_of(memoryview(run)):
            if header[156] == SYMLINK:
                self.add(parse_entry(header), ())
            else:
                put(path, cut, header, body)

    def add(self, entry: Entry, body: Iterable[bytes | memoryview]) -> None:
        """Add an entry; see :class:`~streamerge.interfaces.Sink`."""
        raise NotImplementedError

    def add_directory(self, _path: bytes, header: bytes) -> None:
        """Give it to ``add``."""
        self.add(parse_entry(header), ())

    def put(self, path: bytes, cut: int, header: bytes, body: memoryview) -> None:
        """Add a new plain file: its clean path, where the base name begins in it, its header, its whole body."""
        raise NotImplementedError


def files_of(run: memoryview) -> Iterator[tuple[bytes, int, bytes, memoryview]]:
    """Take apart a run of whole files and symlinks: yield (path, where its base name begins, header, body) of each.

    Nothing is checked again: whoever wrote the run has done it. Cost: half a microsecond a file.
    """
    pos, end = 0, len(run)
    while pos < end:
        body = pos + BLOCK
        header = bytes(run[pos:body])
        stop = header.find(0)
        name = header[:stop] if stop < 100 else header[:100]
        if header[345] and header[257:263] == b"ustar\0":
            name = header[345:500].partition(b"\0")[0] + b"/" + name
        size = int(header[124:135], 8)
        yield name, name.rfind(b"/") + 1, header, run[body : body + size]
        pos = body + (size + 511 & -512)
