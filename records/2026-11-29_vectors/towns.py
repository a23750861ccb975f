"""Vectors of drawn towns beside their plans: true classes in, and end to end from the photo.

    python towns.py MODEL FOLDER [KIND METRES SIDE SEED ...]

Of each town `sat2map data synthetic --scene` writes photo, land cover and plan into FOLDER; then
`sat2map vectors` makes vectors of the cover and of the photo, and `sat2map evaluate-vectors`
compares them with the plan. Prints a row for each and the means, with 95 % intervals over the
towns. What is there already is not made again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

TOWNS = [("temperate", "1", "1024", str(seed)) for seed in range(301, 307)]
SHOWN = {
    "buildings": ("f1", "precision", "recall", "matched_iou", "right_corners"),
    "roads": ("apls_4m", "apls_15m", "completeness", "correctness"),
}


def run(*arguments: object) -> str:
    """Run a command of sat2map and return what it prints."""
    told = [sys.executable, "-m", "sat2map", *map(str, arguments), "--quiet"]
    return subprocess.run(told, check=True, stdout=subprocess.PIPE, text=True).stdout


def scores(folder: Path, vectors: Path) -> dict[str, float]:
    """Return the metrics of the vectors of a town."""
    found = {}
    for layer, truth in (("buildings", "scene.geojson"), ("roads", "scene_roads.geojson")):
        told = run("evaluate-vectors", vectors, folder / truth, "--layer", layer, "--json")
        metrics = json.loads(told)["metrics"]
        found |= {name: metrics[name]["mean"] for name in SHOWN[layer] if name in metrics}
    return found


def main(model: str, folder: str, *towns: str) -> None:
    """Print the tables."""
    rows: dict[str, list[dict[str, float]]] = {"true classes": [], "end to end": []}
    for kind, metres, side, seed in [towns[i : i + 4] for i in range(0, len(towns), 4)] or TOWNS:
        town = Path(folder) / f"{kind}-{seed}"
        if not town.is_dir():
            about = ("--kind", kind, "--resolution", metres, "--scene", side, "--seed", seed)
            run("data", "synthetic", town, *about)
        true, photo = town / "true.gpkg", town / "photo.gpkg"
        if not true.exists():
            run("vectors", town / "scene_cover.tif", true, "--legend", "cover")
        if not photo.exists():
            run("vectors", town / "scene.tif", photo, "--model", model)
        for name, vectors in (("true classes", true), ("end to end", photo)):
            rows[name].append(scores(town, vectors))
            print(town.name, name, {k: round(v, 3) for k, v in rows[name][-1].items()}, flush=True)
    random = np.random.default_rng(0)
    for name, found in rows.items():
        for metric in found[0]:
            values = np.array([row[metric] for row in found])
            means = values[random.integers(0, len(values), (10_000, len(values)))].mean(1)
            low, high = np.quantile(means, (0.025, 0.975))
            print(f"| {name} | {metric} | {values.mean():.3f} | {low:.3f} to {high:.3f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
