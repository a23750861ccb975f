"""OpenStreetMap extracts (.osm.pbf): ways as lines, closed ways and multipolygons as areas."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.geo.grid import Bounds
from sat2map.geo.osm_shapes import is_area
from sat2map.geo.vector_layer import RawLayer, Value, lies, place, source_bounds, unreadable

logger = logging.getLogger(__name__)

WGS84 = "EPSG:4326"

IN_MEMORY = 400 * 2**20
"""Extracts above so many bytes keep the places of their nodes in a temporary file, which needs
about 16 bytes a node; below, in memory."""

BATCH = 20_000

AREA_RELATIONS = ("multipolygon", "boundary")
"""Types of relations that osmium makes areas of."""


def read_osm(path: Path, crs: Any, bounds: Bounds, columns: frozenset[str]) -> RawLayer:
    """Read the ways and multipolygons of an extract that touch a region.

    Args:
        path: .osm.pbf, or what else osmium reads.
        crs: Coordinates wanted.
        bounds: The region in these coordinates.
        columns: Keys of the tags that are of interest; what has none of them is left out.

    Raises:
        DataError: The file is damaged.
    """
    near = source_bounds(WGS84, crs, bounds)
    keys = sorted(columns)
    geometries: list[NDArray[np.object_]] = []
    rows: list[list[Value]] = []
    extent = np.array([np.inf, np.inf, -np.inf, -np.inf])
    try:
        for wkb, tags in _batches(path, keys):
            shapes = shapely.from_wkb(wkb)
            boxes = shapely.bounds(shapes)
            extent[:2] = np.minimum(extent[:2], boxes[:, :2].min(0))
            extent[2:] = np.maximum(extent[2:], boxes[:, 2:].max(0))
            here = (boxes[:, :2] <= near[2:]).all(1) & (boxes[:, 2:] >= near[:2]).all(1)
            geometries.append(shapes[here])
            rows += [tags[k] for k in np.flatnonzero(here).tolist()]
    except (RuntimeError, ValueError, OSError) as error:
        raise unreadable(path, error) from error
    found = np.concatenate([np.empty(0, object), *geometries])
    used = [k for k, key in enumerate(keys) if any(row[k] is not None for row in rows)]
    values = {keys[k]: [row[k] for row in rows] for k in used}
    where = lies(WGS84, extent, "") if np.isfinite(extent).all() else "has no ways"
    return RawLayer(path.stem, place(found, WGS84, crs, bounds), values, tuple(values), where)


def _batches(path: Path, keys: list[str]) -> Iterator[tuple[list[str], list[list[Value]]]]:
    """Yield lines and areas as hexadecimal WKB, and for each the values of `keys`."""
    import osmium

    filters = osmium.filter.KeyFilter(*keys)
    wkb: list[str] = []
    tags: list[list[Value]] = []
    # Counted and not kept by number, as a country has millions of them.
    lines_lacking, ways, relations, way_areas, relation_areas = 0, 0, 0, 0, 0
    factory = osmium.geom.WKBFactory()
    with TemporaryDirectory() as scratch:
        reader = osmium.FileProcessor(str(path))
        if path.stat().st_size > IN_MEMORY:
            reader = reader.with_locations(f"sparse_file_array,{Path(scratch) / 'nodes'}")
        reader = reader.with_areas(filters).with_filter(filters)
        wanted = osmium.osm.WAY | osmium.osm.RELATION | osmium.osm.AREA
        reader = reader.with_filter(osmium.filter.EntityFilter(wanted))
        for thing in reader:
            if isinstance(thing, osmium.osm.Relation):
                relations += thing.tags.get("type") in AREA_RELATIONS
                continue
            try:
                if isinstance(thing, osmium.osm.Area):
                    if thing.from_way() and not is_area(dict(thing.tags)):
                        continue
                    wkb.append(factory.create_multipolygon(thing))
                    way_areas += thing.from_way()
                    relation_areas += not thing.from_way()
                elif isinstance(thing, osmium.osm.Way):
                    if thing.is_closed() and is_area(dict(thing.tags)):
                        ways += 1
                        continue
                    wkb.append(factory.create_linestring(thing))
            except (
                RuntimeError,
                osmium.InvalidLocationError,
            ):  # nodes that the extract lacks, or all in one place
                lines_lacking += isinstance(thing, osmium.osm.Way)
                continue
            tags.append([thing.tags.get(key) or None for key in keys])
            if len(wkb) >= BATCH:
                yield wkb, tags
                wkb, tags = [], []
        if wkb:
            yield wkb, tags
    lacking = [
        (relations - relation_areas, "multipolygon", "multipolygons"),
        (ways - way_areas + lines_lacking, "way", "ways"),
    ]
    told = [f"{count:,} {one if count == 1 else more}" for count, one, more in lacking if count > 0]
    if told:
        logger.warning(
            f"{path}: {' and '.join(told)} of the extract lack members or nodes, or cross "
            "themselves, and are left out. Take a larger extract, or one that holds whole "
            "relations (osmium extract --strategy=smart)."
        )
