"""What goes wrong outside: all or nothing, one line, and never a tar that only looks complete."""

from __future__ import annotations

import errno
import gzip
import os
import random
import signal
import stat
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from streamerge.cli import main as cli
from streamerge.cli import merge_command
from streamerge.cli import terminal as progress
from tests.support import tree
from tests.support.command import UNCOUNTED, Done, end_soon, finished, run, shell, start
from tests.support.layers import BLOCK, SECOND, Layer
from tests.support.odd import odd_stack, write_layers

NeedTool = Callable[[str], str]

OLD = b"the output of an earlier run"
END_OF_ARCHIVE = bytes(2 * BLOCK)
WITHOUT_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
"""Runs as root to whom file permissions apply, as they do to the owner."""


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that neither compress nor end in zeros."""
    return random.Random(seed).randbytes(size - 1) + b"\xff"


def write(path: Path, layer: Layer) -> Path:
    path.write_bytes(layer.tar())
    return path


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """Something to merge, larger than any buffer on its way."""
    return write(tmp_path / "layer.tar", Layer().dir(b"d").file(b"d/noise", noise(5 << 20)))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """An output that exists already, alone in its directory."""
    directory = tmp_path / "output"
    directory.mkdir()
    path = directory / "out.tar"
    path.write_bytes(OLD)
    return path


def assert_untouched(output: Path) -> None:
    assert os.listdir(output.parent) == [output.name]
    assert output.read_bytes() == OLD


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs the command in this process, for tests that run it hundreds of times."""

    def call(*arguments: str | Path) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main([os.fspath(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return Done(caught.value.code, out.encode(), err)

    return call


@pytest.fixture
def disk(tmp_path: Path, need_tool: NeedTool) -> Iterator[Path]:
    """A file system of 1 MiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    subprocess.run([need_tool("mount"), "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory], check=True)
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


# --- input that ends too early -------------------------------------------------------------------


def small_layer() -> Layer:
    """Bodies of whole and of broken blocks, an extension header, and what has no body."""
    return (
        Layer()
        .dir(b"d")
        .file(b"d/700", noise(700))
        .file(b"d/1024", noise(1024), xattrs={b"user.note": b"x"})
        .symlink(b"d/link", b"700")
        .file(b"d/empty")
        .file(b"d/1", b"1")
    )


def header_edges(layer: Layer) -> dict[int, int]:
    """Where a tar may end (rule 10), and how many entries it then has."""
    edges = {}
    for count in range(len(layer.items) + 1):
        part = Layer(layer.items[:count]).tar(end=False)
        edges[len(part)] = count
    edges[len(part) + BLOCK] = count
    return edges


@pytest.mark.parametrize("size", range(0, len(small_layer().tar()), BLOCK))
def test_a_tar_cut_at_any_block(tmp_path: Path, output: Path, call: Callable[..., Done], size: int) -> None:
    cut = tmp_path / "cut.tar"
    cut.write_bytes(small_layer().tar()[:size])
    done = call("-q", cut, "-o", output)
    edges = header_edges(small_layer())
    if size in edges:
        done.assert_merged()
        expected = {b"", *(spec.path for spec in small_layer().entries[: edges[size]])}
        assert set(tree.from_tar_file(output)) == expected
    else:
        done.assert_failed("layer 0 (cut.tar)", "ends")
        assert_untouched(output)


@pytest.mark.slow
def test_a_tar_cut_anywhere_in_a_block(tmp_path: Path, output: Path, call: Callable[..., Done]) -> None:
    data = Layer().dir(b"d").file(b"d/a", b"x" * 300).tar(end=False)
    for size in range(1, len(data)):
        (tmp_path / "cut.tar").write_bytes(data[:size])
        done = call("-q", tmp_path / "cut.tar", "-o", output)
        if size == BLOCK or size >= 2 * BLOCK + 300:  # umoci ends layers with the last body
            done.assert_merged()
            output.write_bytes(OLD)
        else:
            done.assert_failed("layer 0 (cut.tar)", "truncated")
            assert_untouched(output)


@pytest.mark.parametrize("stored", [True, False])
def test_a_gzip_cut_at_any_byte(tmp_path: Path, output: Path, call: Callable[..., Done], stored: bool) -> None:
    """Also where the tar is complete already: a stream without its checksum is not whole."""
    data = gzip.compress(Layer().dir(b"d").file(b"d/a", b"some data").tar(), 0 if stored else 9, mtime=0)
    step = 13 if stored else 1
    for size in [*range(1, len(data), step), *range(len(data) - 10, len(data))]:
        (tmp_path / "cut.tar.gz").write_bytes(data[:size])
        call("-q", tmp_path / "cut.tar.gz", "-o", output).assert_failed("layer 0 (cut.tar.gz)")
        assert_untouched(output)


@pytest.mark.parametrize("tool", ["gzip", "zstd", "lz4", "xz", "bzip2"])
def test_a_compressed_layer_cut_short(
    tmp_path: Path, output: Path, layer: Path, need_tool: NeedTool, tool: str
) -> None:
    data = subprocess.run([need_tool(tool), "-c", layer], capture_output=True, check=True).stdout
    for size in (len(data) // 2, len(data) - 1):
        (tmp_path / "cut").write_bytes(data[:size])
        run(layer, tmp_path / "cut", "-o", output).assert_failed("layer 1 (cut)")
        assert_untouched(output)


def test_a_checksum_that_only_the_end_betrays(tmp_path: Path, output: Path, layer: Path) -> None:
    """All entries are written by then; what follows the end-of-archive blocks must still be read."""
    data = bytearray(gzip.compress(layer.read_bytes() + bytes(1 << 20), 1))
    data[-8:-4] = (zlib.crc32(b"") + 1).to_bytes(4, "little")
    (tmp_path / "bad.tar.gz").write_bytes(data)
    run(tmp_path / "bad.tar.gz", "-o", output).assert_failed("layer 0 (bad.tar.gz)")
    assert_untouched(output)
    done = run(tmp_path / "bad.tar.gz", "-o", "-").assert_failed("layer 0 (bad.tar.gz)")
    assert not done.out.endswith(END_OF_ARCHIVE)


@pytest.mark.parametrize("bad", ["older", "newer"])
def test_a_failed_merge_to_a_pipe_does_not_end_the_archive(tmp_path: Path, layer: Path, bad: str) -> None:
    cut = tmp_path / "cut.tar"
    cut.write_bytes(Layer().dir(b"e").file(b"e/noise", noise(3 << 20, 1)).tar()[: 2 << 20])
    layers = [cut, layer] if bad == "older" else [layer, cut]
    done = run(*layers, "-o", "-").assert_failed("(cut.tar)", "truncated")
    assert done.out or bad == "newer", "of a body that is not all there nothing is fetched"
    assert not done.out.endswith(END_OF_ARCHIVE)


def test_a_layer_that_cannot_be_read(output: Path) -> None:
    """A read of it gives EIO, as a bad disk does."""
    run("/proc/self/mem", "-o", output).assert_failed("layer 0 (mem)", "Input/output error")
    assert_untouched(output)


@pytest.mark.root
def test_a_layer_one_may_not_read(tmp_path: Path, output: Path, layer: Path) -> None:
    secret = write(tmp_path / "secret.tar", Layer().dir(b"s"))
    secret.chmod(0)
    done = run(layer, secret, "-o", output, prefix=WITHOUT_CAPABILITIES)
    done.assert_failed("layer 1 (secret.tar)", "Permission denied")
    assert_untouched(output)


# --- input that changes --------------------------------------------------------------------------


class Stalled:
    """A merge that waits for its FIFO layer, at ``place`` in the stack; all before it has been read."""

    def __init__(self, directory: Path, layers: list[Path], place: int, *options: str | Path) -> None:
        fifo = directory / "fifo"
        os.mkfifo(fifo)
        self.process = start(*layers[:place], fifo, *layers[place:], *options)
        self._fd = os.open(fifo, os.O_WRONLY)  # returns when the merge has opened it
        os.write(self._fd, Layer().dir(b"fifo", mtime=SECOND).tar(end=False))

    def release(self) -> Done:
        """Let the FIFO's layer end."""
        os.close(self._fd)
        self._fd = -1
        return finished(self.process)

    def signal(self, number: int) -> Done:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        return finished(self.process)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        if self.process.poll() is None:
            self.process.kill()
            finished(self.process)


@contextmanager
def stalled(directory: Path, layers: list[Path], place: int, *options: str | Path) -> Iterator[Stalled]:
    merge = Stalled(directory, layers, place, *options)
    try:
        yield merge
    finally:
        merge.close()


def test_a_layer_that_vanishes_before_it_is_opened(tmp_path: Path, output: Path, layer: Path) -> None:
    """Some layers are opened before their turn; this one is too far away."""
    between = [write(tmp_path / f"between-{number}.tar", Layer().dir(b"d")) for number in range(10)]
    with stalled(tmp_path, [layer, *between], 11, "-o", output) as merge:
        layer.unlink()
        merge.release().assert_failed("layer 0 (layer.tar)", "No such file")
    assert_untouched(output)


def waiting_layer(directory: Path) -> Path:
    """A layer that must be read once more at the end: its file waits for a directory that never comes."""
    return write(directory / "waits.tar", Layer().dir(b"e").file(b"e/x", b"y" * 2000).file(b"never/listed", b"z"))


def test_a_layer_that_vanishes_before_it_is_read_again(tmp_path: Path, output: Path) -> None:
    with stalled(tmp_path, [waiting_layer(tmp_path)], 0, "-o", output) as merge:
        wait_for_partial(output, size=0)
        time.sleep(1)  # it has been read once by now
        (tmp_path / "waits.tar").unlink()
        merge.release().assert_failed("waits.tar", "No such file")
    assert_untouched(output)


@pytest.mark.parametrize(
    "change",
    [b"", bytes(10240), b"rubbish" * 1000, Layer().dir(b"e").tar()],
    ids=["empty", "zeros", "rubbish", "another tar"],
)
def test_a_layer_that_is_replaced_before_it_is_read_again(tmp_path: Path, output: Path, change: bytes) -> None:
    with stalled(tmp_path, [waiting_layer(tmp_path)], 0, "-o", output) as merge:
        wait_for_partial(output, size=0)
        time.sleep(1)  # it has been read once by now
        (tmp_path / "waits.tar").write_bytes(change)
        merge.release().assert_failed("waits.tar")
    assert_untouched(output)


def wait_for_partial(output: Path, size: int) -> Path:
    """Wait until the output's temporary file is there and has over ``size`` bytes."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for path in output.parent.iterdir():
            if path != output and path.stat().st_size >= size:
                return path
        time.sleep(0.01)
    raise AssertionError("the merge has not begun to write")


# --- signals -------------------------------------------------------------------------------------

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
CODES = {signal.SIGINT: (130,), signal.SIGTERM: (143,), signal.SIGHUP: (129, -signal.SIGHUP)}


def assert_stopped(done: Done, number: signal.Signals) -> None:
    """The code that a shell expects, and one line at most (click ends the line of a terminal's ^C first)."""
    assert done.code in CODES[number], done.err
    assert "Traceback" not in done.err
    assert done.err.strip().count("\n") == 0


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("suffix", ["", ".tar.gz"])
def test_a_signal_while_reading(tmp_path: Path, output: Path, layer: Path, suffix: str, number: signal.Signals) -> None:
    output = output.rename(output.with_name("out" + suffix))
    with stalled(tmp_path, [layer], 0, "-o", output) as merge:
        wait_for_partial(output, size=1 << 20)
        done = merge.signal(number)
    assert_stopped(done, number)
    assert_untouched(output)


@pytest.mark.parametrize("number", CODES)
def test_a_signal_while_writing_to_a_pipe(tmp_path: Path, layer: Path, number: signal.Signals) -> None:
    with stalled(tmp_path, [layer], 0, "-o", "-") as merge:
        assert merge.process.stdout is not None
        begin = os.read(merge.process.stdout.fileno(), 512)
        done = merge.signal(number)
    assert_stopped(done, number)
    assert begin[257:262] == b"ustar"
    assert done.out
    assert not done.out.endswith(END_OF_ARCHIVE)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_nobody_writes_a_layer(tmp_path: Path, layer: Path, number: signal.Signals) -> None:
    os.mkfifo(tmp_path / "fifo")
    process = start(layer, tmp_path / "fifo", "-o", tmp_path / "out.tar")
    wait_until_asleep(process.pid)
    process.send_signal(number)
    assert_stopped(finished(process), number)
    assert sorted(os.listdir(tmp_path)) == ["fifo", "layer.tar"]


@pytest.mark.parametrize("number", CODES)
def test_a_signal_while_nobody_reads_the_output(tmp_path: Path, layer: Path, number: signal.Signals) -> None:
    os.mkfifo(tmp_path / "fifo")
    process = start(layer, "-o", tmp_path / "fifo")
    wait_until_asleep(process.pid)
    process.send_signal(number)
    assert_stopped(finished(process), number)
    assert sorted(os.listdir(tmp_path)) == ["fifo", "layer.tar"]


def wait_until_asleep(pid: int) -> None:
    """Wait until a process has its handlers and does nothing any more."""
    status = Path(f"/proc/{pid}/status")
    asleep = 0
    deadline = time.monotonic() + 30
    while asleep < 15 and time.monotonic() < deadline:
        text = status.read_text()
        caught = int(text.partition("SigCgt:\t")[2].split()[0], 16)
        ready = caught >> (signal.SIGTERM - 1) & 1 and "State:\tS" in text
        asleep = asleep + 1 if ready else 0
        time.sleep(0.02)


def test_an_interrupt_as_the_merge_begins(
    tmp_path: Path, output: Path, layer: Path, call: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the progress display is being imported, which takes longer than a small merge."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(progress.Terminal, "__enter__", interrupted)
    assert call(layer, "-o", output).code == 130
    assert_untouched(output)


def test_what_nohup_protects_goes_on(tmp_path: Path, layer: Path, need_tool: NeedTool) -> None:
    need_tool("nohup")
    script = """
        mkfifo fifo
        trap '' HUP
        streamerge "$1" fifo -q -o out.tar & merge=$!
        exec 3>fifo
        kill -HUP $merge; sleep 0.2
        head -c 1024 /dev/zero >&3
        exec 3>&-
        wait $merge
    """
    shell(script, layer, cwd=tmp_path).assert_merged()
    assert (tmp_path / "out.tar").exists()


def test_after_a_kill_the_next_run_is_none_the_worse(tmp_path: Path, output: Path, layer: Path) -> None:
    with stalled(tmp_path, [layer], 0, "-o", output) as merge:
        wait_for_partial(output, size=1 << 20)
        assert merge.signal(signal.SIGKILL).code == -signal.SIGKILL
    assert output.read_bytes() == OLD
    run(layer, "-o", output).assert_merged()
    assert set(tree.from_tar_file(output)) == {b"", b"d", b"d/noise"}


# --- output that cannot be written ---------------------------------------------------------------


@pytest.mark.root
@pytest.mark.parametrize("size", [900 << 10, 1023 << 10, 5 << 20], ids=["at the end", "at the very end", "early"])
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.zst"])
def test_a_full_disk(tmp_path: Path, disk: Path, size: int, suffix: str) -> None:
    (disk / f"out{suffix}").write_bytes(OLD)
    (disk / "other").write_bytes(bytes(200 << 10))
    layer = write(tmp_path / "layer.tar", Layer().dir(b"d").file(b"d/noise", noise(size)))
    run(layer, "-o", disk / f"out{suffix}").assert_failed("No space left on device", f"out{suffix}")
    assert sorted(os.listdir(disk)) == ["other", f"out{suffix}"]
    assert (disk / f"out{suffix}").read_bytes() == OLD


@pytest.mark.root
def test_a_disk_without_room_for_a_name(disk: Path, layer: Path) -> None:
    subprocess.run(["mount", "-o", "remount,nr_inodes=1", disk], check=True)
    run(layer, "-o", disk / "out.tar").assert_failed("cannot create", "out.tar")


def test_dev_full(layer: Path) -> None:
    run(layer, "-o", "/dev/full").assert_failed("/dev/full", "No space left on device")


def test_standard_output_is_full(tmp_path: Path, layer: Path) -> None:
    shell('streamerge "$1" -o - >/dev/full', layer, cwd=tmp_path).assert_failed("standard output", "No space left")


def test_a_small_merge_to_a_full_device(tmp_path: Path) -> None:
    """So small that nothing is written before the end."""
    small = write(tmp_path / "small.tar", Layer().dir(b"d"))
    run(small, "-o", "/dev/full").assert_failed("No space left on device")


@pytest.mark.parametrize("reader", ["head -c 1000", "true", "sleep 0"])
def test_a_reader_that_goes_away(tmp_path: Path, layer: Path, reader: str) -> None:
    """Quiet, as everyone in a pipeline is, but never a success."""
    done = shell(f'streamerge "$1" "$1" "$1" -o - | {reader} >/dev/null; exit "${{PIPESTATUS[0]}}"',
                 layer, cwd=tmp_path)  # fmt: skip
    assert done.code not in (0, 2)
    assert done.err == ""


def test_a_fifo_whose_reader_goes_away(tmp_path: Path, layer: Path) -> None:
    done = shell('mkfifo f; head -c 1000 f >/dev/null & streamerge "$1" -o f; code=$?; wait; exit $code',
                 layer, cwd=tmp_path)  # fmt: skip
    assert done.code not in (0, 2)
    assert done.err == ""


@pytest.mark.root
def test_a_directory_one_may_not_write_to(output: Path, layer: Path) -> None:
    output.parent.chmod(0o555)
    run(layer, "-o", output, prefix=WITHOUT_CAPABILITIES).assert_failed("cannot create", "Permission denied")
    assert_untouched(output)


@pytest.mark.root
def test_a_file_system_that_is_read_only(disk: Path, layer: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    run(layer, "-o", disk / "out.tar").assert_failed("cannot create", "Read-only file system")


def test_a_limit_on_file_sizes(output: Path, layer: Path, need_tool: NeedTool) -> None:
    limit = (need_tool("prlimit"), "--fsize=2097152")
    run(layer, "-o", output, prefix=limit).assert_failed("File too large")
    assert_untouched(output)


@pytest.mark.parametrize("name", ["out.tar", "root/"])
@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL])
def test_a_directory_that_cannot_be_flushed(
    call: Callable[..., Done], tmp_path: Path, layer: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    """What has its name by then is not taken back; that some file systems flush no directories is no error."""
    flush = os.fsync

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(number, os.strerror(number))
        flush(fd)

    (tmp_path / "there").mkdir()
    monkeypatch.setattr(os, "fsync", fsync)
    done = call(layer, "-q", "-o", f"{tmp_path}/there/{name}")
    if number == errno.EIO:
        done.assert_failed(f"there/{name.rstrip('/')} is complete, but", "Input/output error")
    else:
        done.assert_merged()
    assert os.listdir(tmp_path / "there") == [name.rstrip("/")]


def test_too_little_memory(tmp_path: Path, output: Path, need_tool: NeedTool) -> None:
    """It was a traceback. What waits for a link is more than the system gives."""
    newer, older = Layer().dir(b"d"), Layer().dir(b"d").link(b"d/link", b"d/0")
    for number in range(100):
        newer = newer.file(b"d/%d" % number)
        older = older.file(b"d/%d" % number, bytes(3 << 20))
    (tmp_path / "older.tar.gz").write_bytes(gzip.compress(older.tar(), 1))
    layers = [tmp_path / "older.tar.gz", write(tmp_path / "newer.tar", newer)]
    limit = (need_tool("prlimit"), f"--as={250 << 20}")
    done = run(*layers, "--spool-memory", "1G", "-o", output, prefix=limit, env=UNCOUNTED)
    done.assert_failed("not enough memory")
    assert_untouched(output)


def test_what_no_part_of_the_program_expects(call: Callable[..., Done], output: Path, layer: Path) -> None:
    """A module that cannot be loaded, say: with few descriptors it was a traceback."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merge_command, "merge", raises(OSError(errno.EMFILE, "Too many open files", "module.py")))
        call(layer, "-o", output).assert_failed("cannot continue: Too many open files")
        patch.setattr(merge_command, "merge", raises(ImportError("module.so: cannot open shared object file")))
        call(layer, "-o", output).assert_failed("cannot continue: module.so")
        patch.setattr(merge_command, "merge", raises(MemoryError()))
        call(layer, "-o", output).assert_failed("not enough memory")
    assert_untouched(output)


def raises(error: BaseException) -> Callable[..., None]:
    def function(*_: object) -> None:
        raise error

    return function


def test_two_merges_into_one_output(tmp_path: Path, output: Path, layer: Path) -> None:
    """Each is whole, and the last to finish stands."""
    layers = write_layers(odd_stack(), tmp_path)
    for number in range(2):
        (tmp_path / str(number)).mkdir()
    with (
        stalled(tmp_path / "0", [layer], 0, "-o", output) as first,
        stalled(tmp_path / "1", layers, 0, "-o", output) as second,
    ):
        wait_for_partial(output, size=1 << 20)
        second.release().assert_merged()
        assert b"bin/zcat" in tree.from_tar_file(output)
        first.release().assert_merged()
    assert set(tree.from_tar_file(output)) == {b"", b"d", b"d/noise", b"fifo"}
    assert os.listdir(output.parent) == [output.name]


# --- the spool -----------------------------------------------------------------------------------


@pytest.mark.root
def test_a_spool_on_a_full_disk(tmp_path: Path, disk: Path, output: Path, layer: Path) -> None:
    """A pipe's hidden body may be needed by a hard link later, and has to be kept somewhere."""
    hides = write(tmp_path / "hides.tar", Layer().dir(b"d").file(b"d/noise"))
    options = ("--spool-memory", "64K", "-o", output)
    done = run("-", hides, *options, stdin=layer.read_bytes(), env={"TMPDIR": str(disk)})
    done.assert_failed("spool", str(disk), "No space left on device")
    assert_untouched(output)
    assert os.listdir(disk) == []


@pytest.mark.root
@pytest.mark.mount_namespaces
def test_a_spool_without_any_place(tmp_path: Path, output: Path, layer: Path) -> None:
    """Not one directory that Python takes for temporary files can be written to."""
    hides = write(tmp_path / "hides.tar", Layer().dir(b"d").file(b"d/noise"))
    script = """
        mount -t tmpfs tmpfs /tmp -o ro; mount -t tmpfs tmpfs /var/tmp -o ro
        [[ ! -d /usr/tmp ]] || mount -t tmpfs tmpfs /usr/tmp -o ro
        cd /proc; exec "$@"
    """
    here = os.getcwd()
    if here.startswith(("/tmp/", "/var/tmp/")) or str(tmp_path).startswith("/tmp/"):
        script = script.replace("mount -t tmpfs tmpfs /tmp -o ro;", "mount --bind -o ro /tmp /tmp;")
    prefix = ("unshare", "--mount", "bash", "-euc", script, "bash")
    uncounted = {"COVERAGE_PROCESS_CONFIG": None, "COVERAGE_PROCESS_START": None}  # it would write there as well
    env = {**uncounted, "TMPDIR": None, "TEMP": None, "TMP": None}
    done = run("-", hides, "--spool-memory", "0", "-o", "-", stdin=layer.read_bytes(), prefix=prefix, env=env)
    done.assert_failed("spool")


def test_a_limit_on_file_sizes_for_the_spool(tmp_path: Path, output: Path, layer: Path, need_tool: NeedTool) -> None:
    hides = write(tmp_path / "hides.tar", Layer().dir(b"d").file(b"d/noise"))
    limit = (need_tool("prlimit"), "--fsize=2097152")
    done = run("-", hides, "--spool-memory", "64K", "-o", output, stdin=layer.read_bytes(), prefix=limit)
    done.assert_failed("spool", "File too large")
    assert_untouched(output)


def test_nothing_is_left_of_a_spool(tmp_path: Path, output: Path, layer: Path) -> None:
    hides = write(tmp_path / "hides.tar", Layer().dir(b"d").file(b"d/noise"))
    spool = tmp_path / "spool"
    spool.mkdir()
    done = run("-", hides, "--spool-memory", "0", "-o", output, stdin=layer.read_bytes(), env={"TMPDIR": str(spool)})
    done.assert_merged()
    assert os.listdir(spool) == []


def test_feeders_that_die_are_noticed(tmp_path: Path, output: Path, layer: Path) -> None:
    """``<(curl …)`` that fails half-way looks like a pipe that ends."""
    half = layer.read_bytes()[: 2 << 20]
    os.mkfifo(tmp_path / "fifo")
    feeder = threading.Thread(target=(tmp_path / "fifo").write_bytes, args=(half,), daemon=True)
    feeder.start()
    run(tmp_path / "fifo", "-o", output).assert_failed("layer 0", "fifo", "truncated")
    feeder.join(10)
    assert_untouched(output)


def test_no_process_outlives_one_that_is_killed(tmp_path: Path) -> None:
    """Decoders and workers notice by their pipes, of which no other of them may hold an end."""
    layer = Layer().dir(b"d")
    for number in range(4000):
        layer = layer.file(b"d/%d" % number, os.urandom(500))
    path = tmp_path / "layer.tar.gz"
    path.write_bytes(gzip.compress(layer.tar(), 1))
    process = start(*[path] * 6, "-o", f"{tmp_path}/out/")
    children: set[int] = set()
    while process.poll() is None and len(children) < 3:
        with suppress(OSError):
            children.update(map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))
    process.kill()
    finished(process)
    assert len(children) >= 3, "two decoders and a worker"
    assert end_soon(children)
