"""What a folder of chips is made of, what became of each place, and where each chip lies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from sat2map.atomic import atomic_file, sweep, write_text
from sat2map.chips.cut import Chip, Outcome
from sat2map.chips.ground import Sheet
from sat2map.errors import OutputError, parsed_json
from sat2map.fetch.openstreetmap import CREDITS
from sat2map.geo.grid import to_wgs84
from sat2map.geo.silencing import SILENCING
from sat2map.journal import Files, Journal, MadeOf, address_without_query, claim
from sat2map.raster.mask import vector_files
from sat2map.raster.sources import Source, open_file
from sat2map.style.features import VectorFile
from sat2map.style.spec import style_entries

WRITER = "sat2map data chips"
SETTINGS = "chips.json"
INDEX = "index.parquet"
NAMES = (SETTINGS, INDEX, "dataset.json", "split.png")
"""What lies beside the chips."""


class Record:
    """What became of the places of one folder; `recorded` makes it.

    Args:
        journal: The folder's journal.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def begin(self, chips: Sequence[Chip]) -> dict[str, Outcome]:
        """Begin, or go on, and return what is done by the chips' names.

        Raises:
            OutputError: A file of somebody else's has the name of one that is to be written.
        """
        folder = self._journal.folder
        for place in (folder, folder / "train", folder / "val"):
            sweep(place)
        finished = self._journal.finished()
        done: dict[str, Outcome] = {}
        for chip in chips:
            facts = finished.get(_name_of(chip))
            if facts is None:
                continue
            outcome = Outcome(chip, facts["reason"], facts["mapped"])
            if outcome.reason or image_of(folder, chip).is_file():
                done[chip.name] = outcome
        self._journal.start()
        self._journal.begin(*NAMES, *map(_name_of, chips))
        return done

    def add(self, outcome: Outcome) -> None:
        """Remember what became of a chip."""
        facts = {"reason": outcome.reason, "mapped": outcome.mapped}
        self._journal.finish(_name_of(outcome.chip), facts=facts)


@contextmanager
def recorded(directory: Path, made_of: MadeOf) -> Iterator[Record]:
    """Claim a folder that is new, empty, or holds chips that are made of the same.

    Raises:
        OutputError: It holds something else.
        UsageError: Another process works in it.
    """
    with claim(directory, WRITER, made_of, earlier=_of_older_versions) as journal:
        remedy = "Choose another folder, or remove this one."
        if journal.is_older:
            raise OutputError(
                "holds chips of an earlier version of sat2map, which is not gone on with",
                where=directory,
                remedy=remedy,
            )
        if journal.changed:
            raise OutputError(
                f"holds chips of other settings ({', '.join(journal.changed)})",
                where=directory,
                remedy=remedy,
            )
        yield Record(journal)


def _of_older_versions(directory: Path) -> dict[str, Any] | None:
    """Return nothing known where a version without journals wrote chips, else None."""
    try:
        told = parsed_json((directory / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return {} if isinstance(told, dict) and {"version", "imagery", "style"} <= told.keys() else None


def _name_of(chip: Chip) -> str:
    return f"{chip.split}/{chip.name}.png"


def image_of(directory: Path, chip: Chip) -> Path:
    """Return where a chip's image is."""
    return directory / chip.split / f"{chip.name}.png"


def write_settings(
    directory: Path,
    imagery: Sequence[str],
    vectors: Sequence[VectorFile],
    style: str | Path,
    settings: Mapping[str, Any],
) -> None:
    """Write `chips.json`: what the chips were cut of and how, for people."""
    told = {
        "imagery": [address_without_query(source) for source in imagery],
        "vectors": [[file.path.name, file.feature_class] for file in vectors],
        "style": [Path(style).name, style_fingerprint(style)],
        **settings,
    }
    write_text(directory / SETTINGS, json.dumps(told, indent=2) + "\n")


def write_index(
    directory: Path, outcomes: Sequence[Outcome], sheets: Sequence[Sheet], size: int
) -> None:
    """Write `index.parquet`: a GeoParquet of the chips that were kept, in WGS 84.

    Its columns are `name`, `split`, `imagery`, `row` and `column` of the upper left pixel on
    the imagery's grid at the chips' resolution, `mapped`, and the footprint.

    Raises:
        OutputError: The place is not writable or the disk is full.
    """
    import geopandas

    rows = [
        {
            "name": outcome.chip.name,
            "split": outcome.chip.split,
            "imagery": sheets[outcome.chip.sheet].shown,
            "row": outcome.chip.place[0],
            "column": outcome.chip.place[1],
            "mapped": outcome.mapped,
        }
        for outcome in outcomes
    ]
    footprints = [_footprint(sheets[o.chip.sheet], o.chip, size) for o in outcomes]
    with SILENCING, atomic_file(directory / INDEX) as aside:
        geopandas.GeoDataFrame(rows, geometry=footprints, crs="OGC:CRS84").to_parquet(aside)


def _footprint(sheet: Sheet, chip: Chip, size: int) -> shapely.Polygon:
    row, column = chip.place
    corners = np.array([(0.0, 0), (0, size), (size, size), (size, 0)])
    corners += (column, row)
    return shapely.Polygon(to_wgs84(sheet.grid, corners))


def made_of(
    imagery: Sequence[Source],
    vectors: Sequence[VectorFile],
    clouds: Sequence[Path],
    style: str | Path,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what makes chips what they are: fingerprints of the files, and settings.

    Raises:
        DataError: A raster cannot be opened.
    """
    told: dict[str, Any] = {
        **settings,
        "style": style_fingerprint(style),
        "classes of the vectors": [file.feature_class for file in vectors],
    }
    for what, sources in (("imagery", imagery), ("clouds", _looked_at(clouds))):
        for number, source in enumerate(sources, 1):
            for key, value in source.fingerprint().items():
                told[f"{key.replace('input', what)}{_numbered(number, sources)}"] = value
    for number, file in enumerate(vectors, 1):
        told[f"vectors{_numbered(number, vectors)}"] = Files(vector_files(file.path))
    return told


def _looked_at(files: Sequence[Path]) -> list[Source]:
    sources: list[Source] = []
    for file in files:
        with open_file(file) as source:
            sources.append(source)
    return sources


def style_fingerprint(style: str | Path) -> str:
    """Return what changes with what a style draws."""
    entries = json.dumps(style_entries(style), sort_keys=True)
    return hashlib.sha256(entries.encode()).hexdigest()[:32]


def _numbered(number: int, every: Sequence[object]) -> str:
    return f" {number}" if len(every) > 1 else ""


def credits_of(sheets: Sequence[Sheet], vectors: Sequence[VectorFile]) -> str | None:
    """Return whose the data is, as far as the files say."""
    images = dict.fromkeys(sheet.credit for sheet in sheets if sheet.credit)
    shapes = dict.fromkeys(told for file in vectors for told in _vector_credits(file.path))
    parts = [("Imagery: ", images), ("Vectors: ", shapes)]
    return ". ".join(word + "; ".join(told) for word, told in parts if told) or None


def _vector_credits(path: Path) -> list[str]:
    import pyogrio

    if path.name.lower().endswith((".pbf", ".osm")):
        return [", ".join(CREDITS.values())]
    try:
        layers = [str(name) for name, _ in pyogrio.list_layers(path)]
        facts = [pyogrio.read_info(path, layer=name).get("layer_metadata") or {} for name in layers]
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError):
        return []
    told = [", ".join(fact[key] for key in CREDITS if key in fact) for fact in facts]
    return [text for text in told if text]
