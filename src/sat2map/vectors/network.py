"""A road network on its way to the file: lines and nodes, in pixels of the scene.

Who finds the roads gives a `RoadNetwork`; who writes the file adds lengths in metres and the
scene's coordinates, in the order in which lines and nodes come.

- Each end of each line, of a closed loop too, has the coordinates of a node, exactly.
- `u` and `v` are values of `RoadNode.node`: the nodes of a line's first and last point.
- Lines and nodes may come from an iterator that reads them from the disk. They are asked for
  once, nodes after lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RoadNode:
    """A place where roads meet or end.

    Attributes:
        node: Its number, from 0, without gaps.
        column: Where it is, in pixels from the left edge of the scene.
        row: In pixels from its upper edge.
        degree: How many ends of roads meet here; a closed loop has two.
    """

    node: int
    column: float
    row: float
    degree: int


@dataclass(frozen=True)
class RoadLine:
    """A road from node to node.

    Attributes:
        points: (column, row) in pixels, float64 [N,2], at least two. Pixels are squares of side
            1, so the centre of the first one is (0.5, 0.5).
        number: The class, a number of the legend.
        u: The node at the first point.
        v: The node at the last point; of a closed loop it is `u`.
        confidence: Mean probability of a road along it, 0 to 1; None where it is not known.
        width_m: Median width in metres on the ground; None where it is not known.
    """

    points: NDArray[np.float64]
    number: int
    u: int
    v: int
    confidence: float | None = None
    width_m: float | None = None


@dataclass(frozen=True)
class RoadNetwork:
    """The roads of a scene.

    Attributes:
        lines: The roads.
        nodes: Where they meet or end.
        width_is_true: Whether widths were learned from outlines of roads (the layer's column is
            then `width_m`), or are those of a map's drawn roads (`drawn_width_m`).
    """

    lines: Iterable[RoadLine]
    nodes: Iterable[RoadNode]
    width_is_true: bool = False
