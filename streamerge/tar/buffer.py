"""The bytes of a layer, pulled from its stream chunk by chunk.

The scan (:mod:`streamerge.engine.scan`) reads plain entries directly from the buffer (``buf``, ``pos``, ``base``);
both keep ``base + pos`` as the offset in the layer's decoded stream.
"""

from __future__ import annotations

from collections.abc import Callable

from streamerge.errors import LayerError
from streamerge.fileio import Extent
from streamerge.interfaces import Run, Stream

__all__ = ["StreamBuffer", "WriteRun"]

WriteRun = Callable[[Run], None]
"""Takes the next piece of tar."""

_new = tuple.__new__  # makes a named tuple in half the time
_EVERYTHING = 1 << 62
_WORTH_FETCHING = 1 << 17
"""Size in bytes of the smallest body that a sink may fetch from the layer's file itself."""


class StreamBuffer:
    """The current chunk of a stream, and where it stands: ``buf[pos]`` is byte ``base + pos`` of the layer.

    ``offset`` is where in the layer the stream begins. With ``extents``, runs say where they lie in the layer's file,
    if it is in one. Memory: one chunk.
    """

    def __init__(self, stream: Stream, *, offset: int = 0, extents: bool = False) -> None:
        self.stream = stream
        self.buf = b""
        self.pos = 0
        self.base = offset
        self.extent = stream.extent if extents else None

    @property
    def offset(self) -> int:
        """The next byte's offset in the layer's decoded stream."""
        return self.base + self.pos

    def have(self, size: int) -> bool:
        """Read until ``size`` bytes are in the buffer; return False if the stream ends before."""
        while len(self.buf) - self.pos < size:
            if not self.refill():
                return False
        return True

    def skip(self, size: int, padding: int = 0) -> None:
        """Skip ``size`` bytes, by seeking if the stream can; the last ``padding`` bytes may be missing.

        Raises LayerError if the stream ends before.
        """
        have = len(self.buf) - self.pos
        if size <= have:
            self.pos += size
            return
        self.base += len(self.buf)
        self.buf, self.pos = b"", 0
        passed = self.stream.skip(size - have)
        self.base += passed
        self.end_in(size - have - passed - padding)

    def refill(self) -> bool:
        """Append the next chunk to what is left of the buffer; return False at the stream's end."""
        chunk = self.stream.read()
        self.base += self.pos
        self.buf = self.buf[self.pos :] + chunk if self.pos < len(self.buf) else chunk
        self.pos = 0
        return bool(chunk)

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes. Raises LayerError if the stream ends before."""
        if not self.have(size):
            raise self.truncated()
        data = self.buf[self.pos : self.pos + size]
        self.pos += size
        return data

    def drain(self) -> None:
        """Read the stream to its end, so that whatever verifies the bytes on the way has seen all of them."""
        self.base += len(self.buf)
        self.buf, self.pos = b"", 0
        self.base += self.stream.skip(_EVERYTHING)

    # -- runs --------------------------------------------------------------------------------------

    def run(self, start: int, stop: int) -> Run:
        """Return ``buf[start:stop]`` as a run."""
        extent = self.extent.part(self.base + start, stop - start) if self.extent is not None else None
        return Run(memoryview(self.buf)[start:stop], extent)

    def run_writer(self, write_run: WriteRun) -> Callable[[int, int], None]:
        """Return a function that writes ``buf[start:stop]`` as a run, unless it is empty.

        It does what :meth:`run` does in one call less: a fragmented layer has a run for every third entry.
        """
        if self.extent is None:
            file, position = None, 0
        else:
            file, position, _ = self.extent

        def write(start: int, stop: int) -> None:
            if start < stop:
                extent = _new(Extent, (file, position + self.base + start, stop - start)) if file is not None else None
                write_run(_new(Run, (memoryview(self.buf)[start:stop], extent)))

        return write

    def unread_run(self, offset: int, size: int) -> Run:
        """Return ``size`` bytes of the layer, from ``offset`` on, as a run that is not read here."""
        assert self.extent is not None
        return Run(None, self.extent.part(offset, size))

    def pass_on(self, size: int, padding: int, write_run: WriteRun) -> None:
        """Give the next ``size`` bytes to ``write_run`` in pieces; the last ``padding`` may be missing."""
        if size >= _WORTH_FETCHING and self.extent is not None:
            start = self.offset
            self.skip(size, padding)
            passed = self.offset - start
            write_run(self.unread_run(start, passed))
            if passed < size:
                write_run(Run(bytes(size - passed)))
            return
        while size:
            if not self.have(1):
                self.end_in(size - padding)
                write_run(Run(bytes(size)))
                return
            end = min(self.pos + size, len(self.buf))
            write_run(self.run(self.pos, end))
            size -= end - self.pos
            self.pos = end

    # -- the end -----------------------------------------------------------------------------------

    def end_in(self, missing: int) -> None:
        """Raise LayerError if more than padding is missing at the stream's end: umoci ends layers within padding."""
        if missing > 0:
            raise self.truncated()

    def truncated(self) -> LayerError:
        """Return the error for a stream that ends too early."""
        error = LayerError("the layer ends in the middle of an entry: it is truncated")
        return error.at(offset=self.base + len(self.buf))
