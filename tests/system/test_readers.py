"""What others make of the merged tar: each must see the tree that we mean."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import model
from tests.support.command import run
from tests.support.layers import SECOND, Kind
from tests.support.needs import missing
from tests.support.odd import example_layers, odd_stack, write_layers
from tests.support.tree import Tree, differences, from_directory, from_tar_file

NeedTool = Callable[[str], str]

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Merged tars: of the committed layers, of what only a tar can hold, and of what squashfs can too."""
    stacks = {"odd": odd_stack(), "squashfs": odd_stack(squashfs=True)}
    merged = {}
    for name in ("example", *stacks):
        directory = tmp_path_factory.mktemp(name)
        merged[name] = directory / "merged.tar"
        layers = write_layers(stacks[name], directory) if name in stacks else example_layers()
        run(*layers, "-o", merged[name]).assert_merged()
    return merged


@pytest.fixture(params=["example", "odd"])
def merged(request: pytest.FixtureRequest, tars: dict[str, Path]) -> Path:
    return tars[request.param]


@pytest.fixture(params=["example", "squashfs"])
def mild(request: pytest.FixtureRequest, tars: dict[str, Path]) -> Path:
    """No fractions of a second, no times before 1970: neither squashfs nor ext4 as mke2fs makes it has them."""
    return tars[request.param]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    directory = tmp_path / "root"
    directory.mkdir()
    return directory


def check(expected: Tree, shown: Tree, *, without: Iterable[bytes] = ()) -> None:
    for path in without:
        expected, shown = ({p: n for p, n in one.items() if p != path} for one in (expected, shown))
    assert differences(expected, shown) == []


def timeless(shown: Tree, kind: Kind) -> Tree:
    """A tree in which one kind has no times."""
    return {path: replace(node, mtime_ns=0) if node.kind is kind else node for path, node in shown.items()}


def without_groups(shown: Tree, kind: Kind) -> Tree:
    """A tree in which one kind has no hard links."""
    return {path: replace(node, group=b"") if node.kind is kind else node for path, node in shown.items()}


def call(*arguments: str | Path, stdin: Path | None = None) -> bytes:
    """Run a reader, which has to be content."""
    with open(stdin or os.devnull, "rb") as file:
        done = subprocess.run(list(map(str, arguments)), stdin=file, capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="backslashreplace")
    return done.stdout


def test_the_stack_is_merged_as_it_should_be() -> None:
    """What the readers are compared with is right: the model says the same."""
    for squashfs in (False, True):
        shown = model.merge(odd_stack(squashfs=squashfs))
        assert shown[b"bin/cat"].group == shown[b"bin/zcat"].group == b"bin/cat"
        assert b"bin/busybox" not in shown


# --- those that extract --------------------------------------------------------------------------


GNU_TAR = ("--numeric-owner", "--xattrs", "--xattrs-include=*", "--delay-directory-restore")
"""A merged tar comes back to directories that it left long ago: GNU tar keeps their times only if told to wait."""


def test_gnu_tar(merged: Path, root: Path, need_tool: NeedTool) -> None:
    call(need_tool("tar"), "-xpf", merged, *GNU_TAR, "-C", root)
    check(from_tar_file(merged), from_directory(root))


def test_gnu_tar_that_does_not_wait(merged: Path, root: Path, need_tool: NeedTool) -> None:
    """Nothing but the times of directories suffers."""
    call(need_tool("tar"), "-xpf", merged, *GNU_TAR[:-1], "-C", root)
    check(timeless(from_tar_file(merged), Kind.DIR), timeless(from_directory(root), Kind.DIR))


def test_gnu_tar_finds_no_difference(merged: Path, root: Path, need_tool: NeedTool) -> None:
    """``tar --compare`` is a reader of its own."""
    tar = need_tool("tar")
    call(tar, "-xpf", merged, *GNU_TAR, "-C", root)
    assert call(tar, "-df", merged, "--numeric-owner", "-C", root) == b""


def test_bsdtar(merged: Path, root: Path, need_tool: NeedTool) -> None:
    """libarchive sets the time of a directory that is there already, as the root is, at once; it waits for others."""
    call(need_tool("bsdtar"), "-xpf", merged, "--numeric-owner", "-C", root)
    expected, shown = from_tar_file(merged), from_directory(root)
    expected[b""] = replace(expected[b""], mtime_ns=shown[b""].mtime_ns)
    check(expected, shown)


def test_python(merged: Path, root: Path) -> None:
    """tarfile sets no xattrs, no times of symlinks, no second names of them, and times as floats (quarters fit)."""
    with tarfile.open(merged, encoding="utf-8", errors="surrogateescape") as tar:
        tar.extractall(root, numeric_owner=True, filter="fully_trusted")
    plain = {path: replace(node, xattrs=frozenset()) for path, node in from_tar_file(merged).items()}
    expected, shown = timeless(plain, Kind.SYMLINK), timeless(from_directory(root), Kind.SYMLINK)
    check(without_groups(expected, Kind.SYMLINK), without_groups(shown, Kind.SYMLINK))


def test_cpio(merged: Path, need_tool: NeedTool) -> None:
    """cpio reads ustar alone: it must at least come to the end and see every plain name."""
    listed = call(need_tool("cpio"), "-t", "--quiet", "-H", "ustar", stdin=merged)
    assert b"\netc/" in b"\n" + listed


# --- those that make images ----------------------------------------------------------------------


def unsquashed(image: Path, root: Path, unsquashfs: str) -> Tree:
    call(unsquashfs, "-no-progress", "-quiet", "-xattrs", "-force", "-dest", root, image)
    return from_directory(root)


def test_tar2sqfs(mild: Path, root: Path, tmp_path: Path, need_tool: NeedTool) -> None:
    tools = [need_tool(name) for name in ("tar2sqfs", "unsquashfs")]
    call(tools[0], "-q", tmp_path / "image.sqfs", stdin=mild)
    check(from_tar_file(mild), unsquashed(tmp_path / "image.sqfs", root, tools[1]))


def test_sqfs2tar(mild: Path, root: Path, tmp_path: Path, need_tool: NeedTool) -> None:
    """There and back: the tar of the image of the tar, which has no entry of the root."""
    tools = [need_tool(name) for name in ("tar2sqfs", "sqfs2tar", "tar")]
    call(tools[0], "-q", tmp_path / "image.sqfs", stdin=mild)
    (tmp_path / "back.tar").write_bytes(call(tools[1], tmp_path / "image.sqfs"))
    call(tools[2], "-xpf", tmp_path / "back.tar", *GNU_TAR, "-C", root)
    check(from_tar_file(mild), from_directory(root), without=[b""])


def test_sqfstar(mild: Path, root: Path, tmp_path: Path, need_tool: NeedTool) -> None:
    """squashfs-tools 4.5 takes no notice of the root's entry, and says so."""
    tools = [need_tool(name) for name in ("sqfstar", "unsquashfs")]
    call(tools[0], "-no-progress", "-quiet", tmp_path / "image.sqfs", stdin=mild)
    check(from_tar_file(mild), unsquashed(tmp_path / "image.sqfs", root, tools[1]), without=[b""])


def version(*command: str) -> tuple[int, ...]:
    done = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", done.stdout + done.stderr)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def test_mkfs_erofs(merged: Path, root: Path, tmp_path: Path, need_tool: NeedTool) -> None:
    mkfs, fsck = need_tool("mkfs.erofs"), need_tool("fsck.erofs")
    found = version(mkfs, "--version")
    if found < (1, 7):
        missing("new_tools", f"mkfs.erofs {found} has no --tar=f, which came with 1.7; Debian 12 has 1.5")
    call(mkfs, "--tar=f", tmp_path / "image.erofs", merged)
    call(fsck, f"--extract={root}", "--preserve", "--overwrite", tmp_path / "image.erofs")
    plain = {path: replace(node, xattrs=frozenset(), group=b"") for path, node in from_tar_file(merged).items()}
    shown = {path: replace(node, xattrs=frozenset(), group=b"") for path, node in from_directory(root).items()}
    if found < (1, 9, 2):
        plain = {path: replace(node, mtime_ns=misread(node.mtime_ns)) for path, node in plain.items()}
    check(plain, shown)


def misread(mtime_ns: int) -> int:
    """What mkfs.erofs before 1.9.2 makes of a time: it reads a fraction such as .25 as 25 nanoseconds."""
    seconds, fraction = divmod(mtime_ns, SECOND)
    return seconds * SECOND + int(str(fraction).zfill(9).rstrip("0") or "0")


def test_mke2fs(mild: Path, tmp_path: Path, need_tool: NeedTool) -> None:
    """The names, kinds and sizes; debugfs shows no more. It keeps no xattr but security.capability."""
    mke2fs, debugfs, fsck = need_tool("mke2fs"), need_tool("debugfs"), need_tool("e2fsck")
    found = version(mke2fs, "-V")
    if found < (1, 47, 1):
        missing("new_tools", f"mke2fs {found} reads no tar, which came with 1.47.1; Debian 12 has 1.47.0")
    image = tmp_path / "image.ext4"
    call(mke2fs, "-q", "-t", "ext4", "-d", "-", image, "64M", stdin=mild)
    call(fsck, "-fn", image)
    for path, node in from_tar_file(mild).items():
        if node.kind is Kind.FILE and path.isalnum():
            assert node.mtime_ns % SECOND == 0
            assert b"Type: regular" in call(debugfs, "-R", f"stat /{path.decode()}", image)
