"""What true maps have beside their roads, and how much of their edges is thin lines.

python outlines.py DATA [PICTURES]

For validation pairs of DATA, evenly spread: the share of each class among the pixels that lie
within 2 pixels of a true road, at 256 pixels and as they are; and the edge density of the map
painted of its own labels, as it is and without lines thinner than 2 pixels (3x3 median).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sat2map.calibration import spread
from scipy.ndimage import maximum_filter, median_filter

from sat2map.data.pairs import find_pairs
from sat2map.evaluation.classes import ROAD_SHARE, area_shares
from sat2map.evaluation.edges import edge_density, edges
from sat2map.evaluation.score import read_compared
from sat2map.legend import STREETS


def main(data: str, pictures: str = "40") -> None:
    """Print both tables."""
    found = find_pairs(Path(data), "val")
    true_maps = [
        read_compared(found[i], "forward", None)[1] for i in spread(len(found), int(pictures))
    ]
    labelled = [STREETS.label(picture) for picture in true_maps]
    print("beside roads:", *STREETS.names)
    for size in (256, None):
        rows = []
        for labels in labelled:
            side = size or len(labels)
            shares = area_shares(labels, len(STREETS), side, side)
            road = shares[..., STREETS.roads].sum(2) > ROAD_SHARE
            beside = maximum_filter(road, 5) & ~road
            if beside.any():
                rows.append(shares[beside].mean(0))
        print(size or "native", *np.mean(rows, 0).round(3))
    drawn = {
        "painted of its labels": lambda labels: labels,
        "median": lambda x: median_filter(x, 3),
    }
    true_edges = [edges(picture) for picture in true_maps]
    for name, change in drawn.items():
        densities = [
            edge_density(edges(STREETS.paint(change(labels))), true)
            for labels, true in zip(labelled, true_edges, strict=True)
        ]
        print(f"edge density, {name}: {np.nanmean(densities):.3f}")


main(*sys.argv[1:])
