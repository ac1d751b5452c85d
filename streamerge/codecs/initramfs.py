"""Compression that the kernel can unpack for an initramfs (``lib/decompress_*.c``): less than the usual tools write.

lz4 must be the *legacy* format, as ``lz4 -l`` writes it: a magic, then blocks of 8 MiB, each after its compressed
size. xz may only have a CRC32 checksum. gzip and zstd are the usual formats.
"""

from __future__ import annotations

import lzma

import lz4.block

from streamerge.codecs.encoders import Encoder, new_encoder
from streamerge.codecs.magic import Codec

__all__ = ["cpio_codec", "encode_initramfs"]

_SUFFIXES = {".gz": Codec.GZIP, ".zst": Codec.ZSTD, ".lz4": Codec.LZ4, ".xz": Codec.XZ}
_LEGACY_MAGIC = b"\x02\x21\x4c\x18"  # 0x184C2102, little-endian
_LEGACY_SIZE = 8 << 20
"""Bytes compressed as one block: the format fixes it."""


def cpio_codec(name: str) -> Codec:
    """The codec for the file name of a cpio archive: ``.gz``, ``.zst``, ``.lz4``, ``.xz``; NONE for any other.

    >>> cpio_codec("initramfs.cpio.zst"), cpio_codec("initrd.img")
    (<Codec.ZSTD: 'zstd'>, <Codec.NONE: 'none'>)
    """
    lower = name.lower()
    return next((codec for suffix, codec in _SUFFIXES.items() if lower.endswith(suffix)), Codec.NONE)


def encode_initramfs(codec: Codec, level: int | None = None) -> Encoder:
    """A compressor whose output the kernel unpacks at boot. Raises ValueError for a level that the codec does not have.

    The same data gives the same bytes. Memory: that of :func:`~streamerge.codecs.encoders.new_encoder`; lz4 8 MiB.
    """
    plain = new_encoder(codec, level)  # also checks the level
    if codec is Codec.LZ4:
        return _LegacyLz4(level)
    if codec is Codec.XZ:
        return _Xz(6 if level is None else level)
    return plain


class _LegacyLz4:
    """The format of ``lz4 -l``. Like the tool, it uses the fast method below level 3, else high compression."""

    def __init__(self, level: int | None) -> None:
        self._level = 0 if level is None else level
        self._pending = bytearray()
        self._magic = _LEGACY_MAGIC

    def write(self, data: bytes | memoryview, /) -> bytes:
        self._pending += data
        out = b""
        while len(self._pending) >= _LEGACY_SIZE:
            out += self._pack(bytes(self._pending[:_LEGACY_SIZE]))
            del self._pending[:_LEGACY_SIZE]
        return out

    def finish(self) -> bytes:
        return self._pack(bytes(self._pending)) if self._pending else self._magic

    def _pack(self, block: bytes) -> bytes:
        mode = "high_compression" if self._level >= 3 else "fast" if self._level < 0 else "default"
        packed: bytes = lz4.block.compress(
            block, mode=mode, compression=self._level, acceleration=max(1, -self._level), store_size=False
        )
        magic, self._magic = self._magic, b""
        return magic + len(packed).to_bytes(4, "little") + packed


class _Xz:
    def __init__(self, level: int) -> None:
        self._inner = lzma.LZMACompressor(format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, preset=level)

    def write(self, data: bytes | memoryview, /) -> bytes:
        return self._inner.compress(data)

    def finish(self) -> bytes:
        return self._inner.flush()
