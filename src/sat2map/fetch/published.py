"""The published pix2pix data sets (Isola et al., arXiv 1611.07004), from their authors' server.

The archive comes over plain HTTP (the server's HTTPS is not set up for it), resumable, and
is unpacked aside. No checksum of these archives has been published by their authors, so the
first download records its SHA-256 in `DIR/download.json` and later ones are held to it.
"""

from __future__ import annotations

import filecmp
import gzip
import hashlib
import json
import logging
import tarfile
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from sat2map.arguments import checks_arguments
from sat2map.atomic import flush, temporary_folder, write_text
from sat2map.data.images import list_images
from sat2map.data.pairs import DataSetCard, write_card
from sat2map.errors import DataError, OutputError, UsageError, parsed_json, writing_to
from sat2map.fetch.http import RetryPolicy, check_address
from sat2map.fetch.resumable import Progress, fetch, forget, is_begun, move_part
from sat2map.journal import HIDDEN, Journal, address_without_query, claim
from sat2map.legend import STREETS, Legend

log = logging.getLogger(__name__)

WRITER = "sat2map data download"
OFFICIAL = "http://efrosgans.eecs.berkeley.edu/pix2pix/datasets"
SPLITS = ("train", "val", "test")

MOST_EXPANDED = 10
"""So many times its own size may an archive hold; those of images hold about as much."""

ALWAYS_UNPACKED = 100 * 2**20
"""Bytes that may be unpacked of any archive."""

MOST_FILES = 1_000_000
"""Files that an archive may hold."""


@dataclass(frozen=True)
class PublishedSet:
    """Address, size and terms of a published data set.

    Attributes:
        about: What it shows and how much there is to download.
        url: The official address.
        licence: The terms of the data, in words.
        sha256: Of the archive, or None where nobody trustworthy published one.
        resolution_m: Metres per pixel of the files, or None where they are not maps.
        legend: The classes of the targets, or None.
    """

    about: str
    url: str
    licence: str
    sha256: str | None = None
    resolution_m: float | None = None
    legend: Legend | None = None


DATA_SETS: dict[str, PublishedSet] = {
    "maps": PublishedSet(
        "aerial photo and street map, 1096 training pairs of 600 pixels, 240 MB",
        f"{OFFICIAL}/maps.tar.gz",
        "Imagery and maps are Google's, collected by Isola et al. (2017); for research.",
        resolution_m=0.9,
        legend=STREETS,
    ),
    "facades": PublishedSet(
        "photo and labels of buildings, 400 training pairs of 256 pixels, 30 MB",
        f"{OFFICIAL}/facades.tar.gz",
        "From the CMP Facade Database (Tylecek and Sara, GCPR 2013): its terms are at "
        "https://cmp.felk.cvut.cz/~tylecr1/facade/.",
    ),
    "cityscapes": PublishedSet(
        "photo and labels of streets, 2975 training pairs of 256 pixels, 100 MB",
        f"{OFFICIAL}/cityscapes.tar.gz",
        "From Cityscapes (Cordts et al., CVPR 2016): its terms are at "
        "https://www.cityscapes-dataset.com/license/.",
    ),
    "night2day": PublishedSet(
        "the same scenes by night and by day, 20,000 training pairs of 256 pixels, 2 GB",
        f"{OFFICIAL}/night2day.tar.gz",
        "From the Transient Attributes (Laffont et al., SIGGRAPH 2014); for research.",
    ),
    "edges2shoes": PublishedSet(
        "edges and photo of shoes, 50,000 training pairs of 256 pixels, 2 GB",
        f"{OFFICIAL}/edges2shoes.tar.gz",
        "From UT Zappos50K (Yu and Grauman, CVPR 2014); for academic, non-commercial use.",
    ),
    "edges2handbags": PublishedSet(
        "edges and photo of handbags, 137,000 training pairs of 256 pixels, 8 GB",
        f"{OFFICIAL}/edges2handbags.tar.gz",
        "Amazon's product photos, collected by Zhu et al. (ECCV 2016); for research.",
    ),
}
"""The published data sets by name; the numbers are those of the authors' README, rounded."""


@checks_arguments
def download(
    name: str,
    directory: Path,
    *,
    base_url: str | None = None,
    progress: Progress | None = None,
    retries: RetryPolicy | None = None,
) -> None:
    """Fetch a published data set into `directory`/{train,val,test}.

    While it comes, the archive lies in `directory`/.sat2map; an interrupted download goes on
    from there, unless the file on the server has changed. A data set that
    is there already is left alone. `directory` gets dataset.json (`DataSetCard`) and
    download.json {name, url, bytes, sha256, date, pictures}.

    Args:
        name: A key of `DATA_SETS`.
        directory: A new or empty folder, or one from an earlier download.
        base_url: A mirror's folder, which holds NAME.tar.gz, in place of the official one.
        progress: Told about the bytes as they come.
        retries: When to try again after a lost connection, or where the server is busy.

    Raises:
        UsageError: The name is not a published data set, or the address is not http(s).
        DataError: The address cannot be reached, the archive is not the expected one, is
            broken, or has a member that would land outside of the folder.
        OutputError: The folder holds something else, is not writable, or the disk is full;
            what has come stays for the next try.
    """
    if name not in DATA_SETS:
        raise UsageError(
            f"{name!r} is not a published data set",
            remedy="There are: " + "; ".join(f"{n} ({s.about})" for n, s in DATA_SETS.items()),
        )
    known = DATA_SETS[name]
    url = known.url if base_url is None else _within(base_url, f"{name}.tar.gz")
    check_address(url, address_without_query(url))
    record = _read_record(directory, name)
    with claim(directory, WRITER, {"data set": name}, earlier=_of_older_versions) as journal:
        if journal.changed:
            raise OutputError(
                "holds another data set", where=directory, remedy="Choose another folder."
            )
        if record is not None and _is_whole(journal, record):
            log.info("%s: the data set %s is already there", directory, name)
            return
        journal.start()
        part = directory / HIDDEN / f"{name}.tar.gz.part"
        try:
            _bring(name, url, part, journal, record, progress, retries)
        except BaseException:
            if record is None and not part.exists():
                journal.discard()
            raise


def _bring(
    name: str,
    url: str,
    part: Path,
    journal: Journal,
    record: dict[str, Any] | None,
    progress: Progress | None,
    retries: RetryPolicy | None,
) -> None:
    """Fetch a data set and unpack it into the journal's folder."""
    directory, known = journal.folder, DATA_SETS[name]
    _take_over(directory.absolute().parent / part.name, part, url)
    fetch(url, part, progress, retries)
    with part.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    url = address_without_query(url)  # as it may be told and written down
    _verify(url, part, sha256, known, record)
    with writing_to(directory), temporary_folder(directory / HIDDEN / "unpacked") as aside:
        log.info("%s: unpacking %d bytes", directory, part.stat().st_size)
        try:
            _unpack(part, aside, name, url)
        except DataError:
            forget(part)  # the archive is at fault, so the next try begins with a new one
            raise
        images = _images(aside)
        _move(aside, journal)
        journal.begin("dataset.json", "download.json")
        write_card(directory, DataSetCard(known.resolution_m, known.legend, known.licence))
        entries = {
            "name": name,
            "url": url,
            "bytes": part.stat().st_size,
            "sha256": sha256,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "pictures": images,
        }
        write_text(directory / "download.json", json.dumps(entries, indent=2) + "\n")
    forget(part)


def _within(folder: str, name: str) -> str:
    """Return the address of a file in a folder, whose address may be signed."""
    parts = urlsplit(folder)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))


def _move(aside: Path, journal: Journal) -> None:
    """Bring what was unpacked to its place, whole splits where there are none yet.

    Raises:
        OutputError: A file of another content is in the way, and was not written by us.
    """
    directory = journal.folder
    files = [path for path in sorted(aside.rglob("*")) if path.is_file()]
    names = [path.relative_to(aside).as_posix() for path in files]
    changed = [
        (path, name)
        for path, name in zip(files, names, strict=True)
        if not _is_same(path, directory / name)
    ]
    journal.begin(*(name for _, name in changed))
    for path in files:
        flush(path)
    for split in [path for path in aside.iterdir() if not (directory / path.name).exists()]:
        split.rename(directory / split.name)
    for path, name in changed:
        if path.exists():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            path.replace(directory / name)
    journal.finish(*names)


def _is_same(path: Path, other: Path) -> bool:
    if not other.is_file():
        return False
    return filecmp.cmp(path, other, shallow=False)


def _is_whole(journal: Journal, record: dict[str, Any]) -> bool:
    """Return whether nothing of the data set is missing."""
    if journal.is_older:  # which noted only how many images there were
        return bool(_images(journal.folder) == record["pictures"])
    return all((journal.folder / name).exists() for name in journal.finished())


def _of_older_versions(directory: Path) -> dict[str, Any] | None:
    """Return what a version without journals wrote, as far as it is known."""
    if not (directory / "download.json").is_file():
        return None
    return {"download.json": None, "dataset.json": None}


def _take_over(earlier: Path, part: Path, url: str) -> None:
    """Go on with the archive that a version without journals began beside the folder."""
    if not part.exists() and is_begun(earlier, url):
        with writing_to(part):
            move_part(earlier, part)


def _read_record(directory: Path, name: str) -> dict[str, Any] | None:
    """Return what an earlier download of this data set wrote down, or None."""
    path = directory / "download.json"
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = parsed_json(path.read_text(encoding="utf-8"))
        found = str(record["name"])
        if not isinstance(record["sha256"], str) or not isinstance(record["pictures"], dict):
            raise TypeError("sha256 is a text, pictures an object")
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"cannot be read ({error})", where=path, remedy="Remove the folder and download again."
        ) from error
    if found != name:
        raise OutputError(
            f"holds the data set {found}", where=directory, remedy="Choose another folder."
        )
    return record


def _images(directory: Path) -> dict[str, int]:
    """Return how many images each split has."""
    return {
        split: len(list_images(directory / split))
        for split in SPLITS
        if (directory / split).is_dir()
    }


def _verify(
    url: str, part: Path, sha256: str, known: PublishedSet, record: dict[str, Any] | None
) -> None:
    """Hold the archive to its published checksum, or else to that of an earlier download."""
    expected, remedy = known.sha256, "The download was damaged or tampered with: try again."
    if expected is None and record is not None:
        expected = record["sha256"]
        remedy = "If the new one is to be trusted, remove the folder and download again."
    if expected is not None and sha256 != expected:
        forget(part)
        raise DataError(
            f"the archive has the SHA-256 {sha256}, not the expected {expected}",
            where=url,
            remedy=remedy,
        )


def _unpack(archive: Path, directory: Path, name: str, url: str) -> None:
    """Unpack the splits of an archive, without its top folder NAME/, into `directory`."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            unpacked = 0
            for count, member in enumerate(tar, 1):
                place = _place(member, name, url)
                unpacked += member.size
                _check_bounds(count, unpacked, archive.stat().st_size, url)
                if place is not None and (member.isfile() or member.isdir()):
                    renamed = member.replace(name=str(place), deep=False)
                    tar.extract(renamed, directory, filter="data")
            # The checksum of gzip stands at the end, behind what tarfile reads.
            while tar.fileobj is not None and tar.fileobj.read(1 << 20):
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"the archive is broken ({error})",
            where=url,
            remedy="Download it again; if that does not help, try a mirror as `base_url`.",
        ) from error
    if not (directory / "train").is_dir() or not list_images(directory / "train"):
        raise DataError(
            f"the archive has no images in {name}/train/",
            where=url,
            remedy="This is not the published archive: check the address.",
        )


def _check_bounds(count: int, unpacked: int, packed: int, url: str) -> None:
    """Refuse an archive that would fill the disk; images hardly get smaller in one.

    Raises:
        DataError: It holds too many files, or far more bytes than it has itself.
    """
    if count > MOST_FILES or unpacked > max(MOST_EXPANDED * packed, ALWAYS_UNPACKED):
        raise DataError(
            f"the archive of {packed:,} bytes holds more than {count - 1:,} files or "
            f"{unpacked:,} bytes, which no such data set does",
            where=url,
            remedy="This is not the published archive: check the address.",
        )


def _place(member: tarfile.TarInfo, name: str, url: str) -> PurePosixPath | None:
    """Return where a member belongs below the folder, None where it is not part of a split.

    Raises:
        DataError: It would lead out of the folder, or is a link or a device.
    """
    path = PurePosixPath(member.name)
    windows = PureWindowsPath(member.name)
    if path.is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        reason = "would be written outside of the folder"
    elif not (member.isfile() or member.isdir()):
        reason = "is a link or a device, not a file"
    elif path.parts and path.parts[0] != name:
        reason = f"does not lie in the folder {name}/"
    else:
        inside = path.parts[1:]
        # macOS leaves its own notes (._1.jpg) in archives.
        hidden = any(part.startswith(".") for part in inside)
        return PurePosixPath(*inside) if inside and inside[0] in SPLITS and not hidden else None
    raise DataError(
        f"the member {member.name!r} of the archive {reason}",
        where=url,
        remedy="Do not trust this archive; check the address.",
    )
