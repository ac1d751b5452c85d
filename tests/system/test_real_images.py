"""Images as real builders make them: what we merge is what the kernel's overlayfs shows."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import overlay
from tests.support.command import argv, environment, run
from tests.support.odd import example_layers
from tests.support.tree import Tree, differences, from_directory, from_tar_file

NeedTool = Callable[[str], str]

pytestmark = [pytest.mark.overlayfs, pytest.mark.slow]

SCRIPTS = Path(__file__).parents[1] / "real"
BUILDERS = {
    "debian": ("build_debian.sh", ["buildah", "mmdebstrap", "skopeo", "setcap", "setfattr"]),
    "umoci": ("build_umoci.sh", ["umoci", "skopeo", "dpkg-deb", "setfattr"]),
}


@functools.cache
def cache() -> Path:
    """Where built images stay: $STREAMERGE_TEST_CACHE, or a directory of our own among temporary files."""
    named = os.environ.get("STREAMERGE_TEST_CACHE")
    path = Path(named) if named else Path(tempfile.gettempdir()) / f"streamerge-images-{os.geteuid()}"
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    return path


@dataclass(frozen=True)
class Image:
    """The layers of one image, in each form base first; ``plain`` is what the oracle reads."""

    plain: list[Path]
    forms: dict[str, list[Path]]


@pytest.fixture(scope="module", params=["example", *BUILDERS])
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Image:
    if request.param == "example":
        return example(tmp_path_factory.mktemp("example"))
    return built(request.param)


def example(directory: Path) -> Image:
    plain, zstd = [], []
    for layer in example_layers():
        plain.append(directory / layer.with_suffix("").name)
        plain[-1].write_bytes(subprocess.run(["gzip", "-dc", layer], capture_output=True, check=True).stdout)
        zstd.append(plain[-1].with_suffix(".tar.zst"))
        subprocess.run(["zstd", "-q", plain[-1], "-o", zstd[-1]], check=True)
    return Image(plain, {"gzip": example_layers(), "zstd": zstd})


def built(name: str) -> Image:
    """Build an image, unless the cache has it from the same scripts; then it takes no time."""
    script, _ = BUILDERS[name]
    done = subprocess.run([SCRIPTS / script, cache() / name], capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    layers = {form: sorted((cache() / name / form).iterdir()) for form in ("layers", "layers-gz", "layers-zst")}
    return Image(layers["layers"], {"gzip": layers["layers-gz"], "zstd": layers["layers-zst"]})


@pytest.fixture(autouse=True)
def tools(request: pytest.FixtureRequest, need_tool: NeedTool) -> None:
    """What the builders need is there, before they are run."""
    name = request.node.callspec.params.get("image") if hasattr(request.node, "callspec") else None
    for tool in BUILDERS.get(str(name), ("", ["gzip", "zstd"]))[1]:
        need_tool(tool)


@pytest.fixture(scope="module")
def merged(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    output = tmp_path_factory.mktemp("merged") / "merged.tar"
    run(*image.plain, "-o", output).assert_merged()
    yield output
    output.unlink()


@pytest.fixture(scope="module")
def kernel(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """What overlayfs shows."""
    return overlay.merge_tars(image.plain, tmp_path_factory.mktemp("overlay"))


def test_the_tar_is_what_the_kernel_shows(merged: Path, kernel: Tree) -> None:
    assert differences(from_tar_file(merged), kernel) == []


def test_what_gnu_tar_extracts_is_what_the_kernel_shows(
    merged: Path, kernel: Tree, tmp_path: Path, need_tool: NeedTool
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    options = (
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
        "--delay-directory-restore",
        "--warning=no-timestamp",
    )
    done = subprocess.run([need_tool("tar"), "-xpf", merged, *options, "-C", root], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert differences(from_directory(root), kernel) == []


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_compressed_layers_give_the_same_bytes(image: Image, merged: Path, tmp_path: Path, form: str) -> None:
    run(*image.forms[form], "-o", tmp_path / "out.tar").assert_merged()
    assert subprocess.run(["cmp", merged, tmp_path / "out.tar"], capture_output=True, text=True).stdout == ""


def test_a_pipe_gets_the_same_bytes_as_a_file(image: Image, merged: Path, tmp_path: Path) -> None:
    """Every layer through a pipe: nothing can be read twice, all that may be needed is spooled."""
    opened = " ".join(f"<(cat {layer})" for layer in image.plain)
    script = f'"$@" {opened} -q -o - | cmp - {merged}; exit "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", script, "bash", *argv()], capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_headers_read_first_change_nothing_that_shows(image: Image, kernel: Tree, tmp_path: Path) -> None:
    run(*image.plain, "--rescan", "-o", tmp_path / "out.tar").assert_merged()
    assert differences(from_tar_file(tmp_path / "out.tar"), kernel) == []
