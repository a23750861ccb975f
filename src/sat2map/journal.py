"""What a folder of ours is made of and what of it is done: the one way to go on with anything.

    FOLDER/.sat2map/
        journal.json   the command that writes here, and fingerprints of what its files are made of
        done.jsonl     a line for each file that was begun, and for each that is finished, with a
                       checksum, so that half a line of what was killed is known as such
        lock           held by the process that works here; the system frees it with the process

A command claims its folder before any work. It is refused where the folder holds files and no
journal of the same command, where another process works in it, and where a file that is not in
the journal lies under a name that is about to be written. What a command removes are the files
that its journal names, and those whose names no other program gives.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import sat2map
from sat2map.atomic import sweep, write_text
from sat2map.errors import OutputError, UsageError, writing_to
from sat2map.provenance import Digests

HIDDEN = ".sat2map"
JOURNAL, DONE, LOCK = "journal.json", "done.jsonl", "lock"
FORMAT = 2
FORMATS = (1, FORMAT)
"""Formats that are read: lines of the first have no checksum."""

LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
"""What operating systems put into folders that somebody looked at."""

_UNSEEN = LITTER | {HIDDEN}
_OWN = re.compile(rf"{re.escape(HIDDEN)}(/({JOURNAL}|{DONE}|{LOCK}|\..*\.sat2map-[^/]*))?")

GROWN = 50_000
"""Lines of what is no longer so, beyond which a journal is written anew while work goes on."""

CONTENTS_LIMIT = 1 << 30
"""Bytes of files whose contents are read for a fingerprint, which takes about a second."""


@dataclass(frozen=True)
class Files:
    """A fingerprint of files: the same as long as their names and contents are.

    Names are told from the folder, so that a folder may be moved. Where size and time of every
    file are as they were, its contents are not read again.

    Args:
        paths: The files. One that is missing is known as missing.
        folder: Where they are; None takes the last part of their names.
        limit: Of more bytes the contents are not read, and only size and time count.
        digests: Those of files that were read before, to which what is read now is added.
    """

    paths: tuple[Path, ...]
    folder: Path | None = None
    limit: int | None = CONTENTS_LIMIT
    digests: Digests = field(default_factory=Digests, compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the fingerprint as JSON's own types."""
        return {**self._quick(), "contents": self._contents()}

    def same_as(self, earlier: object) -> bool:
        """Return whether the files are those of an earlier fingerprint."""
        if not isinstance(earlier, dict):
            return False
        now = self._quick()
        if any(now[key] != earlier.get(key) for key in ("files", "bytes", "names")):
            return False
        if now["times"] == earlier.get("times"):
            return True
        known = earlier.get("contents")
        return known is not None and known == self._contents()

    def _quick(self) -> dict[str, Any]:
        names, times, size = hashlib.blake2b(), hashlib.blake2b(), 0
        for path in self.paths:
            name = path.name if self.folder is None else os.path.relpath(path, self.folder)
            names.update(os.fsencode(name) + b"\0")
            with suppress(OSError):
                facts = path.stat()
                size += facts.st_size
                times.update(f"{facts.st_size} {facts.st_mtime_ns}\n".encode())
        told = {"files": len(self.paths), "bytes": size}
        return {**told, "names": names.hexdigest()[:32], "times": times.hexdigest()[:32]}

    def _contents(self) -> str | None:
        if self.limit is not None and sum(map(_size, self.paths)) > self.limit:
            return None
        whole = hashlib.blake2b()
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for digest in pool.map(self.digests.of, self.paths):
                whole.update(digest)
        return whole.hexdigest()[:32]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def address_without_query(address: str) -> str:
    """Return a web address as it may be told and written down.

    Keys stand in the query, passwords before an @, and tokens behind a #. Of other addresses, such
    as GDAL's `vrt://FILE?bands=3,2,1`, the query says what is meant.
    """
    if address.startswith("/vsicurl?"):  # GDAL's way to give options beside the address
        inner = parse_qs(urlsplit(address).query).get("url", [""])[0]
        return f"/vsicurl/{address_without_query(inner)}"
    web = re.search(r"\bhttps?://", address, re.IGNORECASE)
    if web is None and not address.startswith("/vsi"):
        return address
    bare = _PASSWORD.sub(r"\1", address).partition("?")[0]
    return bare if web is None else bare.partition("#")[0]


_PASSWORD = re.compile(r"(https?://)[^/@?#\s'\"]*@", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """Return what another program says, without the keys of the addresses in it."""
    return re.sub(r"\?[^\s'\"]*", "", _PASSWORD.sub(r"\1", text))


MadeOf = Mapping[str, Any]
"""What files are made of, by names that follow "another" in a message: JSON or `Files`."""

Earlier = Callable[[Path], Mapping[str, Any] | None]
"""Returns the names of the files that an earlier version, which had no journal, wrote into a
folder, each with what is known of it (None: begun); or None where it did not write there."""


def as_json(made_of: MadeOf) -> dict[str, Any]:
    """Return what files are made of as JSON's own types, to be written down."""
    known = {k: v.to_json() if isinstance(v, Files) else v for k, v in made_of.items()}
    told: dict[str, Any] = json.loads(json.dumps(known))
    return told


def differing(before: Mapping[str, Any], now: MadeOf) -> list[str]:
    """Return what is not as it was written down, by its names."""
    return [
        key
        for key in dict.fromkeys([*now, *before])
        if key not in now or key not in before or not _alike(before[key], now[key])
    ]


def _alike(before: object, now: object) -> bool:
    if isinstance(now, Files):
        return now.same_as(before)
    return bool(before == json.loads(json.dumps(now)))


class Journal:
    """The journal of a folder that this process has claimed; `claim` makes it.

    Attributes:
        folder: The folder.
        is_new: Whether nothing was begun here before.
        is_older: Whether an earlier version wrote here, which did not note what its files are
            made of.
        is_removed: Whether the folder goes, with all that is ours in it.
        changed: What is not as it was when the files here were begun, the keys of `made_of`.
    """

    def __init__(
        self, folder: Path, writer: str, made_of: MadeOf, where: Path, remedy: str
    ) -> None:
        self.folder = folder
        self.is_new = True
        self.is_older = False
        self.is_removed = False
        self.changed: list[str] = []
        self._writer, self._made_of, self._where, self._remedy = writer, made_of, where, remedy
        self._told: dict[str, Any] | None = None
        self._is_torn = False
        self._files: dict[str, Any] = {}
        self._lines = 0  # of the file

    def start(self, *, keep: bool = True) -> None:
        """Write down what the files are made of from now on.

        Args:
            keep: Whether what is finished still counts. The files that are there stay known
                as ours either way.

        Raises:
            OutputError: The place is not writable or the disk is full.
        """
        if not keep:
            self._files = dict.fromkeys(self._files)
        for name in [name for name, facts in self._files.items() if facts is None]:
            if not os.path.lexists(self.folder / name):
                del self._files[name]  # it was begun, and never appeared
        if self._told is None:
            self._told = {
                "written_by": self._writer,
                "format": FORMAT,
                "version": sat2map.__version__,
                "made_of": as_json(self._made_of),
            }
        try:
            sweep(self.folder / HIDDEN)
            self._rewrite()
            write_text(self._place(JOURNAL), json.dumps(self._told, indent=1) + "\n")
        except OutputError as error:
            raise OutputError(error.what, where=self._where, remedy=error.remedy) from error
        self.is_new = False

    def begin(self, *names: str) -> None:
        """Note that files are about to be written.

        Args:
            names: Their names, told from the folder, with slashes.

        Raises:
            OutputError: A file of that name is there, and was not written by this command.
        """
        fresh = [name for name in names if name not in self._files]
        for name in fresh:
            if os.path.lexists(self.folder / name):
                raise OutputError(
                    f"is there already and was not written by {self._writer}",
                    where=self.folder / name,
                    remedy="Move it away, or choose another folder.",
                )
        self._append(dict.fromkeys(fresh))

    def finish(self, *names: str, facts: object = True) -> None:
        """Note that files, or other parts of the work, are finished.

        Args:
            names: Their names; files' are told from the folder, with slashes.
            facts: What is to be known of them, of JSON's own types; not None.
        """
        self._append(dict.fromkeys(names, facts))

    def note(self, rows: Mapping[str, Any]) -> None:
        """Note what is known of many files at once; it is on the disk when this returns.

        Args:
            rows: By names, facts of JSON's own types; not None.

        Raises:
            OutputError: The place is not writable or the disk is full.
        """
        self._append(rows, flushed=True)
        if self._lines > GROWN + 2 * len(self._files):
            self._rewrite()

    def finished(self) -> dict[str, Any]:
        """Return what is finished, with what was noted of it."""
        return {name: facts for name, facts in self._files.items() if facts is not None}

    def names(self) -> list[str]:
        """Return the names of all files that were begun here."""
        return list(self._files)

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, as far as this command wrote them, and forget their names."""
        ours = [name for name in names if name in self._files]
        with writing_to(self.folder):
            for name in ours:
                if not (self.folder / name).is_dir():
                    (self.folder / name).unlink(missing_ok=True)
                del self._files[name]
        self._write([_line(name) for name in ours])

    def remove_folder(self, own: re.Pattern[str]) -> None:
        """Remove the folder; what is not ours stays, and then the folder with its journal, too.

        Args:
            own: Matches the names that are ours, told from the folder, with slashes.
        """
        self.start(keep=False)
        if remove_own(self.folder, own):
            self.is_new = self.is_removed = True

    def discard(self) -> None:
        """Note that nothing was finished that is worth going on with."""
        self.is_new = True

    def load(self, earlier: Earlier | None) -> None:
        """Read what is there.

        Raises:
            OutputError: The folder holds something else.
        """
        told = read_journal(self.folder)
        if told is None:
            older = None if earlier is None else earlier(self.folder)
            if older is not None:
                self._files, self.is_new, self.is_older = dict(older), False, True
            elif any(entry.name not in _UNSEEN for entry in self.folder.iterdir()):
                raise self._refusal(f"is not empty and was not written by {self._writer}")
            return
        if told["written_by"] != self._writer:
            raise self._refusal(f"was written by {told['written_by']}, not by {self._writer}")
        if told["format"] not in FORMATS:
            raise self._refusal("was written by another version of sat2map")
        self.is_new = False
        self.changed = differing(told["made_of"], self._made_of)
        rows = read_rows(self.folder, checked=told["format"] != 1)
        self._files |= rows.facts
        self._is_torn, self._lines = rows.is_torn, rows.lines

    def _refusal(self, what: str) -> OutputError:
        return OutputError(what, where=self.folder, remedy=self._remedy)

    def _append(self, files: Mapping[str, Any], *, flushed: bool = False) -> None:
        self._files |= files
        self._write(list(map(_line, files, files.values())), flushed=flushed)

    def _write(self, lines: list[str], *, flushed: bool = False) -> None:
        if not lines:
            return
        with writing_to(self._where), self._place(DONE).open("a", encoding="utf-8") as file:
            file.write("\n" * self._is_torn + "".join(lines))
            if flushed:
                file.flush()
                os.fsync(file.fileno())
        self._is_torn = False
        self._lines += len(lines)

    def _rewrite(self) -> None:
        """Write the lines of what is so now, and no others, in place of the file."""
        write_text(self._place(DONE), "".join(map(_line, self._files, self._files.values())))
        self._is_torn, self._lines = False, len(self._files)

    def _place(self, name: str) -> Path:
        return self.folder / HIDDEN / name


def _line(name: str, *facts: object) -> str:
    text = json.dumps([name, *facts])
    return f"{text}\t{zlib.crc32(text.encode()):08x}\n"


def _parsed(line: str, *, checked: bool) -> list[Any]:
    """Return a name and what is known of it, or the name alone of what is forgotten.

    Raises:
        ValueError: It is half a line of what was killed, or is damaged.
    """
    text, tab, told = line.partition("\t")
    if (tab or checked) and f"{zlib.crc32(text.encode()):08x}" != told:
        raise ValueError("another checksum")
    row = json.loads(text)
    if not (isinstance(row, list) and len(row) in (1, 2) and isinstance(row[0], str)):
        raise ValueError("not a line of a journal")
    return row


@dataclass(frozen=True)
class Rows:
    """What the lines of a journal say.

    Attributes:
        facts: What is known of each file, by names; None: it was begun.
        lines: How many lines there are.
        is_torn: Whether the last one breaks off.
    """

    facts: dict[str, Any]
    lines: int = 0
    is_torn: bool = False


def read_rows(folder: Path, *, checked: bool = True) -> Rows:
    """Return what the journal of a folder says of its files, also while it is being written.

    A line that breaks off is left out, as if it had never been begun.

    Args:
        folder: The folder.
        checked: Whether lines without a checksum are left out.
    """
    facts: dict[str, Any] = {}
    lines, line = 0, "\n"
    with (
        suppress(FileNotFoundError),
        (folder / HIDDEN / DONE).open(encoding="utf-8", errors="replace", newline="\n") as file,
    ):
        for lines, line in enumerate(file, 1):  # noqa: B007 - the last is looked at below
            with suppress(ValueError):
                name, *known = _parsed(line.rstrip("\n"), checked=checked)
                if known:
                    (facts[name],) = known
                else:
                    facts.pop(name, None)
    return Rows(facts, lines, not line.endswith("\n"))


@contextmanager
def claim(
    folder: Path,
    writer: str,
    made_of: MadeOf,
    *,
    earlier: Earlier | None = None,
    where: Path | None = None,
    remedy: str = "Choose a new or empty folder.",
) -> Iterator[Journal]:
    """Claim a folder that is new, empty or ours, and yield its journal.

    Where nothing was started in the block, the folder is left as it was.

    Args:
        folder: The folder.
        writer: What writes here, as people call it: "'sat2map data chips'".
        made_of: What its files are made of.
        earlier: How a folder is known that an earlier version wrote.
        where: What messages call it; None calls it by its name.
        remedy: What to do where the folder is not ours.

    Raises:
        OutputError: The folder is somebody else's or not writable.
        UsageError: Another process works in it.
    """
    where = folder if where is None else where
    journal = Journal(folder, writer, made_of, where, remedy)
    with writing_to(where):
        is_there = folder.is_dir()
        if not is_there and os.path.lexists(folder):
            raise OutputError("is a file", where=folder, remedy=remedy)
        if (folder / HIDDEN).is_symlink():
            raise OutputError("is a link", where=folder / HIDDEN, remedy=remedy)
        if is_there:
            journal.load(earlier)  # before anything is made in what is somebody else's
    with _locked(folder / HIDDEN / LOCK, where):
        try:
            journal = Journal(folder, writer, made_of, where, remedy)
            with writing_to(where):
                journal.load(earlier)
            yield journal
        finally:
            if journal.is_new:
                remove_own(folder, _OWN)
                if not is_there or journal.is_removed:
                    with suppress(OSError):
                        folder.rmdir()  # only where it is empty


@contextmanager
def _locked(path: Path, where: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    with writing_to(where):
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path, timeout=0, thread_local=False)
            try:
                lock.acquire()
            except Timeout as error:
                raise UsageError(
                    "is being written by another process",
                    where=where,
                    remedy="Wait until it has ended, or choose another name.",
                ) from error
            except FileNotFoundError:  # who had it before has just removed the folder
                continue
            if path.exists():
                break
            lock.release()
    try:
        yield
    finally:
        lock.release()


def read_journal(folder: Path) -> dict[str, Any] | None:
    """Return what a journal says of its folder; None where there is none that can be read."""
    try:
        told = json.loads((folder / HIDDEN / JOURNAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(told, dict) and {"written_by", "format", "made_of"} <= told.keys()
    return told if whole and isinstance(told["made_of"], dict) else None


def remove_own(folder: Path, own: re.Pattern[str]) -> bool:
    """Remove the files of a folder whose names are ours, and the folders that get empty.

    Args:
        folder: The folder, which stays.
        own: Matches the names that are ours, told from the folder, with slashes, of files and
            of folders.

    Returns:
        Whether nothing is left but the journal.
    """
    for place, folders, files in os.walk(folder, topdown=False):  # it follows no link
        for name in [*files, *folders]:
            path = Path(place, name)
            ours = own.fullmatch(path.relative_to(folder).as_posix())
            if not ours or path.is_symlink():
                continue
            with suppress(OSError):  # a folder that holds what is not ours
                if path.is_dir():
                    path.rmdir()
                else:
                    path.unlink()
    return not folder.is_dir() or all(path.name == HIDDEN for path in folder.iterdir())
