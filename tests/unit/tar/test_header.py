"""Headers and records: numbers, sums, names, sizes, and which of them are refused."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamerge.entry import Entry, Kind
from streamerge.errors import FormatError, UnsafePathError
from streamerge.tar.header import (
    BLOCK,
    ExpectedSums,
    Extras,
    check_numbers,
    effective_records,
    has_plain_sum,
    has_valid_sum,
    padded,
    parse_entry,
    parse_number,
    parse_records,
    signed_sum,
    stored_sum,
    unsigned_sum,
)
from tests.support.layers import Dialect, EntrySpec, Layer, header, pax_body
from tests.support.layers import Kind as SpecKind

SPEC = EntrySpec(SpecKind.FILE, b"a")


def block(**fields: bytes) -> bytes:
    """A header with a right sum; ``fields`` are written byte for byte: ``size=b"..."``."""
    return block_of(SPEC, Dialect.USTAR, **fields)


def block_of(spec: EntrySpec, dialect: Dialect, **fields: bytes) -> bytes:
    starts = {"mode": 100, "uid": 108, "gid": 116, "size": 124, "mtime": 136, "flag": 156, "target": 157,
              "magic": 257, "major": 329, "minor": 337, "prefix": 345, "name": 0}  # fmt: skip
    data = bytearray(header(spec, dialect, spec.path, spec.target))
    for name, value in fields.items():
        data[starts[name] : starts[name] + len(value)] = value
    return summed(data)


def summed(data: bytes | bytearray) -> bytes:
    data = bytearray(data)
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


class TestParseNumber:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            (b"0000644\0", 0o644),
            (b"000644 \0", 0o644),
            (b" 644   \0", 0o644),
            (b"   644 \0", 0o644),
            (b"00000644", 0o644),
            (b"644\0\0\0\0\0", 0o644),
            (b"644\0junk", 0o644),
            (b"644 9999", 0o644),
            (b"\0\0\0\0\0\0\0\0", 0),
            (b"        ", 0),
            (b"\0000644\0\0", 0o644),
            (b"77777777", 0o77777777),
            (b"\x80\0\0\0\0\0\0\1", 1),
            (b"\x80\0\0\0\1\0\0\0", 1 << 24),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", -1),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
            (b"\x80" + b"\xff" * 11, (1 << 88) - 1),
        ],
    )
    def test_values(self, field: bytes, value: int) -> None:
        assert parse_number(field) == value

    @pytest.mark.parametrize(
        "field",
        [
            b"8000000\0",
            b"000009\0\0",
            b"-000001\0",
            b"+000001\0",
            b"0x00001\0",
            b"0o00001\0",
            b"1_00000\0",
            b"00001.0\0",
            b"abcdefgh",
            b"\x7f0000000",
            b"000\n000\0",
            b" \t00001\0",
            b"1234567a",
        ],
    )
    def test_no_numbers(self, field: bytes) -> None:
        with pytest.raises(FormatError, match="a number field holds"):
            parse_number(field)

    @given(st.integers(0, 8**7 - 1), st.sampled_from([b"%07o\0", b"%07o ", b"%6o \0", b"%o\0", b" %o ", b"%08o"]))
    def test_octal_of_any_padding(self, value: int, form: bytes) -> None:
        field = (form % value).ljust(8, b"\0")
        assert parse_number(field) == value

    @given(st.integers(-(1 << 62), (1 << 62) - 1))
    def test_base_256(self, value: int) -> None:
        field = bytearray(value.to_bytes(12, "big", signed=True))
        field[0] |= 0x80
        assert parse_number(bytes(field)) == value

    @given(st.binary(min_size=8, max_size=8))
    def test_any_bytes_are_a_number_or_refused(self, field: bytes) -> None:
        try:
            value = parse_number(field)
        except FormatError:
            assert not field[0] & 0x80
        else:
            assert -(1 << 62) <= value < 1 << 63


class TestSums:
    @given(st.binary(min_size=512, max_size=512))
    def test_are_sums(self, data: bytes) -> None:
        blanked = data[:148] + b" " * 8 + data[156:]
        assert unsigned_sum(data) == sum(blanked)
        assert signed_sum(data) == sum(byte - 256 * (byte > 127) for byte in blanked)

    @given(st.binary(min_size=512, max_size=512), st.integers(-300, 300), st.booleans())
    def test_expected_sums_recognise_a_plain_sum(self, data: bytes, off: int, signed: bool) -> None:
        """The oracle is the plain sum. A sum that is a little off, or over signed bytes, is not plain."""
        total = (signed_sum(data) if signed else unsigned_sum(data)) + off
        field = b"%06o\0 " % total if total >= 0 else b"-%05o\0 " % -total
        data = data[:148] + field + data[156:]
        plain = total == unsigned_sum(data)
        assert (ExpectedSums()[field] == zlib.adler32(data) & 0xFFFF) == plain
        assert has_plain_sum(data) == plain
        assert has_valid_sum(data) == (total >= 0 and total in (unsigned_sum(data), signed_sum(data)))

    @pytest.mark.parametrize("field", [b"%06o\0 ", b"%07o\0", b"%06o  ", b"%6o\0 ", b"%6o \0", b" %5o \0", b"%08o"])
    def test_forms_of_the_field(self, field: bytes) -> None:
        data = block()
        data = data[:148] + field % unsigned_sum(data) + data[156:]
        assert has_plain_sum(data)
        assert stored_sum(data) == unsigned_sum(data)

    @pytest.mark.parametrize("field", [b"garbage!", b"12345678", b"99999999"])
    def test_no_number_is_no_sum(self, field: bytes) -> None:
        data = block()
        data = data[:148] + field + data[156:]
        assert not has_valid_sum(data)
        assert not has_plain_sum(data)

    def test_a_zero_block_has_no_valid_sum(self) -> None:
        assert not has_valid_sum(bytes(512))

    def test_the_memory_is_bounded(self) -> None:
        sums = ExpectedSums()
        for value in range(40_000):
            assert sums[b"%07o\0" % value] >= 0
        assert len(sums) <= 16384

    @given(st.integers(0, 511), st.integers(1, 255))
    def test_one_changed_byte_is_found(self, at: int, by: int) -> None:
        data = bytearray(block_of(EntrySpec(SpecKind.FILE, b"name", mtime=10**18), Dialect.USTAR))
        data[at] = (data[at] + by) % 256
        still = unsigned_sum(bytes(data)) == unsigned_sum(
            block_of(EntrySpec(SpecKind.FILE, b"name", mtime=10**18), Dialect.USTAR)
        )
        assert not has_valid_sum(bytes(data)) or (148 <= at < 156 and still)


class TestCheckNumbers:
    @pytest.mark.parametrize("name", ["mode", "uid", "gid", "mtime"])
    def test_names_the_field(self, name: str) -> None:
        check_numbers(block())
        check_numbers(block(**{name: b"\xff" * 8}))
        with pytest.raises(FormatError, match=f"^{name}: a number field holds"):
            check_numbers(block(**{name: b"12x4567"}))

    def test_the_size_is_not_checked(self) -> None:
        check_numbers(block(size=b"12x4567"))


class TestRecords:
    @pytest.mark.parametrize(
        ("data", "records"),
        [
            (b"", {}),
            (b"6 a=b\n", {b"a": b"b"}),
            (b"5 a=\n", {b"a": b""}),
            (b"7 a==b\n", {b"a": b"=b"}),
            (b"8 a=\n\n\n\n", {b"a": b"\n\n\n"}),
            (b"10 a=\0\0\0\0\n", {b"a": bytes(4)}),
            (b"007 a=b\n", None),
            (b"008 a=b\n", {b"a": b"b"}),
            (b"6 a=b\n6 a=c\n", {b"a": b"c"}),
            (b"6 a=b\n6 b=c\n", {b"a": b"b", b"b": b"c"}),
        ],
    )
    def test_examples(self, data: bytes, records: dict[bytes, bytes] | None) -> None:
        if records is None:
            with pytest.raises(FormatError, match="wrong"):
                parse_records(data)
        else:
            assert parse_records(data) == records

    @given(
        st.dictionaries(
            st.binary(min_size=1, max_size=20).filter(lambda key: b"=" not in key and not key.startswith(b"GNU.")),
            st.binary(max_size=300),
        )
    )
    def test_any_key_and_value(self, records: dict[bytes, bytes]) -> None:
        data = pax_body(records.items())
        assert parse_records(data) == records

    @given(st.dictionaries(st.sampled_from([b"a", b"bc"]), st.binary(max_size=120), min_size=1), st.data())
    def test_cut_anywhere_the_length_is_wrong(self, records: dict[bytes, bytes], data: st.DataObject) -> None:
        body = pax_body(records.items())
        whole = {0}
        for key, value in records.items():
            whole.add(max(whole) + len(pax_body([(key, value)])))
        cut = data.draw(st.integers(0, len(body) - 1).filter(lambda at: at not in whole))
        with pytest.raises(FormatError):
            parse_records(body[:cut])

    @pytest.mark.parametrize(
        ("data", "match"),
        [
            (b"x a=b\n", "does not begin with its length"),
            (b" 6 a=b\n", "does not begin with its length"),
            (b"-6 a=b\n", "does not begin with its length"),
            (b"6\ta=b\n", "does not begin with its length"),
            (b"1" * 30 + b" a=b\n", "does not begin with its length"),
            (b"\xb2 a=b\n", "does not begin with its length"),
            (b"5 a=b\n", "wrong"),
            (b"7 a=b\n", "wrong"),
            (b"9999999999999999999 a=b\n", "wrong"),
            (b"0 a=b\n", "wrong"),
            (b"2 a=b\n", "wrong"),
            (b"3 \n", "wrong"),
            (b"6 a=b\0", "wrong"),
            (b"5 ab\n", "KEY=VALUE"),
            (b"5 =b\n", "KEY=VALUE"),
            (b"6 a=b\n\0\0\0", "does not begin"),
        ],
    )
    def test_wrong_lengths(self, data: bytes, match: str) -> None:
        with pytest.raises(FormatError, match=match):
            parse_records(data)

    def test_a_sparse_map_of_pairs_is_one_record(self) -> None:
        """Regression: only the last extent of format 0.0, which repeats its keys, was kept."""
        pairs = [(b"GNU.sparse.offset", b"0"), (b"GNU.sparse.numbytes", b"5"), (b"k", b"v"),
                 (b"GNU.sparse.offset", b"100"), (b"GNU.sparse.numbytes", b"7")]  # fmt: skip
        assert parse_records(pax_body(pairs)) == {b"k": b"v", b"GNU.sparse.map": b"0,5,100,7"}


class TestEffectiveRecords:
    def test_own_records_override_globals(self) -> None:
        extras = Extras(records={b"uid": b"1"}, globals={b"uid": b"2", b"gid": b"3"})
        assert effective_records(extras) == {b"uid": b"1", b"gid": b"3"}

    @pytest.mark.parametrize("key", [b"path", b"linkpath", b"uid", b"gid", b"size", b"mtime", b"uname", b"comment"])
    def test_an_empty_value_cancels_a_global(self, key: bytes) -> None:
        assert effective_records(Extras(records={key: b""}, globals={key: b"5"})) == {}

    def test_an_empty_xattr_is_kept(self) -> None:
        assert effective_records(Extras(records={b"SCHILY.xattr.user.a": b""})) == {b"SCHILY.xattr.user.a": b""}

    @pytest.mark.parametrize("value", [b"0", b"1.5", b"-1.5", b"1.", b"9000000000", b"-2.000000001"])
    def test_times(self, value: bytes) -> None:
        assert effective_records(Extras(records={b"mtime": value})) == {b"mtime": value}

    @pytest.mark.parametrize("key", [b"size", b"uid", b"gid", b"mtime", b"atime", b"ctime"])
    @pytest.mark.parametrize(
        "value", [b"x", b"-", b".5", b"1e9", b" 1", b"1 ", b"1\n", b"1" * 21, b"1.-5", b"--1", b"\xb2"]
    )
    def test_no_numbers(self, key: bytes, value: bytes) -> None:
        with pytest.raises(FormatError, match=f"PAX {key.decode()}: .*is not a number"):
            effective_records(Extras(records={key: value}))

    @pytest.mark.parametrize(
        ("key", "value"), [(b"size", b"-1"), (b"size", b"1.5"), (b"uid", b"1.5"), (b"gid", b"0.0")]
    )
    def test_numbers_of_the_wrong_kind(self, key: bytes, value: bytes) -> None:
        with pytest.raises(FormatError, match="is not a number"):
            effective_records(Extras(records={key: value}))


def parsed(data: bytes, **extras: object) -> Entry:
    return parse_entry(data, Extras(**extras)) if extras else parse_entry(data)  # type: ignore[arg-type]


def entry_or_none(data: bytes) -> Entry | None:
    """The entry, or None if the header is refused with a FormatError. Any other error is raised."""
    try:
        return parse_entry(data)
    except FormatError:
        return None


class TestParseEntry:
    @pytest.mark.parametrize(
        ("flag", "kind"),
        [(b"0", Kind.FILE), (b"\0", Kind.FILE), (b"7", Kind.FILE), (b"Z", Kind.FILE), (b"\xff", Kind.FILE),
         (b"S", Kind.FILE), (b"1", Kind.HARDLINK), (b"2", Kind.SYMLINK), (b"3", Kind.CHAR), (b"4", Kind.BLOCK),
         (b"5", Kind.DIRECTORY), (b"6", Kind.FIFO)],
    )  # fmt: skip
    def test_kinds(self, flag: bytes, kind: Kind) -> None:
        entry = parsed(block(flag=flag, target=b"t"))
        assert entry.kind is kind
        assert entry.target == (b"t" if kind in (Kind.HARDLINK, Kind.SYMLINK) else b"")

    @pytest.mark.parametrize("flag", [b"0", b"\0"])
    def test_a_trailing_slash_is_a_directory_in_v7(self, flag: bytes) -> None:
        entry = parsed(block(flag=flag, name=b"d/"))
        assert (entry.kind, entry.path, entry.verbatim) == (Kind.DIRECTORY, b"d", False)
        assert parsed(block(flag=b"7", name=b"d/")).kind is Kind.FILE

    @pytest.mark.parametrize("flag", [b"1", b"2", b"3", b"4", b"5", b"6"])
    @pytest.mark.parametrize("size", [b"00000001000\0", b"\x80" + bytes(9) + b"\2\0"])
    def test_a_size_without_a_body(self, flag: bytes, size: bytes) -> None:
        entry = parsed(block(flag=flag, target=b"t", size=size))
        assert (entry.size, entry.verbatim) == (0, False)
        assert parsed(block(flag=flag, target=b"t")).verbatim

    @pytest.mark.parametrize(
        ("size", "shown"), [(b"\xff" * 12, "-1"), (b"\x80" + b"\x7f" * 11, str(int.from_bytes(b"\x7f" * 11, "big")))]
    )
    @pytest.mark.parametrize("flag", [b"0", b"5"])
    def test_sizes_out_of_range(self, size: bytes, shown: str, flag: bytes) -> None:
        with pytest.raises(FormatError, match=f"a size of {shown} bytes is out of range"):
            parsed(block(size=size, flag=flag))

    def test_the_greatest_size(self) -> None:
        assert parsed(block(size=b"\x80" + (1 << 62).to_bytes(11, "big"))).size == 1 << 62
        assert parsed(block(size=b"777777777777")).size == 8**12 - 1
        with pytest.raises(FormatError, match="out of range"):
            parsed(block(size=b"\x80" + ((1 << 62) + 1).to_bytes(11, "big")))
        with pytest.raises(FormatError, match="out of range"):
            parsed(block(), records={b"size": b"9" * 20})

    def test_a_record_overrides_the_field(self) -> None:
        assert parsed(block(size=b"00000000005\0"), records={b"size": b"9000000000"}).size == 9_000_000_000

    @pytest.mark.parametrize("name", ["major", "minor"])
    def test_device_numbers_are_checked_only_for_devices(self, name: str) -> None:
        bad = {name: b"12x4567"}
        with pytest.raises(FormatError, match=f"dev{name}: a number field"):
            parsed(block(flag=b"3", **bad))
        assert parsed(block(**bad)).kind is Kind.FILE

    @pytest.mark.parametrize("dialect", [Dialect.USTAR, Dialect.PAX])
    def test_posix_has_a_prefix(self, dialect: Dialect) -> None:
        assert parsed(block_of(SPEC, dialect, prefix=b"p/q")).path == b"p/q/a"

    @pytest.mark.parametrize("dialect", [Dialect.GNU, Dialect.V7])
    def test_other_dialects_have_no_prefix(self, dialect: Dialect) -> None:
        """GNU headers have times and sparse maps there."""
        assert parsed(block_of(SPEC, dialect, prefix=b"13371337")).path == b"a"

    def test_names_that_fill_their_fields(self) -> None:
        data = block(name=b"n" * 100, prefix=b"p" * 155, flag=b"2", target=b"t" * 100)
        entry = parsed(data)
        assert (entry.path, entry.target) == (b"p" * 155 + b"/" + b"n" * 100, b"t" * 100)
        assert entry.verbatim

    def test_which_name_wins(self) -> None:
        data = block(flag=b"2", target=b"t")
        assert parsed(data, long_name=b"L", long_target=b"K").path == b"L"
        assert parsed(data, long_name=b"L", long_target=b"K").target == b"K"
        both = parsed(data, long_name=b"L", long_target=b"K", records={b"path": b"x", b"linkpath": b"y"})
        assert (both.path, both.target) == (b"x", b"y")
        overridden = parsed(data, long_name=b"L", long_target=b"K", globals={b"path": b"x", b"linkpath": b"y"})
        assert (overridden.path, overridden.target) == (b"L", b"K")
        assert parsed(data, globals={b"path": b"x", b"linkpath": b"y"}).path == b"x"
        assert parsed(data, records={b"path": b"p", b"GNU.sparse.name": b"s"}).path == b"s"
        assert parsed(data, records={b"path": b""}, globals={b"path": b"g"}).path == b"a"

    @pytest.mark.parametrize(
        ("fields", "verbatim"),
        [
            ({}, True),
            ({"name": b"./a"}, False),
            ({"name": b"/a"}, False),
            ({"name": b"a//b"}, False),
            ({"name": b"d/", "flag": b"5"}, True),
            ({"name": b"d", "flag": b"5"}, True),
            ({"name": b"d//", "flag": b"5"}, False),
            ({"name": b"./", "flag": b"5"}, True),
            ({"name": b".\0", "flag": b"5"}, False),
            ({"name": b"/", "flag": b"5"}, False),
            ({"flag": b"\0"}, True),
            ({"flag": b"7"}, False),
            ({"flag": b"1", "target": b"t"}, True),
            ({"flag": b"1", "target": b"./t"}, False),
            ({"flag": b"1", "target": b"t/"}, False),
            ({"flag": b"2", "target": b"./t/"}, True),
        ],
    )
    def test_verbatim(self, fields: dict[str, bytes], verbatim: bool) -> None:
        assert parsed(block(**fields)).verbatim is verbatim

    def test_globals_must_be_folded(self) -> None:
        entry = parsed(block(), globals={b"uid": b"7"})
        assert (entry.records, entry.verbatim) == ({b"uid": b"7"}, False)

    def test_signed_sums_are_not_verbatim(self) -> None:
        data = bytearray(block(name=b"\xe9"))
        data[148:156] = b"%06o\0 " % signed_sum(bytes(data))
        assert has_valid_sum(bytes(data))
        assert not parsed(bytes(data)).verbatim

    @pytest.mark.parametrize(
        ("fields", "error", "match"),
        [
            ({"name": b"\0"}, UnsafePathError, "empty"),
            ({"name": b"../a"}, UnsafePathError, r"'\.\.' component"),
            ({"flag": b"2"}, FormatError, "the target of a symlink is empty"),
            ({"flag": b"1"}, UnsafePathError, "the target of a hard link: the name is empty"),
            ({"flag": b"1", "target": b"a/.."}, UnsafePathError, "the target of a hard link: a '..'"),
            ({"mtime": b"yesterday"}, FormatError, "mtime: a number"),
        ],
    )
    def test_refuses(self, fields: dict[str, bytes], error: type[FormatError], match: str) -> None:
        with pytest.raises(error, match=match) as caught:
            parse_entry(block(**fields), offset=1536)
        assert caught.value.offset == 1536
        assert caught.value.path is not None

    def test_targets_of_symlinks_are_kept_and_limited(self) -> None:
        for target in (b"/", b"..", b"a//./b/", b"\xff\n", b"t" * 4096):
            assert parsed(block(flag=b"2"), long_target=target).target == target
        for target in (b"t" * 4097, b"a\0b"):
            with pytest.raises(UnsafePathError, match="symlink's target"):
                parsed(block(flag=b"2"), records={b"linkpath": target})

    def test_names_of_a_mebibyte_are_refused_quickly(self) -> None:
        with pytest.raises(UnsafePathError, match="1000000 bytes") as caught:
            parsed(block(), long_name=b"n" * 1_000_000)
        assert caught.value.path is not None
        assert len(caught.value.path) <= 4096

    @given(st.binary(min_size=512, max_size=512))
    def test_any_block_is_an_entry_or_refused(self, data: bytes) -> None:
        entry = entry_or_none(data)
        assert entry is None or 0 <= entry.size <= 1 << 62

    @given(st.sampled_from(list(Dialect)), st.data())
    def test_damaged_headers_are_entries_or_refused(self, dialect: Dialect, data: st.DataObject) -> None:
        whole = Layer().file(b"abc", b"").symlink(b"s", b"t").tar(dialect, end=False)
        start = data.draw(st.sampled_from([0, 512]))
        damage = data.draw(st.dictionaries(st.integers(0, 511), st.integers(0, 255), max_size=6))
        cut = bytearray(whole[start : start + 512])
        for at, value in damage.items():
            cut[at] = value
        entry = entry_or_none(summed(cut))
        assert entry is None or entry.header == summed(cut)


@given(st.integers(0, 1 << 62))
def test_padded(size: int) -> None:
    assert padded(size) % BLOCK == 0
    assert 0 <= padded(size) - size < BLOCK
