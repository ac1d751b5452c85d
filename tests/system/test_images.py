"""Images as input, as a user gives them: made by the tools that make them, through every transport."""

from __future__ import annotations

import functools
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard

from tests.support.command import argv, environment, run
from tests.support.images import Image, blob_path, digest_of, oci_layout, saved, saved_25, skopeo_dir
from tests.support.layers import Layer
from tests.support.needs import missing
from tests.support.odd import example_layers

BASE = Layer().dir(b"etc").file(b"etc/a", b"a" * 3000).file(b"etc/gone", b"g" * 100_000)
TOP = Layer().dir(b"etc").file(b"etc/a", b"A").whiteout(b"etc/gone").link(b"etc/l", b"etc/a")
RUNTIME = {"Entrypoint": ["/bin/app"], "Env": ["PATH=/bin"], "User": "5:6", "Healthcheck": {"Interval": 5}}
IMAGE = Image().layer(BASE).layer(TOP).named("v1").running(**RUNTIME)


def bare(directory: Path, tars: Sequence[bytes]) -> bytes:
    """What merging the layers by themselves gives."""
    paths = [directory / f"bare-{number}.tar" for number in range(len(tars))]
    for path, tar in zip(paths, tars, strict=True):
        path.write_bytes(tar)
    run(*paths, "-o", directory / "bare.tar", "-q").assert_merged()
    return (directory / "bare.tar").read_bytes()


def output_of(directory: Path, *arguments: str | Path) -> bytes:
    output = directory / "image.tar"
    run(*arguments, "-o", output, "-q").assert_merged()
    return output.read_bytes()


# --- made by tools ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Workshop:
    """The tools, with a store and a policy of their own: nothing of this machine's is touched."""

    directory: Path

    def __call__(self, *command: str | Path) -> str:
        tool = str(command[0])
        if shutil.which(tool) is None:
            missing(tool, f"{tool} is not installed")
        policy = {"skopeo": ["--policy", str(self.policy)], "podman": [], "buildah": []}.get(tool, [])
        words = [tool, *policy, *map(str, command[1:])]
        done = subprocess.run(words, capture_output=True, text=True, env=self._environment(), timeout=300)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout.strip()

    @property
    def policy(self) -> Path:
        return self.directory / "policy.json"

    def _environment(self) -> dict[str, str]:
        own = {
            "CONTAINERS_STORAGE_CONF": str(self.directory / "storage.conf"),
            "STORAGE_DRIVER": "vfs",
            "BUILDAH_ISOLATION": "chroot",
            "XDG_RUNTIME_DIR": str(self.directory / "run"),
        }
        return {**os.environ, **own}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    directory = tmp_path_factory.mktemp("workshop")
    (directory / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    (directory / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\nrunroot = "{directory}/run"\ngraphroot = "{directory}/store"\n'
    )
    yield Workshop(directory)
    shutil.rmtree(directory / "store", ignore_errors=True)


def skopeo_version() -> tuple[int, ...]:
    said = subprocess.run(["skopeo", "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in re.findall(r"[0-9]+", said)[:2])


@functools.cache
def example_tars() -> tuple[bytes, ...]:
    return tuple(gzip.decompress(path.read_bytes()) for path in example_layers())


@pytest.fixture(scope="module")
def example(workshop: Workshop) -> Path:
    """The real example layers as an OCI layout."""
    image = Image()
    for tar in example_tars():
        image = image.layer(tar, "gzip")
    return oci_layout(image.named("latest")).write(workshop.directory / "example")


@pytest.fixture(scope="module")
def expected(workshop: Workshop) -> bytes:
    return bare(workshop.directory, example_tars())


@pytest.mark.root
class TestSkopeo:
    @pytest.mark.parametrize("compression", ["gzip", "zstd"])
    @pytest.mark.parametrize("transport", ["oci", "oci-archive", "docker-archive", "dir"])
    def test_every_transport_gives_the_same_bytes(
        self, transport: str, compression: str, workshop: Workshop, example: Path, expected: bytes, tmp_path: Path
    ) -> None:
        source = f"oci:{example}:latest"
        if compression == "zstd":  # skopeo compresses anew only what is not compressed
            workshop("skopeo", "copy", source, f"docker-archive:{tmp_path}/plain.tar:app:v1")
            source = f"docker-archive:{tmp_path}/plain.tar"
        name = {"oci": ":v1", "oci-archive": ":v1", "docker-archive": ":localhost/app:v1", "dir": ""}[transport]
        target = f"{transport}:{tmp_path}/image{name}"
        if (transport, compression) == ("docker-archive", "zstd") and skopeo_version() >= (1, 18):
            pytest.skip("skopeo puts no zstd into a docker-archive from 1.18 on")
        workshop("skopeo", "copy", "--dest-compress-format", compression, source, target)
        assert output_of(tmp_path, target) == expected
        assert output_of(tmp_path, tmp_path / "image") == expected
        assert f'"{transport}:' in run("inspect", tmp_path / "image", "--json").assert_merged().out.decode()

    def test_a_dir_of_plain_layers(self, workshop: Workshop, example: Path, expected: bytes, tmp_path: Path) -> None:
        workshop("skopeo", "copy", "--dest-decompress", f"oci:{example}:latest", f"dir:{tmp_path}/image")
        assert output_of(tmp_path, f"dir:{tmp_path}/image") == expected

    def test_docker_media_types(self, workshop: Workshop, example: Path, expected: bytes, tmp_path: Path) -> None:
        workshop("skopeo", "copy", "--format", "v2s2", f"oci:{example}:latest", f"dir:{tmp_path}/image")
        assert b"vnd.docker.image.rootfs.diff.tar.gzip" in (tmp_path / "image" / "manifest.json").read_bytes()
        assert output_of(tmp_path, f"dir:{tmp_path}/image") == expected

    def test_the_config_is_what_skopeo_says(self, workshop: Workshop, tmp_path: Path) -> None:
        oci_layout(IMAGE).write(tmp_path / "image")
        theirs = json.loads(workshop("skopeo", "inspect", "--config", f"oci:{tmp_path}/image:v1"))["config"]
        ours = json.loads(run("config", f"oci:{tmp_path}/image:v1").assert_merged().out)
        assert {key: ours[key] for key in theirs} == theirs


@pytest.mark.root
@pytest.mark.slow
class TestBuildah:
    def test_every_transport_gives_the_same_bytes(self, workshop: Workshop, tmp_path: Path) -> None:
        container = workshop("buildah", "from", "--signature-policy", workshop.policy, "scratch")
        (tmp_path / "file").write_text("hello")
        workshop("buildah", "config", "--entrypoint", '["/hello"]', "--env", "A=b", container)
        for name in ("/one", "/two"):
            workshop("buildah", "copy", container, tmp_path / "file", name)
            workshop("buildah", "commit", "--signature-policy", workshop.policy, container, "localhost/built:v1")
            workshop("buildah", "rm", container)
            if name == "/one":
                container = workshop(
                    "buildah", "from", "--signature-policy", workshop.policy, "--pull-never", "localhost/built:v1"
                )
        results = set()
        for number, target in enumerate(("oci:{}:v1", "oci-archive:{}:v1", "docker-archive:{}:built:v1", "dir:{}")):
            reference = target.format(tmp_path / str(number))
            workshop("buildah", "push", "--signature-policy", workshop.policy, "localhost/built:v1", reference)
            results.add(output_of(tmp_path, reference))
            config = json.loads(run("config", reference).assert_merged().out)
            assert config["Entrypoint"] == ["/hello"]
        assert len(results) == 1
        assert results == {bare(tmp_path, layer_tars(tmp_path / "0"))}


@pytest.mark.root
@pytest.mark.slow
class TestPodman:
    def test_every_format_gives_the_same_bytes(
        self, workshop: Workshop, example: Path, expected: bytes, tmp_path: Path
    ) -> None:
        loaded = f"docker-archive:{tmp_path}/in.tar:localhost/example:v1"
        workshop("skopeo", "copy", f"oci:{example}:latest", loaded)
        workshop("podman", "load", "--signature-policy", workshop.policy, "-i", tmp_path / "in.tar")
        for form in ("oci-archive", "docker-archive", "oci-dir", "docker-dir"):
            path = tmp_path / form
            workshop("podman", "save", "--format", form, "-o", path, "localhost/example:v1")
            transport = {"oci-dir": "oci", "docker-dir": "dir"}.get(form, form)
            assert output_of(tmp_path, f"{transport}:{path}") == expected
            assert output_of(tmp_path, path) == expected


@pytest.mark.root
class TestUmoci:
    def test_a_layout(self, workshop: Workshop, tmp_path: Path) -> None:
        layout = tmp_path / "image"
        (tmp_path / "tree" / "etc").mkdir(parents=True)
        (tmp_path / "tree" / "etc" / "a").write_text("a")
        workshop("umoci", "init", "--layout", layout)
        workshop("umoci", "new", "--image", f"{layout}:v1")
        workshop("umoci", "insert", "--image", f"{layout}:v1", tmp_path / "tree", "/opt")
        workshop("umoci", "insert", "--image", f"{layout}:v1", "--whiteout", "/opt/etc")
        workshop("umoci", "config", "--image", f"{layout}:v1", "--config.cmd", "sh")
        assert output_of(tmp_path, f"oci:{layout}:v1") == bare(tmp_path, layer_tars(layout))
        assert json.loads(run("config", f"oci:{layout}").assert_merged().out)["Cmd"] == ["sh"]


def layer_tars(layout: Path) -> list[bytes]:
    """The layers of a layout's only image, found without streamerge."""
    index = json.loads((layout / "index.json").read_bytes())
    manifest = json.loads((layout / blob_path(index["manifests"][0]["digest"])).read_bytes())
    blobs = [(layout / blob_path(layer["digest"])).read_bytes() for layer in manifest["layers"]]
    return [gzip.decompress(blob) for blob in blobs]


# --- the command line -------------------------------------------------------------------------------


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return oci_layout(IMAGE).write(tmp_path / "layout")


class TestCommandLine:
    @pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
    @pytest.mark.parametrize("shape", [saved, saved_25])
    def test_docker_save_on_a_pipe(self, shape: object, compress: object, tmp_path: Path) -> None:
        assert callable(shape)
        assert callable(compress)
        command = argv("docker-archive:-", "-o", tmp_path / "out", "-q")
        subprocess.run(command, input=compress(shape(IMAGE).tar()), env=environment(), check=True)
        assert (tmp_path / "out").read_bytes() == bare(tmp_path, IMAGE.tars)

    def test_standard_input_that_is_a_file_is_read_in_place(self, tmp_path: Path) -> None:
        (tmp_path / "image.tar").write_bytes(oci_layout(IMAGE).tar())
        command = argv("oci-archive:-:v1", "-o", tmp_path / "out", "-q")
        with open(tmp_path / "image.tar", "rb") as file:
            subprocess.run(command, stdin=file, env={**environment(), "TMPDIR": "/nowhere"}, check=True)
        assert (tmp_path / "out").read_bytes() == bare(tmp_path, IMAGE.tars)

    def test_verbose_says_what_a_bare_path_is(self, layout: Path, tmp_path: Path) -> None:
        done = run(layout, "-v", "-o", tmp_path / "out").assert_merged()
        first, second, *_ = done.err.splitlines()
        assert first == f"streamerge: '{layout}' is an OCI image layout: oci:{layout}"
        assert second == f"streamerge: the image is v1, linux/amd64, {digest_of(IMAGE.manifest)}, 2 layers"

    def test_a_reference_is_not_explained(self, layout: Path, tmp_path: Path) -> None:
        done = run(f"oci:{layout}", "-v", "-o", tmp_path / "out").assert_merged()
        assert done.err.startswith("streamerge: the image is v1")

    def test_an_image_among_several_arguments(self, layout: Path, tmp_path: Path) -> None:
        (tmp_path / "a.tar").write_bytes(BASE.tar())
        for arguments in ((tmp_path / "a.tar", f"oci:{layout}"), (f"oci:{layout}", f"oci:{layout}")):
            run(*arguments, "-o", tmp_path / "out").assert_usage_error(
                "is an image and cannot be merged with others", "./oci:"
            )
        run("docker://alpine", "-o", tmp_path / "out").assert_usage_error("skopeo copy docker://alpine oci:DIR")

    def test_files_named_as_references_and_subcommands(self, tmp_path: Path) -> None:
        for name in ("oci:x", "inspect", "config"):
            (tmp_path / name).write_bytes(BASE.tar())
            command = argv(f"./{name}", "-o", "out", "-q")
            subprocess.run(command, cwd=tmp_path, env=environment(), check=True)
            assert (tmp_path / "out").read_bytes() == bare(tmp_path, [BASE.tar()])

    def test_several_bare_archives_are_layers(self, tmp_path: Path) -> None:
        """As before images were known: a rootfs of two archives' files."""
        for name in ("a", "b"):
            (tmp_path / name).write_bytes(saved(IMAGE).tar())
        assert b"manifest.json" in output_of(tmp_path, tmp_path / "a", tmp_path / "b")

    def test_a_wrong_digest_leaves_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_bytes(b"before")
        wrong = Image().layer(BASE, diff_id=digest_of(b"")).layer(TOP)
        path = oci_layout(wrong).write(tmp_path / "image")
        done = run(f"oci:{path}", "-o", tmp_path / "out", "--config-out", tmp_path / "config.json")
        done.assert_failed("layer 0 (sha256:", "diff_id", "does not match its digest")
        assert (tmp_path / "out").read_bytes() == b"before"
        assert sorted(os.listdir(tmp_path)) == ["image", "out"]
        run(f"oci:{path}", "-o", tmp_path / "out", "--no-verify").assert_merged()

    def test_a_missing_blob_is_told_before_anything_is_written(self, tmp_path: Path) -> None:
        path = oci_layout(IMAGE).without(blob_path(digest_of(IMAGE.layers[0].data))).write(tmp_path / "image")
        run(path, "-o", "-").assert_failed("layer 0", "is missing from")

    def test_the_output_may_not_be_the_archive(self, tmp_path: Path) -> None:
        path = tmp_path / "image.tar"
        path.write_bytes(saved(IMAGE).tar())
        run(f"docker-archive:{path}", "-o", path).assert_usage_error("both the output and")

    def test_platform(self, tmp_path: Path) -> None:
        images = [IMAGE, Image().layer(TOP).built_for("linux", "riscv64").named("v1")]
        path = oci_layout(*images, platform=True).write(tmp_path / "image")
        output = output_of(tmp_path, f"oci:{path}:v1", "--platform", "linux/riscv64")
        assert output == bare(tmp_path, images[1].tars)
        run(path, "-o", tmp_path / "out", "--platform", "linux/mips").assert_failed("holds 2 images; name one: ")
        run(path, "-o", tmp_path / "out", "--platform", "a/b/c/d").assert_failed("is not a platform")
        (tmp_path / "a.tar").write_bytes(BASE.tar())
        run(tmp_path / "a.tar", "-o", tmp_path / "out", "--platform", "x/y").assert_usage_error("--platform")


class TestConfig:
    def test_out(self, layout: Path, tmp_path: Path) -> None:
        run(layout, "-o", tmp_path / "out", "--config-out", tmp_path / "config.json").assert_merged()
        assert json.loads((tmp_path / "config.json").read_bytes()) == RUNTIME

    def test_out_to_standard_output(self, layout: Path, tmp_path: Path) -> None:
        done = run(layout, "-o", tmp_path / "out", "--config-out", "-").assert_merged()
        assert json.loads(done.out) == RUNTIME

    @pytest.mark.parametrize("output", ["-", "same"])
    def test_out_is_not_the_output(self, output: str, layout: Path, tmp_path: Path) -> None:
        path = output if output == "-" else tmp_path / output
        run(layout, "-o", path, "--config-out", path).assert_usage_error("both the output and the config")

    def test_out_that_cannot_be_written_leaves_nothing(self, layout: Path, tmp_path: Path) -> None:
        done = run(layout, "-o", tmp_path / "out", "--config-out", tmp_path / "no" / "config.json")
        done.assert_failed("cannot create")
        assert os.listdir(tmp_path) == ["layout"]

    def test_layers_have_none(self, tmp_path: Path) -> None:
        (tmp_path / "a.tar").write_bytes(BASE.tar())
        done = run(tmp_path / "a.tar", "-o", tmp_path / "out", "--config-out", tmp_path / "c")
        done.assert_usage_error("--config-out")

    @pytest.mark.parametrize("which", ["", ":v1", f"@{digest_of(IMAGE.manifest)}"])
    def test_command(self, which: str, layout: Path) -> None:
        done = run("config", f"oci:{layout}{which}").assert_merged()
        assert json.loads(done.out) == RUNTIME
        assert done.out.endswith(b"}\n")
        assert done.err == ""


class TestInspect:
    def test_for_people(self, layout: Path) -> None:
        done = run("inspect", layout).assert_merged()
        text = done.out.decode()
        for line in (f"reference    oci:{layout}", "names        v1", "platform     linux/amd64", "user         5:6"):
            assert f"{line}\n" in text
        for blob in IMAGE.layers:
            assert digest_of(blob.data) in text
        assert "application/vnd.oci.image.layer.v1.tar+gzip" in text
        assert "step 1" in text

    def test_for_machines(self, layout: Path) -> None:
        found = json.loads(run("inspect", layout, "--json").assert_merged().out)
        assert found["reference"] == f"oci:{layout}"
        assert found["digest"] == digest_of(IMAGE.manifest)
        assert found["config"] == RUNTIME
        assert [layer["digest"] for layer in found["layers"]] == [digest_of(blob.data) for blob in IMAGE.layers]
        assert [layer["diffId"] for layer in found["layers"]] == [digest_of(tar) for tar in IMAGE.tars]
        assert [layer["size"] for layer in found["layers"]] == [len(blob.data) for blob in IMAGE.layers]

    @pytest.mark.parametrize("shape", [saved, saved_25, skopeo_dir])
    def test_every_shape(self, shape: object, tmp_path: Path) -> None:
        assert callable(shape)
        place = shape(IMAGE)
        path = tmp_path / "image"
        if shape is skopeo_dir:
            place.write(path)
        else:
            path.write_bytes(place.tar())
        found = json.loads(run("inspect", path, "--json").assert_merged().out)
        assert [layer["diffId"] for layer in found["layers"]] == [digest_of(tar) for tar in IMAGE.tars]
        run("inspect", path).assert_merged()

    def test_what_an_image_says_does_not_reach_the_terminal_raw(self, tmp_path: Path) -> None:
        evil = "\x1b[2J\nevil"
        image = IMAGE.running(Env=[evil], Labels={evil: evil}, Entrypoint=[evil], User=evil)
        image = image.config_says(history=[{"created_by": evil}, {"created_by": "x" * 5000}], author=evil)
        text = run("inspect", oci_layout(image).write(tmp_path / "image")).assert_merged().out.decode()
        assert "\x1b" not in text
        assert all(len(line) < 250 for line in text.splitlines())

    def test_a_layer_is_no_image(self, tmp_path: Path) -> None:
        (tmp_path / "a.tar").write_bytes(BASE.tar())
        for command in ("inspect", "config"):
            run(command, tmp_path / "a.tar").assert_failed("is not an image")
            run(command).assert_usage_error("Missing argument")

    @pytest.mark.parametrize("command", ["inspect", "config"])
    def test_help_teaches(self, command: str) -> None:
        text = run(command, "--help").assert_merged().out.decode()
        assert text.startswith(f"Usage: streamerge {command} [OPTIONS] IMAGE")
        assert "docker-archive:FILE" in text


@pytest.mark.slow
def test_the_peak_of_memory_is_no_images_size(tmp_path: Path) -> None:
    """A compressed archive of 200 MB goes through the spool, the hasher and the merge in small pieces."""
    big = Layer().file(b"big", os.urandom(1 << 20) * 200).tar()
    path = tmp_path / "image.tar.gz"
    path.write_bytes(gzip.compress(saved(Image().layer(big, "")).tar(), 1))
    del big
    program = (
        "import sys\nfrom streamerge import merge, open_image, open_tar\n"
        "merge(open_image(sys.argv[1]).layers, open_tar('/dev/null'))\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
    )
    done = subprocess.run([sys.executable, "-c", program, path], env=environment(), stdout=subprocess.PIPE, check=True)
    assert int(done.stdout) < 96 << 10
