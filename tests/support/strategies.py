"""Hypothesis strategies: stacks of layers in which everything collides, and damaged bytes.

Few names and shallow paths make collisions the rule. Hard links take their targets from names that are
there, or soon will be, so that most of them mean something; what still means nothing is repaired away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TypeVar

from hypothesis import strategies as st

from tests.support.changeset import ModelError, Whiteouts, ancestors
from tests.support.layers import SECOND, Dialect, EntrySpec, Form, Kind, Layer
from tests.support.model import merge

__all__ = ["mutated", "repaired", "stacks"]

_T = TypeVar("_T")

_PLAIN = (b"a", b"b", b"c")
_ODD = (b"a-b", b"\xe9t\xe9", b"new\nline", b"caf\xc3\xa9", b" ", b"wh.a", b".wh", b"s" * 60)
_LONG = (b"n" * 101, b"m" * 200, b"x" * 255)
_DEPTHS = ((1, 4), (2, 4), (3, 1), (4, 1))
"""Numbers of components, and their weights."""
_NARROW = (Dialect.V7, Dialect.USTAR)
_DEEPEST = {Dialect.V7: 1, Dialect.USTAR: 2, Dialect.GNU: 4, Dialect.PAX: 4}
"""V7 has no more than 100 bytes for a path, and a whiteout's prefix must fit as well."""
_FORMS: tuple[Form, ...] = ("file", "link", "symlink", "dir", "char")
_SHORT_TARGETS = st.sampled_from((b"a", b"/b", b"../c", b"a/b", b"\xff/\n"))
_TARGETS = st.sampled_from((b"a", b"/b", b"../c", b"a/b", b"\xff/\n", b"t" * 120))


@dataclass(frozen=True)
class _Choice:
    """What may occur: the dialect must be able to say it, and the whiteouts' mode to tell it."""

    dialect: Dialect
    whiteouts: Whiteouts

    known: tuple[bytes, ...] = ()
    """Paths of the layers below, so that odd names collide as well."""
    directories: tuple[bytes, ...] = ()
    """Those of them that have a directory's entry."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        plain = (Kind.FILE, Kind.DIR, Kind.DIR, Kind.SYMLINK)
        return plain if self.dialect is Dialect.V7 else (*plain, Kind.CHAR, Kind.BLOCK, Kind.FIFO)

    @cached_property
    def paths(self) -> st.SearchStrategy[bytes]:
        """Shallow paths mostly, and those that older layers have."""
        return _weighted((2, _new_paths(self.dialect)), (1, self.known_paths))

    @cached_property
    def known_paths(self) -> st.SearchStrategy[bytes]:
        """What whiteouts are about: a path of an older layer, where there is one."""
        return st.sampled_from(self.known) if self.known else _new_paths(self.dialect)


def stacks(
    *,
    valid: bool = True,
    dialect: Dialect = Dialect.PAX,
    whiteouts: Whiteouts = "oci",
    max_layers: int = 5,
    max_entries: int = 12,
) -> st.SearchStrategy[list[Layer]]:
    """Stacks of 1 to ``max_layers`` layers, base first, that ``dialect`` can express.

    With ``valid`` the model accepts every one. Entries at fault are taken out, one after the other, until
    it does: that keeps examples small and lets them shrink. Without, the newest layer is left as it is,
    and errors of all sorts occur in it.
    """
    return _stacks(_Choice(dialect, whiteouts), valid, max_layers, max_entries)


@st.composite
def _stacks(draw: st.DrawFn, choice: _Choice, valid: bool, max_layers: int, max_entries: int) -> list[Layer]:
    layers: list[Layer] = []
    for above in reversed(range(draw(st.integers(1, max_layers)))):
        sound = valid or above > 0
        layers.append(draw(_layers(choice, sound, max_entries, _linkable(layers))))
        if sound:
            layers = repaired(layers, choice.whiteouts)
        choice = _knowing(choice, layers)
    return layers


def repaired(layers: Sequence[Layer], whiteouts: Whiteouts = "oci") -> list[Layer]:
    """The stack without the entries of its newest layer that the model objects to."""
    *older, newest = layers
    while (fault := _fault([*older, newest], whiteouts)) is not None:
        newest = Layer(newest.items[:fault] + newest.items[fault + 1 :])
    return [*older, newest]


def _fault(layers: Sequence[Layer], whiteouts: Whiteouts) -> int | None:
    try:
        merge(layers, whiteouts=whiteouts)
    except ModelError as error:
        return error.position
    return None


# --- entries -------------------------------------------------------------------------------------


@st.composite
def _layers(draw: st.DrawFn, choice: _Choice, valid: bool, max_entries: int, older: list[bytes]) -> Layer:
    """One layer: hard links are put anywhere among the other entries, before their targets too."""
    items = draw(st.lists(_entries(choice, valid), max_size=max_entries))
    for _ in range(draw(st.sampled_from((0, 0, 1, 2, 3)))):
        here = [path for path in _linkable([Layer(tuple(items))]) if path not in older]
        link = draw(_links(choice, here + older or [b"a"]))
        items.insert(draw(st.integers(0, len(items))), link)
    return Layer(tuple(items))


def _linkable(layers: Sequence[Layer]) -> list[bytes]:
    """Paths, in order, that a link might name: whiteouts of all sorts and directories are not among them."""
    specs = [spec for layer in layers for spec in layer.entries if spec.kind is not Kind.DIR]
    return list(dict.fromkeys(spec.path for spec in specs if not _is_marker(spec.path)))


def _knowing(choice: _Choice, layers: Sequence[Layer]) -> _Choice:
    """Every path of an entry, and every directory above one; the root is left out."""
    specs = [spec for layer in layers for spec in layer.entries if spec.path and b".wh." not in spec.path]
    known = {path for spec in specs for path in (spec.path, *ancestors(spec.path)) if path}
    directories = {spec.path for spec in specs if spec.kind is Kind.DIR}
    return replace(choice, known=tuple(sorted(known)), directories=tuple(sorted(directories)))


def _is_marker(path: bytes) -> bool:
    name = path.rpartition(b"/")[2]
    return name.startswith(b".wh.") and b".wh..wh.plnk" not in path


def _entries(choice: _Choice, valid: bool) -> st.SearchStrategy[EntrySpec]:
    choices = [(9, _nodes(choice)), (4, _whiteouts(choice)), (2, _opaques(choice)), (1, _bookkeeping(choice))]
    if choice.whiteouts != "oci" and Kind.CHAR in choice.kinds:
        choices.append((3, _overlay_whiteouts(choice)))
    if not valid:
        choices.append((1, _nonsense(choice)))
    return _weighted(*choices)


@cache
def _new_paths(dialect: Dialect) -> st.SearchStrategy[bytes]:
    """Of mostly plain names: a path is rarely odd in more than one place."""
    odd = _ODD if dialect in _NARROW else _ODD + _LONG
    component = _weighted((8, st.sampled_from(_PLAIN)), (1, st.sampled_from(odd)))
    sizes = [(size, weight) for size, weight in _DEPTHS if size <= _DEEPEST[dialect]]
    joined = [(weight, st.lists(component, min_size=size, max_size=size).map(b"/".join)) for size, weight in sizes]
    return _weighted(*joined)


def _weighted(*choices: tuple[int, st.SearchStrategy[_T]]) -> st.SearchStrategy[_T]:
    """Like ``one_of``, which drops repeats and so knows no weights; the first choice is the simplest."""
    indices = [index for index, (weight, _) in enumerate(choices) for _ in range(weight)]
    return st.sampled_from(indices).flatmap(lambda index: choices[index][1])


@st.composite
def _nodes(draw: st.DrawFn, choice: _Choice) -> EntrySpec:
    """Anything but hard links and whiteouts; the root's own entry now and then."""
    kind = draw(st.sampled_from(choice.kinds))
    path = draw(choice.paths)
    if kind is Kind.DIR and draw(st.integers(0, 5)) == 5:
        path = b""
    spec = EntrySpec(kind, path, mode=0o777 if kind is Kind.SYMLINK else draw(_MODES))
    if kind is Kind.FILE:
        spec = replace(spec, data=draw(_BODIES))
    elif kind is Kind.SYMLINK:
        spec = replace(spec, target=draw(_SHORT_TARGETS if choice.dialect in _NARROW else _TARGETS))
    elif kind in (Kind.CHAR, Kind.BLOCK):
        spec = replace(spec, major=draw(_MAJORS), minor=draw(_MINORS))
    return draw(_owned(choice, spec))


_MAJORS = st.integers(1, 300)
_MINORS = st.sampled_from((0, 1, 70000))
_MODES = st.sampled_from((0o644, 0o755, 0o4711, 0o1777, 0o2750, 0, 0o100600))
_BODIES = st.one_of(st.binary(max_size=3), st.sampled_from((b"x" * 512, b"y" * 5000)))


@st.composite
def _owned(draw: st.DrawFn, choice: _Choice, spec: EntrySpec) -> EntrySpec:
    """Owner, time and attributes as wild as the dialect permits; plain ones are the simplest."""
    wild = draw(_WILD)
    if wild == 0:
        return spec
    owners, seconds = (_SMALL_OWNERS, _SMALL_TIMES) if choice.dialect in _NARROW else (_OWNERS, _TIMES)
    pax = choice.dialect is Dialect.PAX
    mtime = draw(seconds) * SECOND + (draw(_FRACTIONS) if pax else 0)
    xattrs = draw(_xattrs(spec.kind)) if pax and wild == 2 else ()
    return replace(spec, uid=draw(owners), gid=draw(owners), mtime=mtime, xattrs=xattrs)


_WILD = st.integers(0, 2)
_SMALL_OWNERS = st.sampled_from((0, 1000, 2097151))
_OWNERS = st.sampled_from((0, 1000, 2097151, 2097152, 4294967294))
_SMALL_TIMES = st.sampled_from((0, 1, 1700000000))
_TIMES = st.sampled_from((0, 1, 1700000000, -2, 9000000000))
_FRACTIONS = st.sampled_from((0, 1, 500_000_000, 999_999_999))


@cache
def _xattrs(kind: Kind) -> st.SearchStrategy[tuple[tuple[bytes, bytes], ...]]:
    """Linux has ``user.*`` on files and directories only."""
    names = [b"trusted.t", b"trusted.\xc3\xa9"] + [b"user.u"] * (kind in (Kind.FILE, Kind.DIR))
    values = st.sampled_from((b"", b"v", b"\0", b"5 a=b\n", b"\xff\n="))
    return st.dictionaries(st.sampled_from(names), values, max_size=2).map(lambda found: tuple(found.items()))


# --- hard links and whiteouts --------------------------------------------------------------------


@st.composite
def _links(draw: st.DrawFn, choice: _Choice, targets: Sequence[bytes]) -> EntrySpec:
    return EntrySpec(Kind.LINK, draw(choice.paths), target=draw(st.sampled_from(targets)))


def _hidden(choice: _Choice) -> st.SearchStrategy[bytes]:
    return _weighted((1, choice.paths), (2, choice.known_paths))


@st.composite
def _whiteouts(draw: st.DrawFn, choice: _Choice) -> EntrySpec:
    return _marked(Layer().whiteout(draw(_hidden(choice)), draw(_forms(choice))))


@st.composite
def _opaques(draw: st.DrawFn, choice: _Choice) -> EntrySpec:
    """Whether the directory has an entry of its own in this layer is left to chance."""
    known = st.sampled_from(choice.directories or (b"a",))
    path = draw(_weighted((2, known), (2, _hidden(choice)), (1, st.just(b""))))
    return _marked(Layer().opaque(path, draw(_forms(choice))))


@st.composite
def _bookkeeping(draw: st.DrawFn, choice: _Choice) -> EntrySpec:
    """What AUFS leaves in the root of a branch; files in its plnk directory are targets of links."""
    name = draw(st.sampled_from((b".wh..wh.plnk/1", b".wh..wh.plnk/2", b".wh..wh.aufs")))
    return EntrySpec(Kind.FILE, name, data=draw(_BODIES))


@st.composite
def _overlay_whiteouts(draw: st.DrawFn, choice: _Choice) -> EntrySpec:
    """A device 0:0, or, where the dialect has attributes, an opaque directory."""
    path = draw(choice.paths)
    if choice.dialect is Dialect.PAX and draw(st.booleans()):
        name = draw(st.sampled_from((b"trusted.overlay.opaque", b"user.overlay.opaque")))
        value = draw(st.sampled_from((b"y", b"n")))
        return EntrySpec(Kind.DIR, path, mode=0o755, xattrs=((name, value),))
    return EntrySpec(Kind.CHAR, path)


def _forms(choice: _Choice) -> st.SearchStrategy[Form]:
    return st.sampled_from(_FORMS[:-1] if choice.dialect is Dialect.V7 else _FORMS)


def _marked(layer: Layer) -> EntrySpec:
    return layer.entries[0]


def _nonsense(choice: _Choice) -> st.SearchStrategy[EntrySpec]:
    """Entries that are errors wherever they stand, and links that may be."""
    specs = [
        EntrySpec(Kind.FILE, b"../a"),
        EntrySpec(Kind.FILE, b"a/../b"),
        EntrySpec(Kind.FILE, b".wh."),
        EntrySpec(Kind.FILE, b"a/.wh.."),
        EntrySpec(Kind.FILE, b"a/.wh..."),
        EntrySpec(Kind.FILE, b".wh.a/b"),
        EntrySpec(Kind.SYMLINK, b"a", mode=0o777),
        EntrySpec(Kind.FILE, b"."),
        EntrySpec(Kind.LINK, b"a", target=b"a"),
        EntrySpec(Kind.LINK, b"b", target=b"nothing"),
        EntrySpec(Kind.LINK, b"c", target=b"."),
    ]
    return st.sampled_from(specs)


# --- damage --------------------------------------------------------------------------------------

_Damage = Callable[[bytes], bytes]


def mutated(data: bytes, *, max_wounds: int = 4) -> st.SearchStrategy[bytes]:
    """The bytes with a few wounds: flipped bytes, cut ends, blocks swapped, doubled or lost."""
    if not data:
        return st.just(data)
    position = st.integers(0, len(data) - 1)
    wounds = st.one_of(
        st.builds(_flip, position, st.integers(1, 255)),
        st.builds(_cut, position),
        st.builds(_swap, position, position),
        st.builds(_double, position),
        st.builds(_lose, position),
    )

    def wounded(damages: list[_Damage]) -> bytes:
        hurt = data
        for damage in damages:
            hurt = damage(hurt) if hurt else hurt
        return hurt

    return st.lists(wounds, min_size=1, max_size=max_wounds).map(wounded)


def _flip(at: int, mask: int) -> _Damage:
    return lambda data: _patched(data, at % len(data), bytes([data[at % len(data)] ^ mask]))


def _patched(data: bytes, at: int, piece: bytes) -> bytes:
    return data[:at] + piece + data[at + len(piece) :]


def _cut(at: int) -> _Damage:
    return lambda data: data[:at]


def _swap(one: int, other: int) -> _Damage:
    def swapped(data: bytes) -> bytes:
        first, second = _block(one), _block(other)
        return _patched(_patched(data, first.start, data[second]), second.start, data[first])

    return swapped


def _double(at: int) -> _Damage:
    return lambda data: data[: _block(at).start] + data[_block(at)] + data[_block(at).start :]


def _lose(at: int) -> _Damage:
    return lambda data: data[: _block(at).start] + data[_block(at).stop :]


def _block(at: int) -> slice:
    return slice(at // 512 * 512, at // 512 * 512 + 512)
