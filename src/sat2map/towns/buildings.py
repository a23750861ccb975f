"""Buildings with their roofs, and cars: many at once, as arrays of rectangles."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import LineString, Polygon

from sat2map.towns.geometry import along_line, rectangles
from sat2map.towns.kinds import RoofForm
from sat2map.towns.look import Look
from sat2map.towns.shapes import Layer, Material, Piece
from sat2map.towns.world import Floats

ROOFS = np.array(
    [
        (134, 132, 130),  # gravel
        (206, 205, 200),  # white membrane
        (84, 82, 82),  # tar
        (150, 96, 78),  # red tiles
        (116, 97, 84),  # brown shingle
        (97, 101, 110),  # slate
        (178, 165, 146),  # beige
        (140, 112, 92),  # old tiles
    ],
    np.float64,
)
CITY_ROOFS = {0: 1.0, 1: 0.8, 2: 0.8, 3: 0.35, 4: 0.25, 5: 0.4, 6: 0.5}
"""Weights of the roof colours of flat roofs in a city."""
_CARS = np.array(
    [(235, 235, 235), (190, 192, 195), (120, 122, 126), (45, 46, 50), (150, 45, 40), (55, 75, 120),
     (205, 205, 210), (85, 88, 92), (170, 160, 140)],
    np.float64,
)  # fmt: skip
_CAR_SHARES = (0.24, 0.2, 0.14, 0.15, 0.07, 0.07, 0.05, 0.05, 0.03)


def roof_colours(look: Look, rng: np.random.Generator, n: int, prefer: dict[int, float]) -> Floats:
    """Return the colours [n,3] of roofs: the world's mix times the weights of a place.

    Where the world has roofs of its own, the weights of the place do not count.
    """
    if look.palette:
        return roofs(look, rng, n, {"flat", "tin"})[0]
    weights = np.array(look.roofs) + 0.02
    weights = weights * np.array([prefer.get(k, 0.02) for k in range(len(ROOFS))])
    chosen = rng.choice(len(ROOFS), n, p=weights / weights.sum())
    return ROOFS[chosen] * rng.uniform(0.86, 1.1, (n, 1)) + rng.normal(0, 3, (n, 3))


def roofs(
    look: Look, rng: np.random.Generator, n: int, forms: Collection[RoofForm] = ()
) -> tuple[Floats, NDArray[np.str_]]:
    """Return colours [n,3] and forms [n] of the roofs of a world that has its own."""
    weights = np.array(look.roofs)
    if forms:
        fitting = np.isin(look.forms, list(forms))
        weights = np.where(fitting, weights, 0) if fitting.any() else weights
    chosen = rng.choice(len(weights), n, p=weights / weights.sum())
    colours = np.array(look.palette)[chosen] * rng.uniform(0.84, 1.1, (n, 1))
    return colours + rng.normal(0, 4, (n, 3)), np.array(look.forms)[chosen]


def pitched(
    piece: Piece,
    middles: Floats,
    along: Floats,
    length: Floats,
    width: Floats,
    colours: Floats,
    heights: Floats,
    hip: Floats,
    look: Look,
    *,
    material: Material = Material.TILES,
    slope: float = 0.27,
) -> None:
    """Add pitched roofs.

    Args:
        piece: Where they go.
        middles: [N,2].
        along: Unit vectors [N,2] of the ridges.
        length: Along the ridge, [N].
        width: Across it, [N].
        colours: [N,3], before light and shade.
        heights: Of the eaves in metres, [N].
        hip: How far the ends of the ridge stand in, as a share of half the width, [N]; 0
            for a gable.
        look: Where the sun is.
        material: What they are covered with.
        slope: How much lighter the side to the sun is, as a share.
    """
    outline = rectangles(middles, along, length, width)
    across = np.column_stack([-along[:, 1], along[:, 0]])
    stand = along * (hip * width / 2)[:, None]
    start = (outline[:, 0] + outline[:, 3]) / 2 + stand
    end = (outline[:, 1] + outline[:, 2]) / 2 - stand
    stripe = np.zeros((len(middles), 3))
    if material == Material.TIN:  # sheets lie side by side along the ridge
        stripe = np.column_stack([along * (2 * np.pi / 2.2), np.full(len(middles), 0.035)])
    facets = (
        ((outline[:, 0], outline[:, 1], end, start), -across),
        ((outline[:, 3], outline[:, 2], end, start), across),
        ((outline[:, 0], outline[:, 3], start, start), -along),
        ((outline[:, 1], outline[:, 2], end, end), along),
    )
    for k, (corners, normal) in enumerate(facets):
        light = 1.0 + slope * (normal @ np.array(look.sun))
        chosen = slice(None) if k < 2 else hip > 0
        piece.paint_many(
            np.stack(corners, 1)[chosen],
            Layer.FACET,
            material,
            (colours * light[:, None])[chosen],
            height=heights[chosen] + 0.5,
            stripe=stripe[chosen],
        )


def flat(
    piece: Piece, outline: Floats, colours: Floats, heights: Floats, rng: np.random.Generator
) -> None:
    """Add flat roofs on convex outlines [N,K,2] with parapets and machines on top."""
    piece.paint_many(
        outline, Layer.ROOF, Material.FLAT_ROOF, np.clip(colours * 1.12 + 8, 0, 240),
        height=heights,
    )  # fmt: skip
    middles = outline.mean(1)
    arms = outline - middles[:, None]
    reach = np.hypot(arms[..., 0], arms[..., 1])
    inner = middles[:, None] + arms * np.clip(1 - 0.9 / reach, 0.5, 1)[..., None]
    piece.paint_many(inner, Layer.FACET, Material.FLAT_ROOF, colours, height=heights)
    for _ in range(3):
        has = (rng.random(len(outline)) < 0.6) & (reach.min(1) > 6)
        side = arms[:, 1] - arms[:, 0]
        side = side / np.maximum(np.hypot(side[:, 0], side[:, 1])[:, None], 1e-6)
        weights = rng.dirichlet(np.ones(outline.shape[1]), len(outline))[..., None]
        spots = middles + (arms * weights).sum(1) * 0.75
        size = rng.uniform(1.5, 0.22 * np.clip(reach.min(1), 8, 24))
        boxes = rectangles(spots, side, size, size * rng.uniform(0.5, 1, len(size)))
        shade = rng.choice([95.0, 150.0, 205.0], len(size))
        piece.paint_many(
            boxes[has], Layer.TOP, Material.PLAIN, np.repeat(shade[has, None], 3, 1),
            height=heights[has] + rng.uniform(1.5, 3.5, int(has.sum())),
        )  # fmt: skip


def houses(
    piece: Piece,
    middles: Floats,
    along: Floats,
    length: Floats,
    width: Floats,
    look: Look,
    rng: np.random.Generator,
    *,
    prefer: dict[int, float],
    floors: tuple[int, int] = (1, 2),
    kind: str = "house",
    wings: float = 0.38,
) -> None:
    """Add houses, some with a wing, to photo and map.

    Their roofs are pitched, or of the forms that the world has.

    Args:
        piece: Where they go.
        middles: [N,2].
        along: Unit vectors [N,2] along the street.
        length: Along the street, [N].
        width: Across, [N].
        look: Sun and roofs.
        rng: Where the variety comes from.
        prefer: Weights of the roof colours.
        floors: Least and greatest number of floors.
        kind: Of the features of the map.
        wings: Share of the houses that have one.
    """
    n = len(middles)
    if n == 0:
        return
    forms = None
    if look.palette:
        colours, forms = roofs(look, rng, n)
    else:
        colours = roof_colours(look, rng, n, prefer)
    heights = 3.1 * rng.integers(floors[0], floors[1] + 1, n) + rng.uniform(0.5, 1.5, n)
    hip = np.where(rng.random(n) < 0.45, rng.uniform(0.6, 1.0, n), 0.0)
    across = np.column_stack([-along[:, 1], along[:, 0]])
    turned = (rng.random(n) < 0.25) & (width > 0.8 * length)
    ridge = np.where((turned | (width > length * 1.25))[:, None], across, along)
    ridge_length = np.where(ridge[:, 0] == along[:, 0], length, width)
    ridge_width = np.where(ridge[:, 0] == along[:, 0], width, length)
    _roof(piece, middles, ridge, ridge_length, ridge_width, colours, heights, hip, look, forms, rng)
    outlines = shapely.polygons(rectangles(middles, along, length, width))
    wing = rng.random(n) < wings
    if wing.any():
        side = rng.choice([-0.24, 0.24], n)[:, None]
        spots = middles + along * side * length[:, None] - across * (width * 0.42)[:, None]
        wing_width, wing_length = length * rng.uniform(0.36, 0.5, n), width * 0.75
        _roof(
            piece, spots[wing], across[wing], wing_length[wing], wing_width[wing],
            colours[wing], heights[wing] - 0.1, hip[wing], look,
            None if forms is None else forms[wing], rng,
        )  # fmt: skip
        annexes = shapely.polygons(rectangles(spots, across, wing_length, wing_width))
        outlines[wing] = shapely.union(outlines[wing], annexes[wing])
    for outline, height in zip(outlines, heights.tolist(), strict=True):
        piece.feature(outline, "building", kind, round(height, 1))


def _roof(
    piece: Piece,
    middles: Floats,
    along: Floats,
    length: Floats,
    width: Floats,
    colours: Floats,
    heights: Floats,
    hip: Floats,
    look: Look,
    forms: NDArray[np.str_] | None,
    rng: np.random.Generator,
) -> None:
    """Add roofs, each of its form; without forms all are tiled."""
    if forms is None:
        pitched(piece, middles, along, length, width, colours, heights, hip, look)
        return
    for form, material, slope in (
        ("tiles", Material.TILES, 0.27),
        ("tin", Material.TIN, 0.16),
        ("thatch", Material.THATCH, 0.22),
    ):
        one = forms == form
        if one.any():
            pitched(
                piece, middles[one], along[one], length[one], width[one], colours[one],
                heights[one], hip[one], look, material=material, slope=slope,
            )  # fmt: skip
    one = forms == "flat"
    if one.any():
        _terrace(
            piece, middles[one], along[one], length[one], width[one], colours[one], heights[one],
            rng,
        )  # fmt: skip


_SHEETS = np.array([(78, 122, 166), (170, 84, 74), (186, 190, 194), (150, 120, 100)], np.float64)
_TANKS = np.array([(40, 42, 46), (58, 92, 138), (206, 206, 204)], np.float64)


def _terrace(
    piece: Piece,
    middles: Floats,
    along: Floats,
    length: Floats,
    width: Floats,
    colours: Floats,
    heights: Floats,
    rng: np.random.Generator,
) -> None:
    """Add flat roofs that people use: parapets, stair heads, tanks, sheets over a part."""
    n = len(middles)
    across = np.column_stack([-along[:, 1], along[:, 0]])
    rim = np.clip(colours * rng.uniform(0.85, 1.2, (n, 1)) + 6, 0, 240)
    piece.paint_many(
        rectangles(middles, along, length, width), Layer.ROOF, Material.FLAT_ROOF, rim,
        height=heights + 0.8,
    )  # fmt: skip
    inner = rectangles(middles, along, np.maximum(length - 0.8, 1), np.maximum(width - 0.8, 1))
    piece.paint_many(inner, Layer.FACET, Material.FLAT_ROOF, colours, height=heights)

    def top(
        share: float, size: tuple[float, float], shade: Floats, rise: float, reach: float
    ) -> None:
        has = np.flatnonzero(rng.random(n) < share)
        long = np.minimum(rng.uniform(*size, len(has)), 0.8 * length[has])
        wide = np.minimum(rng.uniform(*size, len(has)), 0.8 * width[has])
        u = rng.uniform(-reach, reach, len(has)) * (length[has] - long)
        v = rng.uniform(-reach, reach, len(has)) * (width[has] - wide)
        spots = middles[has] + along[has] * u[:, None] + across[has] * v[:, None]
        piece.paint_many(
            rectangles(spots, along[has], long, wide), Layer.TOP, Material.PLAIN, shade[has],
            height=heights[has] + rise,
        )  # fmt: skip

    stain = colours * rng.uniform(0.72, 1.12, (n, 1))
    top(0.5, (2.0, 6.0), stain, 0.05, 0.48)
    top(0.45, (2.2, 3.8), np.clip(colours * rng.uniform(0.9, 1.25, (n, 1)), 0, 238), 2.4, 0.46)
    sheets = _SHEETS[rng.integers(len(_SHEETS), size=n)] * rng.uniform(0.85, 1.1, (n, 1))
    top(0.22, (3.0, 8.0), sheets, 2.2, 0.47)
    for _ in range(2):
        tanks = _TANKS[rng.integers(len(_TANKS), size=n)]
        top(0.4, (0.9, 1.5), tanks, 1.4, 0.45)
        junk = rng.uniform(60, 220, (n, 1)) * rng.uniform(0.85, 1.1, (n, 3))
        top(0.35, (0.6, 1.6), np.clip(junk, 30, 235), 0.5, 0.47)


def cars(
    piece: Piece,
    middles: Floats,
    along: Floats,
    rng: np.random.Generator,
    *,
    trucks: float = 0.03,
) -> None:
    """Add cars at places [N,2] with directions [N,2]; a share of them is trucks."""
    n = len(middles)
    if n == 0:
        return
    length = rng.uniform(4.0, 4.9, n)
    colours = _CARS[rng.choice(len(_CARS), n, p=_CAR_SHARES)] * rng.uniform(0.9, 1.05, (n, 1))
    truck = rng.random(n) < trucks
    length = np.where(truck, rng.uniform(7, 14, n), length)
    width = np.where(truck, 2.5, 1.85)
    piece.paint_many(
        rectangles(middles, along, length, width), Layer.CAR, Material.PLAIN, colours,
        height=np.where(truck, 3.2, 1.5),
    )  # fmt: skip
    glass = rectangles(middles + along * 0.75, along, 0.8, 1.5)[~truck]
    piece.paint_many(glass, Layer.SHED, Material.PLAIN, (52, 58, 66), height=1.5)


def parked(
    piece: Piece, line: LineString, aside: float, share: float, rng: np.random.Generator
) -> None:
    """Add cars parked along both sides of a street."""
    for side in (-1, 1):
        places = np.arange(11.0, line.length - 11.0, 6.4)
        # Cars stand in bunches: a slow wave decides where.
        wave = 0.5 + 0.7 * np.sin(places / rng.uniform(14, 40) + rng.uniform(0, 6.28))
        places = places[rng.random(len(places)) < share * wave]
        if len(places):
            spots, along = along_line(line, places + rng.normal(0, 0.4, len(places)), side * aside)
            cars(piece, spots, along * side, rng)


def parking(
    piece: Piece, area: Polygon, angle: float, rng: np.random.Generator, share: float
) -> None:
    """Fill an area with rows of parking bays, of which about a share is taken."""
    west, south, east, north = area.bounds
    reach = np.hypot(east - west, north - south) / 2
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    bays = np.arange(-reach, reach, 2.7)
    rows = np.arange(-reach, reach, 16.6)
    v = np.concatenate([rows, rows + 11.4])
    local = np.stack(np.meshgrid(bays, v, indexing="ij"), -1).reshape(-1, 2)
    spots = local @ axes + np.array([(west + east) / 2, (south + north) / 2])
    inner = area.buffer(-3.2)
    inside = shapely.contains_xy(inner, spots[:, 0], spots[:, 1])
    spots, local = spots[inside], local[inside]
    if not len(spots):
        return
    upright = np.broadcast_to(axes[1], spots.shape)
    stripes = rectangles(spots - axes[0] * 1.35, upright, 4.8, 0.3)
    piece.paint_many(stripes, Layer.PAINT, Material.PLAIN, (186, 186, 182))
    wave = 0.25 * np.sin(local[:, 0] / 17 + local[:, 1] / 23 + rng.uniform(0, 6.28))
    taken = rng.random(len(spots)) < share + wave
    facing: NDArray[np.float64] = upright * rng.choice([-1.0, 1.0], (len(spots), 1))
    moved = spots + axes[1] * rng.normal(0, 0.25, (len(spots), 1))
    cars(piece, moved[taken], facing[taken], rng, trucks=0.0)
