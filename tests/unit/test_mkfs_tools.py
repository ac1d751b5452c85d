"""Which tool is taken, what its version can do, and the command lines; no real tool is run here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamerge import SinkError
from streamerge.errors import UsageError
from streamerge.sinks.mkfs import tools
from streamerge.sinks.mkfs.commands import (
    Command,
    RootDirectory,
    Settings,
    debugfs_command,
    ext4_command,
    from_tar,
    from_tree,
)
from streamerge.sinks.mkfs.options import FILESYSTEMS
from streamerge.sinks.mkfs.tools import Tool, choose_tool, find_program, parse_version, reads_tars

ROOT = RootDirectory(0o711, 5, 6, 1_700_000_000)


# --- versions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("mke2fs 1.47.2 (1-Jan-2025)\n\tUsing EXT2FS Library version 1.47.2\n", (1, 47, 2)),
        ("mke2fs 1.47.0 (5-Feb-2023)\n", (1, 47, 0)),
        ("mke2fs 1.47.1-rc2 (1-May-2024)\n", (1, 47, 1)),
        ("mkfs.erofs (erofs-utils) 1.8.4\navailable compressors: lz4, lz4hc\n", (1, 8, 4)),
        ("mkfs.erofs (erofs-utils) 1.7.1-g0eb6f5e\n", (1, 7, 1)),
        ("mkfs.erofs 1.5\nmkfs.erofs: invalid option -- 'V'\nusage: [options] FILE DIRECTORY\n", (1, 5)),
        ("mksquashfs version 4.6.1 (2023/03/25)\ncopyright (C) 2023 Phillip Lougher\n", (4, 6, 1)),
        ("mksquashfs version 4.5.1 (2022/03/17)\n", (4, 5, 1)),
        ("sqfstar version 4.5.1 (2022/03/17)\n", (4, 5, 1)),
        ("mksquashfs version 4.7-git.1 (2025/01/01)\n", (4, 7)),
        ("tar2sqfs (squashfs-tools-ng) 1.2.0\nCopyright (c) 2019 David Oberhollenzer et al\n", (1, 2, 0)),
        ("busybox: applet not found\n", None),
        ("", None),
    ],
)
def test_versions_as_the_tools_say_them(said: str, version: tuple[int, ...] | None) -> None:
    assert parse_version(said) == version


@pytest.mark.parametrize(
    ("kind", "version", "reads"),
    [
        ("mkfs.erofs", (1, 5), False),
        ("mkfs.erofs", (1, 7), True),
        ("mke2fs", (1, 47, 0), False),
        ("mke2fs", (1, 47, 1), True),
        ("mksquashfs", (4, 6), True),
        ("sqfstar", (4, 5, 1), True),
        ("tar2sqfs", (1, 2, 0), True),
    ],
)
def test_who_reads_tars(kind: str, version: tuple[int, ...], reads: bool) -> None:
    assert Tool(kind, f"/usr/bin/{kind}", version).reads_tars is reads


def test_who_can_be_told_the_roots_owner() -> None:
    assert not Tool("sqfstar", "", (4, 5, 1)).keeps_root
    assert Tool("sqfstar", "", (4, 6)).keeps_root
    assert Tool("tar2sqfs", "", (1, 0)).keeps_root


# --- choice --------------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A $PATH with nothing but what a test puts there."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setattr("streamerge.sinks.mkfs.tools._PATH", "")
    return directory


def program(directory: Path, name: str, says: str, code: int = 0) -> Path:
    path = directory / name
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {code}\n")
    path.chmod(0o755)
    return path


def test_mksquashfs_comes_first(programs: Path) -> None:
    program(programs, "sqfstar", "sqfstar version 4.6.1 (2023/03/25)")
    program(programs, "tar2sqfs", "tar2sqfs (squashfs-tools-ng) 1.2.0")
    path = program(programs, "mksquashfs", "mksquashfs version 4.6.1 (2023/03/25)")
    assert choose_tool("squashfs") == Tool("mksquashfs", str(path), (4, 6, 1))


def test_tar2sqfs_comes_before_a_sqfstar_that_forgets_the_root(programs: Path) -> None:
    program(programs, "mksquashfs", "mksquashfs version 4.5.1 (2022/03/17)")
    program(programs, "sqfstar", "sqfstar version 4.5.1 (2022/03/17)")
    assert choose_tool("squashfs").kind == "sqfstar"
    program(programs, "tar2sqfs", "tar2sqfs (squashfs-tools-ng) 1.2.0")
    assert choose_tool("squashfs").kind == "tar2sqfs"


def test_a_tool_that_is_named(programs: Path, tmp_path: Path) -> None:
    program(programs, "tar2sqfs", "tar2sqfs (squashfs-tools-ng) 1.2.0")
    program(programs, "sqfstar", "sqfstar version 4.5.1 (2022/03/17)")
    assert choose_tool("squashfs", "sqfstar").kind == "sqfstar"
    (tmp_path / "other").mkdir()
    path = program(tmp_path / "other", "sqfstar", "sqfstar version 4.7.0 (2025/06/01)")
    assert choose_tool("squashfs", str(path)) == Tool("sqfstar", str(path), (4, 7, 0))


def test_mke2fs_by_its_other_name(programs: Path) -> None:
    program(programs, "mkfs.ext4", "mke2fs 1.47.0 (5-Feb-2023)")
    assert choose_tool("ext4", "mkfs.ext4").kind == "mke2fs"


def test_an_exit_code_says_nothing_about_the_version(programs: Path) -> None:
    program(programs, "mkfs.erofs", "mkfs.erofs 1.5", code=1)
    assert choose_tool("erofs").version == (1, 5)


@pytest.mark.parametrize(
    ("filesystem", "package"),
    [("squashfs", "squashfs-tools or squashfs-tools-ng"), ("erofs", "erofs-utils"), ("ext4", "e2fsprogs")],
)
def test_none_is_there(programs: Path, filesystem: str, package: str) -> None:
    with pytest.raises(SinkError, match=f"none is installed; install {package}"):
        choose_tool(filesystem)


def test_one_is_there_but_too_old(programs: Path) -> None:
    program(programs, "mksquashfs", "mksquashfs version 4.4 (2019/08/29)")
    with pytest.raises(SinkError, match=r"needs mksquashfs 4\.6 or sqfstar 4\.5 or .*only mksquashfs 4\.4 is"):
        choose_tool("squashfs")


@pytest.mark.parametrize(
    ("filesystem", "wanted", "match"),
    [("erofs", "mkfs.erofs", "mkfs.erofs is not installed"), ("ext4", "/nowhere/mke2fs", "/nowhere/mke2fs is not")],
)
def test_the_named_one_is_not_there(programs: Path, filesystem: str, wanted: str, match: str) -> None:
    with pytest.raises(SinkError, match=match):
        choose_tool(filesystem, wanted)


def test_the_named_one_is_too_old(programs: Path) -> None:
    program(programs, "mkfs.erofs", "mkfs.erofs 1.2")
    with pytest.raises(SinkError, match=r"too old: 1\.2, 1\.3 will do"):
        choose_tool("erofs", "mkfs.erofs")


def test_the_named_one_makes_something_else(programs: Path) -> None:
    with pytest.raises(UsageError, match=r"--mkfs mkfs\.xfs: what makes this file system is mke2fs"):
        choose_tool("ext4", "mkfs.xfs")


def test_a_tool_that_says_no_version(programs: Path) -> None:
    program(programs, "mkfs.erofs", "hello")
    with pytest.raises(SinkError, match="does not say its version"):
        choose_tool("erofs")


def test_a_tool_that_cannot_be_run(programs: Path) -> None:
    path = programs / "mkfs.erofs"
    path.write_bytes(b"#!/nowhere/at/all\n")
    path.chmod(0o755)
    with pytest.raises(SinkError, match="cannot run"):
        choose_tool("erofs")


def test_where_only_root_looks(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian keeps mke2fs out of other people's $PATH."""
    (tmp_path / "sbin").mkdir()
    path = program(tmp_path / "sbin", "mke2fs", "")
    monkeypatch.setattr("streamerge.sinks.mkfs.tools._PATH", str(tmp_path / "sbin"))
    assert find_program("mke2fs") == str(path)


@pytest.mark.parametrize(("code", "reads"), [(0, True), (1, False)])
def test_mke2fs_is_asked_whether_it_has_libarchive(programs: Path, code: int, reads: bool) -> None:
    path = program(programs, "mke2fs", "you need libarchive to be able to process tarballs", code)
    assert reads_tars(Tool("mke2fs", str(path), (1, 47, 1))) is reads
    assert not reads_tars(Tool("mke2fs", str(path), (1, 47, 0)))
    assert reads_tars(Tool("mkfs.erofs", "/nowhere", (1, 7)))


# --- command lines -------------------------------------------------------------------------------


def line(command: Command) -> str:
    return " ".join(command.argv)


def test_mksquashfs() -> None:
    tool = Tool("mksquashfs", "mksquashfs", (4, 6, 1))
    command = from_tar(tool, "OUT", Settings(arguments=["-comp", "zstd"]), ROOT)
    assert line(command) == (
        "mksquashfs - OUT -tar -noappend -root-mode 711 -root-uid 5 -root-gid 6 -root-time 1700000000 "
        "-quiet -no-progress -exit-on-error -comp zstd"
    )
    assert command.environment == {"SOURCE_DATE_EPOCH": None}
    fixed = from_tar(tool, "OUT", Settings(time=7, progress=True), RootDirectory(mtime=-5))
    assert line(fixed).endswith("-root-time 0 -mkfs-time 7 -exit-on-error")
    assert fixed.progress


def test_sqfstar_has_the_image_last() -> None:
    command = from_tar(Tool("sqfstar", "sqfstar", (4, 5, 1)), "OUT", Settings(arguments=["-comp", "xz"]), ROOT)
    assert line(command) == (
        "sqfstar -root-mode 711 -root-uid 5 -root-gid 6 -root-time 1700000000 "
        "-quiet -no-progress -exit-on-error -comp xz OUT"
    )


def test_tar2sqfs_takes_its_time_from_the_environment() -> None:
    tool = Tool("tar2sqfs", "tar2sqfs", (1, 2, 0))
    command = from_tar(tool, "OUT", Settings(arguments=["-c", "zstd"], time=7), ROOT)
    assert line(command) == "tar2sqfs --quiet --compressor gzip -c zstd OUT"
    assert command.environment == {"SOURCE_DATE_EPOCH": "7"}


def test_mkfs_erofs() -> None:
    settings = Settings(arguments=["-zlz4hc", "-C65536"])
    new = from_tar(Tool("mkfs.erofs", "mkfs.erofs", (1, 8, 7)), "OUT", settings, ROOT)
    assert line(new) == "mkfs.erofs --tar=f --quiet -zlz4hc -C65536 OUT /dev/stdin"
    assert new.environment == {"SOURCE_DATE_EPOCH": None}
    old = from_tree(Tool("mkfs.erofs", "mkfs.erofs", (1, 5)), "OUT", "TREE", settings)
    assert line(old) == "mkfs.erofs --quiet -zlz4hc -C65536 OUT TREE"


@pytest.mark.parametrize("version", [(1, 7), (1, 8), (1, 8, 6)])
def test_mkfs_erofs_that_cannot_open_a_pipe(version: tuple[int, ...]) -> None:
    """Debian 13's mkfs.erofs 1.8.6 failed on every tar: it resolves /dev/stdin to the name of a pipe, which is no file.

    Found on Debian 13. Without a source it reads standard input.
    """
    command = from_tar(Tool("mkfs.erofs", "mkfs.erofs", version), "OUT", Settings(), ROOT)
    assert line(command) == "mkfs.erofs --tar=f --quiet OUT"


def test_mkfs_erofs_that_shall_be_reproducible() -> None:
    """Before 1.8 there is no time for the file system alone: the variable's must be later than all files'."""
    new = from_tar(Tool("mkfs.erofs", "mkfs.erofs", (1, 8)), "OUT", Settings(time=7), ROOT)
    assert " -T7 --mkfs-time " in line(new)
    old = from_tar(Tool("mkfs.erofs", "mkfs.erofs", (1, 7, 1)), "OUT", Settings(time=7), ROOT)
    assert "-T" not in line(old)
    assert old.environment == {"SOURCE_DATE_EPOCH": "4294967295"}
    assert " -U " in line(new)
    assert "-Eforce-inode-extended" in new.argv  # else mkfs.erofs drops fractions of seconds next to its own time
    assert new.argv[new.argv.index("-U") + 1] == old.argv[old.argv.index("-U") + 1]


def test_mke2fs() -> None:
    tool = Tool("mke2fs", "mke2fs", (1, 47, 2))
    command = ext4_command(tool, "OUT", "-", Settings(arguments=["-O", "^has_journal"]), 8 << 20, 100)
    assert line(command) == (
        "mke2fs -q -F -t ext4 -b 4096 -I 256 -m 0 -N 100 -E root_owner=0:0 -O ^has_journal -d - OUT 8192k"
    )
    assert command.size == 8 << 20
    fixed = ext4_command(tool, "OUT", "TREE", Settings(time=0), 8 << 20, 100)
    assert ",hash_seed=" in line(fixed)
    assert fixed.environment == {"SOURCE_DATE_EPOCH": None, "E2FSPROGS_FAKE_TIME": "1"}


def test_debugfs_sets_what_mke2fs_forgets() -> None:
    command = debugfs_command("debugfs", "OUT", ROOT, inodes=2, time=None)
    assert command.stdin == b"sif / mode 040711\nsif / uid 5\nsif / gid 6\nsif / mtime @1700000000\n"
    fixed = debugfs_command("debugfs", "OUT", ROOT, inodes=2, time=9)
    assert fixed.stdin is not None
    assert fixed.stdin.endswith(b"sif <11> atime @9\nsif <11> ctime @9\nsif <12> atime @9\nsif <12> ctime @9\n")
    assert b"sif <2> ctime @9\n" in fixed.stdin


def test_uuids_follow_the_time() -> None:
    tool = Tool("mkfs.erofs", "mkfs.erofs", (1, 8))
    lines = {line(from_tar(tool, "OUT", Settings(time=time), ROOT)).replace(f"-T{time}", "") for time in (1, 1, 2)}
    assert len(lines) == 2
    assert os.environ.get("SOURCE_DATE_EPOCH") is None or lines


def test_there_is_a_tool_for_every_file_system_that_may_be_asked_for() -> None:
    assert tuple(tools._CHOICES) == FILESYSTEMS
