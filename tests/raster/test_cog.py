"""Maps of all kinds become Cloud Optimized GeoTIFFs that say the same as GDAL's own."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import Affine
from rio_cogeo import cog_validate

from sat2map.errors import StoppedError
from sat2map.geo.grid import Grid
from sat2map.legend import COVER
from sat2map.raster import cog
from sat2map.raster.halving import halved_bands, halved_classes
from sat2map.raster.named import Named
from sat2map.raster.output import write_raster
from sat2map.raster.strips import TILE, Layout, Strips

HEIGHT, WIDTH = 1101, 1537
GRID = Grid(HEIGHT, WIDTH, Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000), CRS.from_epsg(32633))
POINTS = ((0.0, 0.0, 14.0, 45.0), (1537.0, 0.0, 14.02, 45.0), (0.0, 1101.0, 14.0, 44.99))

LAYOUTS = {
    "colours": Layout(GRID, masked=False),
    "colours with a mask": Layout(GRID, masked=True, drawn=True),
    "numbers with a mask": Layout(GRID, masked=True, legend=COVER),
    "numbers with nodata": Layout(GRID, masked=True, legend=COVER, nodata=255),
    "values with a mask": Layout(GRID, masked=True, values=1),
    "points": Layout(Grid(HEIGHT, WIDTH, Affine.identity(), CRS.from_epsg(4326), POINTS), False),
}


def content(layout: Layout) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return random pixels, [h,w,bands], and where there is a map."""
    random = np.random.default_rng(7)
    top = 256 if layout.legend is None else len(layout.legend)
    pixels = random.integers(0, top, (HEIGHT, WIDTH, layout.bands), dtype=np.uint8)
    valid = random.random((HEIGHT, WIDTH)) < 0.6
    valid[200:, :700] = False
    return pixels, valid if layout.masked else np.ones_like(valid)


def strips_of(folder: Path, layout: Layout) -> Strips:
    """Return strips of two rows of tiles and of the rest, of blocks that are no tiles."""
    folder.mkdir()
    strips = Strips(folder, "map", layout, overviews=True)
    pixels, valid = content(layout)
    for first, last in ((0, 2 * TILE), (2 * TILE, HEIGHT)):
        strips.begin(first, last)
        for left in range(0, WIDTH, 400):
            block = (slice(first, last), slice(left, left + 400))
            strips.write(first, left, pixels[block], valid[block])
        strips.finish()
    return strips


def levels(layout: Layout) -> list[tuple[NDArray[np.uint8], NDArray[np.bool_] | None]]:
    """Return what the map and its overviews should hold, [bands,h,w], and their masks."""
    pixels, valid = content(layout)
    bands = np.where(valid, pixels.transpose(2, 0, 1), layout.hidden).astype(np.uint8)
    found = [(bands, valid if layout.masked else None)]
    while max(found[-1][0].shape[1:]) > TILE:
        bands, mask = found[-1]
        if layout.legend is None:
            found.append(halved_bands(bands, mask))
        else:
            numbers = halved_classes(bands[0], layout.hidden)
            found.append((numbers[None], numbers != layout.hidden))
    return found


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("name", LAYOUTS)
def test_pixels_masks_overviews_and_all_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, big: bool
) -> None:
    if big:  # as what exceeds four gigabytes is written
        monkeypatch.setattr(cog, "LARGEST", 0)
    layout, target = LAYOUTS[name], tmp_path / "map.tif"
    strips = strips_of(tmp_path / "strips", layout)
    write_raster(
        strips, tmp_path / "strips", Named(target, "tiff"), {"MADE": "here"}, threading.Event()
    )
    assert target.read_bytes()[2] == (43 if big else 42)
    assert cog_validate(target, strict=True, quiet=True)[0]
    expected = levels(layout)
    for level, (bands, mask) in enumerate(expected):
        options = {"overview_level": level - 1} if level else {}
        with rasterio.open(target, **options) as file:
            assert np.array_equal(file.read(), bands)
            if mask is not None:
                assert np.array_equal(file.dataset_mask() > 0, mask)
    with rasterio.open(target) as file:
        assert file.overviews(1) == [2, 4][: len(expected) - 1]
        assert file.tags()["MADE"] == "here"
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.crs == layout.grid.crs or name == "points"
        assert file.transform == layout.grid.transform
        assert file.nodata == layout.nodata
        if layout.legend is not None:
            assert file.colorinterp[0] is rasterio.enums.ColorInterp.palette
            assert [file.colormap(1)[i][:3] for i in range(len(layout.legend))] == [
                entry.colour for entry in layout.legend.classes
            ]
        if name == "points":
            points, crs = file.gcps
            assert [(p.col, p.row, p.x, p.y) for p in points] == list(POINTS)
            assert crs == layout.grid.crs


def test_gdal_makes_the_same_file_of_the_same_map(tmp_path: Path) -> None:
    layout = LAYOUTS["colours with a mask"]
    strips = strips_of(tmp_path / "strips", layout)
    ours, theirs = tmp_path / "ours.tif", tmp_path / "theirs.tif"
    write_raster(strips, tmp_path / "strips", Named(ours, "tiff"), {}, threading.Event())
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        rasterio.shutil.copy(
            ours, theirs, driver="COG", compress="deflate", overview_resampling="average"
        )
    with rasterio.open(ours) as one, rasterio.open(theirs) as other:
        assert one.profile == other.profile
        assert one.overviews(1) == other.overviews(1)
        assert one.mask_flag_enums == other.mask_flag_enums
        assert one.tags(ns="IMAGE_STRUCTURE") == other.tags(ns="IMAGE_STRUCTURE")


def test_overviews_grow_with_the_strips(tmp_path: Path) -> None:
    layout = LAYOUTS["colours"]
    strips = Strips(tmp_path, "map", layout, overviews=True)
    pixels, valid = content(layout)
    strips.begin(0, TILE)
    strips.write(0, 0, pixels[:TILE], valid[:TILE])
    strips.finish()
    assert strips.files(1) == []  # one row of tiles is half of what one of the overview needs
    strips.begin(TILE, 2 * TILE)
    strips.write(TILE, 0, pixels[TILE : 2 * TILE], valid[TILE : 2 * TILE])
    strips.finish()
    assert [first for first, _ in strips.files(1)] == [0]
    assert strips.files(2) == []


def test_the_work_breaks_off_where_it_is_asked_to(tmp_path: Path) -> None:
    strips = strips_of(tmp_path / "strips", LAYOUTS["colours"])
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        write_raster(strips, tmp_path / "strips", Named(tmp_path / "map.tif", "tiff"), {}, stop)
    assert not (tmp_path / "map.tif").exists()
