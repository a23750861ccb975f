"""Vectors of drawn towns beside their plans: true classes in, and end to end from the photo.

    python towns.py MODEL FOLDER [KIND METRES SIDE SEED ...]

Of each town `sat2map data synthetic --scene` writes photo, land cover and plan into FOLDER; then
`sat2map vectors` makes vectors of the cover and of the photo, and `sat2map evaluate-vectors`
compares them with the plan. Prints a row for each and the means, with 95 % intervals over the
towns. What is there already is not made again.

Roads are compared thrice: in the whole scene, where a road whose middle lies beyond the border is
seen and not in the plan; without the outer 32 m; and there with roads that cross taken to meet on
bridges too, since an image does not tell a bridge from a crossing. Then widths are compared with
that of the asphalt of the plan's road beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import geopandas
import numpy as np
from rasterio.warp import transform_bounds

RIM_M = 32.0
TOWNS = [("temperate", "1", "1024", str(seed)) for seed in range(301, 307)]
SHOWN = {
    "buildings": ("f1", "precision", "recall", "matched_iou", "right_corners"),
    "roads": ("apls_4m", "apls_15m", "completeness", "correctness"),
}


def run(*arguments: object) -> str:
    """Run a command of sat2map and return what it prints."""
    told = [sys.executable, "-m", "sat2map", *map(str, arguments), "--quiet"]
    return subprocess.run(told, check=True, stdout=subprocess.PIPE, text=True).stdout


def inner(folder: Path) -> str:
    """Return the part of a town that is 32 m and more from its border, in degrees."""
    about = json.loads((folder / "scene_roads.geojson").read_text())["georeference"]
    west, south, east, north = about["bounds"]
    bounds = west + RIM_M, south + RIM_M, east - RIM_M, north - RIM_M
    return ",".join(
        f"{value:.9f}" for value in transform_bounds(about["crs"], "EPSG:4326", *bounds)
    )


GUTTER_M = {"collector": 0.8, "main_road": 0.8, "highway": 2.0}
"""What of the plan's width is no asphalt, by kind; of other roads it is 1.2."""


def widths(folder: Path, vectors: Path) -> dict[str, float]:
    """Return by how much widths of found roads differ from those of the town's asphalt.

    Each found road is compared with the one of the plan that is nearest to its middle, within 4 m:
    mean difference, mean of its size, and the mean size if each road were of the town's mean width.
    """
    found = geopandas.read_file(vectors, layer="roads")
    wide = "width_m" if "width_m" in found else "drawn_width_m"
    found["found_m"] = found.pop(wide)
    true = geopandas.read_file(folder / "scene_roads.geojson").to_crs(found.crs)
    true["width_m"] -= [GUTTER_M.get(kind, 1.2) for kind in true["kind"]]
    found["geometry"] = found.geometry.interpolate(0.5, normalized=True)
    beside = found.sjoin_nearest(true[["width_m", "geometry"]], max_distance=4.0)
    off = (beside["found_m"] - beside["width_m"]).to_numpy()
    spread = np.abs(beside["width_m"] - beside["width_m"].mean()).mean()
    return {
        "width_off_m": float(off.mean()),
        "width_error_m": float(np.abs(off).mean()),
        "spread_m": float(spread),
    }


LEAST_M2 = 20.0
"""Buildings below this are dissolved by `sat2map vectors` and are no misses of its outlines."""


def buildings(folder: Path) -> str:
    """Write the plan's buildings that are large enough into a file of their own."""
    plan = geopandas.read_file(folder / "scene.geojson")
    plan = plan[plan["class"] == "building"]
    plan = plan[plan.to_crs(plan.estimate_utm_crs()).area >= LEAST_M2]
    plan.to_file(folder / "buildings.geojson")
    return "buildings.geojson"


def scores(folder: Path, vectors: Path) -> dict[str, float]:
    """Return the metrics of the vectors of a town."""
    found = {}
    for layer, truth in (("buildings", buildings(folder)), ("roads", "scene_roads.geojson")):
        told = run("evaluate-vectors", vectors, folder / truth, "--layer", layer, "--json")
        metrics = json.loads(told)["metrics"]
        found |= {name: metrics[name]["mean"] for name in SHOWN[layer] if name in metrics}
    for name, options in (("inner", ()), ("bridges meet", ("--bridges-meet",))):
        roads = (vectors, folder / "scene_roads.geojson", "--layer", "roads", "--json")
        told = run("evaluate-vectors", *roads, "--bbox", inner(folder), *options)
        metrics = json.loads(told)["metrics"]
        found |= {f"{one}, {name}": metrics[one]["mean"] for one in ("apls_4m", "apls_15m")}
    return found | widths(folder, vectors)


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
