"""The dense loop: plain tar bytes in, runs of adjacent kept entries out.

Nearly every entry of a real layer is a plain file, symlink or directory whose parent has been seen, and either
shows or does not. This loop decides that case with one lookup for the name, and one for the parent where it is not
that of the entry before, and makes no object. Adjacent kept entries, headers and bodies together, are written as
one piece of the decoded chunk. All else – hard links, PAX, whiteouts, odd numbers, names that need cleaning,
errors – goes to ``step``, which handles one entry the plain way (:class:`streamerge.attempt.Attempt`). ``step``
alone must give the same output as the two together, and the tests hold them to it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from streamerge.merge import LayerView, Verdict, fingerprint
from streamerge.tarheader import BLOCK, expected_sums
from streamerge.tarreader import TarReader
from streamerge.trie import SEALED, Child

__all__ = ["Door", "FileByFile", "Tally", "files_of", "scan"]

_FILE, _SYMLINK, _DIRECTORY = b"025"
_FILE_OR_DIRECTORY = (_FILE, _DIRECTORY)
_DOT = b"."[0]
_BLANKS = b" \0"
_PLAIN_NUMBERS = b"01234567 \0"
_NO_NAMES = (b"", b".", b"..")
_NOWHERE = b"?"  # no directory of ``walked``, whose names end in a slash
_MOST_FIELDS = 4096


@dataclass(slots=True)
class Tally:
    """What a merge has counted so far."""

    written: int = 0
    written_bytes: int = 0
    hidden: int = 0
    hidden_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Door:
    """What the loop asks of the merge around it.

    ``write`` takes a run; ``release`` writes the directories that waited for one that has just been written;
    ``step`` takes the next entry off the reader, whatever it is, and returns False at the layer's end.
    ``keep_hidden`` gets offset and bytes of hidden entries; None: they are skipped.

    With ``enter`` the runs are for a directory tree: they hold whole regular files only, in directories that
    ``enter`` was given (``b"a/b/"``); ``add`` gets header and offset of directories and symlinks.
    """

    write: Callable[[bytes | memoryview], None]
    release: Callable[[], None]
    step: Callable[[], bool]
    keep_hidden: Callable[[int, memoryview], None] | None = None
    enter: Callable[[bytes], None] | None = None
    add: Callable[[bytes, int], None] | None = None


class _PlainNumbers(dict[bytes, bool]):
    """Number fields -> whether octal digits and blanks are all they hold. Most entries share theirs with others."""

    def __missing__(self, fields: bytes) -> bool:
        if len(self) >= _MOST_FIELDS:
            self.clear()
        plain = self[fields] = not fields.translate(None, _PLAIN_NUMBERS)
        return plain


def scan(reader: TarReader, view: LayerView, door: Door, tally: Tally) -> None:
    """Merge one layer by runs. Cost: one to two microseconds an entry."""
    adler32, sums, plain = zlib.adler32, expected_sums, _PlainNumbers()
    write, step, keep_hidden, enter, add = door.write, door.step, door.keep_hidden, door.enter, door.add
    to_tar = enter is None or add is None
    walked, shown = view.walked, view.leaf_written
    any_order = view.merge.any_order
    newer = (view.index + 1) << 2  # leaves from here on belong to newer layers
    here = _NOWHERE  # the directory of the entry before, as in ``walked``, if what is new in it is written at once
    children: dict[bytes, Child] = {}  # what is in it
    buf, pos, end = reader.buf, reader.pos, len(reader.buf)
    run = pos  # buf[run:pos] is kept and not yet written
    while True:
        body = pos + BLOCK
        if body <= end:
            header = buf[pos:body]
            flag = header[156]
            if (
                (flag in _FILE_OR_DIRECTORY or (flag == _SYMLINK and header[157]))
                and sums[header[148:156]] == adler32(header) & 0xFFFF
                and plain[header[100:124]]
                and plain[header[136:148]]
            ):
                stop = header.find(0)
                name = header[:stop] if stop < 100 else header[:100]
                if header[345] and header[257:263] == b"ustar\0":
                    name = header[345:500].partition(b"\0")[0] + b"/" + name
                if flag == _DIRECTORY and name[-1:] == b"/":
                    name = name[:-1]
                cut = name.rfind(b"/") + 1
                base = name[cut:]
                if base and (base[0] != _DOT or (base not in _NO_NAMES and base[:4] != b".wh.")):
                    digits = header[124:135]
                    try:
                        size = int(digits, 8) if digits.isdigit() and header[135] in _BLANKS else -1
                    except ValueError:
                        size = -1  # step knows the other ways to write a number, and the errors
                    if name[:cut] != here:
                        node = walked.get(name[:cut])
                        here = _NOWHERE
                        if node is not None and node is not SEALED and (node.written or any_order):
                            here, children = name[:cut], node.children
                            if enter is not None:
                                enter(here)
                    if size < 0 or (size and flag != _FILE):
                        pass
                    elif flag == _DIRECTORY:
                        if here is not _NOWHERE:
                            kept = view.place_directory(name, fingerprint(header), reader.base + pos) is Verdict.KEEP
                            if not kept or not to_tar:
                                if run < pos:
                                    write(memoryview(buf)[run:pos])
                                if kept and add is not None:
                                    add(header, reader.base + pos)
                                run = pos = body
                            else:
                                tally.written += 1
                                pos = body
                                if view.merge.has_released:
                                    write(memoryview(buf)[run:pos])
                                    door.release()
                                    run = pos
                            continue
                    elif here is not _NOWHERE and base not in children:
                        if add is not None and flag == _SYMLINK:
                            children[base] = shown
                            if run < pos:
                                write(memoryview(buf)[run:pos])
                            add(header, reader.base + pos)
                            run = pos = body
                            continue
                        if to_tar or size <= end - body:
                            children[base] = shown
                            tally.written += 1
                            pos = body + (size + 511 & -512)
                            if pos > end:
                                write(memoryview(buf)[run:])
                                reader.pos = end
                                if to_tar:
                                    reader.pass_on(pos - end, -size & 511, write)
                                else:  # only of the padding, which nobody needs
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
                        tally.hidden += 1
                        tally.hidden_bytes += size
                        if run < pos:
                            write(memoryview(buf)[run:pos])
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
            write(memoryview(buf)[run:pos])
        reader.pos = pos
        here = _NOWHERE
        if not step():
            return
        if reader.global_records:  # from here on no entry is written as it came
            while step():
                pass
            return
        reader.end_body()  # of a hidden entry, which nobody has read
        reader.have(BLOCK)
        buf, pos, end = reader.buf, reader.pos, len(reader.buf)
        run = pos


class FileByFile:
    """The part of a :class:`~streamerge.interfaces.FileSink` that is the same for all that take files one by one."""

    def enter(self, directory: bytes) -> None:
        """Nothing: the directory's own entry has come, or will come, by itself."""

    def write_files(self, run: bytes | memoryview) -> None:
        """Give each file of a run to :meth:`put`."""
        put = self.put
        for path, cut, header, body in files_of(memoryview(run)):
            put(path, cut, header, body)

    def put(self, path: bytes, cut: int, header: bytes, body: memoryview) -> None:
        """Add a new plain file: its clean path, where the base name begins in it, its header, its whole body."""
        raise NotImplementedError


def files_of(run: memoryview) -> Iterator[tuple[bytes, int, bytes, memoryview]]:
    """Take apart a run of whole files: yield (path, where its base name begins, header, body) of each.

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
