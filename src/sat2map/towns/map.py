"""The plan as a map in the colours of the house legend, with smooth edges."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sat2map.legend import STREETS
from sat2map.towns.geometry import without_holes
from sat2map.towns.photo import to_pixels
from sat2map.towns.plan import Planner
from sat2map.towns.shapes import SHED, Feature
from sat2map.towns.world import Bounds

FINER = 4
"""Painted pixels per pixel of the map, in each direction."""

_ORDER = ("other", "park", "water", "building", "road", "main_road", "highway")


def features_in(
    planner: Planner, bounds: Bounds, only: tuple[int, int] | None = None
) -> list[Feature]:
    """Return the features of the map that touch a region, in painting order.

    Args:
        planner: Of the world.
        bounds: The region.
        only: Leave out what does not belong to this cell.
    """
    found: list[Feature] = []
    for piece in planner.pieces(bounds) if only is None else [planner.piece(only)]:
        if not piece.features:
            continue
        reach = np.array([(feature.width or 0.0) / 2 for feature in piece.features])
        boxes = shapely.bounds(np.array([feature.geometry for feature in piece.features]))
        near = (boxes[:, 0] - reach < bounds[2]) & (boxes[:, 2] + reach > bounds[0])
        near &= (boxes[:, 1] - reach < bounds[3]) & (boxes[:, 3] + reach > bounds[1])
        found += [piece.features[k] for k in np.flatnonzero(near).tolist()]
    found.sort(key=_rank)
    return found


def _rank(feature: Feature) -> int:
    # Ramps lie below the roads that they join; ponds lie in parks and above grounds.
    return _ORDER.index(feature.legend) * 2 + (feature.kind != "ramp")


def draw_map(planner: Planner, bounds: Bounds, resolution: float = 1.0) -> NDArray[np.uint8]:
    """Return the map, uint8 [H,W,3], of a region.

    Args:
        planner: Of the world; its region contains `bounds`.
        bounds: The region, on whole pixels.
        resolution: Metres per pixel.
    """
    finer = FINER / resolution  # painted pixels per metre
    colours = {entry.name: entry.colour for entry in STREETS.classes}
    width, height = round((bounds[2] - bounds[0]) * finer), round((bounds[3] - bounds[1]) * finer)
    image = Image.new("RGB", (width, height), colours["land"])
    draw = ImageDraw.Draw(image)
    features = [one for one in features_in(planner, bounds) if one.kind != SHED]
    shapes = np.array([feature.geometry for feature in features], object)
    reach = np.array([(feature.width or 0.0) / 2 for feature in features])
    wide = reach > 0
    if wide.any():
        # Pillow paints half a painted pixel more on every side.
        shapes[wide] = shapely.buffer(shapes[wide], reach[wide] - 0.5 / finer, quad_segs=6)
    for feature, shape in zip(features, shapes, strict=True):
        # A street that closes on itself has a hole: its ring is painted as two halves.
        parts = [shape]
        if shape.geom_type == "Polygon" and shape.interiors:
            parts = without_holes(shape)
        for part in parts:
            ring = to_pixels(shapely.get_coordinates(part.exterior), bounds, finer)
            draw.polygon(ring.ravel().tolist(), fill=colours[feature.legend])
    return np.asarray(image.reduce(FINER), np.uint8)
