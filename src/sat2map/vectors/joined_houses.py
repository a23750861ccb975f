"""Houses where scenes meet, each once.

Where a border cuts a house, or two scenes show the same one there, the pieces become one house; a
lower scene's house that lies mostly on the ground of a higher one, which shows none there, is left
out.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.vectors.geopackage import Columns

CLOSE_M = 0.5
"""Metres that two pieces of a house may lie apart at a border."""

SAME = 0.3
"""Share of the smaller of two houses that the other covers, where both are the same."""


@dataclass
class JoinedHouses:
    """Houses near the borders of scenes' own ground, those of the higher scenes first."""

    shapes: list[Any] = field(default_factory=list)
    scenes: list[int] = field(default_factory=list)
    is_on: list[bool] = field(default_factory=list)
    is_cut: list[bool] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))

    def add(
        self,
        scene: int,
        shapes: NDArray[np.object_],
        columns: Columns,
        on: NDArray[np.bool_],
        cut: NDArray[np.bool_],
    ) -> None:
        """Take up the houses of a scene.

        Args:
            scene: Its number.
            shapes: The houses.
            columns: Their columns.
            on: Whether they lie mostly on the scene's own ground.
            cut: Whether the scene ends at them.
        """
        self.shapes += list(shapes)
        self.scenes += [scene] * len(shapes)
        self.is_on += on.tolist()
        self.is_cut += cut.tolist()
        for key, values in columns.items():
            self.columns[key] += list(values)

    def joined(self, close: float) -> tuple[NDArray[np.object_], Columns]:
        """Return each house once."""
        shapes = np.array(self.shapes, object)
        above = list(range(len(shapes)))

        def root(house: int) -> int:
            while above[house] != house:
                above[house] = above[above[house]]
                house = above[house]
            return house

        if len(shapes):
            pairs = shapely.STRtree(shapes).query(shapes, "dwithin", close)
            for one, other in pairs.T.tolist():
                if one < other and self._is_same(one, other, close):
                    low, high = sorted((root(one), root(other)))
                    above[high] = low
        groups: dict[int, list[int]] = defaultdict(list)
        for house in range(len(shapes)):
            groups[root(house)].append(house)
        kept = [group for group in groups.values() if any(self.is_on[one] for one in group)]
        found = [_united(shapes[group], close) for group in kept]
        largest = [max(group, key=lambda one: shapely.area(shapes[one])) for group in kept]
        columns: Columns = {
            key: [values[one] for one in largest] for key, values in self.columns.items()
        }
        if "area_m2" in columns:
            columns["area_m2"] = [
                area * shapely.area(house) / shapely.area(shapes[one])
                for area, house, one in zip(columns["area_m2"], found, largest, strict=True)
            ]
        return np.array(found, object), columns

    def _is_same(self, one: int, other: int, close: float) -> bool:
        """Return whether houses of two scenes are the same, or pieces of one that a border cuts."""
        if self.scenes[one] == self.scenes[other]:
            return False
        first, second = self.shapes[one], self.shapes[other]
        smaller = min(shapely.area(first), shapely.area(second))
        if shapely.area(shapely.intersection(first, second)) >= SAME * smaller:
            return True
        if not (self.is_cut[one] and self.is_cut[other]):
            return False
        along = shapely.intersection(shapely.buffer(first, close), shapely.boundary(second))
        return bool(shapely.length(along) > 4 * close)


def _united(shapes: NDArray[np.object_], close: float) -> Any:
    """Return pieces of a house as one polygon."""
    if len(shapes) == 1:
        return shapes[0]
    whole = shapely.union_all(shapes)
    if whole.geom_type != "Polygon":
        wide = shapely.buffer(whole, close, join_style="mitre")
        whole = shapely.buffer(wide, -close, join_style="mitre")
    if whole.geom_type != "Polygon":
        parts = shapely.get_parts(whole)
        whole = parts[np.argmax(shapely.area(parts))]
    return whole
