"""The base of all sinks in this package."""

from __future__ import annotations

from typing import Self

__all__ = ["AbortOnExit"]


class AbortOnExit:
    """Makes a sink a context manager: if the block ends before the sink is finished, nothing is left behind."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    def abort(self) -> None:
        """Remove everything written so far; see :meth:`streamerge.interfaces.Sink.abort`."""
        raise NotImplementedError
