"""The arithmetic, the images and the checks of the benchmarks: an error there makes every figure wrong."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import generate, layout, ratio, straight
from benchmarks.check import Trees, Verdict, differences
from benchmarks.machine import interpreter_of
from benchmarks.measure import Sample, Series
from benchmarks.page import page
from benchmarks.profiles import PROFILES
from benchmarks.report import Report, as_values, from_values
from benchmarks.rivals import DIRECTORY, TAR, all_contenders
from benchmarks.targets import MIB, TARGETS, Place, Result, Subject, allowed_memory, cases
from benchmarks.tree import tree

SCRIPTS = Path(generate.__file__).parent


def series(*walls: float, failure: str = "") -> Series:
    return Series({number: Sample(wall, wall, 40 * MIB) for number, wall in enumerate(walls)}, failure)


# --- ratios --------------------------------------------------------------------------------------


def test_a_ratio_is_that_of_each_round_and_only_then_the_median() -> None:
    found = ratio.compare(series(1.0, 3.0, 2.0), series(2.0, 2.0, 8.0))
    assert found == ratio.Spread(0.5, 0.25, 1.5, 3)


def test_rounds_that_only_one_of_the_two_ran_in_do_not_count() -> None:
    assert ratio.compare(series(1.0, 9.0, 9.0), series(2.0)) == ratio.Spread(0.5, 0.5, 0.5, 1)


def test_there_is_no_ratio_to_what_failed() -> None:
    assert ratio.compare(series(1.0), series(2.0, failure="exit 1")) is None
    assert ratio.compare(series(1.0), series()) is None


def test_a_surplus_is_in_milliseconds() -> None:
    assert ratio.surplus(series(0.25), series(0.125)) == ratio.Spread(125, 125, 125, 1)


@pytest.mark.parametrize(("offset", "slope"), [(0.1, 2e-6), (30.0, 0.0)])
def test_points_on_a_line_are_straight(offset: float, slope: float) -> None:
    line = straight.fit([(x, offset + slope * x) for x in (1e3, 1e4, 1e5, 1e6)])
    assert line.straight
    assert line.offset == pytest.approx(offset)
    assert line.slope == pytest.approx(slope, abs=1e-15)


def test_a_square_is_not_straight() -> None:
    assert not straight.fit([(x, 0.1 + 1e-10 * x**2) for x in (1e3, 1e4, 1e5, 1e6)]).straight


# --- images --------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_the_same_arguments_give_the_same_bytes(tmp_path: Path, profile: str) -> None:
    first, again = (generate.layers(tmp_path / name, profile, scale=0.001) for name in ("first", "again"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_another_seed_gives_other_bytes(tmp_path: Path) -> None:
    first, other = (generate.layers(tmp_path, "many", scale=0.001, seed=seed) for seed in (0, 1))
    assert [path.read_bytes() for path in first] != [path.read_bytes() for path in other]


def test_a_layout_names_every_blob_by_its_digest(tmp_path: Path) -> None:
    plain = generate.layers(tmp_path, "tiny")
    layout.write(tmp_path / "oci", plain, plain, "plain")
    blobs = sorted((tmp_path / "oci/blobs/sha256").iterdir())
    assert all(hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name for blob in blobs)
    index = json.loads((tmp_path / "oci/index.json").read_text())
    manifest = json.loads((tmp_path / "oci/blobs" / index["manifests"][0]["digest"].replace(":", "/")).read_text())
    config = json.loads((tmp_path / "oci/blobs" / manifest["config"]["digest"].replace(":", "/")).read_text())
    assert [layer["digest"] for layer in manifest["layers"]] == config["rootfs"]["diff_ids"]
    assert [layer["size"] for layer in manifest["layers"]] == [path.stat().st_size for path in plain]


# --- trees ---------------------------------------------------------------------------------------


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for member, body in members:
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, **changes: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.uid, made.gid = kind, os.geteuid(), os.getegid()
    for field, value in changes.items():
        setattr(made, field, value)
    return made


def test_a_tar_and_what_is_extracted_from_it_are_the_same_tree(tmp_path: Path) -> None:
    packed = tar_of(
        tmp_path / "a.tar",
        (member("./", tarfile.DIRTYPE, mode=0o755), b""),
        (member("./d", tarfile.DIRTYPE, mode=0o750, mtime=1_700_000_000), b""),
        (member("./d/file", mtime=1.5, pax_headers={"mtime": "1.123456789"}), b"body"),
        (member("./d/link", tarfile.LNKTYPE, linkname="./d/file"), b""),
        (member("./symlink", tarfile.SYMTYPE, linkname="/etc/passwd"), b""),
    )
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xpf", packed, "-C", tmp_path / "out", "--delay-directory-restore"], check=True)
    assert differences(tree(packed), tree(tmp_path / "out")) == []
    assert tree(packed)["d/file"][4] == 1_123_456_789


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (member("f", mode=0o600), "f: mode is 0o600, not 0o644"),
        (member("f", mtime=5), "f: mtime is 5000000000, not 0"),
        (member("g"), "f: is missing"),
        (member("f", tarfile.SYMTYPE, linkname="t"), "f: kind is 'symlink', not 'file'"),
    ],
)
def test_what_differs_is_named(tmp_path: Path, made: tarfile.TarInfo, says: str) -> None:
    right = tree(tar_of(tmp_path / "right.tar", (member("f"), b"body")))
    wrong = tree(tar_of(tmp_path / "wrong.tar", (made, b"body" if made.isreg() else b"")))
    assert differences(wrong, right)[0].startswith(says)


def test_another_content_differs_and_what_is_to_be_ignored_does_not(tmp_path: Path) -> None:
    right = tree(tar_of(tmp_path / "right.tar", (member("f"), b"one")))
    other = tree(tar_of(tmp_path / "other.tar", (member("f"), b"two")))
    owned = tree(tar_of(tmp_path / "owned.tar", (member("f", uid=7), b"one")))
    assert "content" in differences(other, right)[0]
    assert differences(owned, right, ["uid", "gid"]) == []


# --- targets and the page ------------------------------------------------------------------------


def result(*, ours: Series, theirs: Series) -> Result:
    image = Subject("big", "gzip", layers=1, paths=1000, plain_bytes=1024, packed_bytes=512)
    able = [each for each in all_contenders(["streamerge"]) if each.name in (TAR, "igzip -dc")]
    return Result(image, Place("/dev/shm", "tmpfs"), able, {TAR: ours, "igzip -dc": theirs})


def report_of(measured: Result) -> Report:
    trees = Trees(True, {("umoci raw unpack", "gzip"): Verdict(2, "etc: is missing")})
    return Report({"cores": "2"}, [measured], {"big": trees}, ratio.spread([99.0]), 3, 1, 20 * MIB)


@pytest.mark.parametrize(("ours", "met"), [(0.8, True), (0.81, False)])
def test_a_target_is_met_at_its_limit(ours: float, met: bool) -> None:
    measured = result(ours=series(ours), theirs=series(1.0))
    [found] = [case for target in TARGETS for case in cases(target, [measured])]
    assert (found.target.limit, found.met) == (0.8, met)


def test_our_failure_misses_the_target_and_theirs_is_no_case() -> None:
    failed = series(failure="exit 1")
    [found] = [case for target in TARGETS for case in cases(target, [result(ours=failed, theirs=series(1))])]
    assert not found.met
    assert [case for t in TARGETS for case in cases(t, [result(ours=series(1), theirs=failed)])] == []


def test_a_target_covers_only_the_images_that_it_names() -> None:
    measured = result(ours=series(1), theirs=series(1))
    other = replace(measured, image=replace(measured.image, name="small"))
    assert [case for target in TARGETS for case in cases(target, [other])] == []


def test_memory_may_grow_by_120_bytes_a_path() -> None:
    assert allowed_memory(result(ours=series(1), theirs=series(1))) == 128 * MIB + 120_000


def test_the_page_has_one_number_a_cell_and_names_wrong_trees() -> None:
    text = page(report_of(result(ours=series(0.5, 0.7, 0.6), theirs=series(1.0, 1.0, 1.0))))
    assert "| gzip, big files → tar | `igzip -dc` | 0.8 | tmpfs | big | gzip | 0.60 | 0.50 | 0.70 | met |" in text
    assert "| 120 | 99 | 99 | 99 | met |" in text
    assert "| tmpfs | big | gzip | 40 | 128 | met |" in text
    assert "| streamerge → tar | igzip -dc | 0.60 | 0.50 | 0.70 |" in text
    assert "- **umoci raw unpack**, gzip: 2 paths differ, for example `etc: is missing`" in text


def test_the_page_leaves_the_spread_of_one_round_blank() -> None:
    text = page(report_of(result(ours=series(0.5), theirs=series(1.0))))
    assert "| gzip, big files → tar | `igzip -dc` | 0.8 | tmpfs | big | gzip | 0.50 |  |  | met |" in text


def test_the_page_can_be_written_again_from_the_json() -> None:
    report = report_of(result(ours=series(0.5, 0.7), theirs=series(failure="exit 1")))
    kept = from_values(json.loads(json.dumps(as_values(report))))
    assert page(kept) == page(report)
    assert as_values(kept) == as_values(report)


def test_the_pages_of_the_repository_are_those_of_their_json() -> None:
    results = sorted((SCRIPTS / "results").glob("*.json"))
    assert results
    for path in results:
        assert path.with_suffix(".md").read_text() == page(from_values(json.loads(path.read_text())))


def test_every_target_names_contenders_that_exist() -> None:
    contenders = all_contenders(["streamerge"])
    names = {each.name for each in contenders} | {part.name for each in contenders for part in each.parts}
    assert {target.ours for target in TARGETS} | {target.theirs for target in TARGETS} <= names
    assert {against for each in contenders for against in each.against} <= names
    assert DIRECTORY in names


# --- the scripts that could do harm --------------------------------------------------------------


@pytest.mark.root
def test_by_hand_refuses_root(tmp_path: Path) -> None:
    done = subprocess.run(["bash", SCRIPTS / "by_hand.sh", tmp_path / "out.tar"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, "by_hand.sh: not as root\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.root
@pytest.mark.user_namespaces
@pytest.mark.parametrize("target", ["/run", "../../run"])
def test_by_hand_refuses_layers_that_could_lead_out_of_the_tree(tmp_path: Path, target: str) -> None:
    """If the listing did not fit into a pipe, ``grep -q`` exited at its first match, and sed and the check failed."""
    members = [(member("a", tarfile.SYMTYPE, linkname=target), b"")]
    members += [(member(f"directory/of/some/files/file-number-{number:06}"), b"") for number in range(5_000)]
    layer = tar_of(tmp_path / "layer.tar", *members)
    as_nobody = ["unshare", "--user", "bash", str(SCRIPTS / "by_hand.sh")]
    done = subprocess.run([*as_nobody, tmp_path / "out.tar", layer], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, f"by_hand.sh: {layer}: could lead out of the tree\n")
    assert [path.name for path in tmp_path.iterdir()] == ["layer.tar"]


@pytest.mark.root
@pytest.mark.mount_namespaces
def test_a_symlink_of_the_image_does_not_lead_out_of_the_jail(tmp_path: Path) -> None:
    """An early by_hand.sh deleted files of the host through ``run -> /run`` and a whiteout below it."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("still here")
    first = tar_of(tmp_path / "1.tar", (member("a", tarfile.SYMTYPE, linkname=str(precious)), b""))
    second = tar_of(tmp_path / "2.tar", (member("a/.wh.file"), b""), (member("a/new"), b"new"))
    (tmp_path / "out").mkdir()
    subprocess.run(
        ["bash", SCRIPTS / "jailed.sh", "by-hand", tmp_path / "out", first, second], capture_output=True, text=True
    )
    assert [path.name for path in precious.iterdir()] == ["file"]
    assert (precious / "file").read_text() == "still here"


@pytest.mark.root
def test_the_jail_works_in_an_empty_directory_only(tmp_path: Path) -> None:
    (tmp_path / "here-before").touch()
    done = subprocess.run(["bash", SCRIPTS / "jailed.sh", "by-hand", tmp_path], capture_output=True, text=True)
    assert done.returncode == 3
    assert [path.name for path in tmp_path.iterdir()] == ["here-before"]


def test_the_python_that_is_named_is_the_one_that_is_measured(tmp_path: Path) -> None:
    """The figures of one Python once appeared under the version of another, which is half as fast."""
    script = tmp_path / "streamerge"
    script.write_text("#!/somewhere/python3\nimport sys\n")
    script.chmod(0o755)
    assert interpreter_of([str(script)]) == "/somewhere/python3"
    assert interpreter_of([sys.executable, "-m", "streamerge"]) == sys.executable
