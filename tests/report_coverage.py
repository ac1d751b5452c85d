"""Report the branches that the tests covered. Fails below the threshold, but not if tests were skipped.

    python tests/report_coverage.py SKIPPED

SKIPPED is the file in which :mod:`tests.support.needs` notes what the machine lacks; no file means that it lacks
nothing. As an ordinary user, for example, hundreds of tests are skipped, and fewer branches covered.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main(skipped: Path) -> int:
    options = ["--skip-covered"]
    if skipped.exists():
        options.append("--fail-under=0")
    code = subprocess.run([sys.executable, "-m", "coverage", "report", *options], check=False).returncode
    if skipped.exists():
        reasons = sorted(set(skipped.read_text().splitlines()))
        print("The threshold does not apply, since tests were skipped:", *reasons, sep="\n  ")
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
