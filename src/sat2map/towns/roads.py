"""The roads that lead through a town: main roads and bridges, highways and ramps, rivers.

Rivers are here because roads and waters must know of each other.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import shapely
from shapely.geometry import LineString, Point, Polygon, box

from sat2map.towns.buildings import cars, parked
from sat2map.towns.geometry import (
    along_line,
    buffered,
    grown,
    lines,
    polygons,
    rectangles,
    scatter,
)
from sat2map.towns.greens import lawn, verge
from sat2map.towns.kinds import District
from sat2map.towns.look import Look
from sat2map.towns.shapes import Layer, Material, Piece
from sat2map.towns.world import BLOCK, COURSE, Bounds, World, stream

BANK = 9.0
"""Metres of green along a river."""
VERGE = 9.0
"""Metres of green along a highway."""

_RURAL = {"village", "fields", "scattered", "barren", "plots", "woods"}
_WALK = np.array([168.0, 164.0, 157.0])


def add_streets(
    piece: Piece,
    world: World,
    streets: list[LineString],
    ends: list[LineString],
    width: float,
    district: District,
    key: tuple[int, int, int],
    view: Polygon,
) -> None:
    """Add the minor streets of a district with walks, trees and parked cars."""
    rng = stream(world.seed, BLOCK, *key, 1_000_000)
    look = world.look
    asphalt = np.array(look.asphalt) * rng.uniform(0.88, 1.15)
    rural = district in _RURAL
    walks = not rural
    if look.temperate:
        dirt = district == "fields" and rng.random() < 0.6
    else:
        dirt = rng.random() < (max(look.unpaved, 0.85) if rural else look.unpaved)
        walks = not (rural or dirt) and rng.random() < look.walks
    for number, line in enumerate(streets + ends):
        if not line.intersects(view):
            continue
        rng = stream(world.seed, BLOCK, *key, 2_000_000 + number)
        if walks:
            piece.paint(buffered(line, width / 2 + 2.2), Layer.WALK, Material.PAVING, _WALK)
            if district in {"grid", "curvy", "campus"}:
                piece.paint(buffered(line, width / 2 + 0.9), Layer.VERGE, *verge(look, 1.03))
        if not look.temperate and dirt:
            earth_road(piece, line, width, look, rng)
        else:
            if not walks and not rural:
                _dusty_edge(piece, line, width, look, rng)
            tone = np.array(look.dirt) if dirt else asphalt * rng.uniform(0.96, 1.04)
            piece.paint(
                buffered(line, width / 2 - 0.6), Layer.STREET,
                Material.SOIL if dirt else Material.ASPHALT, tone,
            )  # fmt: skip
        piece.street(line, "road", "track" if dirt else "street", width)
        if rural:
            continue
        if district not in {"campus", "industrial"} and width > 6:
            share = 0.75 if district != "curvy" else 0.3
            parked(piece, line, width / 2 - 1.9, share * look.traffic, rng)
        density = {"downtown": 0.3, "dense": 0.4, "grid": 0.55, "curvy": 0.5}.get(district, 0.3)
        if district == "packed":
            density = 0.04
        _avenue(piece, line, width / 2 + 1.3, density * world.look.trees, rng)
    for line in ends:
        head = Point(line.coords[-1])
        if walks:
            piece.paint(buffered(head, 11.5 + 2.2), Layer.WALK, Material.PAVING, _WALK)
        if not look.temperate and dirt:
            piece.paint(buffered(head, 10.9), Layer.STREET, Material.SOIL, np.array(look.dirt))
        else:
            piece.paint(buffered(head, 10.9), Layer.STREET, Material.ASPHALT, asphalt)
        turn = LineString(buffered(head, 11.5 - width / 2).exterior)
        piece.street(turn, "road", "turning_circle", width)


def earth_road(
    piece: Piece, line: LineString, width: float, look: Look, rng: np.random.Generator
) -> None:
    """Paint a road of earth or sand: ragged edges, trodden ground beside it, wheel tracks."""
    tone = np.array(look.dirt) * rng.uniform(0.93, 1.07)
    beside = 0.5 * tone + 0.5 * np.array(look.soil)
    rim = rng.uniform(0.0, 1.0)
    places = np.arange(2.0, max(line.length - 2.0, 2.5), rng.uniform(5.0, 9.0))
    spots, _ = along_line(line, places, rng.normal(0, 0.12 * width, len(places)))
    turn = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    circle = np.column_stack([np.cos(turn), np.sin(turn)])
    for layer, colour, wide, least, most in (
        (Layer.WALK, beside, width / 2 + rim, 0.5, 0.85),
        (Layer.STREET, tone, width / 2 - 0.5, 0.32, 0.55),
    ):
        piece.paint(buffered(line, wide), layer, Material.SOIL, colour)
        radius = width * rng.uniform(least, most, len(spots))
        piece.paint_many(
            spots[:, None] + circle * radius[:, None, None], layer, Material.SOIL, colour
        )
    if width > 4 and rng.random() < 0.7:
        light = tone * rng.uniform(1.04, 1.12)
        for aside in (-0.85, 0.85):
            for track in lines(line.offset_curve(aside)):
                piece.paint(track.buffer(0.35, quad_segs=1), Layer.STREET, Material.SOIL, light)


def _dusty_edge(
    piece: Piece, line: LineString, width: float, look: Look, rng: np.random.Generator
) -> None:
    """Paint the bare strip beside a road without walks."""
    beside = 0.4 * np.array(look.dirt) + 0.6 * np.array(look.soil)
    piece.paint(
        buffered(line, width / 2 + rng.uniform(0.5, 2.2)), Layer.WALK, Material.SOIL,
        beside * rng.uniform(0.96, 1.04),
    )  # fmt: skip


def _avenue(
    piece: Piece, line: LineString, aside: float, share: float, rng: np.random.Generator
) -> None:
    for side in (-1, 1):
        places = np.arange(12.0, line.length - 12.0, rng.uniform(9, 14))
        places = places[rng.random(len(places)) < share]
        if len(places):
            spots, _ = along_line(line, places, side * aside)
            piece.plant(spots, rng, radius=(1.8, 4.0))


def add_edge(piece: Piece, world: World, i: int, j: int, axis: int, view: Polygon) -> None:
    """Add the main road or collector along an edge of the lattice, with its ramps."""
    kind = world.edge_kind(i, j, axis)
    line = LineString(world.edge_line(i, j, axis))
    if kind == "none":
        return
    for ramp in edge_ramps(world, i, j, axis):
        asphalt = np.array(world.look.asphalt) * 1.04
        piece.paint(buffered(ramp, 3.9), Layer.VERGE, *verge(world.look, 0.98))
        piece.paint(buffered(ramp, 2.9), Layer.MAIN, Material.ASPHALT, asphalt)
        piece.street(ramp, "highway", "ramp", 7.0)
    if not line.intersects(view):
        return
    rng = stream(world.seed, BLOCK, i, j, axis, 1_000_001)
    width = world.edge_width(i, j, axis)
    bounds = grown(line.bounds, 60)
    wet = _river_area(world, bounds)
    middle = line.interpolate(0.5, normalized=True)
    density = world.density(middle.x, middle.y)
    look = world.look
    asphalt = np.array(look.asphalt) * (0.95 if kind == "main_road" else 1.0)
    dirt = False
    if not look.temperate:
        asphalt = asphalt * rng.uniform(0.9, 1.1)
        # The roads between the districts are paved long before the streets within.
        dirt = rng.random() < (look.unpaved - 0.4) * (0.25 if kind == "main_road" else 0.8)
        if density < 0.16 or dirt or rng.random() >= look.walks:
            _dusty_edge(piece, line, width, look, rng)
        else:
            piece.paint(buffered(line, width / 2 + 2.2), Layer.WALK, Material.PAVING, _WALK)
    elif density < 0.16:
        piece.paint(buffered(line, width / 2 + 0.7), Layer.WALK, Material.SOIL, (146, 138, 112))
    else:
        piece.paint(buffered(line, width / 2 + 2.2), Layer.WALK, Material.PAVING, _WALK)
    if dirt:
        earth_road(piece, line, width, look, rng)
        asphalt = np.array(look.dirt)
    else:
        piece.paint(buffered(line, width / 2 - 0.4), Layer.MAIN, Material.ASPHALT, asphalt)
    piece.street(line, "main_road" if kind == "main_road" else "road", kind, width)
    for part in lines(line.intersection(wet.buffer(4))) if not wet.is_empty else []:
        deck = part.buffer(width / 2 + 1.6, cap_style="flat")
        piece.paint(deck, Layer.MAIN, Material.PAVING, (188, 186, 180), height=5.0)
        road = part.buffer(width / 2 - 0.4, cap_style="flat")
        piece.paint(road, Layer.MAIN, Material.ASPHALT, asphalt * 1.06, height=5.0)
    clear = shapely.union_all(
        [buffered(way, reach / 2 + 3) for way, reach in _highways(world, bounds)] or [Polygon()]
    )
    if dirt or (not look.temperate and rng.random() < 0.5 * look.unpaved):
        pass  # nobody paints lines on these
    elif kind == "main_road":
        dashes(piece, line, [-width / 4, width / 4], (190, 190, 186), Layer.PAINT)
        solid(piece, line, [-0.2, 0.2], (186, 160, 84), Layer.PAINT)
    else:
        dashes(piece, line, [0.0], (184, 184, 180), Layer.PAINT)
    _traffic(piece, line, width, clear, rng, look.traffic)
    dry = line.difference(wet.buffer(6).union(clear))
    for part in lines(dry, 30.0):
        _avenue(piece, part, width / 2 + 1.3, 0.32 * world.look.trees, rng)
        if kind == "collector" and density > 0.3:
            parked(piece, part, width / 2 - 1.7, 0.55 * look.traffic, rng)


def dashes(
    piece: Piece, line: LineString, asides: list[float], colour: tuple[int, ...], layer: Layer
) -> None:
    """Paint broken lines beside the middle of a road."""
    places = np.arange(6.0, line.length - 6.0, 9.0)
    for aside in asides:
        if len(places):
            spots, along = along_line(line, places, aside)
            piece.paint_many(rectangles(spots, along, 3.0, 0.35), layer, Material.PLAIN, colour)


def solid(
    piece: Piece, line: LineString, asides: list[float], colour: tuple[int, ...], layer: Layer
) -> None:
    """Paint unbroken lines beside the middle of a road."""
    places = np.arange(2.5, line.length, 5.0)
    for aside in asides:
        spots, along = along_line(line, places, aside)
        piece.paint_many(rectangles(spots, along, 5.3, 0.35), layer, Material.PLAIN, colour)


def _traffic(
    piece: Piece,
    line: LineString,
    width: float,
    clear: Polygon,
    rng: np.random.Generator,
    amount: float,
) -> None:
    """Add moving cars, one direction on each side."""
    for side in (-1, 1):
        for lane in (0.25,) if width < 13 else (0.15, 0.37):
            gaps = rng.exponential(38, int(line.length / 20) + 4) / amount + 8
            places = np.cumsum(gaps)
            places = places[places < line.length - 6]
            if not len(places):
                continue
            spots, along = along_line(line, places, side * lane * width)
            free = ~shapely.contains_xy(clear, spots[:, 0], spots[:, 1])
            cars(piece, spots[free], -along[free] * side, rng, trucks=0.06)


def add_courses(piece: Piece, world: World, cell: Polygon, key: tuple[int, int]) -> None:
    """Add the stretches of rivers and highways inside a cell."""
    bounds = grown(cell.bounds, 30)
    rng = stream(world.seed, COURSE, 9, *key)
    tone = np.array([62.0, 82.0, 84.0]) * stream(world.seed, COURSE, 8).uniform(0.85, 1.3)
    look = world.look
    if look.water is not None:
        tone = np.array(look.water) * stream(world.seed, COURSE, 8).uniform(0.85, 1.2)
    dry = world.style is not None and stream(world.seed, COURSE, 6).random() >= world.style.wet
    for line, width in _rivers(world, bounds):
        area = buffered(line, width / 2).intersection(cell)
        if area.is_empty:
            continue
        bank = buffered(line, width / 2 + BANK).intersection(cell)
        beach = width > 80 and stream(world.seed, COURSE, 7, *key).random() < 0.4
        green = lawn(look, rng, 1)[0] * 0.92
        if not look.temperate and (dry or rng.random() >= look.green):
            beach = True
        sand = (196, 184, 150) if look.temperate else np.array(look.soil) * 1.04
        piece.paint(bank, Layer.BANK, Material.SAND if beach else Material.GRASS,
                    sand if beach else green)  # fmt: skip
        if dry:
            _dry_bed(piece, area, look, rng)
            continue
        for part in polygons(area):
            piece.paint(part, Layer.WATER, Material.WATER, tone * 1.15 + 8)
            piece.feature(part, "water", "river")
        deep = buffered(line, width / 2 - 2.2).intersection(cell)
        piece.paint(deep, Layer.WATER, Material.WATER, tone)
        roads = road_area(world, key)
        for part in polygons(bank.difference(area.buffer(1.5)).difference(roads), 20.0):
            if not beach:
                shapely.prepare(part)
                spots = scatter(part, rng, 7.0, 0.5 * world.look.trees)
                piece.plant(spots, rng, radius=(1.6, 4.6))
    for line, width in _highways(world, bounds):
        _highway(piece, world, line, width, cell, road_area(world, key), rng)


def _dry_bed(piece: Piece, area: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Paint a river without water: pale sand in strands, and bushes."""
    pale = np.array(look.soil) * 1.08 + 6
    piece.paint(area, Layer.BANK, Material.SAND, pale)
    for part in polygons(area):
        shapely.prepare(part)
        strands = scatter(part.buffer(-9.0), rng, 16.0, 0.5)
        angle = rng.uniform(0, np.pi)
        along = np.broadcast_to((np.cos(angle), np.sin(angle)), strands.shape)
        piece.paint_many(
            rectangles(strands, along, rng.uniform(8, 22, len(strands)), 2.5), Layer.BANK,
            Material.SAND, pale * rng.uniform(0.9, 1.06, (len(strands), 1)),
        )  # fmt: skip
        piece.plant(scatter(part, rng, 7.0, 0.2 * look.scrub), rng, radius=(0.6, 1.8))


def _highway(
    piece: Piece,
    world: World,
    line: LineString,
    width: float,
    cell: Polygon,
    roads: Polygon,
    rng: np.random.Generator,
) -> None:
    """Add the stretch of a highway inside a cell: two carriageways and what lies beside."""
    inside = lines(line.intersection(cell), 1.0)
    if not inside:
        return
    strip = buffered(line, width / 2 + VERGE).intersection(cell)
    material, green = verge(world.look, 0.97)
    asphalt = np.array(world.look.asphalt)
    piece.paint(strip, Layer.PARCEL, material, green)
    wet = _river_area(world, cell.bounds)
    high = shapely.union_all([roads.buffer(10), wet.buffer(10)])
    half = (width - 6.0) / 2
    # Below all asphalt: a carriageway may lie in the next cell, whose green would hide it.
    between = buffered(line, width / 2).intersection(cell)
    piece.paint(between, Layer.MEDIAN, material, green * 0.98)
    for part in inside:
        for side in (-1, 1):
            way = part.offset_curve(side * (3.0 + half / 2))
            piece.street(way, "highway", "highway", half + 2.0)
            ground = way.buffer(half / 2, cap_style="square")
            piece.paint(ground, Layer.HIGHWAY, Material.ASPHALT, asphalt * 1.08)
            for lift in lines(way.intersection(high), 4.0):
                deck = lift.buffer(half / 2 + 0.9, cap_style="flat")
                piece.paint(deck, Layer.HIGHWAY, Material.PAVING, (186, 184, 178), height=6.0)
                ground = lift.buffer(half / 2, cap_style="flat")
                piece.paint(ground, Layer.HIGHWAY, Material.ASPHALT, asphalt * 1.12, height=6.0)
            lanes = [-half / 6, half / 6]
            dashes(piece, way, lanes, (206, 206, 202), Layer.HIGHWAY_PAINT)
            edge = [-half / 2 + 0.6, half / 2 - 0.6]
            solid(piece, way, edge, (200, 198, 188), Layer.HIGHWAY_PAINT)
            for lane in (-half / 3, 0.0, half / 3):
                places = np.cumsum(rng.exponential(30, int(way.length / 14) + 4) + 9)
                places = places[places < way.length - 5]
                if len(places):
                    spots, along = along_line(way, places, lane)
                    cars(piece, spots, along * side, rng, trucks=0.16)
    beside = strip.difference(buffered(line, width / 2 + 3).union(roads.buffer(4)).union(wet))
    for part in polygons(beside, 10.0):
        shapely.prepare(part)
        piece.plant(scatter(part, rng, 6.0, 0.3 * world.look.trees), rng, radius=(1.2, 3.8))


def barriers_of(world: World, i: int, j: int) -> Polygon:
    """Return the ground in and around a cell where no block may lie."""
    bounds = grown(Polygon(world.cell_ring(i, j)).bounds, 60)
    parts = [buffered(line, width / 2 + BANK) for line, width in _rivers(world, bounds)]
    parts += [buffered(line, width / 2 + VERGE) for line, width in _highways(world, bounds)]
    for edge in edges(i, j):
        parts += [buffered(ramp, 6.0) for ramp in edge_ramps(world, *edge)]
    return shapely.union_all(parts) if parts else Polygon()


def edges(i: int, j: int) -> tuple[tuple[int, int, int], ...]:
    """Return the four edges of a cell."""
    return (i, j, 0), (i, j, 1), (i + 1, j, 1), (i, j + 1, 0)


def road_area(world: World, key: tuple[int, int]) -> Polygon:
    """Return the ground of the roads around a cell, with their walks."""
    parts = [
        buffered(LineString(world.edge_line(*edge)), world.edge_width(*edge) / 2 + 2.6)
        for edge in edges(*key)
        if world.edge_kind(*edge) != "none"
    ]
    return shapely.union_all(parts) if parts else Polygon()


@lru_cache(maxsize=512)
def edge_ramps(world: World, i: int, j: int, axis: int) -> tuple[LineString, ...]:
    """Return the ramps between a main road and the highways that it crosses."""
    if world.edge_kind(i, j, axis) != "main_road":
        return ()
    edge = LineString(world.edge_line(i, j, axis))
    found: list[LineString] = []
    for line, width in _highways(world, grown(edge.bounds, 40)):
        crossing = edge.intersection(line)
        if crossing.geom_type != "Point":
            continue
        at, on = line.project(crossing), edge.project(crossing)
        if not 75 < on < edge.length - 75:
            continue
        for ahead in (-1, 1):
            for over in (-1, 1):
                far, turn = along_line(line, np.array([at + ahead * 170.0]))
                arm = np.array(edge.interpolate(on + over * 52.0).coords[0])
                middle = np.array(crossing.coords[0])
                left = np.array([-turn[0][1], turn[0][0]])
                side = np.sign((arm - middle) @ left)
                start = far[0] + left * side * (width / 2 - 2.0)
                knee, _ = along_line(line, np.array([at + ahead * 42.0]))
                bend = knee[0] + left * side * (width / 2 + 8.0)
                t = np.linspace(0, 1, 13)[:, None]
                found.append(LineString((1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * arm))
    return tuple(found)


def _rivers(world: World, bounds: Bounds) -> list[tuple[LineString, float]]:
    return _near(world, 0, bounds)


def _highways(world: World, bounds: Bounds) -> list[tuple[LineString, float]]:
    return _near(world, 1, bounds)


@lru_cache(maxsize=512)
def _near(world: World, which: int, bounds: Bounds) -> list[tuple[LineString, float]]:
    course = (world.rivers, world.highways)[which]
    wide = box(*grown(bounds, 250 + course.width[1]))
    found = []
    for _, width, points in course.lines(world.seed, wide.bounds):
        line = LineString(points)
        if line.intersects(wide):
            found.append((line, round(width, 1)))
    return found


def _river_area(world: World, bounds: Bounds) -> Polygon:
    parts = [buffered(line, width / 2) for line, width in _rivers(world, bounds)]
    return shapely.union_all(parts) if parts else Polygon()


def has_highway(world: World, bounds: Bounds) -> bool:
    """Return whether a highway comes near a region."""
    return bool(_highways(world, bounds))
