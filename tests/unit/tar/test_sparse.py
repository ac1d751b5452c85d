"""Sparse files: GNU tar's four formats, holes that stay holes, and wrong maps."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamerge import DirectorySink, LayerFile, merge
from streamerge.entry import Entry
from streamerge.errors import FormatError, StreamergeError
from streamerge.streams import ChunkStream
from streamerge.tar.reader import TarReader
from streamerge.tar.sparse import is_sparse, sparse_file
from tests.support.layers import Layer
from tests.support.merged import BytesLayer
from tests.support.merged import options as merged_options

NeedTool = Callable[[str], str]

PAGE = 4096
DIALECTS = [
    ["--format=gnu"],
    ["--format=posix", "--sparse-version=0.0"],
    ["--format=posix", "--sparse-version=0.1"],
    ["--format=posix", "--sparse-version=1.0"],
]
EVERY_DIALECT = pytest.mark.parametrize("options", DIALECTS, ids=["gnu", "0.0", "0.1", "1.0"])

SHAPES: dict[str, tuple[int, list[tuple[int, bytes]]]] = {
    "hole at the start": (40 * PAGE, [(39 * PAGE, b"x" * PAGE)]),
    "hole at the end": (1000 * PAGE, [(0, b"x" * 10)]),
    "odd length": (777 * PAGE + 13, [(5 * PAGE, b"y" * 5), (700 * PAGE, b"z" * 8192)]),
    "nothing but a hole": (1 << 30, []),
    "four extents": (100 * PAGE, [(n * 20 * PAGE, b"a" * PAGE) for n in range(4)]),
    "five extents": (100 * PAGE, [(n * 20 * PAGE, b"b" * PAGE) for n in range(5)]),
    "five hundred extents": (2000 * PAGE, [(n * 4 * PAGE, b"%04d" % n * 1024) for n in range(500)]),
    "far away": ((1 << 40) + 5, [((1 << 40) - PAGE, b"far" * 1000)]),
}


def make(path: Path, shape: str) -> None:
    size, extents = SHAPES[shape]
    with path.open("wb") as file:
        for offset, data in extents:
            file.seek(offset)
            file.write(data)
        file.truncate(size)


@pytest.mark.parametrize("shape", SHAPES)
@EVERY_DIALECT
def test_what_gnu_tar_stores_comes_back_with_its_holes(
    tmp_path: Path, need_tool: NeedTool, options: list[str], shape: str
) -> None:
    """With a file before and after it: the map and the body end at the right byte."""
    for name in ("a", "z"):
        (tmp_path / name).write_bytes(name.encode() * 700)
    make(tmp_path / "hole", shape)
    command: list[str | Path] = [
        need_tool("tar"),
        "--sparse",
        *options,
        "-cf",
        tmp_path / "a.tar",
        "-C",
        tmp_path,
        "a",
        "hole",
        "z",
    ]
    subprocess.run(command, check=True)
    for plain in (False, True):
        merge(
            [LayerFile(str(tmp_path / "a.tar"))],
            DirectorySink(str(tmp_path / "root"), fsync=False, force=True),
            merged_options(plain=plain),
        )
        root = tmp_path / "root"
        assert sorted(os.listdir(root)) == ["a", "hole", "z"]
        assert (root / "z").read_bytes() == b"z" * 700
        size, extents = SHAPES[shape]
        status = (root / "hole").stat()
        assert status.st_size == size
        assert data_of(root / "hole") == data_of(tmp_path / "hole")
        stored = sum(-(-len(data) // PAGE) * PAGE for _, data in extents)
        assert status.st_blocks * 512 <= stored + 16 * PAGE, "the holes have been written"


def data_of(path: Path) -> list[tuple[int, bytes]]:
    """The non-zero bytes of a sparse file, page by page; holes are skipped."""
    found: list[tuple[int, bytes]] = []
    with path.open("rb") as file:
        end = at = 0
        while True:
            try:
                at = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing more
                return found
            end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            while at < end:
                page = os.pread(file.fileno(), min(PAGE, end - at), at)
                if page.strip(b"\0"):
                    found.append((at, page.rstrip(b"\0")))
                at += len(page)


@EVERY_DIALECT
def test_small_chunks(tmp_path: Path, need_tool: NeedTool, options: list[str]) -> None:
    make(tmp_path / "hole", "five hundred extents")
    command: list[str | Path] = [
        need_tool("tar"),
        "--sparse",
        *options,
        "-cf",
        tmp_path / "a.tar",
        "-C",
        tmp_path,
        "hole",
    ]
    subprocess.run(command, check=True)
    layer = BytesLayer((tmp_path / "a.tar").read_bytes(), chunk=700)
    merge([layer], DirectorySink(str(tmp_path / "root"), fsync=False))
    assert data_of(tmp_path / "root" / "hole") == data_of(tmp_path / "hole")


@EVERY_DIALECT
def test_a_sparse_file_that_is_promoted(tmp_path: Path, need_tool: NeedTool, options: list[str]) -> None:
    """Its map is kept, also if it follows the header."""
    make(tmp_path / "a", "five hundred extents")
    os.link(tmp_path / "a", tmp_path / "b")
    command: list[str | Path] = [
        need_tool("tar"),
        "--sparse",
        *options,
        "-cf",
        tmp_path / "a.tar",
        "-C",
        tmp_path,
        "a",
        "b",
    ]
    subprocess.run(command, check=True)
    layers: list[LayerFile | BytesLayer] = [
        LayerFile(str(tmp_path / "a.tar")),
        BytesLayer(Layer().whiteout(b"a").tar()),
    ]
    merge(layers, DirectorySink(str(tmp_path / "root"), fsync=False))
    assert os.listdir(tmp_path / "root") == ["b"]
    assert data_of(tmp_path / "root" / "b") == data_of(tmp_path / "a")


def test_extents_are_written_and_holes_left(tmp_path: Path) -> None:
    """Zeros stored in a tar are data; holes are never written."""
    records = {b"GNU.sparse.map": b"0,4096,1048576,4096", b"GNU.sparse.size": b"2097152"}
    layer = Layer().file(b"f", bytes(8192), records=records)
    merge([BytesLayer(layer.tar())], DirectorySink(str(tmp_path / "root"), fsync=False))
    status = (tmp_path / "root" / "f").stat()
    assert (status.st_size, status.st_blocks) == (2097152, 16)


# --- maps, without a file --------------------------------------------------------------------------


def read(layer: Layer, chunk: int = 1 << 16) -> tuple[int, list[tuple[int, bytes]]]:
    """The size and pieces of the first entry; adjacent pieces are joined."""
    reader = TarReader(ChunkStream(chunks(layer.tar(), chunk)))
    entry = reader.next_entry()
    assert entry is not None
    assert is_sparse(entry)
    file = sparse_file(entry, reader.body())
    found: list[tuple[int, bytes]] = []
    for offset, piece in file.pieces():
        if found and found[-1][0] + len(found[-1][1]) == offset:
            found[-1] = (found[-1][0], found[-1][1] + piece)
        else:
            found.append((offset, bytes(piece)))
    return file.size, found


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def listed(numbers: bytes, size: bytes, data: bytes) -> Layer:
    """Format 0.1."""
    return Layer().file(b"f", data, records={b"GNU.sparse.map": numbers, b"GNU.sparse.size": size})


def leading(text: bytes, size: bytes, data: bytes) -> Layer:
    """Format 1.0."""
    body = text + bytes(-len(text) % 512) + data
    records = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.realsize": size}
    return Layer().file(b"f", body, records=records)


@pytest.mark.parametrize("chunk", [1, 7, 512, 1 << 16])
def test_maps(chunk: int) -> None:
    expected = (100, [(10, b"abc"), (50, b"de")])
    assert read(listed(b"10,3,50,2,100,0", b"100", b"abcde"), chunk) == expected
    assert read(leading(b"3\n10\n3\n50\n2\n100\n0\n", b"100", b"abcde"), chunk) == expected
    assert read(leading(b"0\n", b"7", b""), chunk) == (7, [])
    assert read(listed(b"", b"7", b""), chunk) == (7, [])
    many = b"".join(b"%d\n1\n" % (2 * n) for n in range(1000))
    size, pieces = read(leading(b"1000\n" + many, b"2000", b"x" * 1000), chunk)
    assert (size, len(pieces)) == (2000, 1000)


BAD = {
    "not in order": listed(b"50,2,10,3", b"100", b"abcde"),
    "overlapping": listed(b"10,3,12,2", b"100", b"abcde"),
    "beyond the end": listed(b"10,3,99,2", b"100", b"abcde"),
    "less than is stored": listed(b"10,3", b"100", b"abcde"),
    "more than is stored": listed(b"10,30", b"100", b"abcde"),
    "half a pair": listed(b"10", b"100", b""),
    "no number": listed(b"10,x", b"100", b""),
    "negative": listed(b"10,-3", b"100", b""),
    "a number of many digits": listed(b"10," + b"9" * 21, b"100", b""),
    "no size": Layer().file(b"f", b"abc", records={b"GNU.sparse.map": b"0,3"}),
    "a size beyond all bounds": listed(b"", b"%d" % (1 << 63), b""),
    "1.0: no end": leading(b"2\n1\n", b"100", b""),
    "1.0: no count": leading(b"\n", b"100", b"abc"),
    "1.0: a huge count": leading(b"99999999999999999999\n1\n1\n", b"100", b"abc"),
    "1.0: a count beyond all bounds": leading(b"9" * 400 + b"\n", b"100", b"abc"),
    "1.0: an empty body": Layer().file(b"f", b"", records={b"GNU.sparse.major": b"1", b"GNU.sparse.realsize": b"5"}),
    "1.0: no line": leading(b"x" * 3000, b"100", b""),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_maps(tmp_path: Path, name: str) -> None:
    """The error names the path, and no output is left."""
    with pytest.raises((FormatError, ValueError)):
        read(BAD[name])
    with pytest.raises(StreamergeError, match="f: "):
        merge([BytesLayer(BAD[name].tar())], DirectorySink(str(tmp_path / "root"), fsync=False))
    assert os.listdir(tmp_path) == []


def test_a_map_is_bounded() -> None:
    """At most a mebibyte of map is held in memory: 50,000 extents or more."""
    fits = b"".join(b"%d\n0\n" % n for n in range(100_000))
    assert len(fits) < 1 << 20
    assert read(leading(b"100000\n" + fits, b"100000", b"")) == (100000, [])
    over = b"".join(b"%d\n0\n" % n for n in range(200_000))
    with pytest.raises(FormatError, match="has over 1048576 bytes"):
        read(leading(b"200000\n" + over, b"200000", b""))


def test_a_body_that_ends_early() -> None:
    """The reader already guarantees the size; ``pieces`` checks it again."""
    reader = TarReader(ChunkStream([listed(b"0,5", b"5", b"abcde").tar()]))
    entry = reader.next_entry()
    assert isinstance(entry, Entry)
    with pytest.raises(FormatError, match="shorter than its map"):
        list(sparse_file(entry, [b"abc"]).pieces())


def test_a_file_larger_than_the_file_system_takes(tmp_path: Path) -> None:
    layer = listed(b"", b"%d" % (1 << 62), b"")
    with pytest.raises(StreamergeError, match=r"f: cannot write it: (File too large|Invalid argument)"):
        merge([BytesLayer(layer.tar())], DirectorySink(str(tmp_path / "root"), fsync=False))
    assert os.listdir(tmp_path) == []
