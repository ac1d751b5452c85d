"""The command line: what it takes, what it says, and that the same layers give the same bytes."""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import streamerge
from tests.support import tree
from tests.support.command import Done, argv, environment, on_terminal, run, shell
from tests.support.layers import SECOND, Layer
from tests.support.needs import missing
from tests.support.odd import example_layers, odd_stack, write_layers

NeedTool = Callable[[str], str]

SUMMARY = re.compile(
    r"streamerge: [\d,]+ layers?: [\d,]+ entries written, [\d,]+ hidden \([\d.]+ \w+\), "
    r"[\d,]+ hard links? promoted, in \d+\.\d\d s\n"
)


@pytest.fixture
def layers(tmp_path: Path) -> list[Path]:
    """The odd stack, whose merge retains, promotes and waits."""
    directory = tmp_path / "layers"
    directory.mkdir()
    return write_layers(odd_stack(), directory)


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What its merge must be, to the byte."""
    directory = tmp_path_factory.mktemp("merged")
    output = directory / "expected.tar"
    run(*write_layers(odd_stack(), directory), "-o", output).assert_merged()
    return output.read_bytes()


def one_layer(directory: Path, layer: Layer | None = None, name: str = "layer.tar") -> Path:
    path = directory / name
    path.write_bytes((layer or Layer().dir(b"etc").file(b"etc/a", b"a")).tar())
    return path


class TestHelp:
    @pytest.mark.skipif("STREAMERGE_TEST_INSTALLED" not in os.environ, reason="only tox expects it")
    def test_what_is_tested_is_installed(self) -> None:
        assert "site-packages" in Path(streamerge.__file__).parts

    @pytest.mark.parametrize("flag", ["-h", "--help"])
    def test_says_how_it_is_used(self, flag: str) -> None:
        done = run(flag).assert_merged()
        assert done.err == ""
        text = done.out.decode()
        assert text.startswith("Usage: streamerge [OPTIONS] IMAGE|LAYERS...")
        for word in (
            "the base first and the newest last",
            "--output",
            "--level",
            "--whiteouts",
            "--rescan",
            "--spool-memory",
            "--quiet",
        ):
            assert word in text

    def test_fits_a_terminal(self) -> None:
        assert max(len(line) for line in run("--help").out.decode().splitlines()) <= 110

    @pytest.mark.parametrize("flag", ["-V", "--version"])
    def test_version(self, flag: str) -> None:
        assert run(flag) == Done(0, f"streamerge {streamerge.__version__}\n".encode(), "")

    def test_is_installed_as_a_command(self, layers: list[Path], merged: bytes) -> None:
        command = shutil.which("streamerge", path=os.path.dirname(sys.executable))
        if command is None:
            missing("streamerge", "streamerge is not installed beside this Python")
        done = subprocess.run([str(command), *layers, "-o", "-"], env=environment(), capture_output=True, check=True)
        assert done.stdout == merged


class TestUsageErrors:
    def test_no_output(self, layers: list[Path]) -> None:
        run(*layers).assert_usage_error("-o")

    def test_no_layers(self, tmp_path: Path) -> None:
        run("-o", tmp_path / "out.tar").assert_usage_error("LAYERS")

    def test_unknown_option(self, layers: list[Path], tmp_path: Path) -> None:
        run(*layers, "-o", tmp_path / "out.tar", "--squash").assert_usage_error("--squash")

    @pytest.mark.parametrize(
        ("suffix", "level", "range_"),
        [
            ("gz", 10, "0 to 9"),
            ("gz", -1, "0 to 9"),
            ("zst", 23, "1 to 22"),
            ("lz4", 17, "to 16"),
            ("xz", 10, "0 to 9"),
            ("bz2", 0, "1 to 9"),
        ],
    )
    def test_a_level_that_the_tool_does_not_have(self, tmp_path: Path, suffix: str, level: int, range_: str) -> None:
        layer = one_layer(tmp_path)
        output = tmp_path / f"out.tar.{suffix}"
        run(layer, "-o", output, "--level", str(level)).assert_usage_error(range_)
        assert os.listdir(tmp_path) == [layer.name]

    def test_an_output_without_a_name(self, tmp_path: Path) -> None:
        run(one_layer(tmp_path), "-o", "").assert_usage_error("empty")

    def test_a_level_that_is_no_number(self, tmp_path: Path) -> None:
        run(one_layer(tmp_path), "-o", tmp_path / "out.tar.gz", "--level", "best").assert_usage_error("best")

    def test_a_level_where_nothing_is_compressed(self, tmp_path: Path) -> None:
        run(one_layer(tmp_path), "-o", tmp_path / "out.tar", "--level", "3").assert_usage_error("level")

    @pytest.mark.parametrize("size", ["5Q", "-1", "", "1.5G", "M", "٣"])
    def test_a_size_that_is_none(self, tmp_path: Path, size: str) -> None:
        run(one_layer(tmp_path), "-o", tmp_path / "out.tar", "--spool-memory", size).assert_usage_error("size")

    @pytest.mark.parametrize("size", ["0", "500", "64k", "64K", "64KiB", "64KB", "1M", "2G", "1T"])
    def test_a_size_that_is_one(self, tmp_path: Path, size: str) -> None:
        run(one_layer(tmp_path), "-o", tmp_path / "out.tar", "--spool-memory", size).assert_merged()

    def test_the_output_is_one_of_the_layers(self, layers: list[Path]) -> None:
        before = layers[1].read_bytes()
        run(*layers, "-o", layers[1]).assert_usage_error(str(layers[1]), "output")
        assert layers[1].read_bytes() == before

    def test_the_output_is_one_of_the_layers_by_another_name(self, layers: list[Path], tmp_path: Path) -> None:
        os.link(layers[0], tmp_path / "hard.tar")
        os.symlink(layers[0], tmp_path / "soft.tar")
        run(*layers, "-o", tmp_path / "hard.tar").assert_usage_error("output")
        run(*layers, "-o", tmp_path / "soft.tar").assert_usage_error("output")

    def test_a_directory_as_layer(self, layers: list[Path], tmp_path: Path) -> None:
        run(tmp_path, *layers, "-o", tmp_path / "out.tar").assert_usage_error(str(tmp_path), "directory")

    def test_standard_input_twice(self, tmp_path: Path) -> None:
        run("-", "-", "-o", tmp_path / "out.tar").assert_usage_error("twice")

    def test_a_pipe_by_two_names(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "one")
        os.link(tmp_path / "one", tmp_path / "two")
        run(tmp_path / "one", tmp_path / "two", "-o", tmp_path / "out.tar").assert_usage_error("twice")

    def test_a_terminal_gets_no_tar(self, layers: list[Path]) -> None:
        done = on_terminal(*layers, "-o", "-", stdout=True)
        assert done.code == 2
        assert "terminal" in done.err
        assert "ustar" not in done.err

    @pytest.mark.parametrize("epoch", ["tomorrow", "-1", "1.5", "", "999999999999"])
    def test_a_source_date_epoch_that_is_no_time(self, tmp_path: Path, epoch: str) -> None:
        done = run(one_layer(tmp_path), "-o", tmp_path / "out.tar", env={"SOURCE_DATE_EPOCH": epoch})
        done.assert_usage_error("SOURCE_DATE_EPOCH")


class TestErrors:
    """Exit code 1, one line on stderr: which layer, which path, where, what."""

    def test_a_layer_that_is_not_there(self, tmp_path: Path) -> None:
        run(tmp_path / "nothing.tar", "-o", tmp_path / "out.tar").assert_failed("nothing.tar", "No such file")
        assert os.listdir(tmp_path) == []

    def test_a_bad_entry_is_named_by_layer_path_and_offset(self, tmp_path: Path) -> None:
        bad = Layer().dir(b"etc").file(b"etc/a", b"data").file(b"../escape")
        layers = [one_layer(tmp_path), one_layer(tmp_path, bad, "bad.tar"), one_layer(tmp_path, name="top.tar")]
        done = run(*layers, "-o", tmp_path / "out.tar")
        done.assert_failed("layer 1 (bad.tar)", "../escape", "at byte 1536", "..")

    def test_the_offset_counts_decoded_bytes(self, tmp_path: Path) -> None:
        path = tmp_path / "bad.tar.gz"
        path.write_bytes(gzip.compress(Layer().file(b"big", bytes(1 << 20)).file(b"a/../b").tar()))
        run(path, "-o", tmp_path / "out.tar").assert_failed("layer 0 (bad.tar.gz)", f"at byte {512 + (1 << 20)}")

    def test_a_link_to_nothing(self, tmp_path: Path) -> None:
        bad = one_layer(tmp_path, Layer().link(b"usr/a", b"usr/b"))
        run(bad, "-o", tmp_path / "out.tar").assert_failed("layer 0 (layer.tar)", "usr/a", "usr/b")

    def test_what_is_no_tar(self, tmp_path: Path) -> None:
        (tmp_path / "page.html").write_text("<html>not found</html>" * 100)
        done = run(one_layer(tmp_path), tmp_path / "page.html", "-o", tmp_path / "out.tar")
        done.assert_failed("layer 1 (page.html)", "not a tar")

    def test_a_compression_that_is_not_read(self, tmp_path: Path) -> None:
        (tmp_path / "layer.zip").write_bytes(b"PK\x03\x04" + bytes(1000))
        run(tmp_path / "layer.zip", "-o", tmp_path / "out.tar").assert_failed("layer 0 (layer.zip)", "zip")

    def test_names_are_escaped(self, tmp_path: Path) -> None:
        bad = one_layer(tmp_path, Layer().link(b"a\nb\x1b[2J\xff", b"nothing"))
        run(bad, "-o", tmp_path / "out.tar").assert_failed(r"a\nb\x1b[2J\xff")

    def test_names_of_layers_are_escaped(self, tmp_path: Path) -> None:
        (tmp_path / "a\nb\x1b[2J.tar").write_bytes(b"no tar" * 100)
        run(tmp_path / "a\nb\x1b[2J.tar", "-o", tmp_path / "out.tar").assert_failed(r"a\nb\x1b[2J.tar")

    def test_an_output_that_is_a_directory(self, tmp_path: Path) -> None:
        run(one_layer(tmp_path), "-o", tmp_path).assert_failed(str(tmp_path), "directory")
        assert os.listdir(tmp_path) == ["layer.tar"]

    def test_an_output_in_a_directory_that_is_not_there(self, tmp_path: Path) -> None:
        run(one_layer(tmp_path), "-o", tmp_path / "no" / "out.tar").assert_failed("No such file or directory")

    def test_a_repeated_path_to_a_pipe_names_the_way_out(self, tmp_path: Path) -> None:
        twice = one_layer(tmp_path, Layer().dir(b"d").file(b"d/a", b"1").file(b"d/b").file(b"d/a", b"2"))
        run(twice, "-o", "-").assert_failed("layer 0 (layer.tar)", "d/a", "--rescan")
        done = run(twice, "-o", "-", "--rescan").assert_merged()
        assert tree.from_tar(done.out)[b"d/a"].content == tree.content_of(b"2")
        run(twice, "-o", tmp_path / "out.tar").assert_merged()
        assert (tmp_path / "out.tar").read_bytes() == done.out

    @pytest.mark.parametrize(
        "redirection",
        [
            "<&-",
            ">&-",
            "<&- >&-",
            "2>&-",
            ">&- 2>&-",
            "<&- >&- 2>&-",
        ],
    )
    def test_closed_descriptors_are_no_obstacle(
        self, layers: list[Path], merged: bytes, tmp_path: Path, redirection: str
    ) -> None:
        directory = tmp_path / "here"
        directory.mkdir()
        done = shell(f'streamerge -o out.tar "$@" {redirection}', *layers, cwd=directory).assert_merged()
        assert "Traceback" not in done.err
        assert os.listdir(directory) == ["out.tar"]
        assert (directory / "out.tar").read_bytes() == merged

    def test_no_standard_output_to_write_to(self, layers: list[Path], tmp_path: Path) -> None:
        done = shell('streamerge -o - "$@" >&-', *layers, cwd=tmp_path)
        assert done.code in (1, 2)
        assert "Traceback" not in done.err
        assert "standard output" in done.err

    def test_no_standard_input_to_read_from(self, tmp_path: Path) -> None:
        done = shell("streamerge -o out.tar - <&-", cwd=tmp_path)
        assert done.code in (1, 2)
        assert "Traceback" not in done.err
        assert "standard input" in done.err
        assert os.listdir(tmp_path) == []


class TestPipes:
    def test_standard_input(self, layers: list[Path], merged: bytes) -> None:
        *rest, newest = layers
        assert run(*rest, "-", "-o", "-", stdin=newest.read_bytes()).assert_merged().out == merged

    def test_standard_input_in_the_middle_is_promoted_from(self, layers: list[Path], merged: bytes) -> None:
        base, *rest = layers
        assert run("-", *rest, "-o", "-", stdin=gzip.compress(base.read_bytes())).assert_merged().out == merged

    def test_fifos(self, layers: list[Path], merged: bytes, tmp_path: Path) -> None:
        fifos = [tmp_path / f"fifo{number}" for number in range(len(layers))]
        feeders = []
        for fifo, layer in zip(fifos, layers, strict=True):
            os.mkfifo(fifo)
            feeders.append(threading.Thread(target=feed, args=(fifo, layer.read_bytes()), daemon=True))
            feeders[-1].start()
        assert run(*fifos, "-o", "-").assert_merged().out == merged
        for feeder in feeders:
            feeder.join(10)

    def test_process_substitution(self, layers: list[Path], merged: bytes, tmp_path: Path) -> None:
        done = shell('streamerge -o - <(cat "$1") <(gzip -c "$2") "$3" <(cat "$4")', *layers, cwd=tmp_path)
        assert done.assert_merged().out == merged

    def test_output_into_process_substitution(self, layers: list[Path], merged: bytes, tmp_path: Path) -> None:
        done = shell('streamerge -q "$@" -o >(cat)', *layers, cwd=tmp_path)
        assert done.assert_merged().out == merged

    def test_output_into_a_pipe(self, layers: list[Path], merged: bytes, tmp_path: Path) -> None:
        done = shell(
            'set -o pipefail; streamerge "$@" -o - | tar -t --quoting-style=escape | wc -l', *layers, cwd=tmp_path
        )
        with tarfile.open(fileobj=io.BytesIO(merged)) as tar:
            assert int(done.assert_merged().out) == len(tar.getnames())


def feed(fifo: Path, data: bytes) -> None:
    with fifo.open("wb") as file:
        file.write(data)


class TestOutput:
    def test_dev_null_survives(self, layers: list[Path]) -> None:
        before = os.lstat("/dev/null")
        assert SUMMARY.fullmatch(run(*layers, "-o", "/dev/null").assert_merged().err)
        after = os.lstat("/dev/null")
        assert (after.st_mode, after.st_rdev, after.st_ino) == (before.st_mode, before.st_rdev, before.st_ino)

    def test_a_fifo_is_written_to_and_stays_one(self, layers: list[Path], merged: bytes, tmp_path: Path) -> None:
        done = shell('mkfifo f; cat f & streamerge -q "$@" -o f; code=$?; wait; [[ -p f ]] && exit $code',
                     *layers, cwd=tmp_path)  # fmt: skip
        assert done.assert_merged().out == merged

    def test_a_symlink_stays_and_its_target_is_replaced(
        self, layers: list[Path], merged: bytes, tmp_path: Path
    ) -> None:
        (tmp_path / "elsewhere").mkdir()
        target = tmp_path / "elsewhere" / "real.tar"
        target.write_bytes(b"old")
        (tmp_path / "link.tar").symlink_to("elsewhere/real.tar")
        run(*layers, "-o", tmp_path / "link.tar").assert_merged()
        assert (tmp_path / "link.tar").is_symlink()
        assert target.read_bytes() == merged
        assert os.listdir(target.parent) == ["real.tar"]

    def test_a_dangling_symlink_gets_its_target(self, layers: list[Path], merged: bytes, tmp_path: Path) -> None:
        (tmp_path / "link.tar").symlink_to("real.tar")
        run(*layers, "-o", tmp_path / "link.tar").assert_merged()
        assert (tmp_path / "real.tar").read_bytes() == merged

    def test_what_was_there_is_replaced(self, layers: list[Path], merged: bytes, tmp_path: Path) -> None:
        output = tmp_path / "out.tar"
        output.write_bytes(b"old" * 1_000_000)
        run(*layers, "-o", output).assert_merged()
        assert output.read_bytes() == merged

    def test_a_link_to_the_old_output_keeps_the_old_bytes(self, layers: list[Path], tmp_path: Path) -> None:
        output = tmp_path / "out.tar"
        output.write_bytes(b"old")
        os.link(output, tmp_path / "kept.tar")
        run(*layers, "-o", output).assert_merged()
        assert (tmp_path / "kept.tar").read_bytes() == b"old"

    def test_the_umask_decides_who_may_read_it(self, layers: list[Path], tmp_path: Path) -> None:
        shell('umask 027; streamerge "$@" -o out.tar', *layers, cwd=tmp_path).assert_merged()
        assert (tmp_path / "out.tar").stat().st_mode & 0o777 == 0o640

    def test_no_fsync_changes_no_byte(self, layers: list[Path], merged: bytes, tmp_path: Path) -> None:
        run(*layers, "-o", tmp_path / "out.tar", "--no-fsync").assert_merged()
        assert (tmp_path / "out.tar").read_bytes() == merged

    def test_a_relative_name(self, layers: list[Path], merged: bytes, tmp_path: Path) -> None:
        run(*layers, "-o", "out.tar", cwd=tmp_path).assert_merged()
        assert (tmp_path / "out.tar").read_bytes() == merged

    @pytest.mark.parametrize(
        "name",
        ["x" * 255, "ü" * 127, "\udcff" * 255],
        ids=["ascii", "utf-8", "latin-1"],
    )
    def test_the_longest_names_of_a_file_system(
        self, layers: list[Path], merged: bytes, tmp_path: Path, name: str
    ) -> None:
        run(*layers, "-o", tmp_path / name).assert_merged()
        assert (tmp_path / name).read_bytes() == merged

    def test_a_name_that_looks_like_an_option(self, layers: list[Path], merged: bytes, tmp_path: Path) -> None:
        shutil.copy(layers[0], tmp_path / "-q")
        run("-o", "--out.tar", "--", "-q", *layers[1:], cwd=tmp_path).assert_merged()
        assert (tmp_path / "--out.tar").read_bytes() == merged


TOOLS = [
    (".tar.gz", "gzip"),
    (".tgz", "gzip"),
    (".TAR.GZ", "gzip"),
    (".tar.zst", "zstd"),
    (".tar.lz4", "lz4"),
    (".tar.xz", "xz"),
    (".tar.bz2", "bzip2"),
]


class TestCompressedOutput:
    @pytest.mark.parametrize(("suffix", "tool"), TOOLS)
    def test_the_real_tool_decodes_it(
        self, layers: list[Path], merged: bytes, tmp_path: Path, need_tool: NeedTool, suffix: str, tool: str
    ) -> None:
        outputs = [tmp_path / f"{number}{suffix}" for number in range(2)]
        for output in outputs:
            run(*layers, "-o", output).assert_merged()
        with outputs[0].open("rb") as file:
            decoded = subprocess.run([need_tool(tool), "-dc"], stdin=file, capture_output=True, check=True)
        assert decoded.stdout == merged
        assert decoded.stderr == b""
        assert len(outputs[0].read_bytes()) < len(merged)
        assert outputs[0].read_bytes() == outputs[1].read_bytes()

    @pytest.mark.parametrize(("suffix", "tool"), TOOLS)
    def test_a_level_tells_only_in_the_size(
        self, layers: list[Path], merged: bytes, tmp_path: Path, need_tool: NeedTool, suffix: str, tool: str
    ) -> None:
        output = tmp_path / f"out{suffix}"
        run(*layers, "-o", output, "--level", "1").assert_merged()
        with output.open("rb") as file:
            assert subprocess.run([need_tool(tool), "-dc"], stdin=file, capture_output=True).stdout == merged

    def test_only_the_last_suffix_counts(self, layers: list[Path], merged: bytes, tmp_path: Path) -> None:
        run(*layers, "--format", "tar", "-o", tmp_path / "out.gz.img").assert_merged()
        assert (tmp_path / "out.gz.img").read_bytes() == merged


COMPRESSORS = [
    ("gzip", []),
    ("gzip", ["-9"]),
    ("pigz", ["-b", "128", "-p", "2"]),
    ("zstd", ["-q", "-19"]),
    ("zstd", ["-q", "-T2", "--no-check"]),
    ("lz4", ["-q"]),
    ("lz4", ["-q", "-9", "-BD"]),
    ("xz", []),
    ("bzip2", []),
]


class TestSameBytes:
    @pytest.mark.parametrize(("tool", "options"), COMPRESSORS)
    def test_however_layers_are_compressed(
        self, layers: list[Path], merged: bytes, need_tool: NeedTool, tool: str, options: list[str]
    ) -> None:
        for layer in layers:
            packed = subprocess.run(
                [need_tool(tool), *options, "-c"], input=layer.read_bytes(), capture_output=True, check=True
            )
            layer.write_bytes(packed.stdout)
        assert run(*layers, "-o", "-").assert_merged().out == merged

    @pytest.mark.parametrize(
        "changes",
        [
            {"PYTHONHASHSEED": "0"},
            {"PYTHONHASHSEED": "4242"},
            {"TZ": "Pacific/Kiritimati"},
            {"TZ": "America/St_Johns"},
            {"LC_ALL": "C"},
            {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            {"LC_ALL": "C.UTF-8"},
            {"PYTHONOPTIMIZE": "2"},
            {"HOME": None, "TMPDIR": "/nonexistent", "PATH": None},
        ],
        ids=str,
    )
    def test_whatever_the_environment(self, layers: list[Path], merged: bytes, changes: dict[str, str | None]) -> None:
        assert run(*layers, "-o", "-", env=changes).assert_merged().out == merged

    def test_whatever_the_spool_may_keep_in_memory(self, layers: list[Path], merged: bytes) -> None:
        done = run("-", *layers[1:], "-o", "-", "--spool-memory", "0", stdin=layers[0].read_bytes())
        assert done.assert_merged().out == merged

    def test_with_headers_read_first(self, layers: list[Path], merged: bytes) -> None:
        assert tree.from_tar(run(*layers, "-o", "-", "--rescan").assert_merged().out) == tree.from_tar(merged)

    def test_whenever_it_runs(self, layers: list[Path], merged: bytes) -> None:
        for layer in layers:
            os.utime(layer, (0, 0))
        assert run(*layers, "-o", "-").assert_merged().out == merged


class TestSourceDateEpoch:
    def test_is_the_time_of_directories_that_no_layer_lists(self, tmp_path: Path) -> None:
        layer = one_layer(tmp_path, Layer().file(b"implicit/a", mtime=5 * SECOND))
        shown = tree.from_tar(run(layer, "-o", "-", env={"SOURCE_DATE_EPOCH": "1700000000"}).assert_merged().out)
        assert shown[b""].mtime_ns == shown[b"implicit"].mtime_ns == 1_700_000_000 * SECOND
        assert shown[b"implicit/a"].mtime_ns == 5 * SECOND

    def test_is_the_epoch_when_not_given(self, tmp_path: Path) -> None:
        layer = one_layer(tmp_path, Layer().file(b"implicit/a", mtime=5 * SECOND))
        shown = tree.from_tar(run(layer, "-o", "-", env={"SOURCE_DATE_EPOCH": None}).assert_merged().out)
        assert shown[b""].mtime_ns == shown[b"implicit"].mtime_ns == 0


class TestWhiteouts:
    def test_only_names_count_by_default(self, tmp_path: Path) -> None:
        assert set(self.merged(tmp_path, "oci")) == {b"", b"d", b"d/kept", b"d/devices"}

    def test_only_devices_count_for_overlay(self, tmp_path: Path) -> None:
        assert set(self.merged(tmp_path, "overlay")) == {b"", b"d", b"d/kept", b"d/names", b"d/.wh.names"}

    def test_both_count(self, tmp_path: Path) -> None:
        assert set(self.merged(tmp_path, "any")) == {b"", b"d", b"d/kept"}

    def merged(self, directory: Path, style: str) -> tree.Tree:
        base = Layer().dir(b"d").file(b"d/kept").file(b"d/names").file(b"d/devices")
        newer = Layer().dir(b"d").whiteout(b"d/names").char(b"d/devices", 0, 0)
        layers = [one_layer(directory, base, "base.tar"), one_layer(directory, newer, "newer.tar")]
        return tree.from_tar(run(*layers, "-o", "-", "--whiteouts", style).assert_merged().out)


class TestWhatItSays:
    def test_one_line_at_the_end(self) -> None:
        done = run(*example_layers(), "-o", "/dev/null").assert_merged()
        assert SUMMARY.fullmatch(done.err)
        assert done.err.startswith("streamerge: 3 layers: ")
        assert "1 hard link promoted" in done.err

    def test_the_line_counts(self, tmp_path: Path) -> None:
        base = Layer().dir(b"").dir(b"d").file(b"d/a", bytes(1536)).file(b"d/b")
        newer = Layer().dir(b"d").file(b"d/a")
        layers = [one_layer(tmp_path, base, "base.tar"), one_layer(tmp_path, newer, "newer.tar")]
        done = run(*layers, "-o", "/dev/null").assert_merged()
        assert done.err.startswith("streamerge: 2 layers: 4 entries written, 1 hidden (1.5 KiB), 0 hard links promoted")

    def test_nothing_when_quiet(self, layers: list[Path], merged: bytes) -> None:
        assert run(*layers, "-q", "-o", "-") == Done(0, merged, "")

    def test_errors_even_when_quiet(self, tmp_path: Path) -> None:
        run(tmp_path / "nothing.tar", "-q", "-o", tmp_path / "out.tar").assert_failed("nothing.tar")

    def test_a_warning_is_a_line_with_layer_and_path(self, tmp_path: Path) -> None:
        base = one_layer(tmp_path, Layer().symlink(b"lib", b"usr/lib"), "base.tar")
        newer = one_layer(tmp_path, Layer().file(b"lib/a"), "newer.tar")
        done = run(base, newer, "-o", "/dev/null").assert_merged()
        warning, last = done.err.splitlines(keepends=True)
        assert re.match(r"streamerge: warning: layer \d \((base|newer)\.tar\): lib: ", warning)
        assert SUMMARY.fullmatch(last)
        assert run(base, newer, "-q", "-o", "/dev/null").assert_merged().err == ""

    def test_many_warnings_are_counted(self, tmp_path: Path) -> None:
        base, newer = Layer(), Layer()
        for number in range(50):
            base = base.symlink(b"lib%d" % number, b"usr")
            newer = newer.file(b"lib%d/a" % number)
        layers = [one_layer(tmp_path, base, "base.tar"), one_layer(tmp_path, newer, "newer.tar")]
        lines = run(*layers, "-o", "/dev/null").assert_merged().err.splitlines()
        assert len(lines) == 22
        assert "30 more" in lines[20]

    def test_progress_on_a_terminal(self, layers: list[Path], tmp_path: Path) -> None:
        done = on_terminal(*layers, "-o", tmp_path / "out.tar", stdout=False).assert_merged()
        assert "\x1b[" in done.err
        assert "entries" in done.err
        last = done.err.rstrip("\r\n").splitlines()[-1]
        assert "4 layers: " in last

    def test_no_progress_on_a_terminal_when_quiet(self, layers: list[Path], tmp_path: Path) -> None:
        done = on_terminal(*layers, "-q", "-o", tmp_path / "out.tar", stdout=False).assert_merged()
        assert done.err == ""

    def test_no_progress_in_a_pipe(self, layers: list[Path]) -> None:
        done = run(*layers, "-o", "/dev/null", env={"TERM": "xterm", "FORCE_COLOR": "1"}).assert_merged()
        assert "\x1b" not in done.err

    def test_a_terminal_that_can_do_nothing(self, layers: list[Path], tmp_path: Path) -> None:
        env = {"TERM": "dumb", "COLUMNS": "20"}
        done = on_terminal(*layers, "-o", tmp_path / "out.tar", stdout=False, env=env).assert_merged()
        assert "4 layers: " in done.err

    def test_no_traceback_when_standard_error_is_full(self, layers: list[Path], merged: bytes) -> None:
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                argv(*layers, "-o", "-"), stdout=subprocess.PIPE, stderr=full, env=environment(), timeout=60
            )
        assert done.stdout == merged
