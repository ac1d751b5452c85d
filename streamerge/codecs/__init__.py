"""Compressed layers: which codec it is, its bytes decoded as a stream, and the way back.

    codec = detect(head)                    # the first HEAD_SIZE bytes say what it is
    for chunk in decode(codec, chunks):     # bounded: a bomb cannot swell a chunk
        ...

The core is pure: it is given chunks of bytes and gives chunks of bytes. What the libraries raise is
translated here, so a caller sees only :class:`~streamerge.errors.LayerError`, and
:class:`~streamerge.errors.UnsupportedMediaType` for a format that is known but not read.

``magic``    the codecs, and how each is known by its first bytes or by a file's suffix
``feed``     the compressed bytes, taken in pieces
``members``  gzip, lz4, xz, bzip2: one loop, for their libraries share a protocol
``zstd``     zstd, whose library does not
``encoders`` the way back

The libraries are imported by the one that is used, since a merge of plain layers needs none of them.
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
    """Decode a whole compressed stream; yields non-empty chunks of at most ``CHUNK`` bytes.

    ``chunks`` may be cut anywhere and be of any size, empty ones too. All members, frames or streams that
    follow each other are decoded as one. No bytes at all decode to no bytes.

    Raises :class:`LayerError` when the stream is corrupt, truncated, or followed by something else, or when
    it wants more than 128 MiB of window. What was yielded before an error is no more than a prefix of the
    data: checksums are verified as each member ends, so only an iterator that ends without an error vouches
    for what it gave. What ``chunks`` raises passes through untouched.

    Cost: one chunk of output, one of input and the window of the format. Nearly all time is spent in library
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
    """A compressor that writes ``codec``; see :func:`streamerge.codecs.encoders.new_encoder`."""
    from streamerge.codecs.encoders import new_encoder

    return new_encoder(codec, level)


def _decode_none(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Chunks of up to ``CHUNK`` bytes pass as they are; larger ones are copied in parts."""
    for chunk in chunks:
        if len(chunk) <= CHUNK:
            if chunk:
                yield chunk
        else:
            yield from (chunk[at : at + CHUNK] for at in range(0, len(chunk), CHUNK))
