"""When a scene was taken."""

from __future__ import annotations

import pytest
import rasterio

from fixtures.scenes import MakeScene, noise
from sat2map.raster.acquired import acquired


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2019:06:13 18:22:11", "2019-06-13T18:22:11Z"),
        ("2019-06-13T18:22:11+02:00", "2019-06-13T16:22:11Z"),
        ("2019-06-13", "2019-06-13T00:00:00Z/2019-06-13T23:59:59Z"),
        ("0000:00:00 00:00:00", None),
        ("in spring", None),
        ("", None),
    ],
)
def test_tags_say_it_in_several_ways(make_scene: MakeScene, text: str, time: str | None) -> None:
    path = make_scene(noise(8, 8))
    with rasterio.open(path, "r+") as file:
        file.update_tags(TIFFTAG_DATETIME=text)
    with rasterio.open(path) as file:
        assert acquired(file) == time


def test_the_time_of_the_satellite_comes_first(make_scene: MakeScene) -> None:
    path = make_scene(noise(8, 8))
    with rasterio.open(path, "r+") as file:
        file.update_tags(TIFFTAG_DATETIME="2026:01:01 00:00:00")
        file.update_tags(ns="IMAGERY", ACQUISITIONDATETIME="2015-03-01 10:00:00")
    with rasterio.open(path) as file:
        assert acquired(file) == "2015-03-01T10:00:00Z"
