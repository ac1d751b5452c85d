"""Names that images give: checked before they are used as paths, and made safe to print."""

from __future__ import annotations

from streamerge.errors import UnsafePathError, show

__all__ = ["safe_name", "show_text"]

_MAX_SHOWN = 300


def safe_name(name: str) -> str:
    """Return a relative path without ``.`` and empty components. Raises UnsafePathError for a path that leads out.

    >>> safe_name("./blobs//sha256/ab")
    'blobs/sha256/ab'
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name or not parts:
        shown = show_text(name)
        raise UnsafePathError(f"the image names the file '{shown}', which is not a path inside it; it is refused")
    return "/".join(parts)


def show_text(text: str) -> str:
    """Return text from a document or the command line that is safe to print: shortened, control characters escaped."""
    return show(text[:_MAX_SHOWN].encode("utf-8", "surrogateescape"))
