"""Ground that is known to the pixel: imagery and the vectors on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.transform import Affine
from rasterio.warp import transform

UTM = "EPSG:32633"
ORIGIN = (392_000.0, 5_820_000.0)


@dataclass(frozen=True)
class Ground:
    """Imagery of noise at 1 m, and a file of vectors.

    Attributes:
        imagery: GeoTIFF in UTM zone 33, its upper left corner at `ORIGIN`.
        vectors: GeoJSON with the property `class`.
        pixels: The imagery, uint8 [H,W,3].
    """

    imagery: Path
    vectors: Path
    pixels: NDArray[np.uint8]


class MakeGround:
    """Makes ground in a folder.

    Args:
        folder: Where its files go.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(
        self,
        height: int = 150,
        width: int = 200,
        shapes: list[tuple[str, Any]] | None = None,
        **more: Any,
    ) -> Ground:
        pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
        shapes = blocks(height, width) if shapes is None else shapes
        imagery = self.imagery("ortho.tif", pixels, **more)
        return Ground(imagery, self.vectors("shapes.geojson", shapes), pixels)

    def imagery(self, name: str, pixels: NDArray[np.uint8], **more: Any) -> Path:
        """Write a GeoTIFF, its upper left corner at `ORIGIN`, 1 m unless told otherwise."""
        place = Affine(1, 0, ORIGIN[0], 0, -1, ORIGIN[1])
        mask = more.pop("mask", None)
        facts = {"crs": UTM, "transform": place, "photometric": "rgb", "dtype": "uint8"} | more
        height, width, count = pixels.shape
        size = {"height": height, "width": width, "count": count}
        path = self._folder / name
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(path, "w", driver="GTiff", **size, **facts) as file,
        ):
            file.write(pixels.transpose(2, 0, 1))
            if mask is not None:
                file.write_mask(mask)
        return path

    def vectors(self, name: str, shapes: list[tuple[str, Any]], crs: str = "EPSG:4326") -> Path:
        """Write shapes with their class, which are given in pixels from `ORIGIN`."""

        def placed(points: NDArray[np.float64]) -> NDArray[np.float64]:
            xs, ys = ORIGIN[0] + points[:, 0], ORIGIN[1] - points[:, 1]
            return np.stack(transform(UTM, crs, xs, ys), 1)

        there = [shapely.transform(shape, placed) for _, shape in shapes]
        pyogrio.raw.write(
            self._folder / name,
            geometry=shapely.to_wkb(np.array(there, object)),
            fields=["class"],
            field_data=[np.array([own for own, _ in shapes], object)],
            geometry_type="Polygon" if name.endswith(".shp") else "Unknown",
            crs=crs,
        )
        return self._folder / name


def blocks(height: int, width: int) -> list[tuple[str, Any]]:
    """Return buildings all over some ground, at places that can be told from each other."""
    return [
        ("building", shapely.box(x + y % 7, y, x + y % 7 + 8, y + 6))
        for y in range(3, height, 16)
        for x in range(2, width, 16)
    ]


@pytest.fixture
def make_ground(tmp_path: Path) -> MakeGround:
    """Return a maker of ground of some size."""
    return MakeGround(tmp_path)
