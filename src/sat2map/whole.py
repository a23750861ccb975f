"""Files and folders that appear under their final name only when they are whole.

Everything is written aside, in the same folder, and renamed at the end, so that a crash,
a full disk or an interrupt leaves the old state or the new one and nothing between.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sat2map.errors import OutputError, writing_to


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success it becomes `path`.

    The suffix is kept, since writers choose their format by it.

    Raises:
        OutputError: The folder is not writable or the disk is full.
    """
    aside = path.with_name(f".{path.stem}.{_mark()}{path.suffix}")
    with writing_to(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield aside
            flush(aside)
            aside.replace(path)
            flush(path.parent)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a folder beside `path` to write to; on success it becomes `path`.

    Args:
        path: The final name.
        replace: Whether an existing folder of that name gives way.

    Raises:
        OutputError: `path` exists and may not be replaced, the place is not writable, or
            the disk is full.
    """
    taken = any(path.iterdir()) and not replace if path.is_dir() else path.exists()
    if taken:
        raise OutputError("exists already", where=path, remedy="Remove it or choose another name.")
    aside = path.absolute().with_name(f".{path.absolute().name}.{_mark()}")
    with writing_to(path):
        try:
            aside.mkdir(parents=True)
            yield aside
            for file in aside.rglob("*"):
                flush(file)
            _swap(aside, path)
            flush(path.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all."""
    with whole_file(path) as aside:
        aside.write_text(text, encoding="utf-8")


def _mark() -> str:
    """Return what tells a half-written name from all others, of this program and of others."""
    return f"sat2map-{uuid.uuid4().hex[:16]}"


def half_written(folder: Path) -> list[Path]:
    """Return what a kill left half-written in a folder, by the names that are made here."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _ASIDE.fullmatch(path.name))


_ASIDE = re.compile(r"\..+\.sat2map-[0-9a-f]{16}(\.\w+)?(\.old)?", re.DOTALL)


def _swap(new: Path, path: Path) -> None:
    """Rename `new` to `path`; what was there is removed, or back in its place on failure."""
    old = new.with_name(new.name + ".old")
    if path.exists():
        path.rename(old)
    try:
        new.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def flush(path: Path) -> None:
    """Have the operating system put a file or a folder's entries on the disk."""
    if os.name == "nt":  # pragma: no cover - Windows cannot open folders this way
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
