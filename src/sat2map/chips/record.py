"""What a folder of chips remembers: its settings, what became of each place, where each lies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from sat2map.atomic import whole_file, write_text
from sat2map.chips.cut import Chip, Outcome
from sat2map.chips.ground import Sheet
from sat2map.errors import OutputError, writing_to
from sat2map.fetch.openstreetmap import CREDITS
from sat2map.geo.gdal import is_address
from sat2map.geo.grid import to_wgs84
from sat2map.raster.sources import opening
from sat2map.style.features import VectorFile

SETTINGS = "chips.json"
JOURNAL = "chips.jsonl"
INDEX = "index.parquet"
VERSION = 1


class Record:
    """The memory of one folder.

    Args:
        directory: The folder.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._settings: dict[str, Any] = {}

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Check that a folder is new, empty, or holds chips of these settings.

        Raises:
            OutputError: It is something else.
        """
        self._settings = {"version": VERSION, **json.loads(json.dumps(settings))}
        directory = self._directory
        with writing_to(directory):
            if directory.exists() and not directory.is_dir():
                raise OutputError("is a file", where=directory, remedy="Choose another folder.")
            held = directory.is_dir() and any(
                not entry.name.startswith(".") for entry in directory.iterdir()
            )
        if not held:
            return
        try:
            earlier = json.loads((directory / SETTINGS).read_text(encoding="utf-8"))
            differing = [
                key
                for key in self._settings | earlier
                if earlier.get(key) != self._settings.get(key)
            ]
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise OutputError(
                "is not empty and was not written by 'sat2map data chips'",
                where=directory,
                remedy="Choose a new or empty folder.",
            ) from error
        if differing:
            raise OutputError(
                f"holds chips of other settings ({', '.join(differing)})",
                where=directory,
                remedy="Choose another folder, or remove this one.",
            )

    def begin(self) -> dict[str, Outcome]:
        """Begin, or go on: write the settings, and return what is done by the chips' names."""
        write_text(self._directory / SETTINGS, json.dumps(self._settings, indent=2) + "\n")
        journal = self._directory / JOURNAL
        done: dict[str, Outcome] = {}
        lines = journal.read_text(encoding="utf-8").splitlines() if journal.is_file() else []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:  # the last line of a call that was killed
                continue
            chip = Chip(
                entry["sheet"], (entry["row"], entry["column"]), entry["split"], entry["name"]
            )
            outcome = Outcome(chip, entry["reason"], entry["mapped"])
            if outcome.reason or picture_of(self._directory, chip).is_file():
                done[chip.name] = outcome
        write_text(journal, "".join(_line(outcome) for outcome in done.values()))
        return done

    def add(self, outcome: Outcome) -> None:
        """Remember what became of a chip."""
        journal = self._directory / JOURNAL
        with writing_to(journal), journal.open("a", encoding="utf-8") as file:
            file.write(_line(outcome))


def picture_of(directory: Path, chip: Chip) -> Path:
    """Return where a chip's picture is."""
    return directory / chip.split / f"{chip.name}.png"


def _line(outcome: Outcome) -> str:
    chip = outcome.chip
    entry = {
        "name": chip.name,
        "sheet": chip.sheet,
        "row": chip.place[0],
        "column": chip.place[1],
        "split": chip.split,
        "reason": outcome.reason,
        "mapped": outcome.mapped,
    }
    return json.dumps(entry) + "\n"


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
            "imagery": sheets[outcome.chip.sheet].source,
            "row": outcome.chip.place[0],
            "column": outcome.chip.place[1],
            "mapped": outcome.mapped,
        }
        for outcome in outcomes
    ]
    footprints = [_footprint(sheets[o.chip.sheet], o.chip, size) for o in outcomes]
    table = geopandas.GeoDataFrame(rows, geometry=footprints, crs="OGC:CRS84")
    with whole_file(directory / INDEX) as aside:
        table.to_parquet(aside)


def _footprint(sheet: Sheet, chip: Chip, size: int) -> shapely.Polygon:
    row, column = chip.place
    corners = np.array([(0.0, 0), (0, size), (size, size), (size, 0)])
    corners += (column, row)
    return shapely.Polygon(to_wgs84(sheet.grid, corners))


def fingerprint(
    imagery: Sequence[str], vectors: Sequence[VectorFile], style: str | Path, more: dict[str, Any]
) -> dict[str, Any]:
    """Return what makes chips what they are, for JSON: the files with size and time, and more."""
    return {
        "imagery": [_state(source) for source in imagery],
        "vectors": [[*_state(file.path), file.feature_class] for file in vectors],
        "style": _style_state(str(style)),
        **more,
    }


def _state(source: str | Path) -> list[Any]:
    """Return a name, and of a file its size and when it was changed."""
    if is_address(source) or not Path(source).is_file():
        return [str(source)]
    stat = Path(source).stat()
    return [str(Path(source).resolve()), stat.st_size, stat.st_mtime_ns]


def _style_state(name: str) -> list[str]:
    shipped = files("sat2map.style") / "styles" / f"{name}.json"
    content = shipped.read_bytes() if shipped.is_file() else Path(name).read_bytes()
    return [name, hashlib.sha256(content).hexdigest()[:16]]


def credits_of(imagery: Sequence[str], vectors: Sequence[VectorFile]) -> str | None:
    """Return whose the data is, as far as the files say."""
    pictures: dict[str, None] = {}
    for source in imagery:
        with opening(source).open() as dataset:
            tags = dataset.tags()
        told = tags.get("ATTRIBUTION") or tags.get("TIFFTAG_COPYRIGHT")
        if told:
            pictures[told] = None
    shapes = dict.fromkeys(told for file in vectors for told in _vector_credits(file.path))
    parts = [("Imagery: ", pictures), ("Vectors: ", shapes)]
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
