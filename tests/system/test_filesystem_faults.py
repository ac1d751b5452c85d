"""Images that cannot be made: no tool, a tool that dies, a full disk, a broken layer, Ctrl-C. Nothing is left."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamerge import SinkError, fileio, layer_files, merge, open_filesystem
from streamerge.cli import main as cli
from streamerge.errors import UsageError
from streamerge.sinks.mkfs import image as image_module
from streamerge.sinks.mkfs.commands import Command
from streamerge.sinks.mkfs.image import ImageFile
from streamerge.sinks.mkfs.options import Console
from streamerge.sinks.mkfs.pipe import _Feed
from streamerge.sinks.mkfs.process import Process
from tests.support import tree
from tests.support.command import end_soon, finished, on_terminal, run, start
from tests.support.filesystems import mounted
from tests.support.layers import SECOND, Layer
from tests.support.strict_tar import members
from tests.support.unprivileged import NOBODY, run_as

NeedTool = Callable[[str], str]

OLD = b"the image of an earlier run"
LARGE = Layer().dir(b"d").file(b"d/large", os.urandom(1 << 20) * 8).file(b"d/small", b"x")


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    path = tmp_path / "layer.tar"
    path.write_bytes(LARGE.tar())
    return path


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A directory in which nothing but old images may be found afterwards."""
    directory = tmp_path / "output"
    directory.mkdir()
    for suffix in ("squashfs", "erofs", "ext4"):
        (directory / f"image.{suffix}").write_bytes(OLD)
    return directory


def assert_untouched(output: Path) -> None:
    assert {path.name: path.read_bytes() for path in output.iterdir()} == dict.fromkeys(
        ("image.squashfs", "image.erofs", "image.ext4"), OLD
    )


class Tools:
    """Programs of our own, first on $PATH; what they are called with is kept."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.env = {"PATH": f"{directory}:{os.environ['PATH']}", "LOG": str(directory / "log")}

    def add(self, name: str, version: str, script: str) -> None:
        """``script`` runs when the tool is not just asked its version; ``$image`` is what it shall make."""
        path = self.directory / name
        ask = 'case "$*" in -V|-version|--version) echo "' + version + '"; exit;; esac\n'
        probe = 'case "$*" in *"-t ext2 "*) cat >/dev/null; exit 0;; esac\n'
        log = 'echo "$0 $*" >>"$LOG"\n'
        find = "for image; do case $image in */.*.partial-*) [[ -d $image ]] || break;; esac; done\n"
        path.write_text("#!/bin/bash\n" + ask + probe + log + find + script)
        path.chmod(0o755)

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    return Tools(tmp_path / "bin")


NEWER = {
    "squashfs": ("mksquashfs", "mksquashfs version 4.6.1 (2023/03/25)"),
    "erofs": ("mkfs.erofs", "mkfs.erofs (erofs-utils) 1.8.4"),
    "ext4": ("mke2fs", "mke2fs 1.47.2 (1-Jan-2025)"),
}
FILESYSTEMS = list(NEWER)


# --- newer tools ---------------------------------------------------------------------------------


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_newer_tools_are_given_a_tar(tools: Tools, layer: Path, tmp_path: Path, filesystem: str) -> None:
    """What they read is a whole tar; what it makes is the image."""
    tools.add(*NEWER[filesystem], 'cat >"$image"')
    image = tmp_path / f"image.{filesystem}"
    run(layer, "-q", "-o", image, env=tools.env).assert_merged()
    way = {"squashfs": " - /", "erofs": "--tar=f ", "ext4": "-d - "}
    assert way[filesystem] in tools.log
    assert ("-tar" in tools.log) == (filesystem != "ext4")
    data = image.read_bytes()
    if filesystem == "squashfs":  # which is told of the root and not given its entry
        assert b"./\0" not in data[:512]
        data = Layer().dir(b"").tar(end=False) + data
    assert tree.from_tar(data)[b"d/large"].content == tree.content_of(LARGE.entries[1].data)


def test_mke2fs_is_told_the_same_by_all_names_of_a_file(tools: Tools, tmp_path: Path) -> None:
    """It takes owner, mode and time of a file from the last name; and long names stand in GNU's headers."""
    long = b"caf\xe9" * 40
    layer = (
        Layer()
        .file(b"a", b"x", mode=0o4711, uid=7, mtime=9 * SECOND)
        .link(b"b", b"a", mode=0o600, uid=8)
        .file(long, b"y", uid=3_000_000_000)
        .link(b"c", long)
    )
    (tmp_path / "layer.tar").write_bytes(layer.tar())
    tools.add(*NEWER["ext4"], 'cat >"$image"')
    image = tmp_path / "image.ext4"
    run(tmp_path / "layer.tar", "-q", "-o", image, env=tools.env).assert_merged()
    data = image.read_bytes()
    with image.open("rb") as file:
        found = {member.path: member for member in itertools.islice(members(file), 5)}
    assert (found[b"b"].mode, found[b"b"].uid, found[b"b"].mtime_ns) == (0o4711, 7, 9 * SECOND)
    assert found[b"c"].uid == 3_000_000_000
    assert b"path=" not in data


@pytest.mark.root
def test_a_mke2fs_without_libarchive_is_given_a_directory(tools: Tools, layer: Path, tmp_path: Path) -> None:
    tools.add(*NEWER["ext4"], 'while [[ $1 != -d ]]; do shift; done; ls "$2" >"$image"')
    path = tools.directory / "mke2fs"
    path.write_text(path.read_text().replace("cat >/dev/null; exit 0", "exit 1"))
    tools.add("debugfs", "", 'cat >>"$LOG"')
    run(layer, "-q", "-o", tmp_path / "image.ext4", env=tools.env).assert_merged()
    assert (tmp_path / "image.ext4").read_bytes().rstrip(b"\0") == b"d\n"
    assert "sif / mode 040755" in tools.log


def test_what_a_tool_says_is_passed_on(tools: Tools, layer: Path, tmp_path: Path) -> None:
    """To standard error, never to standard output; with -q nothing of it."""
    tools.add(*NEWER["erofs"], 'cat >"$image"; echo to stdout; echo to stderr >&2')
    done = run(layer, "-o", tmp_path / "image.erofs", env=tools.env).assert_merged()
    assert done.out == b""
    assert "mkfs.erofs: to stdout\n" in done.err
    assert "mkfs.erofs: to stderr\n" in done.err
    done = run(layer, "-q", "-o", tmp_path / "image.erofs", env=tools.env).assert_merged()
    assert (done.out, done.err) == (b"", "")


def test_on_a_terminal_the_tool_shows_its_own_progress(tools: Tools, layer: Path, tmp_path: Path) -> None:
    """Just as it writes it, and without the option that would silence it; what it says on standard error as ever."""
    tools.add(*NEWER["erofs"], 'cat >"$image"; printf "50%%\\r100%%\\n"; echo to stderr >&2')
    done = on_terminal(layer, "-o", tmp_path / "image.erofs", stdout=False, env=tools.env)
    assert done.code == 0, done.err
    assert "50%\r100%" in done.err
    assert "mkfs.erofs: to stderr" in done.err
    assert "--quiet" not in tools.log


# --- tools that fail -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filesystem", "packages"),
    [("squashfs", "squashfs-tools or squashfs-tools-ng"), ("erofs", "erofs-utils"), ("ext4", "e2fsprogs")],
)
def test_no_tool(
    layer: Path,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    filesystem: str,
    packages: str,
) -> None:
    """The message names the package to install."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("streamerge.sinks.mkfs.tools._SYSTEM_PATH", "")
    with pytest.raises(SystemExit) as caught:
        cli.main([str(layer), "-o", str(output / f"image.{filesystem}")])
    assert caught.value.code == 1
    assert packages in capsys.readouterr().err
    assert_untouched(output)


DEATHS = {
    "before it reads": ("exit 3", "mkfs.erofs failed (exit code 3"),
    "half-way": (
        "head -c 500000 >/dev/null; echo the last words >&2; exit 4",
        "mkfs.erofs failed (exit code 4): the last words",
    ),
    "after all": ('cat >"$image"; echo no room >&2; exit 5', "mkfs.erofs failed (exit code 5): no room"),
    "by a signal": ("head -c 500000 >/dev/null; kill -SEGV $$", "signal SIGSEGV"),
    "without an image": ("cat >/dev/null", "mkfs.erofs exited with 0 but wrote no image"),
}


@pytest.mark.parametrize("death", DEATHS)
def test_a_tool_that_dies(tools: Tools, layer: Path, output: Path, death: str) -> None:
    script, words = DEATHS[death]
    tools.add(*NEWER["erofs"], script)
    done = run(layer, "-o", output / "image.erofs", env=tools.env)
    done.assert_failed(words)
    assert_untouched(output)


@pytest.mark.root
def test_a_tool_that_fails_at_a_directory(tools: Tools, layer: Path, output: Path) -> None:
    tools.add("mkfs.erofs", "mkfs.erofs 1.5", 'echo half >"$image"; echo no room >&2; exit 5')
    run(layer, "-o", output / "image.erofs", env=tools.env).assert_failed("mkfs.erofs failed (exit code 5): no room")
    assert_untouched(output)


def test_a_tool_that_stops_reading_at_the_end_is_no_failure(tools: Tools, layer: Path, output: Path) -> None:
    """The end-of-archive blocks are the tar's end; what pads it to a record need not be read."""
    size = len(LARGE.tar(end=False)) + 1024 + 512  # the root's own entry, and two blocks of zeros
    tools.add(*NEWER["erofs"], f'head -c {size} >"$image"')
    run(layer, "-q", "-o", output / "image.erofs", env=tools.env).assert_merged()
    assert (output / "image.erofs").stat().st_size == size


@pytest.mark.parametrize("ends", [True, False])
def test_a_tool_that_is_gone_while_it_is_fed(ends: bool) -> None:
    """It may go when the tar is at its end; before, even success is a failure: it cannot have read all."""
    process = Process(Command(["true"]), Console(quiet=True), feeds=True)
    assert process.has_succeeded()
    feed = _Feed(process, lambda: ends)
    if ends:
        feed.write([bytes(1024)])
    else:
        with pytest.raises(SinkError, match=r"true failed \(exit code 0\)"):
            feed.write([bytes(1024)])
    process.kill()


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_a_broken_layer_means_a_broken_image(tools: Tools, tmp_path: Path, output: Path, filesystem: str) -> None:
    """The tool never sees an end of its input that it could take for the end of the tar."""
    cut = tmp_path / "cut.tar"
    cut.write_bytes(LARGE.tar()[: 3 << 20])
    tools.add(*NEWER[filesystem], 'cat >"$image"; echo it has succeeded >>"$LOG"')
    run(cut, "-o", output / f"image.{filesystem}", env=tools.env).assert_failed("layer 0 (cut.tar)", "truncated")
    assert_untouched(output)
    assert not (tools.directory / "log").exists() or "succeeded" not in tools.log


@pytest.mark.root
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_a_broken_layer_and_the_real_tools(tmp_path: Path, output: Path, need_tool: NeedTool, filesystem: str) -> None:
    for tool in ("sqfstar", "mkfs.erofs", "mke2fs"):
        need_tool(tool)
    cut = tmp_path / "cut.tar"
    cut.write_bytes(LARGE.tar()[: 3 << 20])
    run(cut, "-o", output / f"image.{filesystem}").assert_failed("layer 0 (cut.tar)", "truncated")
    assert_untouched(output)


@pytest.fixture
def disk(tmp_path: Path, need_tool: NeedTool) -> Iterator[Path]:
    """A file system of 4 MiB, too small for the layer."""
    directory = tmp_path / "disk"
    directory.mkdir()
    subprocess.run([need_tool("mount"), "-t", "tmpfs", "-o", "size=4m", "tmpfs", directory], check=True)
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


@pytest.mark.root
@pytest.mark.parametrize("name", ["image.squashfs", "image.erofs", "image.ext4", "image.cpio"])
def test_a_full_disk(layer: Path, disk: Path, need_tool: NeedTool, name: str) -> None:
    for tool in ("sqfstar", "mkfs.erofs", "mke2fs"):
        need_tool(tool)
    done = run(layer, "-o", disk / name)
    assert done.code == 1, done.err
    assert "No space left" in done.err or "failed" in done.err, done.err
    assert "Traceback" not in done.err
    assert list(disk.iterdir()) == []


@pytest.mark.root
def test_a_name_that_the_tool_would_cut_short(tmp_path: Path, output: Path, need_tool: NeedTool, tools: Tools) -> None:
    """mkfs.erofs before 1.8.5 keeps 254 bytes: in a tar silently, of a directory it does not find the file."""
    (tmp_path / "layer.tar").write_bytes(Layer().file(b"n" * 255, b"x").tar())
    tools.add("mkfs.erofs", "mkfs.erofs (erofs-utils) 1.8.4", 'cat >"$image"')
    done = run(tmp_path / "layer.tar", "-o", output / "image.erofs", env=tools.env)
    done.assert_failed("the name has 255 bytes, but mkfs.erofs 1.8.4 stores at most 254")
    assert_untouched(output)


# --- signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("reads", ["tar", pytest.param("directory", marks=pytest.mark.root)])
def test_signals_end_the_tool(
    tools: Tools, layer: Path, output: Path, reads: str, number: signal.Signals, code: int
) -> None:
    """The tool and what it has started are gone, and so is all that it has made."""
    version = "mkfs.erofs (erofs-utils) 1.8.4" if reads == "tar" else "mkfs.erofs 1.5"
    tools.add("mkfs.erofs", version, 'echo half >"$image"; sleep 1000 & echo $! >"$LOG.pid"; wait')
    process = start(layer, "-o", output / "image.erofs", env=tools.env)
    pid = tools.directory / "log.pid"
    deadline = time.monotonic() + 20
    while not (pid.exists() and pid.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    assert finished(process).code == code
    assert_untouched(output)
    assert end_soon([int(pid.read_text())])


# --- where an image cannot be --------------------------------------------------------------------


def test_an_image_is_made_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "directory.erofs").mkdir()
    with pytest.raises(SinkError, match="not a regular file"):
        ImageFile(str(tmp_path / "directory.erofs"), "mkfs.erofs", fsync=True)
    with pytest.raises(SinkError, match="not a regular file"):
        ImageFile("/dev/null", "mkfs.erofs", fsync=True)
    with pytest.raises(SinkError, match="No such file"):
        ImageFile(str(tmp_path / "nowhere" / "image.erofs"), "mkfs.erofs", fsync=True)


@pytest.mark.parametrize("fsync", [True, False])
def test_an_image_is_on_disk_before_it_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: bool) -> None:
    """Its pages, its name, its directory's entry, in this order; its name alone without fsync."""
    steps: list[str] = []
    replace, flush = os.replace, image_module._fsync

    def noted(step: str, call: Callable[..., None]) -> Callable[..., None]:
        def do(*arguments: str) -> None:
            steps.append(step)
            call(*arguments)

        return do

    monkeypatch.setattr(image_module, "_fsync", noted("pages", flush))
    monkeypatch.setattr(os, "replace", noted("name", replace))
    monkeypatch.setattr(fileio, "fsync_name", lambda path: steps.append(f"directory of {path}"))
    image = ImageFile(str(tmp_path / "image"), "mkfs.erofs", fsync=fsync)
    Path(image.partial).write_bytes(b"image")
    image.commit()
    assert steps == (["pages", "name", f"directory of {tmp_path}/image"] if fsync else ["name"])


# --- who is not root -----------------------------------------------------------------------------


@pytest.mark.root
def test_owners_need_root_where_the_tool_reads_a_directory(
    tools: Tools, layer: Path, tmp_path: Path, need_tool: NeedTool
) -> None:
    tools.add("mkfs.erofs", "mkfs.erofs 1.5", 'shift; ls -R / >/dev/null; echo made >"$image"')
    place = tmp_path / "place"
    place.mkdir()
    for directory in (place, tools.directory):
        directory.chmod(0o777)
    for directory in (tmp_path, *tmp_path.parents):
        directory.chmod(0o755)
        if directory.name.startswith("pytest-of-"):
            break
    done = run_as(NOBODY, layer, "-o", place / "image.erofs", env=tools.env)
    done.assert_failed("only root can set", "fakeroot", "--no-same-owner")
    assert list(place.iterdir()) == []


@pytest.mark.root
@pytest.mark.loop
def test_fakeroot(tmp_path: Path, need_tool: NeedTool) -> None:
    """Owners, devices and modes of an image that somebody makes who is not root."""
    for tool in ("fakeroot", "mke2fs", "debugfs"):
        need_tool(tool)
    layer = Layer().dir(b"").dir(b"d", uid=5).file(b"d/f", b"x", uid=7, gid=8, mode=0o4755).char(b"c", 1, 3, mode=0o666)
    (tmp_path / "layer.tar").write_bytes(layer.tar())
    image = tmp_path / "image.ext4"
    run(tmp_path / "layer.tar", "-q", "-o", image, prefix=["fakeroot"]).assert_merged()
    with mounted(image, tmp_path / "view") as view:
        found = tree.from_directory(view)
    assert (found[b"d/f"].uid, found[b"d/f"].gid, found[b"d/f"].mode) == (7, 8, 0o4755)
    assert (found[b"c"].device, found[b"d"].uid) == ((1, 3), 5)


# --- the library ---------------------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.loop
def test_the_library(layer: Path, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("mkfs.erofs")
    merge(layer_files([str(layer)]), open_filesystem(str(tmp_path / "image"), "erofs"))
    with mounted(tmp_path / "image", tmp_path / "view") as view:
        assert (view / "d/small").read_bytes() == b"x"
    with pytest.raises(UsageError, match="xfs is not a supported file system"):
        open_filesystem("x", "xfs")
