"""An immutable, fluent builder of layer tars, written byte by byte.

No tar library stands between a test and its bytes: what a test asks for is what the header holds, and
what a dialect cannot say is a ``ValueError``, never a silent change of dialect.

    Layer().dir(b"etc", mode=0o755).file(b"etc/x", b"data").link(b"etc/y", b"etc/x").tar(Dialect.GNU)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal, TypedDict, Unpack

__all__ = [
    "BLOCK",
    "SECOND",
    "XATTR",
    "Dialect",
    "EntrySpec",
    "Form",
    "Globals",
    "Item",
    "Kind",
    "Layer",
    "Meta",
    "header",
    "padded",
    "parse_pax_time",
    "pax_body",
    "pax_time",
]

BLOCK = 512
SECOND = 1_000_000_000
XATTR = b"SCHILY.xattr."
"""The prefix of the PAX records that hold extended attributes."""


class Kind(Enum):
    """What an entry is; the value is the type flag that says so."""

    FILE = b"0"
    LINK = b"1"
    SYMLINK = b"2"
    CHAR = b"3"
    BLOCK = b"4"
    DIR = b"5"
    FIFO = b"6"


class Dialect(Enum):
    """How a tar says what it says."""

    V7 = "v7"
    USTAR = "ustar"
    GNU = "gnu"
    PAX = "pax"


_MAGIC = {
    Dialect.V7: bytes(8),
    Dialect.USTAR: b"ustar\x0000",
    Dialect.GNU: b"ustar  \x00",
    Dialect.PAX: b"ustar\x0000",
}


Form = Literal["file", "link", "symlink", "dir", "char"]
"""The type flag a whiteout is disguised as."""

_FORMS = {"file": Kind.FILE, "link": Kind.LINK, "symlink": Kind.SYMLINK, "dir": Kind.DIR, "char": Kind.CHAR}


class Meta(TypedDict, total=False):
    """What every builder method takes by keyword."""

    mode: int
    uid: int
    gid: int
    uname: bytes
    gname: bytes
    mtime: int
    xattrs: Mapping[bytes, bytes]
    records: Mapping[bytes, bytes]
    typeflag: bytes
    size: int


@dataclass(frozen=True)
class EntrySpec:
    """One entry as a tar states it: nothing is cleaned, checked or merged.

    ``mtime`` is in nanoseconds. ``size`` lies about the body where it is given; ``typeflag`` replaces
    the flag of ``kind``; ``records`` are more PAX records, written last.
    """

    kind: Kind
    path: bytes
    data: bytes = b""
    target: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    uname: bytes = b""
    gname: bytes = b""
    mtime: int = 0
    major: int = 0
    minor: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    records: tuple[tuple[bytes, bytes], ...] = ()
    typeflag: bytes | None = None
    size: int | None = None


@dataclass(frozen=True)
class Globals:
    """A PAX ``g`` header: records for every entry that follows."""

    records: tuple[tuple[bytes, bytes], ...]


Item = EntrySpec | Globals | bytes
"""What a layer is a tuple of; bytes are verbatim."""


@dataclass(frozen=True)
class Layer:
    """A layer as a tuple of items; every method returns a new layer."""

    items: tuple[Item, ...] = ()

    def dir(self, path: bytes, **meta: Unpack[Meta]) -> Layer:
        return self.entry(_spec(EntrySpec(Kind.DIR, path, mode=0o755), meta))

    def file(self, path: bytes, data: bytes = b"", **meta: Unpack[Meta]) -> Layer:
        return self.entry(_spec(EntrySpec(Kind.FILE, path, data=data), meta))

    def symlink(self, path: bytes, target: bytes, **meta: Unpack[Meta]) -> Layer:
        return self.entry(_spec(EntrySpec(Kind.SYMLINK, path, target=target, mode=0o777), meta))

    def link(self, path: bytes, target: bytes, **meta: Unpack[Meta]) -> Layer:
        return self.entry(_spec(EntrySpec(Kind.LINK, path, target=target), meta))

    def char(self, path: bytes, major: int, minor: int, **meta: Unpack[Meta]) -> Layer:
        return self.entry(_spec(EntrySpec(Kind.CHAR, path, major=major, minor=minor), meta))

    def block(self, path: bytes, major: int, minor: int, **meta: Unpack[Meta]) -> Layer:
        return self.entry(_spec(EntrySpec(Kind.BLOCK, path, major=major, minor=minor), meta))

    def fifo(self, path: bytes, **meta: Unpack[Meta]) -> Layer:
        return self.entry(_spec(EntrySpec(Kind.FIFO, path), meta))

    def whiteout(self, path: bytes, form: Form = "file", **meta: Unpack[Meta]) -> Layer:
        """Add ``dir/.wh.NAME``; overlay-based builders give even plain ones a bogus link name."""
        parent, slash, name = path.rpartition(b"/")
        return self._marker(parent + slash + b".wh." + name, form, meta)

    def opaque(self, path: bytes, form: Form = "file", **meta: Unpack[Meta]) -> Layer:
        return self._marker((path + b"/" if path else b"") + b".wh..wh..opq", form, meta)

    def _marker(self, path: bytes, form: Form, meta: Meta) -> Layer:
        target = b".wh.bogus" if form in ("link", "symlink") else b""
        return self.entry(_spec(EntrySpec(_FORMS[form], path, target=target, mode=0), meta))

    def raw(self, data: bytes) -> Layer:
        return Layer((*self.items, data))

    def globals(self, records: Mapping[bytes, bytes]) -> Layer:
        return Layer((*self.items, Globals(tuple(records.items()))))

    def entry(self, *specs: EntrySpec) -> Layer:
        return Layer((*self.items, *specs))

    @property
    def entries(self) -> tuple[EntrySpec, ...]:
        """The entries as a reader must see them: PAX globals folded in, raw bytes left out."""
        return tuple(_folded(self.items))

    def tar(self, dialect: Dialect = Dialect.PAX, prefix: bytes = b"", end: bool = True) -> bytes:
        """The layer's bytes; ``prefix`` (``./`` or ``/``) goes before every path and hard-link target."""
        body = b"".join(_encoded(item, dialect, prefix) for item in self.items)
        return body + bytes(2 * BLOCK) if end else body


def _spec(base: EntrySpec, meta: Meta) -> EntrySpec:
    plain = {key: value for key, value in meta.items() if key not in ("xattrs", "records")}
    return replace(
        base,
        **plain,  # type: ignore[arg-type]  # the keys of Meta are fields of EntrySpec
        xattrs=tuple(meta.get("xattrs", {}).items()),
        records=tuple(meta.get("records", {}).items()),
    )


# --- PAX globals, folded -------------------------------------------------------------------------


def _folded(items: Iterable[Item]) -> Iterator[EntrySpec]:
    covering: dict[bytes, bytes] = {}
    for item in items:
        if isinstance(item, Globals):
            covering.update(item.records)
        elif isinstance(item, EntrySpec):
            yield _covered(item, covering)


def _covered(spec: EntrySpec, covering: Mapping[bytes, bytes]) -> EntrySpec:
    """Globals stand where the entry has no record of its own: a header field is weaker than a global."""
    own = _pax_records(spec, b"")
    for key, value in covering.items():
        if key in own:
            continue
        if key.startswith(XATTR):
            spec = replace(spec, xattrs=(*spec.xattrs, (key.removeprefix(XATTR), value)))
        elif key == b"mtime" and value:
            spec = replace(spec, mtime=parse_pax_time(value))
        elif key in (b"uid", b"gid") and value:
            spec = replace(spec, uid=int(value)) if key == b"uid" else replace(spec, gid=int(value))
        elif key in (b"uname", b"gname") and value:
            spec = replace(spec, uname=value) if key == b"uname" else replace(spec, gname=value)
        elif key in (b"path", b"linkpath", b"size") and value:
            raise ValueError(f"a global {key!r} makes no layer a test could mean")
    return spec


# --- one item's bytes ----------------------------------------------------------------------------


def _encoded(item: Item, dialect: Dialect, prefix: bytes) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, Globals):
        if dialect is not Dialect.PAX:
            raise ValueError(f"{dialect.name} has no globals")
        return _extension(b"g", b"PaxGlobals", pax_body(item.records), Dialect.PAX)
    return _ENCODERS[dialect](item, prefix) + padded(item.data)


def _encode_pax(spec: EntrySpec, prefix: bytes) -> bytes:
    """An ``x`` header with all that does not fit, then a header in which those fields are stand-ins."""
    records = _pax_records(spec, prefix)
    path, target = _stored_path(spec, prefix), _stored_target(spec, prefix)
    name, lead = (_ascii(path), b"") if b"path" in records else _split(path)
    target = _ascii(target) if b"linkpath" in records else target
    head = header(_clamped(spec, records), Dialect.PAX, name, target, lead)
    if not records:
        return head
    label = b"PaxHeaders/" + _ascii(spec.path)[:80]
    return _extension(b"x", label, pax_body(records.items()), Dialect.PAX) + head


def _clamped(spec: EntrySpec, records: Mapping[bytes, bytes]) -> EntrySpec:
    return replace(
        spec,
        uid=_fitting(spec.uid, 7),
        gid=_fitting(spec.gid, 7),
        mtime=_fitting(spec.mtime // SECOND, 11) * SECOND,
        uname=b"" if b"uname" in records else spec.uname,
        gname=b"" if b"gname" in records else spec.gname,
        size=_fitting(_size(spec), 11),
    )


def _encode_gnu(spec: EntrySpec, prefix: bytes) -> bytes:
    _refuse_records(spec, Dialect.GNU)
    name, target = _stored_path(spec, prefix), _stored_target(spec, prefix)
    long = b""
    if len(target) > 100:
        long += _extension(b"K", b"././@LongLink", target + b"\0", Dialect.GNU)
    if len(name) > 100:
        long += _extension(b"L", b"././@LongLink", name + b"\0", Dialect.GNU)
    return long + header(spec, Dialect.GNU, name[:100], target[:100])


def _encode_ustar(spec: EntrySpec, prefix: bytes) -> bytes:
    _refuse_records(spec, Dialect.USTAR)
    name, lead = _split(_stored_path(spec, prefix))
    return header(spec, Dialect.USTAR, name, _stored_target(spec, prefix), lead)


def _encode_v7(spec: EntrySpec, prefix: bytes) -> bytes:
    """V7 knows files (NUL), links and symlinks; a directory is a file whose name ends in a slash."""
    _refuse_records(spec, Dialect.V7)
    if spec.kind not in (Kind.FILE, Kind.DIR, Kind.LINK, Kind.SYMLINK):
        raise ValueError(f"V7 has no {spec.kind.name}")
    if spec.uname or spec.gname:
        raise ValueError("V7 has no names of owners")
    if spec.kind in (Kind.FILE, Kind.DIR) and spec.typeflag is None:
        spec = replace(spec, typeflag=b"\0")
    return header(spec, Dialect.V7, _stored_path(spec, prefix), _stored_target(spec, prefix))


_ENCODERS = {
    Dialect.PAX: _encode_pax,
    Dialect.GNU: _encode_gnu,
    Dialect.USTAR: _encode_ustar,
    Dialect.V7: _encode_v7,
}


def _stored_path(spec: EntrySpec, prefix: bytes) -> bytes:
    """The path as written: the root is ``./`` unless the prefix names it, directories end in a slash."""
    path = prefix + spec.path
    if spec.kind is not Kind.DIR or path.endswith(b"/"):
        return path
    return path + b"/" if path else b"./"


def _stored_target(spec: EntrySpec, prefix: bytes) -> bytes:
    return prefix + spec.target if spec.kind is Kind.LINK else spec.target


def _refuse_records(spec: EntrySpec, dialect: Dialect) -> None:
    if spec.xattrs or spec.records:
        raise ValueError(f"{dialect.name} has no xattrs and no records")
    if spec.mtime % SECOND:
        raise ValueError(f"{dialect.name} has no fractions of a second")


# --- headers -------------------------------------------------------------------------------------


def header(spec: EntrySpec, dialect: Dialect, name: bytes, target: bytes = b"", prefix: bytes = b"") -> bytes:
    """One header block; raises ``ValueError`` for what does not fit its field."""
    block = b"".join(
        (
            _text(name, 100),
            _number(spec.mode, 8, dialect),
            _number(spec.uid, 8, dialect),
            _number(spec.gid, 8, dialect),
            _number(_size(spec), 12, dialect),
            _number(spec.mtime // SECOND, 12, dialect),
            b" " * 8,
            spec.kind.value if spec.typeflag is None else spec.typeflag,
            _text(target, 100),
            _MAGIC[dialect],
            _text(spec.uname, 32, ended=True),
            _text(spec.gname, 32, ended=True),
            *_device(spec, dialect),
            _text(prefix, 155),
        )
    )
    block = block.ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _size(spec: EntrySpec) -> int:
    return len(spec.data) if spec.size is None else spec.size


def _device(spec: EntrySpec, dialect: Dialect) -> tuple[bytes, bytes]:
    if dialect is Dialect.V7:
        return bytes(8), bytes(8)
    return _number(spec.major, 8, dialect), _number(spec.minor, 8, dialect)


def _text(value: bytes, width: int, *, ended: bool = False) -> bytes:
    if b"\0" in value or len(value) > width - ended:
        raise ValueError(f"{value!r} does not fit a field of {width} bytes")
    return value.ljust(width, b"\0")


def _number(value: int, width: int, dialect: Dialect) -> bytes:
    if _fitting(value, width - 1) == value:
        return b"%0*o\0" % (width - 1, value)
    if dialect is not Dialect.GNU:
        raise ValueError(f"{value} does not fit {width - 1} octal digits")
    # Base-256: two's complement over the whole field, the first bit set to tell it from octal.
    number = bytearray(value.to_bytes(width, "big", signed=True))
    number[0] |= 0x80
    return bytes(number)


def _fitting(value: int, digits: int) -> int:
    return value if 0 <= value < 8**digits else 0


def _split(path: bytes) -> tuple[bytes, bytes]:
    """Share a path between the name and prefix fields, the prefix as long as may be."""
    if len(path) <= 100:
        return path, b""
    at = path.rfind(b"/", 0, min(156, len(path) - 1))
    if at <= 0 or len(path) - at - 1 > 100:
        raise ValueError(f"{path!r} does not split into prefix and name")
    return path[at + 1 :], path[:at]


def _extension(flag: bytes, name: bytes, body: bytes, dialect: Dialect) -> bytes:
    spec = EntrySpec(Kind.FILE, name, data=body, typeflag=flag)
    return header(spec, dialect, name) + padded(body)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


# --- PAX records ---------------------------------------------------------------------------------


def _pax_records(spec: EntrySpec, prefix: bytes) -> dict[bytes, bytes]:
    """Records for all that the ustar header cannot say, the entry's own records last."""
    path, target, seconds = _stored_path(spec, prefix), _stored_target(spec, prefix), spec.mtime // SECOND
    odd = {
        b"path": (path, not _plain_path(path)),
        b"linkpath": (target, len(target) > 100 or _ascii(target) != target),
        b"size": (b"%d" % _size(spec), _fitting(_size(spec), 11) != _size(spec)),
        b"uid": (b"%d" % spec.uid, _fitting(spec.uid, 7) != spec.uid),
        b"gid": (b"%d" % spec.gid, _fitting(spec.gid, 7) != spec.gid),
        b"uname": (spec.uname, len(spec.uname) > 31 or _ascii(spec.uname) != spec.uname),
        b"gname": (spec.gname, len(spec.gname) > 31 or _ascii(spec.gname) != spec.gname),
        b"mtime": (pax_time(spec.mtime), bool(spec.mtime % SECOND) or _fitting(seconds, 11) != seconds),
    }
    records = {key: value for key, (value, needed) in odd.items() if needed}
    records.update((XATTR + key, value) for key, value in spec.xattrs)
    records.update(spec.records)
    return records


def _plain_path(path: bytes) -> bool:
    try:
        _split(path)
    except ValueError:
        return False
    return _ascii(path) == path


def _ascii(name: bytes) -> bytes:
    """A stand-in for the header field of a name that a record holds: ASCII, and short enough."""
    return bytes(c for c in name if 0 < c < 128)[:100]


def pax_body(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(_pax_record(key, value) for key, value in records)


def _pax_record(key: bytes, value: bytes) -> bytes:
    """``LENGTH KEY=VALUE\\n``, where LENGTH counts its own digits."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return b"%d" % length + rest


def pax_time(nanoseconds: int) -> bytes:
    """Decimal seconds, the fraction only where there is one: -1500000000 is ``-1.5``."""
    whole, fraction = divmod(abs(nanoseconds), SECOND)
    text = b"%s%d.%09d" % (b"-" if nanoseconds < 0 else b"", whole, fraction)
    return text.rstrip(b"0").rstrip(b".")


def parse_pax_time(text: bytes) -> int:
    """Nanoseconds; digits beyond the ninth are cut off."""
    whole, _, fraction = text.lstrip(b"-").partition(b".")
    value = int(whole or b"0") * SECOND + int(fraction[:9].ljust(9, b"0"))
    return -value if text.startswith(b"-") else value
