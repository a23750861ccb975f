"""What models are worth at home and away, in one table: of every seventh held-out pair of `maps`.

    python table.py DATA SETS MODEL [MODEL ...]

DATA is the folder of what was given (`maps`, `rasters`), SETS that of the data sets of class masks
(`naip`, `massachusetts_1m46`). Networks run on torch, float32, whatever files for OpenVINO lie
beside their weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from sat2map.data.pairs import find_pairs
from sat2map.evaluation.evaluate import evaluate_masks
from sat2map.evaluation.score import score_images, showing, summarise
from sat2map.translation.translator import Translator, load

sys.path.insert(0, str(Path(__file__).parents[1] / "2026-11-29_self-training"))
from rasters import judge

EVERY = 7
HOME = ("road_cldice", "mean_iou", "psnr", "edge_density")
HOUSES = ("massachusetts_1m", "atlanta_rgbnir_50cm", "new_brunswick_50cm")


def rows(model: Translator, data: Path, sets: Path) -> dict[str, float]:
    """Return each figure of one model by its name."""
    found: dict[str, float] = {}
    pairs = find_pairs(data / "maps", "val")[::EVERY]
    for size in (256, None):
        scores = score_images(showing(model), pairs, size=size, legend=model.legend)
        metrics = summarise(scores.scores, model.legend).metrics
        for name in HOME:
            found[f"`maps` at {size or 600}: {name}"] = metrics[name].mean
    for name, metric in (("massachusetts_1m46", "road_cldice"), ("naip", "iou_vegetation")):
        found[f"{name}, held out: {metric}"] = (
            evaluate_masks(model, sets / name).summary.metrics[metric].mean
        )
    seen = judge(model, data / "rasters")
    found["three rasters: iou_building"] = float(np.mean([seen[f"{r} building"] for r in HOUSES]))
    for what in ("road", "water", "vegetation"):
        found[f"new_brunswick_50cm: iou_{what}"] = seen[f"new_brunswick_50cm {what}"]
    for what in ("road", "water"):
        found[f"las_vegas_27cm: share of {what}"] = seen[f"las_vegas_27cm share of {what}"]
    return found


def main(data: str, sets: str, *names: str) -> None:
    """Print the table."""
    table = [rows(load(name, "cpu", runtime="torch"), Path(data), Path(sets)) for name in names]
    print("| |", " | ".join(Path(name.removesuffix("/model")).name for name in names), "|")
    print("|---|" + "---|" * len(names))
    for metric in table[0]:
        print(f"| {metric} |", " | ".join(f"{row[metric]:.3f}" for row in table), "|")


if __name__ == "__main__":
    main(*sys.argv[1:])
