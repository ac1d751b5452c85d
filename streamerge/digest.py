"""Digests: read, computed over what passes by, and compared at the end.

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
    """``algorithm:encoded``. An algorithm that cannot be computed here is valid, and refused by verification.

    >>> print(Digest.parse("sha256:" + "ab" * 32).short)
    sha256:abababababab
    """

    algorithm: str
    encoded: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read a digest. Raises UnsafePathError where it would lead out of ``blobs/``, else ImageError."""
        match = _GRAMMAR.fullmatch(text)
        if match is None:
            shown = show(text[:200].encode("utf-8", "surrogatepass"))
            if "/" in text or ".." in text:
                raise UnsafePathError(f"the digest '{shown}' is no digest and could lead out of the image")
            raise ImageError(f"'{shown}' is no digest; a digest looks like sha256:6c3c624b58db…")
        digest = cls(match[1], match[2])
        length = _HEX_LENGTH.get(digest.algorithm)
        if length is not None and not re.fullmatch(f"[a-f0-9]{{{length}}}", digest.encoded):
            shown = digest.encoded[:140]
            raise ImageError(f"'{digest.algorithm}:{shown}' is no digest: {length} lowercase hex digits should follow")
        return digest

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """The digest of bytes at hand."""
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    @property
    def short(self) -> str:
        """Enough of it to tell it from others, as container tools show it."""
        return f"{self.algorithm}:{self.encoded[:12]}"

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"


@dataclass(frozen=True, slots=True)
class Expected:
    """What a document says about bytes elsewhere; ``what`` names the bytes in messages."""

    what: str
    digest: Digest | None = None
    size: int | None = None


class Hasher:
    """A thread that hashes what others only pass by. A context manager: leaving it ends the thread.

    sha256 takes half as long as decoding gzip: within the decoding thread it would add that to the wall time,
    beside it a second core does it meanwhile. What waits to be hashed is bounded.
    """

    def __init__(self) -> None:
        self._jobs: queue.Queue[tuple[hashlib._Hash, bytes] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._run, name="streamerge-digest", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._jobs.put(None)

    def update(self, running: hashlib._Hash, chunk: bytes) -> None:
        """Have a chunk hashed, soon."""
        self._jobs.put((running, chunk))

    def wait(self) -> None:
        """Return when all that was given has been hashed."""
        self._jobs.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            running, chunk = job
            running.update(chunk)
            self._jobs.task_done()


_WAITING = 16
"""Chunks that may wait to be hashed, of 256 KiB each."""


def checked(chunks: Iterable[bytes], *expectations: Expected, hasher: Hasher | None = None) -> Iterator[bytes]:
    """Pass chunks on; when they end, raise DigestMismatch unless every expected was kept.

    Only an iterator that ends without an error vouches for what it gave. More bytes than promised are an
    error at once. Cost: one hash for each algorithm promised, computed with the interpreter lock released, in
    ``hasher``'s thread if there is one.
    """
    hashes = {p.digest.algorithm: _new(p.digest) for p in expectations if p.digest is not None}
    most = min((p.size for p in expectations if p.size is not None), default=None)
    seen = 0
    for chunk in chunks:
        seen += len(chunk)
        if most is not None and seen > most:
            break
        for running in hashes.values():
            if hasher is None:
                running.update(chunk)
            else:
                hasher.update(running, chunk)
        yield chunk
    if hasher is not None:
        hasher.wait()
    for expected in expectations:
        _compare_size(expected, seen)
        if expected.digest is not None:
            _compare(expected.what, expected.digest, hashes[expected.digest.algorithm].hexdigest())


def check(data: bytes, expected: Expected) -> None:
    """Compare bytes at hand with what was promised. Raises DigestMismatch."""
    for _ in checked((data,), expected):
        pass


def _new(digest: Digest) -> hashlib._Hash:
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
    raise DigestMismatch(f"{expected.what} has {has} bytes; {expected.size:,} are promised")


def _compare(what: str, expected: Digest, actual: str) -> None:
    if actual != expected.encoded:
        raise DigestMismatch(f"{what} does not match its digest: {expected} is promised, its bytes give {actual}")
