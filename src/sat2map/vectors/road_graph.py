"""The graph of the centre lines: crossings and ends, and the ways between them.

The graph is in memory; the pixels of its ways lie in a temporary file. Whatever the sheets were,
the same graph comes out: lengths are counted in whole steps, places are sums of whole numbers,
and where an order matters it follows from the places alone.
"""

from __future__ import annotations

import heapq
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sat2map.closing import Closing
from sat2map.vectors.centre_lines import CHAIN, FINE, SheetLines

STRAIGHT, DIAGONAL = 0.948, 1.340
"""Length in pixels of a step of a chain, for lines of any direction (Dorst and Smeulders 1987)."""

PARTS = 1024
"""Parts of a pixel in which the middle of a node is counted."""

Place = tuple[int, int]
"""Row and column of a pixel."""


@dataclass(slots=True)
class Node:
    """A crossing, an end, or a pixel at which a way is cut.

    Attributes:
        pixels: How many pixels it consists of.
        rows: Sum of their rows.
        columns: Sum of their columns.
        reach: The greatest distance to the road's edge, in 1/64 pixels.
        ways: The ways that end here; one that begins and ends here twice.
    """

    pixels: int
    rows: int
    columns: int
    reach: int
    ways: list[int] = field(default_factory=list)

    @property
    def place(self) -> tuple[float, float]:
        """Row and column of its middle, in whole parts of a pixel.

        So all that is measured from node to node is exact, and no last digit depends on where the
        scene begins. A half goes up, not to the even number, for the same reason.
        """
        row, column = (
            (2 * PARTS * total + self.pixels) // (2 * self.pixels) / PARTS
            for total in (self.rows, self.columns)
        )
        return row, column

    @property
    def radius(self) -> float:
        """The distance to the road's edge in pixels."""
        return self.reach / FINE


@dataclass(slots=True)
class Way:
    """A chain of pixels from node to node.

    Attributes:
        u: Its first node.
        v: Its last node.
        pieces: Where its pixels lie in the file: offset, number, and whether turned round.
        straight: Steps along rows and columns.
        diagonal: Steps across corners.
        head: The first pixel.
        tail: The last pixel.
    """

    u: int
    v: int
    pieces: list[tuple[int, int, bool]]
    straight: int
    diagonal: int
    head: Place
    tail: Place

    @property
    def length(self) -> float:
        """Its length in pixels."""
        return self.straight * STRAIGHT + self.diagonal * DIAGONAL

    @property
    def order(self) -> tuple[int, ...]:
        """What ways are sorted by; it depends on where they lie alone."""
        ends = sorted((self.head, self.tail))
        return (*sorted((self.u, self.v)), self.straight, self.diagonal, *ends[0], *ends[1])

    def turned(self) -> Way:
        """Return it from the other end."""
        pieces = [(offset, count, not turned) for offset, count, turned in reversed(self.pieces)]
        return Way(self.v, self.u, pieces, self.straight, self.diagonal, self.tail, self.head)


class ChainFile:
    """Chains of pixels in a temporary file without a name.

    Args:
        folder: Where it lies; the system's folder for temporary files unless given.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, buffering=1 << 20)  # noqa: SIM115
        self._size = 0
        self._written = 0

    def append(self, chain: NDArray[np.void]) -> tuple[int, int, bool]:
        """Write a chain, dtype `CHAIN`, and return where it lies."""
        offset = self._size
        self._file.write(chain.tobytes())
        self._size += chain.nbytes
        return offset, len(chain), False

    def read(self, pieces: Iterable[tuple[int, int, bool]]) -> NDArray[np.void]:
        """Return chains one after the other; a pixel that follows itself comes once."""
        if self._written < self._size:
            self._file.flush()
            self._written = self._size
        parts = []
        for offset, count, turned in pieces:
            data = os.pread(self._file.fileno(), count * CHAIN.itemsize, offset)
            part = np.frombuffer(data, CHAIN)
            parts.append(part[::-1] if turned else part)
        chain: NDArray[np.void] = np.concatenate(parts) if len(parts) > 1 else parts[0]
        same = (np.diff(chain["row"]) == 0) & (np.diff(chain["column"]) == 0)
        once: NDArray[np.void] = chain[np.append(True, ~same)]
        return once

    def close(self) -> None:
        """Remove the file."""
        self._file.close()


class RoadGraph(Closing):
    """Crossings, ends and the ways between them, in pixels.

    Args:
        height: Rows of the scene.
        width: Columns.
        folder: Where the temporary file lies.
    """

    def __init__(self, height: int, width: int, folder: Path | None = None) -> None:
        self.height = height
        self.width = width
        self.nodes: dict[int, Node] = {}
        self.ways: dict[int, Way] = {}
        self._chains = ChainFile(folder)
        self._next = 0
        self._same: dict[int, int] = {}
        self._reaches: dict[int, int] = {}

    def close(self) -> None:
        """Remove the file of its pixels."""
        self._chains.close()

    def key(self, place: Place) -> int:
        """Return the number of a pixel."""
        return place[0] * self.width + place[1]

    def pixels(self, way: Way) -> NDArray[np.void]:
        """Return the pixels of a way, dtype `CHAIN`, from its first node to its last."""
        return self._chains.read(way.pieces)

    def add_sheet(self, lines: SheetLines) -> None:
        """Add the centre lines of a sheet; `connect` puts the sheets together."""
        for crossing in lines.crossings:
            self.nodes[crossing.key] = Node(
                crossing.pixels, crossing.rows, crossing.columns, crossing.reach
            )
            for door in crossing.doors.tolist():
                self._join(door, crossing.key)
        for first, second in lines.joins.tolist():
            self._join(first, second)
        for chain in lines.chains:
            way = self.ways[self._store(chain)]
            self._reaches[way.u] = int(chain[0]["reach"])
            self._reaches[way.v] = int(chain[-1]["reach"])

    def _store(self, chain: NDArray[np.void]) -> int:
        """Write a chain, and return the number of the way from its first to its last pixel."""
        rows, columns = np.abs(np.diff(chain["row"])), np.abs(np.diff(chain["column"]))
        diagonal = int(np.minimum(rows, columns).sum())
        straight = int(np.maximum(rows, columns).sum()) - diagonal
        head, tail = ((int(chain[at]["row"]), int(chain[at]["column"])) for at in (0, -1))
        piece = self._chains.append(chain)
        way = Way(self.key(head), self.key(tail), [piece], straight, diagonal, head, tail)
        self._next += 1
        self.ways[self._next] = way
        return self._next

    def _root(self, key: int) -> int:
        above = self._same.get(key, key)
        while above != key:
            further = self._same.get(above, above)
            self._same[key] = further
            key, above = above, further
        return key

    def _join(self, first: int, second: int) -> None:
        """Make two numbers one node, whose key is the smallest."""
        one, two = sorted((self._root(first), self._root(second)))
        if one != two:
            self._same[two] = one

    def connect(self) -> None:
        """Put the sheets together: parts of a crossing are one, ways go on across borders."""
        whole: dict[int, Node] = {}
        for key, node in self.nodes.items():
            root = whole.setdefault(self._root(key), Node(0, 0, 0, 0))
            root.pixels += node.pixels
            root.rows += node.rows
            root.columns += node.columns
            root.reach = max(root.reach, node.reach)
        for key, reach in self._reaches.items():
            if self._root(key) not in whole:
                whole[key] = Node(1, *divmod(key, self.width), reach)
        self.nodes = whole
        for number, way in self.ways.items():
            way.u, way.v = self._root(way.u), self._root(way.v)
            self.nodes[way.u].ways.append(number)
            self.nodes[way.v].ways.append(number)
        self._same, self._reaches = {}, {}
        self._remove_nodes_without_ways()
        self.dissolve()

    def dissolve(self) -> None:
        """Make two ways one wherever just two meet, and let rings begin at their first pixel."""
        for key in list(self.nodes):
            ways = self.nodes[key].ways
            if len(ways) == 2 and ways[0] != ways[1]:
                self._put_together(key)
        for number, way in list(self.ways.items()):
            if way.u == way.v and len(self.nodes[way.u].ways) == 2:
                self._begin_at_first_pixel(number, way)

    def _put_together(self, key: int) -> None:
        """Make the two ways that meet at a node one."""
        one, two = self.nodes.pop(key).ways
        first, second = self.ways[one], self.ways.pop(two)
        first = first if first.v == key else first.turned()
        second = second if second.u == key else second.turned()
        rows = abs(first.tail[0] - second.head[0])
        columns = abs(first.tail[1] - second.head[1])
        diagonal = min(rows, columns)
        self.ways[one] = Way(
            first.u,
            second.v,
            first.pieces + second.pieces,
            first.straight + second.straight + max(rows, columns) - diagonal,
            first.diagonal + second.diagonal + diagonal,
            first.head,
            second.tail,
        )
        ends = self.nodes[second.v].ways
        ends[ends.index(two)] = one

    def _begin_at_first_pixel(self, number: int, way: Way) -> None:
        """Let a ring that nothing else touches begin at its upper left pixel."""
        chain = self.pixels(way)
        if chain[0] == chain[-1]:
            chain = chain[:-1]
        start = int(np.lexsort((chain["column"], chain["row"]))[0])
        if start == 0 and self.nodes[way.u].pixels == 1:
            return
        chain = np.roll(chain, -start)
        self.remove(number)
        del self.nodes[way.u]
        self._link(self._store(np.append(chain, chain[:1])), int(chain[0]["reach"]))

    def _link(self, number: int, reach: int) -> None:
        """Enter a stored way at its nodes; one that is not there yet gets a reach."""
        way = self.ways[number]
        for key, place in ((way.u, way.head), (way.v, way.tail)):
            if key not in self.nodes:
                self.nodes[key] = Node(1, *place, reach)
            self.nodes[key].ways.append(number)

    def add_way(self, chain: NDArray[np.void], u: int, v: int) -> None:
        """Add a way, dtype `CHAIN`, between two nodes that are there."""
        number = self._store(chain)
        way = self.ways[number]
        way.u, way.v = u, v
        self.nodes[u].ways.append(number)
        self.nodes[v].ways.append(number)

    def split(self, number: int, keys: set[int]) -> None:
        """Cut a way at some of its pixels, by their numbers, which become nodes."""
        way = self.ways[number]
        chain = self.pixels(way)
        own = chain["row"].astype(np.int64) * self.width + chain["column"]
        cuts = [at for at in range(1, len(chain) - 1) if int(own[at]) in keys]
        self.remove(number)
        bounds = [0, *cuts, len(chain) - 1]
        nodes = [way.u, *(int(own[at]) for at in cuts), way.v]
        for at in cuts:
            place = int(chain[at]["row"]), int(chain[at]["column"])
            # Another way may have a node there already, which must not lose it.
            self.nodes.setdefault(int(own[at]), Node(1, *place, int(chain[at]["reach"])))
        for (start, stop), (u, v) in zip(pairwise(bounds), pairwise(nodes), strict=True):
            self.add_way(chain[start : stop + 1], u, v)

    def remove(self, number: int) -> None:
        """Take a way out."""
        way = self.ways.pop(number)
        for key in (way.u, way.v):
            self.nodes[key].ways.remove(number)

    def remove_where(self, is_wrong: Callable[[Way], bool]) -> None:
        """Take out the ways of which something is true, and nodes that are left without any."""
        for number in [number for number, way in self.ways.items() if is_wrong(way)]:
            self.remove(number)
        self._remove_nodes_without_ways()

    def _remove_nodes_without_ways(self) -> None:
        self.nodes = {key: node for key, node in self.nodes.items() if node.ways}

    # What is not a road, and what belongs together ---------------------------------------------

    def at_border(self, place: Place) -> bool:
        """Return whether a pixel lies at the border of the scene."""
        return place[0] in (0, self.height - 1) or place[1] in (0, self.width - 1)

    def remove_spurs(self, factor: float, least: float) -> None:
        """Remove dead ends that are no longer than the road at their foot is wide.

        A bump of a road's edge gives one: it reaches from the middle of the road to the bump. Those
        that are there together go together, so that what is left does not depend on an order.

        Args:
            factor: Times the width at the foot, and
            least: plus so many pixels is the length up to which an end is none.
        """
        while True:
            spurs = [
                number for number, way in self.ways.items() if self._is_spur(way, factor, least)
            ]
            if not spurs:
                return
            for number in spurs:
                self.remove(number)
            self._remove_nodes_without_ways()
            self.dissolve()

    def _is_spur(self, way: Way, factor: float, least: float) -> bool:
        u, v = self.nodes[way.u], self.nodes[way.v]
        if way.u == way.v:
            return len(u.ways) > 2 and way.length < least + 6  # within the pixels of a crossing
        if len(u.ways) == 1 and len(v.ways) > 2:
            tip, foot = way.head, v
        elif len(v.ways) == 1 and len(u.ways) > 2:
            tip, foot = way.tail, u
        else:
            return False
        return not self.at_border(tip) and way.length <= factor * 2 * foot.radius + least

    def merge_crossings(self, ring: float) -> None:
        """Make crossings one that lie within the same open space.

        Two ways that cross at a slant meet as two forks, with a short way between them. Forks are
        one crossing where the way between them is at most one and a half times as long as both
        reach to the road's edge, unless it is part of a ring that is no longer than `ring`
        pixels: a roundabout stays one.
        """
        short = [
            way
            for way in self.ways.values()
            if way.u != way.v
            and min(len(self.nodes[way.u].ways), len(self.nodes[way.v].ways)) > 2
            and way.length <= 1.5 * (self.nodes[way.u].radius + self.nodes[way.v].radius)
            and not self._has_way_round(way, ring)
        ]
        if not short:
            return
        numbers = {id(way): number for number, way in self.ways.items()}
        for way in short:
            self._join(way.u, way.v)
            self.remove(numbers[id(way)])
        for key in [key for key in self.nodes if self._root(key) != key]:
            node, root = self.nodes.pop(key), self.nodes[self._root(key)]
            root.pixels += node.pixels
            root.rows += node.rows
            root.columns += node.columns
            root.reach = max(root.reach, node.reach)
            root.ways += node.ways
        for way in self.ways.values():
            way.u, way.v = self._root(way.u), self._root(way.v)
        self._same = {}
        self._remove_nodes_without_ways()
        self.dissolve()

    def _has_way_round(self, way: Way, limit: float) -> bool:
        """Return whether another way of up to a length leads between the same nodes."""
        away = {way.u: 0.0}
        waiting = [(0.0, way.u)]
        while waiting:
            length, key = heapq.heappop(waiting)
            if key == way.v:
                return True
            if length > away[key]:
                continue
            for number in self.nodes[key].ways:
                other = self.ways[number]
                if other is way:
                    continue
                following = other.v if other.u == key else other.u
                further = length + other.length
                if further <= limit and further < away.get(following, math.inf):
                    away[following] = further
                    heapq.heappush(waiting, (further, following))
        return False

    def remove_crumbs(self, least: float) -> None:
        """Remove what hangs together and is altogether shorter than so many pixels."""
        for key in self.nodes:
            self._same[key] = key
        for way in self.ways.values():
            self._join(way.u, way.v)
        straight: dict[int, int] = {}
        diagonal: dict[int, int] = {}
        for way in self.ways.values():
            root = self._root(way.u)
            straight[root] = straight.get(root, 0) + way.straight
            diagonal[root] = diagonal.get(root, 0) + way.diagonal
        crumbs = [
            number
            for number, way in self.ways.items()
            if straight[self._root(way.u)] * STRAIGHT + diagonal[self._root(way.u)] * DIAGONAL
            < least
        ]
        self._same = {}
        for number in crumbs:
            self.remove(number)
        self._remove_nodes_without_ways()

    def in_order(self) -> Iterator[Way]:
        """Yield the ways sorted by where they lie, each from its smaller end."""
        for way in sorted(self.ways.values(), key=lambda way: way.order):
            yield way if self._begins_right(way) else way.turned()

    def _begins_right(self, way: Way) -> bool:
        if way.u != way.v:
            return way.u < way.v
        if way.head != way.tail:
            return way.head < way.tail
        chain = self.pixels(way)
        after, before = chain[1], chain[-2]
        return bool((after["row"], after["column"]) < (before["row"], before["column"]))
