"""gzip, lz4, xz and bzip2: one loop over the protocol that their libraries share.

The protocol is that of :class:`bz2.BZ2Decompressor`: ``decompress(data, max_length)``, ``needs_input``, ``eof`` and
``unused_data``; one object decodes one member (gzip), frame (lz4) or stream (xz, bzip2).
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

import lz4.frame

from streamerge.codecs.feed import CHUNK, PIECE, Feed
from streamerge.codecs.magic import BZIP2_MAGIC, GZIP_MAGIC, LZ4_MAGIC, SKIPPABLE_MAGICS, XZ_MAGIC, Codec
from streamerge.errors import LayerError

__all__ = ["MEMORY_LIMIT", "decode_members"]

MEMORY_LIMIT = 128 << 20
"""Most bytes of memory for an xz decoder. Streams of ``xz -9`` need 65 MiB."""


def _import_isal() -> ModuleType | None:
    """isal's gzip decoder; None if there is no wheel for this machine. zlib decodes at half the speed."""
    try:
        from isal import igzip_lib
    except ImportError:
        return None
    return igzip_lib


_isal = _import_isal()

_SECOND_PIECE = 4096
"""Bytes in a member's second piece. Each further piece is four times as large, up to PIECE. The libraries copy what
follows a member's end, so short members get short pieces."""


class _Decompressor(Protocol):
    """A decoder of one member. ``unused_data`` is valid only after ``eof``."""

    @property
    def needs_input(self) -> bool: ...
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | memoryview: ...
    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes: ...


@dataclass(frozen=True)
class _Format:
    """The differences between the formats."""

    codec: Codec
    unit: str  # the name of a member in messages
    magics: tuple[bytes, ...]
    new: Callable[[], _Decompressor]
    errors: tuple[type[Exception], ...]
    check_head: Callable[[Feed, bytes], None] | None = None  # refuses heads that the library would accept
    skip_padding: Callable[[Feed], None] | None = None  # what may follow a member

    def error(self, problem: str) -> LayerError:
        return LayerError(f"{self.codec.value}: {problem}")


def decode_members(codec: Codec, feed: Feed) -> Iterator[bytes]:
    """Yield the decoded bytes of all members; see :func:`streamerge.codecs.decode`."""
    form = _FORMATS[codec]
    first = True
    while head := feed.head(_HEAD):
        if not head.startswith(form.magics) and not any(magic.startswith(head) for magic in form.magics):
            where = "the stream does not start with" if first else f"the bytes after a {form.unit} are not"
            raise form.error(f"{where} a {form.unit}")
        first = False
        if form.check_head:
            form.check_head(feed, head)
        yield from _decode_member(form, feed)
        if form.skip_padding:
            form.skip_padding(feed)


def _decode_member(form: _Format, feed: Feed) -> Iterator[bytes]:
    decompressor = form.new()
    piece: bytes | memoryview = feed.take(PIECE)  # the whole head that was checked
    size = _SECOND_PIECE
    while True:
        data = _decompress(form, decompressor, piece, min(4 * size, CHUNK))
        if data:
            yield data
        if decompressor.eof:
            feed.give_back(decompressor.unused_data)
            return
        piece = b""
        if decompressor.needs_input:
            piece = feed.take(size)
            size = min(4 * size, PIECE)
            if not piece:
                raise form.error(f"the stream ends in the middle of a {form.unit}")


def _decompress(form: _Format, decompressor: _Decompressor, piece: bytes | memoryview, max_length: int) -> bytes:
    try:
        return decompressor.decompress(piece, max_length)
    except form.errors as error:
        if "limit exceeded" in str(error):
            problem = f"a {form.unit} needs more than {MEMORY_LIMIT >> 20} MiB of memory"
        else:
            problem = f"the data is corrupt ({error})"
        raise form.error(problem) from error


# gzip: RFC 1952

_HEAD = 10  # a gzip header without optional fields; enough of any other
_HEADER_LIMIT = PIECE  # given to the decoder in one call; names are short, the extra field has at most 64 KiB
_FHCRC, _FEXTRA, _FNAME, _FCOMMENT, _RESERVED = 2, 4, 8, 16, 0xE0


def _check_gzip(feed: Feed, head: bytes) -> None:
    """Put the whole header into one piece, because isa-l fails on a header in two pieces (intel/isa-l#224).

    Raises LayerError for reserved flags: "Must give an error indication if any reserved bit is non-zero" (2.3.1.2),
    which isa-l does not.
    """
    if len(head) < _HEAD:
        return
    if head[3] & _RESERVED:
        raise LayerError("gzip: a member's header has reserved flags, so it cannot be decoded safely")
    while (size := _gzip_header_size(head)) > len(head):
        if len(head) == _HEADER_LIMIT:
            raise LayerError(f"gzip: a member's header is larger than {_HEADER_LIMIT >> 10} KiB")
        more = feed.head(min(size, _HEADER_LIMIT))
        if len(more) == len(head):
            return
        head = more


def _gzip_header_size(head: bytes) -> int:
    """The size of the header at the start of ``head``; if ``head`` is too short to tell, how much to look at next."""
    flags = head[3]
    size = _HEAD
    if flags & _FEXTRA:
        size += 2
        if len(head) < size:
            return size
        size += int.from_bytes(head[size - 2 : size], "little")
    for field in (_FNAME, _FCOMMENT):  # both end with a zero byte
        if flags & field:
            end = head.find(0, size)
            if end < 0:
                return 2 * max(size, len(head))
            size = end + 1
    return size + 2 if flags & _FHCRC else size


def _skip_gzip_padding(feed: Feed) -> None:
    """Skip zeros after the last member, as gzip(1) does: tapes and block devices leave them."""
    if feed.skip_zeros() and feed.head(1):
        raise LayerError("gzip: something follows the zero padding after a member")


def _new_gzip() -> _Decompressor:
    if _isal is None:
        return _ZlibDecompressor()
    decompressor: _Decompressor = _isal.IgzipDecompressor(flag=_isal.DECOMP_GZIP)
    return decompressor


class _ZlibDecompressor:
    """zlib's gzip decoder with the methods of bz2's."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self.needs_input = True

    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes:
        out = self._inner.decompress(data or self._inner.unconsumed_tail, max_length)
        self.needs_input = not self._inner.unconsumed_tail
        return out

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


# lz4: LZ4 frame format


def _check_lz4(_: Feed, head: bytes) -> None:
    """Refuse a frame that needs a dictionary (bit 0 of FLG, after the magic): liblz4 would decode without it."""
    if head.startswith(LZ4_MAGIC) and head[4:5] and head[4] & 1:
        raise LayerError("lz4: a frame needs a dictionary, which is not supported")


class _Lz4Decompressor:
    """lz4's low-level decoder with the methods of bz2's.

    ``LZ4FrameDecompressor`` has these methods too, but copies the unconsumed input in every call: it decodes
    1.1 GB/s, this class 1.5.
    """

    def __init__(self) -> None:
        self._context = lz4.frame.create_decompression_context()
        self._rest = memoryview(b"")
        self.eof = False
        self.needs_input = True

    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes:
        view = memoryview(data) if data else self._rest
        out: bytes
        out, used, self.eof = lz4.frame.decompress_chunk(self._context, view, max_length=max_length)
        self._rest = view[used:]
        self.needs_input = not self._rest
        return out

    @property
    def unused_data(self) -> memoryview:
        return self._rest


# xz: The .xz file format; bzip2


def _skip_xz_padding(feed: Feed) -> None:
    """Skip stream padding. Section 2.2: it "MUST contain only null bytes", and their number is a "multiple of four"."""
    if feed.skip_zeros() % 4:
        raise LayerError("xz: the padding after a stream is not a multiple of four bytes")


def _new_xz() -> _Decompressor:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=MEMORY_LIMIT)


_GZIP_ERRORS = (zlib.error,) if _isal is None else (zlib.error, _isal.error)

_FORMATS = {
    form.codec: form
    for form in (
        _Format(Codec.GZIP, "member", (GZIP_MAGIC,), _new_gzip, _GZIP_ERRORS, _check_gzip, _skip_gzip_padding),
        _Format(
            Codec.LZ4,
            "frame",
            (LZ4_MAGIC, *SKIPPABLE_MAGICS),
            _Lz4Decompressor,
            (RuntimeError,),
            _check_lz4,
        ),
        _Format(Codec.XZ, "stream", (XZ_MAGIC,), _new_xz, (lzma.LZMAError,), skip_padding=_skip_xz_padding),
        _Format(Codec.BZIP2, "stream", (BZIP2_MAGIC,), bz2.BZ2Decompressor, (OSError, ValueError)),
    )
}
