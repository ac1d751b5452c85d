"""The one loop that pulls bytes: a stream of chunks -> entries and their bodies.

The scan (:mod:`streamerge.engine.scan`) reads plain entries directly from the buffer (``buf``, ``pos``, ``base``);
both keep ``base + pos`` as the offset in the layer's decoded stream.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator

from streamerge.entry import Entry
from streamerge.errors import FormatError, LayerError
from streamerge.fileio import Extent
from streamerge.interfaces import Run, Stream
from streamerge.tar.fields import BLOCK, SIZE, SPARSE_MORE, TYPE, TYPE_AT
from streamerge.tar.header import (
    MAX_EXTENSION,
    MAX_GLOBALS,
    ZERO_BLOCK,
    Extras,
    has_valid_sum,
    padded,
    parse_entry,
    parse_number,
    parse_records,
)

__all__ = ["Globals", "TarReader", "WriteRun"]

Globals = list[tuple[int, dict[bytes, bytes]]]
"""PAX globals of a layer: from each offset on, the records in force."""

WriteRun = Callable[[Run], None]
"""Takes the next piece of tar."""

_new = tuple.__new__  # makes a named tuple in half the time
_EVERYTHING = 1 << 62
_WORTH_FETCHING = 1 << 17
"""Bytes from which on a sink may fetch a body from the layer's file itself."""


class TarReader:
    """Reads entries from a stream that stands at the start of a header.

    ``offset`` is where in the layer the stream begins; ``global_records`` holds the PAX globals read before. With
    ``extents``, runs say where they lie in the layer's file, if it is in one.
    Memory: one chunk, and at most MAX_EXTENSION bytes for each extension header of one entry.
    """

    def __init__(
        self, stream: Stream, *, offset: int = 0, global_records: Globals | None = None, extents: bool = False
    ) -> None:
        self.stream = stream
        self.buf = b""
        self.pos = 0
        self.base = offset
        self.global_records: Globals = global_records if global_records is not None else []
        self._noted = self.global_records[-1][0] if self.global_records else None
        self._body = 0
        self._left = 0
        self.extent = stream.extent if extents else None

    @property
    def offset(self) -> int:
        """The next byte's offset in the layer's decoded stream."""
        return self.base + self.pos

    def next_entry(self) -> Entry | None:
        """Return the next entry, passing over what is left of the last one's body; None at the end.

        Raises FormatError for what is no tar, LayerError for a tar that ends too early.
        """
        self.end_body()
        start = self.offset
        header = self._header()
        extras = None
        if header is not None and (self.global_records or header[TYPE_AT] in b"xgLK"):
            header, extras, start = self._extras(header, start)
        if header is None:
            return None
        if header[TYPE_AT] == 83:  # 'S'
            header += self._sparse_blocks(header)
        entry = parse_entry(header, extras, offset=start)
        self._body = entry.size
        self._left = padded(entry.size)
        return entry

    def _extras(self, header: bytes | None, start: int) -> tuple[bytes | None, Extras, int]:
        """Read what stands before an entry's own header; return that header, the extras, and their offset."""
        extras = Extras()
        while header is not None and header[TYPE_AT] in b"xgLK":
            self._extend(extras, header, start)
            if not extras.raw:
                start = self.offset  # globals belong to no entry
            header = self._header()
        if header is None and extras.raw:
            raise FormatError("the tar ends where an entry should follow its extension").at(offset=start)
        extras.globals = self._globals_at(self.offset - BLOCK)
        return header, extras, start

    def body(self) -> Iterator[memoryview]:
        """Yield what is left of the current entry's body, chunk by chunk, without its padding."""
        while self._left:
            if self.pos >= len(self.buf) and not self._refill():
                self._end_in(self._body)
                self._left = 0
                return
            take = min(self._left, len(self.buf) - self.pos)
            piece = memoryview(self.buf)[self.pos : self.pos + min(take, self._body)]
            self.pos += take
            self._left -= take
            self._body -= len(piece)
            if piece:
                yield piece

    def end_body(self) -> None:
        """Skip what is left of the current entry's body."""
        if self._left:
            left, padding = self._left, self._left - self._body
            self._left = self._body = 0
            self.skip(left, padding)

    def have(self, size: int) -> bool:
        """Make ``size`` bytes of the stream stand in the buffer; False where it ends before."""
        while len(self.buf) - self.pos < size:
            if not self._refill():
                return False
        return True

    def skip(self, size: int, padding: int = 0) -> None:
        """Pass over ``size`` bytes, by seeking where the stream can; the last ``padding`` may be missing.

        Raises LayerError where the stream ends before.
        """
        have = len(self.buf) - self.pos
        if size <= have:
            self.pos += size
            return
        self.base += len(self.buf)
        self.buf, self.pos = b"", 0
        passed = self.stream.skip(size - have)
        self.base += passed
        self._end_in(size - have - passed - padding)

    def run(self, start: int, stop: int) -> Run:
        """Return ``buf[start:stop]`` as a run."""
        data = memoryview(self.buf)[start:stop]
        if self.extent is None:
            return _new(Run, (data, None))
        file, position, _ = self.extent
        return _new(Run, (data, _new(Extent, (file, position + self.base + start, stop - start))))

    def run_writer(self, write_run: WriteRun) -> Callable[[int, int], None]:
        """Return a function that writes ``buf[start:stop]`` as a run, unless it is empty.

        It does what :meth:`run` does in one call less: a fragmented layer has a run for every third entry.
        """
        if self.extent is None:
            file, position = None, 0
        else:
            file, position, _ = self.extent

        def write(start: int, stop: int) -> None:
            if start < stop:
                extent = _new(Extent, (file, position + self.base + start, stop - start)) if file is not None else None
                write_run(_new(Run, (memoryview(self.buf)[start:stop], extent)))

        return write

    def unread_run(self, offset: int, size: int) -> Run:
        """Return ``size`` bytes of the layer, from ``offset`` on, as a run that is not read here."""
        assert self.extent is not None
        return Run(None, self.extent.part(offset, size))

    def pass_on(self, size: int, padding: int, write_run: WriteRun) -> None:
        """Give the next ``size`` bytes to ``write_run`` in pieces; the last ``padding`` may be missing."""
        if size >= _WORTH_FETCHING and self.extent is not None:
            start = self.offset
            self.skip(size, padding)
            passed = self.offset - start
            write_run(self.unread_run(start, passed))
            if passed < size:
                write_run(Run(bytes(size - passed)))
            return
        while size:
            if not self.have(1):
                self._end_in(size - padding)
                write_run(Run(bytes(size)))
                return
            end = min(self.pos + size, len(self.buf))
            write_run(self.run(self.pos, end))
            size -= end - self.pos
            self.pos = end

    def pass_body_on(self, write_run: WriteRun) -> None:
        """Give the rest of the current entry's body to ``write_run``, with its padding as it is."""
        left, padding = self._left, self._left - self._body
        self._left = self._body = 0
        self.pass_on(left, padding, write_run)

    def seek(self, offset: int) -> None:
        """Go forward to the header at ``offset``."""
        self._body = self._left = 0
        self.skip(offset - self.offset)

    def drain(self) -> None:
        """Read the stream to its end, so that whatever verifies the bytes on the way has seen all of them."""
        self.base += len(self.buf)
        self.buf, self.pos = b"", 0
        self.base += self.stream.skip(_EVERYTHING)

    def _refill(self) -> bool:
        chunk = self.stream.read()
        self.base += self.pos
        self.buf = self.buf[self.pos :] + chunk if self.pos < len(self.buf) else chunk
        self.pos = 0
        return bool(chunk)

    def _take(self, size: int) -> bytes:
        if not self.have(size):
            raise self._truncated()
        data = self.buf[self.pos : self.pos + size]
        self.pos += size
        return data

    def _header(self) -> bytes | None:
        """The next header block, its sum checked; None at the end-of-archive blocks or the stream's end."""
        if not self.have(BLOCK):
            if self.pos < len(self.buf):
                raise self._truncated()
            return None
        start = self.offset
        header = self._take(BLOCK)
        if header == ZERO_BLOCK:
            if self.have(BLOCK) and self.buf[self.pos : self.pos + BLOCK] != ZERO_BLOCK:
                raise FormatError("a single zero block stands before another header").at(offset=start)
            return None
        if not has_valid_sum(header):
            text = "this is not a tar header: its checksum is wrong"
            if start == 0:
                text = "this is not a tar, nor compressed in a known way: the first header's checksum is wrong"
            raise FormatError(text).at(offset=start)
        return header

    def _extend(self, extras: Extras, header: bytes, entry_start: int) -> None:
        """Read an extension header's body and note what it says.

        Globals count from ``entry_start`` on: an entry that is retained is parsed again without those that
        stood among its own extensions.
        """
        flag = header[TYPE]
        start = self.offset - BLOCK
        try:
            body = self._extension_body(header, len(extras.raw))
            if flag == b"L":
                extras.long_name = body.partition(b"\0")[0]
            elif flag == b"K":
                extras.long_target = body.partition(b"\0")[0]
            elif flag == b"x":
                extras.records = {**extras.records, **parse_records(body)}
            else:
                self._note_globals(parse_records(body), entry_start)
        except FormatError as error:
            raise error.at(offset=start) from None
        if flag != b"g":
            extras.raw += header + body.ljust(padded(len(body)), b"\0")

    def _extension_body(self, header: bytes, before: int) -> bytes:
        size = parse_number(header[SIZE])
        if size < 0 or size + before > MAX_EXTENSION:
            raise FormatError(f"extension headers claim {size + before} bytes; {MAX_EXTENSION} are the limit")
        return self._take(padded(size))[:size]

    def _note_globals(self, records: dict[bytes, bytes], start: int) -> None:
        """Add a ``g`` header's records to those in force, unless an earlier pass has noted them."""
        if self._noted is not None and start <= self._noted:
            return
        before = self.global_records[-1][1] if self.global_records else {}
        after = {key: value for key, value in {**before, **records}.items() if value}
        if sum(len(key) + len(value) for key, value in after.items()) > MAX_GLOBALS:
            raise FormatError(f"PAX globals of over {MAX_GLOBALS} bytes would go into every entry")
        self.global_records.append((start, after))

    def _globals_at(self, offset: int) -> dict[bytes, bytes]:
        """The globals in force for the header at ``offset``."""
        position = bisect.bisect_right(self.global_records, offset, key=lambda change: change[0])
        return self.global_records[position - 1][1] if position else {}

    def _sparse_blocks(self, header: bytes) -> bytes:
        """Old GNU sparse maps go on in blocks behind the header while their flag says so."""
        blocks = b""
        more = header[SPARSE_MORE]
        while more:
            if len(blocks) >= MAX_EXTENSION:
                raise FormatError(f"a sparse map has more than {MAX_EXTENSION} bytes").at(offset=self.offset)
            block = self._take(BLOCK)
            blocks += block
            more = block[504]
        return blocks

    def _end_in(self, missing: int) -> None:
        """Take the stream's end for the layer's if nothing but padding is missing: umoci ends layers so."""
        if missing > 0:
            raise self._truncated()

    def _truncated(self) -> LayerError:
        error = LayerError("the layer ends in the middle of an entry: it is truncated")
        return error.at(offset=self.base + len(self.buf))
