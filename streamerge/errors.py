"""Every error that the library raises.

A function raises an error with what it knows: the bytes are wrong, the path leaves the root. Its callers, which know
layer, path and offset, add them with :meth:`StreamergeError.at`. Exceptions of zlib, zstandard and the operating
system are translated where they are caught, with ``raise ... from``.
"""

from __future__ import annotations

from typing import Self

__all__ = [
    "Cancelled",
    "DigestMismatch",
    "FormatError",
    "ImageError",
    "LayerError",
    "LimitExceeded",
    "SinkError",
    "StreamergeError",
    "UnsafePathError",
    "UnsupportedMediaType",
    "UsageError",
    "show",
]


def show(name: bytes) -> str:
    r"""A name that is safe to print: undecodable bytes and control characters are escaped.

    >>> show(b"caf\xc3\xa9"), show(b"a\nb\x1b[2J\xff")
    ('café', 'a\\nb\\x1b[2J\\xff')
    """
    text = name.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class StreamergeError(Exception):
    """The base of all errors: a problem with the input, the output or the arguments that ends the merge.

    ``problem`` is the message without its location. The location: ``layer`` is the name of the layer in messages
    ("layer 2 (app.tar.gz)"), ``index`` its position in the stack (0 is the base), ``path`` the path of the entry,
    ``offset`` the byte in the layer's decoded stream where the entry's header starts. Each is None if not known.
    """

    def __init__(self, problem: str, *, setting: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.layer: str | None = None
        self.index: int | None = None
        self.path: bytes | None = None
        self.offset: int | None = None
        self.setting = setting
        """The setting that would help, such as ``"rescan"``; the command line shows how to change it."""

    def at(
        self,
        *,
        layer: str | None = None,
        index: int | None = None,
        path: bytes | None = None,
        offset: int | None = None,
    ) -> Self:
        """Add the location, except for what is already known. Returns the error itself, so that it can be raised."""
        self.layer = self.layer if self.layer is not None else layer
        self.index = self.index if self.index is not None else index
        self.path = self.path if self.path is not None else path
        self.offset = self.offset if self.offset is not None else offset
        return self

    def __str__(self) -> str:
        parts = []
        if self.layer is not None:
            parts.append(self.layer)
        if self.path is not None:
            parts.append(show(self.path) or "/")
        if self.offset is not None:
            parts.append(f"at byte {self.offset}")
        return ": ".join([*parts, self.problem])


class ImageError(StreamergeError):
    """The image does not exist, the name fits several images, or its documents or archive are invalid."""


class LayerError(StreamergeError):
    """A layer cannot be read: it is missing, not readable, truncated, or its compressed data is corrupt."""


class FormatError(StreamergeError):
    """A layer is not a valid tar, or describes something that no root file system can contain."""


class UnsafePathError(FormatError):
    """A name could lead out of the root (``..``), or is not possible in any file system."""


class DigestMismatch(StreamergeError):
    """Content does not have the expected digest or size."""


class UnsupportedMediaType(StreamergeError):
    """The format of the input is recognised, but not supported."""


class SinkError(StreamergeError):
    """The output cannot be written: for example the disk is full, permission is denied, or a pipe was closed."""


class LimitExceeded(StreamergeError):
    """The merge would write more entries or bytes than the caller allows."""


class Cancelled(StreamergeError):
    """The observer has cancelled the merge."""


class UsageError(StreamergeError):
    """The arguments are not possible: a directory as a layer, a pipe used twice, a level without compression."""
