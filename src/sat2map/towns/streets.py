"""The minor streets of a district: grids, bent suburbs, rings and spokes, grown old towns."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import shapely
from shapely.geometry import LineString, Point, Polygon

from sat2map.towns.geometry import lines, polygons
from sat2map.towns.kinds import District
from sat2map.towns.world import Floats

_BLOCK_AREA: dict[District, float] = {
    "organic": 6500.0, "village": 22000.0, "campus": 32000.0, "fields": 90000.0,
    "plots": 50000.0, "barren": 40000.0,
}  # fmt: skip
"""About how large the blocks of a district without a pattern are, square metres."""


def lay_streets(
    district: District, area: Polygon, angle: float, rng: np.random.Generator
) -> tuple[list[LineString], list[LineString]]:
    """Return the middle lines of the streets and of the dead ends of a district.

    Args:
        district: What the district is.
        area: Where streets may lie; those that reach its outline join the roads there.
        angle: Direction of the main roads around it, radians.
        rng: Where its variety comes from.
    """
    ends: list[LineString] = []
    if district == "downtown":
        streets = _grid(area, angle, rng, (72, 95), (80, 125), 0.0)
    elif district == "dense":
        streets = _grid(area, angle, rng, (80, 100), (110, 170), rng.choice([0.0, 6.0]))
    elif district == "grid":
        streets = _grid(area, angle, rng, (76, 92), (140, 220), rng.choice([0.0, 0.0, 5.0]))
    elif district == "industrial":
        streets = _grid(area, angle, rng, (130, 190), (210, 320), 0.0)
    elif district == "radial":
        streets = _rings(area, rng)
    elif district == "curvy":
        streets, ends = _bent(area, angle, rng)
    elif district == "compounds":
        streets = _grid(area, angle, rng, (42, 62), (90, 170), rng.choice([0.0, 0.0, 4.0]))
    elif district == "packed":
        if rng.random() < 0.4:
            streets = _grid(area, angle, rng, (34, 56), (60, 130), rng.choice([0.0, 3.0, 7.0]))
        else:
            streets = _grown(area, rng, rng.uniform(1800, 4600), wobble=3.0, least=20.0)
    elif district == "scattered":
        streets = _grown(area, rng, rng.uniform(9000, 24000), wobble=9.0)
    elif district in {"plots", "barren"}:
        streets = _grown(area, rng, _BLOCK_AREA[district], wobble=16.0)
    elif district in _BLOCK_AREA:
        streets = _grown(area, rng, _BLOCK_AREA[district])
    else:
        streets = []
    streets = [line for line in streets if not _hugs(line, area)]
    joined = shapely.union_all(streets)
    return streets, [line for line in ends if joined.distance(Point(line.coords[0])) < 1.0]


def _hugs(line: LineString, area: Polygon) -> bool:
    """Return whether a street runs along the outline of its area, where a road is already."""
    places = shapely.line_interpolate_point(line, [0.25, 0.5, 0.75], normalized=True)
    return bool((shapely.distance(places, area.exterior) < 30.0).all())


def _cut(area: Polygon, found: list[Floats], least: float = 30.0) -> list[LineString]:
    if not found:
        return []
    inside = shapely.intersection([LineString(points) for points in found], area)
    return [line for part in inside for line in lines(part, least)]


def _frame(area: Polygon, angle: float) -> tuple[Floats, Floats, float]:
    """Return the middle of an area, the axes [2,2] of an angle, and its greatest radius."""
    middle = np.array(area.centroid.coords[0])
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    reach = float(np.hypot(*(shapely.get_coordinates(area) - middle).T).max())
    return middle, axes, reach


def _steps(reach: float, gap: tuple[float, float], rng: np.random.Generator) -> Floats:
    """Return places from -reach to reach; a district keeps nearly to one gap."""
    usual = rng.uniform(*gap)
    count = int(2 * reach / usual) + 2
    return -reach + np.cumsum(usual * rng.uniform(0.88, 1.12, count)) - usual * rng.random()


def _grid(
    area: Polygon,
    angle: float,
    rng: np.random.Generator,
    short: tuple[float, float],
    long: tuple[float, float],
    wave: float,
) -> list[LineString]:
    middle, axes, reach = _frame(area, angle + rng.normal(0, 0.03) + rng.integers(2) * np.pi / 2)
    run = np.linspace(-reach, reach, 2 if wave == 0 else 24)
    phase = rng.uniform(0, 6.28)
    found = []
    for turn, gap in ((0, short), (1, long)):
        for step in _steps(reach, gap, rng):
            bent = step + wave * np.sin(run / 90 + phase)
            local = np.column_stack([run, bent] if turn == 0 else [bent, run])
            found.append(local @ axes + middle)
    return _cut(area, found)


def _bent(
    area: Polygon, angle: float, rng: np.random.Generator
) -> tuple[list[LineString], list[LineString]]:
    middle, axes, reach = _frame(area, angle + rng.uniform(-0.5, 0.5))
    run = np.linspace(-reach, reach, 40)
    size, wave, phase = rng.uniform(14, 34), rng.uniform(75, 130), rng.uniform(0, 6.28)

    def place(u: Floats, v: Floats) -> Floats:
        bent_v = v + size * np.sin(u / wave + phase)
        bent_u = u + 0.5 * size * np.sin(v / wave * 1.3 + phase)
        return np.column_stack([bent_u, bent_v]) @ axes + middle

    steps = _steps(reach, (84, 112), rng)
    found = [place(run, np.full_like(run, step)) for step in steps]
    ends: list[Floats] = []
    for low, high in pairwise(steps):
        u = -reach + rng.uniform(0, 130)
        while u < reach:
            if high - low > 92 and rng.random() < 0.55:
                t = np.linspace(0, 0.52, 7)
                base, depth = (low, high - low) if rng.random() < 0.5 else (high, low - high)
                ends.append(place(u + 10 * np.sin(4 * t + phase), base + depth * t))
            else:
                t = np.linspace(0, 1, 9)
                found.append(place(np.full_like(t, u), low + (high - low) * t))
            u += rng.uniform(95, 190)
    # A dead end that crosses the border of its district would end in a field.
    whole = [LineString(points) for points in ends]
    inner = area.buffer(-22)
    return _cut(area, found), [line for line in whole if inner.contains(line)]


def _rings(area: Polygon, rng: np.random.Generator) -> list[LineString]:
    middle, _, reach = _frame(area, 0.0)
    middle = middle + rng.uniform(-0.15, 0.15, 2) * reach
    count = int(rng.integers(6, 10))
    gap = rng.uniform(62, 84)
    turn = np.linspace(0, 2 * np.pi, 48)
    squash = rng.uniform(0.8, 1.0)
    found = []
    for k in range(1, int(1.6 * reach / gap) + 1):
        radius = gap * (k - 0.35)
        found.append(middle + radius * np.column_stack([np.cos(turn), squash * np.sin(turn)]))
    start = rng.uniform(0, 6.28)
    for k in range(count):
        for part, first in ((0.0, 0.65), (0.5, 1.65)):
            # The spokes between begin farther out, where the first ones lie wide apart.
            at = start + (k + part + rng.normal(0, 0.06)) * 2 * np.pi / count
            way = np.array([np.cos(at), squash * np.sin(at)])
            found.append(np.stack([middle + way * gap * first, middle + way * 2.2 * reach]))
    return _cut(area, found)


def _grown(
    area: Polygon,
    rng: np.random.Generator,
    target: float,
    *,
    wobble: float = 0.0,
    least: float = 30.0,
) -> list[LineString]:
    """Return streets that halve an area again and again, each a little askew.

    Args:
        area: What they halve.
        rng: Where their variety comes from.
        target: About how large the parts are, square metres.
        wobble: How far the streets wind to each side, metres.
        least: No part is narrower, metres.
    """
    streets: list[LineString] = []
    waiting = [area]
    while waiting:
        part = waiting.pop()
        if part.area < target * rng.uniform(1.1, 2.2):
            continue
        ring = shapely.get_coordinates(shapely.minimum_rotated_rectangle(part))
        if len(ring) < 5:
            continue
        sides = np.diff(ring[:3], axis=0)
        lengths = np.hypot(sides[:, 0], sides[:, 1])
        across = sides[int(lengths.argmin())] / lengths.min()
        along = sides[int(lengths.argmax())] / lengths.max()
        if lengths.min() < least:
            continue
        middle = ring[:4].mean(0) + along * lengths.max() * rng.uniform(-0.14, 0.14)
        askew = across + along * rng.normal(0, 0.16)
        bow = along * rng.normal(0, 0.06) * lengths.min()
        t = np.linspace(-0.75, 0.75, 13)[:, None]
        if wobble:
            t = np.linspace(-0.75, 0.75, int(np.clip(lengths.min() / 4, 13, 60)))[:, None]
        points = middle + askew * t * lengths.min() + bow * np.cos(2.1 * t)
        if wobble:
            run = t * lengths.min()
            winding = np.sin(run / rng.uniform(14, 26) + rng.uniform(0, 6.28))
            winding = winding * 0.3 + np.sin(run / rng.uniform(35, 60) + rng.uniform(0, 6.28))
            points = points + along * winding * min(wobble, 0.06 * lengths.max())
        found = lines(part.intersection(LineString(points)), 25.0)
        if not found:
            continue
        streets += found
        waiting += polygons(part.difference(LineString(points).buffer(0.05)), 900.0)
    return streets
