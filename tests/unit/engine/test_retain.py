"""The spool against a bytearray, its memory and its file; retained entries read again."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamerge.engine import spool as spool_module
from streamerge.engine.retain import RetainBy, Retainer
from streamerge.engine.spool import Spool, SpooledLayer
from streamerge.errors import SinkError
from streamerge.streams import ChunkStream, ReadAheadBy
from streamerge.tar.reader import TarReader
from tests.support.layers import Layer
from tests.support.merged import BytesLayer

NOISE = os.urandom(3 << 20)
"""Bytes that lz4 cannot make smaller."""


def whole(spool: Spool, start: int = 0, size: int | None = None) -> bytes:
    return b"".join(spool.read(start, spool.end - start if size is None else size))


class SpoolMachine(RuleBasedStateMachine):
    """Random writes, reads and cuts, against a bytearray; blocks are small, so that all of it happens."""

    def __init__(self) -> None:
        super().__init__()
        self._block, spool_module._BLOCK = spool_module._BLOCK, 64
        self.spool = Spool(150)
        self.oracle = bytearray()

    def teardown(self) -> None:
        self.spool.close()
        spool_module._BLOCK = self._block

    @rule(start=st.integers(0, 1 << 20), size=st.integers(0, 700))
    def write_noise(self, start: int, size: int) -> None:
        self.spool.write(memoryview(NOISE)[start : start + size])
        self.oracle += NOISE[start : start + size]

    @rule(size=st.integers(0, 700))
    def write_zeros(self, size: int) -> None:
        self.spool.write(bytes(size))
        self.oracle += bytes(size)

    @precondition(lambda self: self.oracle)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        start = data.draw(st.integers(0, len(self.oracle)))
        size = data.draw(st.integers(0, len(self.oracle) - start))
        assert whole(self.spool, start, size) == self.oracle[start : start + size]

    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        end = data.draw(st.integers(0, len(self.oracle)))
        self.spool.cut(end)
        del self.oracle[end:]

    @invariant()
    def holds_the_same(self) -> None:
        assert self.spool.end == len(self.oracle)
        assert whole(self.spool) == self.oracle

    @invariant()
    def keeps_its_bounds(self) -> None:
        held = sum(len(block) for block in self.spool._blocks if isinstance(block, bytes))
        assert held == self.spool._held <= 150
        assert len(self.spool._tail) < 64


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


class TestSpool:
    def test_in_memory_it_makes_no_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
        spool = Spool()
        spool.write(NOISE)
        assert whole(spool) == NOISE
        spool.close()

    def test_beyond_its_memory_it_spills_into_a_file_without_a_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        spool = Spool(1 << 20)
        spool.write(NOISE)
        assert os.listdir(tmp_path) == []
        assert spool._file is not None
        assert (1 << 20) < os.fstat(spool._file.fileno()).st_size < 3 << 20
        assert whole(spool) == NOISE
        assert whole(spool, 1_000_000, 1_100_000) == NOISE[1_000_000:2_100_000]
        descriptor = spool._file.fileno()
        spool.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)

    def test_compresses(self) -> None:
        spool = Spool(1 << 20)
        for _ in range(64):
            spool.write(bytes(1 << 20))
        assert spool._file is None
        assert spool.end == 64 << 20
        spool.close()

    def test_unpacked_in_memory_packed_on_disk(self) -> None:
        spool = Spool(1 << 20)
        spool.raw = 1 << 20
        spool.write(bytes(64 << 20))
        assert spool._file is not None
        assert 0 < os.fstat(spool._file.fileno()).st_size < 1 << 20
        assert b"".join(spool.read(0, 64 << 20)) == bytes(64 << 20)
        spool.close()

    def test_pieces_are_bounded(self) -> None:
        spool = Spool()
        spool.write(NOISE)
        assert max(len(piece) for piece in spool.read(5, len(NOISE) - 10)) <= 256 << 10
        spool.close()

    def test_a_cut_gives_room_back(self) -> None:
        spool = Spool(8 << 20)
        room = [spool.has_room()]
        spool.write(NOISE * 2)
        room.append(spool.has_room())
        spool.cut(100)
        room.append(spool.has_room())
        assert room == [True, False, True]
        assert whole(spool) == NOISE[:100]
        spool.close()

    @pytest.mark.parametrize("message", ["No space left on device", None])
    def test_errors_are_ours(self, message: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
        """Found here: with no directory for temporary files at all, naming it in the message failed as well."""
        if message is None:
            monkeypatch.setattr(tempfile, "tempdir", None)
            monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nonexistent"])
        else:

            def full(**_: object) -> None:
                raise OSError(28, message)

            monkeypatch.setattr(tempfile, "TemporaryFile", full)
        spool = Spool(0)
        with pytest.raises(SinkError, match="cannot spool"):
            spool.write(NOISE)
        spool.close()


class TestSpooledLayer:
    @given(st.lists(st.binary(max_size=100), max_size=5))
    def test_can_be_opened_again(self, chunks: list[bytes]) -> None:
        spool = Spool(0)
        spool.write(b"before")
        layer = SpooledLayer(BytesLayer(b"".join(chunks), chunk=7, reopenable=False, name="pipe"), spool)
        assert (layer.name, layer.reopenable) == ("pipe", True)
        for _ in range(3):
            assert b"".join(iter(layer.open().read, b"")) == b"".join(chunks)
        spool.write(b"after")
        assert b"".join(iter(layer.open().read, b"")) == b"".join(chunks)
        spool.close()


class TestRetainer:
    LAYER = Layer().file(b"a", b"1" * 700).globals({b"uid": b"7"}).file(b"b", b"2").symlink(b"s", b"t").file(b"c", b"3")

    def passed(self, reopenable: bool) -> tuple[Retainer, Spool, dict[bytes, int]]:
        """A retainer past the layer, and the offsets of its entries; a pipe's entries are kept."""
        layer, spool = BytesLayer(self.LAYER.tar(), reopenable=reopenable, chunk=300), Spool(0)
        retainer = Retainer(lambda index: [BytesLayer(b""), layer][index].open(), spool)
        reader = TarReader(layer.open())
        retainer.begin(1, RetainBy.SPOOL, reader.global_records)
        offsets = {}
        while (entry := reader.next_entry()) is not None:
            offsets[entry.path] = entry.offset
            if not reopenable:
                headers = memoryview(entry.prefix + entry.header)
                retainer.keep(entry.offset, [headers, *reader.body(), memoryview(bytes(-entry.size % 512))])
        return retainer, spool, offsets

    @pytest.mark.parametrize("reopenable", [True, False])
    @pytest.mark.parametrize("names", [b"a b s c", b"b c", b"c", b"s", b""])
    def test_recalls(self, reopenable: bool, names: bytes) -> None:
        retainer, spool, offsets = self.passed(reopenable)
        wanted = names.split()
        got = [
            (entry.path, entry.offset, entry.records, b"".join(body))
            for entry, body in retainer.recall(1, [offsets[name] for name in wanted])
        ]
        bodies = {b"a": b"1" * 700, b"b": b"2", b"s": b"", b"c": b"3"}
        uid = {b"uid": b"7"}
        assert got == [(name, offsets[name], {} if name == b"a" else uid, bodies[name]) for name in wanted]
        spool.close()

    def test_forgets_what_is_not_needed(self) -> None:
        retainer, spool, offsets = self.passed(reopenable=False)
        before = spool.end
        retainer.end([offsets[b"b"]])
        assert 0 < spool.end < before
        assert [b"".join(body) for _, body in retainer.recall(1, [offsets[b"b"]])] == [b"2"]
        retainer.begin(0, RetainBy.SPOOL, [])
        retainer.end([])
        assert [b"".join(body) for _, body in retainer.recall(1, [offsets[b"b"]])] == [b"2"]
        spool.close()

    def test_forgets_all(self) -> None:
        retainer, spool, _ = self.passed(reopenable=False)
        retainer.end([])
        assert spool.end == 0
        spool.close()

    def test_forgets_nothing_where_all_is_needed(self) -> None:
        retainer, spool, offsets = self.passed(reopenable=False)
        before = spool.end
        retainer.end(offsets.values())
        assert spool.end == before
        spool.close()

    def test_what_it_wants(self) -> None:
        spool = Spool(8 << 20)
        retainer = Retainer(lambda index: BytesLayer(b"").open(), spool)

        def wants(size: int, by: RetainBy) -> bool:
            retainer.begin(0, by, [])
            return retainer.wants(size)

        assert wants(1 << 40, RetainBy.SPOOL)
        assert not wants(0, RetainBy.OFFSET)
        assert wants(4 << 20, RetainBy.SPOOL_SMALL)
        assert not wants((4 << 20) + 1, RetainBy.SPOOL_SMALL)
        spool.write(NOISE)
        assert not wants(1, RetainBy.SPOOL_SMALL), "half of the memory is as much as most images need"
        spool.memory = 16 << 20
        spool.write(NOISE)
        assert not wants(1, RetainBy.SPOOL_SMALL)
        retainer.note_link()
        assert wants(1, RetainBy.SPOOL_SMALL)
        spool.write(NOISE * 2)
        assert not wants(1, RetainBy.SPOOL_SMALL)
        assert wants(1, RetainBy.SPOOL)
        spool.close()


def test_a_spooled_layer_is_read_by_the_merge_itself() -> None:
    """A thread that read ahead would move the spool's file about while the merge writes to it (found by reading)."""
    spool = Spool(0)
    layer = SpooledLayer(BytesLayer(NOISE, reopenable=False), spool)
    stream = layer.open()
    assert isinstance(stream, ChunkStream)
    assert stream.read_ahead is ReadAheadBy.NOTHING
    first = stream.read()
    spool.write(NOISE)
    assert first + b"".join(iter(stream.read, b"")) == NOISE
    spool.close()
