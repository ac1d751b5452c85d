"""The base class of the tools that make file system images; finding a program and its version.

What each version can do was found by running it and by reading its source; see ``docs/filesystems.md``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from streamerge.errors import SinkError
from streamerge.sinks.losses import Capabilities
from streamerge.sinks.mkfs.commands import Command, TreeSummary
from streamerge.sinks.mkfs.options import FilesystemOptions

__all__ = ["MkfsTool", "TreeReadingTool", "Version", "dotted", "find_program", "parse_version", "run_briefly"]

Version = tuple[int, ...]

_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
"""Directories that Debian leaves out of the $PATH of everybody but root."""
_SECONDS = 20


@dataclass(frozen=True)
class MkfsTool(ABC):
    """An installed program that makes an image from a tar on its standard input: its path and its version."""

    path: str
    version: Version

    name: ClassVar[str]
    package: ClassVar[str]
    """The package that holds the tool; its name is the same in Debian, Fedora and Alpine."""
    version_option: ClassVar[str]
    """The option that prints the version."""
    oldest_usable: ClassVar[Version]
    first_reading_tars: ClassVar[Version]
    """The first version that reads a tar from a pipe. Those before it must be a :class:`TreeReadingTool`."""
    needs_root: ClassVar[bool] = False
    """Whether the command line must hold the root directory's metadata: the tool ignores its entry in the tar."""
    needs_size: ClassVar[bool] = False
    """Whether the tree must be counted before the tool starts; each hard link then repeats its file's metadata."""

    @classmethod
    def is_called(cls, program: str) -> bool:
        """Whether ``program``, a name or a path, names this tool."""
        return os.path.basename(program) == cls.name

    @classmethod
    def at(cls, path: str) -> Self:
        """The tool at ``path``, which is run once for its version. Raises SinkError."""
        return cls(path, _version_of(path, cls.version_option))

    @property
    def version_text(self) -> str:
        """The version with dots."""
        return dotted(self.version)

    @property
    def is_usable(self) -> bool:
        """Whether the version is new enough."""
        return self.version >= self.oldest_usable

    @property
    def keeps_root(self) -> bool:
        """Whether the root directory can have its own owner and time."""
        return True

    @property
    def version_reads_tars(self) -> bool:
        """Whether this version can read tars; its build may still lack support, see :meth:`reads_tars`."""
        return self.version >= self.first_reading_tars

    def reads_tars(self) -> bool:
        """Whether the installed program reads a tar from a pipe. Cost: may run it once. Raises SinkError."""
        return self.version_reads_tars

    @abstractmethod
    def tar_capabilities(self, options: FilesystemOptions) -> Capabilities:
        """What an image made from a tar can store."""

    @abstractmethod
    def tar_command(self, image: str, options: FilesystemOptions, summary: TreeSummary) -> Command:
        """The command that makes ``image`` from the tar on its standard input. Raises SinkError for a wrong size."""


class TreeReadingTool(MkfsTool):
    """A tool that can also make an image from a directory, which its older versions need."""

    @abstractmethod
    def tree_capabilities(self, options: FilesystemOptions) -> Capabilities:
        """What an image made from a directory can store."""

    @abstractmethod
    def tree_commands(
        self, image: str, tree: str, options: FilesystemOptions, summary: TreeSummary, warn: Callable[[str], None]
    ) -> Iterable[Command]:
        """The commands that make ``image`` from the directory ``tree``, run in turn. Raises SinkError as above."""


def find_program(name: str) -> str | None:
    """The path of a program on $PATH or in the directories that only root has there; None if there is none."""
    return shutil.which(name) or shutil.which(name, path=_SYSTEM_PATH)


def parse_version(text: str) -> Version | None:
    """The version in a tool's output; None if it holds none.

    >>> parse_version("mke2fs 1.47.2 (1-Jan-2025)"), parse_version("mkfs.erofs (erofs-utils) 1.8.4")
    ((1, 47, 2), (1, 8, 4))
    """
    found = re.search(r"(?:^|[\s(v-])(\d+(?:\.\d+)+)", text, re.MULTILINE)
    return tuple(int(part) for part in found[1].split(".")) if found else None


def dotted(version: Version) -> str:
    """The version as people write it.

    >>> dotted((1, 47, 2))
    '1.47.2'
    """
    return ".".join(map(str, version))


def run_briefly(argv: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a command that ends at once, and capture its output. Raises SinkError if it cannot run or does not end."""
    try:
        return subprocess.run(argv, input=stdin, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise SinkError(f"'{' '.join(argv)}' did not end within {_SECONDS} seconds") from error
    except OSError as error:
        raise SinkError(f"cannot run {argv[0]}: {error.strerror}") from error


def _version_of(path: str, option: str) -> Version:
    """The version in the output, whatever the exit code: mkfs.erofs 1.5 fails at the option, but prints its version."""
    done = run_briefly([path, option])
    version = parse_version((done.stdout + b"\n" + done.stderr).decode(errors="replace"))
    if version is None:
        raise SinkError(f"no version found in the output of '{path} {option}'", setting="mkfs")
    return version
