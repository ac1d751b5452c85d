"""Rule 9: everything in the header survives, in every dialect.

Sources: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar manual, "Basic Tar
Format" and "Storing Sparse Files"; star(5).
"""

from __future__ import annotations

import io
import itertools
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from streamerge import FormatError
from tests.support.judges import DIR, described, judged, refused, shows, tars
from tests.support.layers import SECOND, Dialect, EntrySpec, Kind, Layer
from tests.support.merged import merge_tars
from tests.support.tree import content_of, from_tar

EXPRESSIVE = (Dialect.USTAR, Dialect.GNU, Dialect.PAX)
PAIRS = list(itertools.product(Dialect, Dialect))


def member(output: bytes, name: str) -> tarfile.TarInfo:
    """An entry as Python's tarfile reads it, for fields that a tree does not have."""
    with tarfile.open(fileobj=io.BytesIO(output), encoding="utf-8", errors="surrogateescape") as tar:
        return tar.getmember(name)


class TestEveryField:
    @pytest.mark.parametrize("mode", [0, 0o644, 0o7777, 0o4755, 0o100644, 0o140755])
    def test_mode_bits_and_none_of_the_file_type(self, mode: int) -> None:
        """Some builders write all of st_mode."""
        assert judged([Layer().file(b"a", mode=mode)])[b"a"].mode == mode & 0o7777

    @pytest.mark.parametrize("dialect", [Dialect.GNU, Dialect.PAX])
    @pytest.mark.parametrize("owner", [0, 1000, 2097151, 2097152, 4294967294])
    def test_numeric_owners(self, dialect: Dialect, owner: int) -> None:
        layers = [Layer().file(b"a", uid=owner, gid=owner).link(b"b", b"a"), Layer().whiteout(b"a")]
        node = judged(layers, dialect=dialect)[b"b"]
        assert (node.uid, node.gid) == (owner, owner)

    @pytest.mark.parametrize("dialect", EXPRESSIVE)
    @pytest.mark.parametrize("prefix", [b"", b"./"])
    def test_symbolic_owners(self, dialect: Dialect, prefix: bytes) -> None:
        layer = Layer().file(b"a", uname=b"root", gname=b"wheel").file(b"t", uname=b"me").link(b"l", b"t")
        output = merge_tars(tars([layer, Layer().whiteout(b"t")], dialect, prefix))
        assert (member(output, "a").uname, member(output, "a").gname) == ("root", "wheel")
        assert (member(output, "l").uname, member(output, "l").gname) == ("me", "")

    def test_symbolic_owners_beyond_ustar(self) -> None:
        output = merge_tars(tars([Layer().file(b"a", uname=b"m\xc3\xbcller", gname=b"g" * 40)], prefix=b"./"))
        assert (member(output, "a").uname, member(output, "a").gname) == ("müller", "g" * 40)

    @pytest.mark.parametrize("seconds", [0, 1, 1_700_000_000, -2, 9_000_000_000])
    @pytest.mark.parametrize("fraction", [0, 1, 500_000_000, 999_999_999])
    def test_times_to_the_nanosecond(self, seconds: int, fraction: int) -> None:
        time = seconds * SECOND + fraction
        layers = [Layer().file(b"a", mtime=time).dir(b"d", mtime=time).link(b"b", b"a"), Layer().whiteout(b"a")]
        merged = judged(layers)
        assert (merged[b"b"].mtime_ns, merged[b"d"].mtime_ns) == (time, time)

    @pytest.mark.parametrize("seconds", [-1, -(2**33), 2**33, 2**40])
    def test_times_in_base_256(self, seconds: int) -> None:
        layers = [Layer().file(b"a", mtime=seconds * SECOND).link(b"b", b"a"), Layer().whiteout(b"a")]
        merged = from_tar(merge_tars(tars(layers, Dialect.GNU)))
        assert merged[b"b"].mtime_ns == seconds * SECOND

    @pytest.mark.parametrize("dialect", EXPRESSIVE)
    def test_device_numbers(self, dialect: Dialect) -> None:
        layer = Layer().char(b"c", 5, 1).block(b"b", 259, 70000).link(b"l", b"b")
        shows([layer, Layer().whiteout(b"b")], {b"c": "char 5:1", b"l": "block 259:70000"}, dialect=dialect)

    @pytest.mark.parametrize("value", [b"", b"\0", b"a\nb", b"=", b"5 a=b\n", b"\x01\0\0\x02" * 5, b"x" * 60000])
    def test_xattrs_of_any_value(self, value: bytes) -> None:
        """A parser that searches for a newline instead of using the length fails here."""
        xattrs = {b"trusted.a": value, b"trusted.b": b"2"}
        layers = [Layer().file(b"a", b"x", xattrs=xattrs).dir(b"d", xattrs=xattrs).link(b"l", b"a", xattrs=xattrs)]
        merged = judged([*layers, Layer().whiteout(b"a")], kernel=len(value) < 1000)
        assert merged[b"l"].xattrs == merged[b"d"].xattrs == set(xattrs.items())

    def test_acls_and_capabilities_and_unknown_records(self) -> None:
        records = {
            b"SCHILY.acl.access": b"user::rw-,user:5:r--,mask::r--,other::---",
            b"LIBARCHIVE.xattr.user.x": b"eA==",
            b"VENDOR.made-up": b"kept\0\n=kept",
            b"comment": b"c",
        }
        layer = Layer().file(b"a", b"x", records=records).dir(b"d", records=records).link(b"l", b"a")
        for prefix in (b"", b"./"):
            output = merge_tars(tars([layer, Layer().whiteout(b"a")], prefix=prefix))
            for name in ("l", "d"):
                kept = member(output, name).pax_headers
                assert {key.encode(): value.encode() for key, value in kept.items()} == records


class TestDialects:
    """v7, ustar, GNU and PAX, in any mixture in one stack."""

    @pytest.mark.parametrize(("older", "newer"), PAIRS, ids=lambda dialect: dialect.value)
    def test_every_ordered_pair(self, older: Dialect, newer: Dialect) -> None:
        base = Layer().dir(b"d", mode=0o700).file(b"d/a", b"old").file(b"d/b", b"b").link(b"l", b"d/a")
        base = base.symlink(b"s", b"d/b").file(b"gone").dir(b"q").file(b"q/x")
        top = Layer().file(b"d/a", b"new").whiteout(b"gone").opaque(b"q").link(b"m", b"d/b").dir(b"e")
        expected: dict[bytes, bytes | str] = {
            b"d": DIR,
            b"d/a": b"new",
            b"d/b": b"b",
            b"m": "= d/b",
            b"l": b"old",
            b"s": "-> d/b",
            b"q": DIR,
        }
        shows([base, top], {**expected, b"e": DIR}, dialect=(older, newer))
        shows([base, top], {**expected, b"e": DIR}, dialect=(older, newer), prefix=b"./")

    def test_all_in_one_layer(self) -> None:
        items = [Layer().file(dialect.value.encode(), b"x").tar(dialect, end=False) for dialect in Dialect]
        output = merge_tars([b"".join(items) + bytes(1024)])
        assert described(from_tar(output)) == {dialect.value.encode(): b"x" for dialect in Dialect}

    @pytest.mark.parametrize("dialect", [Dialect.GNU, Dialect.PAX])
    @pytest.mark.parametrize("prefix", [b"", b"./"])
    def test_long_names(self, dialect: Dialect, prefix: bytes) -> None:
        long, target = b"d/" + b"n" * 250, b"/" + b"t" * 300
        layer = Layer().dir(b"d").file(long, b"x").symlink(b"s", target).link(long + b"2", long)
        shows([layer], {b"d": DIR, long: b"x", b"s": "-> " + target.decode(), long + b"2": "= " + long.decode()},
              dialect=dialect, prefix=prefix)  # fmt: skip
        shows([layer, Layer().whiteout(long)], {b"d": DIR, b"s": "-> " + target.decode(), long + b"2": b"x"},
              dialect=dialect, prefix=prefix)  # fmt: skip

    def test_a_ustar_prefix(self) -> None:
        path = b"p" * 90 + b"/" + b"n" * 90
        for prefix in (b"", b"./"):
            shows([Layer().file(path, b"x")], {b"p" * 90: DIR, path: b"x"}, dialect=Dialect.USTAR, prefix=prefix)

    def test_latin1_names_beyond_a_header(self) -> None:
        """PAX values should be UTF-8; in real layers they are any bytes."""
        name = b"\xe9" * 150
        for prefix in (b"", b"./"):
            assert judged([Layer().file(name, b"x")], prefix=prefix)[name].content == b"x"

    def test_a_pax_record_is_stronger_than_a_gnu_name(self) -> None:
        long = Layer().file(b"g" * 120, b"x").tar(Dialect.GNU, end=False)[:1024]
        data = long + Layer().file(b"header", b"x", records={b"path": b"pax"}).tar()
        assert described(from_tar(merge_tars([data]))) == {b"pax": b"x"}

    def test_v7_says_directory_by_a_slash(self) -> None:
        spec = EntrySpec(Kind.FILE, b"d/", mode=0o700, typeflag=b"\0")
        for flag in (b"\0", b"0"):
            merged = from_tar(merge_tars([header_of(spec, flag)]))
            assert described(merged) == {b"d": DIR}
            assert merged[b"d"].mode == 0o700

    @pytest.mark.parametrize("dialect", Dialect)
    def test_signed_sums(self, dialect: Dialect) -> None:
        """Some old tars summed signed characters. Such a header is encoded anew, for strict readers."""
        data = Layer().file(b"\xe9t\xe9", b"x").file(b"b", b"y").tar(dialect)
        assert data[156:157] == b"x" * (dialect is Dialect.PAX) or data[156:157] in b"0\0"
        start = 1024 if dialect is Dialect.PAX else 0
        block = bytearray(data[start : start + 512])
        block[148:156] = b" " * 8
        signed = sum(byte - 256 * (byte > 127) for byte in block)
        block[148:156] = b"%06o\0 " % signed
        output = merge_tars([data[:start] + bytes(block) + data[start + 512 :]])
        assert described(from_tar(output)) == {b"\xe9t\xe9": b"x", b"b": b"y"}


class TestGlobals:
    """``g`` records apply to all entries that follow (POSIX, "pax Extended Header") and are folded into them."""

    def test_are_folded_into_what_they_cover(self) -> None:
        layer = Layer().file(b"before").globals({b"uid": b"7", b"VENDOR.k": b"v"}).file(b"a").dir(b"d")
        merged = judged([layer, Layer().file(b"other")])
        assert {path: node.uid for path, node in merged.items()} == {
            b"": 0,
            b"before": 0,
            b"a": 7,
            b"d": 7,
            b"other": 0,
        }
        output = merge_tars(tars([layer]))
        assert member(output, "a").pax_headers["VENDOR.k"] == "v"
        assert "VENDOR.k" not in member(output, "before").pax_headers
        assert b"PaxGlobals" not in output

    def test_own_records_are_stronger(self) -> None:
        layer = Layer().globals({b"mtime": b"5.5", b"uid": b"7"}).file(b"a", mtime=1_500_000_000).file(b"b")
        merged = judged([layer])
        assert (merged[b"a"].mtime_ns, merged[b"b"].mtime_ns) == (1_500_000_000, 5_500_000_000)

    def test_later_ones_are_added(self) -> None:
        layer = Layer().globals({b"uid": b"7"}).file(b"a").globals({b"gid": b"8", b"uid": b"9"}).file(b"b")
        merged = judged([layer])
        assert [(merged[p].uid, merged[p].gid) for p in (b"a", b"b")] == [(7, 0), (9, 8)]

    def test_an_empty_value_takes_one_back(self) -> None:
        layer = Layer().globals({b"uid": b"7"}).file(b"a").globals({b"uid": b""}).file(b"b")
        layer = layer.globals({b"gid": b"3"}).file(b"c", records={b"gid": b""})
        merged = from_tar(merge_tars(tars([layer])))
        assert [(merged[p].uid, merged[p].gid) for p in (b"a", b"b", b"c")] == [(7, 0), (0, 0), (0, 0)]

    def test_xattrs_in_globals(self) -> None:
        layer = Layer().globals({b"SCHILY.xattr.trusted.g": b"\0=\n"}).file(b"a").dir(b"d")
        merged = judged([layer])
        assert merged[b"a"].xattrs == merged[b"d"].xattrs == {(b"trusted.g", b"\0=\n")}

    def test_cover_promoted_links_and_waiting_files(self) -> None:
        layer = Layer().file(b"w/x", b"w").globals({b"uid": b"7"}).file(b"t", b"t").link(b"l", b"t").file(b"w/a", b"a")
        merged = judged([layer.dir(b"w"), Layer().file(b"t", b"new").link(b"k", b"t")])
        assert {p: merged[p].uid for p in (b"l", b"w/x", b"w/a", b"t")} == {b"l": 7, b"w/x": 0, b"w/a": 7, b"t": 0}

    @pytest.mark.parametrize("reopenable", [True, False])
    def test_between_an_extension_and_its_entry(self, reopenable: bool) -> None:
        """Regression: a retained entry was parsed again without the globals."""
        spec = Layer().file(b"d/a", b"x", records={b"VENDOR.k": b"v"}).tar(end=False)
        more = Layer().globals({b"VENDOR.g": b"g"}).globals({b"uid": b"7"}).tar(end=False)
        data = spec[:1024] + more + spec[1024:] + Layer().dir(b"d").tar()
        merged = from_tar(merge_tars([data], reopenable=reopenable))
        assert (merged[b"d/a"].uid, merged[b"d"].uid) == (7, 7)

    def test_of_over_64_kib_are_refused(self) -> None:
        layer = Layer().globals({b"VENDOR.k": b"x" * 65000}).file(b"a")
        assert described(from_tar(merge_tars(tars([layer])))) == {b"a": b""}
        with pytest.raises(FormatError, match="PAX globals of over 65536 bytes") as caught:
            merge_tars(tars([layer.globals({b"VENDOR.l": b"x" * 600}).file(b"b")]))
        assert caught.value.index == 0


class TestTypeFlags:
    @pytest.mark.parametrize("flag", [b"0", b"\0", b"7", b"Z", b"9", b"\xff"])
    def test_unknown_ones_are_regular_files(self, flag: bytes) -> None:
        """POSIX requires it of ``7``, if contiguous files are not supported, and of every unknown flag."""
        layer = Layer().entry(EntrySpec(Kind.FILE, b"a", data=b"x", typeflag=flag)).file(b"b")
        shows([layer], {b"a": b"x", b"b": b""})

    @pytest.mark.parametrize("dialect", EXPRESSIVE)
    def test_a_size_without_a_body(self, dialect: Dialect) -> None:
        """Some tars store the size from stat for directories and links; no body follows."""
        layer = Layer().dir(b"d", size=4096).file(b"t", b"x").link(b"l", b"t", size=1).symlink(b"s", b"t", size=1)
        layer = layer.char(b"c", 1, 3, size=512).block(b"b", 8, 1, size=9).fifo(b"p", size=7).file(b"z", b"z")
        data = layer.tar(dialect)
        merged = from_tar(merge_tars([data]))
        assert described(merged) == {
            b"d": DIR, b"l": b"x", b"t": "= l", b"s": "-> t", b"c": "char 1:3", b"b": "block 8:1", b"p": "fifo",
            b"z": b"z",
        }  # fmt: skip


CONTENT = b"".join(b"%d" % number * 600 + bytes(99_400) for number in range(9))
"""Nine pieces of data: more extents than fit into a header."""

SPARSE = {
    "old": ["--format=gnu"],
    "0.0": ["--format=pax", "--sparse-version=0.0"],
    "0.1": ["--format=pax", "--sparse-version=0.1"],
    "1.0": ["--format=pax", "--sparse-version=1.0"],
}


class TestSparseFiles:
    """GNU tar's four formats; maps are kept, nothing is expanded (GNU tar manual, "Storing Sparse Files").

    Regression: format 0.0 repeats its keys, and a layer with ``./`` names lost all but the last extent.
    """

    @pytest.fixture
    def archive(self, tmp_path: Path, need_tool: Callable[[str], str]) -> Callable[[str, str], bytes]:
        tar = need_tool("tar")
        with open(tmp_path / "f", "wb") as file:
            file.truncate(len(CONTENT))
            for start in range(0, len(CONTENT), 100_000):
                file.seek(start)
                file.write(CONTENT[start : start + 600])
        (tmp_path / "l").hardlink_to(tmp_path / "f")

        def made(version: str, prefix: str) -> bytes:
            command = [tar, "-S", *SPARSE[version], "-cf", "-", prefix + "f", prefix + "l"]
            return subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, check=True).stdout

        return made

    @pytest.mark.parametrize("version", SPARSE)
    @pytest.mark.parametrize("prefix", ["", "./"])
    @pytest.mark.parametrize("reopenable", [True, False])
    def test_are_kept(self, archive: Callable[[str, str], bytes], version: str, prefix: str, reopenable: bool) -> None:
        layer = archive(version, prefix)
        assert len(layer) < len(CONTENT)
        merged = merge_tars([layer], reopenable=reopenable)
        assert described(from_tar(merged)) == {b"f": content_of(CONTENT), b"l": "= f"}
        promoted = merge_tars([layer, Layer().file(b"f", b"new").tar()], reopenable=reopenable)
        assert described(from_tar(promoted)) == {b"f": b"new", b"l": content_of(CONTENT)}
        assert len(promoted) < len(CONTENT)

    @pytest.mark.parametrize("version", SPARSE)
    @pytest.mark.parametrize("prefix", ["", "./"])
    @pytest.mark.parametrize("tool", ["tar", "bsdtar"])
    def test_other_tools_read_them(
        self,
        archive: Callable[[str, str], bytes],
        tmp_path: Path,
        need_tool: Callable[[str], str],
        version: str,
        prefix: str,
        tool: str,
    ) -> None:
        out = tmp_path / "out"
        out.mkdir()
        promoted = merge_tars([archive(version, prefix), Layer().file(b"f", b"new").tar()])
        subprocess.run([need_tool(tool), "-xf", "-", "-C", str(out)], input=promoted, check=True)
        assert (out / "l").read_bytes() == CONTENT


class TestBadNumbers:
    @pytest.mark.parametrize("field", [100, 108, 116, 124, 136])
    def test_are_errors(self, field: int) -> None:
        data = bytearray(Layer().file(b"a").tar())
        data[field : field + 7] = b"12x4567"
        signed(data)
        with pytest.raises(FormatError, match="a number field holds") as caught:
            merge_tars([Layer().file(b"k").tar(), bytes(data)])
        assert (caught.value.path, caught.value.index, caught.value.offset) == (b"a", 1, 0)

    def test_a_negative_size(self) -> None:
        error = refused_size(b"\xff" * 12)
        assert "-1 bytes is out of range" in str(error)

    def test_an_absurd_size(self) -> None:
        error = refused_size(b"\x80" + b"\x7f" * 11)
        assert "bytes is out of range" in str(error)


def refused_size(field: bytes) -> FormatError:
    data = bytearray(Layer().file(b"a").tar())
    data[124:136] = field
    signed(data)
    with pytest.raises(FormatError) as caught:
        merge_tars([bytes(data)])
    return caught.value


def signed(data: bytearray) -> None:
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])


def header_of(spec: EntrySpec, flag: bytes) -> bytes:
    data = bytearray(Layer().entry(spec).tar(Dialect.V7))
    data[156:157] = flag
    signed(data)
    return bytes(data)


def test_nothing_of_this_is_refused_by_mistake() -> None:
    refused([Layer().entry(EntrySpec(Kind.SYMLINK, b"s"))], "symlink is empty", error=FormatError)
