"""Blobs, and the layer that is a blob of an image: decoded, and verified while it streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from streamerge.codecs import Codec, decode, detect_codec
from streamerge.digest import Digest, Expected, Hasher, checked
from streamerge.errors import DigestMismatch, FormatError, ImageError, LayerError, StreamergeError
from streamerge.interfaces import Layer, Stream
from streamerge.streams import ChunkStream, RawStream, read_ahead_by

__all__ = ["Blob", "BlobLayer", "ImageLayer", "Warn", "read_document"]

_EVERYTHING = 1 << 62

Warn = Callable[[str], None]
"""Takes something worth knowing that is not an error; called by whatever opens the layer."""


class Blob(Protocol):
    """The least that a layer needs of its stored bytes. Layouts, archives, registries and caches can all give it."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def digest(self) -> Digest | None:
        """What its source says that its digest is, if it says anything."""

    @property
    def size(self) -> int:
        """Its length in bytes."""

    def stream(self, offset: int = 0) -> RawStream:
        """Start reading ``offset`` bytes into the blob. Raises LayerError."""


class ImageLayer(Layer, Protocol):
    """A layer of an image, and what the image's documents say of it. ``history`` is the line of what made it."""

    index: int
    digest: Digest | None
    diff_id: Digest | None
    media_type: str | None
    history: str

    def check(self) -> None:
        """See whether the blob is there with its size, which costs nothing. Raises as :meth:`open` would."""


def read_document(blob: Blob, limit: int) -> bytes:
    """Return all bytes of a blob. Raises ImageError, and reads nothing, where there are more than ``limit``."""
    if blob.size > limit:
        raise ImageError(f"{blob.name} has {blob.size:,} bytes; {limit:,} are the limit for such a document")
    return b"".join(blob.stream().chunks())


@dataclass
class BlobLayer(ImageLayer):
    """One layer of an image; what its documents say of it stands in its fields.

    ``find`` gives the blob, or raises LayerError where there is none. With ``verify``, its digest and size and
    the decoded stream's ``diff_id`` are checked by whoever reads, and a stream that ends without an
    error is what the image promised. Until that has happened once, every opening is checked, and none seeks:
    nothing can be passed over unread. After it, opening again (for what was retained) costs no hash.
    """

    index: int
    name: str
    find: Callable[[], Blob]
    digest: Digest | None = None
    size: int | None = None
    diff_id: Digest | None = None
    media_type: str | None = None
    codec: Codec | None = None
    """The compression that the media type states; None where there is no media type."""
    history: str = ""
    verify: bool = True
    warn: Warn | None = None
    verified: bool = field(default=False, init=False)
    """Whether the layer has been read to its end once, and was what it should be."""

    reopenable = True

    def open(self) -> Stream:
        """Start reading at the first decoded byte. Raises LayerError, DigestMismatch."""
        blob = self.find()
        self._check_size(blob)
        raw = blob.stream()
        codec = detect_codec(raw)
        self._compare_codec(codec, blob)
        if self.verify and not self.verified:
            return ChunkStream(self._checked(codec, raw), read_ahead_by(raw), source=raw)
        if codec is Codec.NONE:
            return raw
        return ChunkStream(decode(codec, raw.chunks()), read_ahead_by(raw), source=raw)

    def check(self) -> None:
        """See whether the blob is there and has its size, which costs nothing; :meth:`open` does the same later."""
        try:
            self._check_size(self.find())
        except (LayerError, DigestMismatch) as error:
            raise error.at(index=self.index, layer=f"layer {self.index} ({self.name})") from error.__cause__

    def mark_verified(self) -> None:
        """Note that the layer need not be verified again."""
        self.verified = True

    def explain(self, error: StreamergeError) -> StreamergeError:
        """A blob that is not what was promised is why its tar makes no sense: read it all once to know."""
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

    def _checked(self, codec: Codec, blob: RawStream) -> Iterator[bytes]:
        """The decoded layer, with an error at its end unless it is what was promised."""
        content = Expected("the decoded layer (its diff_id)", self.diff_id)
        packed = Expected("the blob", self.digest, self.size)
        with Hasher() as hasher:
            if codec is Codec.NONE:  # one and the same bytes, so hashed once
                yield from checked(blob.chunks(), packed, content, hasher=hasher)
            else:
                raw = checked(blob.chunks(), packed, hasher=hasher)
                yield from checked(_decoded(codec, raw), content, hasher=hasher)

    def _compare_codec(self, found: Codec, blob: Blob) -> None:
        """Magic wins over the media type, as in container runtimes, but somebody should know."""
        if self.codec in (None, found) or not blob.size or self.warn is None:
            return
        assert self.codec is not None
        said, is_ = (("plain tar" if c is Codec.NONE else c.value) for c in (self.codec, found))
        self.warn(f"layer {self.index} ({self.name}): the media type says {said}, the blob is {is_}, and is read so")
        self.warn = None


def _decoded(codec: Codec, raw: Iterator[bytes]) -> Iterator[bytes]:
    """Decode, and read the blob to its end whatever happens: a wrong digest explains a decoder's complaint."""
    try:
        yield from decode(codec, raw)
    except DigestMismatch:
        raise
    except LayerError as error:
        try:
            _exhaust(raw)
        except DigestMismatch as mismatch:
            raise mismatch from error
        raise
    _exhaust(raw)


def _exhaust(chunks: Iterator[bytes]) -> None:
    for _ in chunks:
        pass
