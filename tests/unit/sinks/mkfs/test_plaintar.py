"""Entries made plain for the tools, losses counted, and the size of a merged tree."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamerge import SinkError, merge
from streamerge.entry import Entry
from streamerge.errors import FormatError
from streamerge.sinks.losses import Capabilities, LossReport
from streamerge.sinks.mkfs.erofs import EROFS_TAR
from streamerge.sinks.mkfs.ext4 import EXT4_TAR
from streamerge.sinks.mkfs.plaintar import link_to, plain_entry, whole_file
from streamerge.sinks.mkfs.squashfs import OLD_SQUASHFS_TOOLS, SQUASHFS, SQUASHFS_TOOLS
from streamerge.sinks.treesize import FS_BLOCK, TreeSize
from streamerge.streams import ChunkStream
from streamerge.tar.encode import raw
from streamerge.tar.metadata import metadata
from streamerge.tar.reader import TarReader
from tests.support.layers import SECOND, Dialect, Layer
from tests.support.merged import BytesLayer

ACL = b"user::rw-,user:lisa:r--:1000,group::r--,mask::r--,other::---"


def only(layer: Layer, dialect: Dialect = Dialect.PAX) -> Entry:
    entry = TarReader(ChunkStream([layer.tar(dialect)])).next_entry()
    assert entry is not None
    return entry


def again(entry: Entry) -> Entry:
    """The entry as its written headers say it."""
    return only_raw(raw(entry))


def only_raw(data: bytes) -> Entry:
    entry = TarReader(ChunkStream([data])).next_entry()
    assert entry is not None
    return entry


# --- plain entries -------------------------------------------------------------------------------


def test_a_plain_entry_is_left_alone() -> None:
    entry = only(Layer().file(b"a", b"x", mtime=5 * SECOND))
    assert plain_entry(entry, SQUASHFS) is entry


@pytest.mark.parametrize("dialect", [Dialect.PAX, Dialect.GNU])
@pytest.mark.parametrize(
    ("capabilities", "given", "held"),
    [
        (SQUASHFS, -5, 0),
        (SQUASHFS, 1 << 33, (1 << 32) - 1),
        (EXT4_TAR, -5, -5),
        (EXT4_TAR, -(1 << 40), -(1 << 31)),
        (EXT4_TAR, 1 << 33, (1 << 31) - 1),
        (EROFS_TAR, -5, -5),
    ],
)
def test_times_are_as_near_as_can_be(dialect: Dialect, capabilities: Capabilities, given: int, held: int) -> None:
    """sqfstar 4.5 stops at a time before 1970."""
    entry = only(Layer().file(b"a", mtime=given * SECOND), dialect)
    assert metadata(again(plain_entry(entry, capabilities))).mtime == held * SECOND


def test_late_times_in_plain_octal() -> None:
    """The hot loop gives such files away without an Entry; the sinks must look at the first digit."""
    entry = only(Layer().file(b"a", mtime=(1 << 32) * SECOND))
    assert LossReport(EXT4_TAR).must_check(b"a", 0, entry.header)
    assert not LossReport(EXT4_TAR).must_check(b"a", 0, only(Layer().file(b"a", mtime=((1 << 31) - 1) * SECOND)).header)
    assert lost(EXT4_TAR, Layer().file(b"a", mtime=(1 << 32) * SECOND)) == ["times out of range: 1"]
    assert metadata(again(plain_entry(entry, EXT4_TAR))).mtime == ((1 << 31) - 1) * SECOND


def test_fractions_stay_where_they_can() -> None:
    entry = only(Layer().file(b"a", mtime=SECOND + SECOND // 4))
    assert metadata(again(plain_entry(entry, EROFS_TAR))).mtime == SECOND + SECOND // 4
    assert metadata(again(plain_entry(entry, SQUASHFS))).mtime == SECOND


def test_records_that_tools_do_not_know_are_dropped() -> None:
    records = {b"comment": b"x", b"SCHILY.acl.access": ACL, b"hdrcharset": b"BINARY", b"LIBARCHIVE.xattr.user.b": b"eA"}
    entry = only(Layer().file(b"a", xattrs={b"user.a": b"1\n2"}, uid=3_000_000_000, records=records))
    plain = again(plain_entry(entry, SQUASHFS))
    assert plain.records.keys() == {b"uid", b"SCHILY.xattr.user.a", b"SCHILY.xattr.user.b"}
    assert metadata(plain).xattrs == {b"user.a": b"1\n2", b"user.b": b"x"}


def test_acls_become_what_the_kernel_has() -> None:
    """mkfs.erofs takes ACLs as xattrs, not in star's text."""
    entry = only(Layer().file(b"a", records={b"SCHILY.acl.access": ACL}))
    expected = metadata(entry).xattrs
    assert metadata(again(plain_entry(entry, EROFS_TAR))).xattrs == expected
    assert again(plain_entry(entry, SQUASHFS)).records == {}


def test_an_acl_of_names_is_an_error_only_where_it_is_kept() -> None:
    entry = only(Layer().file(b"a", records={b"SCHILY.acl.access": b"user:lisa:r--"}))
    plain_entry(entry, SQUASHFS)
    with pytest.raises(FormatError):
        plain_entry(entry, EROFS_TAR)


def test_long_names_in_gnu_headers() -> None:
    """libarchive, and so mke2fs, stops at a PAX name that the locale cannot spell."""
    name = b"caf\xe9/" + b"n" * 200
    entry = only(Layer().file(name, b"x", uid=5))
    plain = plain_entry(entry, EXT4_TAR)
    assert again(plain).path == name
    assert b"path" not in again(plain).records
    assert raw(plain)[156:157] == b"L"


def test_a_ustar_prefix_does_not_stay_behind() -> None:
    name = b"p" * 90 + b"/" + b"n" * 90
    entry = only(Layer().file(name, mtime=(1 << 32) * SECOND), Dialect.USTAR)
    assert entry.header[345]
    plain = plain_entry(entry, EXT4_TAR)
    assert again(plain).path == name
    assert plain.header[345:500] == bytes(155)  # where GNU's header has other times


def test_symlinks_have_the_mode_that_linux_shows() -> None:
    entry = only(Layer().symlink(b"s", b"t", mode=0o644))
    assert metadata(again(plain_entry(entry, EXT4_TAR))).mode == 0o777


def test_a_link_says_what_its_file_says() -> None:
    """mke2fs takes a file's owner, mode and time from the last name of it."""
    file = only(Layer().file(b"a", b"x", mode=0o104711, uid=3_000_000_000, mtime=7 * SECOND))
    link = only(Layer().link(b"b", b"a", mode=0o600, uid=9, mtime=5 * SECOND))
    said = metadata(again(link_to(file, link)))
    assert link_to(file, link).header[100:108] == b"0004711\0"  # with a file's type in it mke2fs makes an empty file
    assert (said.mode, said.uid, said.mtime) == (0o4711, 3_000_000_000, 7 * SECOND)
    found = again(link_to(file, link))
    assert (found.kind, found.path, found.target, found.size) == (link.kind, b"b", b"a", 0)


def test_a_sparse_file_made_whole() -> None:
    """mkfs.erofs 1.9 takes the data of a sparse file for all of it."""
    records = {b"GNU.sparse.name": b"s", b"GNU.sparse.size": b"100000", b"GNU.sparse.map": b"5,3,99999,1"}
    entry = only(Layer().file(b"x/s", b"abcd", records=records))
    plain, body = whole_file(entry, [b"ab", b"cd"])
    data = b"".join(map(bytes, body))
    assert data == b"\0" * 5 + b"abc" + b"\0" * 99991 + b"d"
    found = again(plain)
    assert (found.path, found.size, set(found.records)) == (b"s", 100000, {b"size"})


# --- losses --------------------------------------------------------------------------------------


def lost(capabilities: Capabilities, *layers: Layer) -> list[str]:
    losses = LossReport(capabilities)
    for layer in layers:
        losses.note(only(layer))
    said: list[str] = []
    losses.report(said.append)
    return [line.split(" lost;")[0] for line in said]


def test_each_way_loses_what_it_does_not_keep() -> None:
    everything = Layer().file(
        b"a",
        mtime=SECOND // 2,
        xattrs={b"user.a": b"", b"trusted.a": b"", b"security.a": b"", b"odd": b""},
        records={b"SCHILY.acl.access": ACL, b"SCHILY.xattr.security.capability": b"x"},
    )
    assert lost(EROFS_TAR, everything) == ["other attributes: 1"]
    assert lost(SQUASHFS, everything) == ["POSIX ACLs: 1", "fractions of seconds: 1", "other attributes: 1"]
    assert lost(EXT4_TAR, everything) == [
        "POSIX ACLs: 1",
        "fractions of seconds: 1",
        "other attributes: 1",
        "security.*: 1",
        "trusted.*: 1",
        "user.*: 1",
    ]


def test_what_the_root_loses() -> None:
    root = Layer().dir(b"", xattrs={b"user.a": b""})
    assert lost(SQUASHFS, root) == []
    assert lost(SQUASHFS_TOOLS, root) == ["user.* of the root directory: 1"]
    assert lost(OLD_SQUASHFS_TOOLS, Layer().dir(b"")) == ["owner and time of the root directory: 1"]


def test_names_that_old_tools_cut_short_or_leave_out() -> None:
    """mkfs.erofs: names of 255 bytes lost one before 1.8.5, and files named lost+found were skipped before 1.6."""
    old = replace(EROFS_TAR, longest_name=254, lost_and_found=False)
    header = only(Layer().file(b"a")).header
    assert not LossReport(old).must_check(b"d/" + b"n" * 254, 2, header)
    assert LossReport(old).must_check(b"d/" + b"n" * 255, 2, header)
    assert LossReport(old).must_check(b"d/lost+found2", 2, header)
    assert not LossReport(EROFS_TAR).must_check(b"d/" + b"n" * 255, 2, header)
    assert not LossReport(EROFS_TAR).must_check(b"d/lost+found2", 2, header)
    assert lost(old, Layer().dir(b"d/lost+found")) == ["names like lost+found: 1"]
    with pytest.raises(SinkError, match="the name has 255 bytes"):
        lost(old, Layer().file(b"n" * 255))


# --- the size of a tree ----------------------------------------------------------------------------


def counted(*layers: Layer) -> TreeSize:
    tree_size = TreeSize()
    merge([BytesLayer(layer.tar()) for layer in layers], tree_size)
    return tree_size


def test_what_takes_blocks() -> None:
    assert counted(Layer()).blocks == 0
    assert counted(Layer().file(b"a", b"")).blocks == 0
    assert counted(Layer().file(b"a", b"x" * FS_BLOCK)).blocks == 1
    assert counted(Layer().file(b"a", b"x" * (FS_BLOCK + 1))).blocks == 2
    assert counted(Layer().symlink(b"a", b"x" * 59)).blocks == 0
    assert counted(Layer().symlink(b"a", b"x" * 60)).blocks == 1
    assert counted(Layer().file(b"a", xattrs={b"user.a": b"x"})).blocks == 1
    assert counted(Layer().file(b"a", b"x").link(b"b", b"a")).blocks == 1


def test_what_takes_inodes() -> None:
    layer = Layer().dir(b"d").file(b"d/a").link(b"d/b", b"d/a").symlink(b"s", b"d").char(b"c", 1, 3)
    assert counted(layer).inodes == 5  # the root counts, a second name does not


def test_further_names_of_symlinks_may_take_inodes() -> None:
    """mke2fs makes each name of a symlink in a directory a symlink of its own."""
    layer = Layer().symlink(b"a", b"t").link(b"b", b"a").link(b"c", b"b").file(b"d").link(b"e", b"d")
    tree_size = TreeSize(splits_symlinks=True)
    merge([BytesLayer(layer.tar())], tree_size)
    assert tree_size.inodes == counted(layer).inodes + 2


def test_directories_grow_with_their_names() -> None:
    few = counted(Layer().dir(b"d").file(b"d/a"))
    many = Layer().dir(b"d")
    for number in range(300):
        many = many.file(b"d/" + b"%0255d" % number)
    assert few.directory_blocks == 2
    assert counted(many).directory_blocks >= 1 + -(-300 * (255 + 8) // FS_BLOCK)


def test_names_of_one_file() -> None:
    layer = Layer().file(b"a", b"x").link(b"b", b"a").link(b"c", b"b").file(b"d")
    links = counted(layer).links
    assert links.names == {b"a": 3}
    assert [links.first(path) for path in (b"a", b"b", b"c", b"d")] == [b"a", b"a", b"a", b"d"]


def test_what_is_hidden_does_not_count() -> None:
    base = Layer().dir(b"d").file(b"d/a", b"x" * FS_BLOCK * 10)
    assert counted(base, Layer().whiteout(b"d/a")).blocks == 0
