"""The parts of image inputs: references, digests, platforms, media types, documents, places."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from streamerge import DigestMismatch, ImageError, LayerError, StreamergeError, UnsafePathError, UnsupportedMediaType
from streamerge.codecs import Codec
from streamerge.digest import Digest, Expected, Hasher, check, checked
from streamerge.sources.archive import ArchiveStore
from streamerge.sources.blob import read_document
from streamerge.sources.documents import Config, Descriptor, Index, Manifest, Platform, SavedImage, decode_document
from streamerge.sources.filestore import DirectoryStore
from streamerge.sources.media import DocumentKind, document_kind, kind_of, layer_type
from streamerge.sources.names import safe_name
from streamerge.sources.platform import parse_platform, rank, this_machine
from streamerge.sources.reference import Reference, Transport, parse_reference
from tests.support.descriptors import descriptors, still_open
from tests.support.images import Link, Place
from tests.support.layers import EntrySpec, Layer
from tests.support.layers import Kind as EntryKind

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


class TestReference:
    @pytest.mark.parametrize(
        ("text", "transport", "path", "which"),
        [
            ("oci:dir", Transport.OCI, "dir", None),
            ("oci:/a/b:latest", Transport.OCI, "/a/b", "latest"),
            ("oci:dir:registry.example:5000/app:v1", Transport.OCI, "dir", "registry.example:5000/app:v1"),
            (f"oci:dir:@sha256:{ABC}", Transport.OCI, "dir", f"@sha256:{ABC}"),
            (f"oci:dir@sha256:{ABC}", Transport.OCI, "dir", f"@sha256:{ABC}"),
            ("oci-archive:-:v1", Transport.OCI_ARCHIVE, "-", "v1"),
            ("docker-archive:a.tar:repo:tag", Transport.DOCKER_ARCHIVE, "a.tar", "repo:tag"),
            ("docker-archive:a.tar:@1", Transport.DOCKER_ARCHIVE, "a.tar", "@1"),
            ("dir:/a:b/c", Transport.DIR, "/a:b/c", None),
        ],
    )
    def test_the_first_colon_after_the_transport_ends_the_path(
        self, text: str, transport: Transport, path: str, which: str | None
    ) -> None:
        assert parse_reference(text) == Reference(transport, path, which)

    @pytest.mark.parametrize("text", ["layer.tar", "./oci:dir", "/oci:x", "a:b", "C:\\image", "ocix:dir", ""])
    def test_all_else_is_a_bare_path(self, text: str) -> None:
        assert parse_reference(text) is None

    @pytest.mark.parametrize("text", ["docker://alpine", "containers-storage:x", "docker-daemon:a:b"])
    def test_what_is_elsewhere_says_how_to_fetch_it(self, text: str) -> None:
        with pytest.raises(ImageError, match="skopeo copy"):
            parse_reference(text)

    @pytest.mark.parametrize("text", ["oci:", "oci::tag", "docker-archive:", "dir:"])
    def test_a_path_is_needed(self, text: str) -> None:
        with pytest.raises(ImageError, match="needs a path"):
            parse_reference(text)

    def test_is_written_as_it_is_read(self) -> None:
        for text in ("oci:d:t", "oci-archive:f", "dir:a:b", f"oci:d:@sha256:{ABC}"):
            assert str(parse_reference(text)) == text


class TestDigest:
    """descriptor.md: "A digest string MUST match the following grammar"."""

    @pytest.mark.parametrize(
        "text",
        [f"sha256:{ABC}", "sha512:" + "0" * 128, "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8"],
    )
    def test_grammar(self, text: str) -> None:
        assert str(Digest.parse(text)) == text

    @pytest.mark.parametrize("text", ["", "sha256", ABC, "sha256:", f"sha256:{ABC.upper()}", "sha256:ab", "SHA256:ab"])
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(ImageError, match="not a digest"):
            Digest.parse(text)

    @pytest.mark.parametrize("text", ["sha256:../../etc/passwd", "../..", "sha256:a/b", "/etc:x"])
    def test_a_way_out_is_unsafe(self, text: str) -> None:
        with pytest.raises(UnsafePathError):
            Digest.parse(text)

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    @pytest.mark.parametrize("aside", [False, True])
    def test_passes_what_is_right(self, algorithm: str, aside: bool) -> None:
        chunks = [b"a" * 70_000, b"", b"b" * 3] * 40
        expected = Expected("it", Digest.of(b"".join(chunks), algorithm), sum(map(len, chunks)))
        if not aside:
            assert list(checked(chunks, expected)) == chunks
            return
        with Hasher() as hasher:
            assert list(checked(chunks, expected, hasher=hasher)) == chunks

    def test_a_wrong_byte_is_told_at_the_end(self) -> None:
        given = checked([b"ab", b"d"], Expected("it", Digest("sha256", ABC)))
        assert [next(given), next(given)] == [b"ab", b"d"]
        with pytest.raises(DigestMismatch, match=hashlib.sha256(b"abd").hexdigest()):
            next(given)

    def test_too_many_bytes_are_told_at_once(self) -> None:
        given = checked(iter([b"a"] * 3), Expected("it", size=2))
        assert [next(given), next(given)] == [b"a", b"a"]
        with pytest.raises(DigestMismatch, match="more than 2 bytes"):
            next(given)

    def test_too_few(self) -> None:
        with pytest.raises(DigestMismatch, match="only 2 bytes; 3 are expected"):
            check(b"ab", Expected("it", size=3))

    def test_an_unknown_algorithm_cannot_be_verified(self) -> None:
        with pytest.raises(DigestMismatch, match="is not supported") as caught:
            check(b"", Expected("it", Digest.parse("blake3:abcdef")))
        assert caught.value.setting == "verify"

    def test_a_hasher_that_is_left_ends_its_thread(self) -> None:
        with Hasher() as hasher:
            given = checked([b"a", b"b"], Expected("it", Digest("sha256", ABC)), hasher=hasher)
            next(given)
        hasher._thread.join(5)
        assert not hasher._thread.is_alive()


class TestPlatform:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("linux/amd64", Platform(os="linux", architecture="amd64")),
            ("linux/arm/v7", Platform(os="linux", architecture="arm", variant="v7")),
            ("ARM64", Platform(os="linux", architecture="arm64")),
            ("linux/x86_64", Platform(os="linux", architecture="amd64")),
            ("windows/amd64", Platform(os="windows", architecture="amd64")),
        ],
    )
    def test_parse(self, text: str, expected: Platform) -> None:
        assert parse_platform(text) == expected

    @pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d", "linux/\x1b", "linux//v7", "línux/amd64"])
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(ImageError, match="is not a platform"):
            parse_platform(text)

    @pytest.mark.parametrize(
        ("wanted", "offered", "expected"),
        [
            ("linux/amd64", "linux/amd64", 0),
            ("linux/amd64", "linux/arm64", None),
            ("linux/amd64", "windows/amd64", None),
            ("linux/arm64", "linux/arm64/v8", 0),
            ("linux/arm64/v8", "linux/arm64", 0),
            ("linux/arm/v7", "linux/arm/v7", 0),
            ("linux/arm/v7", "linux/arm/v6", 1),
            ("linux/arm/v7", "linux/arm/v5", 2),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/arm", "linux/arm/v7", 0),
            ("linux/amd64/v3", "linux/amd64", 2),
            ("linux/amd64", "linux/amd64/v3", None),
            ("linux/mips/x", "linux/mips/x", 0),
            ("linux/mips/x", "linux/mips/y", None),
        ],
    )
    def test_a_lesser_variant_runs_on_a_greater(self, wanted: str, offered: str, expected: int | None) -> None:
        assert rank(parse_platform(wanted), parse_platform(offered)) == expected

    def test_this_machine_is_linux(self) -> None:
        assert this_machine().os == "linux"
        assert rank(this_machine(), this_machine()) == 0


class TestMediaTypes:
    @pytest.mark.parametrize(
        ("text", "codec", "foreign"),
        [
            ("application/vnd.oci.image.layer.v1.tar", Codec.NONE, False),
            ("application/vnd.oci.image.layer.v1.tar+gzip", Codec.GZIP, False),
            ("application/vnd.oci.image.layer.v1.tar+zstd", Codec.ZSTD, False),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Codec.GZIP, True),
            ("application/vnd.docker.image.rootfs.diff.tar", Codec.NONE, False),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", Codec.GZIP, False),
            ("application/vnd.docker.image.rootfs.diff.tar.zstd", Codec.ZSTD, False),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Codec.GZIP, True),
        ],
    )
    def test_layers(self, text: str, codec: Codec, foreign: bool) -> None:
        kind = layer_type(text)
        assert (kind.codec, kind.foreign) == (codec, foreign)

    @pytest.mark.parametrize("text", [None, "", "text/plain", "application/vnd.oci.image.layer.v1.tar+lzma"])
    def test_what_is_no_layer(self, text: str | None) -> None:
        with pytest.raises(UnsupportedMediaType):
            layer_type(text)

    def test_encrypted(self) -> None:
        with pytest.raises(UnsupportedMediaType, match="encrypted"):
            layer_type("application/vnd.oci.image.layer.v1.tar+gzip+encrypted")

    def test_unknown_kinds_are_no_error(self) -> None:
        assert kind_of("application/vnd.cncf.helm.chart") is DocumentKind.UNKNOWN

    def test_a_document_that_is_both_is_refused(self) -> None:
        """CVE-2021-41190: an index to one reader, a manifest to another."""
        with pytest.raises(ImageError, match="both"):
            document_kind(b'{"manifests": [], "layers": []}', "it")

    def test_a_document_that_is_not_what_it_says(self) -> None:
        data = b'{"mediaType": "application/vnd.oci.image.index.v1+json", "layers": []}'
        with pytest.raises(ImageError, match="should be an image index"):
            document_kind(data, "it")

    def test_schema_1(self) -> None:
        with pytest.raises(UnsupportedMediaType, match="schema 1"):
            document_kind(b'{"schemaVersion": 1, "fsLayers": []}', "it")


class TestDocuments:
    def test_unknown_fields_are_ignored(self) -> None:
        data = b'{"manifests": [{"digest": "x", "size": 1, "new": {"deep": [1e999, "x"]}}], "other": null}'
        index = decode_document(data, Index, "it")
        assert index.manifests is not None
        assert index.manifests[0].digest == "x"

    @pytest.mark.parametrize("field", ["annotations", "urls", "platform", "mediaType"])
    def test_null_is_as_good_as_absent(self, field: str) -> None:
        decode_document(f'{{"digest": "x", "size": 0, "{field}": null}}'.encode(), Descriptor, "it")

    @pytest.mark.parametrize(
        ("kind", "data", "where"),
        [
            (Index, b'{"manifests": {}}', r"\$\.manifests"),
            (Index, b"[]", "object"),
            (Index, b"{}", "manifests"),
            (Descriptor, b'{"digest": 5, "size": 1}', r"\$\.digest"),
            (Descriptor, b'{"digest": "x", "size": "1"}', r"\$\.size"),
            (Descriptor, b'{"digest": "x", "size": 1.5}', r"\$\.size"),
            (Descriptor, b'{"digest": "x", "size": -1}', r"\$\.size"),
            (Descriptor, b'{"digest": "x", "size": 1e400}', r"\$\.size"),
            (Descriptor, b'{"digest": "x", "size": 9223372036854775808}', r"\$\.size"),
            (Descriptor, b'{"digest": "x", "size": ' + b"9" * 10_000 + b"}", r"\$\.size"),
            (Descriptor, b'{"digest": "x", "size": 1, "annotations": {"a": 1}}', r"\$\.annotations"),
            (Manifest, b'{"layers": [], "config": "x"}', r"\$\.config"),
            (Config, b'{"rootfs": {"diff_ids": "x"}}', r"\$\.rootfs\.diff_ids"),
            (Config, b'{"history": [1]}', r"\$\.history"),
            (SavedImage, b'{"Config": null}', r"\$\.Config"),
        ],
    )
    def test_wrong_types_name_the_field(self, kind: type[object], data: bytes, where: str) -> None:
        with pytest.raises(ImageError, match=rf"the document .*{where}"):
            decode_document(data, kind, "the document")

    @pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"manifests": []} x', b'\xef\xbb\xbf{"manifests": []}'])
    def test_no_json(self, data: bytes) -> None:
        with pytest.raises(ImageError, match="is not JSON"):
            decode_document(data, Index, "it")

    @pytest.mark.parametrize("data", [b"[" * 1_000_000, b"[" * 1_000_000 + b"]" * 1_000_000, b'{"a":' * 1_000_000])
    def test_deep_nesting(self, data: bytes) -> None:
        with pytest.raises(ImageError, match="nested too deeply"):
            decode_document(b'{"manifests": [], "x": ' + data + b"}", Index, "it")

    @pytest.mark.parametrize("cut", range(0, 60, 7))
    def test_a_cut_document(self, cut: int) -> None:
        with pytest.raises(ImageError):
            decode_document(b'{"config": {"digest": "sha256:00", "size": 12}, "layers": []}'[:cut], Manifest, "it")


class TestPlaces:
    @pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a/..", "", ".", "a\0b"])
    def test_names_that_are_no_path_inside(self, name: str) -> None:
        with pytest.raises(UnsafePathError):
            safe_name(name)

    def test_a_directory_gives_its_files(self, tmp_path: Path) -> None:
        place = DirectoryStore(str(Place({"a/b": b"hello"}).link("l", "a/b").write(tmp_path)))
        for name in ("a/b", "l", "./a//b"):
            found = place.find(name)
            assert found is not None
            assert read_document(found, 5) == b"hello"
        assert place.find("a/c") is None
        assert place.find("a/b/c") is None

    @pytest.mark.parametrize("target", ["../secret", "/etc/hostname", "a/../../secret"])
    def test_a_link_out_of_a_directory_is_refused(self, target: str, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(b"x")
        place = DirectoryStore(str(Place({"a/b": b""}).link("l", target).write(tmp_path / "image")))
        with pytest.raises(UnsafePathError, match="symbolic link out of it"):
            place.find("l")

    def test_a_directory_that_is_a_link_out_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere" / "sha256").mkdir(parents=True)
        (tmp_path / "elsewhere" / "sha256" / "x").write_bytes(b"")
        place = DirectoryStore(str(Place({"index.json": b""}).link("blobs", "../elsewhere").write(tmp_path / "image")))
        with pytest.raises(UnsafePathError):
            place.find("blobs/sha256/x")

    def test_a_directory_reached_by_a_link_is_fine(self, tmp_path: Path) -> None:
        Place({"a": b"x"}).write(tmp_path / "real")
        (tmp_path / "link").symlink_to("real")
        assert DirectoryStore(str(tmp_path / "link")).find("a") is not None

    def test_what_is_no_regular_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        (tmp_path / "dir").mkdir()
        (tmp_path / "loop").symlink_to("loop")
        for name in ("fifo", "dir", "loop"):
            with pytest.raises(LayerError, match=name):
                _ = (found := DirectoryStore(str(tmp_path)).find(name)) and read_document(found, 10_000)

    def test_a_limit_is_looked_at_before_reading(self, tmp_path: Path) -> None:
        with open(tmp_path / "huge", "wb") as file:
            file.truncate(1 << 40)
        found = DirectoryStore(str(tmp_path)).find("huge")
        assert found is not None
        with pytest.raises(ImageError, match="1,099,511,627,776 bytes"):
            read_document(found, 100)


def archive(place: Place | bytes, directory: Path) -> ArchiveStore:
    path = directory / "image.tar"
    path.write_bytes(place if isinstance(place, bytes) else place.tar())
    return ArchiveStore(str(path))


class TestArchive:
    def test_members_links_and_the_last_of_a_name(self, tmp_path: Path) -> None:
        layer = Layer().file(b"./a/b", b"old").file(b"a/b", b"new").link(b"h/h", b"./a/b").symlink(b"l/m", b"../h/h")
        found = archive(layer.symlink(b"n", b"l/m").tar(), tmp_path)
        for name in ("a/b", "h/h", "l/m", "n"):
            extent = found.find(name)
            assert extent is not None
            assert read_document(extent, 9) == b"new"
        assert found.find("nothing") is None

    @pytest.mark.parametrize("target", ["../../x", "/etc/passwd", "../.."])
    def test_a_link_out_is_refused(self, target: str, tmp_path: Path) -> None:
        with pytest.raises(UnsafePathError):
            archive(Place({"d/l": Link(target)}), tmp_path).find("d/l")

    def test_a_circle_of_links(self, tmp_path: Path) -> None:
        with pytest.raises(LayerError, match="circle"):
            archive(Place({"a": Link("b"), "b": Link("a")}), tmp_path).find("a")

    def test_what_cannot_be_read_in_place(self, tmp_path: Path) -> None:
        sparse = EntrySpec(EntryKind.FILE, b"s", records=((b"GNU.sparse.major", b"1"), (b"GNU.sparse.name", b"s")))
        found = archive(Layer().dir(b"d").entry(sparse).tar(), tmp_path)
        with pytest.raises(LayerError, match="directory"):
            found.find("d")
        with pytest.raises(LayerError, match="sparse"):
            found.find("s")

    @pytest.mark.parametrize("cut", [100, 513, 700, 1024, 1700])
    def test_a_truncated_archive(self, cut: int, tmp_path: Path) -> None:
        whole = Place({"a": b"x" * 600, "b": b"y" * 600}).tar()
        with pytest.raises(ImageError, match=r"image\.tar: it ends in the middle of a member"):
            archive(whole[:cut], tmp_path)

    def test_no_tar_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="cannot read the archive"):
            archive(b"hello" * 1000, tmp_path)

    def test_is_closed_with_the_last_that_needs_it(self, tmp_path: Path) -> None:
        before = descriptors()
        found = archive(Place({"a": b"x"}), tmp_path)
        extent = found.find("a")
        del found
        assert extent is not None
        assert read_document(extent, 1) == b"x"
        del extent
        assert still_open() == before

    @pytest.mark.parametrize("path", ["/nowhere/image.tar", "/"])
    def test_what_cannot_be_opened(self, path: str) -> None:
        with pytest.raises(StreamergeError, match=path):
            ArchiveStore(path)
