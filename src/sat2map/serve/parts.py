"""A part of a scene as a file: a layer as a GeoTIFF, its vectors as a GeoPackage or JSON."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from sat2map.errors import DataError, StoppedError, writing_to
from sat2map.geo.gdal import settings
from sat2map.geo.grid import Part
from sat2map.geo.vector_layer import require
from sat2map.legend import LEGEND_TAG
from sat2map.provenance import KEY, TAG, Provenance
from sat2map.raster.provenance_reader import read_provenance
from sat2map.serve.open_scene import LayerName, OpenScene
from sat2map.serve.overviews import NOTHING
from sat2map.serve.styles import MapStyle
from sat2map.vectors.vectorise import vectorise

STRIP = 512
"""Rows that are written at once."""

DIGITS = 7
"""Digits of degrees, a centimetre."""

LAYERS = ("coverage", "buildings", "roads")
"""Layers of vectors that JSON holds; the others are made of these, or belong to roads."""


def write_part(
    scene: OpenScene,
    layer: LayerName,
    part: Part,
    target: Path,
    attribution: str | None,
    stop: threading.Event,
    style: MapStyle | None = None,
) -> None:
    """Write a part of a layer as a GeoTIFF on the scene's own grid.

    Numbers of classes have the colours and the tags of a class map that `translate` writes.

    Args:
        scene: The scene; all windows of the part are there.
        layer: "map", "classes", "confidence" or "photo".
        part: Which pixels of the layer's grid.
        target: The file.
        attribution: Whom those who show it are to name; None takes what the scene says.
        stop: Asks to stop once it is set.
        style: Its colours; None takes the usual ones.

    Raises:
        DataError: A block of the file is damaged.
        OutputError: The disk is full.
        StoppedError: `stop` is set.
    """
    assert scene.origin is not None  # only archives have none, and no pixels
    legend = scene.legend_of(layer, style)
    grid = scene.level_grid(layer, 0).part(part.top, part.left, part.height, part.width)
    is_image = layer in ("map", "photo")
    facts: dict[str, Any] = {
        "driver": "GTiff",
        "height": grid.height,
        "width": grid.width,
        "count": 3 if is_image else 1,
        "dtype": "uint8",
        "crs": grid.crs,
        "transform": grid.transform,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "nodata": NOTHING if layer == "classes" else None,
    }
    if is_image:
        facts["photometric"] = "rgb"
    with (
        writing_to(target),
        settings(),
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(target, "w", **facts) as file,
    ):
        file.update_tags(**tags_of(scene.origin.provenance(layer, part, style, attribution)))
        if layer == "classes" and legend is not None:
            entries = enumerate(legend.classes)
            file.colorinterp = [ColorInterp.palette]
            file.write_colormap(1, {number: (*entry.colour, 255) for number, entry in entries})
            told = {LEGEND_TAG: json.dumps(legend.to_json())}
            file.update_tags(**told, **scene.origin.road_width_tags())
        for top in range(0, part.height, STRIP):
            if stop.is_set():
                raise StoppedError("nobody waits for it any more", where=target)
            height = min(STRIP, part.height - top)
            strip = Part(part.top + top, part.left, height, part.width)
            values, shown, complete = scene.read(layer, 0, strip, style)
            if not complete:
                raise DataError(
                    "some of it had to go from the cache meanwhile",
                    where=target.name,
                    remedy="Ask again.",
                )
            window = Window(0, top, part.width, height)
            bands = values.transpose(2, 0, 1) if values.ndim == 3 else values[None]
            file.write(bands, window=window)
            if layer != "classes":
                file.write_mask(shown.astype(np.bool_), window=window)


def write_vectors(
    scene: OpenScene, part: Part, target: Path, attribution: str | None, stop: threading.Event
) -> None:
    """Write the vectors of a part as a GeoPackage, as `vectorise` makes them of a class map.

    Args:
        scene: The scene; all windows of the part are there.
        part: Which pixels of the classes.
        target: The file; what is made on the way lies beside it.
        attribution: As for `write_part`.
        stop: Asks to stop once it is set.

    Raises:
        DataError: A block of the file is damaged, or nothing is there.
        OutputError: The disk is full.
        StoppedError: `stop` is set.
        MissingExtraError: pyogrio or pyarrow is not installed.
    """
    require("pyogrio", "vectors")
    classes, confidence = (target.with_name(f"{name}.tif") for name in ("classes", "confidence"))
    write_part(scene, "classes", part, classes, attribution, stop)
    beside = "confidence" in scene.layers
    if beside:
        write_part(scene, "confidence", part, confidence, attribution, stop)
    vectorise(classes, target, confidence=confidence if beside else None, stop=stop)


def to_geojson(vectors: Path) -> bytes:
    """Return the vectors of a GeoPackage as GeoJSON (RFC 7946), in degrees.

    Each feature tells its `layer`, and the collection what it was made of.
    """
    import pyogrio

    features: list[str] = []
    there = {name for name, _ in pyogrio.list_layers(vectors)}
    for layer in LAYERS:
        if layer not in there:
            continue
        meta, _, geometries, columns = pyogrio.raw.read(vectors, layer=layer)
        to_degrees = Transformer.from_crs(meta["crs"], "EPSG:4326", always_xy=True)

        def degrees(
            points: NDArray[np.float64], to_degrees: Transformer = to_degrees
        ) -> NDArray[np.float64]:
            return np.round(np.stack(to_degrees.transform(*points.T), 1), DIGITS)

        shapes = shapely.transform(shapely.from_wkb(geometries), degrees)
        for place, text in enumerate(shapely.to_geojson(shapes)):
            facts: dict[str, Any] = {"layer": layer}
            for name, column in zip(meta["fields"], columns, strict=True):
                facts[name] = _plain(column[place])
            features.append(
                f'{{"type":"Feature","properties":{json.dumps(facts)},"geometry":{text}}}'
            )
    made = read_provenance(vectors)
    told = "" if made is None else f'"{KEY}": {made.to_text()},'
    return f'{{"type":"FeatureCollection",{told}"features":[{",".join(features)}]}}'.encode()


def _plain(value: Any) -> Any:
    """Return a value of a column as JSON has it."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 3)
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)


def tags_of(made: Provenance) -> dict[str, str]:
    """Return what a file says of its making."""
    told = {"TIFFTAG_SOFTWARE": f"sat2map {made.version}", "SAT2MAP_SOURCE": made.source.name}
    if made.attribution is not None:
        told["TIFFTAG_COPYRIGHT"] = made.attribution
    if made.model is not None:
        told["SAT2MAP_MODEL"] = made.model.name
    return told | {TAG: made.to_text()}
