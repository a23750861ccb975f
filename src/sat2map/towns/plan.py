"""From the ground plan of a world to the shapes of a region: what stands where.

A plan is made piece by piece, one piece for each cell of the lattice, and a piece is the
same whatever region asks for it. Streets and blocks outside the region are left out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

import numpy as np
import shapely
from shapely.geometry import Point, Polygon, box

from sat2map.towns import grounds, homes, quarters, settlements, wilds
from sat2map.towns.geometry import grown, polygons
from sat2map.towns.greens import lot_ground
from sat2map.towns.kinds import District
from sat2map.towns.look import Look
from sat2map.towns.roads import (
    add_courses,
    add_edge,
    add_streets,
    barriers_of,
    has_highway,
    road_area,
)
from sat2map.towns.shapes import Layer, Piece
from sat2map.towns.streets import lay_streets
from sat2map.towns.world import BLOCK, Bounds, World, stream

_WIDTHS: dict[District, tuple[float, float]] = {
    "downtown": (11, 14), "dense": (9, 11), "radial": (8, 10.5), "organic": (7.5, 9.5),
    "grid": (8.5, 10.5), "curvy": (8, 10), "village": (6.5, 8), "industrial": (10, 12),
    "campus": (7, 8.5), "fields": (5, 6.5), "packed": (3.4, 7.5), "compounds": (5, 9.5),
    "scattered": (4, 7), "barren": (4, 7), "plots": (3.8, 6.5),
}  # fmt: skip
_NARROW = {"packed", "compounds"}
"""Where the houses stand at the street itself."""
_BUILT = {"downtown", "dense", "radial", "organic", "grid", "curvy", "industrial"}


class Planner:
    """Makes the pieces of the plan of a region and keeps those used last.

    Args:
        world: The world.
        bounds: The region, metres; outside it, blocks may be missing.
        keep: How many pieces to remember.
    """

    def __init__(self, world: World, bounds: Bounds, *, keep: int = 400) -> None:
        self.world = world
        self.bounds = bounds
        self._keep = keep
        self._pieces: OrderedDict[tuple[int, int], Piece] = OrderedDict()

    def pieces(self, bounds: Bounds) -> Iterator[Piece]:
        """Yield the pieces that may touch `bounds`, always in the same order."""
        for cell in self.cells(bounds):
            yield self.piece(cell)

    def cells(self, bounds: Bounds) -> list[tuple[int, int]]:
        """Return the cells whose pieces may touch `bounds`, in order."""
        # Crowns and walks hang a little over the border of a cell, ramps far.
        ramps = has_highway(self.world, bounds)
        return self.world.cells(grown(bounds, 200 if ramps else 15))

    def piece(self, cell: tuple[int, int]) -> Piece:
        """Return the piece of a cell."""
        if cell not in self._pieces:
            self._pieces[cell] = plan_cell(self.world, *cell, self.bounds)
            while len(self._pieces) > self._keep:
                self._pieces.popitem(last=False)
        self._pieces.move_to_end(cell)
        return self._pieces[cell]


def plan_cell(world: World, i: int, j: int, bounds: Bounds) -> Piece:
    """Return everything inside a cell of the lattice and on its first two edges.

    Args:
        world: The world.
        i: First index of the cell.
        j: Second index.
        bounds: Blocks that do not come near this region are left out.
    """
    piece = Piece()
    rng = stream(world.seed, BLOCK, i, j)
    look = world.look
    cell = Polygon(world.cell_ring(i, j)).buffer(0)
    district = world.district(i, j)
    piece.paint(cell.buffer(0.6), Layer.GROUND, *lot_ground(look, rng))
    view = box(*grown(bounds, 20))
    shapely.prepare(view)
    for axis in (0, 1):
        add_edge(piece, world, i, j, axis, view)
    if not cell.intersects(view):
        return piece
    barriers = barriers_of(world, i, j)
    open_area = cell.difference(barriers) if not barriers.is_empty else cell
    roads = road_area(world, (i, j))
    angle = _lattice_angle(world, i, j)
    for index, part in enumerate(polygons(open_area, 30.0)):
        if part.area < 6000:
            leave = grounds.meadow if look.temperate or look.snow else wilds.left_over
            leave(piece, part.difference(roads), look, rng)
            continue
        streets, ends = lay_streets(district, part, angle, rng)
        width = round(float(rng.uniform(*_WIDTHS.get(district, (6, 8)))), 1)
        taken = [roads]
        if streets or ends:
            wide = 2.6 if district in _BUILT else 0.7 if district in _NARROW else 1.6
            add_streets(piece, world, streets, ends, width, district, (i, j, index), view)
            taken.append(shapely.union_all(shapely.buffer(streets + ends, width / 2 + wide)))
            if ends:
                heads = [Point(line.coords[-1]).buffer(11.5 + wide) for line in ends]
                taken.append(shapely.union_all(heads))
        for number, block in enumerate(polygons(part.difference(shapely.union_all(taken)), 60.0)):
            if block.intersects(view):
                own = stream(world.seed, BLOCK, i, j, index, number + 1)
                _fill(piece, world, district, block, own)
    add_courses(piece, world, cell, (i, j))
    return piece


def _lattice_angle(world: World, i: int, j: int) -> float:
    way = world.node(i + 1, j) - world.node(i, j)
    return float(np.arctan2(way[1], way[0]))


def _fill(
    piece: Piece, world: World, district: District, block: Polygon, rng: np.random.Generator
) -> None:
    """Fill a block with what its district has."""
    look = world.look
    chance = rng.random()
    styled = not (look.temperate or look.snow)
    if styled and block.area < (90 if district in _NARROW else 350):
        wilds.left_over(piece, block, look, rng)
    elif district in _FILLS:
        _FILLS[district](piece, block, look, rng)
    elif styled and block.area > 60_000 and district not in {"industrial", "campus"}:
        (wilds.barren if look.green < 0.12 else wilds.plots)(piece, block, look, rng)
    elif block.area < 350:
        grounds.meadow(piece, block, look, rng)
    elif district in {"park", "woods", "fields"}:
        {"park": grounds.park, "woods": grounds.woods, "fields": grounds.fields}[district](
            piece, block, look, rng
        )
    elif block.area > 60_000 and district not in {"industrial", "campus"}:
        grounds.fields(piece, block, look, rng)
    elif district == "industrial":
        quarters.works(piece, block, look, rng)
    elif district == "campus":
        quarters.campus(piece, block, look, rng)
    elif (chance < 0.05 and district != "village") or _is_round(block):
        quarters.square(piece, block, look, rng)
    elif district == "downtown":
        quarters.downtown(piece, block, look, rng)
    elif district == "dense" or (district in {"radial", "organic"} and chance < 0.6):
        if chance > 0.93:
            quarters.works(piece, block, look, rng)
        else:
            homes.terraces(piece, block, look, rng)
    elif district == "village" and chance < 0.3:
        grounds.fields(piece, block, look, rng)
    else:
        homes.suburb(piece, block, look, rng, rural=district == "village")


_FILLS: dict[District, Callable[[Piece, Polygon, Look, np.random.Generator], None]] = {
    "packed": settlements.packed,
    "compounds": settlements.compounds,
    "scattered": settlements.scattered,
    "barren": wilds.barren,
    "plots": wilds.plots,
}
"""What fills the districts that temperate towns do not have."""


def _is_round(block: Polygon) -> bool:
    """Return whether a block is the round one in the middle of rings."""
    return bool(block.area > 0.93 * block.length**2 / (4 * np.pi))


def region(side: int, resolution: float = 1.0) -> Bounds:
    """Return the bounds in metres of a square of so many pixels around the origin."""
    low, high = -(side // 2) * resolution, (side - side // 2) * resolution
    return low, low, high, high
