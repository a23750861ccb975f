"""Green that belongs to a town: lawns, gardens and sports pitches."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from shapely.geometry import LineString, Polygon

from sat2map.towns.geometry import polygons, rectangles, scatter
from sat2map.towns.look import Look
from sat2map.towns.shapes import Layer, Material, Piece
from sat2map.towns.world import Floats


def lawn(look: Look, rng: np.random.Generator, n: int) -> Floats:
    """Return colours [n,3] of lawns, dry ones among them in a dry season."""
    dry = np.clip(look.dryness + rng.normal(0, 0.13, (n, 1)), 0, 1)
    green, straw = np.array(look.lawn), np.array([146, 139, 103], np.float64)
    return (green * (1 - dry) + straw * dry) * rng.uniform(0.93, 1.07, (n, 1))


def soil(look: Look, rng: np.random.Generator, n: int) -> Floats:
    """Return colours [n,3] of bare ground."""
    tone = np.array(look.soil) * rng.uniform(0.9, 1.08, (n, 1))
    return np.asarray(tone + rng.normal(0, 3, (n, 3)))


def lot_grounds(look: Look, rng: np.random.Generator, n: int) -> tuple[list[Material], Floats]:
    """Return materials [n] and colours [n,3] of yards and gardens: lawn, or bare ground."""
    green = lawn(look, rng, n)
    if look.green >= 1:
        return [Material.GRASS] * n, green
    bare = rng.random(n) >= look.green
    colours = np.where(bare[:, None], soil(look, rng, n), green)
    return [Material.SOIL if dry else Material.GRASS for dry in bare.tolist()], colours


def lot_ground(
    look: Look, rng: np.random.Generator, factor: float = 1.0
) -> tuple[Material, Floats]:
    """Return material and colour [3] of one yard."""
    materials, colours = lot_grounds(look, rng, 1)
    return materials[0], colours[0] * factor


def verge(look: Look, factor: float = 1.0) -> tuple[Material, Floats]:
    """Return material and colour [3] of the strip beside a road."""
    if look.green >= 0.5:
        return Material.GRASS, np.array(look.lawn) * factor
    return Material.SOIL, np.array(look.soil) * factor


def garden(
    piece: Piece,
    area: Any,
    look: Look,
    rng: np.random.Generator,
    share: float,
    buildings: NDArray[Any] | None = None,
) -> None:
    """Plant trees and bushes over an area, two metres away from the buildings in it."""
    for part in polygons(area, 30.0):
        shapely.prepare(part)
        for spacing, of, radius in ((7.5, share, (1.8, 5.2)), (4.5, 0.12, (0.8, 1.8))):
            places = scatter(part, rng, spacing, of * look.trees)
            if buildings is not None and len(places):
                points = shapely.points(places)
                near = shapely.STRtree(buildings).query(points, "dwithin", 2.0)[0]
                places = np.delete(places, near, axis=0)
            piece.plant(places, rng, radius=radius)


def pitch(
    piece: Piece, lot: Polygon, angle: float, rng: np.random.Generator, look: Look
) -> Polygon | None:
    """Lay a sports pitch into a lot; None where it does not fit."""
    large = (float(rng.uniform(84, 104)), float(rng.uniform(54, 66)))
    middle = np.array(lot.centroid.coords[0])[None]
    fitting = (
        (kind, long, wide, turn)
        for kind, (long, wide) in (
            ("football", large),
            ("football", (58.0, 36.0)),
            ("court", (32.0, 18.0)),
        )
        for turn in (angle, angle + np.pi / 2)
        if lot.contains(Polygon(rectangles(middle, _way(turn), long + 6, wide + 6)[0]))
    )
    kind, long, wide, turn = next(fitting, ("", 0.0, 0.0, 0.0))
    if not kind:
        return None
    along = _way(turn)
    outer = rectangles(middle, along, long + 6, wide + 6)[0]
    if kind == "court":
        colour: ArrayLike = [(148, 84, 66), (72, 112, 98), (80, 100, 134)][int(rng.integers(3))]
        piece.paint_many(outer[None], Layer.SURFACE, Material.PLAIN, colour)
    elif (track := _track(middle[0], along[0], long, wide)).within(lot) and kind == "football":
        piece.paint(track, Layer.SURFACE, Material.PLAIN, (152, 94, 76))
        piece.paint(track.buffer(-7.5), Layer.SURFACE, Material.GRASS, (94, 126, 68))
        outer = shapely.get_coordinates(track.exterior)
    elif look.green < 0.7 and rng.random() > look.green:
        colours = soil(look, rng, 2)
        piece.paint_many(outer[None], Layer.SURFACE, Material.SOIL, colours[0])
        trodden = rectangles(middle, along, long - 4, wide * 0.7)
        piece.paint_many(trodden, Layer.SURFACE, Material.SOIL, colours[1] * 1.06)
        piece.feature(Polygon(outer), "park", "pitch")
        return Polygon(outer)
    else:
        piece.paint_many(outer[None], Layer.SURFACE, Material.GRASS, (94, 128, 68))
    if kind == "football":
        mown = rectangles(middle, along, long, wide)
        wave = along[0] * 2 * np.pi / 13.0
        piece.paint_many(
            mown, Layer.WALK, Material.GRASS, (90, 130, 66), stripe=(wave[0], wave[1], 0.07)
        )
    _pitch_lines(piece, middle[0], along[0], long, wide)
    ground = Polygon(outer)
    piece.feature(ground, "park", "pitch")
    return ground


def _track(middle: Floats, along: Floats, long: float, wide: float) -> Polygon:
    """Return the outline of a running track around a pitch."""
    reach = along * (long / 2 - 12)
    return LineString([middle - reach, middle + reach]).buffer(wide / 2 + 12)


def _way(angle: float) -> Floats:
    return np.array([[np.cos(angle), np.sin(angle)]])


def _pitch_lines(piece: Piece, middle: Floats, along: Floats, long: float, wide: float) -> None:
    across = np.array([-along[1], along[0]])
    white = (226, 228, 220)
    parts = [
        rectangles((middle + other * shift)[None], way[None], reach, 0.5)[0]
        for way, reach, aside, other in ((along, long, wide, across), (across, wide, long, along))
        for shift in (-aside / 2, aside / 2)
    ]
    parts.append(rectangles(middle[None], across[None], wide, 0.5)[0])
    for end in (-1, 1):
        goal = middle + along * end * (long / 2 - 0.16 * long)
        parts.append(rectangles(goal[None], across[None], wide * 0.6, 0.5)[0])
    piece.paint_many(np.stack(parts), Layer.PAINT, Material.PLAIN, white)
