"""Results of windows on the disk, shared by processes, under a bound.

    CACHE/windows/HASH/ROW-COLUMN.zip    the layers of one window and their overviews

HASH stands for all that the results of a scene are made of. A file is whole or absent: it is
written aside and renamed, and what a kill leaves half-written is swept away an hour later. What is
damaged all the same does not match its checksum (CRC-32), and counts as absent.

Each member of the archive is an array of NumPy's format, compressed here by runs alone: that takes
two thirds of the time that the archive's own compression does, and classes pack better. What has
few runs, such as confidence, is kept as it is: packing it would take longer than all of the rest.
"""

from __future__ import annotations

import io
import os
import re
import threading
import time
import zipfile
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sat2map.atomic import atomic_file
from sat2map.serve.overviews import Layers
from sat2map.user_cache import cache_folder, cache_limit

FOLDER = "windows"
SHARE = 0.5
"""How much of the cache's limit windows may take, unless said otherwise."""

ENOUGH = 0.9
"""What is left after windows had to go, of what they may take."""

LOOK_AGAIN = 64
"""So many windows are written before the disk is looked at again."""

ABANDONED_S = 3600
"""What was half-written for so long is nobody's work any more."""

USED_S = 600
"""A file that was used within so many seconds is not marked as used again."""

RUNS = 0.7
"""The share of values equal to the one before from which on an array is compressed."""

_NAME = re.compile(r"(\d+)-(\d+)\.(zip|npz)")
"""Earlier versions wrote .npz, under other hashes; these are removed like all others."""

_ASIDE = re.compile(r"\.\d+-\d+\.sat2map-[0-9a-f]{16}\.(zip|npz)")


class WindowStore:
    """The results of windows on the disk; threads and processes may share one folder.

    Args:
        limit: Bytes that all windows may take; None takes half of the user's cache.
        folder: Where they are; None takes the user's cache.
    """

    def __init__(self, limit: int | None = None, folder: Path | None = None) -> None:
        self.limit = int(cache_limit() * SHARE) if limit is None else limit
        self.folder = cache_folder() / FOLDER if folder is None else folder
        self._lock = threading.Lock()
        self._written = LOOK_AGAIN  # the first one looks

    def path(self, key: str, row: int, column: int) -> Path:
        """Return where a window is kept."""
        return self.folder / key / f"{row}-{column}.zip"

    def known(self, key: str) -> set[tuple[int, int]]:
        """Return the windows (row, column) of a scene that are kept."""
        found = set()
        with suppress(OSError):
            for entry in os.scandir(self.folder / key):
                name = _NAME.fullmatch(entry.name)
                if name is not None:
                    found.add((int(name[1]), int(name[2])))
        return found

    def read(
        self, key: str, row: int, column: int, level: int, names: Iterable[str]
    ) -> Layers | None:
        """Return some layers of a window at one level, or None where they are not kept.

        Args:
            key: What the results of the scene are made of.
            row: The window's row.
            column: The window's column.
            level: 0 for the window itself, 1 for its first overview, and so on.
            names: The layers.
        """
        path = self.path(key, row, column)
        try:
            with zipfile.ZipFile(path) as file:
                found = {name: _unpacked(file.read(_member(name, level))) for name in names}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            with suppress(OSError):  # damaged: it is made again
                path.unlink()
            return None
        with suppress(OSError):
            facts = path.stat()
            if time.time() - facts.st_atime > USED_S:
                os.utime(path, ns=(time.time_ns(), facts.st_mtime_ns))
        return found

    def write(self, key: str, row: int, column: int, levels: list[Layers]) -> None:
        """Keep a window.

        Args:
            key: What the results of the scene are made of.
            row: The window's row.
            column: The window's column.
            levels: Its layers, and those of its overviews.

        Raises:
            OutputError: The place is not writable or the disk is full.
        """
        path = self.path(key, row, column)
        with atomic_file(path) as aside, zipfile.ZipFile(aside, "w") as file:
            for level, layers in enumerate(levels):
                for name, values in layers.items():
                    file.writestr(_member(name, level), _packed(values))
        with self._lock:
            self._written += 1
            due = self._written >= LOOK_AGAIN
            self._written = 0 if due else self._written
        if due:
            self.keep_within_limit()

    def keep_within_limit(self) -> None:
        """Remove what was not used for the longest time, where windows take too much."""
        entries = []
        for folder in self._folders():
            for entry in _scanned(folder):
                with suppress(OSError):
                    facts = entry.stat(follow_symlinks=False)
                    used = max(facts.st_atime, facts.st_mtime)
                    if _NAME.fullmatch(entry.name):
                        entries.append((used, facts.st_size, Path(entry.path)))
                    elif _ASIDE.fullmatch(entry.name) and time.time() - used > ABANDONED_S:
                        Path(entry.path).unlink()
        size = sum(entry[1] for entry in entries)
        if size <= self.limit:
            return
        for _, bytes_, path in sorted(entries):
            if size <= ENOUGH * self.limit:
                break
            with suppress(OSError):
                path.unlink()
                size -= bytes_
        for folder in self._folders():
            with suppress(OSError):
                folder.rmdir()  # only where it is empty

    def _folders(self) -> list[Path]:
        return [
            Path(e.path) for e in _scanned(self.folder) if re.fullmatch(r"[0-9a-f]{32}", e.name)
        ]


def _member(name: str, level: int) -> str:
    return f"{name}-{level}.npy.zlib"


def _packed(values: NDArray[np.uint8]) -> bytes:
    values = np.ascontiguousarray(values)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(values))
    flat = values.ravel()
    has_runs = np.count_nonzero(flat[1:] == flat[:-1]) > RUNS * flat.size
    runs = zlib.compressobj(1 if has_runs else 0, strategy=zlib.Z_RLE)
    return b"".join((runs.compress(header.getvalue()), runs.compress(values.data), runs.flush()))


def _unpacked(packed: bytes) -> NDArray[np.uint8]:
    file = io.BytesIO(zlib.decompress(packed))
    values: NDArray[np.uint8] = np.lib.format.read_array(file, allow_pickle=False)
    return values


def _scanned(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder, none where there is no such folder."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []
