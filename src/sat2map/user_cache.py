"""The user's cache: what is made or fetched again when it is gone, in one folder of bounded size.

    pairs/HASH/, masks/HASH/, labels/HASH.npy    decoded data sets
    converted/HASH-RUNTIME/, compiled/           models as runtimes read them
    windows/HASH/ROW-COLUMN.zip                  results of live maps
    osm/HASH.json, tiles/HASH/Z/X/Y.tile         answers of web services
    locks/                                       of entries that are being made

Names are hashes of what an entry is made of or for. Nothing but what has such a name is ever
removed: the folder may be one that holds other things, too.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sat2map.errors import OutputError, UsageError, writing_to
from sat2map.journal import remove_own

LOCKS = "locks"
DEFAULT_LIMIT = 50 << 30
"""Bytes."""

FRESH_S = 6 * 3600
"""What was used so lately may be in use, so it is not evicted."""

_ASIDE = r"\..*\.sat2map-[0-9a-f]{16}(\.\w+)?(/[^/]+)?"
_NAMES = {
    "pairs": r"[0-9a-f]{20}(/(pixels\.npy|pairs\.json))?",
    "masks": r"[0-9a-f]{20}(/(pixels\.bin|masks\.json))?",
    "labels": r"[0-9a-f]{20}\.npy",
    "converted": r"[0-9a-f]{16}-(onnx|openvino)"
    r"(/(model\.(xml|bin|onnx|json)|stamp\.json|README\.md))?",
    "compiled": r"[0-9A-Fa-f]+\.blob",
    "osm": r"[0-9a-f]{32}\.json",
    "tiles": r"[0-9a-f]{32}(/\d+(/\d+(/\d+\.tile)?)?)?",
    "windows": r"[0-9a-f]{32}(/(\d+-\d+|\.\d+-\d+\.sat2map-[0-9a-f]{16})\.(zip|npz))?",
}
KINDS = tuple(_NAMES)
"""Folders in the cache."""


@dataclass(frozen=True)
class CacheEntry:
    """One thing in the cache.

    Attributes:
        kind: The folder that it lies in, of `KINDS`.
        path: A file or a folder.
        size: Bytes.
        used: When it was used last, seconds since 1970.
    """

    kind: str
    path: Path
    size: int
    used: float


def cache_folder() -> Path:
    """Return where the cache is: $SAT2MAP_CACHE, or the user's cache folder."""
    import platformdirs

    chosen = os.environ.get("SAT2MAP_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("sat2map"))


def writable_folder(kind: str) -> Path | None:
    """Return the folder of a kind, made where absent; None where nothing can be written there.

    For what is only a matter of speed: a home that is read-only is no reason to fail.
    """
    folder = cache_folder() / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def cache_limit() -> int:
    """Return how many bytes the cache may have: $SAT2MAP_CACHE_LIMIT, such as 20G, or 50 GiB.

    Raises:
        UsageError: The variable does not hold a number of bytes.
    """
    text = os.environ.get("SAT2MAP_CACHE_LIMIT", "").strip()
    return parse_bytes(text, where="SAT2MAP_CACHE_LIMIT") if text else DEFAULT_LIMIT


def parse_bytes(text: str, *, where: str | None = None, parameter: str | None = None) -> int:
    """Return a number of bytes such as 500M, 20G or 1T.

    Args:
        text: The number.
        where: The variable that holds it.
        parameter: The parameter that it is given by.

    Raises:
        UsageError: It is not such a number.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", text.strip(), re.IGNORECASE)
    if found is None:
        raise UsageError(
            f"{text!r} is not a number of bytes",
            where=where,
            parameter=parameter,
            remedy="Give one such as 500M, 20G or 1T.",
        )
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))


def cache_entries() -> list[CacheEntry]:
    """Return what is in the cache, what was not used for the longest time first."""
    entries = []
    for kind, names in _NAMES.items():
        folder = cache_folder() / kind
        if not folder.is_dir() or folder.is_symlink():
            continue
        ours = (path for path in folder.iterdir() if re.fullmatch(names, path.name))
        entries += [CacheEntry(kind, path, *_facts(path)) for path in ours if not path.is_symlink()]
    return sorted(entries, key=lambda entry: entry.used)


def clear_cache() -> int:
    """Remove all that is ours from the cache, and return how many bytes that were.

    What another process is making stays.
    """
    before, held = cache_entries(), _in_the_making()
    for kind, names in _NAMES.items():
        folder = cache_folder() / kind
        if not folder.is_dir() or folder.is_symlink():
            continue
        busy = "|".join(map(re.escape, held.get(kind, []))) or r"\b\B"
        own = rf"(?!\.?(?:{busy})(?:[./]|$))(?:{names}|{_ASIDE})"
        remove_own(folder, re.compile(own, re.DOTALL))
        with suppress(OSError):
            folder.rmdir()  # only where it is empty
    return sum(e.size for e in before) - sum(e.size for e in cache_entries())


def _in_the_making() -> dict[str, list[str]]:
    """Return the names of the entries whose lock some process holds, by their kinds."""
    from filelock import FileLock, Timeout

    held: dict[str, list[str]] = {}
    for path in (cache_folder() / LOCKS).glob("*.lock"):
        lock = FileLock(path, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            kind, _, name = path.stem.partition("-")
            held.setdefault(kind, []).append(name)
        else:
            lock.release()
    return held


def keep_within_limit() -> None:
    """Remove what was not used for the longest time, until the cache is within its limit.

    What was used in the last hours stays, even where that is more than the limit.
    """
    entries = cache_entries()
    excess = sum(entry.size for entry in entries) - cache_limit()
    latest = time.time() - FRESH_S
    for entry in entries:
        if excess <= 0 or entry.used > latest:
            return
        name = re.escape(entry.path.name)
        own = re.compile(rf"(?={name}(?:/|$))(?:{_NAMES[entry.kind]})")
        remove_own(entry.path.parent, own)
        excess -= entry.size


def mark_used(path: Path) -> None:
    """Note that an entry is used now, without a change of when it was made."""
    for file in _files(path):
        with suppress(OSError):
            os.utime(file, ns=(time.time_ns(), file.stat().st_mtime_ns))


@contextmanager
def making(entry: Path) -> Iterator[None]:
    """Let one thread of one process make an entry; others wait, and find it.

    At the end the cache is brought within its limit.

    Raises:
        OutputError: The place is not writable or the disk is full.
    """
    from filelock import FileLock

    try:
        with writing_to(entry):
            locks = cache_folder() / LOCKS
            locks.mkdir(parents=True, exist_ok=True)
            lock = FileLock(locks / f"{entry.parent.name}-{entry.name}.lock", thread_local=False)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()
    except OutputError as error:
        remedy = "Free some space, or name another folder in the variable SAT2MAP_CACHE."
        raise OutputError(error.what, where=entry, remedy=remedy) from error
    keep_within_limit()


def _files(path: Path) -> list[Path]:
    """Return the files of an entry."""
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def _facts(path: Path) -> tuple[int, float]:
    """Return how many bytes an entry has, and when it was used last.

    Only files tell that: a look into a folder counts as its use.
    """
    stats = []
    for file in _files(path):
        with suppress(OSError):  # another process has just removed it
            stats.append(file.stat())
    used = max((max(facts.st_atime, facts.st_mtime) for facts in stats), default=0.0)
    return sum(facts.st_size for facts in stats), used
