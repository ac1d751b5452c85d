"""A directory as output is there whole or not at all, and what was there before stays until then."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamerge import DirectorySink, Options, SinkError, StreamergeError, merge
from streamerge.sinks.directory import replace
from streamerge.sinks.directory import sink as directory
from tests.support import tree
from tests.support.command import UNCOUNTED, Done, finished, run, start
from tests.support.layers import Layer
from tests.support.merged import BytesLayer
from tests.support.unprivileged import NOBODY, Caller, run_as, start_as

NeedTool = Callable[[str], str]

pytestmark = pytest.mark.root

LOCKED = (
    Layer().dir(b"", mode=0).dir(b"a", mode=0, uid=7).dir(b"a/b", mode=0o100).file(b"a/b/f", b"x", mode=0)
    .dir(b"c", mode=0o400).symlink(b"c/s", b"/no/such/place").fifo(b"c/p", mode=0)
)  # fmt: skip
"""A tree that its owner can neither list nor enter nor empty."""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory in which anybody may work."""
    with tempfile.TemporaryDirectory(prefix="streamerge-") as name:
        os.chmod(name, 0o777)
        yield Path(name)


@pytest.fixture
def where(shared: Path) -> Path:
    """Where outputs go, with nothing else in it."""
    path = shared / "where"
    path.mkdir()
    path.chmod(0o777)
    return path


@pytest.fixture
def layer(shared: Path) -> Path:
    return written(shared, Layer().dir(b"d").file(b"d/new", b"new"))


def written(directory: Path, layer: Layer, name: str = "layer.tar", *, cut: int = 0) -> Path:
    data = layer.tar()
    (directory / name).write_bytes(data[: len(data) - cut])
    return directory / name


def bad(directory: Path, layer: Layer) -> Path:
    """The layer with an error at its end, when all else is written."""
    path = directory / "bad.tar"
    path.write_bytes(layer.tar(end=False) + b"rubbish" * 100)
    return path


def old_tree(path: Path) -> tree.Tree:
    """A directory that is not empty, as awkward as may be."""
    path.mkdir(parents=True)
    (path / "kept").write_bytes(b"old")
    (path / "sub").mkdir()
    (path / "sub" / "s").symlink_to("/no/such/place")
    (path / "sub").chmod(0)
    os.setxattr(path, "user.old", b"1")
    return tree.from_directory(path)


# --- what is there ---------------------------------------------------------------------------------


@pytest.mark.parametrize("caller", [None, NOBODY], ids=["root", "nobody"])
@pytest.mark.parametrize("options", [(), ("--force",), ("--no-fsync",), ("--format", "dir")])
def test_an_empty_directory_is_replaced(where: Path, layer: Path, caller: Caller | None, options: tuple[str]) -> None:
    (where / "root").mkdir(mode=0o700)
    before = (where / "root").stat().st_ino
    if caller is not None:
        os.chown(where / "root", caller.uid, caller.gid)
    called(caller, layer, *options, "-o", where / "root").assert_merged()
    assert (where / "root/d/new").read_bytes() == b"new"
    assert (where / "root").stat().st_ino != before
    assert os.listdir(where) == ["root"]


def called(caller: Caller | None, *arguments: str | Path) -> Done:
    return run(*arguments) if caller is None else run_as(caller, *arguments)


def test_a_directory_that_is_not_empty_is_refused(where: Path, layer: Path) -> None:
    before = old_tree(where / "root")
    run(layer, "-o", where / "root").assert_failed(f"'{where}/root' is not empty", "--force")
    assert tree.from_directory(where / "root") == before
    assert os.listdir(where) == ["root"]


def test_it_is_refused_before_any_layer_is_read(where: Path) -> None:
    old_tree(where / "root")
    run(where.parent / "no-such-layer.tar", where, "-o", where / "root").assert_failed()
    assert os.listdir(where) == ["root"]


@pytest.mark.parametrize("options", [("--force",), ("--force", "--no-fsync")])
def test_force_replaces_it(where: Path, layer: Path, options: tuple[str]) -> None:
    old_tree(where / "root")
    run(layer, *options, "-o", where / "root").assert_merged()
    assert {str(path.relative_to(where)) for path in where.rglob("*")} == {"root", "root/d", "root/d/new"}


def test_force_without_root(where: Path, shared: Path) -> None:
    """Twice the same locked tree: the old one's directories cannot be listed without a change of mode."""
    path = written(shared, LOCKED)
    for _ in range(2):
        run_as(NOBODY, path, "--force", "-o", f"{where}/root/").assert_merged()
        assert os.listdir(where) == ["root"]
        assert stat.S_IMODE((where / "root").stat().st_mode) == 0


def test_force_keeps_the_old_tree_until_the_new_is_complete(where: Path, shared: Path) -> None:
    before = old_tree(where / "root")
    path = bad(shared, Layer().file(b"x", b"1").file(b"kept", b"new"))
    run(path, "--force", "-o", where / "root").assert_failed("layer 0 (bad.tar)")
    assert tree.from_directory(where / "root") == before
    assert os.listdir(where) == ["root"]


def test_the_old_tree_is_there_while_the_new_one_grows(where: Path) -> None:
    before = old_tree(where / "root")
    seen = []

    class Looking(BytesLayer):
        def _chunks(self) -> Iterator[bytes]:
            for chunk in super()._chunks():
                seen.append(tree.from_directory(where / "root") == before)
                yield chunk

    merge([Looking(Layer().file(b"x", b"1").tar(), chunk=512)], DirectorySink(str(where / "root"), force=True))
    assert set(seen) == {True}
    assert os.listdir(where / "root") == ["x"]


@pytest.mark.parametrize("exchange", [True, False], ids=["swap", "two steps"])
def test_force_where_the_last_step_fails(where: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    """Also where the kernel cannot swap, and the old tree has been moved aside already."""
    before = old_tree(where / "root")
    rename = os.rename

    def failing(source: str, target: str) -> None:
        if target == str(where / "root") and "partial" in source and os.stat(source).st_mtime == 5:
            raise OSError(errno.ENOTEMPTY if (where / "root").exists() else errno.EIO, "made to fail")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    monkeypatch.setattr(replace, "_exchange", lambda _new, _path: False)
    if exchange:
        monkeypatch.setattr(replace, "_exchange", lambda _new, _path: _raise(OSError(errno.EIO, "made to fail")))
    with pytest.raises(SinkError, match="made to fail"):
        merge([BytesLayer(Layer().dir(b"", mtime=5 * 10**9).tar())], DirectorySink(str(where / "root"), force=True))
    assert tree.from_directory(where / "root") == before
    assert os.listdir(where) == ["root"]


def _raise(error: BaseException) -> bool:
    raise error


def test_force_in_two_steps(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems know no RENAME_EXCHANGE."""
    old_tree(where / "root")
    monkeypatch.setattr(replace, "_exchange", lambda _new, _path: False)
    merge([BytesLayer(Layer().file(b"x", b"1").tar())], DirectorySink(str(where / "root"), force=True))
    assert os.listdir(where) == ["root"]
    assert os.listdir(where / "root") == ["x"]


def test_an_old_tree_that_cannot_be_removed_is_no_error(where: Path, layer: Path) -> None:
    """The output is complete by then, so that an error would say the wrong thing; it did, with EPERM and no name."""
    old_tree(where / "root")
    (where / "root").chmod(0o777)
    os.chown(where / "root", NOBODY.uid, NOBODY.gid)
    done = run_as(NOBODY, layer, "--force", "-o", f"{where}/root/").assert_merged()
    assert f"the old content of '{where}/root' is left in '{where}/.root.partial-" in done.err
    assert os.listdir(where / "root") == ["d"]


def test_a_directory_that_is_filled_meanwhile_is_not_replaced(where: Path) -> None:
    (where / "root").mkdir()
    sink = DirectorySink(str(where / "root"))
    (where / "root" / "theirs").write_text("x")
    with pytest.raises(SinkError, match="not empty"):
        merge([BytesLayer(LOCKED.tar())], sink)
    assert os.listdir(where) == ["root"]
    assert os.listdir(where / "root") == ["theirs"]


@pytest.mark.parametrize("kind", ["file", "fifo", "symlink to a file"])
@pytest.mark.parametrize("force", [(), ("--force",)])
def test_what_is_no_directory(where: Path, layer: Path, shared: Path, kind: str, force: tuple[str]) -> None:
    if kind == "fifo":
        os.mkfifo(where / "root")
    elif kind == "file":
        (where / "root").write_text("mine")
    else:
        (shared / "mine").write_text("mine")
        (where / "root").symlink_to(shared / "mine")
    before = tree.from_directory(where)
    run(layer, *force, "--format", "dir", "-o", where / "root").assert_failed("exists and is not a directory")
    assert tree.from_directory(where) == before


def test_a_symlink_to_a_directory_stays_and_points_to_the_new_one(where: Path, layer: Path, shared: Path) -> None:
    (shared / "disk").mkdir()
    (where / "root").symlink_to(shared / "disk")
    run(layer, "-o", where / "root").assert_merged()
    assert (where / "root").is_symlink()
    assert (shared / "disk/d/new").read_bytes() == b"new"
    assert os.listdir(where) == ["root"]


def test_a_symlink_to_nothing_yet(where: Path, layer: Path, shared: Path) -> None:
    (where / "root").symlink_to(shared / "disk")
    run(layer, "-o", f"{where}/root/").assert_merged()
    assert (where / "root").is_symlink()
    assert (shared / "disk/d/new").read_bytes() == b"new"


def test_symlinks_in_a_circle(where: Path, layer: Path) -> None:
    (where / "root").symlink_to("root")
    run(layer, "-o", f"{where}/root/").assert_failed()
    assert os.listdir(where) == ["root"]


@pytest.mark.parametrize("name", ["root/", "./root/", "root", "../where/root/", "root//", "root/."])
def test_relative_names(where: Path, layer: Path, name: str) -> None:
    run(layer, "--format", "dir", "-o", name, cwd=where).assert_merged()
    assert (where / "root/d/new").read_bytes() == b"new"
    assert os.listdir(where) == ["root"]


@pytest.mark.parametrize("name", ["no/such/root/", "file/root/", "x" * 300 + "/"])
def test_where_no_directory_can_be(where: Path, layer: Path, name: str) -> None:
    (where / "file").write_text("mine")
    run(layer, "-o", f"{where}/{name}").assert_failed()
    assert os.listdir(where) == ["file"]


@pytest.mark.parametrize("force", [(), ("--force",)])
@pytest.mark.parametrize("name", [".", "./", "..", "../..", "/proc/self/cwd"])
def test_the_working_directory_is_not_replaced_under_ones_feet(
    where: Path, layer: Path, name: str, force: tuple[str]
) -> None:
    """The shell that called would stand in a directory that is gone, and see nothing of what was made."""
    inner = where / "inner" / "most"
    inner.mkdir(parents=True)
    done = run(layer, *force, "-o", name, cwd=inner)
    done.assert_failed("contains the working directory")
    assert [str(path.relative_to(where)) for path in where.rglob("*")] == ["inner", "inner/most"]


def test_a_working_directory_that_is_gone(where: Path, layer: Path, shared: Path) -> None:
    (shared / "gone").mkdir()
    script = f'rmdir "{shared}/gone"; exec "$@"'
    done = run(layer, "-o", f"{where}/root/", cwd=shared / "gone", prefix=["bash", "-c", script, "bash"])
    done.assert_merged()


def test_the_root_of_the_host(layer: Path) -> None:
    before = sorted(os.listdir("/"))
    run(layer, "-o", "/", "--format", "dir").assert_failed("'/' is a mount point")
    run(layer, "-o", "/", "--force").assert_failed("'/' is a mount point")
    assert sorted(os.listdir("/")) == before


# --- mounts ----------------------------------------------------------------------------------------


@contextmanager
def mounted(where: Path, *options: str) -> Iterator[Path]:
    where.mkdir(exist_ok=True, parents=True)
    subprocess.run(["mount", *options, where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)


BINDS = pytest.mark.parametrize("bind", [False, True], ids=["tmpfs", "bind mount"])


@contextmanager
def something_mounted(at: Path, shared: Path, *, bind: bool) -> Iterator[Path]:
    """A tmpfs, or a directory of the same file system, which nothing but the list of mounts tells from any other."""
    (shared / "elsewhere").mkdir()
    (shared / "elsewhere" / "precious").write_text("of another place")
    options = ("--bind", str(shared / "elsewhere")) if bind else ("-t", "tmpfs", "tmpfs")
    with mounted(at, *options):
        if not bind:
            (at / "precious").write_text("of another place")
        yield at
        assert (at / "precious").read_text() == "of another place"


@BINDS
@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_mount_point_is_not_replaced(where: Path, layer: Path, shared: Path, bind: bool, force: tuple[str]) -> None:
    with something_mounted(where / "ro ot\n", shared, bind=bind) as root:
        run(layer, *force, "-o", root).assert_failed("is a mount point and cannot be replaced; name a directory in it")
        run(layer, "--format", "dir", "-o", root / "below").assert_merged()


@BINDS
def test_what_is_mounted_in_an_old_tree_is_not_removed(where: Path, layer: Path, shared: Path, bind: bool) -> None:
    """A chroot with /dev or /home in it: the old tree took what was mounted there along, and removed it."""
    old_tree(where / "root")
    with something_mounted(where / "root/ho me", shared, bind=bind):
        run(layer, "--force", "-o", where / "root").assert_failed("ho me' is mounted in")
        assert os.listdir(where) == ["root"]
        assert (where / "root/kept").read_bytes() == b"old"


@BINDS
def test_what_is_mounted_in_an_old_tree_meanwhile(where: Path, shared: Path, bind: bool) -> None:
    old_tree(where / "root")
    warnings: list[str] = []
    sink = DirectorySink(str(where / "root"), force=True, warn=warnings.append)
    with something_mounted(where / "root/home", shared, bind=bind):
        merge([BytesLayer(Layer().file(b"x").tar())], sink)
        (old,) = (path for path in where.iterdir() if path.name != "root")
        assert (old / "home/precious").read_text() == "of another place"
        subprocess.run(["umount", "-l", old / "home"], check=True)
        subprocess.run(["mount", "--bind", shared / "elsewhere", where / "root"], check=True)  # for the way out
        (where / "root/home").mkdir()
        subprocess.run(["mount", "--bind", shared / "elsewhere", where / "root/home"], check=True)
        (shared / "elsewhere/precious").write_text("of another place")
    subprocess.run(["umount", "-l", where / "root"], check=True)
    assert "is mounted in it" in warnings[0]


# --- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "caller",
    [
        None,
        NOBODY,
        pytest.param(Caller(0, 0, uids=((0, 65534, 1),), gids=((0, 65534, 1),)), marks=pytest.mark.user_namespaces),
    ],
)
@pytest.mark.parametrize("existing", [False, True])
def test_an_error_leaves_nothing(where: Path, shared: Path, caller: Caller | None, existing: bool) -> None:
    if existing:
        (where / "root").mkdir(mode=0o705)
    called(caller, bad(shared, LOCKED), "-o", f"{where}/root/").assert_failed("layer 0 (bad.tar)", "checksum")
    assert os.listdir(where) == (["root"] if existing else [])
    if existing:
        assert stat.S_IMODE((where / "root").stat().st_mode) == 0o705


@pytest.mark.parametrize("caller", [None, NOBODY], ids=["root", "nobody"])
def test_an_error_of_the_last_step_leaves_nothing(where: Path, shared: Path, caller: Caller | None) -> None:
    """By then the tree has its modes, and its root cannot be listed by whoever made it.

    It stayed: a tree's own root was opened before its mode was changed.
    """
    path = written(shared, LOCKED)
    with stalled(shared, caller, path, "-o", f"{where}/root/") as process:
        (where / "root").mkdir()
        (where / "root" / "theirs").write_text("x")
        release(process, shared)
        done = finished(process)
    done.assert_failed("not empty")
    assert os.listdir(where) == ["root"]


def test_a_time_that_no_system_can_hold(where: Path, shared: Path) -> None:
    """A directory's was a traceback."""
    for layer in (Layer().dir(b"d", records={b"mtime": b"9" * 20}), Layer().file(b"d", records={b"mtime": b"9" * 20})):
        run(written(shared, layer), "-o", f"{where}/root/").assert_failed("d: its time is out of range for this system")
        assert os.listdir(where) == []


@pytest.mark.parametrize(
    "records",
    [
        {b"SCHILY.xattr.user.a\0b": b"x"},
        {b"LIBARCHIVE.xattr.user.a%00b": b"eA=="},
        {b"SCHILY.xattr.": b"x"},
        {b"SCHILY.acl.access": b"nonsense"},
        {b"LIBARCHIVE.xattr.user.a": b"!"},
        {b"uid": b"4294967295"},
        {b"gid": b"-1"},
    ],
)
def test_metadata_that_cannot_be(where: Path, shared: Path, records: dict[bytes, bytes]) -> None:
    """One line that names layer and path; a NUL in a name of an attribute was a traceback."""
    for layer in (Layer().dir(b"d", records=records), Layer().file(b"d", records=records)):
        run(written(shared, layer), "-o", f"{where}/root/").assert_failed(": d: ")
        assert os.listdir(where) == []


@pytest.mark.parametrize("kind", ["hot", "pax", "symlink"])
def test_root_without_the_right_to_give_files_away(where: Path, shared: Path, need_tool: NeedTool, kind: str) -> None:
    """As in some containers. To root lost owners are an error: it counts on them."""
    layer = Layer().dir(b"d")
    layer = {
        "hot": layer.file(b"d/f", b"x", uid=5),
        "pax": layer.file(b"d/f", b"x", uid=5, mtime=5),
        "symlink": layer.symlink(b"d/f", b"x", uid=5),
    }[kind]
    path = written(shared, layer)
    poor = [need_tool("setpriv"), "--bounding-set=-chown", "--inh-caps=-chown"]
    run(path, "-o", f"{where}/root/", prefix=poor).assert_failed("d/f", "Operation not permitted")
    assert os.listdir(where) == []
    run(path, "--no-same-owner", "-o", f"{where}/root/", prefix=poor).assert_merged()


def test_errors_of_the_hot_loop_name_the_path(where: Path) -> None:
    sink = DirectorySink(str(where / "root"))
    (next(where.iterdir()) / "f").write_text("in the way")
    with pytest.raises(SinkError, match="f: cannot write it: File exists"):
        merge([BytesLayer(Layer().dir(b"d").file(b"f", b"x").tar())], sink)
    assert os.listdir(where) == []


def test_a_partial_tree_that_cannot_be_opened_is_not_left(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replace, "_disinherit", lambda _fd: _raise(OSError(errno.EMFILE, "made to fail")))
    with pytest.raises(SinkError, match="made to fail"):
        DirectorySink(str(where / "root"))
    assert os.listdir(where) == []


def test_starting_over_reports_what_it_cannot_remove(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = DirectorySink(str(where / "root"))
    monkeypatch.setattr(directory, "remove_tree", lambda _path: _raise(OSError(errno.EIO, "made to fail")))
    with pytest.raises(SinkError, match="made to fail"):
        sink.restart()


# --- signals ---------------------------------------------------------------------------------------


@contextmanager
def stalled(shared: Path, caller: Caller | None, *arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A merge that waits for the end of its newest-but-last layer; all newer ones are in the partial tree."""
    fifo = shared / "fifo"
    os.mkfifo(fifo)
    fifo.chmod(0o666)
    process = start(fifo, *arguments) if caller is None else start_as(caller, fifo, *arguments)
    fd = os.open(fifo, os.O_WRONLY)
    _writers[process.pid] = fd
    try:
        os.write(fd, Layer().dir(b"waiting").tar(end=False))
        yield process
    finally:
        release(process, shared)
        if process.poll() is None:
            process.kill()
            finished(process)


_writers: dict[int, int] = {}


def release(process: subprocess.Popen[bytes], _shared: Path) -> None:
    """Let the layer end."""
    fd = _writers.pop(process.pid, -1)
    if fd >= 0:
        os.close(fd)


def wait_for(where: Path, name: str) -> Path:
    """Wait until the partial tree has grown to ``name``."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for path in where.glob(f".root.partial-*/{name}"):
            return path
        time.sleep(0.01)
    raise AssertionError("the merge has not come that far")


@pytest.mark.parametrize("caller", [None, NOBODY], ids=["root", "nobody"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("existing", [False, True])
def test_a_signal_leaves_nothing(
    where: Path, shared: Path, caller: Caller | None, number: int, code: int, existing: bool
) -> None:
    before = old_tree(where / "root") if existing else {}
    if existing and caller is not None:
        for path in (where / "root", where / "root/kept", where / "root/sub"):
            os.chown(path, caller.uid, caller.gid)
        before = tree.from_directory(where / "root")
    force = ("--force",) if existing else ()
    with stalled(shared, caller, written(shared, LOCKED), *force, "-o", f"{where}/root/") as process:
        wait_for(where, "waiting")
        process.send_signal(number)
        done = finished(process)
    assert done.code == code
    assert "Traceback" not in done.err
    if existing:
        assert tree.from_directory(where / "root") == before
    assert os.listdir(where) == (["root"] if existing else [])


# --- full disks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("caller", [None, NOBODY], ids=["root", "nobody"])
@pytest.mark.parametrize("limit", ["size=1m,mode=777", "nr_inodes=50,mode=777"])
@pytest.mark.parametrize("what", ["files", "directories", "one file", "sparse file"])
def test_a_full_disk(where: Path, shared: Path, limit: str, what: str, caller: Caller | None) -> None:
    layer = {
        "files": Layer(
            (*LOCKED.items, *(item for n in range(100) for item in Layer().file(b"%d" % n, bytes(99999)).items))
        ),
        "directories": Layer().file(b"/".join([b"d"] * 999), bytes(2 << 20)).link(b"l", b"/".join([b"d"] * 999)),
        "one file": Layer().file(b"big", bytes(20 << 20)).symlink(b"x" * 40, b"y" * 4000),
        "sparse file": Layer().file(
            b"big",
            bytes(5 << 20),
            records={b"GNU.sparse.map": b"4096,5242880,99999999,0", b"GNU.sparse.size": b"99999999"},
        ),
    }[what]
    layer = Layer((*layer.items, *(item for n in range(100) for item in Layer().fifo(b"p%d" % n).items)))
    path = written(shared, layer)
    with mounted(where / "disk", "-t", "tmpfs", "-o", limit, "tmpfs") as disk:
        before = old_tree(disk / "root")
        done = called(caller, path, "--force", "-o", f"{disk}/root/").assert_failed("No space left on device")
        assert "layer.tar" in done.err or "cannot write it" in done.err
        assert os.listdir(disk) == ["root"]
        assert tree.from_directory(disk / "root") == before
        called(caller, written(shared, Layer().file(b"f", b"x")), "-o", f"{disk}/new/").assert_merged()


def test_a_quota_of_file_size(where: Path, shared: Path, need_tool: NeedTool) -> None:
    """EFBIG, and no death by SIGXFSZ."""
    path = written(shared, Layer().file(b"big", bytes(3 << 20)))
    run(path, "-o", f"{where}/root/", prefix=[need_tool("prlimit"), "--fsize=1000000"]).assert_failed(
        "big", "too large"
    )
    assert os.listdir(where) == []


def test_few_descriptors(where: Path, shared: Path, need_tool: NeedTool) -> None:
    """What is short is said, and all goes: with 64 the partial tree stayed, for its removal wanted more of them."""
    layer = Layer()
    for number in range(300):
        layer = layer.file(b"d/%d/e/f/g/f" % number, b"x")
    paths = [written(shared, layer, f"{number}.tar") for number in range(40)]
    prlimit = need_tool("prlimit")
    for limit in (8, 10, 12, 14, 16):
        done = run(*paths, "-q", "-o", f"{where}/root/", prefix=[prlimit, f"--nofile={limit}"], env=UNCOUNTED)
        done.assert_failed("Too many open files")
        assert os.listdir(where) == []
    run(*paths, "-q", "-o", f"{where}/root/", prefix=[prlimit, "--nofile=40"], env=UNCOUNTED).assert_merged()


# --- fsync -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fsync", [True, False])
@pytest.mark.parametrize("force", [True, False])
def test_what_is_flushed_and_when(where: Path, monkeypatch: pytest.MonkeyPatch, fsync: bool, force: bool) -> None:
    """The tree before it appears, the directory above after that, and the old tree goes only then."""
    steps: list[str] = []
    rename, rmdir = os.rename, os.rmdir

    def sync(fd: int) -> None:
        assert os.fstat(fd).st_ino == next(where.glob(".root.partial-*")).stat().st_ino
        steps.append("syncfs")

    def renamed(source: str, target: str) -> None:
        steps.append("rename")
        rename(source, target)

    def removed(path: str, **options: int) -> None:
        steps.append("rmdir")
        rmdir(path, **options)

    monkeypatch.setattr(directory, "sync_filesystem", sync)
    monkeypatch.setattr(replace, "fsync_name", lambda path: steps.append(f"fsync for {os.path.basename(path)}"))
    monkeypatch.setattr(os, "rename", renamed)
    monkeypatch.setattr(os, "rmdir", removed)
    if force:
        (where / "root").mkdir()
        (where / "root" / "old").write_text("x")
    merge([BytesLayer(Layer().file(b"x").tar())], DirectorySink(str(where / "root"), fsync=fsync, force=force))
    flushed = ["syncfs", "rename", "fsync for root"] if fsync else ["rename"]
    assert steps == [*flushed, *(["rmdir"] if force else [])]


def test_a_failed_flush_is_an_error(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "sync_filesystem", lambda _fd: _raise(OSError(errno.EIO, "made to fail")))
    with pytest.raises(StreamergeError, match="made to fail"):
        merge([BytesLayer(LOCKED.tar())], DirectorySink(str(where / "root")))
    assert os.listdir(where) == []


def test_syncfs_itself(where: Path) -> None:
    fd = os.open(where, os.O_RDONLY)
    replace.sync_filesystem(fd)
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        replace.sync_filesystem(fd)


# --- everything that can fail, one call after the other ---------------------------------------------

CALLS = (
    "open",
    "mkdir",
    "symlink",
    "link",
    "mknod",
    "write",
    "chown",
    "chmod",
    "fchmod",
    "utime",
    "setxattr",
    "rename",
)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("failure", [OSError(errno.EIO, "made to fail"), KeyboardInterrupt()], ids=["EIO", "Ctrl-C"])
def test_any_call_that_fails(where: Path, monkeypatch: pytest.MonkeyPatch, name: str, failure: BaseException) -> None:
    """Each call of each function fails once: nothing is left, what was there stays, and the error is ours."""
    layer = Layer().dir(b"", mode=0o755, uid=1).dir(b"d", mode=0o500, uid=5).file(b"d/hot", b"x", mode=0o4755, uid=5)
    layer = layer.file(b"d/pax", b"x", uid=5, mtime=5, xattrs={b"user.a": b"b"}).symlink(b"s", b"x", uid=5)
    layer = layer.link(b"l", b"d/pax").fifo(b"p", uid=5).char(b"c", 1, 3, uid=4)
    old_tree(where / "root")
    for fatal in range(1000):
        before = tree.from_directory(where / "root")
        fails = FailsOnce(getattr(os, name), fatal, failure)
        warnings: list[str] = []
        with monkeypatch.context() as patch, contextlib.suppress(StreamergeError, KeyboardInterrupt):
            patch.setattr(os, name, fails)
            sink = DirectorySink(str(where / "root"), force=True, fsync=False, warn=warnings.append)
            merge([BytesLayer(layer.tar())], sink, Options())
        if fails.calls <= fatal:
            break
        after = tree.from_directory(where / "root")
        assert after == before or b"d/pax" in after
        if warnings:  # the call that failed was to remove the old tree
            assert "is left in" in warnings[0]
            replace.remove_tree(str(next(where.glob(".root.partial-*"))))
        assert os.listdir(where) == ["root"], fatal
    assert fatal > 0


class FailsOnce:
    """A function that fails at its call number ``fatal``."""

    def __init__(self, real: Callable[..., object], fatal: int, failure: BaseException) -> None:
        self.calls = 0
        self._real = real
        self._fatal = fatal
        self._failure = failure

    def __call__(self, *arguments: object, **options: object) -> object:
        self.calls += 1
        if self.calls == self._fatal + 1:
            raise self._failure
        return self._real(*arguments, **options)


def test_a_directory_that_holds_its_own_layers_is_not_replaced(tmp_path: Path) -> None:
    """With --force the layers would have gone with the old tree."""
    layer = tmp_path / "here" / "layer.tar"
    layer.parent.mkdir()
    layer.write_bytes(Layer().file(b"a", b"x").tar())
    run(layer, "-o", tmp_path / "here", "--force").assert_usage_error("layer.tar", "replaced")
    assert os.listdir(tmp_path / "here") == ["layer.tar"]
