"""The codecs, with input that is whole, byte by byte, cut anywhere, truncated, corrupted, or followed by garbage."""

from __future__ import annotations

import bz2
import lzma
import random
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import lz4.frame
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from streamerge.codecs import (
    CHUNK,
    HEAD_SIZE,
    Codec,
    codec_for_suffix,
    decode,
    detect,
    encode,
    members,
)
from streamerge.codecs.feed import Feed
from streamerge.codecs.zstd import FrameWalk
from streamerge.errors import LayerError, UnsupportedMediaType
from tests.support.needs import missing

COMPRESSED = [codec for codec in Codec if codec is not Codec.NONE]
SKIPPABLE = b"\x5a\x2a\x4d\x18\x07\0\0\0skipped"
EMPTY_SKIPPABLE = b"\x50\x2a\x4d\x18\0\0\0\0"


def mixed(size: int, seed: int = 1) -> bytes:
    """Zeros, text and noise in turn, so that every kind of block occurs."""
    rng = random.Random(seed)
    parts, total = [], 0
    while total < size:
        length = rng.randrange(1, 1 + max(1, size // 4))
        kind = rng.randrange(3)
        part = bytes(length) if kind == 0 else rng.randbytes(length) if kind == 1 else b"layer " * (length // 6 + 1)
        parts.append(part)
        total += len(part)
    return b"".join(parts)[:size]


SMALL = b"a small layer, a small layer" + bytes(40) + bytes(range(60))
BIG = mixed(3_000_000)


def compress(codec: Codec, data: bytes) -> bytes:
    encoder = encode(codec)
    return encoder.write(data) + encoder.finish()


def whole(codec: Codec, stream: bytes) -> bytes:
    return b"".join(decode(codec, [stream]))


def bytewise(codec: Codec, stream: bytes) -> bytes:
    return b"".join(decode(codec, (stream[at : at + 1] for at in range(len(stream)))))


def cut_at(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def use_gzip_library(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if library == "isal":
        pytest.importorskip("isal")
    else:
        monkeypatch.setattr(members, "_isal", None)


@pytest.fixture(params=["isal", "zlib"])
def gzip_library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both gzip decoders; zlib is used if there is no isal."""
    use_gzip_library(request.param, monkeypatch)


def gzip_member(
    data: bytes, *, flags: int = 0, name: bytes = b"n", extra: bytes = b"xyz", comment: bytes = b"c"
) -> bytes:
    """A member with the optional header fields that ``flags`` asks for (RFC 1952, 2.3)."""
    header = b"\x1f\x8b\x08" + bytes([flags]) + bytes(5) + b"\xff"
    if flags & 4:
        header += struct.pack("<H", len(extra)) + extra
    if flags & 8:
        header += name + b"\0"
    if flags & 16:
        header += comment + b"\0"
    if flags & 2:
        header += struct.pack("<H", zlib.crc32(header) & 0xFFFF)
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = deflate.compress(data) + deflate.flush()
    return header + body + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


# Valid sequences of parts. Each part is a whole member, or what may be between two. A stream may end after any part.
SEQUENCES: dict[str, tuple[Codec, list[bytes], bytes]] = {
    "gzip": (Codec.GZIP, [compress(Codec.GZIP, SMALL)], SMALL),
    "gzip members": (
        Codec.GZIP,
        [
            compress(Codec.GZIP, SMALL),
            gzip_member(b""),
            gzip_member(SMALL, flags=30),
            gzip_member(b"x", flags=8),
        ],
        SMALL * 2 + b"x",
    ),
    "gzip padded": (Codec.GZIP, [gzip_member(SMALL), *[b"\0"] * 20], SMALL),
    "zstd": (Codec.ZSTD, [compress(Codec.ZSTD, SMALL)], SMALL),
    "zstd frames": (
        Codec.ZSTD,
        [
            SKIPPABLE,
            zstandard.ZstdCompressor(write_checksum=False).compress(SMALL),
            EMPTY_SKIPPABLE,
            zstandard.ZstdCompressor(write_checksum=True).compress(b""),
            zstandard.ZstdCompressor(write_content_size=False).compress(SMALL),
            SKIPPABLE,
        ],
        SMALL * 2,
    ),
    "lz4": (Codec.LZ4, [compress(Codec.LZ4, SMALL)], SMALL),
    "lz4 frames": (
        Codec.LZ4,
        [
            lz4.frame.compress(SMALL, content_checksum=True, block_checksum=True),
            SKIPPABLE,
            lz4.frame.compress(b"", store_size=False),
            EMPTY_SKIPPABLE,
            lz4.frame.compress(SMALL, store_size=False, block_linked=False),
        ],
        SMALL * 2,
    ),
    "xz": (Codec.XZ, [compress(Codec.XZ, SMALL)], SMALL),
    "xz streams": (
        Codec.XZ,
        [
            lzma.compress(SMALL),
            bytes(4),
            bytes(4),
            lzma.compress(b""),
            lzma.compress(SMALL, check=lzma.CHECK_NONE),
        ],
        SMALL * 2,
    ),
    "bzip2": (Codec.BZIP2, [compress(Codec.BZIP2, SMALL)], SMALL),
    "bzip2 streams": (
        Codec.BZIP2,
        [bz2.compress(SMALL), bz2.compress(b""), bz2.compress(SMALL, 1)],
        SMALL * 2,
    ),
}
sequences = pytest.mark.parametrize(("codec", "parts", "data"), SEQUENCES.values(), ids=SEQUENCES.keys())
each_codec = pytest.mark.parametrize("codec", COMPRESSED, ids=lambda codec: codec.value)


class TestDetect:
    @sequences
    def test_by_magic(self, codec: Codec, parts: list[bytes], data: bytes) -> None:
        assert detect(b"".join(parts)[:HEAD_SIZE]) is codec

    @pytest.mark.parametrize(
        "head",
        [
            b"",
            b"\0" * 512,
            b"\x1f",
            b"BZ",
            b"usr/bin".ljust(512, b"\0"),
            b"BZh9.txt\0\0",
            b"LZIP\0\0",
            b"BZhx",
        ],
    )
    def test_none(self, head: bytes) -> None:
        assert detect(head) is Codec.NONE

    def test_cut_bzip2(self) -> None:
        assert {detect(bz2.compress(b"")[:size]) for size in range(4, 15)} == {Codec.BZIP2}

    def test_skippable_frames_are_decided_by_what_follows(self) -> None:
        many = SKIPPABLE + EMPTY_SKIPPABLE * 3
        assert detect(many + lz4.frame.compress(b"x")) is Codec.LZ4
        assert detect(many + zstandard.compress(b"x")) is Codec.ZSTD

    @pytest.mark.parametrize("head", [SKIPPABLE[:4], SKIPPABLE[:9], SKIPPABLE, SKIPPABLE + b"what"])
    def test_undecided_skippable_frames_are_zstd(self, head: bytes) -> None:
        assert detect(head) is Codec.ZSTD

    @pytest.mark.parametrize(
        ("head", "what"),
        [
            (b"\x02\x21\x4c\x18", "legacy"),
            (b"\x1f\x9d\x90", "compress"),
            (b"LZIP\x01\x14", "lzip"),
            (b"PK\x03\x04", "zip"),
            (b"PK\x05\x06", "zip"),
            (b"7z\xbc\xaf\x27\x1c", "7z"),
        ],
    )
    def test_known_and_not_read(self, head: bytes, what: str) -> None:
        with pytest.raises(UnsupportedMediaType, match=what):
            detect(head)


def test_codec_for_suffix() -> None:
    names = [
        "a.tar.gz",
        "a.TGZ",
        "a.tar.zst",
        "a.tar.lz4",
        "a.tar.xz",
        "a.tar.bz2",
        "a.tar",
        "a.gz",
        "a",
        "tgz",
    ]
    want = [Codec.GZIP, Codec.GZIP, Codec.ZSTD, Codec.LZ4, Codec.XZ, Codec.BZIP2] + [Codec.NONE] * 4
    assert [codec_for_suffix(name) for name in names] == want


@pytest.mark.usefixtures("gzip_library")
class TestDecode:
    @sequences
    def test_whole_and_byte_by_byte(self, codec: Codec, parts: list[bytes], data: bytes) -> None:
        stream = b"".join(parts)
        assert whole(codec, stream) == data
        assert bytewise(codec, stream) == data

    @sequences
    def test_cut_in_two_anywhere(self, codec: Codec, parts: list[bytes], data: bytes) -> None:
        stream = b"".join(parts)
        for cut in range(len(stream) + 1):
            assert b"".join(decode(codec, [stream[:cut], b"", stream[cut:]])) == data

    @sequences
    def test_truncated_anywhere(self, codec: Codec, parts: list[bytes], data: bytes) -> None:
        """A stream cut between members, or in gzip's padding, is valid. Every other cut is detected."""
        stream = b"".join(parts)
        legal = {len(b"".join(parts[:count])) for count in range(len(parts) + 1)}
        for cut in range(len(stream)):
            if cut in legal:
                assert data.startswith(whole(codec, stream[:cut]))
                continue
            for feed in ([stream[:cut]], [stream[at : at + 1] for at in range(cut)]):
                with pytest.raises(LayerError, match=f"^{codec.value}: the stream ends in the middle|padding"):
                    list(decode(codec, feed))

    @sequences
    @pytest.mark.parametrize("garbage", [b"\x01", b"abc", b"garbage at the end", b"\0\0\0\0x", b"\0"])
    def test_trailing_garbage(self, codec: Codec, parts: list[bytes], data: bytes, garbage: bytes) -> None:
        stream = b"".join(parts)
        for feed in ([stream + garbage], [stream, garbage], [bytes([byte]) for byte in stream + garbage]):
            if codec is Codec.GZIP and garbage == b"\0":  # padding, which gzip(1) accepts too
                assert b"".join(decode(codec, feed)) == data
                continue
            with pytest.raises(LayerError, match=f"^{codec.value}: "):
                list(decode(codec, feed))

    @each_codec
    def test_something_else_from_the_start(self, codec: Codec) -> None:
        for other in COMPRESSED:
            if other is not codec:
                with pytest.raises(LayerError, match=f"^{codec.value}: "):
                    whole(codec, compress(other, SMALL))

    @each_codec
    def test_empty_input(self, codec: Codec) -> None:
        assert list(decode(codec, [])) == list(decode(codec, [b"", b""])) == []

    @each_codec
    def test_big(self, codec: Codec) -> None:
        chunks = list(decode(codec, [compress(codec, BIG)]))
        assert b"".join(chunks) == BIG
        assert all(type(chunk) is bytes and 0 < len(chunk) <= CHUNK for chunk in chunks)
        assert len(chunks) < len(BIG) / CHUNK * 2 + 5

    @each_codec
    def test_corrupt_says_so_and_has_a_cause(self, codec: Codec) -> None:
        stream = bytearray(compress(codec, BIG[:100_000]))
        stream[len(stream) // 2] ^= 0x40
        with pytest.raises(LayerError, match=f"^{codec.value}: the data is corrupt") as caught:
            whole(codec, bytes(stream))
        assert caught.value.__cause__ is not None

    @each_codec
    def test_errors_of_the_source_pass_through(self, codec: Codec) -> None:
        stream = compress(codec, SMALL)

        def broken() -> Iterator[bytes]:
            yield stream[:20]
            raise OSError("the source's own")

        with pytest.raises(OSError, match="the source's own"):
            list(decode(codec, broken()))

    @each_codec
    def test_lazy(self, codec: Codec) -> None:
        """The first output comes before the end of the input has been read."""
        member = compress(codec, BIG[:100_000])

        def endless() -> Iterator[bytes]:
            while True:
                yield member

        decoded = decode(codec, endless())
        assert BIG.startswith(next(decoded)[:100_000])
        assert sum(len(next(decoded)) for _ in range(50)) > 100_000

    @each_codec
    def test_thousands_of_members_in_one_chunk(self, codec: Codec) -> None:
        assert whole(codec, compress(codec, b"tiny") * 3000) == b"tiny" * 3000


@pytest.mark.parametrize("library", ["isal", "zlib"])
@given(pick=st.sampled_from(sorted(SEQUENCES)), cuts=st.lists(st.integers(0, 2000), max_size=12))
def test_random_chunkings(library: str, pick: str, cuts: list[int]) -> None:
    codec, parts, data = SEQUENCES[pick]
    with pytest.MonkeyPatch.context() as patch:
        use_gzip_library(library, patch)
        assert b"".join(decode(codec, cut_at(b"".join(parts), cuts))) == data


BIG_STREAMS: dict[Codec, bytes] = {codec: compress(codec, BIG) for codec in COMPRESSED}


@settings(max_examples=40, deadline=None)
@given(codec=st.sampled_from(COMPRESSED), cuts=st.lists(st.integers(0, 10_000_000), max_size=20))
def test_random_chunkings_of_big_streams(codec: Codec, cuts: list[int]) -> None:
    assert b"".join(decode(codec, cut_at(BIG_STREAMS[codec], cuts))) == BIG


def accepted_flips(codec: Codec, stream: bytes, data: bytes) -> set[tuple[int, int]]:
    """The (byte, bit) of each flip that is not detected. The output must then be unchanged."""
    accepted = set()
    for at in range(len(stream)):
        for bit in range(8):
            flipped = bytearray(stream)
            flipped[at] ^= 1 << bit
            try:
                out = whole(codec, bytes(flipped))
            except LayerError as error:
                assert str(error).startswith(f"{codec.value}: ")  # noqa: PT017
            else:
                assert out == data
                accepted.add((at, bit))
    return accepted


class TestFlippedBits:
    """Which flipped bits are not detected. Some bits of a block only pad a byte, and a match may find the same bytes
    elsewhere. Their positions depend on the library, but the output must be unchanged.
    """

    @pytest.mark.usefixtures("gzip_library")
    def test_gzip(self) -> None:
        """FTEXT (bit 0 of FLG), MTIME, XFL and OS; nothing in the trailer."""
        stream = compress(Codec.GZIP, SMALL)
        accepted = accepted_flips(Codec.GZIP, stream, SMALL)
        header = {(3, 0)} | {(at, bit) for at in range(4, 10) for bit in range(8)}
        assert {(at, bit) for at, bit in accepted if at < 10} == header
        assert max(at for at, _ in accepted) < len(stream) - 8

    def test_zstd(self) -> None:
        """The descriptor's Unused_bit, and a Window_Descriptor that is larger; nothing in the checksum."""
        stream = compress(Codec.ZSTD, SMALL)
        accepted = accepted_flips(Codec.ZSTD, stream, SMALL)
        assert (4, 4) in accepted
        assert {at for at, _ in accepted - {(4, 4)}} <= {5, *range(6 + 3, len(stream) - 4)}

    def test_lz4(self) -> None:
        """Nothing in magic, descriptor, block size, end mark and checksum."""
        stream = compress(Codec.LZ4, SMALL)
        accepted = accepted_flips(Codec.LZ4, stream, SMALL)
        assert {at for at, _ in accepted} <= set(range(4 + 3 + 4, len(stream) - 8))

    def test_xz(self) -> None:
        """None: a CRC covers everything."""
        assert accepted_flips(Codec.XZ, compress(Codec.XZ, SMALL), SMALL) == set()

    def test_bzip2(self) -> None:
        """A different block size that is large enough, the "randomised" bit of a block too small to have a random byte,
        and the bits that pad the last byte."""
        stream = compress(Codec.BZIP2, SMALL)
        assert {at for at, _ in accepted_flips(Codec.BZIP2, stream, SMALL)} <= {3, 14, len(stream) - 1}


@pytest.mark.usefixtures("gzip_library")
class TestGzip:
    @pytest.mark.parametrize("flags", [0, 1, 2, 4, 8, 16, 6, 12, 24, 30, 31])
    def test_header_fields_cut_anywhere(self, flags: int) -> None:
        """Regression: isa-l fails on a header in two pieces (intel/isa-l#224).

        Found by a member with all fields, byte by byte: "Incorrect checksum found" for a valid one.
        """
        stream = gzip_member(SMALL, flags=flags) * 2
        assert bytewise(Codec.GZIP, stream) == SMALL * 2
        for cut in range(len(stream)):
            assert b"".join(decode(Codec.GZIP, [stream[:cut], stream[cut:]])) == SMALL * 2

    def test_long_header(self) -> None:
        stream = gzip_member(SMALL, flags=28, extra=bytes(65535), name=b"n" * 5000, comment=b"c" * 9000)
        assert whole(Codec.GZIP, stream) == SMALL
        assert b"".join(decode(Codec.GZIP, cut_at(stream, list(range(0, 80_000, 700))))) == SMALL

    def test_endless_header(self) -> None:
        with pytest.raises(LayerError, match="gzip: a member's header is larger than 128 KiB"):
            whole(Codec.GZIP, gzip_member(b"", flags=8, name=b"n" * 300_000))

    @pytest.mark.parametrize("flag", [0x20, 0x40, 0x80])
    def test_reserved_flags(self, flag: int) -> None:
        """ "Must give an error indication if any reserved bit is non-zero" (RFC 1952, 2.3.1.2)."""
        with pytest.raises(LayerError, match=r"gzip: .*reserved"):
            whole(Codec.GZIP, gzip_member(SMALL, flags=flag))

    def test_header_checksum_is_verified(self) -> None:
        stream = bytearray(gzip_member(SMALL, flags=2))
        stream[4] ^= 1  # MTIME, which no other checksum covers
        with pytest.raises(LayerError, match="gzip: the data is corrupt"):
            whole(Codec.GZIP, bytes(stream))

    @pytest.mark.parametrize("at", range(-8, 0))
    def test_crc32_and_isize_are_verified(self, at: int) -> None:
        stream = bytearray(gzip_member(SMALL))
        stream[at] ^= 1
        with pytest.raises(LayerError, match="gzip: the data is corrupt"):
            whole(Codec.GZIP, bytes(stream))

    def test_padding_must_be_last(self) -> None:
        member = gzip_member(SMALL)
        assert whole(Codec.GZIP, member + bytes(1_000_000)) == SMALL
        with pytest.raises(LayerError, match="gzip: something follows the zero padding"):
            whole(Codec.GZIP, member + bytes(512) + member)


def test_without_isal() -> None:
    code = (
        "import sys, zlib; sys.modules['isal'] = None\n"
        "from streamerge.codecs import Codec, decode\n"
        "print(b''.join(decode(Codec.GZIP, [zlib.compress(b'found', wbits=31)])).decode())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"found\n"


class TestZstd:
    @staticmethod
    def frame(window_log: int) -> bytes:
        """One raw block, the last, of 3 bytes, in a frame that claims this window."""
        block = (3 << 3 | 1).to_bytes(3, "little") + b"abc"
        return b"\x28\xb5\x2f\xfd" + bytes([0, (window_log - 10) << 3]) + block

    def test_window_limit(self) -> None:
        assert whole(Codec.ZSTD, self.frame(27)) == b"abc"
        with pytest.raises(LayerError, match=r"zstd: .*window of more than 128 MiB"):
            whole(Codec.ZSTD, self.frame(28))

    def test_claimed_content_size_allocates_nothing(self) -> None:
        """A frame in one segment has its content size as window, here 2**62 bytes."""
        stream = b"\x28\xb5\x2f\xfd\xe0" + (1 << 62).to_bytes(8, "little") + b"\x19\0\0abc"
        with pytest.raises(LayerError, match=r"zstd: .*window of more than 128 MiB"):
            whole(Codec.ZSTD, stream)

    def test_dictionary(self) -> None:
        dictionary = zstandard.ZstdCompressionDict(
            b"\x37\xa4\x30\xec" + zstandard.train_dictionary(1024, [mixed(300, n) for n in range(200)]).as_bytes()[4:]
        )
        with pytest.raises(LayerError, match=r"zstd: .*dictionary"):
            whole(Codec.ZSTD, zstandard.ZstdCompressor(dict_data=dictionary).compress(SMALL))

    @pytest.mark.parametrize("content_size", [0, 200, 300, 70_000])
    @pytest.mark.parametrize("checksum", [False, True])
    @pytest.mark.parametrize("store_size", [False, True])
    @pytest.mark.parametrize("step", [1, 2, 5, 100_000])
    def test_walk(self, content_size: int, checksum: bool, store_size: bool, step: int) -> None:
        """``complete`` is true after a whole frame and never within it, for all kinds of headers."""
        compressor = zstandard.ZstdCompressor(write_checksum=checksum, write_content_size=store_size)
        frame = compressor.compress(BIG[:content_size])
        walk = FrameWalk()
        assert walk.complete
        for count in range(2):
            for at in range(0, len(frame), step):
                walk.follow(frame[at : at + step])
                assert walk.complete == (at + step >= len(frame)), (count, at)
        walk.follow(b"no frame")
        walk.follow(frame)
        assert not walk.complete


class TestLz4:
    def test_dictionary(self) -> None:
        """A dictionary ID in the header. ``lz4 -D`` leaves it out; then only a checksum detects it."""
        with pytest.raises(LayerError, match="lz4: a frame needs a dictionary"):
            whole(Codec.LZ4, b"\x04\x22\x4d\x18\x61\x40" + bytes(4) + b"\x00" + bytes(4))

    @pytest.mark.parametrize("size", [lz4.frame.BLOCKSIZE_MAX64KB, lz4.frame.BLOCKSIZE_MAX4MB])
    def test_full_output_with_no_input_left(self, size: int) -> None:
        data = bytes(8 * CHUNK)
        assert whole(Codec.LZ4, lz4.frame.compress(data, block_size=size)) == data


class TestXz:
    def test_memory_limit(self) -> None:
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 192 << 20}]
        with pytest.raises(LayerError, match="xz: a stream needs more than 128 MiB"):
            whole(Codec.XZ, lzma.compress(b"x", filters=filters))

    @pytest.mark.parametrize("size", [1, 2, 3, 5])
    def test_padding_is_a_multiple_of_four(self, size: int) -> None:
        with pytest.raises(LayerError, match="xz: the padding"):
            whole(Codec.XZ, lzma.compress(SMALL) + bytes(size))


BOMB = """
import sys
sys.path[:0] = {path!r}
from streamerge.codecs import Codec, decode

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

def chunks():
    with open({name!r}, "rb") as stream:
        while chunk := stream.read(1 << 20):
            yield chunk

before = peak()
total = sum(map(len, decode(Codec({codec!r}), chunks())))
print(total, peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@each_codec
def test_bomb(codec: Codec, tmp_path: Path) -> None:
    """A GiB of zeros is decoded in 16 MiB: the peak memory of the process, less what it had after the imports.

    A chunk of output, the previous one and the library's buffer are 0.75 MiB, two chunks of the file 2 MiB. The
    window of the format at these levels: gzip 32 KiB, lz4 64 KiB and 2 blocks of 256 KiB, xz 256 KiB, zstd 512 KiB,
    bzip2 3.7 MiB. The rest is overhead of the allocator. An unbounded decoder needs the whole GiB.
    """
    level = {Codec.GZIP: 1, Codec.ZSTD: 1, Codec.LZ4: 0, Codec.XZ: 0, Codec.BZIP2: 9}[codec]
    size = 1 << 30
    streams = 16 if codec in (Codec.XZ, Codec.BZIP2) else 1  # those two are slow to make
    encoder = encode(codec, level)
    stream = b"".join(encoder.write(bytes(1 << 22)) for _ in range(size // streams >> 22)) + encoder.finish()
    bomb = tmp_path / "bomb"
    bomb.write_bytes(stream * streams)
    code = BOMB.format(path=sys.path, name=str(bomb), codec=codec.value)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    total, kib = map(int, done.stdout.split())
    assert total == size
    assert kib < 16 * 1024


TOOLS = [
    (Codec.GZIP, "gzip -1"),
    (Codec.GZIP, "gzip -9"),
    (Codec.GZIP, "gzip -N {file} -c"),
    (Codec.GZIP, "pigz -p 2 -b 128"),
    (Codec.GZIP, "pigz -p 2 -i -N {file} -c"),
    (Codec.GZIP, "igzip -c"),
    (Codec.ZSTD, "zstd -1"),
    (Codec.ZSTD, "zstd -T2 -B500000 -3"),
    (Codec.ZSTD, "zstd --long=27"),
    (Codec.ZSTD, "zstd --no-check {file} -c"),
    (Codec.ZSTD, "pzstd -p 2 -c"),
    (Codec.LZ4, "lz4 -c"),
    (Codec.LZ4, "lz4 -B4 -BX -c"),
    (Codec.LZ4, "lz4 -B7 -BD -9 -c"),
    (Codec.LZ4, "lz4 --no-frame-crc --content-size {file} -c"),
    (Codec.XZ, "xz -0"),
    (Codec.XZ, "xz -0 -T2 --block-size=700000 -C sha256"),
    (Codec.XZ, "xz -0 -C none"),
    (Codec.XZ, "xz -0 -C crc32 --x86 --lzma2=preset=0"),
    (Codec.BZIP2, "bzip2 -1"),
    (Codec.BZIP2, "bzip2 -9"),
]


def run_tool(command: str, data: bytes, file: Path) -> bytes:
    """The output of ``command``, used as a filter. It may name ``file``, which has the same content."""
    words = command.format(file=file).split()
    if not shutil.which(words[0]):
        missing(words[0], f"{words[0]} is not installed")
    file.write_bytes(data)
    return subprocess.run(words, input=data, capture_output=True, check=True).stdout


class TestRealTools:
    @pytest.mark.parametrize(("codec", "command"), TOOLS, ids=[command for _, command in TOOLS])
    def test_what_they_write(self, codec: Codec, command: str, tmp_path: Path) -> None:
        stream = run_tool(command, BIG, tmp_path / "layer")
        assert detect(stream[:HEAD_SIZE]) is codec
        assert whole(codec, stream) == BIG
        assert b"".join(decode(codec, cut_at(stream, list(range(0, len(stream), 997))))) == BIG
        for cut in (1, 7, len(stream) // 3, len(stream) - 1):
            with pytest.raises(LayerError):
                whole(codec, stream[:cut])

    @pytest.mark.parametrize("command", [command for codec, command in TOOLS if codec is Codec.GZIP])
    def test_what_they_write_read_without_isal(
        self, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use_gzip_library("zlib", monkeypatch)
        self.test_what_they_write(Codec.GZIP, command, tmp_path)

    def test_zstd_window_above_the_limit(self, tmp_path: Path) -> None:
        stream = run_tool("zstd -1 --long=28", SMALL, tmp_path / "layer")
        with pytest.raises(LayerError, match="window of more than 128 MiB"):
            whole(Codec.ZSTD, stream)

    def test_lz4_legacy(self, tmp_path: Path) -> None:
        with pytest.raises(UnsupportedMediaType, match="legacy"):
            detect(run_tool("lz4 -l -c", SMALL, tmp_path / "layer"))

    @pytest.mark.parametrize(
        ("codec", "command"),
        [
            (Codec.GZIP, "gzip -dc"),
            (Codec.ZSTD, "zstd -dc"),
            (Codec.LZ4, "lz4 -dc"),
            (Codec.XZ, "xz -dc"),
            (Codec.BZIP2, "bzip2 -dc"),
        ],
    )
    def test_what_they_read(self, codec: Codec, command: str, tmp_path: Path) -> None:
        assert run_tool(command, compress(codec, BIG), tmp_path / "layer") == BIG


LEVELS = {
    Codec.GZIP: (0, 9),
    Codec.ZSTD: (1, 22),
    Codec.LZ4: (-65536, 16),
    Codec.XZ: (0, 9),
    Codec.BZIP2: (1, 9),
}


class TestEncode:
    @each_codec
    def test_levels(self, codec: Codec) -> None:
        low, high = LEVELS[codec]
        for level in (low, high):
            encoder = encode(codec, level)
            assert whole(codec, encoder.write(memoryview(SMALL)) + encoder.finish()) == SMALL
        for level in (low - 1, high + 1):
            with pytest.raises(ValueError, match=f"{codec.value}: level {level} is not in the range {low} to {high}"):
                encode(codec, level)

    def test_default_levels(self) -> None:
        defaults = {Codec.GZIP: 6, Codec.ZSTD: 3, Codec.LZ4: 0, Codec.XZ: 6, Codec.BZIP2: 9}
        for codec, level in defaults.items():
            encoder = encode(codec, level)
            assert encoder.write(SMALL) + encoder.finish() == compress(codec, SMALL)

    @each_codec
    def test_nothing_is_a_whole_stream(self, codec: Codec) -> None:
        stream = encode(codec).finish()
        assert stream
        assert whole(codec, stream) == b""

    def test_none(self) -> None:
        encoder = encode(Codec.NONE)
        assert encoder.write(memoryview(b"ab")) + encoder.write(b"c") + encoder.finish() == b"abc"
        with pytest.raises(ValueError, match="no compression level"):
            encode(Codec.NONE, 3)

    def test_gzip_header_has_no_time_and_no_name(self) -> None:
        assert compress(Codec.GZIP, SMALL)[:8] == b"\x1f\x8b\x08" + bytes(5)

    def test_zstd_has_a_checksum(self) -> None:
        assert zstandard.get_frame_parameters(compress(Codec.ZSTD, SMALL)).has_checksum

    @pytest.mark.slow
    @settings(max_examples=60, deadline=None)
    @given(
        pick=st.sampled_from([(codec, LEVELS[codec][0]) for codec in COMPRESSED] + [(Codec.LZ4, 3), (Codec.GZIP, 6)]),
        cuts=st.lists(st.integers(0, 10_000_000), max_size=30),
    )
    def test_same_bytes_however_written(self, pick: tuple[Codec, int], cuts: list[int]) -> None:
        encoder = encode(*pick)
        stream = b"".join(map(encoder.write, cut_at(BIG[:1_000_000], cuts))) + encoder.finish()
        encoder = encode(*pick)
        assert stream == encoder.write(BIG[:1_000_000]) + encoder.finish()


class TestNone:
    def test_chunks_are_bounded_and_passed_on(self) -> None:
        chunks = [b"", b"ab", b"", BIG]
        out = list(decode(Codec.NONE, chunks))
        assert out[0] is chunks[1]
        assert b"".join(out) == b"ab" + BIG
        assert all(0 < len(chunk) <= CHUNK for chunk in out)


class TestFeed:
    @given(
        data=st.binary(max_size=200),
        cuts=st.lists(st.integers(0, 200), max_size=8),
        steps=st.lists(st.tuples(st.sampled_from(["take", "head", "back", "zeros"]), st.integers(1, 50)), max_size=30),
    )
    def test_like_a_bytes_object(self, data: bytes, cuts: list[int], steps: list[tuple[str, int]]) -> None:
        """After any sequence of calls, its content is that of a plain bytes object."""
        feed, rest = Feed(cut_at(data, cuts)), data
        for step, size in steps:
            if step == "take":
                piece = bytes(feed.take(size))
                assert bool(piece) == bool(rest)
                assert rest.startswith(piece)
                rest = rest[len(piece) :]
            elif step == "head":
                assert feed.head(size) == rest[:size]
            elif step == "back":
                feed.give_back(b"\0" * size)
                rest = b"\0" * size + rest
            else:
                assert feed.skip_zeros() == len(rest) - len(rest.lstrip(b"\0"))
                rest = rest.lstrip(b"\0")

    def test_head_comes_in_one_piece(self) -> None:
        feed = Feed([b"a", b"", b"bc", b"defgh"])
        assert feed.head(5) == b"abcde"
        assert bytes(feed.take(100)) == b"abcde"
        assert bytes(feed.take(100)) == b"fgh"
        assert bytes(feed.take(100)) == b""
