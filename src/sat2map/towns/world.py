"""The ground plan of an endless procedural world, a function of the seed and the place.

Nothing here depends on which part is looked at: a small image is the exact middle of a
larger one of the same seed. A world is a bent lattice of main roads with one district in
each cell, crossed by rivers and highways, with towns where the density is high.

Coordinates are metres, x to the east and y to the north; images are centred on (0, 0).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sat2map.towns.kinds import STYLES, TEMPERATE, District, Style
from sat2map.towns.look import Look, draw_look

Floats = NDArray[np.float64]
Bounds = tuple[float, float, float, float]
"""West, south, east, north."""
EdgeKind = Literal["main_road", "collector", "none"]

# What keeps the random streams of one seed apart.
WORLD, NODE, EDGE, DISTRICT, DENSITY, TOWN, COURSE, BLOCK, LOOK, NOISE = range(10)


def stream(*key: int) -> np.random.Generator:
    """Return the generator of random numbers that belongs to a key of whole numbers."""
    return np.random.default_rng([part & 0xFFFFFFFFFFFF for part in key])


@dataclass(frozen=True)
class Course:
    """A family of endless, gently winding, parallel lines: rivers or highways.

    Attributes:
        number: Keeps its random numbers apart from those of other families.
        angle: Direction of the lines, radians from the east.
        spacing: Distance from line to line, metres.
        offset: Distance of the line 0 from the origin at its nearest, metres.
        bend: How far a line winds to each side, metres.
        wavelength: Length of the longest bend, metres.
        width: Least and greatest width of a line, metres.
    """

    number: int
    angle: float
    spacing: float
    offset: float
    bend: float
    wavelength: float
    width: tuple[float, float]

    STEP = 25.0
    """Metres between the points of a line; the points lie at multiples of it."""

    def lines(self, seed: int, bounds: Bounds) -> Iterator[tuple[int, float, Floats]]:
        """Yield number, width and points [N,2] of each line that comes near `bounds`."""
        along = np.array([np.cos(self.angle), np.sin(self.angle)])
        across = np.array([-along[1], along[0]])
        corners = np.array([(x, y) for x in bounds[::2] for y in bounds[1::2]])
        u, v = corners @ across, corners @ along
        reach = 1.8 * self.bend + self.width[1]
        first = int(np.ceil((u.min() - reach - self.offset) / self.spacing))
        last = int(np.floor((u.max() + reach - self.offset) / self.spacing))
        if last < first:
            return
        steps = np.arange(np.floor(v.min() / self.STEP) - 2, np.ceil(v.max() / self.STEP) + 3)
        place = steps * self.STEP
        for k in range(first, last + 1):
            rng = stream(seed, COURSE, self.number, k)
            width = float(rng.uniform(*self.width))
            waves = self.wavelength * rng.uniform(0.8, 1.2, 3) / np.array([1.0, 2.3, 5.1])
            phases = rng.uniform(0, 2 * np.pi, 3)
            sizes = self.bend * np.array([1.0, 0.45, 0.16])
            turns = np.sin(2 * np.pi * place[:, None] / waves + phases)
            # All lines pass the origin's side as `offset` says, whatever their phases are.
            turns -= np.sin(phases) * np.exp(-((place[:, None] / self.wavelength) ** 2))
            sideways = k * self.spacing + self.offset + turns @ sizes
            yield k, width, sideways[:, None] * across + place[:, None] * along


@dataclass(frozen=True)
class World:
    """An endless world.

    Attributes:
        seed: Not negative; with the kind, everything follows from it.
        kind: What kind of town, one of `KINDS`.
    """

    seed: int
    kind: str = "temperate"

    @cached_property
    def style(self) -> Style | None:
        """Settings of its kind of towns; None for temperate ones."""
        styles = STYLES[self.kind]
        return styles[int(stream(self.seed, WORLD, 4).integers(len(styles)))] if styles else None

    @cached_property
    def _lattice(self) -> tuple[float, float, float, Floats]:
        """Angle, spacing, jitter as a share of the spacing, and origin of the main roads."""
        rng = stream(self.seed, WORLD, 0)
        angle = float(rng.uniform(-0.7, 0.7))
        if rng.random() < 0.3:
            angle = float(rng.normal(0, 0.03))  # many towns are laid out to the compass
        spacing = float(rng.uniform(340, 520))
        jitter = float(rng.choice([0.02, 0.08, 0.16, 0.2]))
        return angle, spacing, jitter, rng.uniform(0, spacing, 2)

    @cached_property
    def rivers(self) -> Course:
        """The rivers of this world."""
        rng = stream(self.seed, WORLD, 1)
        near = rng.random() < 0.28
        offset = float(rng.normal(0, 70)) if near else float(rng.uniform(260, 1900))
        wide = rng.random() < 0.25
        return Course(
            0,
            float(rng.uniform(0, np.pi)),
            float(rng.uniform(2600, 3800)),
            offset,
            float(rng.uniform(50, 160)),
            float(rng.uniform(900, 2200)),
            (90, 230) if wide else (14, 60),
        )

    @cached_property
    def highways(self) -> Course:
        """The highways of this world."""
        rng = stream(self.seed, WORLD, 2)
        near = rng.random() < (0.3 if self.style is None else self.style.highways)
        offset = float(rng.normal(0, 80)) if near else float(rng.uniform(240, 2200))
        if self.style is not None and not near:
            offset = max(offset, 900.0)
        return Course(
            1,
            float(rng.uniform(0, np.pi)),
            float(rng.uniform(2900, 4200)),
            offset,
            float(rng.uniform(20, 110)),
            float(rng.uniform(2500, 4500)),
            (26, 34),
        )

    @cached_property
    def look(self) -> Look:
        """Light, season and sensor."""
        return draw_look(self.style, stream(self.seed, LOOK))

    @cached_property
    def _centre(self) -> Floats:
        """The origin as seen from the town 0: near it, so that few images are all fields."""
        rng = stream(self.seed, WORLD, 3)
        place: Floats = rng.normal(0, 1, 2) * rng.uniform(100, 1350)
        return place

    def density(self, x: float, y: float) -> float:
        """Return how urban a place is, from 0 for open country to about 1 in a centre."""
        distance = 5200.0
        x, y = x + self._centre[0], y + self._centre[1]
        i, j = round(x / distance), round(y / distance)
        total = 0.0
        for k in (i - 1, i, i + 1):
            for m in (j - 1, j, j + 1):
                east, north, size, peak = _town(self.seed, k, m, distance)
                away = (x - east) ** 2 + (y - north) ** 2
                total = max(total, peak * float(np.exp(-away / size**2)))
        return total

    def node(self, i: int, j: int) -> Floats:
        """Return the place [2] of a crossing of the lattice."""
        return _node(self, i, j)

    def edge_line(self, i: int, j: int, axis: int) -> Floats:
        """Return the points [13,2] from crossing (i, j) to the next along an axis."""
        return _edge_line(self, i, j, axis)

    def edge_kind(self, i: int, j: int, axis: int) -> EdgeKind:
        """Return what runs along an edge of the lattice."""
        return _edge_kind(self, i, j, axis)

    def edge_width(self, i: int, j: int, axis: int) -> float:
        """Return the width in metres of what runs along an edge; 0 for nothing."""
        kind = self.edge_kind(i, j, axis)
        if kind == "none":
            return 0.0
        line = j if axis == 0 else i
        low, high = (14.0, 20.0) if kind == "main_road" else (10.0, 12.5)
        if self.style is not None:
            low, high = self.style.main if kind == "main_road" else self.style.collector
        return round(float(stream(self.seed, EDGE, axis, line, 7).uniform(low, high)), 1)

    def district(self, i: int, j: int) -> District:
        """Return what fills the cell between crossings (i, j) and (i + 1, j + 1)."""
        return _district(self, i, j)

    def cells(self, bounds: Bounds) -> list[tuple[int, int]]:
        """Return the cells of the lattice that may touch `bounds`, in order."""
        angle, spacing, _, origin = self._lattice
        corners = np.array([(x, y) for x in bounds[::2] for y in bounds[1::2]]) - origin
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        local = corners @ turn.T / spacing
        low, high = np.floor(local.min(0) - 0.6), np.floor(local.max(0) + 0.6)
        found = []
        for i in range(int(low[0]), int(high[0]) + 1):
            for j in range(int(low[1]), int(high[1]) + 1):
                ring = self.cell_ring(i, j)
                (west, south), (east, north) = ring.min(0), ring.max(0)
                if (
                    west <= bounds[2]
                    and east >= bounds[0]
                    and south <= bounds[3]
                    and north >= bounds[1]
                ):
                    found.append((i, j))
        return found

    def cell_ring(self, i: int, j: int) -> Floats:
        """Return the closed outline [N,2] of a cell."""
        return np.concatenate(
            [
                self.edge_line(i, j, 0)[:-1],
                self.edge_line(i + 1, j, 1)[:-1],
                self.edge_line(i, j + 1, 0)[:0:-1],
                self.edge_line(i, j, 1)[::-1],
            ]
        )


@lru_cache(maxsize=1024)
def _town(seed: int, k: int, m: int, distance: float) -> tuple[float, float, float, float]:
    """Return the place, the radius and the greatest density of a town."""
    rng = stream(seed, TOWN, k, m)
    move = rng.uniform(-0.2, 0.2, 2) * distance * (k != 0 or m != 0)
    size, peak = float(rng.uniform(700, 1700)), float(rng.uniform(0.7, 1.15))
    return k * distance + float(move[0]), m * distance + float(move[1]), size, peak


@lru_cache(maxsize=4096)
def _node(world: World, i: int, j: int) -> Floats:
    angle, spacing, jitter, origin = world._lattice
    moved = np.array([i, j]) + stream(world.seed, NODE, i, j).uniform(-1, 1, 2) * jitter
    # A slow bend of the whole lattice, so that even strict grids are not all parallel.
    bend = 0.25 * jitter * np.sin(np.array([moved[1], moved[0]]) * 0.9 + world.seed % 7)
    x, y = (moved + bend) * spacing
    turned = [x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)]
    place: Floats = np.array(turned) + origin
    return place


@lru_cache(maxsize=4096)
def _edge_line(world: World, i: int, j: int, axis: int) -> Floats:
    di, dj = (1, 0) if axis == 0 else (0, 1)
    before, start = world.node(i - di, j - dj), world.node(i, j)
    end, after = world.node(i + di, j + dj), world.node(i + 2 * di, j + 2 * dj)
    t = np.linspace(0, 1, 13)[:, None]
    # A Catmull-Rom spline: the roads run smoothly through the crossings.
    line: Floats = 0.5 * (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    )
    return line


@lru_cache(maxsize=4096)
def _edge_kind(world: World, i: int, j: int, axis: int) -> EdgeKind:
    line = j if axis == 0 else i
    main = stream(world.seed, EDGE, axis, line).random() < 0.5
    middle = world.edge_line(i, j, axis)[6]
    if _runs_along(world, i, j, axis):
        return "none"
    density = world.density(float(middle[0]), float(middle[1]))
    if main:
        return "main_road"
    if density < 0.2 and stream(world.seed, EDGE, axis, i, j, 1).random() < 0.55:
        return "none"
    return "collector"


def _runs_along(world: World, i: int, j: int, axis: int) -> bool:
    """Return whether an edge lies for long inside a river or beside a highway."""
    points = world.edge_line(i, j, axis)
    (west, south), (east, north) = points.min(0), points.max(0)
    for course, beside, share in ((world.rivers, 8.0, 0.5), (world.highways, 26.0, 0.3)):
        for _, width, line in course.lines(world.seed, (west, south, east, north)):
            away = np.hypot(*(points[:, None] - line[None]).transpose(2, 0, 1)).min(1)
            within = away < width / 2 + beside
            if float(within.mean()) > share:
                return True
            if world.style is not None and (within[0] or within[-1]):
                return True  # no road ends in the water
            # Where a crossing lies in the water, only the road over the river stays.
            way = points[-1] - points[0]
            cosine = way @ (np.cos(course.angle), np.sin(course.angle)) / np.hypot(*way)
            if (within[0] or within[-1]) and abs(cosine) > 0.7071:
                return True
    return False


@lru_cache(maxsize=4096)
def _district(world: World, i: int, j: int) -> District:
    rng = stream(world.seed, DISTRICT, i, j)
    x, y = world.cell_ring(i, j).mean(0)
    density = world.density(float(x), float(y)) + rng.normal(0, 0.06)
    for bound, mix in TEMPERATE if world.style is None else world.style.mix:
        if density < bound:
            names = list(mix)
            weights = np.array([mix[name] for name in names], np.float64)
            return names[int(rng.choice(len(names), p=weights / weights.sum()))]
    return "downtown"
