"""POSIX ACLs: the text in tars -> the bytes that the kernel takes as an xattr.

star(5), ``SCHILY.acl.access``: entries ``tag:qualifier:permissions[:id]`` between commas or newlines, e.g.
``user::rwx,user:lisa:r-x:502,group::r-x,mask::r-x,other::r--``. The kernel's format is in
``linux/posix_acl_xattr.h``: a version, then tag, permissions and id of each entry, little-endian, in order.
"""

from __future__ import annotations

import struct

from streamerge.errors import FormatError, show

__all__ = ["parse_acl"]

_VERSION = struct.pack("<I", 2)
_NO_ID = 0xFFFFFFFF
_TAGS = {
    (b"user", False): 0x01,
    (b"user", True): 0x02,
    (b"group", False): 0x04,
    (b"group", True): 0x08,
    (b"mask", False): 0x10,
    (b"other", False): 0x20,
}
_SHORT = {b"u": b"user", b"g": b"group", b"m": b"mask", b"o": b"other"}


def parse_acl(text: bytes) -> bytes:
    """The value of ``system.posix_acl_*`` for an ACL's text.

    Raises FormatError for any other text, and for a name without a number: only the image's own passwd and group
    files know the number, and they are not read.
    """
    lines = [line.partition(b"#")[0].strip() for line in text.replace(b",", b"\n").split(b"\n")]
    entries = sorted(_parse_line(line) for line in lines if line)
    return _VERSION + b"".join(struct.pack("<HHI", tag, permissions, number) for tag, number, permissions in entries)


def _parse_line(line: bytes) -> tuple[int, int, int]:
    fields = line.split(b":")
    if len(fields) == 2:  # some tools write "mask:rwx"
        fields.insert(1, b"")
    if len(fields) not in (3, 4):
        raise _bad(line)
    name = _SHORT.get(fields[0], fields[0])
    tag = _TAGS.get((name, bool(fields[1])))
    if tag is None or fields[2].strip(b"rwx-"):
        raise _bad(line)
    number = fields[3] if len(fields) == 4 else fields[1]
    if fields[1] and not (number.isdigit() and len(number) <= 10 and int(number) < _NO_ID):
        raise _bad(line)
    permissions = sum(bit for letter, bit in ((b"r", 4), (b"w", 2), (b"x", 1)) if letter in fields[2])
    return tag, int(number) if fields[1] else _NO_ID, permissions


def _bad(line: bytes) -> FormatError:
    problem = f"the ACL entry '{show(line[:80])}' is not TAG:ID:PERMISSIONS with numeric ids"
    return FormatError(problem, setting="xattrs")
