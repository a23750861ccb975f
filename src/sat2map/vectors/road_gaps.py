"""Gaps of a road network: where a tree, a shadow or a bridge hides a piece of a road.

Three kinds of places lead on, and the way on is looked for between two that face each other, or
from an end to a road that it runs into:

    end to end            end to side             foot to foot
                                |
    ----->    <-----      ----> |             -----|  |-----     across a dual carriageway: the
                                |                  |  |          road passes above or below it

It is not the distance that decides but the way between: the one of least cost over the probability
of a road. It is taken if no pixel of it is nearly surely no road, and if the sum of -ln(p) over it
is small: 12 m at p = .2, which is a crown, 4 m at p = .01. So a road under trees is closed, and two
dead ends with a fence between are not. Where no probability is known, a class stands for one:
vegetation may hide a road, a building does not.

Where ends crowd as in no town, as in the class map of noise, nothing is joined: so the number of
ways that are looked for grows with the ground, and not with the square of the ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sat2map.legend import Role
from sat2map.vectors.centre_lines import CHAIN, FINE, RoadScene
from sat2map.vectors.road_graph import RoadGraph, Way

FAR_M = 45.0
"""Ends that are farther apart than this are not joined."""

CROWD = 40
"""An end with more others than this within `FAR_M` is one of noise: in drawn towns it has 3."""

SIDE_M = 12.0
"""No end runs into a road whose middle is farther than this: dead ends stop before a highway."""

BUDGET_M = 20.0
"""The greatest sum of -ln(p) over the metres of a gap."""

LEAST_END, LEAST_FOOT = 0.06, 0.02
"""The least probability on the way between ends, and between the feet of two forks, which are
themselves no sign of a gap but lie on the same line."""

TURN_END, TURN_FOOT = math.cos(math.radians(35)), math.cos(math.radians(22))
"""How far a road may turn towards the other."""

ALONG_M = 15.0
"""The direction of an end is taken over so much of its road."""

HEAD = 1.5
"""An end that is so many times as wide as its road is where one turns round: it is the end."""

_MAY_HIDE: dict[Role, float] = {
    "road": 1.0,
    "vegetation": 0.3,
    "other": 0.05,
    "land": 0.03,
    "casing": 0.3,
    "building": 0.005,
    "water": 0.005,
}
"""The probability of a road where a class map alone shows this."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tip:
    """A place from which a road leads on.

    Attributes:
        node: Its node.
        place: Row and column, float64 [2].
        way: Unit vector of the direction in which it leads, float64 [2].
        is_end: Whether nothing else begins there; otherwise it is the foot of a fork.
        pixel: The last pixel of the road, of dtype `CHAIN`.
    """

    node: int
    place: Floats
    way: Floats
    is_end: bool
    pixel: np.void


def close_gaps(graph: RoadGraph, scene: RoadScene, resolution_m: float) -> None:
    """Join what faces each other across a gap.

    All is decided on the graph as it is, and the best come first, so that it depends on no order.

    Args:
        graph: The graph, without spurs.
        scene: What it was made from.
        resolution_m: Metres per pixel.
    """
    ground = _Ground(scene, resolution_m)
    tips = sorted(_tips(graph, ground), key=lambda tip: (tip.node, tip.is_end))
    tips = _without_crowds(tips, FAR_M / resolution_m)
    found = [
        (cost, one, two, path)
        for one, two in _facing(tips, resolution_m)
        if (answer := ground.way(tips[one], [tips[two].place], _least(tips[one], tips[two])))
        for cost, path in [answer]
    ]
    found.sort(key=lambda link: link[:3])
    used: set[int] = set()
    for _, one, two, path in found:
        if one not in used and two not in used:
            used |= {one, two}
            graph.add_way(ground.chain(path, tips[one]), tips[one].node, tips[two].node)
    open_ends = [tip for number, tip in enumerate(tips) if tip.is_end and number not in used]
    _run_into_sides(graph, ground, open_ends)
    graph.dissolve()


def _least(one: Tip, two: Tip) -> float:
    return LEAST_END if one.is_end or two.is_end else LEAST_FOOT


class _Ground:
    """The scene as a way across a gap sees it."""

    def __init__(self, scene: RoadScene, resolution_m: float) -> None:
        self._scene = scene
        self.resolution_m = resolution_m
        self._stands_for = np.zeros(256)
        roles = [entry.role for entry in scene.legend.classes]
        self._stands_for[: len(roles)] = [_MAY_HIDE[role] for role in roles]

    @property
    def sees_heads(self) -> bool:
        """Whether the shape of an end has to tell what no probability does."""
        return not self._scene.knows_roads

    def probability(self, row: int, column: int, height: int, width: int) -> Floats:
        """Return how likely a road is, float64 [H,W]; the part lies within the scene."""
        part = (row, column, height, width)
        classes = self._scene.read(*part)
        likely = self._stands_for[classes]
        if self._scene.knows_roads:
            likely = np.where(likely == 1, 1.0, self._scene.read_roads(*part))
        elif (sure := self._scene.read_confidence(*part)) is not None:
            doubt = 1 - np.nan_to_num(sure, nan=1.0)
            likely = np.where(likely == 1, 1.0, np.maximum(likely, doubt))
        # Steps of a file with 8 bits, so that a path does not depend on how they are rounded.
        return np.maximum(np.rint(likely * 255), 1) / 255

    def way(
        self, tip: Tip, places: list[Floats], least: float
    ) -> tuple[float, NDArray[np.intp]] | None:
        """Return cost and pixels, intp [N,2], of the best way from a tip to a place; None if poor.

        Args:
            tip: Where it begins.
            places: Rows and columns where it may end.
            least: The least probability on it.
        """
        from skimage.graph import MCP_Geometric

        # Not to the even number, which would depend on where the scene begins.
        corners = np.floor(np.array([tip.place, *places]) + 0.5).astype(np.intp)
        margin = round(10 / self.resolution_m) + 2
        low = np.maximum(corners.min(axis=0) - margin, 0)
        grid = self._scene.grid
        high = np.minimum(corners.max(axis=0) + margin + 1, (grid.height, grid.width))
        likely = self.probability(int(low[0]), int(low[1]), *(high - low).tolist())
        search = MCP_Geometric(1 / likely)
        start, *ends = (tuple(corner) for corner in (corners - low).tolist())
        costs, _ = search.find_costs([start], ends)
        best = min(ends, key=lambda end: (costs[end], end))
        path = np.array(search.traceback(best), np.intp)
        on = likely[tuple(path.T)]
        hidden = on < 0.5
        steps = np.append(0.0, np.hypot(*np.diff(path, axis=0).T))
        price = float((-np.log(on) * steps)[hidden].sum()) * self.resolution_m
        straight = float(np.hypot(*(path[-1] - path[0])))
        if on.min() < least or price > BUDGET_M or steps.sum() > 1.4 * straight + 4:
            return None
        return round(price, 6), path + low

    def chain(self, path: NDArray[np.intp], tip: Tip) -> NDArray[np.void]:
        """Return a way across a gap as a chain; it is as wide as the road that it goes on."""
        chain = np.zeros(len(path), CHAIN)
        chain["row"], chain["column"] = path.T
        chain["reach"], chain["road"] = tip.pixel["reach"], tip.pixel["road"]
        if self._scene.knows_roads:
            low = path.min(axis=0)
            size = (np.ptp(path, axis=0) + 1).tolist()
            likely = self.probability(int(low[0]), int(low[1]), *size)
            chain["sure"] = np.rint(likely[tuple((path - low).T)] * 255)
        return chain


def _tips(graph: RoadGraph, ground: _Ground) -> Iterator[Tip]:
    """Yield the ends of roads, and the feet of forks from which a road might go straight on."""
    along = max(3, round(ALONG_M / ground.resolution_m))
    for key, node in graph.nodes.items():
        ways = [graph.ways[number] for number in node.ways]
        if len(ways) == 1:
            chain = _from(graph, ways[0], key)
            if graph.at_border((int(chain[0]["row"]), int(chain[0]["column"]))):
                continue
            usual = float(np.median(chain["reach"]))
            if ground.sees_heads and float(chain[:along]["reach"].max()) > HEAD * usual:
                continue
            place = np.array([chain[0]["row"], chain[0]["column"]], np.float64)
            yield Tip(key, place, -_direction(chain, along), True, chain[0])
        elif len(ways) == 3 and len({id(way) for way in ways}) == 3:
            chains = [_from(graph, way, key) for way in ways]
            directions = [_direction(chain, along) for chain in chains]
            for number in range(3):
                one, two = (directions[other] for other in range(3) if other != number)
                own = directions[number]
                if one @ two < -0.85 and max(abs(own @ one), abs(own @ two)) < 0.8:
                    yield Tip(key, np.array(node.place), -own, False, chains[number][0])


def _from(graph: RoadGraph, way: Way, key: int) -> NDArray[np.void]:
    """Return the pixels of a way from one of its nodes on."""
    return graph.pixels(way if way.u == key else way.turned())


def _direction(chain: NDArray[np.void], along: int) -> Floats:
    """Return the unit vector in which a chain leads from its first pixel."""
    # What is nearest to a crossing or an end bends towards corners.
    start = min(len(chain) // 3, int(chain[0]["reach"]) // FINE)
    part = chain[start : start + along + 1]
    step = np.array(
        [float(part[-1][name]) - float(part[0][name]) for name in ("row", "column")], np.float64
    )
    length = float(np.hypot(*step))
    return step / length if length else step


def _without_crowds(tips: list[Tip], far: float) -> list[Tip]:
    """Return the tips that have no more than `CROWD` others within so many pixels."""
    from scipy.spatial import KDTree

    if len(tips) <= CROWD + 1:
        return tips
    places = np.array([tip.place for tip in tips])
    # A tip is the nearest to itself, and there may be others at its place.
    away, _ = KDTree(places).query(places, k=[CROWD + 2], distance_upper_bound=far)
    return [tip for tip, last in zip(tips, away[:, 0].tolist(), strict=True) if math.isinf(last)]


def _facing(tips: list[Tip], resolution_m: float) -> list[tuple[int, int]]:
    """Return the pairs of tips that face each other, by their numbers."""
    from scipy.spatial import KDTree

    if len(tips) < 2:
        return []
    places = np.array([tip.place for tip in tips])
    ways = np.array([tip.way for tip in tips])
    ends = np.array([tip.is_end for tip in tips])
    nodes = np.array([tip.node for tip in tips])
    pairs = KDTree(places).query_pairs(FAR_M / resolution_m, output_type="ndarray")
    one, two = np.sort(pairs, axis=1).T
    apart = places[two] - places[one]
    length = np.hypot(*apart.T)
    keep = (length > 0) & (nodes[one] != nodes[two])
    one, two, apart, length = one[keep], two[keep], apart[keep], length[keep]
    towards = apart / length[:, None]
    ahead = np.einsum("ij,ij->i", ways[one], towards)
    back = -np.einsum("ij,ij->i", ways[two], towards)
    turn = np.where(ends[one] & ends[two], TURN_END, TURN_FOOT)
    facing = (ahead >= turn) & (back >= turn)
    return sorted(zip(one[facing].tolist(), two[facing].tolist(), strict=True))


@dataclass(frozen=True)
class _Foot:
    """Where an end runs into a road.

    Attributes:
        tip: The end.
        number: The road's way.
        key: The pixel of that way that becomes a node.
        path: The pixels between, intp [N,2].
    """

    tip: Tip
    number: int
    key: int
    path: NDArray[np.intp]


def _run_into_sides(graph: RoadGraph, ground: _Ground, tips: list[Tip]) -> None:
    """Lead ends on to the roads that they run into; of two that run into each other one does."""
    feet = {foot.tip.node: foot for foot in _feet(graph, ground, tips)}
    for node in sorted(feet):
        foot = feet.get(node)
        if foot is None:  # joined already
            continue
        way = graph.ways[foot.number]
        for other in sorted({way.u, way.v} & feet.keys()):
            back = graph.ways[feet[other].number]
            if node < other and node in (back.u, back.v):
                end = feet.pop(other).tip
                answer = ground.way(foot.tip, [end.place], LEAST_END)
                if answer is not None:  # from end to end, so that no stub is left
                    del feet[node]
                    graph.add_way(ground.chain(answer[1], foot.tip), node, other)
                break
    into: dict[int, list[_Foot]] = {}
    for foot in feet.values():
        into.setdefault(foot.number, []).append(foot)
    for number, beside in into.items():
        graph.split(number, {foot.key for foot in beside})
        for foot in beside:
            graph.add_way(ground.chain(foot.path, foot.tip), foot.tip.node, foot.key)


def _feet(graph: RoadGraph, ground: _Ground, tips: list[Tip]) -> Iterator[_Foot]:
    """Yield where ends run into roads."""
    import shapely

    if not tips:
        return
    reach = SIDE_M / ground.resolution_m
    numbers = list(graph.ways)
    boxes = []
    for number in numbers:
        chain = graph.pixels(graph.ways[number])
        rows, columns = chain["row"], chain["column"]
        boxes.append(shapely.box(columns.min(), rows.min(), columns.max(), rows.max()))
    tree = shapely.STRtree(boxes)
    for tip in tips:
        places: list[tuple[int, int, int]] = []
        point = shapely.Point(tip.place[1], tip.place[0])
        for found in tree.query(point, predicate="dwithin", distance=reach).tolist():
            way = graph.ways[numbers[found]]
            if tip.node in (way.u, way.v):
                continue
            chain = graph.pixels(way)
            apart = np.column_stack([chain["row"], chain["column"]]) - tip.place
            length = np.hypot(*apart.T)
            ahead = apart @ tip.way >= TURN_END * length
            near = np.flatnonzero(ahead & (length <= reach) & (length > 0))
            near = near[(near > 0) & (near < len(chain) - 1)]
            places += [
                (int(chain[at]["row"]), int(chain[at]["column"]), numbers[found])
                for at in near.tolist()
            ]
        if not places:
            continue
        ends = sorted(places)
        answer = ground.way(tip, [np.array(end[:2], np.float64) for end in ends], LEAST_END)
        if answer is not None:
            path = answer[1]
            last = (int(path[-1][0]), int(path[-1][1]))
            number = next(end[2] for end in ends if end[:2] == last)
            yield _Foot(tip, number, graph.key(last), path)
