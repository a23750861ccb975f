"""Open ground: fields with hedges and farms, woods, parks, and the banks of waters."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import shapely
from shapely.geometry import LineString, Polygon

from sat2map.geo.silencing import SILENCING
from sat2map.towns.buildings import houses
from sat2map.towns.geometry import along_line, polygons, scatter, split
from sat2map.towns.greens import lot_ground, pitch
from sat2map.towns.look import Look
from sat2map.towns.shapes import Cover, Layer, Material, Piece
from sat2map.towns.world import Floats

_CROPS = np.array(
    [
        (98, 124, 66),  # young grain
        (122, 138, 74),  # grain
        (176, 160, 104),  # ripe grain
        (150, 126, 96),  # ploughed
        (126, 100, 76),  # dark soil
        (84, 112, 62),  # maize
        (164, 150, 118),  # stubble
        (196, 184, 72),  # rape
        (110, 132, 78),  # meadow
    ],
    np.float64,
)
_CROP_SHARES = np.array([0.16, 0.14, 0.12, 0.12, 0.08, 0.1, 0.1, 0.03, 0.15])
_BARE_CROPS = (3, 4, 6)
FOREST_FLOOR = (74, 84, 52)


def fields(piece: Piece, block: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Fill a block with fields; now and then a farm stands at the edge."""
    farm = rng.random() < 0.5
    lots = split(block, rng, rng.uniform(7000, 26000))
    for k, lot in enumerate(lots):
        if farm and k == 0 and lot.area > 2500:
            _farm(piece, lot, look, rng)
            continue
        if rng.random() < 0.05:
            grove(piece, lot, look, rng)
            continue
        crop = int(rng.choice(len(_CROPS), p=_CROP_SHARES))
        colour = _CROPS[crop] * rng.uniform(0.9, 1.1) + rng.normal(0, 3, 3)
        angle = _side(lot, rng)
        period = float(rng.choice([3.2, 4.5, 9.0, 18.0]))
        wave = 2 * np.pi / period * np.array([-np.sin(angle), np.cos(angle)])
        strength = float(rng.uniform(0.02, 0.08)) if crop != 8 else 0.0
        piece.paint(lot, Layer.PARCEL, *lot_ground(look, rng, 0.95))
        piece.paint(
            lot.buffer(-1.3), Layer.PARCEL, Material.CROP if crop not in (3, 4) else Material.SOIL,
            colour, stripe=(float(wave[0]), float(wave[1]), strength),
            cover=Cover.LAND if crop in _BARE_CROPS else Cover.VEGETATION,
        )  # fmt: skip
        _hedge(piece, lot, rng, 0.35 * look.trees)


def _hedge(piece: Piece, lot: Polygon, rng: np.random.Generator, share: float) -> None:
    """Plant trees and bushes along some sides of a lot."""
    ring = shapely.get_coordinates(lot.exterior.simplify(3.0))
    for start, end in pairwise(ring):
        side = LineString([start, end])
        if side.length < 15 or rng.random() > share:
            continue
        step = rng.uniform(2.6, 8.0)
        places, _ = along_line(side, np.arange(2.0, side.length - 2.0, step))
        places = places[rng.random(len(places)) < rng.uniform(0.5, 1.0)]
        places = places + rng.normal(0, 0.6, places.shape)
        piece.plant(places, rng, radius=(1.2, 3.8), hue=0.45)


def _farm(piece: Piece, lot: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Add a house and barns around a yard."""
    piece.paint(lot, Layer.PARCEL, *lot_ground(look, rng))
    angle = _side(lot, rng)
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    middle = np.array(lot.representative_point().coords[0])
    yard = Polygon(middle + np.array([(-24, -18), (24, -18), (24, 18), (-24, 18)]) @ axes)
    piece.paint(yard.buffer(5).intersection(lot), Layer.SURFACE, Material.SOIL, (158, 146, 126))
    plans = [(-13.0, -21.0, 14.0, 10.0), (14.0, 20.0, 30.0, 14.0), (-16.0, 19.0, 22.0, 12.0)]
    spots, sizes = [], []
    for u, v, long, wide in plans:
        spot = middle + np.array([u, v]) @ axes
        if lot.contains(Polygon(spot + np.array([(-9, -9), (9, -9), (9, 9), (-9, 9)]))):
            spots.append(spot)
            sizes.append((long, wide))
    if spots:
        size = np.array(sizes)
        along = np.broadcast_to(axes[0], (len(spots), 2))
        prefer = {0: 0.3, 3: 1.0, 4: 0.8, 5: 0.6, 6: 0.4, 7: 1.0}
        houses(
            piece, np.array(spots), along, size[:, 0], size[:, 1], look, rng, prefer=prefer,
            kind="farm",
        )  # fmt: skip
    ring = lot.buffer(-6).difference(yard.buffer(12))
    for part in polygons(ring):
        piece.plant(scatter(part, rng, 9.0, 0.22 * look.trees), rng, radius=(2.5, 5.5))


def grove(piece: Piece, area: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Cover an area with trees; a park on the map."""
    piece.paint(area, Layer.PARCEL, Material.FOREST, FOREST_FLOOR)
    piece.feature(area, "park", "wood")
    shapely.prepare(area)
    hue = float(rng.uniform(0.2, 0.7))
    piece.plant(scatter(area, rng, 5.2, 0.93), rng, radius=(2.4, 5.2), hue=hue)


def woods(piece: Piece, block: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Fill a block with a wood that has clearings and a track."""
    clear = []
    for _ in range(int(rng.integers(0, 4))):
        spot = inside(block, rng)
        clear.append(blob(spot, float(rng.uniform(14, 46)), rng))
    open_ground = shapely.union_all(clear) if clear else Polygon()
    piece.paint(block, Layer.PARCEL, Material.FOREST, FOREST_FLOOR)
    piece.feature(block, "park", "wood")
    for part in polygons(open_ground.intersection(block)):
        piece.paint(part, Layer.PARCEL, *lot_ground(look, rng))
        piece.plant(scatter(part, rng, 11.0, 0.25), rng, radius=(1.5, 4.0))
    track = bent_way(block, rng)
    if track is not None:
        track = led_on(track)
        tone = (160, 146, 120) if look.temperate else look.dirt
        piece.paint(track.buffer(2.0), Layer.STREET, Material.SOIL, tone)
        piece.street(track, "road", "track", 4.5)
        open_ground = open_ground.union(track.buffer(3.4))
    covered = block.buffer(-1.5).difference(open_ground)
    hue = float(rng.uniform(0.2, 0.75))
    for part in polygons(covered, 20.0):
        shapely.prepare(part)
        piece.plant(scatter(part, rng, 5.4, 0.95), rng, radius=(2.5, 5.6), hue=hue)


def park(piece: Piece, block: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Fill a block with a park: lawns, groves, winding paths, a pond and pitches."""
    piece.paint(block, Layer.PARCEL, *lot_ground(look, rng))
    piece.feature(block, "park", "park")
    kept: list[Polygon] = []
    if block.area > 9000 and rng.random() < 0.65:
        size = float(np.sqrt(block.area) * rng.uniform(0.09, 0.22))
        pond = blob(inside(block.buffer(-size), rng), size, rng).intersection(block.buffer(-6))
        for part in polygons(pond, 150.0):
            water(piece, part, rng, kind="pond", colour=look.water)
            kept.append(part.buffer(4))
    paths: list[LineString] = []
    for _ in range(int(np.clip(block.area / 14000, 2, 9))):
        path = bent_way(block, rng)
        if path is not None:
            paths.append(path)
    if block.area > 15000:
        ring = block.buffer(-rng.uniform(16, 30))
        paths += [LineString(part.exterior) for part in polygons(ring, 2000.0)]
    blocked = shapely.union_all(kept) if kept else Polygon()
    for path in paths:
        for part in polygons(path.buffer(1.7).difference(blocked)):
            piece.paint(part, Layer.SURFACE, Material.PAVING, (186, 174, 150))
        piece.street(path.difference(blocked), "road", "path", 3.4)
    ways = shapely.union_all([path.buffer(3.0) for path in paths]) if paths else Polygon()
    for lot in split(block.buffer(-8), rng, 9000.0):
        ground = lot.difference(blocked.union(ways))
        for part in polygons(ground, 900.0):
            chance = rng.random()
            if chance < 0.16:
                field = pitch(piece, part, _side(part, rng), rng, look)
                if field is not None:
                    continue
            shapely.prepare(part)
            if chance < 0.5:
                spot = inside(part, rng)
                clump = blob(spot, float(rng.uniform(16, 40)), rng).intersection(part)
                for green in polygons(clump, 60.0):
                    piece.plant(scatter(green, rng, 6.0, 0.9), rng, radius=(2.4, 5.6))
            share = float(rng.choice([0.05, 0.16, 0.34])) * look.trees
            piece.plant(scatter(part, rng, 9.0, share), rng, radius=(2.2, 5.6))
    for path in paths:
        if rng.random() < 0.5 and path.length > 30:
            places, _ = along_line(path, np.arange(5, path.length - 5, 9.0), 4.0)
            good = shapely.contains_xy(block.difference(blocked), places[:, 0], places[:, 1])
            piece.plant(places[good], rng, radius=(2.4, 4.4))


def meadow(piece: Piece, area: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Cover left-over ground with rough grass, bushes and a few trees."""
    for part in polygons(area, 4.0):
        piece.paint(part, Layer.PARCEL, *lot_ground(look, rng, 0.96))
        shapely.prepare(part)
        piece.plant(scatter(part, rng, 7.0, 0.22 * look.trees), rng, radius=(1.0, 4.4))


def water(
    piece: Piece, area: Polygon, rng: np.random.Generator, *, kind: str, colour: object = None
) -> None:
    """Add standing or flowing water with a shallow rim."""
    tone = np.array([58.0, 78.0, 80.0]) * rng.uniform(0.85, 1.25) if colour is None else colour
    tone = np.asarray(tone, np.float64)
    for part in polygons(area):
        piece.paint(part, Layer.WATER, Material.WATER, tone * 1.12 + 10)
        piece.paint(part.buffer(-1.6), Layer.WATER, Material.WATER, tone)
        piece.feature(part, "water", kind)


def blob(middle: Floats, radius: float, rng: np.random.Generator) -> Polygon:
    """Return a roundish outline around a place."""
    turn = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    size = np.ones_like(turn)
    for k in (1, 2, 3, 5):
        size = size + rng.normal(0, 0.22 / k) * np.cos(k * turn + rng.uniform(0, 6.28))
    stretch = rng.uniform(0.65, 1.0)
    angle = rng.uniform(0, np.pi)
    round_ = np.column_stack([np.cos(turn), stretch * np.sin(turn)])
    spin = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    shape = Polygon(middle + (round_ * (radius * np.clip(size, 0.4, 2))[:, None]) @ spin)
    with SILENCING:
        valid = shape.is_valid
    return shape if valid else shape.buffer(0)


def inside(area: Polygon, rng: np.random.Generator) -> Floats:
    """Return a random place in an area."""
    parts = polygons(area, 0.0)
    if not parts:
        return np.array(area.centroid.coords[0]) if not area.is_empty else np.zeros(2)
    part = max(parts, key=lambda polygon: polygon.area)
    west, south, east, north = part.bounds
    tries = rng.uniform((west, south), (east, north), (24, 2))
    good = tries[shapely.contains_xy(part, tries[:, 0], tries[:, 1])]
    return good[0] if len(good) else np.array(part.representative_point().coords[0])


def bent_way(area: Polygon, rng: np.random.Generator) -> LineString | None:
    """Return a bent way from one place of the outline of an area to another."""
    ring = area.exterior
    start, end = rng.uniform(0, 1), rng.uniform(0.3, 0.7)
    a = np.array(ring.interpolate(start, normalized=True).coords[0])
    b = np.array(ring.interpolate((start + end) % 1.0, normalized=True).coords[0])
    t = np.linspace(0, 1, 17)[:, None]
    length = float(np.hypot(*(b - a)))
    if length < 40:
        return None
    side = np.array([-(b - a)[1], (b - a)[0]]) / length
    bend = rng.normal(0, 0.12, 2) * length
    way = LineString(
        a + (b - a) * t + side * (bend[0] * np.sin(np.pi * t) + bend[1] * np.sin(2 * np.pi * t))
    )
    within = way.intersection(area)
    if within.geom_type != "LineString" or within.length < 30:
        return None
    return within


def led_on(way: LineString, by: float = 5.0) -> LineString:
    """Return a way that goes on straight at both ends, over the verge of the roads beside it."""
    points = shapely.get_coordinates(way)
    steps = points[[0, -1]] - points[[1, -2]]
    steps /= np.maximum(np.hypot(steps[:, 0], steps[:, 1])[:, None], 1e-9)
    first, last = points[[0, -1]] + by * steps
    return LineString([first, *points, last])


def _side(area: Polygon, rng: np.random.Generator) -> float:
    """Return the direction of the longest side of an area."""
    ring = shapely.get_coordinates(area.exterior.simplify(4.0))
    sides = np.diff(ring, axis=0)
    longest = sides[int(np.hypot(sides[:, 0], sides[:, 1]).argmax())]
    return float(np.arctan2(longest[1], longest[0]))
