"""Which tool is taken, what its version can do, and the command lines; no real tool is run here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamerge import SinkError
from streamerge.errors import UsageError
from streamerge.sinks.formats import FILESYSTEMS
from streamerge.sinks.mkfs.commands import Command, RootDirectory, TreeSummary
from streamerge.sinks.mkfs.erofs import MkfsErofs
from streamerge.sinks.mkfs.ext4 import Mke2fs, debugfs_command
from streamerge.sinks.mkfs.ext4_size import Ext4Size
from streamerge.sinks.mkfs.options import Console, FilesystemOptions
from streamerge.sinks.mkfs.registry import TOOLS, choose_tool
from streamerge.sinks.mkfs.squashfs import Mksquashfs, Sqfstar, Tar2sqfs
from streamerge.sinks.mkfs.tools import MkfsTool, TreeReadingTool, find_program, parse_version

ROOT = RootDirectory(0o711, 5, 6, 1_700_000_000)
SUMMARY = TreeSummary(ROOT)
SIZE = Ext4Size(8 << 20, 100)


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
    ("tool", "reads"),
    [
        (MkfsErofs("mkfs.erofs", (1, 5)), False),
        (MkfsErofs("mkfs.erofs", (1, 7)), True),
        (Mke2fs("mke2fs", (1, 47, 0)), False),
        (Mke2fs("mke2fs", (1, 47, 1)), True),
        (Mksquashfs("mksquashfs", (4, 6)), True),
        (Sqfstar("sqfstar", (4, 5, 1)), True),
        (Tar2sqfs("tar2sqfs", (1, 2, 0)), True),
    ],
    ids=lambda value: f"{value.name} {value.version_text}" if isinstance(value, MkfsTool) else None,
)
def test_which_versions_read_tars(tool: MkfsTool, reads: bool) -> None:
    assert tool.version_reads_tars is reads


def test_a_tool_reads_tars_or_directories() -> None:
    for tool in (tool for tools in TOOLS.values() for tool in tools):
        assert tool.first_reading_tars == tool.oldest_usable or issubclass(tool, TreeReadingTool)


def test_which_versions_can_set_the_roots_owner() -> None:
    assert not Sqfstar("", (4, 5, 1)).keeps_root
    assert Sqfstar("", (4, 6)).keeps_root
    assert Tar2sqfs("", (1, 0)).keeps_root


# --- choice --------------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A $PATH with nothing but what a test puts there."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setattr("streamerge.sinks.mkfs.tools._SYSTEM_PATH", "")
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
    assert choose_tool("squashfs") == Mksquashfs(str(path), (4, 6, 1))


def test_tar2sqfs_comes_before_a_sqfstar_that_forgets_the_root(programs: Path) -> None:
    program(programs, "mksquashfs", "mksquashfs version 4.5.1 (2022/03/17)")
    program(programs, "sqfstar", "sqfstar version 4.5.1 (2022/03/17)")
    assert choose_tool("squashfs").name == "sqfstar"
    program(programs, "tar2sqfs", "tar2sqfs (squashfs-tools-ng) 1.2.0")
    assert choose_tool("squashfs").name == "tar2sqfs"


def test_a_tool_that_is_named(programs: Path, tmp_path: Path) -> None:
    program(programs, "tar2sqfs", "tar2sqfs (squashfs-tools-ng) 1.2.0")
    program(programs, "sqfstar", "sqfstar version 4.5.1 (2022/03/17)")
    assert choose_tool("squashfs", "sqfstar").name == "sqfstar"
    (tmp_path / "other").mkdir()
    path = program(tmp_path / "other", "sqfstar", "sqfstar version 4.7.0 (2025/06/01)")
    assert choose_tool("squashfs", str(path)) == Sqfstar(str(path), (4, 7, 0))


def test_mke2fs_by_its_other_name(programs: Path) -> None:
    program(programs, "mkfs.ext4", "mke2fs 1.47.0 (5-Feb-2023)")
    assert choose_tool("ext4", "mkfs.ext4").name == "mke2fs"


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
    with pytest.raises(SinkError, match=r"need mksquashfs 4\.6 or sqfstar 4\.5 or .*only found mksquashfs 4\.4"):
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
    with pytest.raises(SinkError, match=r"1\.2 is too old; use 1\.3 or newer"):
        choose_tool("erofs", "mkfs.erofs")


def test_the_named_one_makes_something_else(programs: Path) -> None:
    with pytest.raises(UsageError, match=r"^mkfs\.xfs cannot make ext4 images; use mke2fs"):
        choose_tool("ext4", "mkfs.xfs")


def test_a_tool_that_says_no_version(programs: Path) -> None:
    program(programs, "mkfs.erofs", "hello")
    with pytest.raises(SinkError, match="no version found"):
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
    monkeypatch.setattr("streamerge.sinks.mkfs.tools._SYSTEM_PATH", str(tmp_path / "sbin"))
    assert find_program("mke2fs") == str(path)


@pytest.mark.parametrize(("code", "reads"), [(0, True), (1, False)])
def test_mke2fs_is_asked_whether_it_has_libarchive(programs: Path, code: int, reads: bool) -> None:
    path = program(programs, "mke2fs", "you need libarchive to be able to process tarballs", code)
    assert Mke2fs(str(path), (1, 47, 1)).reads_tars() is reads
    assert not Mke2fs(str(path), (1, 47, 0)).reads_tars()
    assert MkfsErofs("/nowhere", (1, 7)).reads_tars()


# --- command lines -------------------------------------------------------------------------------


def line(command: Command) -> str:
    return " ".join(command.argv)


def test_mksquashfs() -> None:
    tool = Mksquashfs("mksquashfs", (4, 6, 1))
    command = tool.tar_command("OUT", FilesystemOptions(arguments=["-comp", "zstd"]), SUMMARY)
    assert line(command) == (
        "mksquashfs - OUT -tar -noappend -root-mode 711 -root-uid 5 -root-gid 6 -root-time 1700000000 "
        "-quiet -no-progress -exit-on-error -comp zstd"
    )
    assert command.environment == {"SOURCE_DATE_EPOCH": None}
    options = FilesystemOptions(time=7, console=Console(progress=True))
    fixed = tool.tar_command("OUT", options, TreeSummary(RootDirectory(mtime=-5)))
    assert line(fixed).endswith("-root-time 0 -mkfs-time 7 -exit-on-error")
    assert fixed.progress


def test_sqfstar_has_the_image_last() -> None:
    options = FilesystemOptions(arguments=["-comp", "xz"])
    command = Sqfstar("sqfstar", (4, 5, 1)).tar_command("OUT", options, SUMMARY)
    assert line(command) == (
        "sqfstar -root-mode 711 -root-uid 5 -root-gid 6 -root-time 1700000000 "
        "-quiet -no-progress -exit-on-error -comp xz OUT"
    )


def test_tar2sqfs_takes_its_time_from_the_environment() -> None:
    options = FilesystemOptions(arguments=["-c", "zstd"], time=7)
    command = Tar2sqfs("tar2sqfs", (1, 2, 0)).tar_command("OUT", options, SUMMARY)
    assert line(command) == "tar2sqfs --quiet --compressor gzip -c zstd OUT"
    assert command.environment == {"SOURCE_DATE_EPOCH": "7"}


def test_mkfs_erofs() -> None:
    options = FilesystemOptions(arguments=["-zlz4hc", "-C65536"])
    new = MkfsErofs("mkfs.erofs", (1, 8, 7)).tar_command("OUT", options, SUMMARY)
    assert line(new) == "mkfs.erofs --tar=f --quiet -zlz4hc -C65536 OUT /dev/stdin"
    assert new.environment == {"SOURCE_DATE_EPOCH": None}
    [old] = MkfsErofs("mkfs.erofs", (1, 5)).tree_commands("OUT", "TREE", options, SUMMARY, pytest.fail)
    assert line(old) == "mkfs.erofs --quiet -zlz4hc -C65536 OUT TREE"


@pytest.mark.parametrize("version", [(1, 7), (1, 8), (1, 8, 6)])
def test_mkfs_erofs_that_cannot_open_a_pipe(version: tuple[int, ...]) -> None:
    """Debian 13's mkfs.erofs 1.8.6 failed on every tar: it resolves /dev/stdin to the name of a pipe, which is no file.

    Found on Debian 13. Without a source it reads standard input.
    """
    command = MkfsErofs("mkfs.erofs", version).tar_command("OUT", FilesystemOptions(), SUMMARY)
    assert line(command) == "mkfs.erofs --tar=f --quiet OUT"


def test_mkfs_erofs_reproducible() -> None:
    """Before 1.8 there is no time for the file system alone: the variable's must be later than all files'."""
    options = FilesystemOptions(time=7)
    new = MkfsErofs("mkfs.erofs", (1, 8, 7)).tar_command("OUT", options, SUMMARY)
    assert " -T7 --mkfs-time " in line(new)
    old = MkfsErofs("mkfs.erofs", (1, 7, 1)).tar_command("OUT", options, SUMMARY)
    assert "-T" not in line(old)
    assert old.environment == {"SOURCE_DATE_EPOCH": "4294967295"}
    assert " -U " in line(new)
    assert "-Eforce-inode-extended" in new.argv  # else mkfs.erofs drops fractions of seconds next to its own time
    assert new.argv[new.argv.index("-U") + 1] == old.argv[old.argv.index("-U") + 1]


def test_mke2fs() -> None:
    tool = Mke2fs("mke2fs", (1, 47, 2))
    command = tool.command("OUT", "-", FilesystemOptions(arguments=["-O", "^has_journal"]), SIZE)
    assert line(command) == (
        "mke2fs -q -F -t ext4 -b 4096 -I 256 -m 0 -N 100 -E root_owner=0:0 -O ^has_journal -d - OUT 8192k"
    )
    assert command.size == 8 << 20
    fixed = tool.command("OUT", "TREE", FilesystemOptions(time=0), SIZE)
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
    tool = MkfsErofs("mkfs.erofs", (1, 8))

    def without_time(time: int) -> str:
        return line(tool.tar_command("OUT", FilesystemOptions(time=time), SUMMARY)).replace(f"-T{time}", "")

    lines = {without_time(time) for time in (1, 1, 2)}
    assert len(lines) == 2
    assert os.environ.get("SOURCE_DATE_EPOCH") is None or lines


def test_there_is_a_tool_for_every_file_system_that_may_be_asked_for() -> None:
    assert tuple(TOOLS) == FILESYSTEMS
