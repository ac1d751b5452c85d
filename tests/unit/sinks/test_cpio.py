"""The cpio archive: its headers, its sink, its compression; the kernel's rules for each."""

from __future__ import annotations

import io
import lzma
from collections.abc import Sequence

import pytest

from streamerge import CpioSink, Options, SinkError, merge, open_cpio
from streamerge.codecs import Codec
from streamerge.codecs.initramfs import cpio_codec, encode_initramfs
from streamerge.entry import Entry, Kind
from streamerge.sinks.cpio.header import MAX_BODY, Inode, end_of_archive, newc_header, padding
from streamerge.sinks.output import CompressedOutput
from streamerge.tar.encode import implicit_directory
from tests.support.layers import SECOND, Dialect, Layer
from tests.support.merged import BytesLayer, BytesOutput
from tests.support.merged import options as merged_options
from tests.support.strict_cpio import members, tree_of

PLAIN = Inode(1, 0o100644, 0, 0, 1, 0)


def archive(layers: Sequence[Layer], *, options: Options | None = None, warnings: list[str] | None = None) -> bytes:
    output = BytesOutput()
    said = warnings if warnings is not None else []
    merge([BytesLayer(layer.tar()) for layer in layers], CpioSink(output, warn=said.append), options)
    assert output.data is not None
    return output.data


# --- headers -------------------------------------------------------------------------------------


def test_a_header_is_the_documents_own_example() -> None:
    """buffer-format.rst: 070701, then 13 fields of 8 digits, the name with its NUL, padded to four bytes."""
    header = newc_header(b"etc/rc", Inode(0xAB, 0o100755, 1, 2, 3, 4, (5, 6)), 7)
    assert header == (
        b"070701000000AB000081ED00000001000000020000000300000004000000070000000000000000"
        b"00000005000000060000000700000000".lower()
        + b"etc/rc\0\0\0\0"
    )


@pytest.mark.parametrize("length", range(1, 9))
def test_name_and_body_begin_at_multiples_of_four(length: int) -> None:
    assert len(newc_header(b"n" * length, PLAIN, 0)) % 4 == 0
    assert (length + len(padding(length))) % 4 == 0


def test_the_root_is_a_dot() -> None:
    assert newc_header(b"", PLAIN, 0)[110:].rstrip(b"\0") == b"."


@pytest.mark.parametrize(("mtime", "held"), [(-1, 0), (2**32, 2**32 - 1), (5, 5)])
def test_a_time_that_32_bits_cannot_hold(mtime: int, held: int) -> None:
    assert int(newc_header(b"a", Inode(1, 0, 0, 0, 1, mtime), 0)[46:54], 16) == held


def test_what_cannot_be_in_an_archive() -> None:
    newc_header(b"a", PLAIN, MAX_BODY)
    newc_header(b"a" * 4095, PLAIN, 0)
    newc_header(b"a/TRAILER!!!", PLAIN, 0)
    with pytest.raises(SinkError, match="4,294,967,296 bytes"):
        newc_header(b"a", PLAIN, MAX_BODY + 1)
    with pytest.raises(SinkError, match="4096 bytes"):
        newc_header(b"a" * 4096, PLAIN, 0)
    with pytest.raises(SinkError, match="would end the cpio archive"):
        newc_header(b"TRAILER!!!", PLAIN, 0)


@pytest.mark.parametrize("size", [0, 4, 388, 392, 512])
def test_the_end_fills_a_block(size: int) -> None:
    end = end_of_archive(size)
    assert (size + len(end)) % 512 == 0
    assert end[110:].rstrip(b"\0") == b"TRAILER!!!"


# --- the sink ------------------------------------------------------------------------------------


def test_all_kinds_come_through() -> None:
    layer = (
        Layer()
        .dir(b"", mode=0o711, uid=5, mtime=9 * SECOND)
        .dir(b"d", mode=0o1777)
        .file(b"d/f", b"data", mode=0o4755, uid=4294967294 - 1, gid=3_000_000_000, mtime=7 * SECOND)
        .symlink(b"s", b"/d/f")
        .char(b"c", 1, 3)
        .block(b"b", 254, 70000)
        .fifo(b"p")
    )
    shown = tree_of(archive([layer]))
    assert (shown[b""].mode, shown[b""].uid, shown[b""].mtime_ns) == (0o711, 5, 9 * SECOND)
    assert (shown[b"d/f"].mode, shown[b"d/f"].uid, shown[b"d/f"].gid) == (0o4755, 4294967293, 3_000_000_000)
    assert (shown[b"c"].device, shown[b"b"].device) == ((1, 3), (254, 70000))
    assert shown[b"s"].target == b"/d/f"
    assert shown[b"d"].mode == 0o1777


def test_the_first_name_has_the_body_and_all_have_the_count() -> None:
    """A count over one is what makes Linux remember a number; wrong ones make bsdtar forget it too early."""
    layer = Layer().file(b"a", b"body").link(b"b", b"a").link(b"c", b"b").file(b"alone", b"x")
    found = {member.name: member for member in members(io.BytesIO(archive([layer])))}
    assert [found[name].links for name in (b"a", b"b", b"c", b"alone")] == [3, 3, 3, 1]
    assert [found[name].body for name in (b"a", b"b", b"c")] == [b"body", b"", b""]
    assert len({found[name].number for name in (b"a", b"b", b"c")}) == 1


def test_a_promoted_link() -> None:
    layers = [
        Layer().file(b"a", b"old", uid=7).link(b"b", b"a").link(b"c", b"a"),
        Layer().file(b"a", b"new"),
    ]
    shown = tree_of(archive(layers))
    assert (shown[b"a"].content, shown[b"b"].content, shown[b"b"].uid) == (b"new", b"old", 7)
    assert shown[b"b"].group == shown[b"c"].group == b"b"


def test_links_of_devices_are_links_and_of_symlinks_are_copies() -> None:
    """Linux and GNU cpio link devices by number; symlinks they only make, so that each needs its target."""
    warnings: list[str] = []
    layer = Layer().char(b"c", 1, 3).link(b"c2", b"c").symlink(b"s", b"target").link(b"s2", b"s")
    shown = tree_of(archive([layer], warnings=warnings))
    assert shown[b"c2"].group == b"c"
    assert (shown[b"s2"].target, shown[b"s2"].group) == (b"target", b"s2")
    assert warnings == ["hard links to symlinks: 1 lost; cpio cannot store them"]


def test_what_is_lost_is_told() -> None:
    warnings: list[str] = []
    layer = (
        Layer()
        .file(b"a", xattrs={b"user.x": b"1", b"trusted.y": b"2"}, mtime=SECOND // 2)
        .file(b"b", xattrs={b"security.capability": b"1"}, mtime=-SECOND)
        .file(b"c", records={b"SCHILY.acl.access": b"user::rwx,user:nameonly:r--"})
        .file(b"d", mtime=2**33 * SECOND)
    )
    archive([layer], warnings=warnings)
    assert warnings == [
        "POSIX ACLs: 1 lost; cpio cannot store them",
        "fractions of seconds: 1 lost; cpio cannot store them",
        "security.capability: 1 lost; cpio cannot store them",
        "times out of range: 2 lost; cpio cannot store them",
        "trusted.*: 1 lost; cpio cannot store them",
        "user.*: 1 lost; cpio cannot store them",
    ]


def test_holes_are_written_out() -> None:
    records = {
        b"GNU.sparse.major": b"0",
        b"GNU.sparse.minor": b"1",
        b"GNU.sparse.name": b"s",
        b"GNU.sparse.size": b"200000",
        b"GNU.sparse.map": b"0,3,100000,3,200000,0",
    }
    layer = Layer().file(b"GNUSparseFile.0/s", b"onetwo", records=records)
    [_, member] = sorted(members(io.BytesIO(archive([layer]))), key=lambda member: member.name)
    assert member.body == b"one".ljust(100000, b"\0") + b"two".ljust(100000, b"\0")


def test_a_path_that_a_layer_repeats() -> None:
    layer = Layer().file(b"a", b"first").file(b"b").file(b"a", b"last")
    assert tree_of(archive([layer]))[b"a"].content == b"last"


def test_links_of_a_layer_that_repeats_a_path() -> None:
    """Found by tests/property/test_cpio.py: the first one_pass met a link that the layers' final course had not."""
    layer = Layer().file(b"t", b"x").link(b"a", b"t").file(b"a", b"last").file(b"b").file(b"b")
    shown = tree_of(archive([layer]))
    assert (shown[b"a"].content, shown[b"t"].content) == (b"last", b"x")


@pytest.mark.parametrize(
    "layer",
    [
        Layer().dir(b"a/b").file(b"a/b/f", b"f").dir(b"a").symlink(b"a/s", b"t").file(b"a/g"),
        Layer().file(b"a/b/c/f", b"f").dir(b"a/b/c").dir(b"a/b").dir(b"a").dir(b"a/b/d").whiteout(b"a/x"),
        Layer().dir(b"a").symlink(b"a/1", b"x").dir(b"a/2").symlink(b"a/2/3", b"x").file(b"a/2/4", b"4"),
    ],
)
def test_runs_and_single_entries_are_the_same(layer: Layer) -> None:
    stack = [Layer().dir(b"a").file(b"a/old", b"o"), layer]
    assert archive(stack) == archive(stack, options=merged_options(plain=True))


def test_a_child_before_its_directory_waits() -> None:
    """Also where the hot loop gives files away one by one."""
    layer = Layer().dir(b"e").file(b"d/a", b"x").file(b"d/b", b"y").dir(b"d", mode=0o700).file(b"d/c")
    assert tree_of(archive([layer]))[b"d"].mode == 0o700


@pytest.mark.parametrize("name", [b"TRAILER!!!", b"/".join([b"n" * 250] * 16 + [b"n" * 80])])
def test_errors_name_the_path(name: bytes) -> None:
    sink = CpioSink(BytesOutput())
    with pytest.raises(SinkError) as caught:
        sink.add(implicit_directory(name, 0), ())
    assert caught.value.path == name


def test_a_body_of_4_gib_is_an_error() -> None:
    entry = Entry(b"large", Kind.FILE, size=1 << 32, header=implicit_directory(b"", 0).header)
    with pytest.raises(SinkError, match="a cpio archive can hold"):
        CpioSink(BytesOutput()).add(entry, ())


def test_a_symlink_that_linux_would_skip_is_an_error() -> None:
    with pytest.raises(SinkError, match="4096 bytes"):
        archive([Layer().symlink(b"s", b"t" * 4096)])


def test_a_link_that_was_not_foreseen_is_an_error() -> None:
    link = Entry(b"b", Kind.HARDLINK, target=b"a", header=implicit_directory(b"", 0).header)
    with pytest.raises(SinkError, match="was not there in the first pass"):
        CpioSink(BytesOutput()).add(link, ())


def test_a_failed_merge_has_no_trailer() -> None:
    output = BytesOutput()
    cut = Layer().dir(b"d").file(b"d/f", b"x" * 5000).tar()[:2000]
    with pytest.raises(Exception, match="truncated"):
        merge([BytesLayer(cut)], CpioSink(output))
    assert output.discarded
    assert b"TRAILER" not in output.written


# --- compression ---------------------------------------------------------------------------------


def test_suffixes() -> None:
    names = ["a.cpio", "a.cpio.gz", "a.CPIO.ZST", "a.cpio.lz4", "a.cpio.xz", "initrd.img"]
    codecs = [Codec.NONE, Codec.GZIP, Codec.ZSTD, Codec.LZ4, Codec.XZ, Codec.NONE]
    assert [cpio_codec(name) for name in names] == codecs


def legacy_blocks(data: bytes) -> list[int]:
    """Packed sizes of the blocks of lz4's legacy format."""
    assert data[:4] == (0x184C2102).to_bytes(4, "little")
    sizes, at = [], 4
    while at < len(data):
        sizes.append(int.from_bytes(data[at : at + 4], "little"))
        at += 4 + sizes[-1]
    assert at == len(data)
    return sizes


@pytest.mark.parametrize("level", [None, -5, 0, 3, 9])
def test_lz4_is_the_legacy_format_in_blocks_of_8_mib(level: int | None) -> None:
    """lib/decompress_unlz4.c takes no other. The same data gives the same bytes, however it is cut."""
    data = bytes(range(256)) * 70_000  # two whole blocks and a bit
    encoder = encode_initramfs(Codec.LZ4, level)
    packed = encoder.write(data[:5]) + encoder.write(memoryview(data)[5:]) + encoder.finish()
    assert len(legacy_blocks(packed)) == 3
    encoder = encode_initramfs(Codec.LZ4, level)
    assert encoder.write(data) + encoder.finish() == packed


def test_lz4_of_whole_blocks_and_of_nothing() -> None:
    encoder = encode_initramfs(Codec.LZ4)
    assert len(legacy_blocks(encoder.write(bytes(16 << 20)) + encoder.finish())) == 2
    assert legacy_blocks(encode_initramfs(Codec.LZ4).finish()) == []


def test_xz_has_the_one_checksum_that_the_kernel_knows() -> None:
    encoder = encode_initramfs(Codec.XZ, 1)
    packed = encoder.write(b"data") + encoder.finish()
    assert packed[7] == lzma.CHECK_CRC32
    assert lzma.decompress(packed) == b"data"


def test_levels(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("levels")
    with pytest.raises(ValueError, match="level 10"):
        open_cpio(str(directory / "a.cpio.gz"), level=10)
    with pytest.raises(ValueError, match="compressed archives"):
        open_cpio(str(directory / "a.cpio"), level=1)
    assert not list(directory.iterdir())


def test_a_restart_begins_a_new_stream() -> None:
    output = BytesOutput()
    sink = CpioSink(CompressedOutput(output, lambda: encode_initramfs(Codec.XZ)))
    sink.add(implicit_directory(b"a", 0), ())
    sink.restart()
    sink.add(implicit_directory(b"b", 0), ())
    sink.finish()
    assert output.data is not None
    assert set(tree_of(lzma.decompress(output.data))) == {b"b"}


def test_other_dialects_of_tar() -> None:
    for dialect in (Dialect.GNU, Dialect.USTAR, Dialect.V7):
        output = BytesOutput()
        layer = Layer().dir(b"d").file(b"d/f", b"x", mtime=5 * SECOND)
        merge([BytesLayer(layer.tar(dialect))], CpioSink(output))
        assert output.data is not None
        assert tree_of(output.data)[b"d/f"].mtime_ns == 5 * SECOND
