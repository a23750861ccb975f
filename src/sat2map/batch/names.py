"""Names of scenes and of their maps: such as every file system takes, and none for two scenes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

LONGEST = 160
"""Bytes of a part of a name, which leaves room for suffixes below the 255 that file systems take"""

KINDS = ("", ".classes", ".confidence", ".compare")
"""What the names of the rasters that are made of one scene end with, before .tif."""

WHOLE = ("map", "index.gti", "classes.gti")
"""Stems of what is made of all maps together."""

_UNSAFE = re.compile(r"[\x00-\x1f\x7f<>:\"/\\|?*{}%]")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_LIKE_A_FILE = re.compile(r"\.(?=(tiff?|gpkg|xml|qml|json)$)", re.IGNORECASE)


@dataclass(frozen=True)
class Listed:
    """A scene as the list has it.

    Attributes:
        scene: What it is called: told from the list's folder where it lies below it, and without
            the keys of an address.
        source: What `open_source` takes. It may hold keys and is written nowhere.
        place: Where its map would like to be, below the batch's folder and without a suffix.
        told: What the list says of its contents, such as a checksum.
        item: What a STAC catalogue says of it.
        problem: Why it cannot be used, as far as the list shows.
    """

    scene: str
    source: str
    place: str
    told: str | None = None
    item: dict[str, Any] | None = None
    problem: str | None = None


def safe_place(*parts: str) -> str:
    """Return a place below a folder, with slashes, whose parts are taken by every file system.

    Args:
        parts: The names of folders, and the stem of a file.
    """
    *folders, stem = map(_safe, parts)
    # A folder is never called what a map could be called.
    return "/".join([*(_LIKE_A_FILE.sub("_", folder) for folder in folders), stem])


def _safe(part: str) -> str:
    text = part.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    text = _UNSAFE.sub("_", unicodedata.normalize("NFC", text)).strip(" .")
    if _RESERVED.fullmatch(text):
        text = f"_{text}"
    return text.encode()[:LONGEST].decode(errors="ignore").rstrip(" .") or "_"


class Names:
    """Gives each scene's map a name that no other has, however a file system tells cases apart.

    Args:
        taken: Names of maps, with slashes and their suffix, which are given already.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken: set[str] = set()
        for place in WHOLE:
            self._take(place)
        for name in taken:
            self._take(name.removesuffix(".tif"))

    def give(self, place: str) -> str:
        """Return the name of the map at a place, with a number where it is taken."""
        number, free = 1, place
        while any(f"{free}{kind}".casefold() in self._taken for kind in KINDS):
            number += 1
            free = f"{place}-{number}"
        self._take(free)
        return f"{free}.tif"

    def _take(self, place: str) -> None:
        self._taken.update(f"{place}{kind}".casefold() for kind in KINDS)
