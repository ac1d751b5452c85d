"""Where outputs go: in memory, on a disk, or on an ext4 of our own.

A file system that has been in use for long may take many times as long as a new one to find room for a file (one that
we met: ten times), and another time for each run. So ext4 is measured on a new one, in a file.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

EXT4 = "ext4:"
"""Before a directory: a new ext4 in a file there. Only for root."""
SIZE = "40G"
"""Of its file, which has holes."""


@contextmanager
def opened(names: Sequence[str]) -> Iterator[list[Path]]:
    """The directories that these name, made if need be; file systems of our own are gone afterwards."""
    with ExitStack() as stack:
        directories = []
        for name in names:
            directory = Path(name.removeprefix(EXT4))
            directory.mkdir(parents=True, exist_ok=True)
            directories.append(stack.enter_context(_new_ext4(directory)) if name.startswith(EXT4) else directory)
        yield directories


@contextmanager
def _new_ext4(directory: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=directory) as temporary:
        image, where = Path(temporary, "ext4"), Path(temporary, "mnt")
        where.mkdir()
        subprocess.run(["truncate", "-s", SIZE, image], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, where], check=True)
        try:
            yield where
        finally:
            subprocess.run(["umount", "-l", where], check=True)
