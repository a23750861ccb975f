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
from contextlib import contextmanager, suppress
from pathlib import Path

from sat2map.errors import OutputError, writing_to


@contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success it becomes `path`.

    The suffix is kept, since writers choose their format by it.

    Args:
        path: The final name.
        durable: Whether it is on the disk before it gets that name, which takes some milliseconds;
            what is noticed and made again where a machine has died before may do without.

    Raises:
        OutputError: The folder is not writable or the disk is full.
    """
    aside = path.with_name(f".{path.stem}.{_mark()}{path.suffix}")
    check_file_name(path)
    with writing_to(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield aside
            if durable:
                flush(aside)
            aside.replace(path)
            if durable:
                flush(path.parent)
        finally:
            aside.unlink(missing_ok=True)


def check_file_name(path: Path) -> None:
    """Refuse a name for a file that a folder has, before the work.

    Raises:
        OutputError: There is a folder of that name.
    """
    if path.is_dir():
        raise OutputError(
            "is a folder, and a file is to be written", where=path, remedy="Choose another name."
        )


def check_disk(path: Path, needed: int) -> None:
    """Refuse, before the work, what the disk has no room for.

    Args:
        path: What is to be written.
        needed: Bytes that it may take while it is made.

    Raises:
        OutputError: Fewer are free.
    """
    place = next(folder for folder in path.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise OutputError(
            f"may need {_size(needed)} while it is made, and {_size(free)} are free",
            where=path,
            remedy="Free some space, or choose a place on another disk.",
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def check_folder_name(path: Path, *, replace: bool = False) -> None:
    """Refuse a name for a folder that is taken, before the work.

    Raises:
        OutputError: There is something of that name, which is not an empty folder, or is not a
            folder.
    """
    if replace and path.is_symlink():
        raise OutputError(
            "is a link, and the folder it points to would be replaced",
            where=path,
            remedy="Remove the link.",
        )
    taken = any(path.iterdir()) and not replace if path.is_dir() else os.path.lexists(path)
    if taken:
        raise OutputError("exists already", where=path, remedy="Remove it or choose another name.")


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a folder beside `path` to write to; on success it becomes `path`.

    Args:
        path: The final name.
        replace: Whether an existing folder of that name gives way.

    Raises:
        OutputError: `path` exists and may not be replaced, the place is not writable, or
            the disk is full.
    """
    check_folder_name(path, replace=replace)
    path = path.resolve()
    with writing_to(path), temporary_folder(path) as aside:
        yield aside
        for file in aside.rglob("*"):
            flush(file)
        _swap(aside, path)
        flush(path.parent)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside `path`, which is removed with what is left in it.

    Raises:
        OSError: The place is not writable.
    """
    aside = path.with_name(f".{path.name}.{_mark()}")
    try:
        aside.mkdir(parents=True)
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a UTF-8 text file, whole or not at all; `durable` is as for `atomic_file`."""
    with atomic_file(path, durable=durable) as aside:
        aside.write_text(text, encoding="utf-8")


def _mark() -> str:
    """Return what tells a half-written name from all others, of this program and of others."""
    return f"sat2map-{uuid.uuid4().hex[:16]}"


_ASIDE = re.compile(r"\.(.+)\.sat2map-[0-9a-f]{16}(\.\w+)?", re.DOTALL)
_OLD = re.compile(r"\.(.+)\.sat2map-[0-9a-f]{16}\.old", re.DOTALL)


def sweep(folder: Path) -> None:
    """Remove what a kill left half-written in a folder, known by the names that are made here.

    A folder that was about to be replaced gets its name back.
    """
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        old = _OLD.fullmatch(path.name)
        if path.is_symlink():
            continue
        if old and path.is_dir():
            final = path.with_name(old[1])
            if os.path.lexists(final):
                _keep_others(path, final)
            else:
                path.rename(final)
        elif _ASIDE.fullmatch(path.name):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _swap(new: Path, path: Path) -> None:
    """Rename `new` to `path`; what was there is back in its place on failure.

    Of a folder that gives way, files that have no successor are kept: they may be somebody
    else's.
    """
    if not path.exists():
        new.rename(path)
        return
    old = new.with_name(new.name + ".old")
    path.rename(old)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        raise
    _keep_others(old, path)


def _keep_others(old: Path, new: Path) -> None:
    """Bring what only the old folder has into the new one, and remove the old one."""
    for path in old.iterdir():
        place = new / path.name
        if not os.path.lexists(place):
            path.rename(place)
        elif path.is_dir() and place.is_dir() and not path.is_symlink():
            _keep_others(path, place)
        elif not path.is_dir() or path.is_symlink():
            path.unlink()
    with suppress(OSError):  # a folder where the new one has a file stays where it is
        old.rmdir()


def flush(path: Path) -> None:
    """Have the operating system put a file or a folder's entries on the disk."""
    if os.name == "nt":  # pragma: no cover - Windows cannot open folders this way
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
