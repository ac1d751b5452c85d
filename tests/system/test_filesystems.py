"""File system images in one command: each is mounted, unpacked, checked and compared with what was merged."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from streamerge.errors import SinkError
from streamerge.sinks.mkfs.registry import choose_tool
from streamerge.sinks.mkfs.tools import MkfsTool
from tests.support import model, tree
from tests.support.command import Done, run, shell
from tests.support.filesystems import HOLDS, Holds, as_held, checked, mounted, shown, unpacked
from tests.support.layers import SECOND, Kind, Layer
from tests.support.needs import missing
from tests.support.odd import example_layers, odd_stack, write_layers
from tests.support.strict_cpio import tree_of

NeedTool = Callable[[str], str]

pytestmark = [pytest.mark.root, pytest.mark.loop]

PROGRAMS = ["mksquashfs", "sqfstar", "tar2sqfs", "mkfs.erofs", "mke2fs"]
MAKES = {"mkfs.erofs": "erofs", "mke2fs": "ext4"}
ACL = b"user::rw-,user:lisa:r--:1000,group::r--,mask::r--,other::---"


@dataclass(frozen=True)
class Way:
    """One tool on this machine, and what its way holds."""

    program: str
    filesystem: str
    tool: MkfsTool
    holds: Holds


@pytest.fixture(params=PROGRAMS)
def way(request: pytest.FixtureRequest, need_tool: NeedTool) -> Way:
    need_tool(request.param)
    filesystem = MAKES.get(request.param, "squashfs")
    try:
        tool = choose_tool(filesystem, request.param)
    except SinkError as error:
        missing("new_tools", f"{error}: Debian 12 has none that will do")
    name = request.param
    if name == "mke2fs" and not tool.reads_tars():
        name = "mke2fs, directory"
    return Way(request.param, filesystem, tool, HOLDS[name if tool.keeps_root else f"old {name}"])


@pytest.fixture
def layers(tmp_path: Path) -> list[Path]:
    return write_layers(everything(), tmp_path)


def everything() -> list[Layer]:
    """The odd stack, and what makes tools falter: times out of range, odd records, sparse files, many names."""
    records = {b"comment": b"x", b"atime": b"1.5", b"SCHILY.acl.access": ACL, b"LIBARCHIVE.xattr.user.b": b"eA=="}
    sparse = {b"GNU.sparse.name": b"more/sparse", b"GNU.sparse.size": b"3000000", b"GNU.sparse.map": b"1000000,3"}
    more = (
        Layer()
        .dir(b"more", mtime=SECOND)
        .file(b"more/records", b"x", mode=0o640, mtime=7 * SECOND, records=records)
        .file(b"more/late", b"y", mtime=(1 << 33) * SECOND)
        .file(b"more/late, octal", b"y", mtime=(1 << 32) * SECOND)
        .file(b"more/xattrs", b"z", xattrs={b"trusted.t": b"1", b"security.s": b"2", b"user.l": b"v" * 3000})
        .file(b"more/GNUSparseFile/sparse", b"abc", records=sparse)
        .file(b"more/caf\xe9", b"Latin-1", uid=3_000_000_000)
        .symlink(b"more/long", b"t" * 2000, mtime=3 * SECOND)
        .symlink(b"more/mode", b"t", mode=0o644)
        .file(b"more/linked", b"inode", mode=0o104711, uid=7, mtime=9 * SECOND)
        .link(b"more/liar", b"more/linked", mode=0o600, uid=8, mtime=5 * SECOND)
        .char(b"more/c", 1, 3)
        .link(b"more/c2", b"more/c")
    )
    return [*odd_stack(), more]


def expected() -> tree.Tree:
    """What the model says; it reads neither sparse files nor records, which are put in by hand."""
    found = model.merge(everything())
    body = b"".join([bytes(1_000_000), b"abc", bytes(1_999_997)])
    sparse = replace(found.pop(b"more/GNUSparseFile/sparse"), content=tree.content_of(body), group=b"more/sparse")
    found.pop(b"more/GNUSparseFile")
    acl = bytes.fromhex("02000000 01000600ffffffff 02000400e8030000 04000400ffffffff 10000400ffffffff 20000000ffffffff")
    pairs = {(b"system.posix_acl_access", acl), (b"user.b", b"x")}
    records = replace(found[b"more/records"], xattrs=frozenset(pairs))
    return {**found, b"more/sparse": sparse, b"more/records": records}


def compare(want: tree.Tree, got: tree.Tree, *, root: bool = True) -> None:
    if not root:
        want, got = ({path: node for path, node in one.items() if path} for one in (want, got))
    assert tree.differences(want, got) == []


def make(way: Way, layers: list[Path], image: Path, *options: str, env: Mapping[str, str | None] | None = None) -> Done:
    return run(*layers, "-o", image, "--mkfs", way.program, *options, env=env)


# --- what each way keeps -------------------------------------------------------------------------


def test_an_image_is_what_was_merged(way: Way, layers: list[Path], tmp_path: Path) -> None:
    image = tmp_path / f"image.{way.filesystem}"
    done = make(way, layers, image).assert_merged()
    compare(as_held(expected(), way.holds), shown(image, tmp_path / "view"), root=way.holds.root)
    checked(image)
    lost = {line.split(": ")[2] for line in done.err.splitlines() if " lost; " in line}
    assert lost == what_is_lost(expected(), way.holds)


def what_is_lost(whole: tree.Tree, holds: Holds) -> set[str]:
    """The kinds of things that a tree has and a way does not hold, as warnings call them."""
    kinds = set()
    for node in whole.values():
        seconds, fraction = divmod(node.mtime_ns, SECOND)
        if not holds.earliest <= seconds <= holds.latest:
            kinds.add("times out of range")
        elif fraction and not holds.fractions:
            kinds.add("fractions of seconds")
        for name, _ in node.xattrs:
            if not name.startswith(holds.xattrs):
                namespace = name.split(b".")[0].decode()
                kinds.add("POSIX ACLs" if namespace == "system" else f"{namespace}.*")
    if not holds.linked_symlinks:
        kinds.add("hard links to symlinks")
    if not holds.root:
        kinds.add("owner and time of the root directory")
    return kinds


@pytest.mark.parametrize("filesystem", ["squashfs", "erofs", "ext4"])
def test_the_tools_own_way_out(layers: list[Path], tmp_path: Path, need_tool: NeedTool, filesystem: str) -> None:
    """unsquashfs, fsck.erofs --extract, debugfs rdump: names, kinds and contents."""
    for tool in ("mksquashfs", "tar2sqfs", "mkfs.erofs", "mke2fs", "unsquashfs", "fsck.erofs", "debugfs"):
        need_tool(tool)
    image = tmp_path / f"image.{filesystem}"
    run(*layers, "-o", image).assert_merged()
    found = unpacked(image, tmp_path / "out")
    found.pop(b"lost+found", None)

    def bare(nodes: tree.Tree) -> dict[bytes, tuple[object, ...]]:
        kinds = (Kind.FILE, Kind.DIR, Kind.SYMLINK)
        return {path: (node.kind, node.content, node.target) for path, node in nodes.items() if node.kind in kinds}

    assert bare(found) == bare(expected())


@pytest.mark.parametrize("place", ["first of its layer", "last of its layer", "nowhere"])
def test_the_roots_own_metadata(way: Way, tmp_path: Path, place: str) -> None:
    """squashfs-tools must be told when they start: a wrong guess, of an entry that is not the first, is mended."""
    root = Layer().dir(b"", mode=0o711, uid=5, gid=6, mtime=7 * SECOND)
    parts = {"first of its layer": [root, file_layer()], "last of its layer": [file_layer(), root], "nowhere": []}
    base = Layer(tuple(item for part in parts[place] for item in part.items)) if parts[place] else file_layer()
    paths = write_layers([base, Layer().file(b"newer")], tmp_path)
    image = tmp_path / f"image.{way.filesystem}"
    make(way, paths, image).assert_merged()
    want = model.merge([base, Layer().file(b"newer")])
    got = shown(image, tmp_path / "view")
    assert got[b""].mode == want[b""].mode
    compare(want, got, root=way.holds.root)


def file_layer() -> Layer:
    return Layer().dir(b"d").file(b"d/f", b"x" * 100_000)


def test_layers_that_are_pipes(way: Way, layers: list[Path], tmp_path: Path) -> None:
    """What must be known first is learnt of spooled layers."""
    image = tmp_path / f"image.{way.filesystem}"
    opened = " ".join(f"<(cat {layer})" for layer in layers)
    shell(f'streamerge {opened} -q -o "$1" --mkfs "$2"', image, way.program, cwd=tmp_path).assert_merged()
    compare(as_held(expected(), way.holds), shown(image, tmp_path / "view"), root=way.holds.root)


def test_a_path_that_a_layer_repeats(way: Way, tmp_path: Path) -> None:
    """The tool is ended, and another one begun."""
    repeats = file_layer().file(b"a", b"first").file(b"b", b"x" * 3_000_000).file(b"a", b"last")
    image = tmp_path / f"image.{way.filesystem}"
    make(way, write_layers([repeats], tmp_path), image).assert_merged()
    with mounted(image, tmp_path / "view") as view:
        assert (view / "a").read_bytes() == b"last"
    assert {path.name for path in tmp_path.iterdir()} == {"00.tar", "view", image.name}


@pytest.mark.parametrize("how", ["variable", "option"])
def test_reproducible(way: Way, layers: list[Path], tmp_path: Path, how: str) -> None:
    """The same bytes at another time, under another name."""
    env = {"SOURCE_DATE_EPOCH": "1700000000"} if how == "variable" else None
    options = [] if how == "variable" else ["--reproducible"]
    images = [tmp_path / f"{name}.{way.filesystem}" for name in ("a", "bb")]
    make(way, layers, images[0], *options, env=env).assert_merged()
    time.sleep(1.1)
    make(way, layers, images[1], *options, env=env).assert_merged()
    if way.holds.root:  # before 4.6 sqfstar always gives the root the time at which it runs
        assert images[0].read_bytes() == images[1].read_bytes()
    holds = way.holds
    if way.program == "mkfs.erofs" and way.tool.version < (1, 8):
        holds = replace(holds, earliest=0, latest=(1 << 32) - 1)
    held = as_held(model_of(env), holds)
    compare(held, shown(images[1], tmp_path / "view"), root=way.holds.root)
    checked(images[1])


def model_of(env: Mapping[str, str] | None) -> tree.Tree:
    """With the variable, directories that no layer lists have its time; files keep theirs, later ones too."""
    found = expected()
    if env is None:
        return found
    return {**found, b"implicit": replace(found[b"implicit"], mtime_ns=int(env["SOURCE_DATE_EPOCH"]) * SECOND)}


# --- cpio ----------------------------------------------------------------------------------------


def test_cpio_from_the_command(layers: list[Path], tmp_path: Path, need_tool: NeedTool) -> None:
    """Plain, to a file and to a pipe, and compressed: the same bytes."""
    run(*layers, "-o", tmp_path / "image.cpio").assert_merged()
    data = (tmp_path / "image.cpio").read_bytes()
    assert run(*layers, "-q", "-o", "-", "--format", "cpio").out == data
    for suffix, tool in (("gz", "gzip"), ("zst", "zstd"), ("lz4", "lz4"), ("xz", "xz")):
        run(*layers, "-o", tmp_path / f"image.cpio.{suffix}").assert_merged()
        done = subprocess.run([need_tool(tool), "-dc", tmp_path / f"image.cpio.{suffix}"], capture_output=True)
        assert done.stdout == data, suffix
    found = tree_of(data)
    assert found[b"more/sparse"].content == expected()[b"more/sparse"].content
    assert found[b"bin/cat"].group == found[b"bin/zcat"].group == b"bin/cat"


@pytest.mark.parametrize("reader", ["cpio", "bsdtar"])
def test_readers_of_cpio(layers: list[Path], tmp_path: Path, need_tool: NeedTool, reader: str) -> None:
    """GNU cpio makes links at its end, which changes times of directories, and leaves "." as it is; so libarchive."""
    image, root = tmp_path / "image.cpio", tmp_path / "root"
    run(*layers, "-o", image).assert_merged()
    root.mkdir()
    commands = {"cpio": ["cpio", "-idm", "--quiet"], "bsdtar": ["bsdtar", "-xpf", "-", "--numeric-owner"]}
    need_tool(reader)
    with open(image, "rb") as file:
        done = subprocess.run(commands[reader], stdin=file, cwd=root, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    want, got = as_held(expected(), Holds(linked_symlinks=reader == "bsdtar")), tree.from_directory(root)
    for nodes in (want, got):
        for path in nodes:
            if nodes[path].kind in (Kind.DIR, Kind.SYMLINK):
                nodes[path] = replace(nodes[path], mtime_ns=0)
        nodes.pop(b"")
    for path in (b"more/late", b"more/late, octal"):
        assert want[path].mtime_ns == (2**32 - 1) * SECOND
    compare(want, got)


# --- by hand -------------------------------------------------------------------------------------


def by_hand() -> list[str]:
    """The command lines of docs/filesystems.md, "By hand"."""
    page = (Path(__file__).parents[2] / "docs" / "filesystems.md").read_text()
    section = page.split("\n## By hand\n")[1].split("\n## ")[0]
    return [line.strip() for line in section.splitlines() if line.startswith("    ")]


@pytest.mark.parametrize("line", by_hand())
def test_pipelines_by_hand(tmp_path: Path, need_tool: NeedTool, line: str) -> None:
    """Each runs with the tools that are here, unless these are too old for it."""
    (tmp_path / "layers").mkdir()
    for layer in example_layers():
        (tmp_path / "layers" / layer.name).write_bytes(layer.read_bytes())
    for program in PROGRAMS:
        if f"| {program} " in line:
            need_tool(program)
            try:
                readable = choose_tool(MAKES.get(program, "squashfs"), program).reads_tars()
            except SinkError:
                readable = False
            if not readable:
                missing("new_tools", f"{program} is too old for it: Debian 12 has none that will do")
    shell(f"set -eo pipefail; {line}", cwd=tmp_path, env={"LC_ALL": "C.UTF-8"}).assert_merged()
    run(*example_layers(), "-o", tmp_path / "merged.tar").assert_merged()
    want = set(tree.from_tar_file(tmp_path / "merged.tar"))
    images = [path for path in tmp_path.iterdir() if path.suffix in (".squashfs", ".erofs", ".ext4")]
    assert images or (tmp_path / "initramfs.cpio.zst").stat().st_size
    for image in images:
        found = shown(image, tmp_path / "view")
        assert set(found) == want
        assert found[b""].mode == 0o755
        checked(image)


# --- how large -----------------------------------------------------------------------------------


def tight_stacks() -> Iterator[tuple[str, Layer]]:
    yield "nothing", Layer()
    yield "tiny files", files(b"f", 3000, b"x")
    yield "empty files", files(b"f", 5000, b"")
    yield "long symlinks", symlinks(1500)
    yield "long names", files(b"n" * 200, 1500, b"")
    yield "deep directories", deep(700)
    yield "xattrs", files(b"f", 800, b"", {b"user.large": b"v" * 3000})
    yield "one large file", Layer().file(b"f", os.urandom(30_000_000))


def files(name: bytes, count: int, data: bytes, xattrs: Mapping[bytes, bytes] | None = None) -> Layer:
    layer = Layer().dir(b"d").items
    one = [Layer().file(b"d/" + name + b"%d" % number, data, xattrs=xattrs or {}).items[0] for number in range(count)]
    return Layer((*layer, *one))


def symlinks(count: int) -> Layer:
    return Layer(tuple(Layer().symlink(b"s%d" % number, b"t" * 1000).items[0] for number in range(count)))


def deep(count: int) -> Layer:
    return Layer(tuple(Layer().dir(b"/".join([b"d"] * depth)).items[0] for depth in range(1, count)))


TIGHT = dict(tight_stacks())


@pytest.mark.slow
@pytest.mark.parametrize("name", TIGHT)
def test_the_size_is_enough_and_not_much_more(tmp_path: Path, need_tool: NeedTool, name: str) -> None:
    need_tool("mke2fs")
    paths = write_layers([TIGHT[name]], tmp_path)
    image = tmp_path / "image.ext4"
    run(*paths, "-o", image).assert_merged()
    checked(image)
    counts = ext4_counts(image)
    assert counts["Free inodes"] < 200
    assert counts["Free blocks"] * 4096 < max(6 << 20, image.stat().st_size // 8)


def ext4_counts(image: Path) -> dict[str, int]:
    said = subprocess.run(["dumpe2fs", "-h", image], capture_output=True, text=True, check=True).stdout
    pairs = (line.split(":") for line in said.splitlines() if line.count(":") == 1)
    return {key: int(value) for key, value in pairs if value.strip().isdigit()}


@pytest.mark.slow
def test_room_is_left_where_asked(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("mke2fs")
    paths = write_layers([TIGHT["one large file"]], tmp_path)
    image = tmp_path / "image.ext4"
    run(*paths, "-o", image, "--free", "20%").assert_merged()
    counts = ext4_counts(image)
    assert 0.2 <= counts["Free blocks"] / counts["Block count"] < 0.35
    run(*paths, "-o", image, "--free", "100M").assert_merged()
    assert ext4_counts(image)["Free blocks"] * 4096 >= 100 << 20
    run(*paths, "-o", image, "--size", "256M").assert_merged()
    assert image.stat().st_size == 256 << 20
    checked(image)
    done = run(*paths, "-o", tmp_path / "small.ext4", "--size", "16M")
    done.assert_failed("a size of 16,777,216 bytes is too small", "needs")
    assert not (tmp_path / "small.ext4").exists()


# --- arguments -----------------------------------------------------------------------------------


def test_what_follows_the_dashes_goes_to_the_tool(layers: list[Path], tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("mkfs.erofs")
    image = tmp_path / "image.erofs"
    run(*layers, "-o", image, "--", "-zlz4hc", "-C65536").assert_merged()
    compare(as_held(expected(), HOLDS["mkfs.erofs"]), shown(image, tmp_path / "view"))
    done = run(*layers, "-o", tmp_path / "no.erofs", "--", "--no-such-option")
    assert done.code == 1
    assert "mkfs.erofs failed" in done.err
    assert "no-such-option" in done.err


def test_after_the_dashes_come_layers_where_there_is_no_tool(layers: list[Path], tmp_path: Path) -> None:
    run("-o", tmp_path / "a.tar", "--", *layers).assert_merged()
    run("-o", tmp_path / "b.tar", *layers).assert_merged()
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    run(*layers[:1], "-o", tmp_path / "c.cpio", "--", *layers[1:]).assert_merged()
    run("-o", tmp_path / "x.erofs", "--", *layers).assert_usage_error("Missing argument")


def test_one_more_layer(layers: list[Path], tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    added = write_layers([Layer().file(b"init", b"#!/bin/sh", mode=0o755).whiteout(b"etc")], tmp_path / "more")
    run(*layers, "--add", added[0], "-o", tmp_path / "a.tar").assert_merged()
    run(*layers, *added, "-o", tmp_path / "b.tar").assert_merged()
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    run(*layers, "--add", tmp_path / "a.tar", "-o", tmp_path / "a.tar").assert_usage_error("both the output and one")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "x.tar", "--mkfs", "sqfstar"], ["--mkfs has no effect on this output; it is for images"]),
        (["-o", "x.tar", "--size", "5M"], ["--size has no effect on this output; it is for images"]),
        (["-o", "x.cpio", "--free", "5%"], ["--free has no effect on this output; it is for images"]),
        (["-o", "x.squashfs", "--size", "5M"], ["size and free room are for ext4 only"]),
        (["-o", "x.erofs", "--mkfs", "mke2fs"], ["mke2fs cannot make erofs images; use mkfs.erofs"]),
        (["-o", "x.squashfs", "--level", "5"], ["--level has no effect on file system images"]),
        (["-o", "x.ext4", "--free", "99%"], ["0% to 95%"]),
        (["-o", "-", "--format", "ext4"], ["cannot be written to standard output"]),
    ],
)
def test_usage_errors(layers: list[Path], tmp_path: Path, options: list[str], words: list[str]) -> None:
    run(*layers, *options, cwd=tmp_path).assert_usage_error(*words)
    assert {path.suffix for path in tmp_path.iterdir()} == {".tar"}
