"""A stream of chunks -> entries and their bodies."""

from __future__ import annotations

import bisect
from collections.abc import Iterator

from streamerge.entry import Entry
from streamerge.errors import FormatError
from streamerge.interfaces import Stream
from streamerge.tar.buffer import StreamBuffer, WriteRun
from streamerge.tar.fields import BLOCK, SIZE, SPARSE_MORE, SPARSE_TYPE, TYPE, TYPE_AT
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
    with_type,
)

__all__ = ["Globals", "TarReader"]

Globals = list[tuple[int, dict[bytes, bytes]]]
"""PAX globals of a layer: from each offset on, the records in force."""

_LABEL = ord("V")  # GNU tar's volume label
_DUMPDIR = ord("D")
_REFUSED = {
    ord("M"): "this is a later volume of a multi-volume archive; join the volumes first",
    ord("N"): "it holds long names in GNU tar's oldest form, which is not supported; write the tar again",
}
_BEFORE_ENTRIES = b"xgLKXVMN"
"""Types of headers that are not entries. X is what Solaris's tar writes instead of x (tar(5) of libarchive)."""


class TarReader(StreamBuffer):
    """Reads entries from a stream that stands at the start of a header.

    ``global_records`` holds the PAX globals read before. Memory: one chunk, and at most MAX_EXTENSION bytes for each
    extension header of one entry.
    """

    def __init__(
        self, stream: Stream, *, offset: int = 0, global_records: Globals | None = None, extents: bool = False
    ) -> None:
        super().__init__(stream, offset=offset, extents=extents)
        self.global_records: Globals = global_records if global_records is not None else []
        self._noted = self.global_records[-1][0] if self.global_records else None
        self._body = 0
        self._left = 0

    def next_entry(self) -> Entry | None:
        """Return the next entry, after skipping what is left of the last one's body; None at the end.

        Raises FormatError for what is not a tar, LayerError for a tar that ends too early.
        """
        self.end_body()
        start = self.offset
        header = self._header()
        extras = None
        if header is not None and (self.global_records or header[TYPE_AT] in _BEFORE_ENTRIES):
            header, extras, start = self._extras(header, start)
        if header is None:
            return None
        if header[TYPE_AT] == SPARSE_TYPE:
            header += self._sparse_blocks(header)
        entry = parse_entry(header, extras, offset=start)
        self._body = entry.size
        self._left = padded(entry.size)
        if header[TYPE_AT] == _DUMPDIR:
            self._left = padded(parse_number(header[SIZE]))  # a list of names, which nobody needs
        return entry

    def _extras(self, header: bytes | None, start: int) -> tuple[bytes | None, Extras, int]:
        """Read the extension headers before an entry's own; return that header, the extras, and their offset."""
        extras = Extras()
        while header is not None and header[TYPE_AT] in _BEFORE_ENTRIES:
            if header[TYPE_AT] in _REFUSED:
                raise FormatError(_REFUSED[header[TYPE_AT]]).at(offset=self.offset - BLOCK)
            if header[TYPE_AT] == _LABEL:
                self.skip(padded(parse_number(header[SIZE])))
                extras = Extras()
            else:
                self._extend(extras, header, start)
            if not extras.raw:
                start = self.offset  # globals and labels belong to no entry
            header = self._header()
        if header is None and extras.raw:
            raise FormatError("the tar ends where an entry should follow its extension").at(offset=start)
        extras.globals = self._globals_at(self.offset - BLOCK)
        return header, extras, start

    def body(self) -> Iterator[memoryview]:
        """Yield what is left of the current entry's body, chunk by chunk, without its padding."""
        while self._left:
            if self.pos >= len(self.buf) and not self.refill():
                self.end_in(self._body)
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

    def pass_body_on(self, write_run: WriteRun) -> None:
        """Give the rest of the current entry's body to ``write_run``, with its padding as it is."""
        left, padding = self._left, self._left - self._body
        self._left = self._body = 0
        self.pass_on(left, padding, write_run)

    def seek(self, offset: int) -> None:
        """Go forward to the header at ``offset``."""
        self._body = self._left = 0
        self.skip(offset - self.offset)

    # -- headers -----------------------------------------------------------------------------------

    def _header(self) -> bytes | None:
        """Return the next header block, its sum checked; None at the end-of-archive blocks or the stream's end."""
        if not self.have(BLOCK):
            if self.pos < len(self.buf):
                raise self.truncated()
            return None
        start = self.offset
        header = self.take(BLOCK)
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
            elif flag in b"xX":
                extras.records = {**extras.records, **parse_records(body)}
            else:
                self._note_globals(parse_records(body), entry_start)
        except FormatError as error:
            raise error.at(offset=start) from None
        if flag == b"X":
            header = with_type(header, b"x")
        if flag != b"g":
            extras.raw += header + body.ljust(padded(len(body)), b"\0")

    def _extension_body(self, header: bytes, before: int) -> bytes:
        size = parse_number(header[SIZE])
        if size < 0 or size + before > MAX_EXTENSION:
            raise FormatError(f"extension headers claim {size + before} bytes; {MAX_EXTENSION} are the limit")
        return self.take(padded(size))[:size]

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
        """Return the globals in force for the header at ``offset``."""
        position = bisect.bisect_right(self.global_records, offset, key=lambda change: change[0])
        return self.global_records[position - 1][1] if position else {}

    def _sparse_blocks(self, header: bytes) -> bytes:
        """Return the blocks behind the header of an old GNU sparse file that continue its map."""
        blocks = b""
        more = header[SPARSE_MORE]
        while more:
            if len(blocks) >= MAX_EXTENSION:
                raise FormatError(f"a sparse map has more than {MAX_EXTENSION} bytes").at(offset=self.offset)
            block = self.take(BLOCK)
            blocks += block
            more = block[504]
        return blocks
