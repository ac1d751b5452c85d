"""What all sinks of this package share."""

from __future__ import annotations

from typing import Self

__all__ = ["AbortOnExit"]


class AbortOnExit:
    """Makes a sink a context manager: leaving the block without finishing it leaves nothing behind."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    def abort(self) -> None:
        """Leave nothing behind; see :meth:`streamerge.interfaces.Sink.abort`."""
        raise NotImplementedError
