"""Inputs and outputs that are not what the user probably meant: an error or a warning, never a strange result."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from streamerge import Options, UsageError, layer_files, merge, open_tar
from tests.support.command import run, shell
from tests.support.layers import Layer


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    path = tmp_path / "layer.tar"
    path.write_bytes(Layer().file(b"f", b"x").tar())
    return path


class TestTheOrderOfLayers:
    def names(self, place: Path, *numbers: int) -> list[Path]:
        paths = [place / f"l{number}.tar" for number in numbers]
        for path in paths:
            path.write_bytes(Layer().file(b"which", path.name.encode()).tar())
        return paths

    def test_of_a_glob_is_not_that_of_numbers(self, tmp_path: Path) -> None:
        """A shell sorts l10 before l2."""
        done = run(*self.names(tmp_path, 1, 10, 2), "-o", tmp_path / "out.tar").assert_merged()
        assert "the order of their numbers, which would be l1.tar l2.tar l10.tar" in done.err

    @pytest.mark.parametrize("numbers", [(1, 2, 10), (1, 2, 3), (3, 10, 1)])
    def test_that_is_natural_or_chosen_is_taken_without_a_word(self, tmp_path: Path, numbers: tuple[int, ...]) -> None:
        done = run(*self.names(tmp_path, *numbers), "-o", tmp_path / "out.tar").assert_merged()
        assert "warning" not in done.err


class TestNothing:
    def test_through_a_pipe_is_an_error(self, tmp_path: Path) -> None:
        done = shell("false | streamerge - -o out.tar", cwd=tmp_path)
        assert done.code == 1
        assert "layer 0 (standard input): nothing came through the pipe" in done.err
        assert not (tmp_path / "out.tar").exists()

    def test_in_a_file_is_a_warning(self, tmp_path: Path, layer: Path) -> None:
        (tmp_path / "empty.tar").touch()
        done = run(tmp_path / "empty.tar", layer, "-o", tmp_path / "out.tar").assert_merged()
        assert "layer 0 (empty.tar): the file is empty" in done.err

    def test_is_in_a_tar_that_holds_nothing_and_that_is_none(self, tmp_path: Path, layer: Path) -> None:
        (tmp_path / "end.tar").write_bytes(bytes(1024))
        done = run(tmp_path / "end.tar", layer, "-o", tmp_path / "out.tar").assert_merged()
        assert "warning" not in done.err


class TestTheOutputsName:
    @pytest.mark.parametrize("name", ["a.img", "a.raw", "a.iso", "a.zip", "a.squashf", "a.cpio.bz2", "a.tar.Z", "v1.2"])
    def test_with_an_unknown_suffix_is_an_error(self, tmp_path: Path, layer: Path, name: str) -> None:
        run(layer, "-o", tmp_path / name).assert_usage_error(name, "--format")
        assert [path.name for path in tmp_path.iterdir()] == ["layer.tar"]
        run(layer, "-o", tmp_path / name, "--format", "tar").assert_merged()

    @pytest.mark.parametrize(
        ("name", "start"),
        [
            ("rootfs", b"./"),
            ("a.TAR", b"./"),
            (".hidden", b"./"),
            ("a.wsl", b"\x1f\x8b"),
            ("a.tzst", b"\x28\xb5\x2f\xfd"),
            ("a.tar.zstd", b"\x28\xb5\x2f\xfd"),
            ("a.txz", b"\xfd7zXZ"),
            ("a.tbz2", b"BZh"),
        ],
    )
    def test_that_is_known(self, tmp_path: Path, layer: Path, name: str, start: bytes) -> None:
        layer.write_bytes(Layer().dir(b"").file(b"f", b"x").tar())
        run(layer, "-o", tmp_path / name).assert_merged()
        assert (tmp_path / name).read_bytes().startswith(start)

    @pytest.mark.parametrize("name", ["oci:x", "docker-archive:x.tar", "dir:x", "oci-archive:x"])
    def test_like_a_transport_is_an_error(self, tmp_path: Path, layer: Path, name: str) -> None:
        run(layer, "-o", name, cwd=tmp_path).assert_usage_error(f"./{name}")
        assert [path.name for path in tmp_path.iterdir()] == ["layer.tar"]

    def test_is_given_once(self, tmp_path: Path, layer: Path) -> None:
        run(layer, "-o", tmp_path / "a.tar", "-o", tmp_path / "b.tar").assert_usage_error("-o is given 2 times")
        assert [path.name for path in tmp_path.iterdir()] == ["layer.tar"]


class TestOptions:
    def test_room_of_a_few_bytes_is_an_error(self, tmp_path: Path, layer: Path) -> None:
        run(layer, "-o", tmp_path / "a.ext4", "--free", "20").assert_usage_error("20%", "20M")

    def test_a_map_of_two_numbers_is_an_error(self, tmp_path: Path, layer: Path) -> None:
        run(layer, "-o", f"{tmp_path}/d/", "--uid-map", "0:1000").assert_usage_error("CONTAINER:HOST:SIZE")

    def test_a_wrong_pattern_is_our_own_error(self, tmp_path: Path, layer: Path) -> None:
        """It was pathspec's."""
        with pytest.raises(UsageError, match="pattern"):
            merge(layer_files([layer]), open_tar(tmp_path / "a.tar"), Options(exclude=("!",)))


class TestHeadersThatAreNoEntries:
    """GNU tar's volume label named ``etc`` hid the base's ``/etc``: it was taken for a file."""

    BASE = Layer().dir(b"etc").file(b"etc/passwd", b"root")

    def merged(self, place: Path, newer: bytes) -> bytes:
        for name, data in (("0.tar", self.BASE.tar()), ("1.tar", newer)):
            (place / name).write_bytes(data)
        return run(place / "0.tar", place / "1.tar", "-o", "-").assert_merged().out

    def with_flag(self, tar: bytes, flag: bytes) -> bytes:
        header = tar[:156] + flag + tar[157:512]
        total = sum(header) - sum(header[148:156]) + 256
        return header[:148] + b"%06o\0 " % total + header[156:] + tar[512:]

    @pytest.mark.parametrize("flag", [b"V", b"X"])
    def test_a_label_is_skipped_and_x_is_read(self, tmp_path: Path, flag: bytes) -> None:
        if flag == b"V":
            label = self.with_flag(Layer().file(b"etc").tar(end=False), b"V")
            newer = label + Layer().file(b"etc/new", b"1").tar()
        else:
            newer = self.with_flag(Layer().file(b"etc/new", b"1", xattrs={b"user.a": b"b"}).tar(), b"X")
        merged = self.merged(tmp_path, newer)
        assert b"etc/passwd" in merged
        assert b"etc/new" in merged
        assert (b"user.a=b" in merged) == (flag == b"X")

    def test_a_dumpdir_is_a_directory(self, tmp_path: Path) -> None:
        """Its body is a list of names."""
        dump = self.with_flag(Layer().file(b"etc", b"Ypasswd\0\0").tar(end=False), b"D")
        merged = self.merged(tmp_path, dump + Layer().file(b"etc/new", b"1").tar())
        assert b"etc/passwd" in merged
        assert b"Ypasswd" not in merged

    @pytest.mark.parametrize("flag", [b"M", b"N"])
    def test_others_are_errors(self, tmp_path: Path, flag: bytes) -> None:
        path = tmp_path / "a.tar.gz"
        path.write_bytes(gzip.compress(self.with_flag(Layer().file(b"f", b"x").tar(), flag)))
        run(path, "-o", tmp_path / "out.tar").assert_failed("layer 0 (a.tar.gz)")
