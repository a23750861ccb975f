"""Sheets of imagery: which of them lie on neighbouring ground."""

from __future__ import annotations

from pathlib import Path

import pytest
from affine import Affine
from rasterio.crs import CRS

from fixtures.ground import MakeGround
from sat2map.chips.ground import Sheet, open_sheets, regions_of
from sat2map.geo.grid import Grid
from sat2map.raster.options import Reading
from sat2map.raster.sources import Source, open_source


def sheet(west: float, north: float) -> Sheet:
    """A sheet of a hundredth of a degree, in degrees."""
    grid = Grid(100, 100, Affine(1e-4, 0, west, 0, -1e-4, north), CRS.from_epsg(4326))
    source = Source("scene", Path("a.tif"), "a.tif", "a.tif", (Path("a.tif"),))
    return Sheet(source, "a.tif", "a", Reading(), grid, None)


@pytest.mark.parametrize(
    ("one", "other", "regions"),
    [
        ((10.0, 50.0), (10.01, 50.0), 1),
        ((10.0, 50.0), (10.5, 50.0), 2),
        ((10.0, 50.0), (10.0, 50.5), 2),
        ((10.0, 50.5), (10.0, 50.0), 2),
        ((179.99, 50.0), (-180.0, 50.0), 1),  # on both sides of the antimeridian
        ((-180.0, 50.0), (179.99, 50.0), 1),
        ((179.995, 50.0), (-179.995, 50.0), 1),  # the first lies across it
        ((179.995, 50.0), (-179.5, 50.0), 2),
        ((179.995, 50.0), (0.0, 50.0), 2),
        ((179.5, 50.0), (-180.0, 50.0), 2),
    ],
)
def test_neighbours_are_one_region(
    one: tuple[float, float], other: tuple[float, float], regions: int
) -> None:
    assert len(regions_of([sheet(*one), sheet(*other)], 64)) == regions


def test_the_size_of_pixels_that_is_told_counts(make_ground: MakeGround) -> None:
    imagery = make_ground(100, 120).imagery
    (sheet,) = open_sheets(["a.tif"], [open_source(imagery)], Reading(pixel_size=0.5), 1.0)
    assert (sheet.grid.height, sheet.grid.width) == (50, 60)
