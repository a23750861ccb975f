"""What stands inside the blocks of built-up districts."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import ArrayLike
from shapely.geometry import LineString, Polygon
from shapely.geometry.polygon import orient

from sat2map.data.synthetic.buildings import (
    cars,
    flat,
    houses,
    parking,
    roof_colours,
)
from sat2map.data.synthetic.shapes import (
    Layer,
    Material,
    Piece,
    along_line,
    free,
    polygons,
    rectangles,
    scatter,
)
from sat2map.data.synthetic.world import Floats, Look

LAWN = (104, 122, 74)
_HOUSE_ROOFS = {0: 0.5, 1: 0.15, 2: 0.3, 3: 1.0, 4: 1.0, 5: 0.9, 6: 0.35, 7: 0.8}
_CITY_ROOFS = {0: 1.0, 1: 0.8, 2: 0.8, 3: 0.35, 4: 0.25, 5: 0.4, 6: 0.5}
_HALL_ROOFS = {0: 0.8, 1: 1.4, 2: 0.3, 5: 0.25, 6: 0.4, 7: 0.15}


def lawn(look: Look, rng: np.random.Generator, n: int) -> Floats:
    """Return colours [n,3] of lawns, dry ones among them in a dry season."""
    dry = np.clip(look.dryness + rng.normal(0, 0.22, (n, 1)), 0, 1)
    green, straw = np.array(LAWN, np.float64), np.array([152, 142, 100], np.float64)
    return (green * (1 - dry) + straw * dry) * rng.uniform(0.88, 1.12, (n, 1))


def suburb(
    piece: Piece, block: Polygon, look: Look, rng: np.random.Generator, *, rural: bool = False
) -> None:
    """Fill a block with detached houses in gardens."""
    piece.paint(block, Layer.PARCEL, Material.GRASS, lawn(look, rng, 1)[0])
    usual = rng.uniform(9.5, 13.5)
    gap = rng.uniform(3, 8) * (2.2 if rural else 1.0)
    setback = rng.uniform(4.5, 8.5)
    found = _front(
        block, rng, width=(usual * 0.88, usual * 1.2), depth=(8, 11.5), gap=(gap * 0.7, gap * 1.5),
        setback=setback, share=0.72 if rural else 0.95,
    )  # fmt: skip
    if found is None:
        _garden(piece, block, look, rng, 0.5)
        return
    middles, along, width, depth = found
    n = len(middles)
    inward = np.column_stack([-along[:, 1], along[:, 0]])
    lots = rectangles(middles + inward * 4, along, width + gap, np.full(n, 26.0) + 2 * setback)
    clipped = shapely.intersection(shapely.polygons(lots), block)
    for lot, colour in zip(clipped, lawn(look, rng, n), strict=True):
        piece.paint(lot, Layer.PARCEL, Material.GRASS, colour)
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
    houses_ground = shapely.union_all(shapely.polygons(rectangles(middles, along, width, depth)))
    _garden(piece, block.buffer(-1.5).difference(houses_ground.buffer(2.0)), look, rng, 0.34)


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
    has_pool = (rng.random(n) < 0.09) & shapely.contains_xy(inner, pools[:, 0], pools[:, 1])
    has_shed = (rng.random(n) < 0.3) & shapely.contains_xy(inner, sheds[:, 0], sheds[:, 1])
    piece.paint_many(
        rectangles(pools, along, 9.6, 6.4)[has_pool], Layer.SURFACE, Material.PAVING,
        (188, 184, 172),
    )  # fmt: skip
    piece.paint_many(
        rectangles(pools, along, 7.6, 4.2)[has_pool], Layer.WALK, Material.PLAIN, (92, 168, 186)
    )
    grey = np.repeat(rng.uniform(85, 165, (int(has_shed.sum()), 1)), 3, 1)
    piece.paint_many(
        rectangles(sheds, along, 3.6, 2.6)[has_shed], Layer.SHED, Material.PLAIN, grey, height=2.4
    )


def terraces(piece: Piece, block: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Fill a block with buildings wall to wall around a yard."""
    paved = rng.random() < 0.4
    ground: ArrayLike = (140, 134, 126) if paved else lawn(look, rng, 1)[0] * 0.95
    piece.paint(block, Layer.PARCEL, Material.PAVING, (156, 151, 143))
    piece.paint(
        block.buffer(-5), Layer.PARCEL, Material.PAVING if paved else Material.GRASS, ground
    )
    found = _front(
        block, rng, width=(8, 19), depth=(10.5, 15), gap=(0.0, 0.3),
        setback=float(rng.choice([0.8, 1.5, 3.0])), share=0.95,
    )  # fmt: skip
    if found is None:
        _garden(piece, block, look, rng, 0.4)
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
        heights = 3.2 * rng.integers(level, level + 3, len(middles)) + 1.0
        flat(piece, outline, roof_colours(look, rng, len(middles), _CITY_ROOFS), heights, rng)
        for shape, height in zip(shapely.polygons(outline), heights.tolist(), strict=True):
            piece.feature(shape, "building", "apartments", round(height, 1))
    yards = middles + inward * (depth / 2 + rng.uniform(4, 9, len(middles)))[:, None]
    inner = block.buffer(-22)
    room = shapely.contains_xy(inner, yards[:, 0], yards[:, 1]) & (rng.random(len(yards)) < 0.4)
    grey = rng.uniform(80, 180, (int(room.sum()), 1)) + np.zeros(3)
    piece.paint_many(
        rectangles(yards, along, width * 0.6, 5.0)[room], Layer.SHED, Material.FLAT_ROOF, grey,
        height=3.0,
    )  # fmt: skip
    _garden(piece, block.buffer(-17), look, rng, 0.5)


def downtown(piece: Piece, block: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Fill a block with tall buildings, some lots with squares and car parks."""
    piece.paint(block, Layer.PARCEL, Material.PAVING, (158, 154, 148))
    if rng.random() < 0.06:
        square(piece, block, look, rng)
        return
    tall = rng.uniform(12, 46)
    for lot in split(block.buffer(-1.0), rng, rng.uniform(700, 1900)):
        chance = rng.random()
        angle = _direction(lot)
        if chance < 0.08 and lot.area > 500:
            piece.paint(lot, Layer.SURFACE, Material.ASPHALT, (112, 111, 110))
            parking(piece, lot, angle, rng, 0.7)
            continue
        base = lot.buffer(-rng.uniform(0.2, 2.2), join_style="mitre")
        for part in polygons(base, 90.0):
            outline = shapely.get_coordinates(part.simplify(0.5).exterior)[None, :-1]
            height = np.array([float(np.clip(rng.lognormal(np.log(tall), 0.45), 8, 58))])
            colour = roof_colours(look, rng, 1, _CITY_ROOFS)
            flat(piece, outline, colour, height, rng)
            if height[0] > 24 and part.area > 500:
                inner = part.buffer(-rng.uniform(3, 6), join_style="mitre")
                for tower in polygons(inner, 120.0):
                    top = shapely.get_coordinates(tower.simplify(0.5).exterior)[None, :-1]
                    piece.paint_many(
                        top, Layer.FACET, Material.FLAT_ROOF, np.clip(colour * 1.15, 0, 235),
                        height=height + rng.uniform(4, 9),
                    )  # fmt: skip
            piece.feature(part, "building", "office", round(float(height[0]), 1))


def square(piece: Piece, block: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Make a block a small city park: lawn, crossing paths and trees."""
    piece.paint(block, Layer.PARCEL, Material.GRASS, lawn(look, rng, 1)[0])
    piece.feature(block, "park", "square")
    ring = shapely.get_coordinates(shapely.minimum_rotated_rectangle(block))[:4]
    ways = [LineString(ring[[0, 2]]), LineString(ring[[1, 3]])]
    for way in ways:
        path = way.intersection(block)
        piece.paint(path.buffer(1.6), Layer.SURFACE, Material.PAVING, (182, 172, 152))
    piece.paint(
        block.centroid.buffer(8).intersection(block), Layer.SURFACE, Material.PAVING,
        (186, 178, 162),
    )  # fmt: skip
    rim = block.buffer(-3).exterior if block.buffer(-3).geom_type == "Polygon" else None
    if rim is not None and rim.length > 20:
        places, _ = along_line(LineString(rim), np.arange(4, rim.length - 4, rng.uniform(7, 10)))
        piece.plant(places, rng, radius=(2.8, 5.0))
    piece.plant(scatter(block.buffer(-8), rng, 11.0, 0.5), rng, radius=(2.5, 5.5))


def works(piece: Piece, block: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Fill a block with halls, yards, tanks and car parks."""
    piece.paint(block, Layer.PARCEL, Material.GRASS, lawn(look, rng, 1)[0])
    for lot in split(block.buffer(-2.0), rng, rng.uniform(7000, 16000)):
        ground = lot.buffer(-1.2)
        grey = rng.uniform(105, 150)
        piece.paint(ground, Layer.SURFACE, Material.ASPHALT, (grey + 3, grey, grey - 4))
        piece.feature(ground, "other", "industrial")
        angle = _direction(lot)
        axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        box_ring = shapely.get_coordinates(shapely.minimum_rotated_rectangle(lot))[:4]
        extent = np.ptp(box_ring @ axes.T, axis=0)
        share = rng.uniform(0.45, 0.72)
        push = rng.choice([-1, 1]) * (1 - share) / 2 * extent[0] * 0.8
        middle = box_ring.mean(0) + axes[0] * push
        hall = Polygon(
            rectangles(middle[None], axes[:1], extent[0] * share, extent[1] * 0.78)[0]
        ).intersection(ground.buffer(-5))
        used = []
        for part in polygons(hall, 250.0):
            outline = shapely.get_coordinates(part.simplify(1.0).exterior)[None, :-1]
            height = float(rng.uniform(7, 13))
            colours = roof_colours(look, rng, 1, _HALL_ROOFS)
            flat(piece, outline, colours, np.array([height]), rng)
            _skylights(piece, part, axes, colours[0], height, rng)
            piece.feature(part, "building", "industrial", round(height, 1))
            used.append(part.buffer(5))
        rest = ground.difference(shapely.union_all(used)) if used else ground
        for part in polygons(rest, 500.0):
            chance = rng.random()
            if chance < 0.62:
                parking(piece, part, angle, rng, rng.uniform(0.25, 0.75))
            elif chance < 0.85:
                _yard(piece, part, axes, rng)
            else:
                _tanks(piece, part, rng)
    edge = block.buffer(-1.0).exterior if block.buffer(-1.0).geom_type == "Polygon" else None
    if edge is not None and edge.length > 40:
        places, _ = along_line(LineString(edge), np.arange(5, edge.length - 5, 9.0))
        keep = rng.random(len(places)) < 0.35 * look.trees
        piece.plant(places[keep], rng, radius=(1.8, 3.6))


def _skylights(
    piece: Piece,
    part: Polygon,
    axes: Floats,
    colour: Floats,
    height: float,
    rng: np.random.Generator,
) -> None:
    spots = _lattice(part.buffer(-4), axes, (float(rng.uniform(10, 18)), 7.5))
    if len(spots) and rng.random() < 0.7:
        boxes = rectangles(spots, np.broadcast_to(axes[1], spots.shape), 4.5, 1.3)
        light = 225.0 if colour.mean() < 170 else 150.0
        piece.paint_many(boxes, Layer.TOP, Material.PLAIN, (light,) * 3, height=height + 0.3)


def _yard(piece: Piece, part: Polygon, axes: Floats, rng: np.random.Generator) -> None:
    """Add containers and stacks of material."""
    spots = _lattice(part.buffer(-8), axes, (13.5, 4.0))
    spots = spots[rng.random(len(spots)) < 0.4]
    palette = np.array(
        [(150, 70, 55), (70, 95, 130), (190, 190, 186), (95, 120, 95), (176, 140, 80)]
    )
    colours = palette[rng.integers(0, len(palette), len(spots))] * rng.uniform(
        0.85, 1.1, (len(spots), 1)
    )
    boxes = rectangles(spots, np.broadcast_to(axes[0], spots.shape), 12.0, 2.5)
    piece.paint_many(boxes, Layer.SHED, Material.PLAIN, colours, height=2.7)


def _tanks(piece: Piece, part: Polygon, rng: np.random.Generator) -> None:
    turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    circle = np.column_stack([np.cos(turn), np.sin(turn)])
    inner = part.buffer(-11)
    spots = scatter(inner, rng, 24.0) if not inner.is_empty else np.zeros((0, 2))
    for spot in spots[:6]:
        radius, height = rng.uniform(5, 9), float(rng.uniform(7, 11))
        outline = spot + circle * radius
        piece.paint_many(outline[None], Layer.ROOF, Material.PLAIN, (206, 205, 198), height=height)
        piece.paint_many(
            (spot + circle * radius * 0.9)[None], Layer.FACET, Material.PLAIN, (186, 186, 180),
            height=height,
        )  # fmt: skip
        piece.feature(Polygon(outline), "building", "tank", round(height, 1))


def campus(piece: Piece, block: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Fill a block with school or hospital buildings, a pitch, a car park and trees."""
    piece.paint(block, Layer.PARCEL, Material.GRASS, lawn(look, rng, 1)[0])
    piece.feature(block.buffer(-0.5), "other", "campus")
    angle = _direction(block)
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    taken = []
    for lot in split(block.buffer(-5.0), rng, 6500.0):
        chance = rng.random()
        middle = np.array(lot.centroid.coords[0])
        if chance < 0.34:
            pitched_field = pitch(piece, lot, angle, rng, look)
            if pitched_field is not None:
                taken.append(pitched_field)
                continue
        if chance < 0.5:
            ground = lot.buffer(-4)
            piece.paint(ground, Layer.SURFACE, Material.ASPHALT, (108, 107, 106))
            for part in polygons(ground, 300.0):
                parking(piece, part, angle, rng, 0.55)
            taken.append(ground)
            continue
        height = float(rng.integers(2, 6)) * 3.5
        arms = [(rng.uniform(34, 58), rng.uniform(13, 18), 0.0, 0.0)]
        for side in (-1, 1):
            if rng.random() < 0.7:
                arms.append((rng.uniform(11, 15), rng.uniform(26, 44), side * 17.0, 12.0))
        colour = roof_colours(look, rng, 1, _CITY_ROOFS)
        shapes = []
        for along, across, right, up in arms:
            spot = middle + axes[0] * right + axes[1] * up
            outline = rectangles(spot[None], axes[:1], along, across)
            if not lot.contains(Polygon(outline[0])):
                continue
            flat(piece, outline, colour, np.array([height]), rng)
            shapes.append(Polygon(outline[0]))
        if shapes:
            whole = shapely.union_all(shapes)
            piece.feature(whole, "building", "public", height)
            piece.paint(whole.buffer(4), Layer.SURFACE, Material.PAVING, (164, 158, 148))
            taken.append(whole.buffer(4))
    rest = block.buffer(-2).difference(shapely.union_all(taken)) if taken else block.buffer(-2)
    _garden(piece, rest, look, rng, 0.3)


def pitch(
    piece: Piece, lot: Polygon, angle: float, rng: np.random.Generator, look: Look
) -> Polygon | None:
    """Lay a sports pitch into a lot; None where it does not fit."""
    long, wide = (float(rng.uniform(84, 104)), float(rng.uniform(54, 66)))
    kind = "football"
    middle = np.array(lot.centroid.coords[0])[None]
    for long, wide, kind in ((long, wide, kind), (58.0, 36.0, kind), (32.0, 18.0, "court")):
        for turn in (angle, angle + np.pi / 2):
            along = np.array([[np.cos(turn), np.sin(turn)]])
            outer = rectangles(middle, along, long + 6, wide + 6)[0]
            if lot.contains(Polygon(outer)):
                break
        else:
            continue
        break
    else:
        return None
    if kind == "court":
        colour: ArrayLike = [(148, 84, 66), (72, 112, 98), (80, 100, 134)][int(rng.integers(3))]
        piece.paint_many(outer[None], Layer.SURFACE, Material.PLAIN, colour)
    elif rng.random() < 0.35 and kind == "football":
        piece.paint(
            Polygon(rectangles(middle, along, long - 18, wide + 14)[0]).buffer(11), Layer.SURFACE,
            Material.PLAIN, (160, 92, 72),
        )  # fmt: skip
        piece.paint_many(outer[None], Layer.WALK, Material.GRASS, (92, 128, 66))
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


def _pitch_lines(piece: Piece, middle: Floats, along: Floats, long: float, wide: float) -> None:
    across = np.array([-along[1], along[0]])
    white = (226, 228, 220)
    parts = []
    for way, reach, aside, other in ((along, long, wide, across), (across, wide, long, along)):
        for shift in (-aside / 2, aside / 2):
            parts.append(rectangles((middle + other * shift)[None], way[None], reach, 0.5)[0])
    parts.append(rectangles(middle[None], across[None], wide, 0.5)[0])
    for end in (-1, 1):
        goal = middle + along * end * (long / 2 - 0.16 * long)
        parts.append(rectangles(goal[None], across[None], wide * 0.6, 0.5)[0])
    piece.paint_many(np.stack(parts), Layer.PAINT, Material.PLAIN, white)


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
    inner = block.buffer(-setback * 0.7)
    shapely.prepare(inner)
    inside = shapely.contains(inner, boxes)
    if not inside.any():
        return None
    # Neighbours at a bend touch a little; shrunken outlines decide whether that matters.
    tight = shapely.polygons(rectangles(middles, along, widths * 0.94, depths * 0.94))
    chosen = np.flatnonzero(inside)
    chosen = chosen[free(tight[chosen])]
    return middles[chosen], along[chosen], widths[chosen], depths[chosen]


def split(area: Polygon, rng: np.random.Generator, target: float) -> list[Polygon]:
    """Halve an area across its length until the parts have about a target area."""
    done: list[Polygon] = []
    waiting = polygons(area, 60.0)
    while waiting:
        part = waiting.pop()
        ring = shapely.get_coordinates(shapely.minimum_rotated_rectangle(part))
        if part.area < target * 1.5 or len(ring) < 5:
            done.append(part)
            continue
        sides = np.diff(ring[:3], axis=0)
        lengths = np.hypot(sides[:, 0], sides[:, 1])
        long = int(lengths.argmax())
        along, reach = sides[long] / lengths[long], float(lengths.sum())
        middle = ring[:4].mean(0) + along * lengths[long] * rng.uniform(-0.12, 0.12)
        half = Polygon(
            rectangles((middle + along * reach)[None], along[None], 2 * reach, 2 * reach)[0]
        )
        parts = polygons(part.intersection(half), 40.0) + polygons(part.difference(half), 40.0)
        if len(parts) < 2:
            done.append(part)
            continue
        waiting += parts
    return done


def _direction(area: Polygon) -> float:
    """Return the direction of the longer side of an area, radians."""
    ring = shapely.get_coordinates(shapely.minimum_rotated_rectangle(area))
    if len(ring) < 4:
        return 0.0
    sides = np.diff(ring[:3], axis=0)
    longest = sides[int(np.hypot(sides[:, 0], sides[:, 1]).argmax())]
    return float(np.arctan2(longest[1], longest[0]))


def _lattice(area: Polygon, axes: Floats, gap: tuple[float, float]) -> Floats:
    """Return the points [N,2] of a turned lattice that lie in an area."""
    if area.is_empty:
        return np.zeros((0, 2))
    west, south, east, north = area.bounds
    reach = np.hypot(east - west, north - south) / 2
    u, v = np.arange(-reach, reach, gap[0]), np.arange(-reach, reach, gap[1])
    local = np.stack(np.meshgrid(u, v, indexing="ij"), -1).reshape(-1, 2)
    spots = local @ axes + np.array([(west + east) / 2, (south + north) / 2])
    inside: Floats = spots[shapely.contains_xy(area, spots[:, 0], spots[:, 1])]
    return inside


def _garden(
    piece: Piece,
    area: Polygon,
    look: Look,
    rng: np.random.Generator,
    share: float,
) -> None:
    """Plant trees and bushes over an area."""
    for part in polygons(area, 30.0):
        shapely.prepare(part)
        piece.plant(scatter(part, rng, 7.5, share * look.trees), rng, radius=(1.8, 5.2))
        piece.plant(scatter(part, rng, 4.5, 0.12 * look.trees), rng, radius=(0.8, 1.8))
