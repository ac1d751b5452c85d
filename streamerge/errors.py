"""Every error a caller can see.

Pure code raises with what it knows (the bytes are wrong, the path leaves the root); the one loop that
knows layer, path and offset adds them with :meth:`StreamergeError.at`. Nothing from zlib, zstandard or
the operating system reaches a caller raw: the seam that calls them translates, with ``raise ... from``.
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
    r"""Make a name fit for a terminal: undecodable bytes and control characters are escaped.

    >>> show(b"caf\xc3\xa9"), show(b"a\nb\x1b[2J\xff")
    ('café', 'a\\nb\\x1b[2J\\xff')
    """
    text = name.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class StreamergeError(Exception):
    """Something about the input or the output stops the merge.

    ``layer`` is the layer as messages name it ("layer 2 (app.tar.gz)"), ``index`` its place in the stack,
    ``path`` the entry's path, ``offset`` the byte in the layer's decoded stream where the entry's header
    starts; each is ``None`` where it says nothing.
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
        """Add where it happened; what is known already is kept. Returns the error itself, to be raised."""
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
    """There is no such image, or more than one, or its documents and archive cannot be understood."""


class LayerError(StreamergeError):
    """A layer cannot be read: it is missing, unreadable, truncated, or its compression is corrupt."""


class FormatError(StreamergeError):
    """A layer's tar says something that is not a tar, or that no root filesystem can be."""


class UnsafePathError(FormatError):
    """A name that could lead out of the root (``..``), or that no file system could hold."""


class DigestMismatch(StreamergeError):
    """What was read is not what its digest or size promised."""


class UnsupportedMediaType(StreamergeError):
    """The input is of a kind that streamerge knows it cannot read."""


class SinkError(StreamergeError):
    """The output cannot be written: disk full, permission, a closed pipe."""


class LimitExceeded(StreamergeError):
    """The merge would write more than the caller has allowed."""


class Cancelled(StreamergeError):
    """The observer has cancelled the merge."""


class UsageError(StreamergeError):
    """What was asked for cannot be: a directory as a layer, one pipe twice, a level without compression."""
