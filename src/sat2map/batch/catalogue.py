"""A folder of maps as a static STAC 1.1 catalogue, which every client of STAC reads.

    OUT/catalog.json                its folders, its maps and its model
    OUT/MODEL-FINGERPRINT.json      the model (extension MLM)
    OUT/north/catalog.json
    OUT/north/town.tif              a map
    OUT/north/town.stac.json        its item

An item tells what the map tells of itself (`provenance.py`), and is written once: as long as the
map is the same, so is its item. Links are told from each file, so the folder may be moved.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import rasterio
import shapely
from rasterio.features import shapes
from rasterio.transform import Affine

from sat2map.arguments import checks_arguments
from sat2map.atomic import write_text
from sat2map.errors import DataError, OutputError, parsed_json
from sat2map.geo.gdal import is_address, reading_from
from sat2map.geo.grid import Grid, ProjectionError, ground_resolution, to_wgs84
from sat2map.legend import LEGEND_TAG
from sat2map.model.card import ModelCard, model_folder, read_model_card
from sat2map.provenance import TAG, Provenance
from sat2map.raster.georeference import grid_of

CATALOGUE = "catalog.json"
ITEM = ".stac.json"
VERSION = "1.1.0"

UNKNOWN = ("1900-01-01T00:00:00Z", "2099-12-31T23:59:59Z")
"""The range of a map of which nobody knows when its source was taken: STAC wants one, and the time
at which the map was made would be false."""

_EXTENSIONS = {
    "projection": "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "raster": "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "file": "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "classification": "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "processing": "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "mlm": "https://stac-extensions.github.io/mlm/v1.4.0/schema.json",
}

_MEDIA = {
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".gpkg": "application/geopackage+sqlite3",
    ".json": "application/json",
    ".xml": "application/xml",
    ".png": "image/png",
}
_LOOK = 256
"""Side of the thinned look at a map from which its footprint is taken."""

_SHA256 = "1220"
"""What a SHA-256 begins with as a multihash."""

_OURS = "sat2map:written"


@dataclass(frozen=True)
class Entry:
    """A map of a catalogue.

    Attributes:
        name: The map, told from the catalogue's folder, with slashes.
        files: All files of it with the SHA-256 of their contents, names told likewise; None of
            the map itself has it read.
        source: What it was made of, a file or an address without keys; None is not known.
        item: What a STAC catalogue says of that: `href`, `datetime`, `start_datetime`,
            `end_datetime`.
    """

    name: str
    files: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None
    item: Mapping[str, Any] | None = None


@checks_arguments
def write_catalogue(
    out: str | Path, entries: Iterable[Entry], model: str | Path | None = None
) -> Path:
    """Write the items of maps that have none yet, and the catalogues that name all of them.

    Args:
        out: The folder of the maps.
        entries: The maps, in the order in which they are named.
        model: The model or its folder; None takes the shipped one that the maps name.

    Returns:
        The catalogue, OUT/catalog.json.

    Raises:
        DataError: A map cannot be read, or does not say what it was made of.
        OutputError: There is a file of that name that is somebody else's, the place is not writable
            or the disk is full.
    """
    out = Path(out)
    below: dict[PurePosixPath, list[str]] = defaultdict(list)
    below[PurePosixPath()] = []
    models: dict[str, Provenance] = {}
    for entry in entries:
        place = PurePosixPath(entry.name)
        made = _write_item(out, entry)
        below[place.parent].append(item_of(place).name)
        if made is not None and made.model is not None:
            models.setdefault(_model_item(made), made)
    for name, made in models.items():
        _write_model(out / name, made, model)
    known = {link.name for link in out.glob("*.model.json")} | set(models)
    for folder in {parent for place in below for parent in place.parents}:
        below.setdefault(folder, [])
    for folder, items in below.items():
        inner = sorted(other.name for other in below if other != folder and other.parent == folder)
        more = sorted(known) if folder == PurePosixPath() else []
        _write_own(out / folder / CATALOGUE, _catalogue(out, folder, inner, [*items, *more]))
    return out / CATALOGUE


def item_of(name: PurePosixPath) -> PurePosixPath:
    """Return the item of a map."""
    return name.with_name(name.stem + ITEM)


def _catalogue(out: Path, folder: PurePosixPath, inner: list[str], items: list[str]) -> str:
    """Return the catalogue of a folder."""
    root = "/".join([".."] * len(folder.parts)) or "."
    links: list[dict[str, str]] = [_link("root", f"{root}/{CATALOGUE}")]
    if folder.parts:
        links.append(_link("parent", f"../{CATALOGUE}"))
    links += [_link("child", f"./{name}/{CATALOGUE}") for name in inner]
    links += [_link("item", f"./{name}") | {"type": "application/geo+json"} for name in items]
    name = folder.name or out.absolute().name
    told = {
        "type": "Catalog",
        "stac_version": VERSION,
        "id": _id(folder.parts) or "maps",
        "title": name,
        "description": f"Maps made by sat2map, in the folder {name}.",
        _OURS: True,
        "links": links,
    }
    return json.dumps(told, indent=1) + "\n"


def _id(parts: tuple[str, ...]) -> str:
    """Return an id of a place that no other place has."""
    joined = "--".join(parts)
    if not any("--" in part for part in parts):
        return joined
    return f"{joined}-{hashlib.sha256('/'.join(parts).encode()).hexdigest()[:8]}"


def _link(relation: str, href: str) -> dict[str, str]:
    return {"rel": relation, "href": href, "type": "application/json"}


def _write_own(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a document of a catalogue, unless it is the same; what is somebody else's is kept.

    Empty is what a machine that died has left of ours.

    Raises:
        OutputError: It is somebody else's.
    """
    try:
        before = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        before = None
    except (OSError, UnicodeDecodeError):
        before = "?"
    if before == text:
        return
    if before and f'"{_OURS}"' not in before:
        raise OutputError(
            "is there already and was not written by sat2map",
            where=path,
            remedy="Move it away, or choose another folder.",
        )
    write_text(path, text, durable=durable)


def _write_item(out: Path, entry: Entry) -> Provenance | None:
    """Write the item of a map, and return what that was made of; None where it was there."""
    path = out / item_of(PurePosixPath(entry.name))
    if _is_current(path, out / entry.name, entry.files.get(entry.name)):
        return None
    made, told = _item(out, entry)
    # There are many: without indents they take a third of the time, and a damaged one is written
    # again.
    _write_own(path, json.dumps(told, ensure_ascii=False) + "\n", durable=False)
    return made


def _is_current(item: Path, file: Path, checksum: str | None) -> bool:
    """Return whether an item is of a map as it is now."""
    if checksum is not None:
        try:
            told = parsed_json(item.read_bytes())
            return bool(told["assets"]["map"]["file:checksum"] == _SHA256 + checksum)
        except (OSError, ValueError, KeyError, TypeError):
            return False
    try:
        facts = item.stat()
        return facts.st_size > 0 and facts.st_mtime_ns >= file.stat().st_mtime_ns
    except OSError:
        return False


def _item(out: Path, entry: Entry) -> tuple[Provenance, dict[str, Any]]:
    """Return what a map was made of, and its item."""
    file, place = out / entry.name, PurePosixPath(entry.name)
    with reading_from(file), rasterio.open(file) as dataset:
        tags = dataset.tags()
        made = Provenance.from_text(tags.get(TAG), file)
        if made is None:
            raise DataError(
                "does not say what it was made of",
                where=file,
                remedy="Make it anew with this version of sat2map.",
            )
        grid = grid_of(dataset)
        geometry = footprint(dataset, grid)
        bands = [
            {"name": colour.name, "data_type": kind}
            for colour, kind in zip(dataset.colorinterp, dataset.dtypes, strict=True)
        ]
    root = "/".join([".."] * len(place.parent.parts)) or "."
    links: list[dict[str, str]] = [
        _link("root", f"{root}/{CATALOGUE}"),
        _link("parent", f"./{CATALOGUE}"),
    ]
    source = _source_link(out / place.parent, entry, made)
    links += [] if source is None else [source]
    if made.model is not None:
        links.append(_link("model", f"{root}/{_model_item(made)}") | {"title": made.model.name})
    told: dict[str, Any] = {
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": [
            _EXTENSIONS[name]
            for name in ("projection", "raster", "file", "classification", "processing")
        ],
        "id": _id((*place.parent.parts, place.stem)),
        "geometry": geometry,
        "properties": _properties(made, grid, entry),
        "links": links,
        "assets": _assets(out, entry, bands, grid),
    }
    if geometry is not None:
        told["bbox"] = _bbox(geometry)
    return made, told


def _properties(made: Provenance, grid: Grid, entry: Entry) -> dict[str, Any]:
    crs = grid.crs
    code = None if crs is None else crs.to_authority()
    projection: dict[str, Any] = {"proj:code": None if code is None else ":".join(code)}
    if code is None and crs is not None:
        projection["proj:wkt2"] = crs.to_wkt(version="WKT2_2019")
    ground = ground_resolution(grid)
    return {
        "title": PurePosixPath(entry.name).stem,
        **_times(made, entry.item or {}),
        **({} if ground is None else {"gsd": round(max(ground), 4)}),
        **({} if made.licence is None else {"license": made.licence}),
        **({} if made.attribution is None else {"attribution": made.attribution}),
        **projection,
        "proj:shape": [grid.height, grid.width],
        **({} if grid.points else {"proj:transform": list(map(float, grid.transform[:6]))}),
        "processing:software": {"sat2map": made.version},
        "sat2map:provenance": made.to_json(),
        _OURS: True,
    }


def _times(made: Provenance, item: Mapping[str, Any]) -> dict[str, Any]:
    """Return when the source was taken, never when the map was made."""
    start, end = item.get("start_datetime"), item.get("end_datetime")
    ranged = {} if start is None or end is None else {"start_datetime": start, "end_datetime": end}
    if item.get("datetime") is not None or ranged:
        return {"datetime": item.get("datetime"), **ranged}
    first, _, last = (made.acquired or "").partition("/")
    if first and not last:
        return {"datetime": first}
    start, end = (first, last) if last else UNKNOWN
    return {"datetime": None, "start_datetime": start, "end_datetime": end}


def _source_link(folder: Path, entry: Entry, made: Provenance) -> dict[str, str] | None:
    """Return the link to what a map was made of: to its item where it has one."""
    named = {"rel": "derived_from", "title": made.source.name}
    href = None if entry.item is None else entry.item.get("href")
    if href is not None:
        return {**named, "href": _href(folder, str(href)), "type": "application/geo+json"}
    if entry.source is None:
        return None
    return {**named, "href": _href(folder, entry.source)}


def _href(folder: Path, name: str) -> str:
    """Return a name as a link has it: an address as it is, a file told from the folder."""
    if is_address(name):
        return name
    return Path(os.path.relpath(name, folder.absolute())).as_posix()


def _assets(
    out: Path, entry: Entry, bands: list[dict[str, Any]], grid: Grid
) -> dict[str, dict[str, Any]]:
    """Return the files of a map."""
    place = PurePosixPath(entry.name)
    own: dict[str, Any] = {"title": "Map", "roles": ["data", "visual"], "bands": bands}
    step = math.hypot(grid.transform.a, grid.transform.d)
    if not grid.points:
        own["raster:spatial_resolution"] = step
    found = {"map": _asset(out, entry, place) | own}
    for name in entry.files:
        other = PurePosixPath(name)
        if other == place or other.name.endswith((".aux.xml", ITEM)):
            continue
        key = other.name.removeprefix(f"{place.stem}.").replace(".tif", "").replace(".", "-")
        found[key] = _asset(out, entry, other) | {"roles": ["data"]}
        if other.suffix == ".tif":
            found[key] |= _classes(out / other)
    return found


def _asset(out: Path, entry: Entry, file: PurePosixPath) -> dict[str, Any]:
    path = out / file
    checksum = entry.files.get(str(file))
    if checksum is None:
        with path.open("rb") as opened:
            checksum = hashlib.file_digest(opened, "sha256").hexdigest()
    media = _MEDIA.get(file.suffix.lower())
    return {
        "href": f"./{file.name}",
        **({} if media is None else {"type": media}),
        "file:size": path.stat().st_size,
        "file:checksum": _SHA256 + checksum,
    }


def _classes(file: Path) -> dict[str, Any]:
    """Return what the numbers of a class map mean, nothing of another raster."""
    with reading_from(file), rasterio.open(file) as dataset:
        text = dataset.tags().get(LEGEND_TAG)
    try:
        legend = parsed_json(text) if text is not None else []
    except ValueError:
        legend = []
    classes = [
        {
            "value": number,
            "name": entry["name"],
            "description": entry["name"].replace("_", " "),
            "color_hint": "{:02X}{:02X}{:02X}".format(*entry["colour"]),
        }
        for number, entry in enumerate(legend)
    ]
    return {"classification:classes": classes} if classes else {}


def footprint(dataset: Any, grid: Grid) -> dict[str, Any] | None:
    """Return where a map shows something, GeoJSON in degrees; None where it lies nowhere.

    It is taken from a thinned look. Across the antimeridian it is cut there.

    Args:
        dataset: What rasterio opened.
        grid: Its grid.
    """
    if grid.crs is None or not grid.georeferenced:
        return None
    size = (min(dataset.height, _LOOK), min(dataset.width, _LOOK))
    mask = dataset.dataset_mask(out_shape=size) != 0
    down, across = dataset.height / size[0], dataset.width / size[1]
    if mask.all() or not mask.any():
        found = shapely.box(0, 0, dataset.width, dataset.height)
    else:
        parts = shapes(mask.astype(np.uint8), mask, transform=Affine.scale(across, down))
        found = shapely.union_all([shapely.geometry.shape(shape) for shape, _ in parts])
        found = shapely.simplify(found, 1.5 * max(down, across))
    found = shapely.segmentize(found, max(dataset.height, dataset.width) / 8)
    try:
        degrees = shapely.transform(found, lambda points: to_wgs84(grid, points))
    except ProjectionError:
        return None
    told: dict[str, Any] = _rounded(shapely.geometry.mapping(_cut(degrees)))
    return told


def _cut(shape: Any) -> Any:
    """Return a shape in degrees, cut where it crosses the antimeridian."""
    shape = shapely.make_valid(shape)
    west, _, east, _ = shapely.bounds(shape)
    if east - west <= 180 and west >= -180 and east <= 180:
        return shape
    if east - west > 180:  # some longitudes jumped
        shape = shapely.make_valid(
            shapely.transform(shape, lambda p: np.column_stack([p[:, 0] % 360, p[:, 1]]))
        )
    parts = []
    for turn in (-360, 0, 360):
        box = shapely.box(-180 + turn, -90, 180 + turn, 90)
        inside = shapely.intersection(shape, box)
        if not shapely.is_empty(inside):
            parts.append(shapely.transform(inside, lambda p, turn=turn: p - (turn, 0)))
    return shapely.union_all(parts)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(one) for one in value]
    return round(float(value), 7) if isinstance(value, float) else value


def _bbox(geometry: dict[str, Any]) -> list[float]:
    """Return west, south, east, north; across the antimeridian west exceeds east (RFC 7946)."""
    shape = shapely.geometry.shape(geometry)
    west, south, east, north = shapely.bounds(shape).tolist()
    if west <= -180 and east >= 180 and shapely.get_num_geometries(shape) > 1:
        parts = shapely.bounds(shapely.get_parts(shape))
        west = float(parts[parts[:, 0] > 0, 0].min(initial=180))
        east = float(parts[parts[:, 2] < 0, 2].max(initial=-180))
    return [west, south, east, north]


def _model_item(made: Provenance) -> str:
    """Return the name of the item of a model."""
    assert made.model is not None
    return f"{made.model.name}-{made.model.fingerprint[:8]}.model.json"


def _write_model(path: Path, made: Provenance, model: str | Path | None) -> None:
    """Write the item of the model that made maps, unless it is there."""
    assert made.model is not None
    if path.exists():
        return
    folder = model_folder(made.model.name if model is None else model)
    card = read_model_card(folder)
    told = {
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": [_EXTENSIONS["mlm"]],
        "id": path.name.removesuffix(".model.json"),
        "geometry": None,
        "properties": {
            "title": made.model.name,
            "datetime": None,
            "start_datetime": UNKNOWN[0],
            "end_datetime": UNKNOWN[1],
            **({} if made.model.licence is None else {"description": made.model.licence}),
            **_described(made, card),
            "sat2map:fingerprint": made.model.fingerprint,
            _OURS: True,
        },
        "links": [_link("root", f"./{CATALOGUE}"), _link("parent", f"./{CATALOGUE}")],
        "assets": {
            "model": {
                "href": _weights(path.parent, folder, made),
                "title": "Weights",
                "roles": ["mlm:model", "mlm:weights"],
                "mlm:artifact_type": "safetensors",
            }
        },
    }
    _write_own(path, json.dumps(told, indent=1, ensure_ascii=False) + "\n")


def _weights(out: Path, folder: Path, made: Provenance) -> str:
    """Return where a model is: of one that comes with the package, as a package URL."""
    if folder == model_folder(folder.name):
        return f"pkg:pypi/sat2map@{made.version}#sat2map/models/{folder.name}"
    return _href(out, str(folder))


def _described(made: Provenance, card: ModelCard) -> dict[str, Any]:
    """Return a model in the words of MLM."""
    assert made.model is not None
    runtime = (made.runtime or "").split()
    shape = {"dim_order": ["batch", "channel", "height", "width"], "data_type": "float32"}
    entries = [] if card.legend is None else card.legend.classes
    classes = [
        {
            "value": number,
            "name": entry.name,
            "description": entry.name.replace("_", " "),
            "color_hint": "{:02X}{:02X}{:02X}".format(*entry.colour),
        }
        for number, entry in enumerate(entries)
    ]
    task = "semantic-segmentation" if card.generator.head == "legend" else "generative"
    return {
        "mlm:name": made.model.name,
        "mlm:architecture": card.generator.name,
        "mlm:tasks": [task],
        "mlm:framework": runtime[0] if runtime else "torch",
        "mlm:framework_version": runtime[1] if len(runtime) > 1 else None,
        "mlm:pretrained": True,
        "mlm:input": [
            {
                "name": "photo",
                "bands": list(card.bands),
                "input": {"shape": [-1, len(card.bands), -1, -1], **shape},
                "value_scaling": [{"type": "min-max", "minimum": 0, "maximum": 255}],
            }
        ],
        "mlm:output": [
            {
                "name": "map",
                "tasks": [task],
                "result": {
                    "shape": [-1, len(classes) or card.generator.out_channels, -1, -1],
                    **shape,
                },
                "classification:classes": classes,
            }
        ],
    }
