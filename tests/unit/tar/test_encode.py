"""Encoding: encoded entries read back unchanged, by streamerge and by other tools."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from streamerge.entry import Entry, Kind
from streamerge.streams import ChunkStream
from streamerge.tar.encode import encode, end_of_archive, implicit_directory, raw
from streamerge.tar.fields import DEVICES, MTIME, OWNER_NAMES, OWNERS, PREFIX, SIZE, TYPE
from streamerge.tar.header import has_plain_sum
from streamerge.tar.reader import TarReader
from tests.support.layers import SECOND, Dialect, EntrySpec, Layer
from tests.support.layers import Kind as SpecKind
from tests.support.model import merge
from tests.support.strategies import stacks
from tests.support.tree import Tree, from_directory, from_tar

LATIN = b"\xe9t\xe9" * 50
NAMES = [
    b"a",
    b"n" * 100,
    b"n" * 101,
    b"x" * 255,
    b"d/" * 30 + b"f" * 90,
    b"/".join([b"c" * 255] * 3),
    LATIN,
    b"\xff",
    b"new\nline" * 20,
    b"caf\xc3\xa9" * 30,
    b"space " * 20,
    b"back\\slash",
]
KINDS = [SpecKind.FILE, SpecKind.DIR, SpecKind.SYMLINK, SpecKind.LINK, SpecKind.FIFO, SpecKind.CHAR, SpecKind.BLOCK]


def read(data: bytes) -> list[Entry]:
    reader, entries = TarReader(ChunkStream([data])), []
    while (entry := reader.next_entry()) is not None:
        entries.append(entry)
    return entries


def contents(entry: Entry) -> tuple[object, ...]:
    """Everything in an entry that matters, independent of its encoding."""
    header = entry.header
    numbers = tuple(header[field] for field in (OWNERS, MTIME, OWNER_NAMES, DEVICES))
    records = {key: value for key, value in entry.records.items() if key not in (b"path", b"linkpath")}
    return entry.path, entry.kind, entry.size, entry.target, numbers, records


def built(layer: Layer, dialect: Dialect, prefix: bytes = b"") -> list[Entry]:
    try:
        data = layer.tar(dialect, prefix)
    except ValueError:
        assume(False)
    return read(data)


def assert_round_trip(entry: Entry) -> None:
    (again,) = read(encode(entry) + bytes(entry.size + -entry.size % 512))
    assert contents(again) == contents(entry)
    assert encode(again) == encode(entry)
    assert has_plain_sum(encode(entry)[:512])
    assert again.verbatim


class TestRoundTrips:
    @pytest.mark.slow
    @given(st.sampled_from(list(Dialect)), st.data())
    def test_of_any_layer(self, dialect: Dialect, data: st.DataObject) -> None:
        (layer,) = data.draw(stacks(dialect=dialect, max_layers=1))
        for entry in built(layer, dialect, data.draw(st.sampled_from([b"", b"./", b"/"]))):
            assert_round_trip(entry)

    @pytest.mark.parametrize("dialect", Dialect)
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("name", NAMES, ids=repr)
    @pytest.mark.parametrize("target", [b"t", NAMES[3], LATIN], ids=len)
    def test_under_another_name(self, dialect: Dialect, kind: SpecKind, name: bytes, target: bytes) -> None:
        if dialect is Dialect.V7 and kind not in (SpecKind.FILE, SpecKind.DIR, SpecKind.SYMLINK, SpecKind.LINK):
            with pytest.raises(ValueError, match="V7 has no"):
                Layer().entry(EntrySpec(kind, b"old")).tar(dialect)
            return
        spec = EntrySpec(kind, b"old", target=b"old" if kind in (SpecKind.SYMLINK, SpecKind.LINK) else b"", uid=7)
        (entry,) = read(Layer().entry(spec).tar(dialect))
        entry.renamed(name)
        if entry.target:
            entry.retargeted(target)
        assert_round_trip(entry)
        (again,) = read(encode(entry))
        assert (again.path, again.target) == (name, target if entry.target else b"")

    def test_a_prefix_is_cleared(self) -> None:
        (entry,) = read(Layer().file(b"p" * 90 + b"/" + b"n" * 90).tar(Dialect.USTAR))
        assert_round_trip(entry.renamed(b"m"))
        assert encode(entry)[PREFIX] == bytes(155)

    @pytest.mark.parametrize("flag", [b"\0", b"0"])
    def test_a_v7_directory_gets_the_flag(self, flag: bytes) -> None:
        """Regression: with the flag ``0`` it kept that flag, and only its slash distinguished it from a file."""
        (entry,) = read(Layer().entry(EntrySpec(SpecKind.FILE, b"d/", typeflag=flag)).tar(Dialect.USTAR))
        assert encode(entry)[TYPE] == b"5"
        assert_round_trip(entry)

    @pytest.mark.parametrize("flag", [b"7", b"\0", b"Z", b"\xff"])
    def test_unknown_flags_become_files(self, flag: bytes) -> None:
        (entry,) = read(Layer().entry(EntrySpec(SpecKind.FILE, b"./f", data=b"x", typeflag=flag)).tar(Dialect.USTAR))
        assert encode(entry)[TYPE] == b"0"
        assert_round_trip(entry)

    def test_a_size_without_a_body_is_no_size(self) -> None:
        for key in (None, b"size"):
            records = ((key, b"4096"),) if key else ()
            (entry,) = read(Layer().entry(EntrySpec(SpecKind.DIR, b"./d", size=4096, records=records)).tar())
            (again,) = read(encode(entry))
            assert again.header[SIZE] == b"00000000000\0"
            assert b"size" not in again.records

    def test_records_are_kept_in_order_and_names_replaced(self) -> None:
        records = ((b"z", b"1"), (b"path", b"./old"), (b"a", b"\0\n="), (b"SCHILY.xattr.user.x", b""))
        (entry,) = read(Layer().entry(EntrySpec(SpecKind.FILE, b"old", records=records)).tar())
        (again,) = read(encode(entry.renamed(b"new")))
        assert list(again.records.items()) == [records[0], *records[2:]]
        assert again.path == b"new"

    @pytest.mark.parametrize("size", range(60, 130))
    def test_record_lengths_that_change_their_own_length(self, size: int) -> None:
        """Lengths near 100 and 1000: the digits are part of the length."""
        for value in (b"v" * size, b"v" * (size + 900)):
            (entry,) = read(Layer().file(b"./f", records={b"k": value}).tar())
            (again,) = read(encode(entry))
            assert again.records == {b"k": value}

    def test_a_sparse_file_keeps_its_name_in_its_records(self) -> None:
        records = {b"GNU.sparse.name": b"./f", b"GNU.sparse.major": b"1", b"GNU.sparse.realsize": b"5"}
        (entry,) = read(Layer().file(b"GNUSparseFile.0/f", records=records).tar())
        assert entry.path == b"f"
        (again,) = read(encode(entry.renamed(b"g")))
        assert (again.path, again.records[b"GNU.sparse.name"]) == (b"g", b"g")
        assert encode(entry)[-512:][:2] == b"g\0"


class TestRaw:
    def test_verbatim_entries_are_unchanged(self) -> None:
        data = Layer().file(b"n" * 120, b"").tar(Dialect.GNU, end=False)
        (entry,) = read(data)
        assert raw(entry) == data
        assert raw(entry.renamed(b"m")) == encode(entry) != data

    def test_other_entries_are_encoded(self) -> None:
        (entry,) = read(Layer().file(b"./a").tar())
        assert raw(entry) == encode(entry)


class TestNewEntries:
    @pytest.mark.parametrize("mtime", [0, 1_700_000_000, 8**11 - 1])
    @pytest.mark.parametrize("path", [b"", b"d", b"d/e", b"n" * 101, LATIN])
    def test_implicit_directories(self, path: bytes, mtime: int) -> None:
        tree = from_tar(encode(implicit_directory(path, mtime)) + end_of_archive(512)) if not path else {}
        (entry,) = read(encode(implicit_directory(path, mtime)))
        assert (entry.path, entry.kind) == (path, Kind.DIRECTORY)
        info = tarfile.TarInfo.frombuf(encode(implicit_directory(b"d", mtime)), "utf-8", "strict")
        assert (info.mode, info.uid, info.gid, info.mtime, info.isdir()) == (0o755, 0, 0, mtime, True)
        assert all(node.mtime_ns == mtime * SECOND for node in tree.values())

    @given(st.integers(0, 1000))
    def test_the_end(self, blocks: int) -> None:
        end = end_of_archive(blocks * 512)
        assert not any(end)
        assert 1024 <= len(end) < 1024 + 10240
        assert (blocks * 512 + len(end)) % 10240 == 0


# --- other readers -------------------------------------------------------------------------------


def everything(dialect: Dialect) -> Layer:
    """One entry of each kind under each name, with a prefix that forces a new encoding."""
    layer = Layer()
    for number, name in enumerate(NAMES):
        try:
            added = layer.file(b"f%d/" % number + name, b"x" * number, mtime=number * SECOND, mode=0o640)
            added = added.symlink(b"s%d/" % number + name, b"../" + name)
            added = added.link(b"l%d/" % number + name, b"f%d/" % number + name)
            added.tar(dialect, b"./")
        except ValueError:
            continue
        layer = added
    return layer


def reencoded(layer: Layer, dialect: Dialect) -> bytes:
    data = layer.tar(dialect, b"./")
    reader, pieces = TarReader(ChunkStream([data])), []
    while (entry := reader.next_entry()) is not None:
        assert not entry.verbatim
        body = b"".join(reader.body())
        pieces.append(encode(entry) + body + bytes(-len(body) % 512))
    return b"".join(pieces) + bytes(1024)


def expected(layer: Layer) -> Tree:
    """The tree that a tool extracts from the layer, without directories: no entry gives their metadata."""
    return undated(merge([layer]))


def undated(tree: Tree) -> Tree:
    return {path: replace(node, mtime_ns=0) for path, node in tree.items() if node.kind is not SpecKind.DIR}


@pytest.mark.root
@pytest.mark.parametrize("dialect", [Dialect.USTAR, Dialect.GNU, Dialect.PAX])
@pytest.mark.parametrize("tool", ["tar", "bsdtar"])
def test_tools_extract_what_was_encoded(
    tool: str, dialect: Dialect, tmp_path: Path, need_tool: Callable[[str], str]
) -> None:
    layer = everything(dialect)
    command = [need_tool(tool), "-xpf", "-", "-C", str(tmp_path)]
    subprocess.run(command, input=reencoded(layer, dialect), check=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    got = undated(from_directory(tmp_path))
    assert got == expected(layer)
    assert len(got) >= (9 if dialect is Dialect.USTAR else 30)


@pytest.mark.parametrize("dialect", Dialect)
def test_pythons_tarfile_reads_what_was_encoded(dialect: Dialect) -> None:
    layer = everything(dialect)
    with tarfile.open(fileobj=io.BytesIO(reencoded(layer, dialect)), encoding="utf-8", errors="surrogateescape") as tar:
        infos = tar.getmembers()
        names = [info.name.encode("utf-8", "surrogateescape") for info in infos]
        targets = [info.linkname.encode("utf-8", "surrogateescape") for info in infos]
        assert names == [spec.path for spec in layer.entries]
        assert targets == [spec.target for spec in layer.entries]
        times = [spec.mtime // SECOND for spec in layer.entries if spec.kind is SpecKind.FILE]
        assert [info.mtime for info in infos if info.isreg()] == times
