"""Digests: parsed, computed over a stream, and compared at its end.

OCI image spec, descriptor.md: "Retrieved content SHOULD be verified against this digest when consumed via
untrusted sources"; "Before calculating the digest, the size of the content SHOULD be verified to reduce hash
collision space".
"""

from __future__ import annotations

import hashlib
import queue
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from streamerge.errors import DigestMismatch, ImageError, UnsafePathError, show

__all__ = ["Digest", "Expected", "Hasher", "check", "checked"]

_GRAMMAR = re.compile(r"([a-z0-9]+(?:[+._-][a-z0-9]+)*):([a-zA-Z0-9=_-]+)")
"""descriptor.md: "A digest string MUST match the following grammar"."""

_HEX_LENGTH = {"sha256": 64, "sha512": 128}
"""The registered algorithms: "the encoded portion MUST match /[a-f0-9]{64}/" and {128}."""


@dataclass(frozen=True, slots=True)
class Digest:
    """``algorithm:encoded``. An unsupported algorithm is a valid digest, but its content cannot be verified.

    >>> print(Digest.parse("sha256:" + "ab" * 32).short)
    sha256:abababababab
    """

    algorithm: str
    encoded: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """The digest in ``text``. Raises UnsafePathError if it could lead out of ``blobs/``, else ImageError."""
        match = _GRAMMAR.fullmatch(text)
        if match is None:
            shown = show(text[:200].encode("utf-8", "surrogatepass"))
            if "/" in text or ".." in text:
                raise UnsafePathError(f"'{shown}' is not a digest and could lead out of the image")
            raise ImageError(f"'{shown}' is not a digest; a digest looks like sha256:6c3c624b58db…")
        digest = cls(match[1], match[2])
        length = _HEX_LENGTH.get(digest.algorithm)
        if length is not None and not re.fullmatch(f"[a-f0-9]{{{length}}}", digest.encoded):
            shown = f"{digest.algorithm}:{digest.encoded[:140]}"
            raise ImageError(f"'{shown}' is not a digest: expected {length} lowercase hex digits after the colon")
        return digest

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """The digest of ``data``."""
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    @property
    def short(self) -> str:
        """The first 12 digits, as container tools show a digest."""
        return f"{self.algorithm}:{self.encoded[:12]}"

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"


@dataclass(frozen=True, slots=True)
class Expected:
    """The digest and size that some content must have; None if not known. ``what`` names the content in messages."""

    what: str
    digest: Digest | None = None
    size: int | None = None


class Hasher:
    """A thread that hashes chunks. Use it as a context manager: leaving the context ends the thread.

    sha256 takes half as long as decoding gzip. In the decoding thread that would add to the wall time; in its own
    thread a second core does it meanwhile. The queue of chunks is bounded.
    """

    def __init__(self) -> None:
        self._jobs: queue.Queue[tuple[hashlib._Hash, bytes] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._hash_queued, name="streamerge-digest", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._jobs.put(None)

    def update(self, hash_: hashlib._Hash, chunk: bytes) -> None:
        """Queue a chunk to be hashed. Blocks while the queue is full."""
        self._jobs.put((hash_, chunk))

    def wait(self) -> None:
        """Return when all queued chunks have been hashed."""
        self._jobs.join()

    def _hash_queued(self) -> None:
        while (job := self._jobs.get()) is not None:
            hash_, chunk = job
            hash_.update(chunk)
            self._jobs.task_done()


_WAITING = 16
"""Most chunks in the queue, of 256 KiB each."""


def checked(chunks: Iterable[bytes], *expectations: Expected, hasher: Hasher | None = None) -> Iterator[bytes]:
    """Yield the chunks unchanged; at their end, raise DigestMismatch unless they match all ``expectations``.

    The content is verified only if the iterator ends without an error. More bytes than expected are an error at once.
    Cost: one hash for each algorithm, computed with the interpreter lock released, in ``hasher``'s thread if given.
    """
    hashes = {one.digest.algorithm: _new_hash(one.digest) for one in expectations if one.digest is not None}
    most = min((one.size for one in expectations if one.size is not None), default=None)
    seen = 0
    for chunk in chunks:
        seen += len(chunk)
        if most is not None and seen > most:
            break
        for hash_ in hashes.values():
            if hasher is None:
                hash_.update(chunk)
            else:
                hasher.update(hash_, chunk)
        yield chunk
    if hasher is not None:
        hasher.wait()
    for expected in expectations:
        _compare_size(expected, seen)
        if expected.digest is not None:
            _compare_digest(expected.what, expected.digest, hashes[expected.digest.algorithm].hexdigest())


def check(data: bytes, expected: Expected) -> None:
    """Check ``data`` against its expected digest and size. Raises DigestMismatch."""
    for _ in checked((data,), expected):
        pass


def _new_hash(digest: Digest) -> hashlib._Hash:
    if digest.algorithm not in _HEX_LENGTH:
        raise DigestMismatch(
            f"{digest.short}… cannot be verified: {digest.algorithm} is not supported, only sha256 and sha512",
            setting="verify",
        )
    return hashlib.new(digest.algorithm)


def _compare_size(expected: Expected, seen: int) -> None:
    if expected.size is None or expected.size == seen:
        return
    has = f"more than {expected.size:,}" if seen > expected.size else f"only {seen:,}"
    raise DigestMismatch(f"{expected.what} has {has} bytes; {expected.size:,} are expected")


def _compare_digest(what: str, expected: Digest, actual: str) -> None:
    if actual != expected.encoded:
        got = Digest(expected.algorithm, actual)
        raise DigestMismatch(f"{what} does not match its digest: expected {expected}, got {got}")
