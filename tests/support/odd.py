"""A stack with most of what makes merging hard, as mild as a file system must be to hold it."""

from __future__ import annotations

from pathlib import Path

from tests.support.layers import SECOND, Dialect, EntrySpec, Kind, Layer

__all__ = ["EXAMPLE_LAYERS", "example_layers", "odd_stack", "write_layers"]

EXAMPLE_LAYERS = Path(__file__).parents[1] / "data" / "layers"

LONG = b"long/" + b"/".join(letter * 120 for letter in (b"a", b"b", b"c", b"d"))
TIME = 1_700_000_000 * SECOND
QUARTER = SECOND // 4
"""A fraction of a second that a float holds."""


def example_layers() -> list[Path]:
    """The committed layers, base first."""
    return sorted(EXAMPLE_LAYERS.glob("*.tar.gz"))


def odd_stack(*, squashfs: bool = False) -> list[Layer]:
    """Four layers, base first; ``squashfs``: only what that file system can store (whole seconds from 1970)."""
    fraction, early = (0, 0) if squashfs else (QUARTER, -(2**31) * SECOND)
    return [_base(fraction, early), _middle(fraction), _links_only(fraction, early), _newest(fraction)]


def _base(fraction: int, early: int) -> Layer:
    return (
        Layer()
        .dir(b"", mode=0o711, uid=5, gid=6, mtime=TIME)
        .dir(b"bin", mtime=TIME + fraction)
        .file(b"bin/busybox", b"the data of all applets" * 100, mode=0o4755, mtime=TIME + fraction)
        .link(b"bin/cat", b"bin/busybox", mode=0o4755, mtime=TIME + fraction)
        .link(b"bin/ls", b"bin/busybox", mode=0o4755, mtime=TIME + fraction)
        .link(b"bin/sh", b"bin/busybox", mode=0o4755, mtime=TIME + fraction)
        .dir(b"etc", mtime=TIME)
        .file(b"etc/old", b"replaced", mtime=early)
        .file(b"etc/ancient", b"from long ago", mtime=early)
        .symlink(b"etc/absolute", b"/nowhere/at/all", mtime=TIME)
        .link(b"etc/symlink-again", b"etc/absolute", mtime=TIME)
        .dir(b"dev", mtime=TIME)
        .char(b"dev/null", 1, 3, mode=0o666, mtime=TIME)
        .block(b"dev/vda", 254, 70000, mode=0o660, gid=6, mtime=TIME)
        .fifo(b"dev/log", mode=0o600, mtime=TIME)
        .dir(b"gone", mtime=TIME)
        .file(b"gone/with", b"hidden", mtime=TIME)
        .dir(b"opaque", mode=0o1777, mtime=TIME)
        .file(b"opaque/hidden", b"hidden", mtime=TIME)
        .file(b"implicit/shown", b"its directory is never listed", mtime=TIME)
        .file(b"turns/into-a-link/below", b"sealed", mtime=TIME)
    )


def _middle(fraction: int) -> Layer:
    return (
        Layer()
        .file(b"late/first", b"a file before its directory", mtime=TIME)
        .dir(b"late", mode=0o2775, uid=7, gid=8, mtime=TIME)
        .whiteout(b"bin/busybox", form="link")
        .file(b"opaque/new", b"shown", mtime=TIME)
        .opaque(b"opaque")
        .file(b"etc/old", b"renewed", mtime=TIME + 3 * fraction)
        .whiteout(b"gone", form="char")
        .dir(b"turns", mtime=TIME)
        .symlink(b"turns/into-a-link", b"../etc", mtime=TIME)
        .dir(b"xattrs", mtime=TIME, xattrs={b"user.on-a-directory": b"1"})
        .file(b"xattrs/file", b"x", mtime=TIME, xattrs={b"user.binary": b"a\n12 b=\0c", b"user.empty": b""})
        .file(b"xattrs/capable", b"y", mode=0o755, mtime=TIME, xattrs={b"security.capability": CAPABILITY})
    )


CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
"""cap_net_raw=ep, as ping has it."""


def _links_only(fraction: int, early: int) -> Layer:
    """Links to files that only older layers have; they say what their targets say, since tarfile heeds it."""
    return (
        Layer()
        .link(b"bin/zcat", b"bin/cat", mode=0o4755, mtime=TIME + fraction)
        .dir(b"srv", mtime=TIME)
        .link(b"srv/ancient", b"etc/ancient", mtime=early)
    )


def _newest(fraction: int) -> Layer:
    names = [b"new\nline", b"sp ace", b"tab\there", b"Gr\xc3\xbc\xc3\x9fe", b"back\\slash", b"\xe2\x98\x83" * 80]
    layer = Layer().dir(b"names", mtime=TIME)
    for number, name in enumerate(names):
        layer = layer.file(b"names/" + name, b"%d" % number, mtime=TIME + fraction)
    for depth in range(1, 5):
        layer = layer.dir(b"/".join(LONG.split(b"/")[:depth]), mtime=TIME)
    return (
        layer.file(LONG, b"a path of 488 bytes", uid=4294967294 - 1, gid=3_000_000_000, mtime=TIME)
        .symlink(b"names/long-target", LONG, mtime=TIME)
        .whiteout(b"etc/nothing")
        .entry(EntrySpec(Kind.FILE, b"names/contiguous", data=b"7", typeflag=b"7", mtime=TIME))
        .dir(b"bin", mode=0o555, mtime=TIME + 2 * fraction)
    )


def write_layers(layers: list[Layer], directory: Path, dialect: Dialect = Dialect.PAX) -> list[Path]:
    """Write ``00.tar`` and so on; returns the paths, base first."""
    paths = [directory / f"{number:02}.tar" for number in range(len(layers))]
    for path, layer in zip(paths, layers, strict=True):
        path.write_bytes(layer.tar(dialect))
    return paths
