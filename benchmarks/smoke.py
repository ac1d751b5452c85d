"""All benchmarks at tiny size: ``python -m benchmarks.smoke DIRECTORY``. For "tox run -e smoke".

Without the programs that make the images it says so and does nothing. In CI that is an error, except for programs that
``STREAMERGE_TEST_MAY_LACK`` lists.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NEEDED = ("bash", "gzip", "tar", "zstd")


def main(directory: Path) -> int:
    """Run both; returns the exit code of the first that fails."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        print(f"skipped: not installed: {', '.join(missing)}", file=sys.stderr)
        listed = os.environ.get("STREAMERGE_TEST_MAY_LACK", "").split(",")
        return int(bool(os.environ.get("CI")) and not set(missing) <= set(listed))
    work = ["--workdir", f"{directory}/work"]
    page = ["--out", f"{directory}/smoke.md", "--json", f"{directory}/smoke.json", "--chart", f"{directory}/smoke.svg"]
    for command in (
        ["benchmarks", "--smoke", "--cache", f"{directory}/images", *work, *page],
        ["benchmarks.scaling", "--smoke", "--cache", f"{directory}/scaling", *work, "--out", f"{directory}/scaling.md"],
    ):
        done = subprocess.run([sys.executable, "-m", *command], check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
