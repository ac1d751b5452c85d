"""A layer that is a blob of an image: decoded, and verified while it streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from streamerge.codecs import HEAD_SIZE, Codec, decode, detect
from streamerge.digest import Digest, Expected, Hasher, checked
from streamerge.errors import DigestMismatch, FormatError, LayerError, StreamergeError
from streamerge.interfaces import Stream
from streamerge.sources.fileblob import Extent, ExtentStream
from streamerge.streams import ChunkStream, reader_for

__all__ = ["BlobLayer", "Warn"]

_EVERYTHING = 1 << 62

Warn = Callable[[str], None]
"""Takes something worth knowing that is no error; called by whoever opens the layer."""


@dataclass
class BlobLayer:
    """One layer of an image; what its documents say of it stands in its fields.

    ``find`` gives the blob, or raises LayerError where there is none. With ``verify``, its digest and size and
    the decoded stream's ``diff_id`` are checked by whoever reads, and a stream that ends without an
    error is what the image promised. Until that has happened once, every opening is checked, and none seeks:
    nothing can be passed over unread. After it, opening again (for what was retained) costs no hash.
    """

    index: int
    name: str
    find: Callable[[], Extent]
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
        extent = self.find()
        self._check_size(extent)
        blob = extent.stream()
        codec = detect(blob.head(HEAD_SIZE))
        self._compare_codec(codec, extent)
        if self.verify and not self.verified:
            return ChunkStream(self._checked(codec, blob), reader_for(extent.size))
        return blob if codec is Codec.NONE else ChunkStream(decode(codec, blob.chunks()), reader_for(extent.size))

    def check(self) -> None:
        """See whether the blob is there and has its size, which costs nothing; :meth:`open` does the same later."""
        try:
            self._check_size(self.find())
        except (LayerError, DigestMismatch) as error:
            raise error.at(index=self.index, layer=f"layer {self.index} ({self.name})") from error.__cause__

    def vouch(self) -> None:
        """From now on the layer need not be verified again."""
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

    def _check_size(self, extent: Extent) -> None:
        if self.verify and self.size is not None and extent.size != self.size:
            raise DigestMismatch(f"{extent.name} has {extent.size:,} bytes; {self.size:,} are expected")

    def _checked(self, codec: Codec, blob: ExtentStream) -> Iterator[bytes]:
        """The decoded layer, with an error at its end unless it is what was promised."""
        content = Expected("the decoded layer (its diff_id)", self.diff_id)
        packed = Expected("the blob", self.digest, self.size)
        with Hasher() as hasher:
            if codec is Codec.NONE:  # one and the same bytes, so hashed once
                yield from checked(blob.chunks(), packed, content, hasher=hasher)
            else:
                raw = checked(blob.chunks(), packed, hasher=hasher)
                yield from checked(_decoded(codec, raw), content, hasher=hasher)

    def _compare_codec(self, found: Codec, extent: Extent) -> None:
        """Magic wins over the media type, as in container runtimes, but somebody should know."""
        if self.codec in (None, found) or not extent.size or self.warn is None:
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
