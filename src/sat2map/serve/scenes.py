"""What is served: scenes named at start, each with an id for addresses and the layers it has.

photo      what a model translates: layers photo, map, classes, confidence, numbers; photo alone
           where there is no model
drawn map  what `sat2map translate` wrote: layer map
class map  numbers with a legend: layers classes, numbers
archive    tiles in one file (.pmtiles): layer map, or vectors where they are of vectors

A `ServedScene` stays as long as the server, and holds an `OpenScene` of what its files hold now.
"""

from __future__ import annotations

import re
import threading
import time
import unicodedata
from collections.abc import Hashable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sat2map.errors import DataError, Sat2mapError
from sat2map.geo.gdal import is_address
from sat2map.legend import LEGEND_TAG
from sat2map.provenance import KEY
from sat2map.raster.options import Reading
from sat2map.raster.sources import open_source
from sat2map.serve.archives import SUFFIX as ARCHIVE
from sat2map.serve.open_scene import (
    OpenScene,
    open_archive,
    open_as_it_is,
    open_classes,
    open_photo,
    unsaid,
)
from sat2map.serve.trust import refuse_foreign
from sat2map.serve.workshop import Workshop
from sat2map.vectors.formats import style_beside

ARCHIVES = (ARCHIVE, ".mbtiles")
"""What is an archive of tiles in a folder; GDAL reads MBTiles as one raster."""

LOOK_S = 1.0
"""Seconds after which files are looked at again, whether they are as they were."""


class ServedScene:
    """A scene under an id, opened anew where its files change.

    Args:
        id: What stands for it in addresses.
        name: What people call it.
        text: What was named at start.
        workshop: What all scenes share.
        is_map: Whether it is a map, also where it does not say so.

    Raises:
        DataError: It cannot be read, or says not where it lies.
        UsageError: The model or the options do not fit it.
    """

    def __init__(
        self, id: str, name: str, text: str | Path, workshop: Workshop, *, is_map: bool = False
    ) -> None:
        self.id, self.name = id, name
        self._text, self._workshop, self._is_map = text, workshop, is_map
        self._lock = threading.Lock()
        self._error: Sat2mapError | None = None
        self._signature: tuple[Any, ...] = ()
        self._looked = time.monotonic()
        self._files: tuple[Path, ...] = ()
        self._open: OpenScene | None = self._opened()

    def fresh(self) -> OpenScene | None:
        """Return what it holds, if that was looked at a moment ago; it never waits."""
        return self._open if time.monotonic() - self._looked < LOOK_S else None

    def current(self) -> OpenScene:
        """Return what its files hold now.

        Raises:
            DataError: They are gone, or cannot be read as they are now.
        """
        with self._lock:
            if time.monotonic() - self._looked >= LOOK_S:
                before = self._open
                if (
                    before is None
                    or before.has_changed
                    or _signature(self._files) != self._signature
                ):
                    self._renew()
                self._looked = time.monotonic()
            if self._open is None:
                assert self._error is not None
                raise self._error
            return self._open

    def close(self) -> None:
        """Close its files."""
        if self._open is not None:
            self._open.close()

    def _renew(self) -> None:
        before = self._open
        try:
            self._open, self._error = self._opened(), None
        except Sat2mapError as error:
            self._open, self._error = None, error
        if before is not None:
            before.close()

    def _opened(self) -> OpenScene:
        if is_archive(self._text):
            if not is_address(self._text):
                path = Path(self._text)
                self._files = (path, style_beside(path))
            self._signature = _signature(self._files)
            return open_archive(self._text)
        source = open_source(self._text)
        with source:
            # Before anything is read: what changes while it is read is noticed later.
            self._files = source.files
            self._signature = signature = _signature(source.files)
            refuse_foreign(source, trusted=self._workshop.options.trust_vrt)
            with source.open() as dataset:
                tags = dataset.tags()
            if LEGEND_TAG in tags:
                return open_classes(source)
            if self._is_map or "SAT2MAP_MODEL" in tags or KEY in tags:
                reading = Reading(warp=True, crs=self._workshop.options.reading.crs)
                return open_as_it_is(source, reading, "map", unsaid)
            if not self._workshop.has_model:
                reading = replace(self._workshop.options.reading, bbox=None, warp=True)
                return open_as_it_is(source, reading, "photo", self._workshop.say)
            return open_photo(source, self._workshop, lambda: _signature(source.files) == signature)


def is_archive(text: str | Path) -> bool:
    """Return whether a name or an address is that of an archive of tiles."""
    if not is_address(text):
        return Path(text).suffix.lower() == ARCHIVE
    parts = urlsplit(str(text))
    return parts.scheme in ("http", "https") and parts.path.lower().endswith(ARCHIVE)


def _signature(files: Iterable[Path]) -> tuple[Hashable, ...]:
    """Return what changes with the files of a scene."""
    found = []
    for file in files:
        try:
            facts = file.stat()
            found.append((facts.st_size, facts.st_mtime_ns, facts.st_ino))
        except OSError:
            found.append((-1, -1, -1))
    return tuple(found)


def scene_id(name: str, taken: Iterable[str]) -> str:
    """Return an id for addresses, of letters, digits, - and _, that nobody has yet.

    Args:
        name: A file's name without its ending.
        taken: The ids of others.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", plain).strip("-")[:64] or "scene"
    found, number, others = stem, 1, set(taken)
    while found in others:
        number += 1
        found = f"{stem}-{number}"
    return found


def open_scenes(names: list[str], workshop: Workshop) -> list[ServedScene]:
    """Open all that was named at start; of a folder each of its scenes.

    What a folder holds and cannot be shown is left out, with a notice.

    Raises:
        DataError: What was named by itself cannot be shown, or a folder holds nothing that can.
        UsageError: The model or the options do not fit a scene.
    """
    scenes: list[ServedScene] = []
    for name in names:
        files = _held_by(name)
        if files is None:
            scenes.append(_served(name, workshop, scenes))
            continue
        before = len(scenes)
        for file in files:
            try:
                scenes.append(_served(file, workshop, scenes))
            except DataError as error:
                workshop.say(f"{error.headline}; it is left out.")
        if len(scenes) == before:
            raise DataError(
                "holds nothing that can be shown on a map",
                where=name,
                remedy="Give scenes that say where on the ground they lie.",
            )
    return scenes


def _held_by(name: str) -> list[Path] | None:
    """Return the scenes and archives of a folder, or None of anything else."""
    if is_address(name) or not Path(name).is_dir():
        return None
    archives = [
        file
        for file in Path(name).iterdir()
        if file.suffix.lower() in ARCHIVES and not file.name.startswith(".") and file.is_file()
    ]
    try:
        source = open_source(name)
    except DataError:
        if archives:
            return sorted(archives)
        raise
    source.close()
    return sorted([*source.files, *archives]) if source.kind == "folder" else None


def _served(text: str | Path, workshop: Workshop, others: list[ServedScene]) -> ServedScene:
    if is_archive(text):
        name = Path(urlsplit(str(text)).path if is_address(text) else text).name
    else:
        with open_source(text) as source:
            name = Path(source.name).name or str(source.where)
    id = scene_id(Path(name).stem, (scene.id for scene in others))
    return ServedScene(id, name, text, workshop)
