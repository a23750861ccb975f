"""What is not a value: named with rounding, smeared, given by hand, or not named at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rasterio.shutil import copy as copy_raster

from fixtures.scenes import MakeScene, noise, smooth
from sat2map.errors import UsageError
from sat2map.raster.options import Reading
from sat2map.raster.scene import Scene


def read(path: Path, factor: int = 1, **reading: object) -> tuple[NDArray[np.uint8], NDArray[bool]]:
    with Scene(path, 3, Reading(**reading)) as scene:
        return scene.read(0, 0, scene.grid.height // factor, scene.grid.width // factor, factor)


def notices(path: Path, **reading: object) -> list[str]:
    said: list[str] = []
    with Scene(path, 3, Reading(**reading), say=said.append):
        return said


@pytest.mark.parametrize(
    ("kind", "tag", "fill"),
    [
        (np.float32, -3.4e38, -3.4028234663852886e38),
        (np.float32, None, 1e20),
        (np.float64, None, -1.7976931348623157e308),
        (np.float32, -9999.9, -9999.9),
        (np.float32, -99999.0, -99999.01),
        (np.float32, float("nan"), float("inf")),
        (np.int16, -32768, -32768),
    ],
)
@pytest.mark.parametrize("factor", [1, 2])
def test_what_is_named_with_rounding_or_cannot_be_is_no_value(
    make_scene: MakeScene, kind: type, tag: float | None, fill: float, factor: int
) -> None:
    """The hole is empty, and the rest is stretched as if the hole held nothing."""
    values = smooth(64, 64).astype(kind) / (510 if kind != np.int16 else 1)
    values = values.astype(kind)
    right = values.astype(np.float64)
    values[:20, :20] = fill
    right[:20, :20] = np.nan
    pixels, valid = read(make_scene(values, nodata=tag), factor)
    expected, hole = read(make_scene(right, "right.tif"), factor)
    assert np.array_equal(valid, hole)
    assert np.abs(pixels[valid].astype(int) - expected[valid]).max() <= 1


@pytest.mark.parametrize("value", [0, 255])
def test_a_collar_is_noticed_with_what_cures_it(make_scene: MakeScene, value: int) -> None:
    pixels = np.clip(noise(200, 300), 1, 254)
    pixels[:30] = pixels[:, :30] = value
    path = make_scene(pixels)
    (said,) = notices(path)
    assert said.startswith(f"{path}: about ")
    assert said.endswith(f"give `nodata={value}`.")
    assert not notices(path, nodata=(float(value),))
    assert not notices(make_scene(pixels, "named.tif", nodata=value))
    assert read(path)[1].all()
    assert np.array_equal(read(path, nodata=(float(value),))[1], (pixels != value).any(-1))


@pytest.mark.parametrize("start", range(40, 140, 20))
def test_a_collar_along_a_part_of_one_edge_is_noticed(make_scene: MakeScene, start: int) -> None:
    """It is as long as a collar must be, wherever it begins."""
    pixels = np.clip(noise(304, 304), 1, 254)
    pixels[start : start + 140, :20] = 0
    (said,) = notices(make_scene(pixels))
    assert "exactly 0, which" in said


def test_a_fill_value_that_nobody_named_is_noticed(make_scene: MakeScene) -> None:
    values = noise(128, 128).astype(np.float32)
    values[:, 90:] = -9999
    (said,) = notices(make_scene(values))
    assert "exactly -9999, which" in said


def test_different_values_in_each_band_are_written_as_the_option(make_scene: MakeScene) -> None:
    pixels = np.clip(noise(128, 128), 20, 200)
    pixels[:40] = (255, 255, 0)
    path = make_scene(pixels)
    assert not notices(path)  # no extreme, so it may be a field
    valid = read(path, nodata=(255.0, 255.0, 0.0))[1]
    assert valid[40:].all()
    assert not valid[:40].any()


def test_plain_ground_and_declared_edges_are_not_noticed(make_scene: MakeScene) -> None:
    assert not notices(make_scene(np.full((128, 128, 3), 77, np.uint8)))
    mid = np.clip(noise(128, 128), 1, 254)
    mid[:40] = 100  # a lake
    assert not notices(make_scene(mid, "lake.tif"))
    shown = np.ones((128, 128), bool)
    shown[:40] = False
    mid[:40] = 0
    assert not notices(make_scene(mid, "mask.tif", mask=shown))


@pytest.mark.parametrize("factor", [1, 4])
def test_what_a_jpeg_smears_is_no_value(make_scene: MakeScene, tmp_path: Path, factor: int) -> None:
    """No rim of nearly black pixels remains around the collar, and a shadow elsewhere stays."""
    pixels = np.clip(smooth(256, 256), 60, 254)
    pixels[:, :101] = 0
    pixels[200:216, 200:216] = 2
    plain = make_scene(pixels, "plain.tif")
    path = tmp_path / "smeared.tif"
    copy_raster(
        plain, path, driver="GTiff", compress="jpeg", photometric="ycbcr", jpeg_quality=75,
        nodata=0,
    )  # fmt: skip
    shown, valid = read(path, factor, nodata=(0.0,))
    columns = valid[: 180 // factor].mean(0)
    edge = 104 // factor
    assert columns[: edge - 8 // factor].max() <= 0.05
    assert columns[edge + 16 // factor :].min() == 1
    assert valid[204 // factor : 212 // factor, 204 // factor : 212 // factor].all()
    assert shown[: 180 // factor, edge + 1 :][valid[: 180 // factor, edge + 1 :]].min() > 30


def test_windows_of_a_smeared_scene_agree(make_scene: MakeScene, tmp_path: Path) -> None:
    pixels = noise(120, 120)
    pixels[:, :50] = 255
    path = tmp_path / "smeared.tif"
    copy_raster(make_scene(pixels), path, driver="GTiff", compress="jpeg", nodata=255)
    with Scene(path, 3) as scene:
        whole, valid = scene.read(0, 0, 120, 120)
        part, some = scene.read(30, 40, 20, 25)
    assert np.array_equal(part, whole[30:50, 40:65])
    assert np.array_equal(some, valid[30:50, 40:65])


def test_means_leave_out_what_was_given_as_nodata(make_scene: MakeScene) -> None:
    pixels = np.full((40, 40, 3), 200, np.uint8)
    pixels[:, ::2] = 0
    shown, valid = read(make_scene(pixels), 4, nodata=(0.0,))
    assert valid.all()
    assert (shown == 200).all()


def test_not_a_number_takes_the_place_of_a_wrong_tag(make_scene: MakeScene) -> None:
    pixels = noise(20, 20)
    pixels[3] = 0
    path = make_scene(pixels, nodata=0)
    assert not read(path)[1][3].any()
    assert read(path, nodata=(float("nan"),))[1].all()


def test_what_is_no_nodata(make_scene: MakeScene) -> None:
    path = make_scene(noise(20, 20))
    for wrong in ((-9999.0,), (0.5,)):
        with pytest.raises(UsageError, match=r"`nodata`: .* is not a value that .*scene\.tif can"):
            read(path, nodata=wrong)
    with pytest.raises(UsageError, match="2 values are named, but 3 bands are read"):
        read(path, nodata=(0.0, 1.0))
    with pytest.raises(UsageError, match="nodata"):
        Reading(nodata=(float("nan"), 0.0))
    assert Reading(nodata=(float("nan"),)) == Reading(nodata=())


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_infinite_nodata_is_itself_alone(make_scene: MakeScene, value: float) -> None:
    values = smooth(40, 40).astype(np.float32)
    values[:5] = value
    with Scene(make_scene(values, nodata=value), 3) as scene:
        valid = scene.read(0, 0, 40, 40)[1]
    assert not valid[:5].any()
    assert valid[5:].all()
