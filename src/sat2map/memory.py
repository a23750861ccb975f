"""Memory of the process."""

from __future__ import annotations

import ctypes
import os


def give_back_memory() -> None:
    """Give the memory that was freed back to the operating system, where the C library can.

    glibc keeps what lies between blocks that are still in use: after a sheet of vectors more than
    half of its heap is free, in pieces that the next one, whose arrays have other sizes, does not
    fit in. So a process would grow with every sheet, or strip of a map, that is larger than those
    before it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
