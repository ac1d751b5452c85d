"""Working directories for outputs: in memory, on a disk, or on a new ext4 in a file.

A file system that has been in use for long may need many times as long as a new one to allocate a file (ten times, in
one case that we met), and a different time in each run. So ext4 is measured on a new file system.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

EXT4 = "ext4:"
"""A directory with this prefix stands for a new ext4 in a file in it. Needs root."""
SIZE = "40G"
"""The size of that file, which is sparse."""


@contextmanager
def opened(names: Sequence[str]) -> Iterator[list[Path]]:
    """The directories with these names, created if necessary; new file systems are removed afterwards."""
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
