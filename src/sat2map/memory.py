"""Memory of the process."""

from __future__ import annotations

import ctypes
import os

_LARGEST_KEPT = (32 << 20) - (64 << 10)
"""Bytes: a little less than 32 MB, above which glibc learns nothing from what is freed."""


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


def keep_freed_memory() -> None:
    """Have the C library keep blocks of up to 32 MB that are freed, for those that come next.

    Each layer of a network asks for megabytes and frees them. glibc gives them back to the system
    and gets them again as pages that are cleared, until a program has once freed a block as large
    as this one (mallopt(3), M_MMAP_THRESHOLD): without, an image of 256 pixels takes torch 1.6
    times as long. The block is never written to, so it takes no memory.
    """
    bytes(_LARGEST_KEPT)
