"""ACLs: the text in tars compared with the ACLs that setfacl sets and GNU tar and bsdtar store."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from streamerge import DirectorySink, LayerFile, merge
from streamerge.errors import FormatError
from streamerge.tar.acl import parse_acl
from tests.support.layers import Layer
from tests.support.merged import BytesLayer
from tests.support.needs import missing

NeedTool = Callable[[str], str]

NONE = 0xFFFFFFFF
ACCESS = "system.posix_acl_access"
DEFAULT = "system.posix_acl_default"


def value(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


MINIMAL = value((1, 7, NONE), (4, 5, NONE), (32, 4, NONE))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"user::rwx,group::r-x,other::r--", MINIMAL),
        (b"user::rwx\ngroup::r-x\nother::r--\n", MINIMAL),
        (b"other::r--,group::r-x,user::rwx", MINIMAL),
        (b"u::rwx,g::rx,o::r", MINIMAL),
        (b"user:rwx,group:r-x,other:r--", MINIMAL),
        (b"# file: x\n user::rwx \n\tgroup::r-x\t#effective:r--\n\nother::r--", MINIMAL),
        (b"user::rwx,,group::r-x,other::r--,", MINIMAL),
        (b"user:lisa:r-x:502", value((2, 5, 502))),
        (b"group:4294967294:--x", value((8, 1, 4294967294))),
        (b"group:wheel:rw-:0,user:0:r--", value((2, 4, 0), (8, 6, 0))),
        (b"mask::---", value((16, 0, NONE))),
        (b"user:9:r,user:10:w", value((2, 4, 9), (2, 2, 10))),
        (b"", value()),
    ],
)
def test_texts(text: bytes, expected: bytes) -> None:
    assert parse_acl(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense",
        b"user",
        b"user:lisa:r-x",
        b"user:lisa:r-x:",
        b"user:lisa:r-x:x",
        b"user:1:2:3:4",
        b"user::rwz",
        b"mask:5:rwx",
        b"other:5:rwx",
        b"default:user::rwx",
        b"user:99999999999:r",
        b"user:-1:r",
        b"\xff::r",
        b"user:4294967296:r",
        b"user:4294967295:r",
    ],
)
def test_other_texts(text: bytes) -> None:
    with pytest.raises(FormatError, match="not TAG:ID:PERMISSIONS"):
        parse_acl(text)


# --- the tools -------------------------------------------------------------------------------------


def example(path: Path, need_tool: NeedTool) -> None:
    """Create a directory and a file with ACLs by setfacl. None of the ids has a name on any host."""
    (path / "d").mkdir()
    (path / "d" / "f").write_bytes(b"x")
    setfacl = need_tool("setfacl")
    for entries, target in (
        ("u:31000:r-x,u:31001:rw-,g:2000000000:r--,g:31002:---,m::r-x", "d/f"),
        ("u::rwx,g::r-x,o::---,u:31003:-wx", "d"),
        ("d:u::rwx,d:g::r-x,d:o::---,d:u:31004:r--,d:g:31005:--x", "d"),
    ):
        done = subprocess.run([setfacl, "-m", entries, path / target], capture_output=True, text=True)
        if "not supported" in done.stderr:
            missing("acl", "needs a file system that knows ACLs")
        assert done.returncode == 0, done.stderr


def acls(path: Path) -> dict[str, bytes]:
    """All ACLs below ``path``, in the kernel's format."""
    return {
        f"{one.relative_to(path)} {name}": os.getxattr(one, name)
        for one in (path / "d", path / "d" / "f")
        for name in os.listxattr(one)
        if name in (ACCESS, DEFAULT)
    }


@pytest.mark.parametrize(
    "command",
    [["tar", "--format=posix", "--acls", "--numeric-owner"], ["bsdtar", "--format=pax", "--acls"]],
    ids=["GNU tar", "bsdtar"],
)
@pytest.mark.root
def test_what_setfacl_makes_comes_back(tmp_path: Path, need_tool: NeedTool, command: Sequence[str]) -> None:
    """The same bytes in the kernel, and the same output of getfacl.

    bsdtar writes the group's permissions into a file's header, not those of the ACL's mask. A mode set after the ACL
    would put them into the mask.
    """
    example(tmp_path, need_tool)
    need_tool(command[0])
    subprocess.run([*command, "-cf", tmp_path / "a.tar", "-C", tmp_path, "d"], check=True)
    warnings: list[str] = []
    merge([LayerFile(str(tmp_path / "a.tar"))], DirectorySink(str(tmp_path / "root"), warn=warnings.append))
    assert warnings == []
    assert len(acls(tmp_path)) == 3
    assert acls(tmp_path / "root") == acls(tmp_path)
    getfacl = [need_tool("getfacl"), "-n", "-p", "-R", "d"]
    shown = [subprocess.run(getfacl, cwd=cwd, capture_output=True).stdout for cwd in (tmp_path, tmp_path / "root")]
    assert shown[0] == shown[1] != b""


@pytest.mark.root
def test_names_without_numbers_are_an_error(tmp_path: Path, need_tool: NeedTool) -> None:
    """GNU tar writes names without --numeric-owner. Only the image's own passwd file maps them to ids."""
    example(tmp_path, need_tool)
    need_tool("tar")
    subprocess.run(["setfacl", "-m", "u:0:rw-", tmp_path / "d" / "f"], check=True)
    subprocess.run(["tar", "--format=posix", "--acls", "-cf", tmp_path / "a.tar", "-C", tmp_path, "d"], check=True)
    with pytest.raises(FormatError, match=r"d/f: the ACL entry 'user:root:rw-' is not .* numeric ids") as caught:
        merge([LayerFile(str(tmp_path / "a.tar"))], DirectorySink(str(tmp_path / "root")))
    assert caught.value.setting == "xattrs"
    merge([LayerFile(str(tmp_path / "a.tar"))], DirectorySink(str(tmp_path / "root"), xattrs=False))


@pytest.mark.root
def test_an_acl_that_the_kernel_refuses_is_a_warning(tmp_path: Path) -> None:
    """Named entries need a mask (acl(5)); none is invented."""
    record = {b"SCHILY.acl.access": b"user::rwx,user:5:rwx,group::r-x,other::r--"}
    warnings: list[str] = []
    layer = BytesLayer(Layer().file(b"f", records=record).tar())
    merge([layer], DirectorySink(str(tmp_path / "root"), warn=warnings.append))
    assert ["system.* attributes: 1 could not be set" in warning for warning in warnings] == [True]
