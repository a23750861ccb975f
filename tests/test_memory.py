"""Memory is given back, or kept."""

from __future__ import annotations

import ctypes
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sat2map.memory import give_back_memory


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks Linux")
def test_what_is_freed_is_given_back() -> None:
    def held() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("another C library")
    before = held()
    arrays, pins = [], []
    for _ in range(2000):
        arrays.append(np.ones(100_000, np.uint8))
        pins.append(np.ones(2000, np.uint8))  # so that free pieces lie between used ones
    taken = held() - before
    arrays.clear()
    give_back_memory()
    assert held() - before < taken / 4


FAULTS = """
import resource, sys
import numpy as np
from sat2map.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(8 << 20, np.uint8), np.ones(8 << 20, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_what_is_freed_is_kept_for_what_comes_next() -> None:
    if not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        pytest.skip("another C library")

    def page_faults(how: str) -> int:
        command = [sys.executable, "-c", FAULTS, how]
        return int(subprocess.run(command, capture_output=True, check=True).stdout)

    assert page_faults("kept") < page_faults("not") / 3
