"""Buildings of one class map by three programs, beside the true footprints.

    python peer.py PEER_PYTHON FOLDER NAME CLASSES TRUTH [NAME CLASSES TRUTH ...]

CLASSES is a class map of land cover, TRUTH the footprints. `sat2map` is `sat2map vectors`, with
land cover and roads; `pixels` is rasterio.features.shapes, what gdal_polygonize does; `peer`
is buildingregulariser on the buildings of `pixels` of 20 m2 and more, with the Python of an
environment that has it. Prints processor time and peak memory of each program as the operating
system counts them; the metrics of `sat2map evaluate-vectors`, strict and with what stands within
1.5 m as one; how many metres of walls two buildings share, how many pairs overlap, and whether the
buildings are a valid coverage. Corners along pixels are right of themselves.
"""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pyogrio
import shapely

BENCHMARK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "vectors.py"))
BUILDINGS = """
import sys, geopandas
frame = geopandas.read_file(sys.argv[1])
frame[(frame["class"] == 1) & (frame.area >= 20)].to_file(sys.argv[2])
"""


def scores(found: Path, truth: Path, *options: str) -> dict[str, float]:
    """Return the metrics of buildings."""
    told = ["evaluate-vectors", found, truth, "--layer", "buildings", "--json", "--quiet", *options]
    printed = subprocess.run(
        [sys.executable, "-m", "sat2map", *map(str, told)],
        check=True, stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip
    return {name: value["mean"] for name, value in json.loads(printed)["metrics"].items()}


def walls(path: Path) -> tuple[float, int, bool]:
    """Return metres of common walls, pairs that overlap, and whether it is a valid coverage."""
    layers = [name for name, _ in pyogrio.list_layers(path)]
    layer = "buildings" if "buildings" in layers else layers[0]
    shapes = shapely.get_parts(pyogrio.read_dataframe(path, layer=layer).geometry.values)
    one, other = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    one, other = one[one < other], other[one < other]
    both = shapely.intersection(shapely.boundary(shapes[one]), shapely.boundary(shapes[other]))
    overlap = shapely.area(shapely.intersection(shapes[one], shapes[other])) > 0.01
    return (
        float(shapely.length(both).sum()),
        int(overlap.sum()),
        bool(shapely.coverage_is_valid(shapes)),
    )


def main(peer: str, folder: str, *places: str) -> None:
    """Print the table."""
    titles = (
        "place", "program", "seconds", "MB", "F1", "F1, rows as one", "matched IoU",
        "right corners", "common walls, m", "overlapping pairs", "valid coverage",
    )  # fmt: skip
    print(f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|")
    for name, classes, truth in [places[i : i + 3] for i in range(0, len(places), 3)]:
        at = {kind: Path(folder) / f"{name}-{kind}.gpkg" for kind in ("sat2map", "pixels", "peer")}
        for path in at.values():
            path.unlink(missing_ok=True)
        ours = ["vectors", classes, str(at["sat2map"]), "--legend", "cover", "-q"]
        measured = BENCHMARK["measured"]
        cost = {
            "sat2map": measured(sys.executable, BENCHMARK["OURS"], *ours),
            "pixels": measured(sys.executable, BENCHMARK["PIXELS"], classes, str(at["pixels"])),
            "peer": measured(peer, BENCHMARK["PEER"], str(at["pixels"]), str(at["peer"])),
        }
        houses = Path(folder) / f"{name}-houses.gpkg"
        houses.unlink(missing_ok=True)
        measured(peer, BUILDINGS, str(at["pixels"]), str(houses))
        for kind, (seconds, megabytes) in cost.items():
            found = houses if kind == "pixels" else at[kind]
            strict, rows = (
                scores(found, Path(truth)),
                scores(found, Path(truth), "--rows-within", "1.5"),
            )
            metres, pairs, valid = walls(found)
            print(f"| {name} | {kind} | {seconds:.1f} | {megabytes:.0f} | {strict['f1']:.3f} "
                  f"| {rows['f1']:.3f} | {strict.get('matched_iou', 0):.3f} "
                  f"| {strict['right_corners']:.3f} | {metres:.0f} | {pairs} "
                  f"| {'yes' if valid else 'no'} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
