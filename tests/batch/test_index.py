"""Many maps open as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from sat2map.batch.catalogue import Entry, write_catalogue
from sat2map.batch.index import tiles_in_order, write_index
from sat2map.errors import DataError, OutputError
from sat2map.translation.translator import load

from .test_catalogue import SIDE, make_map
from .test_catalogue import model as model

pytest.importorskip("pyogrio")


@pytest.fixture
def entries(tmp_path: Path, model: Path) -> list[Entry]:
    """Return the entries of two maps that overlap by 14 pixels; the later one is taken first."""
    out, run = tmp_path / "out", load(model, runtime="torch")
    early, late = (
        {"TIFFTAG_DATETIME": "2010:01:01 00:00:00"},
        {"TIFFTAG_DATETIME": "2020:01:01 00:00:00"},
    )
    found = [
        make_map(out, "a/late.tif", run, tags=late, classes=True),
        make_map(out, "early.tif", run, 500_050, tags=early, seed=1, classes=True),
    ]
    write_catalogue(out, found, model)
    return found


def test_gdal_opens_them_as_one(tmp_path: Path, entries: list[Entry]) -> None:
    out = tmp_path / "out"
    image, classes = write_index(out, entries)
    with rasterio.open(image) as whole, rasterio.open(out / "a/late.tif") as late:
        assert (whole.driver, whole.count, whole.shape) == ("GTI", 3, (SIDE, SIDE + 50))
        assert whole.crs == late.crs
        assert np.array_equal(whole.read()[:, SIDE // 4 :, :SIDE], late.read()[:, SIDE // 4 :])
        mask = whole.dataset_mask()
        assert not mask[: SIDE // 4].any()
        assert mask[SIDE // 4 :].all()
    with rasterio.open(classes) as whole, rasterio.open(out / "early.classes.tif") as early:
        assert whole.nodata == 255
        assert np.array_equal(whole.read(1)[:, SIDE:], early.read(1)[:, 14:])
    assert "building" in (out / "classes.gti.qml").read_text(encoding="utf-8")


def test_the_order_is_finer_later_and_by_name(tmp_path: Path, entries: list[Entry]) -> None:
    tiles = tiles_in_order(tmp_path / "out", reversed(entries))
    assert [tile.name for tile in tiles] == ["early.tif", "a/late.tif"]


def test_a_map_in_other_coordinates_is_warped(
    tmp_path: Path, model: Path, entries: list[Entry]
) -> None:
    out = tmp_path / "out"
    west = rasterio.warp.transform("EPSG:32633", "EPSG:32632", [500_200], [5_000_000])
    other = make_map(
        out, "other.tif", load(model, runtime="torch"), west[0][0], crs="EPSG:32632", seed=2
    )
    # It lies some way north, since the grids are turned against each other.
    more = [*entries, other]
    write_catalogue(out, more, model)
    image = write_index(out, more)[0]
    with rasterio.open(image) as whole:
        assert whole.crs.to_epsg() == 32633
        assert whole.shape[0] > SIDE + 100
        assert whole.transform.a == 1


def test_the_same_maps_give_the_same_bytes(tmp_path: Path, entries: list[Entry]) -> None:
    image = write_index(tmp_path / "out", entries)[0]
    before = image.read_bytes()
    write_index(tmp_path / "out", entries)
    assert image.read_bytes() == before


def test_bad_input_is_one_line(tmp_path: Path, entries: list[Entry]) -> None:
    out = tmp_path / "out"
    (out / "index.gti.gpkg").write_text("mine")
    with pytest.raises(OutputError, match=r"index\.gti\.gpkg: is there already"):
        write_index(out, entries)
    (out / "early.stac.json").write_text("[")
    with pytest.raises(DataError, match=r"early\.stac\.json: is missing or damaged"):
        write_index(out, entries)


def test_what_lies_nowhere_is_left_out(tmp_path: Path, model: Path) -> None:
    out = tmp_path / "out"
    entry = make_map(out, "nowhere.tif", load(model, runtime="torch"), crs="")
    write_catalogue(out, [entry], model)
    assert write_index(out, [entry]) == []
