"""The test support itself: other tools read what the builder writes as it was meant, and so do we."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import model
from tests.support.layers import Dialect, EntrySpec, Kind, Layer, parse_pax_time, pax_time
from tests.support.strategies import mutated, stacks
from tests.support.tree import Tree, content_of, differences, from_directory, from_tar, from_tar_file

NeedTool = Callable[[str], str]

EXPRESSIVE = (Dialect.USTAR, Dialect.GNU, Dialect.PAX)
LONG = b"d" * 90 + b"/" + b"f" * 90
"""A path that ustar splits and GNU needs a long name for."""


def sample() -> Layer:
    """One of each, in what all dialects but V7 can say."""
    return (
        Layer()
        .dir(b"", mode=0o711)
        .dir(b"etc", mode=0o1777, uid=1000, gid=100, uname=b"me", gname=b"us", mtime=1_700_000_000_000_000_000)
        .file(b"etc/x", b"data" * 300, mode=0o4755)
        .link(b"etc/y", b"etc/x")
        .symlink(b"etc/s", b"/etc/x")
        .char(b"etc/c", 5, 1)
        .block(b"etc/b", 259, 70000)
        .fifo(b"etc/p")
        .dir(b"d" * 90)
        .file(LONG, b"long")
    )


def lists(tool: str, data: bytes) -> list[bytes]:
    command = [tool, "-tf", "-", *(["--quoting-style=literal"] if tool == "tar" else [])]
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout.splitlines()


# --- the builder, read by others -----------------------------------------------------------------


@pytest.mark.parametrize("tool", ["tar", "bsdtar"])
@pytest.mark.parametrize("prefix", [b"", b"./"])
@pytest.mark.parametrize("dialect", EXPRESSIVE)
def test_tools_list_what_was_built(tool: str, dialect: Dialect, prefix: bytes, need_tool: NeedTool) -> None:
    need_tool(tool)
    names = [prefix + spec.path + b"/" * (spec.kind is Kind.DIR) for spec in sample().entries[1:]]
    assert lists(tool, sample().tar(dialect, prefix)) == [b"./", *names]


@pytest.mark.parametrize("prefix", [b"", b"./"])
@pytest.mark.parametrize("dialect", EXPRESSIVE)
def test_tarfile_reads_what_was_built(dialect: Dialect, prefix: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(sample().tar(dialect, prefix)), errorlevel=2) as tar:
        infos = tar.getmembers()
    assert [info.type for info in infos] == [spec.kind.value for spec in sample().entries]
    for info, spec in zip(infos, sample().entries, strict=True):
        assert (info.mode, info.uid, info.gid) == (spec.mode, spec.uid, spec.gid)
        assert (info.uname, info.gname) == (spec.uname.decode(), spec.gname.decode())
        assert (info.devmajor, info.devminor) == (spec.major, spec.minor)
        assert info.mtime == spec.mtime / 1e9
        assert info.size == len(spec.data)
    assert infos[3].linkname == (prefix + b"etc/x").decode()


@pytest.mark.root
@pytest.mark.parametrize("tool", ["tar", "bsdtar"])
@pytest.mark.parametrize("dialect", EXPRESSIVE)
def test_tools_extract_what_the_model_says(tool: str, dialect: Dialect, tmp_path: Path, need_tool: NeedTool) -> None:
    command = [need_tool(tool), "-xpf", "-", "--numeric-owner", "-C", str(tmp_path)]
    done = subprocess.run(command, input=sample().tar(dialect), stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert differences(model.merge([sample()]), _untimed(from_directory(tmp_path), model.merge([sample()]))) == []


def _untimed(tree: Tree, like: Tree) -> Tree:
    """Bsdtar does not restore the time of a directory that it made before; the root is such a one."""
    return {**tree, b"": like[b""]}


def test_pax_says_what_ustar_cannot() -> None:
    attributes = {b"user.a": b"v\n=5 x\0", b"user.empty": b""}
    layer = Layer().file(b"\xe9/" + b"x" * 255, uid=4294967294, mtime=-1_500_000_000, xattrs=attributes)
    with tarfile.open(fileobj=io.BytesIO(layer.tar()), errorlevel=2) as tar:
        info = tar.getmembers()[0]
    assert info.name.encode("utf-8", "surrogateescape") == b"\xe9/" + b"x" * 255
    assert (info.uid, info.mtime) == (4294967294, -1.5)
    assert info.pax_headers["SCHILY.xattr.user.a"] == "v\n=5 x\0"
    assert info.pax_headers["SCHILY.xattr.user.empty"] == ""


def test_gnu_says_large_and_negative_numbers_in_base_256() -> None:
    layer = Layer().file(b"a", uid=4294967294, mtime=-2 * 10**9).file(b"b", mtime=9_000_000_000 * 10**9)
    with tarfile.open(fileobj=io.BytesIO(layer.tar(Dialect.GNU)), errorlevel=2) as tar:
        assert [(info.uid, info.mtime) for info in tar] == [(4294967294, -2), (0, 9_000_000_000)]


def test_v7_says_directory_by_a_slash() -> None:
    data = Layer().dir(b"d").file(b"d/f", b"x").symlink(b"s", b"d").link(b"l", b"d/f").tar(Dialect.V7)
    with tarfile.open(fileobj=io.BytesIO(data), errorlevel=2) as tar:
        assert [(info.name, info.isdir()) for info in tar] == [
            ("d", True),
            ("d/f", False),
            ("s", False),
            ("l", False),
        ]


@pytest.mark.parametrize("dialect", [Dialect.V7, Dialect.USTAR, Dialect.GNU])
@pytest.mark.parametrize(
    "layer",
    [
        Layer().file(b"a", xattrs={b"user.a": b""}),
        Layer().file(b"a", mtime=1),
        Layer().globals({b"uid": b"1"}),
    ],
)
def test_a_dialect_refuses_what_it_cannot_say(layer: Layer, dialect: Dialect) -> None:
    with pytest.raises(ValueError, match="has no"):
        layer.tar(dialect)


@pytest.mark.parametrize("dialect", [Dialect.V7, Dialect.USTAR])
def test_old_dialects_refuse_long_names(dialect: Dialect) -> None:
    with pytest.raises(ValueError, match=r"fit|split"):
        Layer().file(b"x" * 101).tar(dialect)


def test_every_method_returns_a_new_layer() -> None:
    empty = Layer()
    assert empty.file(b"a") == empty.file(b"a")
    assert empty.items == ()
    assert hash(empty.dir(b"a", xattrs={b"user.a": b"b"}))


@pytest.mark.parametrize("form", ["file", "link", "symlink", "dir", "char"])
def test_whiteouts_in_disguise(form: str) -> None:
    layer = Layer().whiteout(b"a/b", form=form)  # type: ignore[arg-type]  # parametrized strings
    assert layer.entries[0].path == b"a/.wh.b"
    assert layer.entries[0].kind.name.lower() == form
    assert model.merge([Layer().file(b"a/b"), layer]).keys() == {b"", b"a"}


def test_globals_are_weaker_than_own_records_and_stronger_than_headers() -> None:
    layer = Layer().file(b"a").globals({b"uid": b"7", b"SCHILY.xattr.user.g": b"v"}).file(b"b", uid=5)
    layer = layer.file(b"c", uid=4294967294)
    assert [spec.uid for spec in layer.entries] == [0, 7, 4294967294]
    assert from_tar(layer.dir(b"").tar()) == model.merge([layer.dir(b"")])


@given(st.integers(-(2**70), 2**70))
def test_pax_times_are_exact(nanoseconds: int) -> None:
    assert parse_pax_time(pax_time(nanoseconds)) == nanoseconds


# --- the strict reader ---------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(data=st.data(), dialect=st.sampled_from(Dialect), prefix=st.sampled_from([b"", b"./"]))
def test_a_merged_tree_survives_being_written_and_read(data: st.DataObject, dialect: Dialect, prefix: bytes) -> None:
    narrow = dialect in (Dialect.V7, Dialect.USTAR)
    merged = model.merge(data.draw(stacks(dialect=dialect, max_layers=3)))
    try:
        written = written_out(merged).tar(dialect, b"" if narrow else prefix)
    except ValueError:
        return  # a long symlink target, a path that does not split
    assert differences(merged, from_tar(written)) == []


def written_out(tree: Tree) -> Layer:
    """Return a tree as one layer, in the order that every output guarantees; contents must be short."""
    layer = Layer()
    for path, node in sorted(tree.items()):
        if node.group not in (path, b""):
            layer = layer.link(path, node.group)
            continue
        spec = EntrySpec(
            node.kind,
            path,
            _literal(node.content),
            node.target,
            node.mode,
            node.uid,
            node.gid,
            mtime=node.mtime_ns,
            major=node.device[0],
            minor=node.device[1],
            xattrs=tuple(sorted(node.xattrs)),
        )
        layer = layer.entry(spec)
    return layer


def _literal(content: bytes) -> bytes:
    """The strategies' only body that is kept as a digest."""
    return b"y" * 5000 if content == content_of(b"y" * 5000) else content


@pytest.mark.parametrize(
    ("layer", "complaint"),
    [
        (Layer().file(b"a"), "no entry of the root"),
        (Layer().dir(b"").dir(b""), "twice"),
        (Layer().dir(b"").file(b"a").file(b"a"), "twice"),
        (Layer().dir(b"").file(b"d/a").dir(b"d"), "before its parent"),
        (Layer().dir(b"").file(b"d").file(b"d/a"), "no directory"),
        (Layer().dir(b"").link(b"b", b"a").file(b"a"), "not come before"),
        (Layer().dir(b"").dir(b"d").link(b"b", b"d"), "directory"),
        (Layer().dir(b"").file(b"/a"), "clean"),
        (Layer().dir(b"").file(b"a//b"), "clean"),
        (Layer().dir(b"").file(b"a/../b"), "clean"),
        (Layer().dir(b"").file(b"a\0", records={b"path": b"a\0"}), "NUL"),
        (Layer().dir(b"").raw(b"0" * 512), "sum"),
        (Layer().dir(b"").file(b"a", b"x", size=600), "too early"),
    ],
)
def test_broken_promises_are_seen(layer: Layer, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        from_tar(layer.tar())


@pytest.mark.parametrize("end", [b"", bytes(512), bytes(1024) + b"x" * 512])
def test_the_end_must_be_an_end(end: bytes) -> None:
    with pytest.raises(AssertionError):
        from_tar(Layer().dir(b"").tar(end=False) + end)


@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        ["--format=pax", "--sparse-version=0.0"],
        ["--format=pax", "--sparse-version=0.1"],
        ["--format=pax", "--sparse-version=1.0"],
    ],
)
@pytest.mark.parametrize("pieces", [0, 1, 3, 30])
def test_sparse_files_are_expanded(options: list[str], pieces: int, tmp_path: Path) -> None:
    """Four dialects of GNU tar; more than four pieces need further blocks of the old map."""
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        for piece in range(pieces):
            file.seek(piece * 65536)
            file.write(b"piece %d" % piece)
        file.truncate(pieces * 65536 + 100_000)
    command = ["tar", "-C", str(tmp_path), "-S", *options, "-cf", "-", "--no-recursion", "./", "./sparse"]
    made = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    assert len(made) < 65536 * max(pieces, 1)
    assert from_tar(made)[b"sparse"].content == content_of(sparse.read_bytes())


def test_a_tar_file_is_read_like_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(sample().tar())
    assert from_tar_file(path) == from_tar(path.read_bytes())


@settings(max_examples=300, deadline=None)
@given(mutated(sample().tar()))
def test_damage_is_an_assertion_or_no_damage(data: bytes) -> None:
    """Wounds may hit bytes that nobody checks, but never end in any other error."""
    try:
        from_tar(data)
    except AssertionError:
        return


# --- comparing -----------------------------------------------------------------------------------


def test_differences_name_path_field_and_both_values() -> None:
    one = model.merge([Layer().file(b"a", b"1").file(b"only")])
    two = model.merge([Layer().file(b"a", b"2", xattrs={b"security.x": b""})])
    assert differences(one, two, ignore_xattrs=[b"security."]) == [
        "'a': content is b'1' in the first, b'2' in the second",
        "'only': only in the first (Kind.FILE)",
    ]
    assert len(differences(one, two, limit=1)) == 2


def test_hard_links_are_part_of_the_tree() -> None:
    linked = model.merge([Layer().file(b"a").link(b"b", b"a")])
    assert linked != model.merge([Layer().file(b"a").file(b"b")])


# --- the model: what no kernel can be asked ------------------------------------------------------


def test_a_link_binds_to_the_last_target_before_it_else_to_the_last() -> None:
    before = Layer().file(b"t", b"1").file(b"t", b"2").link(b"l", b"t").file(b"t", b"3")
    after = Layer().link(b"l", b"t").file(b"t", b"1").file(b"t", b"2")
    assert model.merge([before])[b"l"].content == b"2"
    assert model.merge([after])[b"l"].content == b"2"
    assert model.merge([after])[b"l"].group == model.merge([after])[b"t"].group == b"l"


def test_a_link_sees_through_its_own_layers_whiteout() -> None:
    tree = model.merge([Layer().file(b"t", b"old"), Layer().whiteout(b"t").link(b"l", b"t")])
    assert (set(tree), tree[b"l"].content) == ({b"", b"l"}, b"old")


@pytest.mark.parametrize(
    "stack",
    [
        [Layer().link(b"a", b"b").link(b"b", b"a")],
        [Layer().file(b"a"), Layer().link(b"a", b"a")],
        [Layer().dir(b"d").link(b"a", b"d")],
        [Layer().file(b"d/x"), Layer().link(b"a", b"d")],
        [Layer().file(b"t"), Layer().whiteout(b"t"), Layer().link(b"a", b"t")],
        [Layer().file(b"d/t"), Layer().opaque(b"d"), Layer().link(b"a", b"d/t")],
        [Layer().file(b"d/t"), Layer().file(b"d"), Layer().link(b"a", b"d/t")],
        [Layer().file(b"f").file(b"f/x")],
        [Layer().file(b".wh.a/b")],
        [Layer().file(b"../a")],
        [Layer().file(b"a/..")],
        [Layer().file(b"")],
        [Layer().file(b"./")],
        [Layer().file(b"a\0")],
        [Layer().file(b".wh.")],
        [Layer().file(b".wh...")],
        [Layer().symlink(b"a", b"")],
        [Layer().file(b"x" * 256)],
        [Layer().file(b"/".join([b"x"] * 1025))],
        [Layer().file(b"/".join([b"x" * 200] * 21))],
    ],
)
def test_layers_that_mean_nothing(stack: list[Layer]) -> None:
    with pytest.raises(model.ModelError):
        model.merge(stack)


def test_names_at_the_limits() -> None:
    assert b"x" * 255 in model.merge([Layer().file(b"x" * 255)])
    assert model.merge([Layer().file(b"x" * 255), Layer().whiteout(b"x" * 255)]).keys() == {b""}


def test_a_whiteout_below_a_symlink_of_its_layer_is_ignored() -> None:
    """Umoci writes them; names are never followed."""
    stack = [Layer().file(b"etc/group"), Layer().symlink(b"conf", b"/etc").whiteout(b"conf/group")]
    tree = model.merge(stack)
    assert tree[b"conf"].kind is Kind.SYMLINK
    assert b"etc/group" in tree


def test_bookkeeping_is_hidden_but_may_be_linked_to() -> None:
    layer = Layer().dir(b".wh..wh.plnk").file(b".wh..wh.plnk/1", b"x").link(b"a", b".wh..wh.plnk/1")
    tree = model.merge([layer])
    assert (set(tree), tree[b"a"].content) == ({b"", b"a"}, b"x")


def test_overlay_whiteouts_count_when_asked_for() -> None:
    opaque = Layer().dir(b"d", xattrs={b"trusted.overlay.opaque": b"y", b"user.a": b"b"})
    stack = [
        Layer().file(b"a").file(b"l").file(b"d/x"),
        opaque.char(b"a", 0, 0).link(b"l", b"a").file(b".wh.d"),
    ]
    assert model.merge(stack, whiteouts="overlay").keys() == {b"", b"d", b".wh.d"}
    assert model.merge(stack, whiteouts="any").keys() == {b"", b"d"}
    assert model.merge(stack, whiteouts="overlay")[b"d"].xattrs == {(b"user.a", b"b")}
    assert model.merge(stack)[b"a"].kind is Kind.CHAR


def test_implicit_directories_take_the_metadata_still_in_view() -> None:
    older = Layer().dir(b"d", mode=0o700).file(b"d/x")
    assert model.merge([older, Layer().file(b"d/y")])[b"d"].mode == 0o700
    assert model.merge([older, Layer().opaque(b"d")])[b"d"].mode == 0o700
    assert model.merge([older, Layer().whiteout(b"d").file(b"d/y")], epoch_ns=5)[b"d"].mtime_ns == 5
    assert model.merge([Layer().file(b"d"), Layer().whiteout(b"d/x")])[b"d"].kind is Kind.DIR


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(data=st.data(), mode=st.sampled_from(["oci", "overlay", "any"]), dialect=st.sampled_from(Dialect))
def test_valid_stacks_are_valid_and_can_be_written(data: st.DataObject, mode: str, dialect: Dialect) -> None:
    stack = data.draw(stacks(dialect=dialect, whiteouts=mode))  # type: ignore[arg-type]  # sampled strings
    model.merge(stack, whiteouts=mode)  # type: ignore[arg-type]
    for layer in stack:
        layer.tar(dialect)
