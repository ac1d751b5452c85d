"""Compressed output: the same data gives the same bytes, however it is cut into writes."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import lz4.frame
import zstandard

from streamerge.codecs.magic import Codec

__all__ = ["Encoder", "new_encoder"]

_PIECE = 256 * 1024
"""Bytes given to a compressor in one call."""


class Encoder(Protocol):
    """A compressor of one stream."""

    def write(self, data: bytes | memoryview, /) -> bytes:
        """Compress ``data``; return the output that is ready, often nothing."""

    def finish(self) -> bytes:
        """End the stream and return the rest of the output. Call it once, as the last call."""


def new_encoder(codec: Codec, level: int | None = None) -> Encoder:
    """A compressor for ``codec``, at the default level of its tool if ``level`` is None.

    The output depends only on the data, the level and the version of the library: one thread, and no time, name or
    size in the header. zstd, lz4 and xz get a checksum of the content; gzip and bzip2 always have one. The output of
    lz4 and of gzip level 0 depends on how the input is cut, so the input is cut into equal pieces here.

    Raises :class:`ValueError`, with the valid range, for a level that the codec does not have. Cost: a copy of the
    data, and the memory of the library: up to 700 MiB for xz 9, 800 MiB for zstd 22.
    """
    if codec is Codec.NONE:
        if level is not None:
            raise ValueError("an uncompressed tar has no compression level")
        return _NoCompression()
    levels = _LEVELS[codec]
    if level is None:
        level = levels.default
    if not levels.low <= level <= levels.high:
        raise ValueError(f"{codec.value}: level {level} is not in the range {levels.low} to {levels.high}")
    return _EqualPieces(levels.new(level))


class _NoCompression:
    """The data unchanged."""

    def write(self, data: bytes | memoryview, /) -> bytes:
        return bytes(data)

    def finish(self) -> bytes:
        return b""


class _Compressor(Protocol):
    """The methods that the compressors of zlib, bz2, lzma and zstandard share."""

    def compress(self, data: bytes | bytearray, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _EqualPieces:
    """Gives a compressor pieces of equal size."""

    def __init__(self, compressor: _Compressor) -> None:
        self._compressor = compressor
        self._pending = bytearray()

    def write(self, data: bytes | memoryview, /) -> bytes:
        room = _PIECE - len(self._pending)
        if len(data) < room:
            self._pending += data
            return b""
        view = memoryview(data)
        self._pending += view[:room]
        out = [self._compressor.compress(self._pending)]
        whole = room + (len(view) - room) // _PIECE * _PIECE
        out += [self._compressor.compress(bytes(view[at : at + _PIECE])) for at in range(room, whole, _PIECE)]
        self._pending = bytearray(view[whole:])
        return b"".join(out)

    def finish(self) -> bytes:
        return self._compressor.compress(self._pending) + self._compressor.flush()


class _Lz4Compressor:
    """lz4's frame compressor with the methods of the others: the header comes with the first output."""

    def __init__(self, level: int) -> None:
        self._inner = lz4.frame.LZ4FrameCompressor(
            block_size=lz4.frame.BLOCKSIZE_MAX256KB, compression_level=level, content_checksum=True
        )
        self._header: bytes = self._inner.begin()

    def compress(self, data: bytes | bytearray, /) -> bytes:
        header, self._header = self._header, b""
        out: bytes = self._inner.compress(data)
        return header + out

    def flush(self) -> bytes:
        out: bytes = self._inner.flush()
        return out


@dataclass(frozen=True)
class _Levels:
    low: int
    high: int
    default: int
    new: Callable[[int], _Compressor]


def _new_gzip(level: int) -> _Compressor:
    return zlib.compressobj(level, zlib.DEFLATED, 31)  # 31: a gzip header with time 0 and no name


def _new_zstd(level: int) -> _Compressor:
    return zstandard.ZstdCompressor(level=level, write_checksum=True).compressobj()


def _new_xz(level: int) -> _Compressor:
    return lzma.LZMACompressor(format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, preset=level)


_LEVELS = {
    Codec.GZIP: _Levels(0, 9, 6, _new_gzip),
    Codec.ZSTD: _Levels(1, 22, 3, _new_zstd),
    Codec.LZ4: _Levels(-65536, 16, 0, _Lz4Compressor),  # below 0: acceleration by that factor
    Codec.XZ: _Levels(0, 9, 6, _new_xz),
    Codec.BZIP2: _Levels(1, 9, 9, bz2.BZ2Compressor),
}
