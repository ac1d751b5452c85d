"""A directory as output: what it keeps, as root, without root, and as root of a user namespace."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamerge import DirectorySink, merge
from streamerge.sinks.directory.ownership import IdMap, Ownership
from tests.support import model, overlay, tree
from tests.support.command import run
from tests.support.layers import SECOND, Dialect, EntrySpec, Kind, Layer
from tests.support.merged import BytesLayer
from tests.support.merged import options as merged_options
from tests.support.odd import CAPABILITY, TIME, odd_stack, write_layers
from tests.support.unprivileged import NOBODY, Caller, run_as
from tests.system import test_real_images as images

NeedTool = Callable[[str], str]

pytestmark = pytest.mark.root

PLAIN = pytest.mark.parametrize("plain", [False, True], ids=["hot", "plain"])
BIG = 4294967294


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory in which anybody may work, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="streamerge-") as name:
        os.chmod(name, 0o777)
        yield Path(name)


def made(layers: list[Layer], path: Path, *, plain: bool = False, dialect: Dialect = Dialect.PAX) -> list[str]:
    """Merge into a directory in this process; returns the warnings."""
    warnings: list[str] = []
    stack = [BytesLayer(layer.tar(dialect)) for layer in layers]
    merge(stack, DirectorySink(str(path), fsync=False, warn=warnings.append), merged_options(plain=plain))
    return warnings


def assert_as_the_model(layers: list[Layer], path: Path) -> None:
    assert tree.differences(model.merge(layers), tree.from_directory(path)) == []


# --- as root: everything ---------------------------------------------------------------------------


@PLAIN
def test_a_stack_with_most_of_what_makes_merging_hard(tmp_path: Path, plain: bool) -> None:
    assert made(odd_stack(), tmp_path / "root", plain=plain) == []
    assert_as_the_model(odd_stack(), tmp_path / "root")


@PLAIN
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_modes_whatever_the_umask(tmp_path: Path, umask: int, plain: bool) -> None:
    layer = Layer().dir(b"", mode=0o5711)
    for mode in (0, 0o400, 0o444, 0o644, 0o600, 0o755, 0o666, 0o777, 0o1777, 0o2755, 0o4755, 0o6711, 0o7777):
        layer = layer.dir(b"d%o" % mode, mode=mode).file(b"d%o/f" % mode, b"x", mode=mode)
        layer = layer.file(b"d%o/owned" % mode, b"x", mode=mode, uid=7, gid=8)
        layer = layer.file(b"d%o/pax" % mode, b"x", mode=mode, uid=7, mtime=5, xattrs={b"user.a": b"b"})
        layer = layer.fifo(b"d%o/p" % mode, mode=mode, gid=3).char(b"d%o/c" % mode, 1, 3, mode=mode)
    before = os.umask(umask)
    try:
        made([layer], tmp_path / "root", plain=plain)
    finally:
        os.umask(before)
    assert_as_the_model([layer], tmp_path / "root")


@PLAIN
@pytest.mark.parametrize("dialect", [Dialect.PAX, Dialect.GNU])
@pytest.mark.parametrize("owner", [(0, 0), (0, 1), (1, 0), (65534, 65535), (2097151, 2097152), (BIG, BIG)])
def test_owners(tmp_path: Path, owner: tuple[int, int], dialect: Dialect, plain: bool) -> None:
    uid, gid = owner
    layer = Layer().dir(b"d", uid=uid, gid=gid).file(b"d/f", uid=uid, gid=gid).symlink(b"d/s", b"f", uid=uid, gid=gid)
    layer = layer.fifo(b"d/p", uid=uid, gid=gid).char(b"d/c", 1, 3, uid=uid, gid=gid).dir(b"", uid=uid, gid=gid)
    made([layer], tmp_path / "root", plain=plain, dialect=dialect)
    assert_as_the_model([layer], tmp_path / "root")


@PLAIN
@pytest.mark.parametrize(
    "time", [0, 1, TIME, TIME + 123_456_789, -1, -SECOND, -SECOND - 500_000_000, -(2**31) * SECOND, 2**33 * SECOND + 1]
)
def test_times_of_all_kinds(tmp_path: Path, time: int, plain: bool) -> None:
    layer = Layer().dir(b"", mtime=time).dir(b"d", mtime=time).file(b"d/f", b"x", mtime=time)
    layer = layer.symlink(b"d/s", b"f", mtime=time).fifo(b"d/p", mtime=time).char(b"d/c", 1, 3, mtime=time)
    newer = Layer().file(b"d/later", mtime=1).whiteout(b"d/gone").dir(b"d/e/f", mtime=time)
    made([layer, newer], tmp_path / "root", plain=plain)
    assert_as_the_model([layer, newer], tmp_path / "root")


def test_hard_links_of_all_kinds_are_one_inode(tmp_path: Path) -> None:
    layer = Layer().dir(b"d").file(b"d/f", b"data").symlink(b"d/s", b"/no/such/place").fifo(b"d/p").char(b"d/c", 1, 3)
    layer = layer.block(b"d/b", 8, 70000 & 0xFFFFF)
    for name in (b"f", b"s", b"p", b"c", b"b"):
        layer = layer.link(b"d/2" + name, b"d/" + name).link(b"3" + name, b"d/2" + name)
    made([layer], tmp_path / "root")
    assert_as_the_model([layer], tmp_path / "root")
    for kind in ("f", "s", "p", "c", "b"):
        one, two = (tmp_path / "root" / "d" / kind).lstat(), (tmp_path / "root" / f"3{kind}").lstat()
        assert os.path.samestat(one, two)
        assert one.st_nlink == 3


def test_a_promoted_link_has_what_its_old_target_had(tmp_path: Path) -> None:
    meta = {b"user.kept": b"\0\n="}
    old = Layer().dir(b"d").file(b"d/a", b"old", mode=0o4711, uid=3, gid=4, mtime=TIME + 7, xattrs=meta)
    old = old.link(b"d/b", b"d/a", xattrs=meta).link(b"d/c", b"d/a", xattrs=meta)
    new = Layer().file(b"d/a", b"new")
    made([old, new], tmp_path / "root")
    assert_as_the_model([old, new], tmp_path / "root")


@pytest.mark.parametrize("dialect", [Dialect.PAX, Dialect.GNU])
def test_device_numbers(tmp_path: Path, dialect: Dialect) -> None:
    layer = Layer().char(b"null", 1, 3).char(b"zero", 0, 0).block(b"minor", 254, 70000).char(b"most", 4095, 0xFFFFF)
    made([layer], tmp_path / "root", dialect=dialect)
    assert_as_the_model([layer], tmp_path / "root")


def test_device_numbers_of_star(tmp_path: Path) -> None:
    """SCHILY.devmajor and devminor stand where the fields are too small; libarchive writes them too."""
    layer = Layer().char(b"c", 1, 3, records={b"SCHILY.devmajor": b"4000", b"SCHILY.devminor": b"1000000"})
    made([layer], tmp_path / "root")
    device = (tmp_path / "root" / "c").lstat().st_rdev
    assert (os.major(device), os.minor(device)) == (4000, 1000000)


def test_capabilities_and_setuid_bits_outlive_the_change_of_owner(tmp_path: Path) -> None:
    """chown(2) takes both away, so that they must come after it."""
    layer = Layer().file(b"ping", b"x", mode=0o6755, uid=1000, gid=1000, xattrs={b"security.capability": CAPABILITY})
    layer = layer.dir(b"d", mode=0o2755, uid=1000, gid=1000)
    assert made([layer], tmp_path / "root") == []
    assert_as_the_model([layer], tmp_path / "root")
    assert os.getxattr(tmp_path / "root" / "ping", "security.capability") == CAPABILITY


def test_xattrs_on_all_kinds(tmp_path: Path) -> None:
    odd = {b"user.nul": b"\0", b"user.newline": b"1\n22 a=b\n", b"user.empty": b"", b"trusted.t": b"x" * 1000}
    layer = Layer().dir(b"", xattrs=odd).dir(b"d", mode=0o500, xattrs=odd).file(b"d/f", b"", mode=0, xattrs=odd)
    layer = layer.symlink(b"d/s", b"f", xattrs={b"trusted.t": b"on a link"}).fifo(b"d/p", xattrs={b"trusted.t": b""})
    assert made([layer], tmp_path / "root") == []
    assert_as_the_model([layer], tmp_path / "root")


def test_xattrs_as_libarchive_writes_them(tmp_path: Path, need_tool: NeedTool) -> None:
    """bsdtar writes each attribute twice, as SCHILY.xattr and as LIBARCHIVE.xattr; with these alone it is the same."""
    layer = Layer().file(b"f", records={b"LIBARCHIVE.xattr.user.a%3Db%25": b"AAEC/w"})
    made([layer], tmp_path / "root")
    assert os.getxattr(tmp_path / "root" / "f", "user.a=b%") == b"\0\x01\x02\xff"


@pytest.mark.parametrize(("name", "reason"), [(b"user.", 1), (b"nonsense", 1), (b"\x1b[2Jx.y", 1)])
def test_attributes_that_cannot_be_are_counted_and_shown_safely(tmp_path: Path, name: bytes, reason: int) -> None:
    warnings = made([Layer().file(b"f", xattrs={name: b"x"}).file(b"g", xattrs={name: b"x"})], tmp_path / "root")
    assert len(warnings) == reason
    assert "attributes: 2 could not be set" in warnings[0]
    assert warnings[0].isprintable()


@pytest.mark.parametrize("size", [65537, 1 << 20])
def test_an_attribute_without_room_is_an_error(tmp_path: Path, size: int) -> None:
    """What the file system has no room for is not quietly lost."""
    layer = tmp_path / "a.tar"
    layer.write_bytes(Layer().file(b"f", xattrs={b"user.big": bytes(size)[: (1 << 20) - 100]}).tar())
    done = run(layer, "-o", f"{tmp_path}/root/")
    done.assert_failed("f: cannot set the attribute 'user.big'")
    assert os.listdir(tmp_path) == ["a.tar"]


def acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


ACCESS = acl((1, 7, 0xFFFFFFFF), (2, 5, 1000), (4, 5, 0xFFFFFFFF), (16, 5, 0xFFFFFFFF), (32, 4, 0xFFFFFFFF))
DEFAULT = acl((1, 7, 0xFFFFFFFF), (4, 0, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF))


@pytest.mark.parametrize("form", ["binary", "text"])
def test_acls(tmp_path: Path, form: str) -> None:
    """And a default ACL given at the end does not go down into what was made before."""
    access = {b"SCHILY.xattr.system.posix_acl_access": ACCESS}
    both = {**access, b"SCHILY.xattr.system.posix_acl_default": DEFAULT}
    if form == "text":
        access = {b"SCHILY.acl.access": b"user::rwx,user:alice:r-x:1000,group::r-x,mask::r-x,other::r--"}
        both = {**access, b"SCHILY.acl.default": b"user::rwx\ngroup::---\nother::---\n"}
    layer = Layer().dir(b"", mode=0o754, records=both).dir(b"d", mode=0o754, uid=9, records=both)
    layer = layer.file(b"d/f", mode=0o754, uid=9, records=access).file(b"d/plain", b"x", mode=0o640)
    assert made([layer], tmp_path / "root") == []
    for name in ("", "d", "d/f"):
        path = tmp_path / "root" / name
        assert os.getxattr(path, "system.posix_acl_access") == ACCESS
        assert stat.S_IMODE(path.stat().st_mode) == 0o754
    assert os.getxattr(tmp_path / "root" / "d", "system.posix_acl_default") == DEFAULT
    assert os.listxattr(tmp_path / "root" / "d" / "plain") == []
    assert stat.S_IMODE((tmp_path / "root" / "d" / "plain").stat().st_mode) == 0o640


@PLAIN
def test_below_a_directory_that_hands_everything_down(tmp_path: Path, plain: bool) -> None:
    """A setgid bit with its group, and a default ACL, of the directory above touch nothing in the tree.

    The partial tree's own root kept the group of a setgid directory: it looked as if it had its owner already.
    """
    above = tmp_path / "above"
    above.mkdir()
    os.chown(above, 5, 6)
    above.chmod(0o2777)
    os.setxattr(above, "system.posix_acl_default", DEFAULT)
    layer = Layer().dir(b"", mode=0o755).dir(b"d").file(b"d/f", b"x").file(b"d/m", mode=0o666).symlink(b"d/s", b"f")
    made([layer], above / "root", plain=plain)
    assert_as_the_model([layer], above / "root")
    made([Layer().file(b"x")], above / "implicit", plain=plain)
    assert_as_the_model([Layer().file(b"x")], above / "implicit")


def test_the_last_header_of_a_directory_counts(tmp_path: Path) -> None:
    """Also for those who use the sink without a merge, and for the root."""

    def header(name: bytes, mode: int) -> bytes:
        return Layer().dir(name, mode=mode, mtime=7 * SECOND).tar(Dialect.USTAR)[:512]

    sink = DirectorySink(str(tmp_path / "root"), fsync=False)
    sink.enter_directory(b"entered/")
    for path in (b"entered", b"listed", b""):
        for mode in (0o755, 0o711):
            sink.add_directory(path, header(path, mode))
    sink.finish()
    found = tree.from_directory(tmp_path / "root")
    assert {path: (entry.mode, entry.mtime_ns) for path, entry in found.items()} == dict.fromkeys(
        (b"", b"entered", b"listed"), (457, 7 * SECOND)
    )


def test_implicit_directories(tmp_path: Path) -> None:
    layers = [
        Layer().dir(b"a", mode=0o700, uid=3),
        Layer().file(b"a/b/c/d", b"x").fifo(b"e/f/p").link(b"g/h", b"e/f/p"),
    ]
    made(layers, tmp_path / "root")
    assert_as_the_model(layers, tmp_path / "root")


@pytest.mark.parametrize("dialect", [Dialect.PAX, Dialect.USTAR])
def test_the_last_of_a_repeated_path_wins(tmp_path: Path, dialect: Dialect) -> None:
    layer = Layer().dir(b"d").file(b"d/f", b"one", mode=0o4777).file(b"d/f", b"two").symlink(b"d/g", b"x").dir(b"d/g")
    layers = [layer, Layer().file(b"newer", b"x")]
    made(layers, tmp_path / "root", dialect=dialect)
    assert_as_the_model(layers, tmp_path / "root")
    assert os.listdir(tmp_path) == ["root"]


def test_names_of_all_sorts(tmp_path: Path) -> None:
    layer = Layer().dir(b"d")
    for name in (b"\n", b" ", b"\xff\xfe", b"wh.", b".wh", b"-rf", b"\\", b"x" * 255, b"\x01\x1b[31m", b"CON", b"a:b"):
        layer = layer.file(b"d/" + name, name).dir(name).symlink(name + b"2" if len(name) < 255 else b"y", name)
    made([layer], tmp_path / "root")
    assert_as_the_model([layer], tmp_path / "root")


def test_a_tree_as_deep_as_may_be(tmp_path: Path) -> None:
    path = b"/".join([b"d"] * 1023)
    made([Layer().file(path + b"/f", b"deep").dir(path, mode=0o711)], tmp_path / "root")
    fd = os.open(tmp_path / "root", os.O_RDONLY)
    for _ in range(1023):
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    assert os.listdir(fd) == ["f"]
    assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o711
    os.close(fd)
    subprocess.run(["rm", "-rf", tmp_path / "root"], check=True)


@pytest.mark.slow
def test_more_directories_than_descriptors(tmp_path: Path) -> None:
    """Directories are left and come back to; each path of 40 components, 300 of them, in turns."""
    layer = Layer()
    for turn in range(2):
        for number in range(300):
            layer = layer.file(b"%d/" % number + b"/".join([b"%d" % number] * 40) + b"/f%d" % turn, b"x")
    made([layer], tmp_path / "root")
    assert len(list((tmp_path / "root").rglob("f?"))) == 600


@pytest.mark.overlayfs
@pytest.mark.slow
@pytest.mark.parametrize("name", ["example", "debian", "umoci"])
def test_real_images_are_what_the_kernel_shows(tmp_path: Path, need_tool: NeedTool, name: str) -> None:
    for tool in images.BUILDERS.get(name, ("", ["gzip", "zstd"]))[1]:
        need_tool(tool)
    image = images.example(tmp_path) if name == "example" else images.built(name)
    run(*image.plain, "-o", f"{tmp_path}/root/", "--no-fsync").assert_merged()
    assert tree.differences(overlay.merge_tars(image.plain, tmp_path), tree.from_directory(tmp_path / "root")) == []
    if name == "example":
        return
    for form, layers in image.forms.items():
        run(*layers, "-o", f"{tmp_path}/{form}/", "--no-fsync").assert_merged()
        one, two = tree.from_directory(tmp_path / "root"), tree.from_directory(tmp_path / form)
        assert tree.differences(one, two) == []
        shutil.rmtree(tmp_path / form)
    shutil.rmtree(tmp_path / "root")


# --- owners as one wants them ----------------------------------------------------------------------


def owners(path: Path) -> dict[str, tuple[int, int]]:
    found = {"": path.lstat()} | {str(one.relative_to(path)): one.lstat() for one in path.rglob("*")}
    return {name: (status.st_uid, status.st_gid) for name, status in found.items()}


OWNED = (
    Layer().dir(b"", uid=0, gid=0).dir(b"d", uid=1, gid=2).file(b"d/f", b"x", mode=0o4755, uid=33, gid=33)
    .symlink(b"d/s", b"f", uid=999, gid=999).fifo(b"p", uid=1000, gid=1001)
)  # fmt: skip


@pytest.fixture
def owned(shared: Path) -> Path:
    return write_layers([OWNED], shared)[0]


def test_no_same_owner(owned: Path, shared: Path) -> None:
    run(owned, "--no-same-owner", "-o", f"{shared}/root/").assert_merged()
    assert set(owners(shared / "root").values()) == {(0, 0)}
    assert stat.S_IMODE((shared / "root/d/f").stat().st_mode) == 0o4755


def test_mapped_owners(owned: Path, shared: Path) -> None:
    maps = ("--uid-map", "0:100000:1000", "--uid-map", "1000:5:1", "--gid-map", "0:200000:65536")
    run(owned, *maps, "-o", f"{shared}/root/").assert_merged()
    assert owners(shared / "root") == {
        "": (100000, 200000),
        "d": (100001, 200002),
        "d/f": (100033, 200033),
        "d/s": (100999, 200999),
        "p": (5, 201001),
    }
    assert stat.S_IMODE((shared / "root/d/f").stat().st_mode) == 0o4755


def test_one_kind_of_id_mapped(owned: Path, shared: Path) -> None:
    run(owned, "--uid-map", "0:7:2000", "--no-same-owner", "-o", f"{shared}/root/").assert_merged()
    assert owners(shared / "root")["d/f"] == (40, 33)


@pytest.mark.parametrize("layer", [OWNED, Layer().file(b"d/f", b"x", uid=33)], ids=["directory", "hot loop"])
def test_an_id_in_no_range_is_an_error_to_root(shared: Path, layer: Layer) -> None:
    path = write_layers([layer], shared)[0]
    done = run(path, "--uid-map", "0:100000:1", "--gid-map", "0:0:5000", "-o", f"{shared}/root/")
    done.assert_failed("d", "no range of the id map contains the id")
    assert os.listdir(shared) == ["00.tar"]


def test_the_api_takes_maps_too(tmp_path: Path) -> None:
    ownership = Ownership(uids=IdMap(((0, 10, 5),)), gids=IdMap(((0, 20, 5),)))
    merge([BytesLayer(Layer().file(b"f", uid=4, gid=3).tar())], DirectorySink(str(tmp_path / "r"), ownership=ownership))
    assert owners(tmp_path / "r") == {"": (10, 20), "f": (14, 23)}


def test_no_xattrs(tmp_path: Path) -> None:
    """Nor is what nobody asks for an error: an ACL of names cannot be set, but it can be left out."""
    layer = Layer().dir(b"", xattrs={b"user.a": b"1"}).file(b"f", xattrs={b"user.a": b"1"})
    layer = layer.file(b"g", records={b"SCHILY.acl.access": b"user::rwx,user:alice:rwx,group::---,other::---"})
    path = write_layers([layer], tmp_path)[0]
    run(path, "-o", f"{tmp_path}/root/").assert_failed("g: the ACL entry 'user:alice:rwx'", "--no-xattrs")
    run(path, "--no-xattrs", "-o", f"{tmp_path}/root/").assert_merged()
    assert [os.listxattr(one) for one in (tmp_path / "root", *(tmp_path / "root").iterdir())] == [[], [], []]


# --- not root --------------------------------------------------------------------------------------


def unowned(layers: list[Layer], uid: int, gid: int) -> tree.Tree:
    """What the model says, less what only root may do."""
    kept = {}
    for path, node in model.merge(layers).items():
        if node.kind in (Kind.CHAR, Kind.BLOCK):
            continue
        xattrs = frozenset(item for item in node.xattrs if item[0].startswith(b"user."))
        if node.kind not in (Kind.FILE, Kind.DIR):
            xattrs = frozenset()
        fields = {**node.__dict__, "uid": uid, "gid": gid, "xattrs": xattrs}
        kept[path] = tree.Node(**fields)
    return kept


def hostile() -> list[Layer]:
    """Modes that lock their owner out, in all places, and what only root may make, twice of each kind."""
    layer = Layer().dir(b"", mode=0o311, uid=5).dir(b"locked", mode=0, mtime=TIME + 5).file(b"locked/f", b"x", mode=0)
    layer = layer.dir(b"locked/in", mode=0o500, xattrs={b"user.a": b"1"}).file(b"locked/in/f", b"data", mode=0o400)
    layer = layer.file(b"locked/in/x", b"data", mode=0o444, uid=33, xattrs={b"user.a": b"1", b"trusted.t": b"2"})
    layer = layer.file(b"locked/in/y", mode=0o6755, xattrs={b"security.capability": CAPABILITY, b"trusted.t": b""})
    layer = layer.dir(b"dev", mode=0o555).char(b"dev/null", 1, 3).char(b"dev/zero", 1, 5).block(b"dev/sda", 8, 0)
    layer = layer.link(b"dev/null2", b"dev/null").link(b"dev/null3", b"dev/null2").fifo(b"dev/p", mode=0o4)
    layer = layer.symlink(b"dev/s", b"null", mtime=TIME + 1).link(b"dev/p2", b"dev/p").dir(b"sticky", mode=0o3777)
    newer = Layer().file(b"locked/new", b"x", mode=0o0, mtime=TIME).dir(b"empty", mode=0)
    return [layer, newer]


def test_not_root_loses_only_what_the_system_does_not_allow(shared: Path) -> None:
    done = run_as(NOBODY, *write_layers(hostile(), shared), "-o", f"{shared}/root/").assert_merged()
    found = tree.from_directory(shared / "root")
    assert tree.differences(unowned(hostile(), 65534, 65534), found) == []
    told = [line for line in done.err.splitlines() if "warning" in line]
    assert sorted(line.partition("warning: ")[2].partition(" could")[0] for line in told) == [
        "block devices: 1",
        "character devices: 2",
        "hard links to devices: 2",
        "security.* attributes: 1",
        "trusted.* attributes: 2",
    ]


@pytest.mark.parametrize("umask", [0, 0o077])
def test_not_root_a_real_stack(shared: Path, umask: int) -> None:
    run_as(Caller(umask=umask), *write_layers(odd_stack(), shared), "-o", f"{shared}/root/").assert_merged()
    assert tree.differences(unowned(odd_stack(), 65534, 65534), tree.from_directory(shared / "root")) == []


def test_not_root_below_a_setgid_directory(shared: Path) -> None:
    """The caller's group, as everywhere else; the bit and the group of the directory above stay there."""
    (shared / "above").mkdir()
    os.chown(shared / "above", 65534, 50)
    (shared / "above").chmod(0o2777)
    run_as(NOBODY, *write_layers([OWNED], shared), "-o", f"{shared}/above/root/").assert_merged()
    assert set(owners(shared / "above/root").values()) == {(65534, 65534)}


def test_a_repeated_path_is_not_counted_twice(shared: Path) -> None:
    """The counts of the first one_pass were added to those of the second."""
    layer = Layer().char(b"null", 1, 3).file(b"f", b"1").file(b"f", b"2")
    done = run_as(NOBODY, *write_layers([layer], shared), "-o", f"{shared}/root/").assert_merged()
    assert "character devices: 1 could" in done.err


def test_not_root_same_owner_is_tried_and_told(owned: Path, shared: Path) -> None:
    done = run_as(NOBODY, owned, "--same-owner", "-o", f"{shared}/root/").assert_merged()
    assert "owners: 5 could not be set" in done.err
    assert set(owners(shared / "root").values()) == {(65534, 65534)}


def test_not_root_maps_to_oneself(owned: Path, shared: Path) -> None:
    """As umoci is used without root; ids in no range stay the caller's, and are counted."""
    done = run_as(NOBODY, owned, "--uid-map", "0:65534:1", "--gid-map", "0:65534:1", "-o", f"{shared}/root/")
    done.assert_merged()
    assert "owners: 4 could not be set" in done.err
    assert set(owners(shared / "root").values()) == {(65534, 65534)}


def test_not_root_maps_to_a_group_of_ones_own(owned: Path, shared: Path) -> None:
    caller = Caller(groups=(4242,))
    done = run_as(caller, owned, "--uid-map", "0:65534:1", "--gid-map", "0:4242:1", "-o", f"{shared}/root/")
    done.assert_merged()
    assert owners(shared / "root")[""] == (65534, 4242)


def test_not_root_where_one_may_not_write(owned: Path, shared: Path) -> None:
    (shared / "mine").mkdir(mode=0o755)
    done = run_as(NOBODY, owned, "-o", f"{shared}/mine/root/").assert_failed("cannot create", "Permission denied")
    assert "Traceback" not in done.err
    assert os.listdir(shared / "mine") == []


# --- root of a user namespace ----------------------------------------------------------------------

ALL = Caller(0, 0, uids=((0, 100000, 65536),), gids=((0, 100000, 65536),))
ALONE = Caller(0, 0, uids=((0, 65534, 1),), gids=((0, 65534, 1),))


@pytest.mark.user_namespaces
def test_a_namespace_of_many_ids_keeps_owners(shared: Path) -> None:
    """As ``unshare --map-auto --map-root-user`` and rootless podman make it; seen from inside, 1000 is 1000."""
    layers = hostile()
    layers.append(Layer().file(b"own", b"x", mode=0o4755, uid=1000, gid=65535))
    done = run_as(ALL, *write_layers(layers, shared), "-o", f"{shared}/root/").assert_merged()
    found = tree.from_directory(shared / "root")
    expected = {
        path: tree.Node(**{**node.__dict__, "uid": 100000 + old.uid, "gid": 100000 + old.gid})
        for path, node in unowned(layers, 0, 0).items()
        for old in [model.merge(layers)[path]]
    }
    assert tree.differences(expected, found, ignore_xattrs=[b"security.capability"]) == []
    capability = os.getxattr(shared / "root/locked/in/y", "security.capability")
    assert len(capability) == 24, "the kernel makes it one that counts in this namespace alone (capabilities(7))"
    assert struct.unpack("<I", capability[20:])[0] == 100000
    told = {line.partition("warning: ")[2].partition(":")[0] for line in done.err.splitlines() if "warning" in line}
    assert told == {"block devices", "character devices", "hard links to devices", "trusted.* attributes"}


@pytest.mark.user_namespaces
def test_a_namespace_of_many_ids_does_not_hold_them_all(shared: Path) -> None:
    layer = Layer().file(b"f", uid=65536).file(b"g", uid=BIG).file(b"h", uid=65535)
    done = run_as(ALL, *write_layers([layer], shared), "-o", f"{shared}/root/").assert_merged()
    assert "owners: 2 could not be set" in done.err
    assert {name: uid for name, (uid, _) in owners(shared / "root").items()} == {
        "": 100000,
        "f": 100000,
        "g": 100000,
        "h": 165535,
    }


@pytest.mark.user_namespaces
def test_a_namespace_of_one_id(owned: Path, shared: Path) -> None:
    """As ``unshare -r`` makes it."""
    done = run_as(ALONE, owned, "-o", f"{shared}/root/").assert_merged()
    assert "owners: 4 could not be set" in done.err
    assert set(owners(shared / "root").values()) == {(65534, 65534)}
    assert stat.S_IMODE((shared / "root/d/f").stat().st_mode) == 0o4755


@pytest.mark.user_namespaces
def test_unshare_itself(owned: Path, shared: Path, need_tool: NeedTool) -> None:
    done = run(owned, "-o", f"{shared}/root/", prefix=[need_tool("unshare"), "-r"]).assert_merged()
    assert "owners: 4 could not be set" in done.err


# --- --exclude -------------------------------------------------------------------------------------

EXCLUDED = [
    Layer()
    .dir(b"dev").char(b"dev/null", 1, 3).dir(b"dev/pts").file(b"dev/pts/x", b"x")
    .dir(b"usr").dir(b"usr/share").file(b"usr/share/doc", b"a file of that name")
    .dir(b"usr/share/man").file(b"usr/share/man/ls.1", b"ls").file(b"usr/share/man/copyright", b"c")
    .file(b"usr/a.pyc", b"1").file(b"usr/keep.pyc", b"2").file(b"usr/a.py", b"3"),
    Layer().file(b"implicit/cache/x", b"x").file(b"implicit/kept", b"y").link(b"usr/linked", b"usr/a.pyc")
    .dir(b"srv").file(b"srv/a.pyc", b"data", mode=0o751, mtime=TIME).link(b"srv/b", b"srv/a.pyc")
    .link(b"srv/c", b"srv/b").symlink(b"srv/s.pyc", b"x").link(b"srv/t", b"srv/s.pyc"),
]  # fmt: skip


def excluded(tmp_path: Path, sink: str, *patterns: str, layers: list[Layer] = EXCLUDED) -> tree.Tree:
    """The merged tree in either form."""
    options = [word for pattern in patterns for word in ("--exclude", pattern)]
    output = tmp_path / "root" if sink == "dir" else tmp_path / "root.tar"
    run(*write_layers(layers, tmp_path), *options, "--format", sink, "-o", output).assert_merged()
    return tree.from_directory(output) if sink == "dir" else tree.from_tar_file(output)


SINKS = pytest.mark.parametrize("sink", ["tar", "dir"])


@SINKS
@pytest.mark.parametrize(
    ("patterns", "gone"),
    [
        (("dev/*",), {b"dev/null", b"dev/pts", b"dev/pts/x"}),
        (("/dev",), {b"dev", b"dev/null", b"dev/pts", b"dev/pts/x"}),
        (("dev/*", "!dev/null"), {b"dev/pts", b"dev/pts/x"}),
        (("dev/", "!dev/null"), {b"dev", b"dev/null", b"dev/pts", b"dev/pts/x"}),
        (("doc/",), set()),
        (("man/",), {b"usr/share/man", b"usr/share/man/ls.1", b"usr/share/man/copyright"}),
        (("usr/share/man/*", "!copyright"), {b"usr/share/man/ls.1"}),
        (("cache",), {b"implicit/cache", b"implicit/cache/x"}),
        (("# a comment", "", "nothing-such"), set()),
        (("/srv/[st]*",), {b"srv/s.pyc", b"srv/t"}),
    ],
)
def test_excluded_paths_are_not_in_the_output(
    tmp_path: Path, sink: str, patterns: tuple[str, ...], gone: set[bytes]
) -> None:
    whole = model.merge(EXCLUDED)
    found = excluded(tmp_path, sink, *patterns)
    assert whole.keys() - found.keys() == gone
    assert found.keys() <= whole.keys()
    assert {path: node.content for path, node in found.items()} == {path: whole[path].content for path in found}


@SINKS
def test_a_link_to_what_is_excluded_is_promoted(tmp_path: Path, sink: str) -> None:
    """To a file of its own layer, of an older one, and to a symlink; further links go to the promoted one."""
    whole = model.merge(EXCLUDED)
    found = excluded(tmp_path, sink, "*.pyc", "!keep.pyc")
    assert whole.keys() - found.keys() == {b"usr/a.pyc", b"srv/a.pyc", b"srv/s.pyc"}
    for path, group in (
        (b"srv/b", b"srv/b"),
        (b"srv/c", b"srv/b"),
        (b"usr/linked", b"usr/linked"),
        (b"srv/t", b"srv/t"),
    ):
        assert found[path] == tree.Node(**{**whole[path].__dict__, "group": group})


@SINKS
def test_what_is_excluded_hides_what_is_older(tmp_path: Path, sink: str) -> None:
    """``cache/`` is the newest layer's directory, so that the older file of that name does not come back."""
    layers = [Layer().file(b"cache", b"old"), Layer().dir(b"cache").file(b"cache/x", b"new")]
    assert set(excluded(tmp_path, sink, "cache/", layers=layers)) == {b""}


@SINKS
def test_an_excluded_file_hides_an_older_directory(tmp_path: Path, sink: str) -> None:
    layers = [Layer().dir(b"foo").file(b"foo/x", b"old"), Layer().file(b"foo", b"new")]
    assert set(excluded(tmp_path, sink, "foo*", "!foo/", layers=layers)) == {b""}


@SINKS
def test_whiteouts_of_what_stays_count(tmp_path: Path, sink: str) -> None:
    layers = [Layer().file(b"a/x", b"1").file(b"a/y", b"1").file(b"b/x", b"1"), Layer().whiteout(b"a/x").opaque(b"b")]
    assert set(excluded(tmp_path, sink, ".wh.*", "*.pyc", layers=layers)) == {b"", b"a", b"a/y", b"b"}


@SINKS
def test_names_that_are_no_text(tmp_path: Path, sink: str) -> None:
    layers = [Layer().file(b"\xff.pyc", b"1").file(b"\xff", b"1").file(b"new\nline.pyc", b"1").file(b"a\\b", b"1")]
    assert set(excluded(tmp_path, sink, "*.pyc", "*b", layers=layers)) == {b"", b"\xff"}


@pytest.mark.parametrize("pattern", ["!", "trailing\\"])
def test_a_pattern_that_is_none(tmp_path: Path, pattern: str) -> None:
    """It came out as a traceback."""
    done = run(*write_layers(EXCLUDED, tmp_path), "--exclude", pattern, "-o", f"{tmp_path}/root/")
    done.assert_usage_error("--exclude", "nvalid git pattern")


# --- limits ----------------------------------------------------------------------------------------

LIMITED = [Layer().dir(b"d").file(b"d/a", bytes(1000)).file(b"d/b", bytes(24)).symlink(b"d/s", b"a")]
"""Five entries with the root, 1,024 bytes."""


@SINKS
@pytest.mark.parametrize(
    ("options", "most"),
    [
        (("--max-entries", "5"), None),
        (("--max-entries", "4"), "more than the limit of 4 entries"),
        (("--max-entries", "0"), "more than the limit of 0 entries"),
        (("--max-bytes", "1K"), None),
        (("--max-bytes", "1023"), "more than the limit of 1,023 bytes"),
        (("--max-bytes", "0"), "more than the limit of 0 bytes"),
    ],
)
def test_limits(tmp_path: Path, sink: str, options: tuple[str, str], most: str | None) -> None:
    layers = write_layers(LIMITED, tmp_path)
    done = run(*layers, *options, "--format", sink, "-o", tmp_path / "out", "-q")
    if most is None:
        done.assert_merged()
    else:
        done.assert_failed(most, "limit")
        assert os.listdir(tmp_path) == ["00.tar"]


@SINKS
def test_limits_count_what_is_written_not_what_is_hidden(tmp_path: Path, sink: str) -> None:
    layers = [*LIMITED, Layer().whiteout(b"d/a").file(b"d/b", bytes(10))]
    options = ("--max-bytes", "10", "--max-entries", "4")
    run(*write_layers(layers, tmp_path), *options, "--format", sink, "-o", tmp_path / "out").assert_merged()


def test_limits_end_the_merge_before_more_is_written(tmp_path: Path) -> None:
    """A body that is over the limit is not begun: the disk need not hold it."""
    spec = EntrySpec(Kind.FILE, b"bomb", size=1 << 40)
    (tmp_path / "a.tar").write_bytes(Layer().entry(spec).tar(Dialect.GNU))
    run(tmp_path / "a.tar", "--max-bytes", "1G", "-o", f"{tmp_path}/root/").assert_failed(
        "more than the limit of 1,073,741,824 bytes"
    )
    assert os.listdir(tmp_path) == ["a.tar"]
