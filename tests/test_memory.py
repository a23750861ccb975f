"""Memory is given back."""

from __future__ import annotations

import ctypes
import resource
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
