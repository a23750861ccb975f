"""The road network of a class map: lines that one can route on, and the nodes where they meet.

    with open_class_map("classes.tif") as classes, trace_roads(classes) as network:
        for line in network.lines: ...
        for node in network.nodes: ...

Centre lines are taken sheet by sheet (`centre_lines.py`) and put together to a graph
(`road_graph.py`), from which what a rough edge of the mask leaves is removed: spurs, forks of one
crossing, crumbs. A bridge is not told from a crossing: where two roads lie one above the other,
the network has a node.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.vectors.centre_lines import FINE, Reaches, RoadScene, sheet_lines
from sat2map.vectors.network import RoadLine, RoadNetwork, RoadNode
from sat2map.vectors.road_gaps import close_gaps
from sat2map.vectors.road_graph import Node, RoadGraph, Way

WINDOW = 1024
"""Side of the windows in pixels, unless said otherwise."""

HALF_WIDTH_M = 20.0
"""Half the width of the widest road; what is wider is an area that roads cross."""

ISLAND_M2 = 30.0
"""Holes up to this are filled: crowns, cars and specks. The island of a roundabout is larger."""

ISLAND_M = 12.0
"""But no hole that is longer than this."""

CRUMB_M = 15.0
"""What hangs together and is shorter is not a road."""

RING_M = 100.0
"""Forks are not merged along a ring that is no longer than this."""

SMOOTH = 4
"""Pixels to each side over which a line is smoothed, so that it is not a staircase."""

TOLERANCE = 0.5
"""Pixels by which a simplified line may miss the smooth one."""


@contextmanager
def trace_roads(
    scene: RoadScene,
    *,
    window: int = WINDOW,
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
) -> Iterator[RoadNetwork]:
    """Find the road network of a scene.

    Memory does not grow with the scene but for the graph: nodes, and of each road its ends and
    where its pixels lie in a temporary file. The network is the same whatever the windows.

    Args:
        scene: The class map; roads are the classes with the role "road".
        window: Side of the windows in pixels, at least 16.
        folder: Where the temporary file lies; the system's unless given. It takes 12 bytes for
            each pixel of a centre line and has no name.
        progress: Called with the number of windows done and of all.
        stop: Ends the work where it is set, with `InterruptedError`.

    Yields:
        The network, until the end of the block.
    """
    resolution_m = math.sqrt(scene.metres[0] * scene.metres[1])
    reaches = reaches_at(resolution_m)
    height, width = scene.grid.height, scene.grid.width
    corners = [(top, left) for top in range(0, height, window) for left in range(0, width, window)]
    with RoadGraph(height, width, folder) as graph:
        for done, (top, left) in enumerate(corners, 1):
            if stop is not None and stop.is_set():
                raise InterruptedError
            graph.add_sheet(sheet_lines(scene, reaches, top, left, window))
            if progress is not None:
                progress(done, len(corners))
        graph.connect()
        graph.remove_spurs(1.0, 2.0)
        graph.merge_crossings(RING_M / resolution_m)
        graph.remove_spurs(1.0, 2.0)
        close_gaps(graph, scene, resolution_m)
        graph.remove_crumbs(CRUMB_M / resolution_m)
        graph.remove_where(lambda way: _is_point(graph, way))
        numbers = {key: number for number, key in enumerate(sorted(graph.nodes))}
        yield RoadNetwork(
            _lines(graph, numbers, scene, resolution_m),
            [_node(number, graph.nodes[key]) for key, number in numbers.items()],
        )


def _lines(
    graph: RoadGraph, numbers: dict[int, int], scene: RoadScene, resolution_m: float
) -> Iterator[RoadLine]:
    """Yield the ways of a graph as lines, always in the same order."""
    known = scene.knows_roads or scene.knows_confidence
    roads = scene.legend.roads
    for way in graph.in_order():
        chain = graph.pixels(way)
        counts = np.bincount(chain["road"], minlength=256)[: len(roads)]
        # From the middle of a road to the next pixel beside it; half of them have no middle. The
        # median, as crossings are wide and trees hide an edge.
        reach = np.sort(chain["reach"])
        twice = int(reach[(len(reach) - 1) // 2]) + int(reach[len(reach) // 2])
        pixels_wide = twice / FINE - 0.5
        yield RoadLine(
            _line(graph, way, chain),
            int(np.where(roads, counts, -1).argmax()),
            numbers[way.u],
            numbers[way.v],
            float(chain["sure"].mean() / 255) if known else None,
            max(1.0, pixels_wide) * resolution_m,
        )


def _line(graph: RoadGraph, way: Way, chain: NDArray[np.void]) -> NDArray[np.float64]:
    """Return the points of a way along its pixels as it is drawn, (column, row), float64 [N,2]."""
    ends = [_point(graph.nodes[key]) for key in (way.u, way.v)]
    middles = np.column_stack([chain["column"], chain["row"]]) + 0.5
    points = np.concatenate([ends[:1], middles, ends[1:]])
    points = points[np.append(True, (np.diff(points, axis=0) != 0).any(axis=1))]
    # From its own corner on, where all is exact, or the last digits of where it lies would choose
    # between two points that are equally far off.
    corner = np.floor(points[0])
    line: NDArray[np.float64] = simplified(smoothed(points - corner)) + corner
    line[0], line[-1] = points[0], points[-1]
    return line


def _is_point(graph: RoadGraph, way: Way) -> bool:
    """Return whether a loop is so small that nothing of it is left when it is drawn."""
    return way.u == way.v and not np.diff(_line(graph, way, graph.pixels(way)), axis=0).any()


def _node(number: int, node: Node) -> RoadNode:
    return RoadNode(number, *_point(node), len(node.ways))


def _point(node: Node) -> tuple[float, float]:
    """Return column and row of a node, where the middle of the first pixel is (0.5, 0.5)."""
    row, column = node.place
    return column + 0.5, row + 0.5


def reaches_at(resolution_m: float) -> Reaches:
    """Return how far the steps look in pixels of so many metres."""
    return Reaches(
        hole_area=max(1, round(ISLAND_M2 / resolution_m**2)),
        hole_side=min(64, max(2, math.ceil(ISLAND_M / resolution_m))),
        passes=min(80, max(3, round(HALF_WIDTH_M / resolution_m))),
    )


def smoothed(points: NDArray[np.float64], reach: int = SMOOTH) -> NDArray[np.float64]:
    """Return a line, float64 [N,2], whose points are means of so many to each side.

    Towards the ends there are fewer, and the ends stay where they are.
    """
    count = len(points)
    sums = np.concatenate([np.zeros((1, 2)), np.cumsum(points, axis=0)])
    places = np.arange(count)
    sides = np.minimum(np.minimum(places, count - 1 - places), reach)
    means: NDArray[np.float64] = (sums[places + sides + 1] - sums[places - sides]) / (
        2 * sides + 1
    )[:, None]
    means[0], means[-1] = points[0], points[-1]
    return means


def simplified(points: NDArray[np.float64], tolerance: float = TOLERANCE) -> NDArray[np.float64]:
    """Return a line, float64 [N,2], with no more points than it takes to stay within a tolerance.

    A closed line keeps four points at least.
    """
    line = shapely.LineString(np.column_stack([points, np.arange(len(points))]))
    simple = line.simplify(tolerance, preserve_topology=False)
    kept = points[shapely.get_coordinates(simple, include_z=True)[:, 2].astype(np.intp)]
    closed = bool((points[0] == points[-1]).all())
    return kept if len(kept) >= (4 if closed else 2) else points
