"""Blocks to live in: houses in gardens, and buildings wall to wall around yards."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import ArrayLike
from shapely.geometry import LineString, Polygon
from shapely.geometry.polygon import orient

from sat2map.towns.buildings import CITY_ROOFS, cars, flat, houses, roof_colours
from sat2map.towns.geometry import (
    along_line,
    direction,
    free,
    lattice,
    polygons,
    rectangles,
    split,
)
from sat2map.towns.greens import garden, lot_ground, lot_grounds
from sat2map.towns.look import Look
from sat2map.towns.shapes import BELOW, SHED, Cover, Layer, Material, Piece
from sat2map.towns.world import Floats

_HOUSE_ROOFS = {0: 0.5, 1: 0.15, 2: 0.3, 3: 1.0, 4: 1.0, 5: 0.9, 6: 0.35, 7: 0.8}


def suburb(
    piece: Piece, block: Polygon, look: Look, rng: np.random.Generator, *, rural: bool = False
) -> None:
    """Fill a block with detached houses in gardens."""
    piece.paint(block, Layer.PARCEL, *lot_ground(look, rng))
    usual = rng.uniform(9.5, 13.5) * look.houses
    gap = rng.uniform(3, 8) * (2.2 if rural else 1.0)
    setback = rng.uniform(4.5, 8.5)
    if rural:
        _backland(piece, block, look, rng)
    found = _front(
        block, rng, width=(usual * 0.88, usual * 1.2),
        depth=(8 * look.houses, 11.5 * look.houses), gap=(gap * 0.7, gap * 1.5),
        setback=setback, share=0.72 if rural else 0.95,
    )  # fmt: skip
    if found is None:
        garden(piece, block, look, rng, 0.5)
        return
    middles, along, width, depth = found
    n = len(middles)
    inward = np.column_stack([-along[:, 1], along[:, 0]])
    lots = rectangles(middles + inward * 4, along, width + gap, np.full(n, 26.0) + 2 * setback)
    clipped = shapely.intersection(shapely.polygons(lots), block)
    for lot, material, colour in zip(clipped, *lot_grounds(look, rng, n), strict=True):
        piece.paint(lot, Layer.PARCEL, material, colour)
    aside = along * (width + gap)[:, None] / 2
    _hedges(piece, block, middles + inward * 9.0, aside, inward, look, rng)
    drive = rng.random(n) < 0.85
    reach = setback + 4 + depth / 2
    ways = rectangles(
        middles + along * (width / 2 + 1.4)[:, None] - inward * (reach / 2 - 2)[:, None],
        inward, reach + 3, rng.uniform(2.6, 3.6, n),
    )  # fmt: skip
    grey = rng.uniform(120, 172, (n, 1)) + np.array([4, 1, -4])
    piece.paint_many(ways[drive], Layer.SURFACE, Material.PAVING, grey[drive])
    standing = drive & (rng.random(n) < 0.45)
    spots = middles + along * (width / 2 + 1.4)[:, None] - inward * (depth / 2 + 1)[:, None]
    cars(piece, spots[standing], inward[standing], rng, trucks=0)
    back = middles + inward * (depth / 2 + 2)[:, None]
    patio = rng.random(n) < 0.5
    piece.paint_many(
        rectangles(back, along, width * 0.55, 4.0)[patio], Layer.SURFACE, Material.PAVING,
        rng.uniform(135, 185, (n, 1))[patio] + np.array([6, 0, -8]),
    )  # fmt: skip
    _behind(piece, block, back, along, inward, look, rng)
    floors = (1, 2) if rng.random() < 0.7 else (2, 3)
    houses(piece, middles, along, width, depth, look, rng, prefer=_HOUSE_ROOFS, floors=floors)
    outlines = shapely.polygons(rectangles(middles, along, width, depth))
    ground = block.buffer(-1.5, quad_segs=2)
    if rural:
        ground = ground.difference(block.buffer(-36.0, quad_segs=2))
    garden(piece, ground, look, rng, 0.27, outlines)


def _hedges(
    piece: Piece,
    block: Polygon,
    middles: Floats,
    aside: Floats,
    inward: Floats,
    look: Look,
    rng: np.random.Generator,
) -> None:
    """Add hedges and fences between the gardens of neighbours."""
    spots = middles + aside
    inner = block.buffer(-15.0, quad_segs=2)
    kept = shapely.contains_xy(inner, spots[:, 0], spots[:, 1]) & (rng.random(len(spots)) < 0.6)
    green = np.array([66.0, 84.0, 50.0]) * rng.uniform(0.85, 1.15, (len(spots), 1))
    wood = np.array([118.0, 104.0, 88.0]) * rng.uniform(0.85, 1.15, (len(spots), 1))
    fence = rng.random(len(spots)) < 0.4
    if not (look.temperate or look.snow):  # walls, most of them
        fence = rng.random(len(spots)) < 1.0 - 0.4 * look.green
        wood = np.array(look.soil) * rng.uniform(0.9, 1.2, (len(spots), 1))
    piece.paint_many(
        rectangles(spots, inward, 20.0, np.where(fence, 0.3, 1.0))[kept], Layer.SHED,
        Material.PLAIN, np.where(fence[:, None], wood, green)[kept], height=1.5,
        cover=np.where(fence, BELOW, int(Cover.VEGETATION))[kept],
    )  # fmt: skip


def _backland(piece: Piece, block: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Lay out what lies behind the gardens of a village: orchards, paddocks and plots."""
    for inner in polygons(block.buffer(-36.0, quad_segs=2), 1200.0):
        for lot in split(inner, rng, float(rng.uniform(2500, 6000))):
            chance = rng.random()
            if chance < 0.4:
                piece.paint(lot, Layer.PARCEL, *lot_ground(look, rng))
                angle = direction(lot)
                axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
                rows = lattice(lot.buffer(-3.0), axes, (5.5, 7.0))
                rows = rows[rng.random(len(rows)) < 0.92]
                piece.plant(rows, rng, radius=(1.6, 2.5), hue=0.6)
            elif chance < 0.75:
                piece.paint(lot, Layer.PARCEL, *lot_ground(look, rng, 1.05))
            else:
                tone = np.array([(150, 128, 98), (122, 138, 78)][int(rng.integers(2))], np.float64)
                wave = 2 * np.pi / 4.0 * np.array([np.sin(direction(lot)), 1.0])
                piece.paint(
                    lot.buffer(-1.0), Layer.PARCEL, Material.CROP, tone,
                    stripe=(float(wave[0]), float(wave[1]), 0.05),
                    cover=Cover.LAND if tone[0] > tone[1] else Cover.VEGETATION,
                )  # fmt: skip


def _behind(
    piece: Piece,
    block: Polygon,
    back: Floats,
    along: Floats,
    inward: Floats,
    look: Look,
    rng: np.random.Generator,
) -> None:
    """Add pools and sheds behind houses where the block has room for them."""
    n = len(back)
    pools = back + inward * rng.uniform(7, 9, (n, 1)) + along * rng.normal(0, 1.5, (n, 1))
    sheds = back + inward * rng.uniform(10, 14, (n, 1)) + along * rng.uniform(-5, 5, (n, 1))
    inner = block.buffer(-18)
    has_pool = (rng.random(n) < look.pools) & shapely.contains_xy(inner, pools[:, 0], pools[:, 1])
    has_shed = (rng.random(n) < 0.3) & shapely.contains_xy(inner, sheds[:, 0], sheds[:, 1])
    piece.paint_many(
        rectangles(pools, along, 9.6, 6.4)[has_pool], Layer.SURFACE, Material.PAVING,
        (188, 184, 172),
    )  # fmt: skip
    piece.paint_many(
        rectangles(pools, along, 7.6, 4.2)[has_pool], Layer.WALK, Material.PLAIN, (92, 168, 186),
        cover=Cover.WATER,
    )  # fmt: skip
    grey = np.repeat(rng.uniform(85, 165, (int(has_shed.sum()), 1)), 3, 1)
    _sheds(piece, rectangles(sheds, along, 3.6, 2.6)[has_shed], Material.PLAIN, grey, 2.4)


def _sheds(
    piece: Piece, outlines: Floats, material: Material, colours: Floats, height: float
) -> None:
    """Add sheds, corners [N,4,2]: to the photo, its land cover and the shapes, not to the map."""
    piece.paint_many(outlines, Layer.SHED, material, colours, height=height, cover=Cover.BUILDING)
    for outline in shapely.polygons(outlines):
        piece.feature(outline, "building", SHED, height)


def terraces(piece: Piece, block: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Fill a block with buildings wall to wall around a yard."""
    paved = rng.random() < 0.25
    yard: tuple[Material, ArrayLike] = (
        (Material.PAVING, (140, 134, 126)) if paved else lot_ground(look, rng, 0.95)
    )
    piece.paint(block, Layer.PARCEL, Material.PAVING, (156, 151, 143))
    piece.paint(block.buffer(-5), Layer.PARCEL, *yard)
    found = _front(
        block, rng, width=(8, 19), depth=(10.5, 15), gap=(0.0, 0.3),
        setback=float(rng.choice([0.8, 1.5, 3.0])), share=0.95,
    )  # fmt: skip
    if found is None:
        garden(piece, block, look, rng, 0.4)
        return
    middles, along, width, depth = found
    inward = np.column_stack([-along[:, 1], along[:, 0]])
    level = int(rng.integers(2, 6))
    if rng.random() < 0.45:
        houses(
            piece, middles, along, width, depth, look, rng, prefer=_HOUSE_ROOFS,
            floors=(max(level - 1, 2), level + 1), kind="apartments",
        )  # fmt: skip
    else:
        outline = rectangles(middles, along, width - 0.2, depth)
        heights = np.asarray(3.2 * rng.integers(level, level + 3, len(middles)) + 1.0)
        flat(piece, outline, roof_colours(look, rng, len(middles), CITY_ROOFS), heights, rng)
        for shape, height in zip(shapely.polygons(outline), heights.tolist(), strict=True):
            piece.feature(shape, "building", "apartments", round(height, 1))
    yards = middles + inward * (depth / 2 + rng.uniform(4, 9, len(middles)))[:, None]
    inner = block.buffer(-22)
    room = shapely.contains_xy(inner, yards[:, 0], yards[:, 1]) & (rng.random(len(yards)) < 0.4)
    grey = rng.uniform(80, 180, (int(room.sum()), 1)) + np.zeros(3)
    _sheds(piece, rectangles(yards, along, width * 0.6, 5.0)[room], Material.FLAT_ROOF, grey, 3.0)
    garden(piece, block.buffer(-17), look, rng, 0.5)


def _front(
    block: Polygon,
    rng: np.random.Generator,
    *,
    width: tuple[float, float],
    depth: tuple[float, float],
    gap: tuple[float, float],
    setback: float,
    share: float,
) -> tuple[Floats, Floats, Floats, Floats] | None:
    """Place rectangles along the outline of a block, none overlapping another.

    Returns:
        Middles [N,2], directions [N,2] of the street, widths [N] along it and depths [N];
        None where nothing fits.
    """
    ring = LineString(orient(block).exterior.simplify(0.8))
    count = int(ring.length / (width[0] + gap[0])) + 1
    widths = rng.uniform(*width, count)
    gaps = rng.uniform(*gap, count)
    depths = rng.uniform(*depth, count)
    ends = np.cumsum(widths + gaps)
    places = ends - gaps - widths / 2
    fits = (ends < ring.length) & (rng.random(count) < share)
    if not fits.any():
        return None
    places, widths, depths = places[fits], widths[fits], depths[fits]
    middles, along = along_line(ring, places, setback + depths / 2)
    boxes = shapely.polygons(rectangles(middles, along, widths, depths))
    inner = block.buffer(0.5 - setback * 0.7)
    shapely.prepare(inner)
    inside = shapely.contains(inner, boxes)
    if not inside.any():
        return None
    # Neighbours at a bend touch a little; shrunken outlines decide whether that matters.
    tight = shapely.polygons(rectangles(middles, along, widths * 0.94, depths * 0.94))
    chosen = np.flatnonzero(inside)
    chosen = chosen[free(tight[chosen])]
    return middles[chosen], along[chosen], widths[chosen], depths[chosen]
