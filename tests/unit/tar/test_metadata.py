"""Owner, mode, times, devices and xattrs of an entry, from header and PAX records."""

from __future__ import annotations

import pytest

from streamerge.entry import Entry
from streamerge.errors import FormatError
from streamerge.streams import ChunkStream
from streamerge.tar.metadata import Metadata, metadata, parse_time, xattrs
from streamerge.tar.reader import TarReader
from tests.support.layers import SECOND, Dialect, Layer

BIG = 4294967294


def entry(layer: Layer, dialect: Dialect = Dialect.PAX) -> Entry:
    """The first entry of a layer."""
    found = TarReader(ChunkStream([layer.tar(dialect)])).next_entry()
    assert found is not None
    return found


def test_plain() -> None:
    found = metadata(entry(Layer().file(b"f", mode=0o4755, uid=1, gid=2, mtime=3 * SECOND)))
    assert found == Metadata(0o4755, 1, 2, 3 * SECOND, xattrs={})


def test_type_bits_of_a_mode_are_cut_off() -> None:
    assert metadata(entry(Layer().file(b"f", mode=0o100644))).mode == 0o644
    assert metadata(entry(Layer().dir(b"d", mode=0o43777))).mode == 0o3777


@pytest.mark.parametrize("dialect", [Dialect.PAX, Dialect.GNU])
@pytest.mark.parametrize("number", [0, 2097151, 2097152, BIG])
def test_owners(dialect: Dialect, number: int) -> None:
    found = metadata(entry(Layer().file(b"f", uid=number, gid=number), dialect))
    assert (found.uid, found.gid) == (number, number)


@pytest.mark.parametrize("dialect", [Dialect.PAX, Dialect.GNU])
@pytest.mark.parametrize("owner", [(BIG + 1, 0), (0, BIG + 1), (1 << 40, 0)])
def test_owners_out_of_range(dialect: Dialect, owner: tuple[int, int]) -> None:
    """2**32 - 1 tells chown(2) to leave an owner as it is."""
    with pytest.raises(FormatError, match=r"^d/f: owner .* is out of range"):
        metadata(entry(Layer().file(b"d/f", uid=owner[0], gid=owner[1]), dialect))


@pytest.mark.parametrize("key", [b"uid", b"gid"])
def test_negative_owners(key: bytes) -> None:
    with pytest.raises(FormatError, match="is out of range"):
        metadata(entry(Layer().file(b"f", records={key: b"-1"})))


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        (b"0", 0),
        (b"1", SECOND),
        (b"1.", SECOND),
        (b"1.5", 1_500_000_000),
        (b"-1.5", -1_500_000_000),
        (b"-0.000000001", -1),
        (b"0.1234567899", 123_456_789),
        (b"9000000000.000000001", 9_000_000_000_000_000_001),
        (b"1700000000.25", 1_700_000_000_250_000_000),
    ],
)
def test_times(text: bytes, nanoseconds: int) -> None:
    assert parse_time(text) == nanoseconds
    assert metadata(entry(Layer().file(b"f", records={b"mtime": text}))).mtime == nanoseconds


@pytest.mark.parametrize("dialect", [Dialect.PAX, Dialect.GNU])
def test_times_before_1970(dialect: Dialect) -> None:
    assert metadata(entry(Layer().file(b"f", mtime=-7 * SECOND), dialect)).mtime == -7 * SECOND


def test_devices() -> None:
    assert metadata(entry(Layer().char(b"c", 4095, 70000))).device == (4095, 70000)
    assert metadata(entry(Layer().block(b"c", 5_000_000, 7), Dialect.GNU)).device == (5_000_000, 7)
    star = {b"SCHILY.devmajor": b"4294967295", b"SCHILY.devminor": b"0"}
    assert metadata(entry(Layer().char(b"c", 1, 3, records=star))).device == (4294967295, 0)


def test_only_devices_have_numbers() -> None:
    assert metadata(entry(Layer().fifo(b"p", records={b"SCHILY.devmajor": b"nonsense"}))).device == (0, 0)


@pytest.mark.parametrize("number", [b"4294967296", b"-1", b"", b"x", b" 1", b"1_0", b"9" * 5000])
@pytest.mark.parametrize("key", [b"SCHILY.devmajor", b"SCHILY.devminor"])
def test_invalid_devices(key: bytes, number: bytes) -> None:
    with pytest.raises(FormatError, match=r"^c: "):
        metadata(entry(Layer().char(b"c", 1, 3, records={key: number})))


def test_xattrs_are_bytes() -> None:
    odd = {b"user.a": b"\0\n=", b"user.empty": b"", b"user.\xff": b"1", b"user.a=b": b"2"}
    found = xattrs({b"SCHILY.xattr." + key: value for key, value in odd.items()})
    assert found == odd


def test_xattrs_of_libarchive() -> None:
    """Base64 without padding, names percent-encoded (libarchive's tar(5))."""
    records = {
        b"LIBARCHIVE.xattr.user.a%3D%25": b"AAE",
        b"LIBARCHIVE.xattr.user.b": b"",
        b"LIBARCHIVE.creationtime": b"1",
    }
    assert xattrs(records) == {b"user.a=%": b"\0\x01", b"user.b": b""}


@pytest.mark.parametrize("order", [1, -1])
def test_raw_bytes_win(order: int) -> None:
    records = [(b"LIBARCHIVE.xattr.user.a", b"bGli"), (b"SCHILY.xattr.user.a", b"raw")]
    assert xattrs(dict(records[::order])) == {b"user.a": b"raw"}
    acl = b"SCHILY.xattr.system.posix_acl_access"
    assert xattrs({acl: b"raw", b"SCHILY.acl.access": b"user::rwx"}) == {b"system.posix_acl_access": b"raw"}


def test_acls_are_xattrs() -> None:
    assert set(xattrs({b"SCHILY.acl.access": b"user::rwx", b"SCHILY.acl.default": b"user::rwx"})) == {
        b"system.posix_acl_access",
        b"system.posix_acl_default",
    }


@pytest.mark.parametrize(
    "record",
    [
        (b"SCHILY.xattr.", b"x"),
        (b"SCHILY.xattr.user.a\0b", b"x"),
        (b"LIBARCHIVE.xattr.user.a%00b", b"eA"),
        (b"LIBARCHIVE.xattr.user.a", b"!"),
        (b"LIBARCHIVE.xattr.user.a", b"A"),
        (b"SCHILY.acl.access", b"nonsense"),
    ],
)
def test_invalid_xattrs(record: tuple[bytes, bytes]) -> None:
    """An error only if xattrs are parsed: a tar copies them unread, and --no-xattrs leaves them out."""
    one = entry(Layer().file(b"d/f", records=dict([record])))
    with pytest.raises(FormatError, match=r"^d/f: "):
        metadata(one)
    assert not metadata(one, with_xattrs=False).xattrs
