"""Errors of one layer say which layer it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from streamerge.errors import StreamergeError

__all__ = ["at_layer"]


@contextlib.contextmanager
def at_layer(index: int, label: str) -> Iterator[None]:
    """Add a layer's index and label to errors that are raised in the block. Their causes stay as they are."""
    try:
        yield
    except StreamergeError as error:
        error.at(index=index, layer=label)
        raise
