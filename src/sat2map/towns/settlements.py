"""Blocks that nobody planned: houses wall to wall, walled yards, and houses among gardens."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon

from sat2map.towns.buildings import houses
from sat2map.towns.geometry import direction, free, rectangles, scatter
from sat2map.towns.greens import garden, lot_grounds, soil
from sat2map.towns.look import Look
from sat2map.towns.shapes import Layer, Material, Piece
from sat2map.towns.world import Floats


def packed(piece: Piece, block: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Fill a block with small houses, wall to wall, with alleys between their rows."""
    piece.paint(block, Layer.PARCEL, Material.SOIL, soil(look, rng, 1)[0])
    concrete = sum(
        weight for weight, form in zip(look.roofs, look.forms, strict=True) if form == "flat"
    )
    size = 1.0 + 0.55 * concrete * rng.uniform(0.6, 1.2)
    depth = rng.uniform(5.0, 8.0) * size
    found = _rows(
        block, rng, width=(3.8 * size, 8.5 * size), depth=(0.8 * depth, 1.2 * depth),
        gap=(0.1, 0.9), alley=(0.9, rng.uniform(1.6, 3.0)), inset=0.3,
        turn=0.05 if concrete > 0.5 else rng.uniform(0.05, 0.16),
    )  # fmt: skip
    if found is None:
        return
    middles, along, width, depths = found
    built = rng.random(len(middles)) < rng.uniform(0.78, 0.95)
    _vacant(piece, middles[~built], along[~built], width[~built], depths[~built], look, rng)
    levels = (1, 1) if concrete < 0.3 else (1, int(rng.integers(2, 5)))
    houses(
        piece, middles[built], along[built], width[built], depths[built], look, rng, prefer={},
        floors=levels, wings=0.0,
    )  # fmt: skip
    spots = scatter(block.buffer(-1.0), rng, 8.0, 0.1 * look.trees)
    piece.plant(spots, rng, radius=(1.0, 3.6))


def compounds(piece: Piece, block: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Fill a block with walled yards, each with a house or two along its walls."""
    piece.paint(block, Layer.PARCEL, Material.SOIL, soil(look, rng, 1)[0])
    usual = float(rng.uniform(15, 26))
    found = _rows(
        block, rng, width=(11, 24), depth=(0.95 * usual, 1.05 * usual), gap=(0.0, 0.2),
        alley=(0.0, 0.5), inset=0.2, turn=0.006,
    )  # fmt: skip
    if found is None:
        return
    middles, along, width, depths = found
    n = len(middles)
    used = rng.random(n) < rng.uniform(0.82, 1.0)
    middles, along, width, depths = middles[used], along[used], width[used], depths[used]
    n = len(middles)
    if not n:
        return
    inward = np.column_stack([-along[:, 1], along[:, 0]])
    materials, colours = lot_grounds(look, rng, n)
    lots = rectangles(middles, along, width, depths)
    green = np.array([material == Material.GRASS for material in materials])
    for chosen, material in ((green, Material.GRASS), (~green, Material.SOIL)):
        piece.paint_many(lots[chosen], Layer.PARCEL, material, colours[chosen])
    wall = np.array(look.soil) * rng.uniform(0.9, 1.15)
    for way, other, long, apart in ((along, inward, width, depths), (inward, along, depths, width)):
        for half in (-0.5, 0.5):
            spots = middles + other * (half * (apart - 0.4))[:, None]
            piece.paint_many(
                rectangles(spots, way, long, 0.4), Layer.SHED, Material.PLAIN, wall, height=2.3
            )
    # The house stands along one wall, over most of the width.
    house_depth = np.clip(depths * rng.uniform(0.34, 0.62, n), 5.5, 15)
    house_width = width * rng.uniform(0.72, 1.0, n) - 0.8
    side = rng.choice([-1.0, 1.0], n) if rng.random() < 0.5 else np.ones(n)
    push = side * (depths - house_depth - 0.6) / 2
    shift = rng.uniform(-0.5, 0.5, n) * (width - house_width - 0.8)
    spots = middles + inward * push[:, None] + along * shift[:, None]
    floors = (1, int(rng.integers(1, 4)))
    houses(
        piece, spots, along, house_width, house_depth, look, rng, prefer={}, floors=floors,
        wings=0.0,
    )  # fmt: skip
    hut = (rng.random(n) < 0.5) & (depths - house_depth > 6)
    hut_width, hut_depth = rng.uniform(2.6, 4.5, n), rng.uniform(2.6, 4.0, n)
    corner = along * (rng.choice([-1.0, 1.0], n) * (width - hut_width - 1) / 2)[:, None]
    corner = middles + corner - inward * (side * (depths - hut_depth - 1) / 2)[:, None]
    houses(
        piece, corner[hut], along[hut], hut_width[hut], hut_depth[hut], look, rng, prefer={},
        floors=(1, 1), wings=0.0, kind="hut",
    )  # fmt: skip
    yards = middles - inward * (side * house_depth / 2)[:, None]
    jitter = rng.uniform(-0.4, 0.4, (n, 2)) * np.column_stack([width, depths - house_depth])
    trees = yards + along * jitter[:, :1] + inward * jitter[:, 1:]
    piece.plant(trees[rng.random(n) < 0.6 * look.trees], rng, radius=(1.2, 3.4))


def scattered(piece: Piece, block: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Fill a block with houses that stand far apart, each in a swept yard among gardens."""
    materials, colours = lot_grounds(look, rng, 1)
    piece.paint(block, Layer.PARCEL, materials[0], colours[0])
    patches(piece, block, look, rng, 0.5)
    spacing = rng.uniform(15, 30)
    spots = scatter(block.buffer(-7.0), rng, spacing, rng.uniform(0.5, 0.95))
    n = len(spots)
    if n:
        usual = direction(block) + rng.choice([0.0, np.pi / 2], n)
        angle = usual + rng.normal(0, rng.choice([0.05, 0.25, 0.6]), n)
        along = np.column_stack([np.cos(angle), np.sin(angle)])
        length, width = rng.uniform(7, 14, n), rng.uniform(5, 9.5, n)
        kept = free(shapely.polygons(rectangles(spots, along, length + 5, width + 5)))
        spots, along, length, width = spots[kept], along[kept], length[kept], width[kept]
        n = len(spots)
        tone = soil(look, rng, n) * rng.uniform(1.0, 1.12)
        piece.paint_many(
            _rounds(spots, np.hypot(length, width) * rng.uniform(0.55, 1.0, n), rng),
            Layer.SURFACE, Material.SOIL, tone,
        )  # fmt: skip
        bare = rng.random(n) < 0.14
        _foundations(piece, spots[bare], along[bare], length[bare], width[bare], rng)
        kept = ~bare
        spots, along, length, width = spots[kept], along[kept], length[kept], width[kept]
        n = len(spots)
        hut = rng.random(n) < 0.45
        houses(piece, spots, along, length, width, look, rng, prefer={}, floors=(1, 1), wings=0.2)
        across = np.column_stack([-along[:, 1], along[:, 0]])
        away = (width / 2 + rng.uniform(3.5, 5.5, n))[:, None]
        beside = spots + across * away + along * rng.uniform(-3, 3, (n, 1))
        hut &= shapely.contains_xy(block.buffer(-4.0), beside[:, 0], beside[:, 1])
        houses(
            piece, beside[hut], along[hut], rng.uniform(2.5, 4.5, int(hut.sum())),
            rng.uniform(2.5, 3.5, int(hut.sum())), look, rng, prefer={}, floors=(1, 1),
            wings=0.0, kind="hut",
        )  # fmt: skip
    outlines = shapely.polygons(rectangles(spots, along, length, width)) if n else None
    ground = block.buffer(-1.5, quad_segs=2)
    garden(piece, ground, look, rng, 0.22, outlines)
    groves = scatter(block.buffer(-8.0), rng, 34.0, 0.3 * look.trees)
    if len(groves):  # trees stand in groves, too
        clump = np.concatenate([groves + rng.normal(0, 6.5, groves.shape) for _ in range(11)])
        shapely.prepare(ground)
        clump = clump[shapely.contains_xy(ground, clump[:, 0], clump[:, 1])]
        if n:
            near = shapely.STRtree(outlines).query(shapely.points(clump), "dwithin", 1.5)[0]
            clump = np.delete(clump, near, axis=0)
        piece.plant(clump, rng, radius=(1.8, 4.8))


def _foundations(
    piece: Piece,
    middles: Floats,
    along: Floats,
    length: Floats,
    width: Floats,
    rng: np.random.Generator,
) -> None:
    """Add the walls of houses that nobody has roofed: they are not buildings yet."""
    across = np.column_stack([-along[:, 1], along[:, 0]])
    tone = rng.uniform(140, 205, (len(middles), 1)) + np.array([4.0, 0.0, -8.0])
    height = rng.uniform(0.6, 2.6, len(middles))
    for way, other, long, apart in (
        (along, across, length, width), (across, along, width, length)
    ):  # fmt: skip
        for shift in (-0.5, float(rng.uniform(-0.2, 0.2)), 0.5):
            spots = middles + other * (shift * apart)[:, None]
            piece.paint_many(
                rectangles(spots, way, long, 0.45), Layer.SHED, Material.PLAIN, tone, height=height
            )


def patches(
    piece: Piece, area: Polygon, look: Look, rng: np.random.Generator, share: float
) -> None:
    """Vary the ground of an area: patches of grass, crops and bare soil with soft outlines."""
    spots = scatter(area.buffer(-6.0), rng, 19.0, share)
    if not len(spots):
        return
    shapes = _rounds(spots, rng.uniform(4, 14, len(spots)), rng)
    shapes = shapes[shapely.contains(area, shapely.polygons(shapes))]
    materials, colours = lot_grounds(look, rng, len(shapes))
    green = np.array([material == Material.GRASS for material in materials], np.bool_)
    piece.paint_many(shapes[green], Layer.PARCEL, Material.GRASS, colours[green])
    stripe = np.zeros((int((~green).sum()), 3))
    dug = rng.random(len(stripe)) < 0.4 * min(look.trees, 1.0)
    angle = rng.uniform(0, np.pi, len(stripe))
    wave = 2 * np.pi / 2.4 * np.column_stack([np.cos(angle), np.sin(angle)])
    stripe[dug] = np.column_stack([wave, np.full(len(wave), 0.06)])[dug]
    piece.paint_many(shapes[~green], Layer.PARCEL, Material.SOIL, colours[~green], stripe=stripe)


def _rounds(middles: Floats, radius: Floats, rng: np.random.Generator) -> Floats:
    """Return roundish outlines [N,12,2] of radii [N] around middles [N,2]."""
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    reach = radius[:, None] * rng.uniform(0.7, 1.25, (len(middles), 12))
    circle = np.stack([np.cos(turn), np.sin(turn)], -1)
    return np.asarray(middles[:, None] + circle * reach[..., None])


def _vacant(
    piece: Piece,
    middles: Floats,
    along: Floats,
    width: Floats,
    depth: Floats,
    look: Look,
    rng: np.random.Generator,
) -> None:
    """Leave lots between houses open: a yard, a patch of green, a tree."""
    materials, colours = lot_grounds(look, rng, len(middles))
    green = np.array([material == Material.GRASS for material in materials], np.bool_)
    lots = rectangles(middles, along, width, depth)
    piece.paint_many(lots[green], Layer.PARCEL, Material.GRASS, colours[green])
    piece.paint_many(lots[~green], Layer.PARCEL, Material.SOIL, colours[~green])
    piece.plant(middles[rng.random(len(middles)) < 0.7 * look.trees], rng, radius=(1.2, 4.2))


def _rows(
    block: Polygon,
    rng: np.random.Generator,
    *,
    width: tuple[float, float],
    depth: tuple[float, float],
    gap: tuple[float, float],
    alley: tuple[float, float],
    inset: float,
    turn: float,
) -> tuple[Floats, Floats, Floats, Floats] | None:
    """Place rectangles in rows along a block: two rows back to back, then an alley.

    Returns:
        Middles [N,2], directions [N,2] along the rows, widths [N] and depths [N]; None where
        nothing fits.
    """
    axis = direction(block)
    axes = np.array([[np.cos(axis), np.sin(axis)], [-np.sin(axis), np.cos(axis)]])
    local = shapely.get_coordinates(block.exterior) @ axes.T
    low, high = local.min(0), local.max(0)
    middle = (low + high) / 2 @ axes
    reach, tall = ((high - low) / 2 + 2.0).tolist()
    rows = int(2 * tall / depth[0]) + 2
    columns = int((2 * reach + width[1]) / width[0]) + 2
    row_depth = rng.uniform(*depth, rows)
    between = np.where(np.arange(rows) % 2 == 0, rng.uniform(*gap, rows), rng.uniform(*alley, rows))
    v = -tall + np.cumsum(row_depth + between) - between - row_depth / 2
    widths = rng.uniform(*width, (rows, columns))
    gaps = np.where(
        rng.random((rows, columns)) < 0.08,
        rng.uniform(*alley, (rows, columns)),
        rng.uniform(*gap, (rows, columns)),
    )
    ends = np.cumsum(widths + gaps, 1) - rng.uniform(0, width[1], (rows, 1))
    u = -reach + ends - gaps - widths / 2
    depths = row_depth[:, None] * rng.uniform(0.82, 1.0, (rows, columns))
    # The fronts stand ragged, the backs touch.
    back = np.where(np.arange(rows)[:, None] % 2 == 0, 0.5, -0.5)
    places_v = v[:, None] + back * (row_depth[:, None] - depths)
    inside: NDArray[np.bool_] = (u < reach) & (np.abs(places_v) < tall)
    u, places_v, widths, depths = u[inside], places_v[inside], widths[inside], depths[inside]
    # Long rows sag a little.
    bend, wave = rng.normal(0, 2.2), rng.uniform(20, 50)
    places_v = places_v + bend * np.sin(u / wave)
    angle = axis + bend / wave * np.cos(u / wave)
    middles = np.column_stack([u, places_v]) @ axes + middle
    angle = angle + rng.normal(0, turn, len(u))
    near = shapely.contains_xy(block, middles[:, 0], middles[:, 1])
    middles, angle, widths, depths = middles[near], angle[near], widths[near], depths[near]
    along = np.column_stack([np.cos(angle), np.sin(angle)])
    inner = block.buffer(-inset, quad_segs=2)
    shapely.prepare(inner)
    good = shapely.contains(inner, shapely.polygons(rectangles(middles, along, widths, depths)))
    # At the outline of the block, smaller ones are tried, moved to each side.
    across = np.column_stack([-along[:, 1], along[:, 0]])
    for share in (0.75, 0.5):
        for x, y in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            rest = np.flatnonzero(~good)
            if not len(rest):
                break
            short, low = widths[rest] * (share if x else 1.0), depths[rest] * (share if y else 1.0)
            moved = middles[rest] + along[rest] * (x * (widths[rest] - short) / 2)[:, None]
            moved = moved + across[rest] * (y * (depths[rest] - low) / 2)[:, None]
            boxes = shapely.polygons(rectangles(moved, along[rest], short, low))
            fits = shapely.contains(inner, boxes) & (np.minimum(short, low) > 2.6)
            chosen = rest[fits]
            middles[chosen], widths[chosen], depths[chosen] = moved[fits], short[fits], low[fits]
            good[chosen] = True
    if not good.any():
        return None
    return middles[good], along[good], widths[good], depths[good]
