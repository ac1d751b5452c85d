"""Images made by hand, whole and broken: what is opened, what is refused, and what an error says."""

from __future__ import annotations

import gzip
import json
import os
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamerge import (
    BlobLayer,
    DigestMismatch,
    FormatError,
    ImageError,
    ImageOptions,
    LayerError,
    Options,
    SinkError,
    StreamergeError,
    TarSink,
    UnsafePathError,
    UnsupportedMediaType,
    merge,
    open_image,
)
from streamerge import Image as Opened
from streamerge.interfaces import Stream
from streamerge.sources.blob import Blob
from tests.support.images import (
    LAYER,
    MANIFEST,
    OCI_INDEX,
    Image,
    Place,
    blob_path,
    descriptor,
    digest_of,
    index_of,
    oci_layout,
    saved,
    saved_25,
    skopeo_dir,
)
from tests.support.layers import Layer
from tests.support.merged import BytesOutput, merge_tars

BASE = Layer().dir(b"etc").file(b"etc/a", b"a" * 3000).file(b"etc/b", b"b").file(b"etc/gone", b"g" * 100_000)
TOP = Layer().dir(b"etc").file(b"etc/a", b"A").whiteout(b"etc/gone").link(b"etc/l", b"etc/b")
EMPTY = bytes(1024)

PLAIN = Image().layer(BASE, "").layer(TOP, "").built_for("linux", "amd64")
GZIP = Image().layer(BASE, "gzip").layer(TOP, "gzip")
HERE = "linux/amd64"

Shape = Callable[[Image], Place]
SHAPES: dict[str, Shape] = {"oci": oci_layout, "saved": saved, "saved_25": saved_25, "dir": skopeo_dir}


def merged(image: Opened, options: Options | None = None) -> bytes:
    output = BytesOutput()
    merge(image.layers, TarSink(output), options)
    assert output.data is not None
    return output.data


def merge_fails(image: Opened, error: type[StreamergeError], match: str) -> StreamergeError:
    """The merge fails, and its output never appears."""
    output = BytesOutput()
    with pytest.raises(error, match=match) as caught:
        merge(image.layers, TarSink(output))
    assert output.data is None
    assert output.discarded
    return caught.value


def opened(place: Place, directory: Path, which: str = "", transport: str = "oci", **options: object) -> Opened:
    path = place.write(directory / "image")
    return open_image(f"{transport}:{path}{which}", ImageOptions(**options))  # type: ignore[arg-type]  # as tests ask


def packed(place: Place, directory: Path, which: str = "", transport: str = "oci-archive") -> Opened:
    path = directory / "image.tar"
    path.write_bytes(place.tar())
    return open_image(f"{transport}:{path}{which}")


def in_shape(shape: str, image: Image, directory: Path) -> Opened:
    place = SHAPES[shape](image)
    if shape in ("oci", "dir"):
        return opened(place, directory, transport=shape)
    return packed(place, directory, transport="docker-archive")


class TestShapes:
    @pytest.mark.parametrize("packing", ["", "gzip", "zstd", "lz4", "xz", "bzip2"])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_every_shape_and_packing_merges_as_the_layers_do(self, shape: str, packing: str, tmp_path: Path) -> None:
        image = Image().layer(BASE, packing).layer(TOP, packing)
        assert merged(in_shape(shape, image, tmp_path)) == merge_tars(image.tars)

    @pytest.mark.parametrize("compress", [bytes, gzip.compress])
    @pytest.mark.parametrize("shape", ["oci", "saved", "saved_25"])
    def test_bare_archives_are_recognised(self, shape: str, compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
        path = tmp_path / "image"
        path.write_bytes(compress(SHAPES[shape](GZIP).tar()))
        image = open_image(str(path))
        assert image.reference == f"{'docker' if shape == 'saved' else 'oci'}-archive:{path}"
        assert merged(image) == merge_tars(GZIP.tars)

    @pytest.mark.parametrize("shape", ["oci", "dir"])
    def test_bare_directories_are_recognised(self, shape: str, tmp_path: Path) -> None:
        path = SHAPES[shape](GZIP).write(tmp_path / "image:odd")
        image = open_image(str(path))
        assert image.reference == f"{shape}:{path}"
        assert merged(image) == merge_tars(GZIP.tars)

    @pytest.mark.parametrize(
        "layer",
        [
            BASE,
            Layer().file(b"manifest.json", b"[]").dir(b"etc"),
            Layer().dir(b"blobs").file(b"index.json").file(b"oci-layout").file(b"usr"),
            Layer().file(b"only.json", b"{}"),
            Layer(),
        ],
    )
    def test_a_layer_is_no_image(self, layer: Layer, tmp_path: Path) -> None:
        path = tmp_path / "layer.tar"
        path.write_bytes(layer.tar())
        with pytest.raises(ImageError, match="is not an image"):
            open_image(str(path))

    def test_what_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="nothing' does not exist"):
            open_image(str(tmp_path / "nothing"))
        with pytest.raises(ImageError, match="does not exist"):
            open_image(f"oci:{tmp_path}/nothing")
        with pytest.raises(ImageError, match="is a directory"):
            open_image(f"oci-archive:{tmp_path}")
        with pytest.raises(ImageError, match="has no file oci-layout"):
            open_image(f"oci:{tmp_path}")
        with pytest.raises(ImageError, match=r"has no manifest\.json"):
            open_image(f"dir:{tmp_path}")

    @pytest.mark.parametrize("shape", SHAPES)
    def test_sha512(self, shape: str, tmp_path: Path) -> None:
        image = GZIP.hashed_by("sha512")
        if shape.startswith("saved"):
            pytest.skip("Docker names files by sha256")
        assert merged(in_shape(shape, image, tmp_path)) == merge_tars(image.tars)

    @pytest.mark.parametrize("shape", SHAPES)
    def test_layers_that_are_repeated_or_empty(self, shape: str, tmp_path: Path) -> None:
        image = GZIP.layer(EMPTY).layer(BASE).layer(b"", "").layer(TOP).layer(EMPTY, "")
        found = in_shape(shape, image, tmp_path)
        assert len(found.layers) == 7
        assert merged(found) == merge_tars(image.tars)

    def test_no_layers_at_all(self, tmp_path: Path) -> None:
        assert merged(opened(oci_layout(Image()), tmp_path)) == merge_tars([])

    def test_what_an_image_says_of_itself(self, tmp_path: Path) -> None:
        runtime = {"Env": ["A=b"], "Cmd": ["sh"], "User": "5", "Healthcheck": {"x": 1.0}, "Labels": None}
        image = opened(oci_layout(GZIP.running(**runtime).named("v1")), tmp_path, ":v1")
        assert image.names == ("v1",)
        assert str(image.platform) == "linux/amd64"
        assert image.runtime.env == ["A=b"]
        assert json.loads(image.runtime_json()) == runtime
        assert [layer.history for layer in image.layers] == ["step 0", "step 1"]
        assert str(image.layers[1].diff_id) == digest_of(GZIP.tars[1])

    def test_no_runtime_config_is_an_empty_one(self, tmp_path: Path) -> None:
        assert opened(oci_layout(GZIP), tmp_path).runtime_json() == b"{}\n"

    def test_a_history_of_another_length_is_left_out(self, tmp_path: Path) -> None:
        image = opened(oci_layout(GZIP.config_says(history=[{"created_by": "x"}])), tmp_path)
        assert [layer.history for layer in image.layers] == [None, None]


class TestArchivesOnPipes:
    @pytest.mark.parametrize("compress", [bytes, gzip.compress])
    def test_are_spooled_once(
        self, compress: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "spool").mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "spool"))
        with on_pipe(compress(saved(GZIP).tar()), tmp_path) as path:
            image = open_image(f"docker-archive:{path}")
        assert os.listdir(tmp_path / "spool") == []
        assert merged(image) == merge_tars(GZIP.tars)

    def test_a_full_disk_is_the_outputs_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(_: int, __: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.write", full)
        path = tmp_path / "image.tar.gz"
        path.write_bytes(gzip.compress(saved(GZIP).tar()))
        with pytest.raises(SinkError, match="No space left on device; set TMPDIR"):
            open_image(f"docker-archive:{path}")


class on_pipe:  # noqa: N801 - a context manager
    """A FIFO that a process writes to."""

    def __init__(self, data: bytes, directory: Path) -> None:
        self._path = directory / "fifo"
        self._data = data

    def __enter__(self) -> Path:
        os.mkfifo(self._path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of other threads, which pytest-xdist has
            self._child = os.fork()
        if not self._child:
            with open(self._path, "wb") as fifo:
                fifo.write(self._data)
            os._exit(0)
        return self._path

    def __exit__(self, *_: object) -> None:
        os.waitpid(self._child, 0)


class TestWhich:
    def test_by_name(self, tmp_path: Path) -> None:
        other = Image().layer(TOP)
        place = oci_layout(GZIP.named("a"), other.named("b", "c"))
        for name, image in (("a", GZIP), ("b", other), ("c", other)):
            found = opened(place, tmp_path / name, f":{name}")
            assert str(found.digest) == digest_of(image.manifest)

    def test_by_containerds_full_name(self, tmp_path: Path) -> None:
        """Docker >= 25 gives several images the same ref.name, their tag."""
        entries = [
            descriptor(
                image.manifest,
                MANIFEST,
                annotations={"org.opencontainers.image.ref.name": "latest", "io.containerd.image.name": name},
            )
            for name, image in (("docker.io/library/a:latest", GZIP), ("docker.io/library/b:latest", PLAIN))
        ]
        place = oci_layout(GZIP, PLAIN).change("index.json", index_of(entries))
        found = opened(place, tmp_path, ":docker.io/library/b:latest")
        assert str(found.digest) == digest_of(PLAIN.manifest)
        with pytest.raises(ImageError, match=r"a:latest.*b:latest"):
            open_image(f"oci:{tmp_path}/image:latest")

    def test_by_digest_and_position(self, tmp_path: Path) -> None:
        place = oci_layout(GZIP, PLAIN)
        for number, which in enumerate((f":@{digest_of(PLAIN.manifest)}", f"@{digest_of(PLAIN.manifest)}", ":@1")):
            found = opened(place, tmp_path / str(number), which)
            assert str(found.digest) == digest_of(PLAIN.manifest)

    def test_two_names_for_one_image_need_no_choice(self, tmp_path: Path) -> None:
        assert opened(oci_layout(GZIP.named("a", "b")), tmp_path).names == ("a",)

    @pytest.mark.parametrize("which", ["", ":nothing", ":@7"])
    def test_an_error_lists_the_choices(self, which: str, tmp_path: Path) -> None:
        place = oci_layout(GZIP.named("first\x1b[2J"), PLAIN)
        with pytest.raises(ImageError) as caught:
            opened(place, tmp_path, which)
        if which != ":@7":
            assert "first\\x1b[2J" in str(caught.value)
            assert f"@{digest_of(PLAIN.manifest)}" in str(caught.value)

    def test_a_digest_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="has no manifest sha256:ab"):
            opened(oci_layout(GZIP), tmp_path, ":@sha256:" + "ab" * 32)

    def test_docker_names(self, tmp_path: Path) -> None:
        other = Image().layer(TOP)
        place = saved(GZIP.named("alpine:latest", "docker.io/me/app:v1"), other.named("localhost/x:1"), PLAIN)
        for which, image in (
            (":alpine", GZIP),
            (":library/alpine:latest", GZIP),
            (":me/app:v1", GZIP),
            (":localhost/x:1", other),
            (":@1", other),
            (":@2", PLAIN),
        ):
            found = packed(place, tmp_path, which, "docker-archive")
            assert str(found.config_digest) == digest_of(image.config)
        for which in ("", ":me/app", ":@3"):
            with pytest.raises(ImageError, match=r": .*alpine:latest, .*localhost/x:1, .*:@2$"):
                packed(place, tmp_path, which, "docker-archive")


def several(*platforms: str) -> tuple[Place, dict[str, Image]]:
    """A layout whose index lists one index, as Docker's build does: an image for each platform, and an attestation."""
    images = {
        p: Image().layer(Layer().file(p.encode().replace(b"/", b"-"))).built_for(*p.split("/")) for p in platforms
    }
    listed = [entry for image in images.values() for entry in image.described(platform=True)]
    unknown = {"os": "unknown", "architecture": "unknown"}
    nested = index_of([*listed, descriptor(b"{}", MANIFEST, platform=unknown)])
    top = [descriptor(nested, OCI_INDEX, annotations={"org.opencontainers.image.ref.name": "v1"})]
    return oci_layout(*images.values()).blob(nested).change("index.json", index_of(top)), images


class TestPlatform:
    @pytest.mark.parametrize(
        ("wanted", "given"),
        [
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/v8", "linux/arm/v7"),
            ("linux/arm64", "linux/arm64/v8"),
            ("windows/amd64", "windows/amd64"),
        ],
    )
    def test_a_nested_index(self, wanted: str, given: str, tmp_path: Path) -> None:
        place, images = several("linux/arm/v6", "linux/arm/v7", "linux/arm64/v8", "windows/amd64")
        found = opened(place, tmp_path, ":v1", platform=wanted)
        assert str(found.digest) == digest_of(images[given].manifest)
        assert found.names == ("v1",)

    def test_this_machines_is_the_default(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        place, _ = several("linux/amd64", "linux/s390x")
        monkeypatch.setattr("platform.machine", lambda: "s390x")
        assert str(opened(place, tmp_path).platform) == "linux/s390x"

    def test_none_that_suits_lists_them(self, tmp_path: Path) -> None:
        place, _ = several("linux/amd64", "linux/s390x")
        with pytest.raises(ImageError, match=r"no image for linux/riscv64; it has: linux/amd64, linux/s390x"):
            opened(place, tmp_path, platform="linux/riscv64")

    def test_an_only_image_is_taken_whatever_it_is_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("platform.machine", lambda: "s390x")
        for shape in SHAPES:
            in_shape(shape, GZIP, tmp_path / shape if shape in ("oci", "dir") else tmp_path)

    @pytest.mark.parametrize("shape", ["oci", "dir"])
    def test_but_not_if_another_was_asked_for(self, shape: str, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="is for linux/amd64, not for linux/arm64"):
            opened(SHAPES[shape](GZIP), tmp_path, transport=shape, platform="arm64")

    def test_platforms_listed_in_the_index_itself(self, tmp_path: Path) -> None:
        images = [GZIP, GZIP.built_for("linux", "s390x")]
        found = opened(oci_layout(*images, platform=True), tmp_path, platform="linux/s390x")
        assert str(found.platform) == "linux/s390x"

    def test_the_first_of_two_that_match_in_an_index(self, tmp_path: Path) -> None:
        """image-index.md: "If multiple manifests match … the first matching entry SHOULD be used"."""
        nested = index_of([*GZIP.described(platform=True), *PLAIN.described(platform=True)])
        place = oci_layout(GZIP, PLAIN).blob(nested).change("index.json", index_of([descriptor(nested, OCI_INDEX)]))
        assert str(opened(place, tmp_path, platform=HERE).digest) == digest_of(GZIP.manifest)

    def test_an_index_in_an_index_in_an_index(self, tmp_path: Path) -> None:
        place, images = several("linux/s390x", "linux/amd64")
        inner = json.loads(place.files["index.json"])  # type: ignore[arg-type]  # it is no link
        for _ in range(3):
            nested = json.dumps(inner).encode()
            place = place.blob(nested)
            inner = json.loads(index_of([descriptor(nested, OCI_INDEX)]))
        place = place.change("index.json", json.dumps(inner).encode())
        assert str(opened(place, tmp_path, platform=HERE).digest) == digest_of(images[HERE].manifest)

    def test_too_deep(self, tmp_path: Path) -> None:
        place, _ = several("linux/amd64")
        inner = place.files["index.json"]
        for _ in range(12):
            assert isinstance(inner, bytes)
            place, inner = place.blob(inner), index_of([descriptor(inner, OCI_INDEX)])
        assert isinstance(inner, bytes)
        with pytest.raises(ImageError, match="nested more than 8 deep"):
            opened(place.change("index.json", inner), tmp_path)

    def test_a_dir_of_all_platforms(self, tmp_path: Path) -> None:
        """``skopeo copy --all … dir:`` keeps each manifest beside the index."""
        images = [GZIP, PLAIN.built_for("linux", "s390x")]
        place = Place({k: v for image in images for k, v in skopeo_dir(image).files.items()})
        for image in images:
            place = place.put(digest_of(image.manifest)[7:] + ".manifest.json", image.manifest)
        place = place.put("manifest.json", index_of(e for image in images for e in image.described(platform=True)))
        found = opened(place, tmp_path, transport="dir", platform="linux/s390x")
        assert str(found.digest) == digest_of(images[1].manifest)


class TestVerification:
    """Each expected broken alone; ``--no-verify`` takes what can be read all the same."""

    @pytest.mark.parametrize("packing", ["", "gzip", "zstd"])
    @pytest.mark.parametrize("broken", ["digest", "diff_id"])
    def test_a_wrong_digest_or_diff_id(self, broken: str, packing: str, tmp_path: Path) -> None:
        image = Image().layer(BASE, packing)
        if broken == "diff_id":
            image = image.layer(TOP, packing, diff_id=digest_of(b"other"))
            place = oci_layout(image)
        else:
            right, wrong = image.layer(TOP, packing), Image().layer(TOP.file(b"more"), packing).layers[0].data
            image = image.layer(TOP, packing, size=len(wrong))
            place = oci_layout(image).change(blob_path(digest_of(right.layers[1].data)), wrong)
        error = merge_fails(opened(place, tmp_path), DigestMismatch, "does not match its digest")
        assert error.index == 1
        assert "layer 1 (sha256:" in str(error)
        unverified = open_image(f"oci:{tmp_path}/image", ImageOptions(verify=False))
        assert merged(unverified)

    @pytest.mark.parametrize("shape", SHAPES)
    def test_a_wrong_diff_id_in_every_shape(self, shape: str, tmp_path: Path) -> None:
        image = Image().layer(BASE, "").layer(TOP, "", diff_id=digest_of(b"other"))
        merge_fails(in_shape(shape, image, tmp_path), DigestMismatch, "diff_id")

    @pytest.mark.parametrize("packing", ["", "gzip", "zstd"])
    def test_a_flipped_bit_anywhere(self, packing: str, tmp_path: Path) -> None:
        """Also in what no entry shows: hidden bodies, padding, what follows the end of the archive."""
        image = Image().layer(BASE.tar() + b"trailing" * 200, packing).layer(TOP, packing)
        path = blob_path(digest_of(image.layers[0].data))
        data = image.layers[0].data
        for number, at in enumerate(range(0, len(data), max(1, len(data) // 15))):
            wrong = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            found = opened(oci_layout(image).change(path, wrong), tmp_path / str(number))
            output = BytesOutput()
            with pytest.raises(StreamergeError):
                merge(found.layers, TarSink(output))
            assert output.data is None

    def test_a_corrupt_blob_is_told_as_such(self, tmp_path: Path) -> None:
        """Not as a fault of gzip's: the digest is what says that the blob is not the one that was meant."""
        data = GZIP.layers[0].data
        wrong = data[:100] + bytes(20) + data[120:]
        place = oci_layout(GZIP).change(blob_path(digest_of(data)), wrong)
        error = merge_fails(opened(place, tmp_path), DigestMismatch, "the blob does not match its digest")
        assert isinstance(error.__cause__, FormatError)

    @pytest.mark.parametrize("change", [-1, 1, -10_000])
    @pytest.mark.parametrize("shape", ["oci", "dir"])
    def test_a_wrong_size_or_a_short_blob(self, shape: str, change: int, tmp_path: Path) -> None:
        size = len(PLAIN.layers[0].data) + change
        image = Image().layer(BASE, "", size=size).layer(TOP, "")
        found = opened(SHAPES[shape](image), tmp_path, transport=shape)
        with pytest.raises(DigestMismatch, match=f"layer 0 .*{size:,} are expected"):
            found.check()
        merge_fails(found, DigestMismatch, "are expected")

    def test_a_blob_that_shrinks_under_our_eyes(self, tmp_path: Path) -> None:
        found = opened(oci_layout(PLAIN), tmp_path)
        layer = found.layers[0]
        stream = layer.open()
        os.truncate(tmp_path / "image" / blob_path(str(layer.digest)), 1000)
        with pytest.raises(DigestMismatch, match="only 1,000"):
            stream.skip(1 << 62)

    @pytest.mark.parametrize("part", ["manifest", "config"])
    @pytest.mark.parametrize("change", ["digest", "size"])
    def test_documents(self, part: str, change: str, tmp_path: Path) -> None:
        data = GZIP.manifest if part == "manifest" else GZIP.config
        wrong = data.replace(b" ", b"\t", 1) if change == "digest" else data + b" "
        place = oci_layout(GZIP).change(blob_path(digest_of(data)), wrong)
        with pytest.raises(DigestMismatch, match=f"the {part} .*expected"):
            opened(place, tmp_path)
        assert merged(open_image(f"oci:{tmp_path}/image", ImageOptions(verify=False))) == merge_tars(GZIP.tars)

    def test_a_nested_index_is_verified_too(self, tmp_path: Path) -> None:
        place, _ = several("linux/amd64")
        name = next(n for n, data in place.files.items() if isinstance(data, bytes) and b"unknown" in data)
        data = place.files[name]
        assert isinstance(data, bytes)
        with pytest.raises(DigestMismatch):
            opened(place.change(name, data.replace(b" ", b"\t", 1)), tmp_path)

    def test_saved_configs_are_verified_by_their_name(self, tmp_path: Path) -> None:
        place = saved(GZIP).change(digest_of(GZIP.config)[7:] + ".json", GZIP.config + b" ")
        with pytest.raises(DigestMismatch, match="the config"):
            packed(place, tmp_path, transport="docker-archive")

    def test_saved_blobs_are_verified_by_their_name(self, tmp_path: Path) -> None:
        other = gzip.compress(GZIP.tars[0], 1)
        assert other != GZIP.layers[0].data
        place = saved_25(GZIP).change(blob_path(digest_of(GZIP.layers[0].data)), other)
        found = packed(place, tmp_path, transport="docker-archive")
        merge_fails(found, DigestMismatch, "the blob")

    def test_an_algorithm_that_is_not_known(self, tmp_path: Path) -> None:
        data = GZIP.layers[0].data
        image = Image().layer(BASE, digest="blake3:abc")
        place = oci_layout(image).put("blobs/blake3/abc", data)
        merge_fails(opened(place, tmp_path), DigestMismatch, "blake3 is not supported")
        assert merged(open_image(f"oci:{tmp_path}/image", ImageOptions(verify=False))) == merge_tars(image.tars)

    def test_diff_ids_that_are_too_few(self, tmp_path: Path) -> None:
        image = GZIP.config_says(rootfs={"diff_ids": [digest_of(GZIP.tars[0])]})
        with pytest.raises(ImageError, match="lists 2 layers, but its config lists 1 diff_id"):
            opened(oci_layout(image), tmp_path)
        assert merged(open_image(f"oci:{tmp_path}/image", ImageOptions(verify=False))) == merge_tars(GZIP.tars)

    @pytest.mark.parametrize("packing", ["", "gzip"])
    def test_is_done_once(self, packing: str, tmp_path: Path) -> None:
        """Until a layer was read to its end, nothing of it can be skipped unread; then nothing is hashed again."""
        layer = opened(oci_layout(Image().layer(BASE, packing)), tmp_path).layers[0]
        assert isinstance(layer, BlobLayer)
        first = layer.open()
        assert not first.seeks
        first.read()
        first.close()
        assert not is_verified(layer)
        assert not layer.open().seeks
        read_all(layer.open())
        layer.mark_verified()
        assert is_verified(layer)
        assert layer.open().seeks is (packing == "")

    def test_without_it_plain_blobs_seek(self, tmp_path: Path) -> None:
        layer = opened(oci_layout(PLAIN), tmp_path, verify=False).layers[0]
        assert layer.open().seeks

    @pytest.mark.parametrize("rescan", [False, True])
    def test_layers_that_are_read_twice(self, rescan: bool, tmp_path: Path) -> None:
        """A repeated path begins the merge anew, a hidden target is read again: all the same each is verified."""
        twice = Layer().file(b"x", b"1").file(b"y", b"y").link(b"z", b"y").file(b"x", b"2")
        image = Image().layer(twice).layer(Layer().file(b"y", b"new"))
        found = opened(oci_layout(image), tmp_path)
        assert merged(found, Options(rescan=rescan)) == merge_tars(image.tars, Options(rescan=rescan))
        assert all(isinstance(layer, BlobLayer) and layer.verified for layer in found.layers)

    def test_a_missing_blob(self, tmp_path: Path) -> None:
        place = oci_layout(GZIP).without(blob_path(digest_of(GZIP.layers[0].data)))
        found = opened(place, tmp_path)
        with pytest.raises(LayerError, match=r"layer 0 \(sha256:\w{12}\): its blob sha256:\w{64} is missing"):
            found.check()
        merge_fails(found, LayerError, "missing")

    def test_a_missing_document(self, tmp_path: Path) -> None:
        for number, data in enumerate((GZIP.manifest, GZIP.config)):
            with pytest.raises(ImageError, match="is missing"):
                opened(oci_layout(GZIP).without(blob_path(digest_of(data))), tmp_path / str(number))


def is_verified(layer: BlobLayer) -> bool:
    return layer.verified


def read_all(stream: Stream) -> None:
    while stream.read():
        pass


class TestMediaTypes:
    @pytest.mark.parametrize(("stated", "packing"), [("+gzip", "zstd"), ("+zstd", ""), ("", "gzip")])
    def test_magic_wins_and_somebody_is_told(self, stated: str, packing: str, tmp_path: Path) -> None:
        told: list[str] = []
        image = Image().layer(BASE, packing, media_type=LAYER + stated)
        found = opened(oci_layout(image), tmp_path, warn=told.append)
        assert merged(found) == merge_tars(image.tars)
        merged(found)
        assert len(told) == 1
        assert "layer 0 (sha256:" in told[0]
        assert "the media type says" in told[0]

    def test_a_right_type_is_no_news(self, tmp_path: Path) -> None:
        told: list[str] = []
        merged(opened(oci_layout(GZIP.layer(b"", "", media_type=LAYER + "+gzip")), tmp_path, warn=told.append))
        assert told == []

    def test_a_foreign_layer_that_is_missing(self, tmp_path: Path) -> None:
        foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        image = GZIP.layer(BASE.file(b"z"), media_type=foreign, urls=["https://example.org/x"])
        place = oci_layout(image)
        assert merged(opened(place, tmp_path / "whole")) == merge_tars(image.tars)
        found = opened(place.without(blob_path(digest_of(image.layers[2].data))), tmp_path)
        error = merge_fails(found, LayerError, "foreign layer.*https://example.org/x")
        assert "layer 2" in str(error)

    @pytest.mark.parametrize(
        ("image", "words"),
        [
            (GZIP.manifest_says(config=descriptor(b"{}", "application/vnd.oci.empty.v1+json")), "an artifact"),
            (GZIP.manifest_says(config=descriptor(b"{}", "x"), artifactType="application/vnd.sbom"), "vnd.sbom"),
            (Image().layer(BASE, media_type="application/vnd.in-toto+json"), "in-toto"),
            (Image().layer(BASE, media_type=LAYER + "+gzip+encrypted"), "encrypted"),
        ],
    )
    def test_artifacts_are_no_images(self, image: Image, words: str, tmp_path: Path) -> None:
        with pytest.raises(UnsupportedMediaType, match=words):
            opened(oci_layout(image).blob(b"{}"), tmp_path)

    def test_artifacts_beside_an_image_are_passed_over(self, tmp_path: Path) -> None:
        others = [
            descriptor(b"1", "application/vnd.new.thing+json"),
            descriptor(b"2", MANIFEST, artifactType="application/vnd.sig"),
        ]
        place = oci_layout(GZIP).change("index.json", index_of([*others, *GZIP.described()]))
        assert str(opened(place, tmp_path).digest) == digest_of(GZIP.manifest)

    def test_nothing_but_an_unknown_thing(self, tmp_path: Path) -> None:
        place = oci_layout().blob(b"{}").change("index.json", index_of([descriptor(b"{}", "application/x")]))
        with pytest.raises(UnsupportedMediaType, match="has the media type application/x, not that of an image"):
            opened(place, tmp_path)

    def test_an_empty_index(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="its index is empty"):
            opened(oci_layout(), tmp_path)

    def test_a_layout_of_the_future(self, tmp_path: Path) -> None:
        with pytest.raises(UnsupportedMediaType, match="version 2"):
            opened(oci_layout(GZIP).change("oci-layout", b'{"imageLayoutVersion": "2.0"}'), tmp_path)


class TestHostile:
    def test_an_index_that_contains_itself(self, tmp_path: Path) -> None:
        """Its digest cannot be right, so the circle shows only where nobody verifies."""
        name = "sha256:" + "ab" * 32
        loop = index_of([{"mediaType": OCI_INDEX, "digest": name, "size": 0}])
        place = oci_layout().put(blob_path(name), loop).change("index.json", loop)
        with pytest.raises(DigestMismatch):
            opened(place, tmp_path)
        with pytest.raises(ImageError, match="contains itself"):
            open_image(f"oci:{tmp_path}/image", ImageOptions(verify=False))

    def test_indexes_that_fan_out_cost_little(self, tmp_path: Path) -> None:
        place, inner = oci_layout(), index_of([])
        for _ in range(7):
            place, inner = place.blob(inner), index_of([descriptor(inner, OCI_INDEX)] * 1000)
        with limits(seconds=2), pytest.raises(ImageError):
            opened(place.change("index.json", inner), tmp_path)

    def test_10_000_manifests(self, tmp_path: Path) -> None:
        many = [
            {**descriptor(b"%d" % number, MANIFEST), "annotations": {"org.opencontainers.image.ref.name": f"v{number}"}}
            for number in range(10_000)
        ]
        place = oci_layout(GZIP).change("index.json", index_of([*many, *GZIP.named("it").described()]))
        with limits(seconds=0.5):
            assert str(opened(place, tmp_path, ":it").digest) == digest_of(GZIP.manifest)
        with (
            limits(seconds=0.5),
            pytest.raises(ImageError, match=r"holds 10,001 images; name one: .*:v0, .*:v1, .* and 9,981 more"),
        ):
            open_image(f"oci:{tmp_path}/image")

    @pytest.mark.parametrize("transport", ["docker-archive", "dir"])
    def test_a_manifest_json_of_100_mb_costs_nothing(self, transport: str, tmp_path: Path) -> None:
        huge = b"[" + b" " * 100_000_000
        if transport == "dir":
            path = skopeo_dir(GZIP).change("manifest.json", huge).write(tmp_path / "image")
        else:
            path = tmp_path / "image.tar"
            path.write_bytes(saved(GZIP).change("manifest.json", huge).tar())
        del huge
        with limits(seconds=0.2), pytest.raises(ImageError, match=r"manifest\.json in .* has 100,000,001 bytes"):
            open_image(f"{transport}:{path}")

    def test_a_blob_that_claims_to_be_a_huge_document(self, tmp_path: Path) -> None:
        place = oci_layout(GZIP)
        huge = [{**descriptor(GZIP.manifest, MANIFEST), "size": 1 << 40}]
        with pytest.raises(DigestMismatch):
            opened(place.change("index.json", index_of(huge)), tmp_path)

    @pytest.mark.parametrize("path", ["../x/layer.tar", "/etc/passwd", "a/../../b", "blobs/sha256/../../../x"])
    @pytest.mark.parametrize("field", ["Layers", "Config"])
    def test_manifest_entries_that_lead_out(self, field: str, path: str, tmp_path: Path) -> None:
        entry = json.loads(saved(GZIP).files["manifest.json"])[0]  # type: ignore[arg-type]  # it is no link
        entry[field] = [path, path] if field == "Layers" else path
        with pytest.raises(UnsafePathError, match="refused"):
            packed(saved(GZIP).put("manifest.json", [entry]), tmp_path, transport="docker-archive")

    @pytest.mark.parametrize("digest", ["sha256:../../x", "../../etc:passwd", "sha256:" + "a" * 62 + "/b"])
    def test_digests_that_lead_out(self, digest: str, tmp_path: Path) -> None:
        with pytest.raises(UnsafePathError):
            opened(oci_layout(Image().layer(BASE, digest=digest)), tmp_path)

    def test_a_blob_that_is_a_link_out_of_the_layout(self, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_bytes(GZIP.layers[0].data)
        name = blob_path(digest_of(GZIP.layers[0].data))
        found = opened(oci_layout(GZIP).link(name, str(secret)), tmp_path)
        with pytest.raises(UnsafePathError, match="symbolic link out of it"):
            found.check()
        merge_fails(found, UnsafePathError, "symbolic link out of it")

    def test_a_blob_that_is_a_link_within_the_layout(self, tmp_path: Path) -> None:
        name = blob_path(digest_of(GZIP.layers[0].data))
        place = oci_layout(GZIP).put("blobs/elsewhere", GZIP.layers[0].data).link(name, "../elsewhere")
        assert merged(opened(place, tmp_path)) == merge_tars(GZIP.tars)

    @pytest.mark.parametrize("shape", ["oci", "saved"])
    def test_an_archive_cut_anywhere(self, shape: str, tmp_path: Path) -> None:
        whole = SHAPES[shape](GZIP).without("repositories").tar()[:-1024]
        path = tmp_path / "image.tar"
        for cut in range(0, len(whole) - 512, 512):
            path.write_bytes(whole[:cut])
            with pytest.raises(StreamergeError):
                merged(open_image(f"{'oci' if shape == 'oci' else 'docker'}-archive:{path}"))

    @pytest.mark.parametrize("shape", SHAPES)
    def test_mutated_documents_raise_nothing_else(self, shape: str, tmp_path: Path) -> None:
        place = SHAPES[shape](GZIP.named("x"))
        told: list[str] = []
        for number, mutant in enumerate(mutants(place)):
            directory = tmp_path / str(number)
            try:
                if shape in ("oci", "dir"):
                    image = opened(mutant, directory, transport=shape, verify=False)
                else:
                    directory.mkdir()
                    image = packed(mutant, directory, transport="docker-archive")
                merged(image)
            except StreamergeError as error:
                told.append(str(error))
        assert told
        assert [text for text in told if not text.isprintable()] == []


def mutants(place: Place) -> Iterator[Place]:
    """The place with a value of one of its documents replaced by something else, one at a time."""
    for name, data in place.files.items():
        if not isinstance(data, bytes) or not data.startswith((b"{", b"[")):
            continue
        count = data.count(b'"') // 2
        for number in range(0, count, 3):
            pieces = data.split(b'"')
            for other in (b"", b"../x", b"\\u0000\\u001b", b"a\\u001b\\nb", b"9" * 5000):
                pieces[2 * number + 1] = other
                yield place.put(name, b'"'.join(pieces))
        for other in (b"null", b"[]", b"{}", b"[[]]", b"[null]", b"1e999", b""):
            yield place.put(name, other)


class limits:  # noqa: N801 - a context manager
    """What is within takes no longer than this, of processor time, and hardly any memory."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._start = time.process_time()
        self._memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def __exit__(self, *_: object) -> None:
        assert time.process_time() - self._start < self._seconds
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self._memory < 32 << 10


def test_layers_may_arrive_one_by_one(tmp_path: Path) -> None:
    """Nothing of a layer is touched before it is opened, newest first: a registry's could arrive meanwhile."""
    image = opened(oci_layout(GZIP), tmp_path)
    asked: list[int] = []
    for layer in image.layers:
        assert isinstance(layer, BlobLayer)
        asking(layer, asked)
    merged(image)
    assert asked[:2] == [1, 0]


def asking(layer: BlobLayer, asked: list[int]) -> None:
    find = layer.find

    def noted() -> Blob:
        asked.append(layer.index)
        return find()

    layer.find = noted
