"""Blobs, and layers of an image that are blobs: decoded and verified as they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from streamerge.codecs import Codec, decode, decoded, detect_codec
from streamerge.digest import Digest, Expected, Hasher, checked
from streamerge.errors import DigestMismatch, FormatError, ImageError, LayerError, StreamergeError
from streamerge.interfaces import Layer, Stream
from streamerge.sources.locating import at_layer
from streamerge.streams import ChunkStream, RawStream, read_ahead_by

__all__ = ["Blob", "BlobLayer", "ImageLayer", "Warn", "read_document"]

_EVERYTHING = 1 << 62

Warn = Callable[[str], None]
"""Gets one line for each problem that is not an error."""


class Blob(Protocol):
    """What a layer needs to know about its stored bytes. Layouts, archives, registries and caches can all give it."""

    @property
    def name(self) -> str:
        """What messages call the blob."""

    @property
    def digest(self) -> Digest | None:
        """The digest that the source states; None if it states none."""

    @property
    def size(self) -> int:
        """The blob's length in bytes."""

    def stream(self, offset: int = 0) -> RawStream:
        """Return a stream that starts ``offset`` bytes into the blob. Raises LayerError."""


class ImageLayer(Layer, Protocol):
    """A layer of an image, with what the image's documents say about it.

    ``history`` is the command that made the layer; None if the image does not say.
    """

    index: int
    digest: Digest | None
    diff_id: Digest | None
    media_type: str | None
    history: str | None

    def check(self) -> None:
        """Check that the blob exists and has the right size, without reading it. Raises as :meth:`open` would."""


def read_document(blob: Blob, limit: int) -> bytes:
    """Return all bytes of a blob. Raises ImageError, and reads nothing, if there are more than ``limit``."""
    if blob.size > limit:
        raise ImageError(f"{blob.name} has {blob.size:,} bytes; the limit for a document is {limit:,}")
    return b"".join(blob.stream().chunks())


@dataclass
class BlobLayer(ImageLayer):
    """One layer of an image; its fields hold what the image's documents say about it.

    ``find`` returns the blob, or raises LayerError if it is missing. With ``verify``, the blob's digest and size and
    the decoded stream's ``diff_id`` are checked as the stream is read: one that ends without an error is correct. Until
    a stream has been read to its end, every stream is checked, and none seeks, because skipped bytes cannot be hashed.
    After that, the layer is opened again without hashing (for entries that were retained).
    """

    index: int
    name: str
    find: Callable[[], Blob]
    digest: Digest | None = None
    size: int | None = None
    diff_id: Digest | None = None
    media_type: str | None = None
    codec: Codec | None = None
    """The compression that the media type states; None if there is no media type."""
    history: str | None = None
    verify: bool = True
    warn: Warn | None = None
    verified: bool = field(default=False, init=False)
    """Whether the layer has been read to its end once and was correct."""

    reopenable = True

    def open(self) -> Stream:
        """Return the decoded stream. Raises LayerError, DigestMismatch."""
        blob = self.find()
        self._check_size(blob)
        raw = blob.stream()
        codec = detect_codec(raw)
        self._compare_codec(codec, blob)
        if self.verify and not self.verified:
            return ChunkStream(self._checked(codec, raw), read_ahead_by(raw), source=raw)
        return decoded(raw)

    def check(self) -> None:
        """Check that the blob exists and has the right size, without reading it; :meth:`open` does so too."""
        with at_layer(self.index, f"layer {self.index} ({self.name})"):
            self._check_size(self.find())

    def mark_verified(self) -> None:
        """Note that the layer need not be verified again."""
        self.verified = True

    def explain(self, error: StreamergeError) -> StreamergeError:
        """Return DigestMismatch if the layer's content is damaged, else ``error``. Cost: it reads the whole layer."""
        if self.verify and not self.verified and isinstance(error, FormatError | LayerError):
            try:
                self.open().skip(_EVERYTHING)
            except DigestMismatch as mismatch:
                return mismatch
            except StreamergeError:
                pass
        return error

    def _check_size(self, blob: Blob) -> None:
        if self.verify and self.size is not None and blob.size != self.size:
            raise DigestMismatch(f"{blob.name} has {blob.size:,} bytes; {self.size:,} are expected")

    def _checked(self, codec: Codec, stored: RawStream) -> Iterator[bytes]:
        """Yield the decoded layer; raise DigestMismatch at its end unless blob and layer are as expected."""
        content = Expected("the decoded layer (its diff_id)", self.diff_id)
        blob = Expected("the blob", self.digest, self.size)
        with Hasher() as hasher:
            if codec is Codec.NONE:  # the same bytes, hashed once
                yield from checked(stored.chunks(), blob, content, hasher=hasher)
            else:
                chunks = checked(stored.chunks(), blob, hasher=hasher)
                yield from checked(_decode_to_end(codec, chunks), content, hasher=hasher)

    def _compare_codec(self, found: Codec, blob: Blob) -> None:
        """Warn if the media type states another compression. The magic number counts, as in container runtimes."""
        if self.codec in (None, found) or not blob.size or self.warn is None:
            return
        assert self.codec is not None
        stated, actual = (("plain tar" if c is Codec.NONE else c.value) for c in (self.codec, found))
        layer = f"layer {self.index} ({self.name})"
        self.warn(f"{layer}: the media type says {stated}, but the blob is {actual}; it is read as {actual}")
        self.warn = None


def _decode_to_end(codec: Codec, stored: Iterator[bytes]) -> Iterator[bytes]:
    """Decode, and always read the stored bytes to their end: a wrong digest explains a decoder's error."""
    try:
        yield from decode(codec, stored)
    except DigestMismatch:
        raise
    except LayerError as error:
        try:
            _exhaust(stored)
        except DigestMismatch as mismatch:
            raise mismatch from error
        raise
    _exhaust(stored)


def _exhaust(chunks: Iterator[bytes]) -> None:
    for _ in chunks:
        pass
