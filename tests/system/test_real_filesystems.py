"""Images of real layers, in each way: mounted, they are what the kernel's overlayfs shows of the layers."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from streamerge.sinks.mkfs.registry import choose_tool
from tests.support import overlay
from tests.support.command import run
from tests.support.filesystems import HOLDS, Holds, as_held, checked, shown
from tests.support.layers import Kind
from tests.support.tree import Tree, differences, from_directory
from tests.system.test_real_images import BUILDERS, Image, built, example

NeedTool = Callable[[str], str]

pytestmark = [pytest.mark.overlayfs, pytest.mark.loop, pytest.mark.slow]


@pytest.fixture(scope="module", params=["example", *BUILDERS])
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Image:
    if request.param == "example":
        return example(tmp_path_factory.mktemp("example"))
    return built(request.param)


@pytest.fixture(scope="module")
def kernel(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """What overlayfs shows."""
    return overlay.merge_tars(image.plain, tmp_path_factory.mktemp("overlay"))


@pytest.fixture(autouse=True)
def tools(request: pytest.FixtureRequest, need_tool: NeedTool) -> None:
    """What builds the images and what makes file systems of them is there, before it is run."""
    for tool in BUILDERS.get(request.node.callspec.params["image"], ("", ["gzip", "zstd"]))[1]:
        need_tool(tool)
    for tool in ("tar2sqfs", "sqfstar", "mkfs.erofs", "mke2fs", "cpio"):
        need_tool(tool)


def holds(filesystem: str) -> Holds:
    tool = choose_tool(filesystem)
    name = tool.name if tool.name != "mke2fs" or tool.reads_tars() else "mke2fs, directory"
    return HOLDS[name]


@pytest.mark.parametrize("filesystem", ["squashfs", "erofs", "ext4"])
def test_an_image_is_what_the_kernel_shows(image: Image, kernel: Tree, tmp_path: Path, filesystem: str) -> None:
    """From compressed layers, as they come out of a registry."""
    made = tmp_path / f"image.{filesystem}"
    options = ["--exclude", "n" * 255] if filesystem == "erofs" else []  # too long for mkfs.erofs before 1.8.5
    if filesystem == "squashfs":
        fast = {"tar2sqfs": ["-X", "level=1"]}.get(choose_tool(filesystem).name, ["-Xcompression-level", "1"])
        options = ["--", *fast]
    run(*image.forms["gzip"], "-o", made, *options).assert_merged()
    kernel = {path: node for path, node in kernel.items() if filesystem != "erofs" or not path.endswith(b"n" * 255)}
    assert differences(as_held(kernel, holds(filesystem)), shown(made, tmp_path / "view")) == []
    checked(made)


def test_gnu_cpio_unpacks_what_the_kernel_shows(image: Image, kernel: Tree, tmp_path: Path) -> None:
    """All but times of directories, which its late links change, and of symlinks, and the root itself."""
    made, root = tmp_path / "image.cpio", tmp_path / "root"
    run(*image.forms["gzip"], "-o", made).assert_merged()
    root.mkdir()
    with open(made, "rb") as file:
        done = subprocess.run(["cpio", "-idm", "--quiet"], stdin=file, cwd=root, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    want = as_held(kernel, Holds(linked_symlinks=False))
    assert differences(timeless(want), timeless(from_directory(root))) == []


def timeless(tree: Tree) -> Tree:
    kinds = (Kind.DIR, Kind.SYMLINK)
    found = {path: replace(node, mtime_ns=0) if node.kind in kinds else node for path, node in tree.items()}
    found.pop(b"")
    return found
