"""The dense loop: plain tar bytes in, runs of adjacent kept entries out, or plain files one by one.

Nearly every entry of a real layer is a plain file, symlink or directory whose parent has been seen, and either
shows or does not. This loop decides that case with one lookup for the parent and one for the name, and makes no
object. To a tar it writes adjacent kept entries, headers and bodies together, as one piece of the decoded
chunk; to a sink of files (``put``) it gives each file whose body is in the chunk as name, header and body. All
else – hard links, PAX, whiteouts, odd numbers, names that need cleaning, errors – goes to ``step``, which handles
one entry the plain way (:class:`streamerge.attempt.Attempt`). ``step`` alone must give the same output as the two
together, and the tests hold them to it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

from streamerge.merge import LayerView, Verdict, fingerprint
from streamerge.tarheader import BLOCK, ExpectedSums
from streamerge.tarreader import TarReader
from streamerge.trie import SEALED

__all__ = ["Tally", "scan"]

_FILE, _SYMLINK, _DIRECTORY = b"025"
_PLAIN_NUMBERS = b"01234567 \0"
_NO_NAMES = (b"", b".", b"..")


@dataclass(slots=True)
class Tally:
    """What a merge has counted so far."""

    written: int = 0
    written_bytes: int = 0
    hidden: int = 0
    hidden_bytes: int = 0


def scan(
    reader: TarReader,
    view: LayerView,
    write: Callable[[bytes | memoryview], None],
    step: Callable[[], bool],
    tally: Tally,
    *,
    release: Callable[[], None],
    put: Callable[[bytes, int, bytes, memoryview], None] | None,
    keep_hidden: Callable[[int, memoryview], None] | None,
) -> None:
    """Merge one layer into a tar. ``keep_hidden`` gets offset and bytes of hidden entries; None: they are skipped.

    ``release`` writes the directories that waited for one that has just been written.
    With ``put`` nothing is written; it gets (path, where its base name begins, header, body).
    ``step`` takes the next entry off ``reader``, whatever it is; it returns False at the layer's end.
    """
    adler32, sums = zlib.adler32, ExpectedSums()
    walked, hidden = view.walked, view.hidden
    shown = view.leaf_written
    any_order = view.merge.any_order
    newer = (view.index + 1) << 2  # leaves from here on belong to newer layers
    buf, pos, end = reader.buf, reader.pos, len(reader.buf)
    run = pos  # buf[run:pos] is kept and not yet written
    while True:
        body = pos + BLOCK
        if body <= end:
            header = buf[pos:body]
            flag = header[156]
            if (
                (flag == _FILE or (put is None and (flag == _DIRECTORY or (flag == _SYMLINK and header[157]))))
                and sums[header[148:156]] == adler32(header) & 0xFFFF
                and not header[100:148].translate(None, _PLAIN_NUMBERS)
            ):
                stop = header.find(0)
                name = header[:stop] if stop < 100 else header[:100]
                if header[345] and header[257:263] == b"ustar\0":
                    name = header[345:500].partition(b"\0")[0] + b"/" + name
                if flag == _DIRECTORY and name[-1:] == b"/":
                    name = name[:-1]
                cut = name.rfind(b"/") + 1
                node = walked.get(name[:cut])
                base = name[cut:]
                if node is not None and base not in _NO_NAMES and base[:4] != b".wh.":
                    try:
                        size = int(header[124:136].rstrip(b" \0"), 8)
                    except ValueError:
                        size = -1  # step knows the other ways to write a number, and the errors
                    old = node.children.get(base)
                    if size < 0 or (size and flag != _FILE):
                        pass
                    elif flag == _DIRECTORY:
                        if node.written:
                            verdict = view.place_directory(name, fingerprint(header), reader.base + pos)
                            if verdict is Verdict.KEEP:
                                tally.written += 1
                                pos = body
                                if not view.merge.has_released:
                                    continue
                                write(memoryview(buf)[run:pos])
                                release()
                            else:
                                if run < pos:
                                    write(memoryview(buf)[run:pos])
                                pos = body
                            run = pos
                            continue
                    elif put is not None and old is None and (node.written or (any_order and node is not SEALED)):
                        if size <= end - body:
                            node.children[base] = shown
                            tally.written += 1
                            put(name, cut, header, memoryview(buf)[body : body + size])
                            pos = body + (size + 511 & -512)
                            if pos > end:  # only of the padding
                                reader.pos = end
                                reader.skip(pos - end, -size & 511)
                                buf, pos, end = reader.buf, reader.pos, len(reader.buf)
                            run = pos
                            continue
                    elif old is None and node.written:
                        node.children[base] = shown
                        tally.written += 1
                        pos = body + (size + 511 & -512)
                        if pos > end:
                            write(memoryview(buf)[run:])
                            reader.pos = end
                            reader.pass_on(pos - end, -size & 511, write)
                            buf, pos, end = reader.buf, reader.pos, len(reader.buf)
                            run = pos
                        continue
                    elif (
                        (node is SEALED or (type(old) is int and old >= newer))
                        and (keep_hidden is None or size <= end - body - BLOCK)
                        and name + b"/" not in walked
                    ):
                        hidden[name] = reader.base + pos
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
        if not step():
            return
        if reader.global_records:  # from here on no entry is written as it came
            while step():
                pass
            return
        buf, pos, end = reader.buf, reader.pos, len(reader.buf)
        run = pos
