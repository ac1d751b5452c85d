"""The contents of synthetic images: the entries of each layer, with the sizes of their bodies."""

from __future__ import annotations

import random
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a layer; of its body, only the size is given."""

    path: str
    type: bytes = tarfile.REGTYPE
    size: int = 0
    target: str = ""


class Stack:
    """The layers so far, and the names that are visible in them. Directories are added when a layer is written."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.layers: list[list[Item]] = []
        self._names: list[str] = []

    def new_layer(self) -> None:
        """Start a new layer on top."""
        self.layers.append([])

    def add(self, *items: Item) -> None:
        """Add items whose names no layer has yet."""
        self.layers[-1].extend(items)
        self._names.extend(item.path for item in items)

    def shadow(self, replaced: int, deleted: int, size: Callable[[], int]) -> None:
        """Replace or white out names of older layers. Call it at most once a layer, before ``add``."""
        picked = self.rng.sample(range(len(self._names)), min(replaced + deleted, len(self._names)))
        rewritten, gone = picked[:replaced], picked[replaced:]
        self.layers[-1].extend(Item(self._names[i], size=size()) for i in rewritten)
        self.layers[-1].extend(Item(_whiteout(self._names[i])) for i in gone)
        dead = set(gone)
        self._names = [name for i, name in enumerate(self._names) if i not in dead]

    def make_opaque(self, count: int) -> None:
        """Hide the older contents of some directories. Call it at most once a layer, after ``shadow``."""
        ours = {item.path for item in self.layers[-1]}
        parents = sorted({parent_of(name) for name in self._names})
        opaque = set(self.rng.sample(parents, min(count, len(parents))))
        self.layers[-1].extend(Item(f"{parent}/.wh..wh..opq") for parent in sorted(opaque))
        self._names = [name for name in self._names if name in ours or parent_of(name) not in opaque]


def parent_of(path: str) -> str:
    """The parent directory of a path; empty for a path without a slash."""
    return path.rpartition("/")[0]


def _whiteout(path: str) -> str:
    parent, _, name = path.rpartition("/")
    return f"{parent}/.wh.{name}"


def small(rng: random.Random, scale: float) -> Stack:
    """100,000 files of 700 bytes in 4 layers, 20 % of them hidden: most of the time goes into headers."""
    stack = Stack(rng)
    count = max(4, round(25_000 * scale))
    shadowed = round(count * 4 * 0.2 / 3)
    for layer in range(4):
        stack.new_layer()
        if layer:
            stack.shadow(shadowed * 9 // 10, shadowed // 10, lambda: 700)
        for number in range(shadowed * 9 // 10 if layer else 0, count):
            stack.add(Item(f"srv/layer{layer}/d{number // 100:03}/f{number:05}", size=700))
    return stack


def big(rng: random.Random, scale: float) -> Stack:
    """2 GiB in about 200 files of 1 to 64 MiB in 4 layers, a quarter of them hidden: most of the time goes into bytes.

    The scale changes the sizes of the files, not their number.
    """
    stack = Stack(rng)
    sizes = _big_sizes(rng, 2048 * MIB)
    quarter = len(sizes) // 4
    hidden = quarter // 5  # the opaque directory hides nearly as many
    for layer in range(4):
        stack.new_layer()
        remaining = iter([round(size * scale) for size in sizes[layer * quarter :][:quarter]])
        if layer:
            stack.shadow(hidden, 1, remaining.__next__)
            stack.make_opaque(1)
        for number, size in enumerate(remaining):
            stack.add(Item(f"opt/models/layer{layer}/{number // 8}/weights-{number:03}.bin", size=size))
    return stack


def _big_sizes(rng: random.Random, total: int) -> list[int]:
    sizes: list[int] = []
    while sum(sizes) < total:
        sizes.append(round(MIB * 64 ** (rng.random() ** 2)))
    return sizes


def mixed(rng: random.Random, scale: float) -> Stack:
    """60,000 paths of all types in 8 layers, most of them in the oldest, with the sizes of a Linux distribution."""
    stack = Stack(rng)
    namer = _Namer(rng, max(4, round(3_000 * scale)))
    for layer, share in enumerate((0.45, 0.2, 0.1, 0.08, 0.06, 0.05, 0.04, 0.02)):
        stack.new_layer()
        count = max(8, round(55_000 * scale * share))
        if layer:
            stack.shadow(count * 12 // 100, count * 5 // 100, lambda: _package_size(rng))
            stack.make_opaque(1 + count // 2_000)
        for _ in range(count * 83 // 100 if layer else count):
            stack.add(*_package_items(rng, namer.new_path()))
    return stack


def many(rng: random.Random, scale: float) -> Stack:
    """200,000 entries in 10 layers, 2 GiB: a distribution with node_modules; most files have a few KiB.

    Half of the files are smaller than 2.6 KiB; the largest have 5 MiB. Each layer has its own directories, and
    replaces or deletes some files of older layers.
    """
    stack = Stack(rng)
    shares = (0.3, 0.2, 0.15, 0.1, 0.08, 0.06, 0.04, 0.03, 0.02, 0.02)
    for layer, share in enumerate(shares):
        stack.new_layer()
        count = max(8, round(170_000 * scale * share))
        if layer:
            stack.shadow(count * 10 // 100, count * 5 // 100, lambda: _module_size(rng))
            stack.make_opaque(1 + count // 1_000)
        namer = _Namer(rng, max(4, count // 15), [f"usr/lib/layer{layer}", f"srv/app{layer}/node_modules"])
        for _ in range(count * 85 // 100 if layer else count):
            stack.add(*_package_items(rng, namer.new_path(), _module_size))
    return stack


def _module_size(rng: random.Random) -> int:
    return min(round(rng.lognormvariate(7.86, 1.8)), 32 * MIB)


def _package_size(rng: random.Random) -> int:
    return min(round(rng.lognormvariate(8.0, 2.0)), 64 * MIB)


def _package_items(rng: random.Random, path: str, size: Callable[[random.Random], int] = _package_size) -> list[Item]:
    kind = rng.random()
    if kind < 0.10:
        return [Item(path, tarfile.SYMTYPE, target=path.rpartition("/")[2] + ".1")]
    file = Item(path, size=size(rng))
    if kind < 0.12:
        return [file, Item(path + "-link", tarfile.LNKTYPE, target=path)]
    return [file]


class _Namer:
    """New paths in a tree up to six directories deep. Of 100 names, one is long and one is not ASCII."""

    def __init__(
        self, rng: random.Random, directories: int, roots: Sequence[str] = ("usr", "etc", "var", "opt")
    ) -> None:
        self.rng = rng
        self.number = 0
        self.directories = list(roots)
        while len(self.directories) < directories:
            parent = rng.choice(self.directories)
            if parent.count("/") < 5:
                self.directories.append(f"{parent}/{self._word()}{len(self.directories)}")

    def new_path(self) -> str:
        self.number += 1
        return f"{self.rng.choice(self.directories)}/{self._prefix()}{self._word()}{self.number}"

    def _prefix(self) -> str:
        dice = self.rng.random()
        if dice < 0.01:
            return "long-" * 14
        return "größe-" if dice < 0.02 else ""

    def _word(self) -> str:
        return "".join(self.rng.choices(("ba", "con", "di", "lib", "man", "net", "py", "so", "x"), k=2))


def tiny(rng: random.Random, scale: float) -> Stack:
    """Three layers with a few files, at any scale: nearly all of the time is start-up."""
    stack = Stack(rng)
    for layer in range(3):
        stack.new_layer()
        if layer:
            stack.shadow(2, 1, lambda: 100)
        stack.add(*(Item(f"srv/layer{layer}/f{number}", size=700) for number in range(5)))
    return stack


PROFILES: dict[str, Callable[[random.Random, float], Stack]] = {
    "small": small,
    "big": big,
    "mixed": mixed,
    "many": many,
    "tiny": tiny,
}
