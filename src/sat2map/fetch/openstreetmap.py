"""OpenStreetMap vectors of a bounding box, from an Overpass API server into a GeoPackage.

The box is cut into parts that a public server answers in good time; they are asked for one
after the other, and a part that is too much for the server is quartered. Every answer is kept
in the user's cache folder, so that an interrupted command goes on.
"""

from __future__ import annotations

import hashlib
import html
import json
import logging
import math
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from sat2map.arguments import checks_arguments
from sat2map.atomic import atomic_file
from sat2map.errors import DataError, MissingExtraError, OutputError, UsageError, parsed_json
from sat2map.fetch.http import Client, Refusal
from sat2map.geo.grid import Bounds
from sat2map.geo.osm_shapes import OsmShape, shape_of
from sat2map.journal import address_without_query
from sat2map.user_cache import cache_folder, keep_within_limit

log = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]

OFFICIAL = "https://overpass-api.de/api/interpreter"
CREDITS = {
    "ATTRIBUTION": "© OpenStreetMap contributors",
    "LICENCE": "Open Database License (ODbL) 1.0, https://www.openstreetmap.org/copyright",
}

TIMEOUT_S = 180
MAXSIZE = 512 << 20
"""Bytes of memory that a query may take on the server (its own default)."""

PART_DEGREES = 0.08
"""Largest side of a part of the box: some nine kilometres."""

SMALLEST_DEGREES = 0.002
LARGEST_SQUARE_DEGREES = 1.0
"""More than this belongs to an extract: public servers ask not to be scraped."""

KEYS = (
    *("aeroway", "amenity", "area:highway", "barrier", "bridge", "building", "highway"),
    *("historic", "landuse", "leisure", "man_made", "military", "natural", "place", "power"),
    *("railway", "tourism", "water", "waterway"),
)
"""What has one of these keys is fetched: all that a map of the ground draws."""

COLUMNS = (
    *KEYS,
    *("access", "area", "covered", "intermittent", "lanes", "layer", "level", "location"),
    *("name", "oneway", "ref", "service", "surface", "tracktype", "tunnel", "usage"),
    *("wetland", "width"),
)
"""Tags with a column of their own; the others stand in the column `tags` as JSON."""


@checks_arguments
def fetch_osm(
    bbox: Bounds,
    target: Path,
    *,
    url: str = OFFICIAL,
    refresh: bool = False,
    client: Client | None = None,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Write the ways and multipolygons of OpenStreetMap in a box to a GeoPackage.

    Its layers are `areas` and `lines` in WGS 84, whole where they cross the border of the box,
    with a column for each tag of `COLUMNS`, `tags` for the others, `osm_type` and `osm_id`.
    The attribution, the licence, the address without what stands behind a `?`, and the oldest
    date of the data stand in its metadata.

    Args:
        bbox: West, south, east, north in degrees; west above east crosses the antimeridian.
        target: A name that ends in .gpkg; an existing file is replaced.
        url: The address of an Overpass API server's `interpreter`.
        refresh: Ask anew for what is in the cache.
        client: Who asks; by default a patient one.
        progress: Called with the number of parts done and of all.

    Returns:
        The number of features of each layer.

    Raises:
        UsageError: The name or the box is not usable.
        MissingExtraError: pyogrio is not installed.
        DataError: The server refuses or cannot be reached, or there is nothing in the box.
        OutputError: The place is not writable or the disk is full.
    """
    if target.suffix.lower() != ".gpkg":
        raise UsageError("is not a GeoPackage", where=target, remedy="End the name in .gpkg.")
    parts = _parts(bbox)
    client = Client(timeout=TIMEOUT_S + 60) if client is None else client
    counts: dict[str, int] = {}
    seen: set[tuple[str, int]] = set()
    broken = 0
    with _package(target) as write:
        answers, dates = _ask_all(client, url, parts, refresh, progress)
        # The oldest date holds for all of it; only when all is there it is known.
        facts = {"SOURCE": _shown(url)} | ({"DATE": min(dates)} if dates else {})
        for kept in answers:
            shapes: list[OsmShape] = []
            for element in _read(kept.read_bytes(), url)["elements"]:
                key = (str(element.get("type")), int(element.get("id", 0)))
                if key in seen:
                    continue
                seen.add(key)
                shape = shape_of(element)
                if shape is None:
                    broken += 1
                else:
                    shapes.append(shape)
            for layer, number in write(shapes, facts).items():
                counts[layer] = counts.get(layer, 0) + number
        if not counts:
            raise DataError(
                "OpenStreetMap has nothing there that a map would show",
                parameter="bbox",
                remedy="Give west,south,east,north in degrees (WGS 84), in this order.",
            )
    if broken:
        log.warning(f"{target}: {broken} elements without a whole geometry were left out.")
    keep_within_limit()
    return counts


def _ask_all(
    client: Client, url: str, parts: list[Bounds], refresh: bool, progress: Progress | None
) -> tuple[list[Path], set[str]]:
    """Return the files with the answers for all parts, and the dates of their data."""
    answers: list[Path] = []
    dates: set[str] = set()
    done, total = 0, len(parts)
    while parts:
        if progress is not None:
            progress(done, total)
        part = parts.pop()
        kept = _answer(client, url, part, refresh)
        if kept is None:
            quarters = _quarters(part, url)
            parts += quarters
            total += len(quarters) - 1
            continue
        done += 1
        answers.append(kept)
        said = _read(kept.read_bytes(), url).get("osm3s")
        if isinstance(said, dict) and said.get("timestamp_osm_base"):
            dates.add(str(said["timestamp_osm_base"]))
    if progress is not None:
        progress(done, total)
    return answers, dates


def _shown(url: str) -> str:
    """Return an address as it may be told."""
    return address_without_query(url)


def query_of(bbox: Bounds) -> str:
    """Return the Overpass QL query for a box that does not cross the antimeridian."""
    west, south, east, north = bbox
    box = ",".join(f"{value:.7f}" for value in (south, west, north, east))
    keys = f'~"^({"|".join(KEYS)})$"~"."'
    return (
        f"[out:json][timeout:{TIMEOUT_S}][maxsize:{MAXSIZE}];"
        f'(way[{keys}]({box});relation["type"="multipolygon"][{keys}]({box}););'
        "out geom qt;"
    )


def _parts(bbox: Bounds) -> list[Bounds]:
    """Cut a box into parts, the last first."""
    west, south, east, north = bbox
    if west >= east:
        return _parts((-180.0, south, east, north)) + _parts((west, south, 180.0, north))
    if (east - west) * (north - south) > LARGEST_SQUARE_DEGREES:
        raise UsageError(
            f"a box of {east - west:.3g} x {north - south:.3g} degrees is too large to ask for",
            parameter="bbox",
            remedy="Download an extract (.osm.pbf), for example of https://download.geofabrik.de, "
            "and give it as `vectors`.",
        )
    columns = math.ceil((east - west) / PART_DEGREES)
    rows = math.ceil((north - south) / PART_DEGREES)
    xs = np.linspace(west, east, columns + 1).tolist()
    ys = np.linspace(south, north, rows + 1).tolist()
    return [
        (xs[c], ys[r], xs[c + 1], ys[r + 1])
        for r in reversed(range(rows))
        for c in reversed(range(columns))
    ]


def _quarters(part: Bounds, url: str) -> list[Bounds]:
    west, south, east, north = part
    if min(east - west, north - south) < SMALLEST_DEGREES:
        raise DataError(
            "the server cannot answer even for {:.4f},{:.4f},{:.4f},{:.4f}".format(*part),
            where=_shown(url),
            remedy="Try again later, or another server as `url`.",
        )
    x, y = (west + east) / 2, (south + north) / 2
    return [(x, y, east, north), (west, y, x, north), (x, south, east, y), (west, south, x, y)]


def _answer(client: Client, url: str, part: Bounds, refresh: bool) -> Path | None:
    """Return the file in the cache with the answer; None where the part is too much to ask."""
    query = query_of(part)
    name = hashlib.sha256(f"{url}\n{query}".encode()).hexdigest()[:32]
    kept = cache_folder() / "osm" / f"{name}.json"
    if kept.is_file() and not refresh:
        date = datetime.fromtimestamp(kept.stat().st_mtime, UTC)
        log.info(f"{kept}: answered on {date:%Y-%m-%d}")
        return kept
    body = urllib.parse.urlencode({"data": query}).encode()
    try:
        content = client.ask(url, body, shown=_shown(url)).content
    except Refusal as refusal:
        said = _said(refusal.content)
        if not said:
            raise
        raise DataError(
            f"the server answers {refusal.status} ({said})",
            where=_shown(url),
            remedy="Check that the address is that of an Overpass API `interpreter`.",
        ) from refusal
    answer = _read(content, url)
    remark = str(answer.get("remark", ""))
    if "timed out" in remark or "out of memory" in remark:
        log.info(f"{_shown(url)}: {remark}; the part is quartered")
        return None
    if "error" in remark:
        raise DataError(
            f"the server answers: {remark.strip()}", where=_shown(url), remedy="Try again later."
        )
    with atomic_file(kept) as aside:
        aside.write_bytes(content)
    return kept


def _read(content: bytes, url: str) -> dict[str, Any]:
    try:
        answer = parsed_json(content)
        if not isinstance(answer["elements"], list):
            raise TypeError
    except (ValueError, TypeError, KeyError) as error:
        said = _said(content)
        raise DataError(
            "does not answer as an Overpass API server does" + (f" ({said})" if said else ""),
            where=_shown(url),
            remedy="Check that the address ends in /api/interpreter, or try again later.",
        ) from error
    return dict(answer)


def _said(content: bytes) -> str:
    """Return what the server's page of an error says, without its markup."""
    text = content.decode("utf-8", "replace")
    errors: list[str] = re.findall(r"<p><strong[^>]*>Error</strong>:(.*?)</p>", text, re.DOTALL)
    return "; ".join(" ".join(html.unescape(error).split()) for error in errors)[:300]


@contextmanager
def _package(
    target: Path,
) -> Iterator[Callable[[list[OsmShape], Mapping[str, str]], dict[str, int]]]:
    """Yield a function that adds shapes to a GeoPackage, which appears when it is whole."""
    try:
        from pyogrio import errors, raw
    except ImportError as error:
        raise MissingExtraError("pyogrio", "cartography") from error
    begun: set[str] = set()

    with atomic_file(target) as aside:

        def write(shapes: list[OsmShape], facts: Mapping[str, str]) -> dict[str, int]:
            counts: dict[str, int] = {}
            for layer, kind in (("areas", "MultiPolygon"), ("lines", "LineString")):
                lines = layer == "lines"
                chosen = [s for s in shapes if (s.geometry.geom_type == "LineString") == lines]
                if not chosen:
                    continue
                names, columns = _columns(chosen)
                raw.write(
                    aside,
                    geometry=shapely.to_wkb(np.array([s.geometry for s in chosen], object)),
                    fields=names,
                    field_data=columns,
                    layer=layer,
                    driver="GPKG",
                    geometry_type=kind,
                    promote_to_multi=not lines,
                    crs="EPSG:4326",
                    append=layer in begun,
                    layer_metadata=None if layer in begun else {**CREDITS, **facts},
                )
                begun.add(layer)
                counts[layer] = len(chosen)
            return counts

        try:
            yield write
        except (errors.DataSourceError, errors.DataLayerError, errors.FeatureError) as error:
            raise OutputError(
                f"cannot be written ({str(error).splitlines()[0]})",
                where=target,
                remedy="Free some space, or choose a folder that you may write to.",
            ) from error
        finally:
            for file in target.parent.glob(f"{aside.name}-*"):  # SQLite's own files
                file.unlink()


def _columns(shapes: list[OsmShape]) -> tuple[list[str], list[np.ndarray[Any, Any]]]:
    names = ["osm_type", "osm_id", *COLUMNS, "tags"]
    own = frozenset(COLUMNS)
    columns: list[np.ndarray[Any, Any]] = [
        np.array([shape.kind for shape in shapes], object),
        np.array([shape.number for shape in shapes], np.int64),
    ]
    columns += [np.array([shape.tags.get(k) for shape in shapes], object) for k in COLUMNS]
    others = [{k: v for k, v in s.tags.items() if k not in own} for s in shapes]
    texts = [json.dumps(o, ensure_ascii=False) if o else None for o in others]
    columns.append(np.array(texts, object))
    return names, columns
