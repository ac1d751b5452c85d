"""The scan: reads plain tar bytes and writes runs of adjacent kept entries.

Nearly every entry of a real layer is a plain file, symlink or directory whose parent is known. The scan decides on such
an entry with one lookup for its name, and one for its parent if the entry before had another. It creates no objects.
Adjacent kept entries, headers and bodies, are written as one piece of the decoded chunk. Everything else – hard links,
PAX records, whiteouts with odd names, unusual numbers, names that need cleaning, errors – goes to ``step``, the slow
path, which handles any entry (:mod:`streamerge.engine.onepass`). ``step`` alone gives the same output as both together;
the tests compare them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from streamerge.observe import Counts
from streamerge.options import Whiteouts
from streamerge.rules.placing import Decision, LayerView, fingerprint
from streamerge.rules.trie import SEALED, Child
from streamerge.tar.buffer import WriteRun
from streamerge.tar.header import BLOCK, adler32, expected_sums
from streamerge.tar.reader import TarReader

__all__ = ["ScanHooks", "scan"]

_FILE, _SYMLINK, _DIRECTORY = b"025"
_FILE_OR_DIRECTORY = b"05"
_FIELDS = struct.Struct("100s24s11sB12s8sBB187xB166x").unpack
"""Name, mode and owners, size and its terminator, mtime, checksum, type, first bytes of link name and prefix."""

_DOT = b"."[0]
_BLANKS = b" \0"
_ZEROS = b"0 \0"
_PLAIN_NUMBERS = b"01234567 \0"
_NO_NAMES = (b"", b".", b"..")
_NOWHERE = b"?"  # not in ``walked``, whose names end in a slash
_MAX_FIELDS = 4096


class ScanHooks:
    """What the scan calls.

    ============= ==================================================================================
    write_run     writes a run
    release       writes the directories that waited for the one just written
    step          reads and handles the next entry, of any kind; returns False at the layer's end
    keep_hidden   gets offset and bytes of hidden entries; None: they are skipped
    enter, add    ``enter_directory`` and ``add_directory`` of a
                  :class:`~streamerge.interfaces.TreeSink`: runs then hold whole files and symlinks
    ============= ==================================================================================
    """

    def __init__(
        self,
        write_run: WriteRun,
        release: Callable[[], None],
        step: Callable[[], bool],
        keep_hidden: Callable[[int, memoryview], None] | None = None,
        enter: Callable[[bytes], None] | None = None,
        add: Callable[[bytes, bytes], None] | None = None,
    ) -> None:
        self.write_run = write_run
        self.release = release
        self.step = step
        self.keep_hidden = keep_hidden
        self.enter = enter
        self.add = add


class _PlainNumbers(dict[bytes, bool]):
    """A cache: number fields -> whether they hold only octal digits and blanks. Most entries share a few values."""

    def __missing__(self, fields: bytes) -> bool:
        if len(self) >= _MAX_FIELDS:
            self.clear()
        plain = self[fields] = not fields.translate(None, _PLAIN_NUMBERS)
        return plain


def scan(reader: TarReader, view: LayerView, hooks: ScanHooks, counts: Counts) -> None:
    """Merge one layer by runs. Cost: one to two microseconds an entry.

    In the inner loop, ``break`` leaves an entry to the slow path.
    """
    sums, plain, fields = expected_sums, _PlainNumbers(), _FIELDS
    step, keep_hidden, enter, add = hooks.step, hooks.keep_hidden, hooks.enter, hooks.add
    flush = reader.run_writer(hooks.write_run)
    needs_whole_files = enter is not None and reader.extent is None
    walked, shown = view.walked, view.leaf_written
    by_name = view.tree.whiteouts is not Whiteouts.OVERLAY
    any_order = view.tree.any_order
    newer = (view.index + 1) << 2  # leaves of newer layers are at least this
    here = _NOWHERE  # the directory of the last entry, as in ``walked``, if new entries in it are written at once
    children: dict[bytes, Child] = {}  # the entries in it
    buf, pos, end = reader.buf, reader.pos, len(reader.buf)
    run = stop = pos  # buf[run:stop] is kept and not yet written
    written = hidden = hidden_bytes = 0  # not yet added to ``counts``
    same_owner = same_mtime = b""  # the number fields of the last entry, known to be plain

    while True:
        while end - pos >= BLOCK:
            body = pos + BLOCK
            header = buf[pos:body]
            name, owner, digits, blank, mtime, stored, flag, target, prefix = fields(header)
            if flag not in _FILE_OR_DIRECTORY and (flag != _SYMLINK or not target):
                break
            if sums[stored] != adler32(header) & 0xFFFF:
                break
            if owner != same_owner:
                if not plain[owner]:
                    break
                same_owner = owner
            if mtime != same_mtime:
                if not plain[mtime]:
                    break
                same_mtime = mtime
            name = name.partition(b"\0")[0]
            if prefix and header[257:263] == b"ustar\0":
                name = header[345:500].partition(b"\0")[0] + b"/" + name
            if flag == _DIRECTORY and name[-1:] == b"/":
                name = name[:-1]
            cut = name.rfind(b"/") + 1
            base = name[cut:]
            if not base or blank not in _BLANKS or not digits.isdigit():
                break
            if name[:cut] != here:
                node = walked.get(name[:cut])
                here = _NOWHERE
                if node is not None and node is not SEALED and (node.written or any_order):
                    here, children = name[:cut], node.children
                    if enter is not None:
                        enter(here)
            if base[0] == _DOT and (base[:4] == b".wh." or base in _NO_NAMES):
                if not by_name or flag != _FILE or digits.strip(_ZEROS) or name[:cut] not in walked:
                    break
                if base[4:5] in _NO_NAMES:  # a whiteout without a name, or one of AUFS's own files
                    break
                view.white_out(name[:cut], base[4:])
                pos = body
                continue
            try:
                size = int(digits, 8)
            except ValueError:
                break
            if size and flag != _FILE:
                break
            if flag == _DIRECTORY:
                if here is _NOWHERE and walked.get(name[:cut]) is not SEALED:
                    break
                if view.decide_directory(name, fingerprint(header), reader.base + pos) is Decision.KEEP:
                    written += 1
                    if add is not None:
                        flush(run, stop)
                        run = stop = body
                        add(name, header)
                    else:
                        if pos != stop:
                            flush(run, stop)
                            run = pos
                        stop = body
                    if view.tree.has_released:
                        flush(run, stop)
                        run = stop
                        hooks.release()
                pos = body
                continue
            if here is not _NOWHERE and base not in children:
                if needs_whole_files and size > end - body:
                    break
                children[base] = shown
                written += 1
                if pos != stop:
                    flush(run, stop)
                    run = pos
                stop = body + (size + 511 & -512)
                if stop > end:
                    _keep_long(reader, hooks, run, pos, size)
                    buf, stop, end = reader.buf, reader.pos, len(reader.buf)
                    run = stop
                pos = stop
                continue
            node = walked.get(name[:cut])
            if node is None:
                break
            if node is not SEALED and (type(old := node.children.get(base)) is not int or old < newer):
                break
            if name + b"/" in walked or (keep_hidden is not None and size > end - body - BLOCK):
                break
            view.hidden[name] = reader.base + pos
            view.hidden_links.pop(name, None)
            hidden += 1
            hidden_bytes += size
            start, pos = pos, body + (size + 511 & -512)
            if keep_hidden is not None:
                keep_hidden(reader.base + start, memoryview(buf)[start:pos])
            if pos > end:
                flush(run, stop)
                reader.pos = end
                reader.skip(pos - end, -size & 511)
                buf, pos, end = reader.buf, reader.pos, len(reader.buf)
                run = stop = pos
        else:
            flush(run, stop)
            reader.pos = pos
            reader.have(BLOCK)
            counts.add(written, hidden, hidden_bytes)
            written = hidden = hidden_bytes = 0
            buf, pos, end = reader.buf, reader.pos, len(reader.buf)
            run = stop = pos
            if end - pos >= BLOCK:
                continue
        flush(run, stop)
        reader.pos = pos
        here = _NOWHERE
        counts.add(written, hidden, hidden_bytes)
        written = hidden = hidden_bytes = 0
        if not step():
            return
        if reader.global_records:  # after PAX globals no entry is written unchanged
            while step():
                pass
            return
        reader.end_body()  # of a hidden entry, whose body was not read
        buf, pos, end = reader.buf, reader.pos, len(reader.buf)
        run = stop = pos


def _keep_long(reader: TarReader, hooks: ScanHooks, run: int, pos: int, size: int) -> None:
    """Write the kept run that starts at ``run`` and ends with a file at ``pos``, which goes beyond the buffer."""
    end, padding = len(reader.buf), -size & 511
    missing = pos + BLOCK + size + padding - end
    reader.pos = end
    if hooks.enter is None:
        hooks.write_run(reader.run(run, end))
        reader.pass_on(missing, padding, hooks.write_run)
    elif missing > padding:
        if run < pos:
            hooks.write_run(reader.run(run, pos))
        offset = reader.base + pos
        reader.skip(missing, padding)
        hooks.write_run(reader.unread_run(offset, BLOCK + size))
    else:  # only padding is missing, which no sink needs
        hooks.write_run(reader.run(run, end))
        reader.skip(missing, padding)
