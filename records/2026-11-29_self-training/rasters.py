"""What a model finds on orthophotos that nobody learned from, beside vectors of them.

    python rasters.py FOLDER MODEL [MODEL ...]

FOLDER has the four rasters with their vectors. Each is shown at 0.7 and at 1 m, so that no model
is judged by one scale. Printed is the IoU of each class of land cover that vectors tell, and of
Las Vegas, which has none, the share of each class.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.features import rasterize

from sat2map.legend import COVER
from sat2map.translation.translator import Translator, load

SCALES_M = (0.7, 1.0)
TOLD = {
    "massachusetts_1m": [("massachusetts_buildings.gpkg", None, "building")],
    "atlanta_rgbnir_50cm": [("atlanta_buildings.geojson", None, "building")],
    "new_brunswick_50cm": [
        ("new_brunswick_landcover.gpkg", "Building", "building"),
        ("new_brunswick_landcover.gpkg", "Road", "road"),
        ("new_brunswick_landcover.gpkg", "Forest", "vegetation"),
        ("new_brunswick_landcover.gpkg", "Hydro", "water"),
    ],
    "las_vegas_27cm": [],
}


def judge(model: Translator, folder: Path) -> dict[str, float]:
    """Return the mean over the scales of each figure, by raster and class."""
    figures: dict[str, list[float]] = {}
    for name, layers in TOLD.items():
        with rasterio.open(folder / f"{name}.tif") as raster:
            photo = raster.read([1, 2, 3]).transpose(1, 2, 0)
            transform, crs = raster.transform, raster.crs
        for scale in SCALES_M:
            factor = transform.a / scale
            size = (round(photo.shape[1] * factor), round(photo.shape[0] * factor))
            way = Image.Resampling.BOX if factor < 1 else Image.Resampling.BILINEAR
            found = model.translate(
                np.asarray(Image.fromarray(photo).resize(size, way)), output="cover"
            )
            shown = transform * transform.scale(photo.shape[1] / size[0], photo.shape[0] / size[1])
            for file, kind, cls in layers:
                shapes = pyogrio.read_dataframe(folder / file).to_crs(crs)
                if kind is not None:
                    shapes = shapes[shapes.Niveau_3 == kind]
                true = rasterize(shapes.geometry, found.shape, transform=shown).astype(bool)
                is_found = found == COVER.names.index(cls)
                figures.setdefault(f"{name} {cls}", []).append(_iou(is_found, true))
            if not layers:
                for k, cls in enumerate(COVER.names):
                    share = float((found == k).mean())
                    figures.setdefault(f"{name} share of {cls}", []).append(share)
    return {name: round(float(np.mean(values)), 3) for name, values in figures.items()}


def _iou(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    return float((found & true).sum() / (found | true).sum())


def main(folder: str, *models: str) -> None:
    """Print a line of JSON for each model."""
    for name in models:
        print(json.dumps({"model": name} | judge(load(name), Path(folder))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
