"""What a scene is, told from its header and a thinned look at it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sat2map.raster.grid import bounds_wgs84, ground_resolution
from sat2map.raster.options import Reading
from sat2map.raster.scale import knows
from sat2map.raster.source import Scene


def scene_facts(path: Path, known: tuple[float, float] | bool | None = False) -> dict[str, Any]:
    """Return what a scene is, as JSON's own types.

    Args:
        path: Any raster that GDAL opens.
        known: Finest and coarsest metres per pixel that a model knows, None where the model
            does not say; False leaves the model out.

    Returns:
        `width`, `height`, `bands` (of each its `type`, `colour` and `nodata`), `crs`, `bounds`
        (west, south, east, north in degrees), `ground_resolution_m` (along a row, along a
        column), `nodata_share` (0 to 1, from a thinned look at
        the bands that would be translated), and `model_knows_scale`.

    Raises:
        DataError: The file cannot be read.
    """
    with Scene(path, 3, Reading(value_range=(0, 1)), quiet=True) as scene:
        dataset = scene.dataset
        ground = ground_resolution(scene.grid)
        facts: dict[str, Any] = {
            "name": scene.opening.name,
            "driver": dataset.driver,
            "width": dataset.width,
            "height": dataset.height,
            "bands": [
                {"type": kind, "colour": colour.name, "nodata": _plain(nodata)}
                for kind, colour, nodata in zip(
                    dataset.dtypes, dataset.colorinterp, dataset.nodatavals, strict=True
                )
            ],
            "crs": None if scene.grid.crs is None else scene.grid.crs.to_string(),
            "bounds": bounds_wgs84(scene.grid),
            "ground_resolution_m": ground,
            "nodata_share": 1 - float(scene.sample()[1].mean()),
        }
        if not isinstance(known, bool):
            facts["model_knows_scale"] = knows(known, ground)
        return facts


def describe_scene(facts: dict[str, Any]) -> str:
    """Return the facts for people."""
    kinds = sorted({band["type"] for band in facts["bands"]})
    colours = ", ".join(band["colour"] for band in facts["bands"])
    ground = facts["ground_resolution_m"]
    bounds = facts["bounds"]
    lines = [
        ("size", f"{facts['width']} x {facts['height']} pixels"),
        ("bands", f"{len(facts['bands'])} ({colours})"),
        ("type", ", ".join(kinds)),
        ("format", facts["driver"]),
        ("CRS", (facts["crs"] or "none").splitlines()[0]),
        ("bounds", "unknown" if bounds is None else "{:.6f},{:.6f},{:.6f},{:.6f}".format(*bounds)),
        ("ground resolution", "unknown" if ground is None else "{:.3g} x {:.3g} m".format(*ground)),
        ("nodata", f"{facts['nodata_share']:.1%} of the pixels"),
    ]
    if "model_knows_scale" in facts:
        lines.append(("model knows scale", facts["model_knows_scale"]))
    return "\n".join([f"# {facts['name']}", "", *(f"{name:20}{text}" for name, text in lines)])


def _plain(value: float | None) -> float | str | None:
    """Return a number that JSON can hold."""
    return value if value is None or value == value else "nan"
