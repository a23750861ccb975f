"""Bands in files of their own are laid together, or it is said why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from fixtures.scenes import MakeModel, MakeScene, smooth
from sat2map.errors import DataError
from sat2map.raster.options import Reading, SceneOptions
from sat2map.raster.scene import Scene
from sat2map.translation.scene import translate_raster

COLOURS = smooth(40, 50)


def write(make_scene: MakeScene, folder: Path, names: dict[str, int], **options: object) -> Path:
    """Write bands, each of the number of a colour, into a folder."""
    folder.mkdir(exist_ok=True)
    for name, colour in names.items():
        band = COLOURS[..., [colour]].astype(np.uint16) * 20
        make_scene(band, name, colours=[ColorInterp.gray], **options).rename(folder / name)
    return folder


SETS = [
    {"T33_B02_10m.jp2.tif": 2, "T33_B03_10m.jp2.tif": 1, "T33_B04_10m.jp2.tif": 0},
    {"T33_B02_10m.tif": 2, "T33_B03_10m.tif": 1, "T33_B04_10m.tif": 0, "T33_B05_20m.tif": 0},
    {"LC08_B1.tif": 1, "LC08_B2.tif": 2, "LC08_B3.tif": 1, "LC08_B4.tif": 0},
    {"LT05_B1.tif": 2, "LT05_B2.tif": 1, "LT05_B3.tif": 0, "LT05_B4.tif": 1},
    {"x_red.tif": 0, "x_green.tif": 1, "x_blue.tif": 2, "notes.tif": 1},
]


@pytest.mark.parametrize("names", SETS, ids=lambda names: next(iter(names)))
def test_red_green_and_blue_are_laid_together(
    make_scene: MakeScene, tmp_path: Path, names: dict[str, int]
) -> None:
    folder = write(make_scene, tmp_path / "scene", names)
    said: list[str] = []
    with Scene(folder, 3, Reading(value_range=(0, 5100)), say=said.append) as scene:
        assert np.array_equal(scene.read(0, 0, 40, 50)[0], COLOURS)
        assert scene.grid.georeferenced
    assert "bands in files of their own" in said[0]
    assert said[0].endswith("are red, green and blue.")


def test_the_map_of_bands_is_that_of_the_scene(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    folder = write(make_scene, tmp_path / "scene", SETS[0])
    options = SceneOptions(Reading(value_range=(0, 5100)))
    made = translate_raster(folder, tmp_path / "map.tif", make_model(), options)
    right = translate_raster(make_scene(COLOURS), tmp_path / "right.tif", make_model())
    with Scene(made, 3) as a, Scene(right, 3) as b:
        assert np.array_equal(a.read(0, 0, 40, 50)[0], b.read(0, 0, 40, 50)[0])
        assert a.grid == b.grid


@pytest.mark.parametrize(
    ("names", "line"),
    [
        ({"T33_B05.tif": 0, "T33_B06.tif": 1}, "none of them is band 4"),
        ({"a_B2.tif": 0, "a_B3.tif": 1, "b_B2.tif": 0, "b_B3.tif": 1}, "of 2 scenes"),
    ],
)
def test_other_bands_are_not_taken_for_a_mosaic(
    make_scene: MakeScene, tmp_path: Path, names: dict[str, int], line: str
) -> None:
    folder = write(make_scene, tmp_path / "scene", names)
    with pytest.raises(DataError, match=rf"scene: has bands in files of their own.*{line}"):
        Scene(folder, 3)


def test_a_band_on_another_grid_is_refused(make_scene: MakeScene, tmp_path: Path) -> None:
    folder = write(make_scene, tmp_path / "scene", SETS[0])
    finer = Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)
    place = {"crs": "EPSG:32633", "transform": finer}
    write(make_scene, folder, {"T33_B03_10m.jp2.tif": 1}, georeference=place)
    with pytest.raises(DataError, match=r"B03_10m\.jp2\.tif: does not go together with T33_B04"):
        Scene(folder, 3)


@pytest.mark.parametrize("bands", [1, 3])
def test_sheets_that_are_called_like_bands_are_a_mosaic(
    make_scene: MakeScene, tmp_path: Path, bands: int
) -> None:
    folder = tmp_path / "sheets"
    folder.mkdir()
    for number, name in enumerate(("B2.tif", "B3.tif", "B4.tif")):
        place = {"crs": "EPSG:32633"}
        place |= {"transform": Affine(1, 0, 500_000 + 10 * number * (bands == 1), 0, -1, 5_000_000)}
        colours = [ColorInterp.gray] if bands == 1 else None
        made = make_scene(COLOURS[..., :bands], name, colours=colours, georeference=place)
        made.rename(folder / name)
    with Scene(folder, 3) as scene:
        assert scene.source.kind == "mosaic"
        assert not scene.source.is_laid
        assert scene.grid.width == 50 + 20 * (bands == 1)
