"""What this process has open: whether a test's subject closes what it opens."""

from __future__ import annotations

import gc
import os


def descriptors() -> set[str]:
    """The numbers of all descriptors that are open, but for those that only garbage holds.

    Garbage of earlier tests would else be collected, and close its files, in the middle of a test that counts.
    """
    gc.collect()
    return still_open()


def still_open() -> set[str]:
    """The same without a collection, which would close what was forgotten."""
    return set(os.listdir("/proc/self/fd"))
