"""mkfs.erofs of erofs-utils, which reads tars from version 1.7 on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from streamerge.sinks.losses import XATTRS_AND_ACLS, Capabilities
from streamerge.sinks.mkfs.commands import NO_EPOCH, Command, TreeSummary, epoch, reproducible_uuid
from streamerge.sinks.mkfs.options import FilesystemOptions
from streamerge.sinks.mkfs.tools import TreeReadingTool

__all__ = ["EROFS", "EROFS_TAR", "MkfsErofs"]

_FOREVER = 1 << 62
_LATEST_SECOND = (1 << 32) - 1

EROFS = Capabilities("erofs", XATTRS_AND_ACLS, fractions=True, earliest=-_FOREVER, latest=_FOREVER)
EROFS_TAR = replace(EROFS, sparse=False)


_OPENS_PIPES = (1, 8, 7)
"""The first version that opens a pipe at /dev/stdin. Older ones resolve the name, which fails ("No such file or
directory"; erofs-utils 1.7 to 1.8.6, mkfs/main.c), but read standard input if no source is given."""


class MkfsErofs(TreeReadingTool):
    """``mkfs.erofs --tar=f IMAGE [/dev/stdin]``, or ``mkfs.erofs IMAGE TREE``."""

    name = "mkfs.erofs"
    package = "erofs-utils"
    version_option = "-V"
    oldest_usable = (1, 3)
    first_reading_tars = (1, 7)

    def tar_capabilities(self, options: FilesystemOptions) -> Capabilities:
        """What an image made from a tar can store."""
        return self._limited(EROFS_TAR, options)

    def tar_command(self, image: str, options: FilesystemOptions, summary: TreeSummary) -> Command:
        """The command that makes ``image`` from the tar on its standard input."""
        source = "/dev/stdin" if self.version >= _OPENS_PIPES else None
        return self._command(["--tar=f"], image, source, options)

    def tree_capabilities(self, options: FilesystemOptions) -> Capabilities:
        """What an image made from a directory can store."""
        return self._limited(EROFS, options)

    def tree_commands(
        self, image: str, tree: str, options: FilesystemOptions, summary: TreeSummary, warn: Callable[[str], None]
    ) -> Iterator[Command]:
        """The one command that makes ``image`` from the directory ``tree``."""
        yield self._command([], image, tree, options)

    def _limited(self, capabilities: Capabilities, options: FilesystemOptions) -> Capabilities:
        """The capabilities without what this version cannot store.

        Versions before 1.6 leave out files named lost+found. Versions before 1.8.5 shorten a name of 255 bytes.
        Before 1.8, the only way to a fixed time of the file system turns file times before 1970 into late ones.
        """
        if self.version < (1, 8, 5):
            capabilities = replace(capabilities, name=f"{self.name} {self.version_text}", longest_name=254)
        if self.version < (1, 8) and options.time is not None:
            capabilities = replace(capabilities, earliest=0, latest=_LATEST_SECOND)
        return replace(capabilities, lost_and_found=self.version >= (1, 6))

    def _command(
        self, source_options: Sequence[str], image: str, source: str | None, options: FilesystemOptions
    ) -> Command:
        progress = options.console.progress
        fixed: Sequence[str] = ()
        environment = NO_EPOCH
        if options.time is not None:
            fixed, environment = self._fixed_time(options.time)
        quiet = [] if progress else ["-d0"] if self.version < (1, 5) else ["--quiet"]
        argv = [
            self.path,
            *source_options,
            *quiet,
            *fixed,
            *options.arguments,
            image,
            *([source] if source is not None else []),
        ]
        return Command(argv, environment, progress=progress)

    def _fixed_time(self, time: int) -> tuple[Sequence[str], Mapping[str, str | None]]:
        """Options and environment that set the file system's own time and leave the times of files alone.

        The inodes are extended ones: mkfs.erofs stores a file of the file system's own time in a compact inode, which
        has no fraction of a second.
        """
        fixed = ["-U", reproducible_uuid(time), "-Eforce-inode-extended"]
        if self.version >= (1, 8):
            return [*fixed, f"-T{time}", "--mkfs-time"], NO_EPOCH
        return fixed, epoch(_LATEST_SECOND)  # -T would set the times of all files, the variable only later ones
