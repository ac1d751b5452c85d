"""Layers, and neighbours, that try to get out of the destination; a canary tree outside must not notice.

Each attack has bitten some tool's users: CVE-2014-6407, CVE-2014-9356, CVE-2018-15664 (docker), CVE-2021-32760
(containerd), CVE-2021-29136 (umoci), CVE-2019-18466 (podman), CVE-2021-32803, -32804, -37701, -37712, -37713
(npm's tar), CVE-2019-10773 (yarn), CVE-2007-4559 (Python's tarfile).
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from streamerge import DirectorySink, Run, StreamergeError, merge
from streamerge.streams import ChunkStream
from streamerge.tar.reader import TarReader
from tests.support import model, tree
from tests.support.layers import Dialect, EntrySpec, Kind, Layer
from tests.support.merged import BytesLayer
from tests.support.merged import options as merged_options

pytestmark = pytest.mark.root


@dataclass(frozen=True)
class Canary:
    """A tree outside the destination, and how it looked: contents, metadata, link counts and change times."""

    path: Path
    before: dict[str, tuple[object, ...]]

    @classmethod
    def made(cls, path: Path) -> Canary:
        (path / "etc").mkdir(parents=True)
        (path / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
        (path / "etc" / "shadow").write_text("root:*:\n")
        (path / "etc" / "shadow").chmod(0o600)
        (path / "bin").symlink_to("etc")
        os.mkfifo(path / "fifo")
        return cls(path, _looks(path))

    def assert_untouched(self) -> None:
        assert _looks(self.path) == self.before


def _looks(path: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for one in (path, *path.rglob("*")):
        status = one.lstat()
        content = one.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        key = (status.st_mode, status.st_uid, status.st_gid, status.st_nlink, status.st_mtime_ns, status.st_ctime_ns)
        found[str(one.relative_to(path))] = (*key, content, tuple(os.listxattr(one, follow_symlinks=False)))
    return found


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    one = Canary.made(tmp_path / "host")
    yield one
    one.assert_untouched()


@pytest.fixture
def above(tmp_path: Path) -> Path:
    """The directory of the destination, ``root``; ``../../host`` is the canary as seen from the root's own."""
    path = tmp_path / "above"
    path.mkdir()
    return path


def attempt(above: Path, layers: list[Layer], *, plain: bool = False, dialect: Dialect = Dialect.PAX) -> Path | None:
    """Merge; the tree, or None where the merge refuses, and then nothing may be left."""
    path = above / "root"
    stack = [BytesLayer(layer.tar(dialect)) for layer in layers]
    try:
        merge(stack, DirectorySink(str(path), fsync=False), merged_options(plain=plain))
    except StreamergeError:
        assert os.listdir(above) == []
        return None
    assert os.listdir(above) == ["root"]
    return path


HOT = pytest.mark.parametrize("plain", [False, True], ids=["hot", "plain"])
TARGETS = ("{host}", "{host}/etc", "../../host", "../../host/etc", "../..", "{host}/..", ".", "..", "{host}/etc/passwd")
WAYS = pytest.mark.parametrize("way", TARGETS)


def pointing(canary: Canary, way: str) -> bytes:
    return way.format(host=canary.path).encode()


def assert_model(layers: list[Layer], root: Path | None) -> None:
    """Refused only where the model refuses, too; else just what the model says."""
    try:
        expected = model.merge(layers)
    except model.ModelError:
        assert root is None
        return
    assert root is not None
    assert tree.differences(expected, tree.from_directory(root)) == []


# --- symlinks --------------------------------------------------------------------------------------


@HOT
@WAYS
@pytest.mark.parametrize("order", ["older", "newer", "same", "same, child first"])
def test_a_symlink_and_then_a_child(canary: Canary, above: Path, way: str, order: str, plain: bool) -> None:
    link = Layer().symlink(b"x", pointing(canary, way))
    child = Layer().file(b"x/passwd", b"pwned", mode=0o4777).file(b"x/new", b"pwned").dir(b"x/dir", mode=0o777)
    both = {
        "older": [link, child],
        "newer": [child, link],
        "same": [Layer((*link.items, *child.items))],
        "same, child first": [Layer((*child.items, *link.items))],
    }
    assert_model(both[order], attempt(above, both[order], plain=plain))


@HOT
@WAYS
@pytest.mark.parametrize("kind", ["dir", "hard link", "device", "fifo", "symlink", "whiteout", "opaque"])
def test_other_children_of_a_symlink(canary: Canary, above: Path, way: str, kind: str, plain: bool) -> None:
    """Also whiteouts, which tools that unpack oldest first have removed files of the host by."""
    link = Layer().symlink(b"x", pointing(canary, way)).file(b"f", b"mine").symlink(b"deep/y", pointing(canary, way))
    children = {
        "dir": Layer().dir(b"x", mode=0o1777, uid=3).dir(b"x/etc", mode=0o777, xattrs={b"user.a": b"b"}),
        "hard link": Layer().file(b"g", b"x").link(b"x/passwd", b"g").link(b"x/l", b"g"),
        "device": Layer().char(b"x/passwd", 1, 3).block(b"x/b", 8, 0),
        "fifo": Layer().fifo(b"x/passwd"),
        "symlink": Layer().symlink(b"x/passwd", b"..").symlink(b"x/s", b".."),
        "whiteout": Layer().whiteout(b"x/passwd").whiteout(b"x/etc").whiteout(b"deep/y/etc/passwd"),
        "opaque": Layer().opaque(b"x").opaque(b"x/etc").opaque(b"deep/y"),
    }
    for layers in ([link, children[kind]], [Layer((*link.items, *children[kind].items))]):
        root = attempt(above, layers, plain=plain)
        assert_model(layers, root)
        if root is not None:
            subprocess.run(["rm", "-rf", root], check=True)


@HOT
def test_chains_of_symlinks(canary: Canary, above: Path, plain: bool) -> None:
    """CVE-2021-37701: a directory that was seen as one, replaced by a symlink, by way of another name."""
    layer = Layer().symlink(b"s0", pointing(canary, "{host}"))
    for number in range(1, 60):
        layer = layer.symlink(b"s%d" % number, b"s%d" % (number - 1))
    layer = layer.dir(b"a").symlink(b"a/up", b"..").symlink(b"a/up2", b"up/..").symlink(b"loop", b"loop")
    newer = Layer().file(b"s59/etc/passwd", b"pwned").file(b"a/up2/host/x", b"pwned").file(b"loop/x", b"1")
    assert_model([layer, newer], attempt(above, [layer, newer], plain=plain))
    assert stat.S_ISDIR((above / "root" / "s59").lstat().st_mode)


@HOT
@WAYS
def test_a_directory_replaced_by_a_symlink_within_a_layer(canary: Canary, above: Path, way: str, plain: bool) -> None:
    layer = Layer().dir(b"x").file(b"x/a", b"1").symlink(b"x", pointing(canary, way)).file(b"x/passwd", b"pwned")
    assert_model([layer], attempt(above, [layer], plain=plain))


@HOT
@WAYS
def test_a_file_replaced_by_a_symlink_is_not_written_through(
    canary: Canary, above: Path, way: str, plain: bool
) -> None:
    for layers in (
        [Layer().file(b"x", b"pwned"), Layer().symlink(b"x", pointing(canary, way))],
        [Layer().symlink(b"x", pointing(canary, way)), Layer().file(b"x", b"pwned", mode=0o6777, uid=7)],
        [Layer().symlink(b"x", pointing(canary, way)).file(b"x", b"pwned", mode=0o6777, uid=7)],
        [Layer().symlink(b"x", pointing(canary, way)).link(b"y", b"x").file(b"y", b"pwned", uid=7)],
    ):
        root = attempt(above, layers, plain=plain)
        assert_model(layers, root)
        assert root is not None
        subprocess.run(["rm", "-rf", root], check=True)


def test_metadata_of_a_symlink_is_not_that_of_its_target(canary: Canary, above: Path) -> None:
    meta = {b"trusted.a": b"b"}
    target = pointing(canary, "{host}/etc/shadow")
    layer = Layer().symlink(b"x", target, mode=0o6777, uid=7, gid=8, mtime=5, xattrs=meta).link(b"y", b"x")
    assert_model([layer], attempt(above, [layer]))


def test_the_root_as_a_symlink(canary: Canary, above: Path) -> None:
    """CVE-2021-29136, umoci: a layer whose root is a symlink."""
    for path in (b".", b"./", b"/", b"//"):
        assert attempt(above, [Layer().symlink(path, pointing(canary, "{host}")).file(b"etc/passwd", b"x")]) is None


# --- hard links ------------------------------------------------------------------------------------


@HOT
@pytest.mark.parametrize(
    "target",
    [
        "{host}/etc/passwd",
        "../../host/etc/passwd",
        "x/../../../host/etc/passwd",
        "s/etc/passwd",
        "s/fifo",
        "/etc/passwd",
    ],
)
def test_a_hard_link_out_and_then_a_write(canary: Canary, above: Path, target: str, plain: bool) -> None:
    """CVE-2019-10773, CVE-2021-32803: the link makes the file outside ours, the entry after it writes into it."""
    link = Layer().symlink(b"s", pointing(canary, "{host}")).dir(b"x").link(b"l", pointing(canary, target))
    for layers in ([link], [link, Layer().file(b"l", b"pwned")], [Layer((*link.items, *Layer().file(b"l").items))]):
        root = attempt(above, layers, plain=plain)
        assert root is None or not (root / "l").exists() or (root / "l").stat().st_nlink == 1
        subprocess.run(["rm", "-rf", above / "root"], check=True)


def test_a_hard_link_to_a_symlink_is_the_symlink(canary: Canary, above: Path) -> None:
    target = pointing(canary, "{host}/etc/shadow")
    layers = [Layer().symlink(b"s", target), Layer().link(b"l", b"s"), Layer().link(b"m", b"l", mode=0o777, uid=9)]
    assert_model(layers, attempt(above, layers))
    assert (above / "root" / "m").is_symlink()


def test_links_only_name_what_this_merge_wrote(canary: Canary, above: Path) -> None:
    """What a destination that --force replaces holds is no target."""
    old = above / "root"
    old.mkdir()
    (old / "secret").write_text("of the old tree")
    with pytest.raises(StreamergeError, match="in no layer"):
        merge([BytesLayer(Layer().link(b"l", b"secret").tar())], DirectorySink(str(old), force=True))
    assert os.listdir(above) == ["root"]
    assert (old / "secret").read_text() == "of the old tree"


# --- names -----------------------------------------------------------------------------------------

NAMES = [
    b"..",
    b"../x",
    b"../../host/etc/passwd",
    b"a/../../x",
    b"a/..",
    b"./../x",
    b"/../x",
    b"//..//x",
    b"a/b/c/../../../../host/etc/passwd",
    b".wh...",
    b".wh..",
    b".wh.",
    b"a/.wh...",
    b"../.wh.host",
    b"../../.wh.host",
    b"../../host/.wh..wh..opq",
    b"a/../../../host/.wh.etc",
]


@HOT
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", list(Kind))
def test_names_that_lead_out_are_refused(canary: Canary, above: Path, name: bytes, kind: Kind, plain: bool) -> None:
    spec = EntrySpec(
        kind, name, b"x" if kind is Kind.FILE else b"", target=b"f" if kind in (Kind.LINK, Kind.SYMLINK) else b""
    )
    assert attempt(above, [Layer().file(b"f", b"1").dir(b"a"), Layer().entry(spec)], plain=plain) is None


@HOT
def test_absolute_names_are_those_of_the_root(canary: Canary, above: Path, plain: bool) -> None:
    host = os.fsencode(canary.path)
    layer = (
        Layer().file(host + b"/etc/passwd", b"pwned").file(b"//etc/passwd", b"ours").dir(b"///").whiteout(b"/etc/gone")
    )
    root = attempt(above, [layer], plain=plain)
    assert root is not None
    assert (root / "etc/passwd").read_bytes() == b"ours"
    assert Path(f"{root}{canary.path}/etc/passwd").read_bytes() == b"pwned"


@HOT
@pytest.mark.parametrize("record", [b"path", b"linkpath"])
def test_names_with_a_nul(canary: Canary, above: Path, record: bytes, plain: bool) -> None:
    """Tools that check the whole and open what stands before the NUL see two names."""
    layer = Layer().file(b"f").link(b"l", b"f", records={record: b"x\0/../../../host/etc/passwd"})
    assert attempt(above, [layer], plain=plain) is None
    layer = Layer().symlink(b"l", b"f", records={record: b"x\0y"})
    assert attempt(above, [layer], plain=plain) is None


@HOT
def test_names_that_only_look_bad(canary: Canary, above: Path, plain: bool) -> None:
    layer = Layer()
    for name in (
        b"...",
        b"..a",
        b"a..",
        b"\n",
        b"..\n",
        b"~",
        b"$HOME",
        b"-rf",
        b"C:\\x",
        b"..\\..\\x",
        b"%2e%2e",
        b"\xc0\xae",
    ):
        layer = layer.file(name, name).file(b"d/" + name + b"/f", name)
    assert_model([layer], attempt(above, [layer], plain=plain))


@HOT
@pytest.mark.parametrize(("depth", "merged"), [(1024, True), (1025, False), (2047, False), (10_000, False)])
def test_deep_paths(canary: Canary, above: Path, depth: int, merged: bool, plain: bool) -> None:
    root = attempt(above, [Layer().file(b"/".join([b"a"] * depth), b"x")], plain=plain)
    assert (root is not None) is merged
    subprocess.run(["rm", "-rf", above / "root"], check=True)


@HOT
def test_components_that_are_too_long(canary: Canary, above: Path, plain: bool) -> None:
    assert attempt(above, [Layer().file(b"a" * 256, b"x")], plain=plain) is None
    assert attempt(above, [Layer().file(b"a" * 256 + b"/x", b"x")], plain=plain) is None
    assert attempt(above, [Layer().symlink(b"s", b"x" * 4096)], plain=plain) is None
    assert attempt(above, [Layer().symlink(b"s", b"x" * 4095)], plain=plain) is not None


# --- what is written, and when ---------------------------------------------------------------------


def test_devices_are_made_and_never_opened(canary: Canary, above: Path) -> None:
    """A body on a device's entry is not written to the device; one made of a file is not written through."""
    layer = Layer().entry(EntrySpec(Kind.BLOCK, b"sda", data=b"", major=7, minor=0, size=512)).raw(b"")
    layers = [layer, Layer().file(b"sda/x", b"1")]
    root = attempt(above, layers)
    assert root is not None
    assert (root / "sda").is_dir()
    subprocess.run(["rm", "-rf", root], check=True)
    layers = [Layer().block(b"sda", 7, 0).file(b"sda", b"replaces it").fifo(b"p").file(b"p", b"never blocks")]
    assert_model(layers, attempt(above, layers))


def test_set_user_id_comes_after_the_owner(above: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No moment in which a file is setuid and still root's, nor the caller's: every call is watched."""
    seen: list[tuple[str, int]] = []

    def watched(name: str) -> Callable[..., object]:
        real: Callable[..., object] = getattr(os, name)

        def call(target: int, *arguments: object, **options: object) -> object:
            result = real(target, *arguments, **options)
            if isinstance(target, int):
                status = os.fstat(target)
                if status.st_mode & 0o6000:
                    seen.append((name, status.st_uid))
            return result

        return call

    for name in ("chown", "chmod", "fchmod", "fchown", "setxattr", "utime", "write"):
        monkeypatch.setattr(os, name, watched(name))
    layer = Layer().file(b"hot", b"x", mode=0o6755, uid=5, gid=6).dir(b"d", mode=0o2755, uid=5)
    layer = layer.file(b"pax", b"x", mode=0o4755, uid=5, xattrs={b"user.a": b"b"})
    attempt(above, [layer])
    assert seen
    assert {uid for _, uid in seen} == {5}


def test_nobody_else_may_enter_the_tree_before_it_is_complete(above: Path) -> None:
    modes: list[int] = []

    class Looking(BytesLayer):
        def _chunks(self) -> Iterator[bytes]:
            for chunk in super()._chunks():
                modes.extend(stat.S_IMODE(path.stat().st_mode) for path in above.iterdir())
                yield chunk

    layer = Layer().dir(b"", mode=0o777).file(b"f", bytes(1000)).dir(b"d", mode=0o777)
    before = os.umask(0)
    try:
        merge([Looking(layer.tar(), chunk=512)], DirectorySink(str(above / "root"), fsync=False))
    finally:
        os.umask(before)
    assert set(modes) == {0o700}
    assert stat.S_IMODE((above / "root").stat().st_mode) == 0o777


# --- neighbours ------------------------------------------------------------------------------------


@contextmanager
def swapping(above: Path, canary: Canary) -> Iterator[list[int]]:
    """Another thread, which nothing but the kernel stops: it moves directories away and puts symlinks there."""
    stop = threading.Event()
    swaps = [0]

    def swap() -> None:
        number = 0
        while not stop.is_set():
            for partial in above.glob(".root.partial-*"):
                for name in ("a", "a/b", "c", "c/l"):
                    number += 1
                    try:
                        os.rename(partial / name, partial / f"moved{number}")
                        os.symlink(canary.path / "etc", partial / name)
                    except OSError:
                        continue
                    swaps[0] += 1

    thread = threading.Thread(target=swap, daemon=True)
    thread.start()
    try:
        yield swaps
    finally:
        stop.set()
        thread.join()


@pytest.mark.slow
@HOT
def test_a_neighbour_who_swaps_directories_for_symlinks(canary: Canary, above: Path, plain: bool) -> None:
    """Whatever the merge makes of that, it makes it in its own tree."""
    layer = Layer().dir(b"a").dir(b"a/b").dir(b"c")
    for number in range(3000):
        layer = layer.file(b"a/b/passwd%d" % number, b"pwned", mode=0o666).file(b"a/shadow%d" % number, b"pwned")
        layer = layer.dir(b"a/d%d" % number, mode=0o777).file(b"a/d%d/passwd" % number, b"x").fifo(b"c/p%d" % number)
        layer = layer.link(b"c/l%d" % number, b"a/shadow%d" % number).symlink(b"c/s%d" % number, b"x")
    stack = [BytesLayer(layer.tar())]
    with swapping(above, canary) as swaps:
        for _ in range(3):
            try:
                merge(stack, DirectorySink(str(above / "root"), fsync=False, force=True), merged_options(plain=plain))
            except StreamergeError:
                continue
    assert swaps[0] > 0
    canary.assert_untouched()
    subprocess.run(["rm", "-rf", *above.iterdir()], check=True)


class Stepwise:
    """A sink that is given a layer's entries one by one, with other things happening in between."""

    def __init__(self, above: Path) -> None:
        self._sink = DirectorySink(str(above / "root"), fsync=False)
        self.partial = next(above.glob(".root.partial-*"))

    def add(self, layer: Layer) -> None:
        reader = TarReader(ChunkStream([layer.tar()]))
        while (entry := reader.next_entry()) is not None:
            self._sink.add(entry, reader.body())

    def write_file(self, path: bytes) -> None:
        self._sink.enter_directory(path[: path.rfind(b"/") + 1])
        self._sink.write_run(Run(Layer().file(path, b"x").tar()[:1024]))

    def finish(self) -> None:
        self._sink.finish()

    def abort(self) -> None:
        self._sink.abort()


def many_directories() -> Layer:
    """More than the sink keeps open, so that it must find its way to all others again."""
    layer = Layer().dir(b"a", mode=0o1777, uid=9).dir(b"a/b").file(b"a/f", b"x")
    for number in range(300):
        layer = layer.dir(b"o%d" % number).file(b"o%d/f" % number, b"x")
    return layer


@pytest.mark.parametrize(
    "step",
    [
        lambda sink: sink.add(Layer().file(b"a/passwd", b"pwned")),
        lambda sink: sink.write_file(b"a/passwd"),
        lambda sink: sink.write_file(b"a/b/passwd"),
        lambda sink: sink.add(Layer().dir(b"a/new", mode=0o777)),
        lambda sink: sink.add(Layer().symlink(b"a/passwd", b"x")),
        lambda sink: sink.add(Layer().fifo(b"a/new")),
        lambda sink: sink.add(Layer().link(b"a/passwd", b"o0/f")),
        lambda sink: sink.add(Layer().link(b"g", b"a/passwd")),
        Stepwise.finish,
    ],
    ids=["add", "put", "put below", "mkdir", "symlink", "fifo", "link to", "link from", "finish"],
)
@pytest.mark.parametrize("name", ["a", "a/b"])
def test_a_symlink_put_in_a_directorys_place(
    canary: Canary, above: Path, name: str, step: Callable[[Stepwise], None]
) -> None:
    """What the race can hit, one by one: no step follows it, and the abort does not either."""
    sink = Stepwise(above)
    sink.add(many_directories())
    os.rename(sink.partial / name, sink.partial / "moved")
    os.symlink(canary.path / "etc", sink.partial / name)
    with contextlib.suppress(StreamergeError):
        step(sink)
    canary.assert_untouched()
    sink.abort()
    canary.assert_untouched()


@pytest.mark.parametrize("kind", ["plain", "pax", "symlink", "device", "link"])
def test_a_symlink_put_where_something_is_to_be_made(canary: Canary, above: Path, kind: str) -> None:
    layers = {
        "pax": Layer().file(b"x", b"pwned", mode=0o4777, uid=7, xattrs={b"user.a": b"b"}),
        "symlink": Layer().symlink(b"x", b"y", uid=7, mtime=5),
        "device": Layer().char(b"x", 1, 3, mode=0o777, uid=7),
        "link": Layer().link(b"x", b"f"),
    }
    sink = Stepwise(above)
    sink.add(Layer().file(b"f", b"x"))
    os.symlink(canary.path / "etc" / "passwd", sink.partial / "x")
    if kind == "plain":
        with pytest.raises(StreamergeError):
            sink.write_file(b"x")
        sink.abort()
    else:
        sink.add(layers[kind])
        sink.finish()
        canary.assert_untouched()
        assert_model([Layer((*Layer().file(b"f", b"x").items, *layers[kind].items))], above / "root")


def test_a_symlink_put_in_a_devices_place(canary: Canary, above: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between mknod(2), which gives no descriptor, and the owner and mode that follow it."""
    sink = Stepwise(above)
    mknod = os.mknod

    def swapped(name: bytes, mode: int, device: int, *, dir_fd: int) -> None:
        mknod(name, mode, device, dir_fd=dir_fd)
        os.unlink(name, dir_fd=dir_fd)
        os.symlink(canary.path / "etc" / "shadow", name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mknod", swapped)
    with contextlib.suppress(StreamergeError):
        sink.add(Layer().fifo(b"p", mode=0o666, uid=7, mtime=5))
    canary.assert_untouched()
    sink.abort()


def test_a_symlink_put_in_the_partial_trees_place(canary: Canary, above: Path) -> None:
    """Its own descriptor stays; what is removed by name is not what the name points to."""
    sink = Stepwise(above)
    os.rename(sink.partial, above / "moved")
    os.symlink(canary.path, sink.partial)
    sink.add(Layer().dir(b"etc", mode=0o777).file(b"etc/passwd", b"x"))
    sink.abort()
    canary.assert_untouched()
    assert (above / "moved/etc/passwd").read_bytes() == b"x"
