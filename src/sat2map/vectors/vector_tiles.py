"""Vector tiles as one file, and the MapLibre style that shows them.

GDAL makes the tiles of each layer, in an archive of its own. A vector tile is a list of layers, so
the tiles of all layers at one place, one after the other, are a tile, too.
"""

from __future__ import annotations

import gzip
import json
import math
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sat2map.atomic import write_text
from sat2map.legend import Colour, Legend
from sat2map.provenance import Provenance
from sat2map.raster.pyramid import Pyramid
from sat2map.raster.tile_archives import About, Encoded, pmtiles_order, write_pmtiles
from sat2map.vectors.formats import Placing, style_beside, write_layer
from sat2map.vectors.geopackage import Columns, Layer

FINER = 3
"""A vector tile has 4,096 units along its side, where one of pixels has 256: at so many zooms less
it still shows half a pixel."""

DARKER = 0.75
"""By what the colour of a class is multiplied for its casing or its outline."""

EQUATOR_M = 40_075_016.686
SCREEN_TILE = 512
"""Pixels that MapLibre gives a tile."""

FAR, NEAR = 10, 22
"""Zooms between which the width of a road on the screen doubles from one to the next."""

_KEPT = ("class", "role", "confidence", "width_m", "drawn_width_m", "highway", "natural")
"""Columns that tiles have."""

_LOWEST = {"buildings": 3, "roads": 6}
"""How many zooms below the highest a layer is shown."""

_OPTIONS = {
    "FORMAT": "MBTILES",
    "SIMPLIFICATION": 4,  # half a pixel on a screen
    "SIMPLIFICATION_MAX_ZOOM": 1,
    "BUFFER": 128,  # so much of the neighbours, for lines as wide as roads are drawn
}


@dataclass(frozen=True)
class TileSet:
    """What an archive of vector tiles says of itself.

    Attributes:
        name: What it is called.
        description: How it was made.
        attribution: Whom viewers are to name, or None.
        pyramid: The vector tiles that the scene touches.
        provenance: What it was made of and how.
    """

    name: str
    description: str
    attribution: str | None
    pyramid: Pyramid
    provenance: Provenance


def tiles_of(pyramid: Pyramid) -> Pyramid:
    """Return the vector tiles of a scene whose tiles of pixels are given."""
    highest = max(pyramid.highest - FINER, 0)
    return replace(pyramid, highest=highest, base=tuple(pyramid.parts(highest)))


def write_vector_tiles(
    path: Path, layers: Iterator[Layer], place: Placing, tiles: TileSet, heed: Callable[[], None]
) -> None:
    """Write all layers of a scene as one PMTiles archive.

    Args:
        path: The archive, in a folder of its own.
        layers: The layers.
        place: Brings their shapes into the scene's coordinates.
        tiles: What it says of itself.
        heed: Called between tiles; raises where the work is to stop.
    """
    pyramid, highest = tiles.pyramid, tiles.pyramid.highest
    archives: list[Path] = []
    told: list[dict[str, Any]] = []
    for layer in layers:
        if layer.name == "road_nodes":
            continue
        shown = _tile_layer(layer)
        lowest = max(pyramid.lowest, highest - _LOWEST.get(layer.name, highest))
        archive = path.with_name(f"{layer.name}.mbtiles")
        zooms = {"MINZOOM": lowest, "MAXZOOM": highest}
        write_layer(archive, shown, place, place.crs, "MVT", None, None, **_OPTIONS, **zooms)
        if archive.exists():  # there is none where the layer has no feature
            archives.append(archive)
        fields = {
            name: "String" if kind == "text" else "Number" for name, kind in shown.types.items()
        }
        told.append({"id": shown.name, "fields": fields, "minzoom": lowest, "maxzoom": highest})
        heed()
    about = About(
        tiles.name, tiles.description, tiles.attribution, pyramid, tuple(told), tiles.provenance
    )
    write_pmtiles(_merged(archives, pyramid, heed), about, path)
    for archive in archives:
        archive.unlink()


def _tile_layer(layer: Layer) -> Layer:
    """Return a layer with the columns that tiles have; of the coverage only what lies below all."""
    types = {name: kind for name, kind in layer.types.items() if name in _KEPT}
    if layer.name != "coverage":
        return replace(layer, types=types)

    def ground() -> Iterator[tuple[Any, Columns]]:
        for shapes, columns in layer.batches:
            keep = [role not in ("building", "water", "vegetation") for role in columns["role"]]
            chosen = [at for at, kept in enumerate(keep) if kept]
            yield shapes[chosen], {name: [columns[name][at] for at in chosen] for name in types}

    return replace(layer, name="ground", types=types, batches=ground())


def _merged(archives: list[Path], pyramid: Pyramid, heed: Callable[[], None]) -> Iterator[Encoded]:
    """Yield the tiles of all archives in the order of the Hilbert curve."""
    number = pmtiles_order()
    databases = [sqlite3.connect(path) for path in archives]
    try:
        for zoom in range(pyramid.highest + 1):
            places = {
                (x, 2**zoom - 1 - y)
                for database in databases
                for x, y in database.execute(
                    "select tile_column, tile_row from tiles where zoom_level = ?", (zoom,)
                )
            }
            for x, y in sorted(places, key=lambda place: number(zoom, *place)):
                heed()
                parts = []
                for database in databases:
                    row = database.execute(
                        "select tile_data from tiles where zoom_level = ? and tile_column = ? "
                        "and tile_row = ?",
                        (zoom, x, 2**zoom - 1 - y),
                    ).fetchone()
                    if row is not None:
                        parts.append(gzip.decompress(row[0]))
                yield zoom, x, y, gzip.compress(b"".join(parts), mtime=0)
    finally:
        for database in databases:
            database.close()


def write_map_style(path: Path, legend: Legend, tiles: TileSet, *, width: str) -> None:
    """Write the MapLibre style of an archive of vector tiles beside it.

    Args:
        path: The archive.
        legend: Its colours.
        tiles: What the archive says of itself.
        width: The column of the roads' widths.
    """
    west, south, east, north = tiles.pyramid.bounds
    source: dict[str, Any] = {"type": "vector", "url": f"pmtiles://{path.name}"}
    if tiles.attribution is not None:
        source["attribution"] = tiles.attribution
    east += 360 * (east < west)
    layers: list[dict[str, Any]] = [
        {"id": "background", "type": "background", "paint": {"background-color": "#ffffff"}},
    ]
    layers += [_fill(name, legend) for name in ("ground", "vegetation", "water")]
    layers += _roads(legend, width, (south + north) / 2)
    layers.append(_fill("buildings", legend, outlined=True))
    style = {
        "version": 8,
        "name": tiles.name,
        "center": [round((west + east) / 2, 6), round((south + north) / 2, 6)],
        "zoom": tiles.pyramid.lowest,
        "sources": {"map": source},
        "layers": layers,
    }
    write_text(style_beside(path), json.dumps(style, indent=1) + "\n")


def _fill(name: str, legend: Legend, *, outlined: bool = False) -> dict[str, Any]:
    paint: dict[str, Any] = {"fill-color": _colour_of_class(legend)}
    land = next((entry.colour for entry in legend.classes if entry.role == "land"), None)
    if name == "ground" and land is not None:  # roads are drawn over it, as lines
        under = {entry.name: land for entry in legend.classes if entry.road}
        paint["fill-color"] = _colour_of_class(legend, under=under)
    if outlined:
        paint["fill-outline-color"] = _colour_of_class(legend, DARKER)
    return {"id": name, "type": "fill", "source": "map", "source-layer": name, "paint": paint}


def _roads(legend: Legend, width: str, latitude: float) -> list[dict[str, Any]]:
    """Return the layers of roads: first all casings, then what lies between them."""
    pixels = 2**NEAR / (EQUATOR_M / SCREEN_TILE * math.cos(math.radians(latitude)))
    metres: list[Any] = ["coalesce", ["get", width], 5]
    found = []
    for name, darker, more in (("road casings", DARKER, 1.5), ("roads", 1.0, 0.0)):
        far = ["+", ["max", 0.6, ["*", metres, pixels * 2.0 ** (FAR - NEAR)]], more]
        near = ["+", ["*", metres, pixels], more]
        wide = ["interpolate", ["exponential", 2], ["zoom"], FAR, far, NEAR, near]
        paint = {"line-color": _colour_of_class(legend, darker), "line-width": wide}
        found.append(
            {
                "id": name,
                "type": "line",
                "source": "map",
                "source-layer": "roads",
                "layout": {"line-cap": "round", "line-join": "round"},
                "paint": paint,
            }
        )
    return found


def _colour_of_class(
    legend: Legend, shade: float = 1.0, under: Mapping[str, Colour] | None = None
) -> list[Any]:
    """Return the expression of a class's colour, multiplied or in place of another."""
    found: list[Any] = ["match", ["get", "class"]]
    for entry in legend.classes:
        shown = (under or {}).get(entry.name, entry.colour)
        colour = (round(value * shade) for value in shown)
        found += [entry.name, "#{:02x}{:02x}{:02x}".format(*colour)]
    return [*found, "#000000"]
