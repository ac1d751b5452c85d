"""Compressed layers: detect the codec, decode it as a stream, and encode.

    codec = detect(head)                    # from the first HEAD_SIZE bytes
    for chunk in decode(codec, chunks):     # bounded: a decompression bomb cannot make a large chunk
        ...

No I/O: chunks of bytes in, chunks of bytes out. Errors of the libraries are translated here. A caller sees only
:class:`~streamerge.errors.LayerError`, and :class:`~streamerge.errors.UnsupportedMediaType` for a format that is
recognised but not supported.

``magic``      the codecs, recognised by their first bytes or by a file's suffix
``feed``       the compressed bytes, taken in pieces
``members``    gzip, lz4, xz, bzip2: one loop, because their libraries share a protocol
``zstd``       zstd, whose library has a different one
``encoders``   compressed output
``initramfs``  compressed output that the kernel can unpack at boot

Each library is imported only when its codec is used: a merge of plain layers needs none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from streamerge.codecs.feed import CHUNK, Feed
from streamerge.codecs.magic import HEAD_SIZE, Codec, codec_for_suffix, detect
from streamerge.streams import ChunkStream, RawStream, Stream, read_ahead_by

if TYPE_CHECKING:
    from streamerge.codecs.encoders import Encoder

__all__ = ["CHUNK", "HEAD_SIZE", "Codec", "codec_for_suffix", "decode", "decoded", "detect", "detect_codec", "encode"]


def decode(codec: Codec, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the decoded bytes of a whole compressed stream, in non-empty chunks of at most ``CHUNK`` bytes.

    ``chunks`` may be cut anywhere and have any size, also none. Consecutive members, frames or streams are decoded
    as one. An empty stream decodes to nothing.

    Raises :class:`LayerError` if the stream is corrupt, truncated, followed by something else, or needs a window of
    more than 128 MiB. Checksums are verified at the end of each member. So the data is verified only if the iterator
    ends without an error; until then it is an unverified prefix. Errors raised by ``chunks`` pass through unchanged.

    Memory: one chunk of output, one of input, and the window of the format. Nearly all time is spent in library
    calls that release the GIL, one for about 128 KiB of input.
    """
    if codec is Codec.NONE:
        return _decode_none(chunks)
    if codec is Codec.ZSTD:
        from streamerge.codecs.zstd import decode_zstd

        return decode_zstd(Feed(chunks))
    from streamerge.codecs.members import decode_members

    return decode_members(codec, Feed(chunks))


def detect_codec(raw: RawStream) -> Codec:
    """Return the codec of a stream that nothing has been read from; closes it where that raises an error."""
    try:
        return detect(raw.peek(HEAD_SIZE))
    except BaseException:
        raw.close()
        raise


def decoded(raw: RawStream) -> Stream:
    """Return the decoded bytes of a stream, whatever its first bytes say it is; the stream itself if it is plain."""
    codec = detect_codec(raw)
    return raw if codec is Codec.NONE else ChunkStream(decode(codec, raw.chunks()), read_ahead_by(raw), source=raw)


def encode(codec: Codec, level: int | None = None) -> Encoder:
    """A compressor for ``codec``; see :func:`streamerge.codecs.encoders.new_encoder`."""
    from streamerge.codecs.encoders import new_encoder

    return new_encoder(codec, level)


def _decode_none(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Chunks of at most ``CHUNK`` bytes pass unchanged; larger ones are copied in parts."""
    for chunk in chunks:
        if len(chunk) <= CHUNK:
            if chunk:
                yield chunk
        else:
            yield from (chunk[at : at + CHUNK] for at in range(0, len(chunk), CHUNK))
