"""From road pixels to chains of centre-line pixels, sheet by sheet, the same whatever the sheets.

A scene is taken in sheets, each read with a halo. All that is done to a pixel depends on the
pixels within the halo alone, so that the centre line of a sheet is that of the whole scene:

          halo                   1. holes too small for an island are filled; one that is wider
      +-----------+                 than `hole_side` stays.
      | +-------+ |              2. the mask is thinned for `passes` passes of two steps, in each
      | | sheet | |                 of which a pixel looks at its eight neighbours (Guo and Hall
      | |       | |                 1989). After n steps nothing that is farther than n pixels
      | +-------+ |                 has had a say.
      +-----------+              3. the distance to the nearest pixel off the road, up to `passes`.

`halo` is the sum of these reaches. What is wider than 2 * `passes` pixels is not a road: of such an
area a thick rest stays, all of which becomes one crossing. Beyond the border the scene goes on
as in a mirror, so that a road runs straight out of it.

A sheet owns the steps from its pixels to the next ones to the right and below (*). A chain of
pixels ends at a crossing, at an end, or where it leaves the sheet (o); the neighbour begins its
own chain at the same pixel:

      +-------+-------+          . . . # # o - - # # . . .
      |   * * | *     |                    ^
      | * * * | * *   |          the last step of the left sheet leads to the first pixel of the
      +-------+-------+          right one, whose chain starts there
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sat2map.geo.grid import Grid
from sat2map.geo.windows import mirrored
from sat2map.legend import Legend

CHAIN = np.dtype(
    [
        ("row", np.int32),
        ("column", np.int32),
        ("reach", np.uint16),
        ("road", np.uint8),
        ("sure", np.uint8),
    ]
)
"""A pixel of a centre line: where it is, its distance to the road's edge in 1/64 pixels, the
number of its class, and how sure it is, 0 to 255."""

FINE = 64
"""Parts of a pixel in which `reach` is counted."""

LIKELY = 102
"""Where the probability of a road is known, this much of 255 makes one: a little below a half,
since a road that is cut costs more than one that is too wide."""

_BESIDE = 3
"""Pixels beside a sheet that are needed to know how many ways meet in those next to it."""


class RoadScene(Protocol):
    """A scene of class numbers, read part by part; a `ClassMap` is one."""

    @property
    def grid(self) -> Grid:
        """Grid of its pixels on the ground."""

    @property
    def legend(self) -> Legend:
        """Legend of its class numbers."""

    @property
    def metres(self) -> tuple[float, float]:
        """Metres on the ground from pixel to pixel, along a row and along a column."""

    @property
    def knows_confidence(self) -> bool:
        """Whether something tells how sure a class is."""

    @property
    def knows_roads(self) -> bool:
        """Whether something tells how likely a road is, not only whether there is one."""

    def read(self, row: int, column: int, height: int, width: int) -> NDArray[np.uint8]:
        """Return class numbers, uint8 [height,width]; 255 where there is no map."""

    def read_confidence(
        self, row: int, column: int, height: int, width: int
    ) -> NDArray[np.float32] | None:
        """Return how sure each pixel is, float32 [height,width], 0 to 1; nan where unknown."""

    def read_roads(self, row: int, column: int, height: int, width: int) -> NDArray[np.float32]:
        """Return the probability of a road, float32 [height,width], 0 to 1."""


@dataclass(frozen=True)
class RoadPixels:
    """A part of a scene.

    Attributes:
        classes: Class numbers, uint8 [H,W]; 255 where there is no map.
        sure: How likely there is a road, or failing that how sure the class is, uint8 [H,W], 0
            to 255; None where nothing tells.
    """

    classes: NDArray[np.uint8]
    sure: NDArray[np.uint8] | None


def read_pixels(scene: RoadScene, row: int, column: int, height: int, width: int) -> RoadPixels:
    """Return a part of a scene."""
    part = (row, column, height, width)
    sure = scene.read_roads(*part) if scene.knows_roads else scene.read_confidence(*part)
    whole = None if sure is None else np.rint(np.nan_to_num(sure) * 255).astype(np.uint8)
    return RoadPixels(scene.read(*part), whole)


@dataclass(frozen=True)
class Reaches:
    """Distances that the steps look, in pixels.

    Attributes:
        hole_area: Holes of at most this many pixels are filled.
        hole_side: But for those that are higher or wider than this.
        passes: Half the width of the widest road.
    """

    hole_area: int
    hole_side: int
    passes: int

    @property
    def halo(self) -> int:
        """How far beyond itself a sheet has to be known."""
        return self.hole_side + 2 * self.passes + 4


@dataclass(frozen=True)
class Crossing:
    """Pixels of a sheet where more than two ways meet and that touch each other.

    Attributes:
        key: The smallest of their numbers; a pixel's number is row * width + column.
        doors: The numbers of those at the sheet's border or at the end of a chain, int64 [N].
        pixels: How many there are.
        rows: Sum of their rows.
        columns: Sum of their columns.
        reach: The greatest distance to the road's edge, in 1/64 pixels.
    """

    key: int
    doors: NDArray[np.int64]
    pixels: int
    rows: int
    columns: int
    reach: int


@dataclass(frozen=True)
class SheetLines:
    """The centre lines of a sheet.

    Attributes:
        chains: Each of dtype `CHAIN`, from an end to an end; both ends belong to it.
        crossings: Where they meet.
        joins: Pairs of neighbouring pixels, by their numbers, that are both of a crossing and
            of which the second lies in another sheet, int64 [N,2].
    """

    chains: list[NDArray[np.void]]
    crossings: list[Crossing]
    joins: NDArray[np.int64]


def read_mirrored(scene: RoadScene, top: int, left: int, height: int, width: int) -> RoadPixels:
    """Return a part of a scene that may reach beyond it, where it goes on as in a mirror."""
    rows = mirrored(top, height, scene.grid.height)
    columns = mirrored(left, width, scene.grid.width)
    first, start = int(rows.min()), int(columns.min())
    part = read_pixels(scene, first, start, int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)
    where = np.ix_(rows - first, columns - start)
    return RoadPixels(part.classes[where], None if part.sure is None else part.sure[where])


def sheet_lines(
    scene: RoadScene,
    reaches: Reaches,
    top: int,
    left: int,
    side: int,
) -> SheetLines:
    """Return the centre lines of one sheet.

    Args:
        scene: The class map.
        reaches: How far the steps look.
        top: First row of the sheet.
        left: First column.
        side: Its height and width; it may reach beyond the scene.
    """
    halo = reaches.halo
    height, width = min(side, scene.grid.height - top), min(side, scene.grid.width - left)
    seen = read_mirrored(scene, top - halo, left - halo, height + 2 * halo, width + 2 * halo)
    roads = np.zeros(256, np.bool_)
    roads[: len(scene.legend)] = scene.legend.roads
    is_road = roads[seen.classes]
    if scene.knows_roads and seen.sure is not None:
        is_road |= (seen.sure >= LIKELY) & (seen.classes != 255)
    mask = fill_holes(is_road, reaches)
    lines = thin(mask, reaches.passes)
    start = halo - _BESIDE
    near = slice(start, height + halo + _BESIDE), slice(start, width + halo + _BESIDE)
    origin = top - _BESIDE, left - _BESIDE
    thick = _thick(lines)[near]
    line = lines[near].copy()
    _cut_off(line, origin, scene)
    pixels = _pixels(line, start, mask, seen, roads, reaches, origin)
    return _trace(line, thick & line, pixels, origin, scene.grid.width)


def fill_holes(mask: NDArray[np.bool_], reaches: Reaches) -> NDArray[np.bool_]:
    """Return a mask, bool [H,W], without its smallest holes.

    A hole consists of pixels that touch side by side. What touches the border of the array
    is not a hole.
    """
    from scipy.ndimage import find_objects, label

    numbers, _ = label(~mask)
    sizes = np.bincount(numbers.ravel())
    small = sizes <= reaches.hole_area
    small[0] = False
    for number in np.flatnonzero(small).tolist():
        sizes[number] = 0
    boxes = find_objects(numbers)
    high, wide = mask.shape
    for number in np.flatnonzero(small).tolist():
        rows, columns = boxes[number - 1]
        largest = max(rows.stop - rows.start, columns.stop - columns.start)
        inside = rows.start > 0 and columns.start > 0 and rows.stop < high and columns.stop < wide
        small[number] = inside and largest <= reaches.hole_side
    filled: NDArray[np.bool_] = mask | small[numbers]
    return filled


def _deletable(second: bool) -> NDArray[np.bool_]:
    """Return for each pattern of eight neighbours whether a pixel goes, bool [256].

    Bit k of a pattern is neighbour k, counted against the clock from the one to the right. The
    conditions are those of Guo and Hall 1989 (Lam, Lee and Suen 1992, page 879).
    """
    codes = np.arange(256)
    x = [(codes >> k & 1).astype(np.bool_) for k in range(8)]
    crossings = sum((~x[k] & (x[k + 1] | x[(k + 2) % 8])).astype(int) for k in (0, 2, 4, 6))
    first = sum((x[k] | x[k + 1]).astype(int) for k in (0, 2, 4, 6))
    other = sum((x[k + 1] | x[(k + 2) % 8]).astype(int) for k in (0, 2, 4, 6))
    least = np.minimum(first, other)
    free = ~((x[5] | x[6] | ~x[3]) & x[4]) if second else ~((x[1] | x[2] | ~x[7]) & x[0])
    table: NDArray[np.bool_] = (crossings == 1) & (least >= 2) & (least <= 3) & free
    return table


_STEPS = (_deletable(False), _deletable(True))


def thin(mask: NDArray[np.bool_], passes: int) -> NDArray[np.bool_]:
    """Return a mask, bool [H,W], thinned for so many passes.

    It is `skimage.morphology.thin(mask, passes)`, of which only the pixels of the mask are looked
    at: roads are a tenth of a scene, and a pass takes a twentieth of the time.
    """
    high, wide = mask.shape
    padded = np.zeros((high + 2, wide + 2), np.uint8)
    padded[1:-1, 1:-1] = mask
    flat = padded.ravel()
    stride = wide + 2
    around = (1, 1 - stride, -stride, -1 - stride, -1, stride - 1, stride, stride + 1)
    left = np.flatnonzero(flat)
    for _ in range(passes):
        count = len(left)
        for table in _STEPS:
            codes = np.zeros(len(left), np.uint8)
            for bit, step in enumerate(around):
                codes |= flat[left + step] << np.uint8(bit)
            gone = table[codes]
            flat[left[gone]] = 0
            left = left[~gone]
        if len(left) == count:
            break
    return padded[1:-1, 1:-1].astype(np.bool_)


def _thick(lines: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a thinned mask that belong to a block of three by three."""
    three = lines[:-2] & lines[1:-1] & lines[2:]
    rows, columns = np.nonzero(three[:, :-2] & three[:, 1:-1] & three[:, 2:])
    thick = np.zeros_like(lines)
    for row in range(3):
        for column in range(3):
            thick[rows + row, columns + column] = True
    return thick


def _cut_off(line: NDArray[np.bool_], origin: tuple[int, int], scene: RoadScene) -> None:
    """Remove what lies beyond the scene, in place."""
    top, left = origin
    line[: max(0, -top)] = False
    line[:, : max(0, -left)] = False
    line[max(0, scene.grid.height - top) :] = False
    line[:, max(0, scene.grid.width - left) :] = False


def _beside(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which pixels that are not of a mask have one of it beside them."""
    beside = np.zeros_like(mask)
    for one, other in ((beside, mask), (beside.T, mask.T)):
        one[1:] |= other[:-1]
        one[:-1] |= other[1:]
    return beside & ~mask


def _pixels(
    line: NDArray[np.bool_],
    start: int,
    mask: NDArray[np.bool_],
    seen: RoadPixels,
    roads: NDArray[np.bool_],
    reaches: Reaches,
    origin: tuple[int, int],
) -> NDArray[np.void]:
    """Return what is known of every pixel of a line, dtype `CHAIN`, in the order of rows."""
    from scipy.spatial import KDTree

    rows, columns = np.nonzero(line)
    found = np.zeros(len(rows), CHAIN)
    if not len(rows):
        return found
    found["row"], found["column"] = rows + origin[0], columns + origin[1]
    places = np.column_stack([rows, columns]) + start
    edge = np.argwhere(_beside(mask))
    reach = np.full(len(rows), float(reaches.passes))
    if len(edge):
        distances, _ = KDTree(edge).query(places, distance_upper_bound=reaches.passes)
        reach = np.minimum(reach, distances)
    found["reach"] = np.rint(reach * FINE).astype(np.uint16)
    classes = seen.classes[tuple(places.T)]
    # A filled hole is not a road: 255 stands for no class.
    found["road"] = np.where(roads[classes], classes, 255)
    if seen.sure is not None:
        found["sure"] = np.where(mask[tuple(places.T)], seen.sure[tuple(places.T)], 0)
    return found


def _trace(
    line: NDArray[np.bool_],
    thick: NDArray[np.bool_],
    pixels: NDArray[np.void],
    origin: tuple[int, int],
    scene_width: int,
) -> SheetLines:
    """Return the chains of a sheet.

    Args:
        line: The centre lines, bool [H,W], with three pixels beside the sheet.
        thick: Which of their pixels belong to an area.
        pixels: What is known of them, in the order of rows.
        origin: Row and column in the scene of the first pixel of `line`.
        scene_width: Columns of the scene.
    """
    wide = line.shape[1]
    inner = np.zeros_like(line)
    inner[_BESIDE:-_BESIDE, _BESIDE:-_BESIDE] = True
    inside = inner.ravel()
    first, second = _steps_between(line)
    degree = _counted(line.size, first, second)
    meeting = line.ravel() & ((degree > 2) | thick.ravel())
    owned = inside[first]
    first, second = first[owned], second[owned]
    number = np.zeros(line.size, np.int32)
    number[np.flatnonzero(line)] = np.arange(len(pixels))

    def key(place: NDArray[np.intp]) -> NDArray[np.int64]:
        rows, columns = np.divmod(place.astype(np.int64), wide)
        return (rows + origin[0]) * scene_width + columns + origin[1]

    both = meeting[first] & meeting[second]
    abroad = both & ~inside[second]
    joins = np.column_stack([key(first[abroad]), key(second[abroad])])
    within = both & inside[second]
    groups = _groups(np.flatnonzero(meeting & inside), first[within], second[within])
    first, second = first[~both], second[~both]
    door = np.zeros_like(line)
    door[[_BESIDE, -_BESIDE - 1]] = True
    door[:, [_BESIDE, -_BESIDE - 1]] = True
    door.ravel()[first] = door.ravel()[second] = True
    crossings = [
        _crossing(pixels[number[group]], key(group), door.ravel()[group]) for group in groups
    ]
    own = _counted(line.size, first, second)
    plain = inside & (degree == 2) & (own == 2) & ~meeting
    chains = [pixels[number[walk]] for walk in _walks(first, second, plain)]
    return SheetLines(chains, crossings, joins)


def _counted(size: int, first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Return how many steps each of so many pixels has, uint8; eight at most."""
    counts = np.zeros(size, np.uint8)
    np.add.at(counts, first, 1)
    np.add.at(counts, second, 1)
    return counts


def _steps_between(line: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return which pixels of a line are neighbours, as flat indices, the upper left one first.

    Two that touch at a corner are, unless a third touches both at a side: a staircase is one
    way and not a row of triangles.
    """
    wide = line.shape[1]
    rows, columns = np.nonzero(line)
    place = rows * wide + columns
    inside = (rows < line.shape[0] - 1) & (columns < wide - 1) & (columns > 0)
    place = place[inside]  # the outermost ones only tell how many ways meet farther in
    flat = line.ravel()
    right, below = flat[place + 1], flat[place + wide]
    steps = (
        (right, 1),
        (below, wide),
        (flat[place + wide + 1] & ~right & ~below, wide + 1),
        (flat[place + wide - 1] & ~flat[place - 1] & ~below, wide - 1),
    )
    first = np.concatenate([place[there] for there, _ in steps])
    second = np.concatenate([place[there] + step for there, step in steps])
    return first, second


def _groups(
    places: NDArray[np.intp], first: NDArray[np.intp], second: NDArray[np.intp]
) -> list[NDArray[np.intp]]:
    """Return which places hang together by steps, each group in ascending order."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(places):
        return []
    ends = np.searchsorted(places, first), np.searchsorted(places, second)
    steps = coo_array((np.ones(len(first), np.int8), ends), shape=(len(places), len(places)))
    count, group = connected_components(steps, directed=False)
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(1, count))
    return np.split(places[order], bounds)


def _crossing(
    known: NDArray[np.void], keys: NDArray[np.int64], door: NDArray[np.bool_]
) -> Crossing:
    """Return the crossing that consists of some pixels, dtype `CHAIN`, with these numbers."""
    return Crossing(
        int(keys[0]),
        keys[door],
        len(known),
        int(known["row"].astype(np.int64).sum()),
        int(known["column"].astype(np.int64).sum()),
        int(known["reach"].max()),
    )


def _walks(
    first: NDArray[np.intp], second: NDArray[np.intp], plain: NDArray[np.bool_]
) -> list[list[int]]:
    """Return the ways through plain pixels between others, and rings of plain ones alone.

    Args:
        first: Steps lead from these pixels, flat indices.
        second: To these.
        plain: Which pixels have exactly two steps and no other role, bool, flat.
    """
    beside: dict[int, list[int]] = {}
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        beside.setdefault(a, []).append(b)
        beside.setdefault(b, []).append(a)
    through = {place for place in beside if plain[place]}
    walks = []
    for start, ways in beside.items():
        if plain[start]:
            continue
        for way in ways:
            if plain[way] and way not in through:
                continue  # walked from the other end
            walk, before, here = [start, way], start, way
            while here in through:
                through.discard(here)
                one, two = beside[here]
                before, here = here, two if one == before else one
                walk.append(here)
            if len(walk) > 2 or start < way:  # one without a plain pixel is met from both ends
                walks.append(walk)
    while through:
        start = min(through)
        walk, before, here = [start], start, beside[start][0]
        through.discard(start)
        while here != start:
            walk.append(here)
            through.discard(here)
            one, two = beside[here]
            before, here = here, two if one == before else one
        walks.append([*walk, start])
    return walks
