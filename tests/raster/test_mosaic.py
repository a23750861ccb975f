from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from fixtures.scenes import MakeModel, MakeScene, noise, smooth
from sat2map.errors import DataError, UsageError
from sat2map.raster.options import Reading, SceneOptions
from sat2map.raster.resampled import ResampledScene
from sat2map.raster.scene import Scene
from sat2map.translation.scene import translate_raster

SMALL = SceneOptions(window=64, overlap=16)
RGBA = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]


@pytest.fixture
def lay(make_scene: MakeScene, tmp_path: Path) -> Any:
    """Return a writer of scenes into one folder, `right` and `down` pixels from a corner."""
    folder = tmp_path / "scenes"
    folder.mkdir()

    def write(
        name: str, pixels: NDArray[Any], right: float, down: float, size: float = 1, **options: Any
    ) -> Path:
        place = {"crs": "EPSG:32633"} | options.pop("georeference", {})
        transform = Affine(size, 0, 500_000 + right, 0, -size, 5_000_000 - down)
        path = make_scene(pixels, name, georeference={"transform": transform} | place, **options)
        path.rename(folder / name)
        return folder

    return write


def everything(folder: Path, **reading: Any) -> tuple[Any, Any]:
    with Scene(folder, 3, Reading(**reading)) as scene:
        return scene.read(0, 0, scene.grid.height, scene.grid.width)


def test_scenes_side_by_side_are_the_scene_they_were_cut_from(
    lay: Any, make_model: MakeModel, tmp_path: Path
) -> None:
    """Overlapping by different widths, and one of them missing."""
    pixels = noise(120, 160)
    lay("a.tif", pixels[:70, :90], 0, 0)
    lay("b.tif", pixels[:70, 83:], 83, 0)
    folder = lay("c.tif", pixels[50:, :100], 0, 50)
    translate_raster(folder, tmp_path / "map.tif", make_model(), SMALL)
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.bounds == (500_000, 4_999_880, 500_160, 5_000_000)
        found, mask = file.read().transpose(1, 2, 0), file.dataset_mask() > 0
    there = np.ones((120, 160), bool)
    there[70:, 100:] = False
    assert np.array_equal(mask, there)
    assert np.array_equal(found[there], pixels[there])
    assert not found[~there].any()


def test_later_names_lie_on_top_in_natural_order(lay: Any) -> None:
    for name in ("2.tif", "10.tif", "1.tif"):
        folder = lay(name, np.full((9, 9, 3), 20 * int(name[:-4]), np.uint8), 0, 0)
    assert (everything(folder)[0] == 200).all()


def test_what_has_no_value_shows_what_lies_below(lay: Any) -> None:
    """Each scene says in its own way what is empty; one nodata value alone needs all bands."""
    below, above = noise(40, 40, seed=1) // 2 + 99, noise(40, 40, seed=2) // 2 + 99
    above[5:9, 5:9] = 255
    above[20, 20, :2] = 255
    lay("a.tif", below, 0, 0)
    folder = lay("b.tif", above, 0, 0, nodata=255)
    pixels, valid = everything(folder)
    expected = above.copy()
    expected[5:9, 5:9] = below[5:9, 5:9]
    assert np.array_equal(pixels, expected)
    assert valid.all()
    shown = np.zeros((40, 40), bool)
    shown[10:30, 12:33] = True
    folder = lay("c.tif", noise(40, 40, seed=3), 0, 0, mask=shown)
    pixels, valid = everything(folder)
    assert np.array_equal(pixels, np.where(shown[..., None], noise(40, 40, seed=3), expected))
    assert valid.all()


def test_clear_pixels_show_what_lies_below(lay: Any) -> None:
    one, two = noise(30, 30, seed=1), noise(30, 30, seed=2)
    left, right = (np.zeros((30, 30), np.uint8) for _ in range(2))
    left[:, :18], right[:, 12:25] = 255, 255
    lay("a.tif", np.dstack([one, left]), 0, 0, colours=RGBA)
    folder = lay("b.tif", np.dstack([two, right]), 0, 0, colours=RGBA)
    pixels, valid = everything(folder)
    assert np.array_equal(valid, (left | right) > 0)
    assert np.array_equal(pixels[right > 0], two[right > 0])
    assert np.array_equal(pixels[:, :12], one[:, :12])


def test_infrared_that_is_called_alpha_hides_nothing(lay: Any) -> None:
    four = np.dstack([noise(30, 30), noise(30, 30, 1, seed=9)])
    four[3, 4, 3] = 0
    folder = lay("a.tif", four, 0, 0, colours=RGBA)
    pixels, valid = everything(folder)
    assert valid.all()
    assert np.array_equal(pixels, four[..., :3])
    assert np.array_equal(everything(folder, bands=(4, 1, 2))[0], four[..., [3, 0, 1]])


def test_scenes_on_other_pixels_lie_where_they_lay(lay: Any) -> None:
    """Coarser ones are interpolated on the finest one's pixels, half a pixel is moved."""
    pixels = smooth(100, 200)
    lay("a.tif", pixels[:, :100], 0, 0)
    coarse = pixels[:, 100:].reshape(50, 2, 50, 2, 3).mean((1, 3)).round().astype(np.uint8)
    folder = lay("b.tif", coarse, 100, 0, size=2)
    found, valid = everything(folder)
    assert found.shape == (100, 200, 3)
    assert valid.all()
    assert np.array_equal(found[:, :100], pixels[:, :100])
    assert np.abs(found[:, 100:].astype(int) - pixels[:, 100:]).mean() < 2


def test_values_are_stretched_over_the_whole_mosaic(lay: Any) -> None:
    ramp = np.linspace(100, 3000, 60 * 80).reshape(60, 80, 1).repeat(3, 2).astype(np.uint16)
    lay("a.tif", ramp[:30], 0, 0, nodata=0)
    folder = lay("b.tif", ramp[30:], 0, 30, nodata=0)
    pixels, _ = everything(folder)
    low, high = np.percentile(ramp, (0.5, 99.5))
    assert np.abs(pixels - np.clip((ramp - low) / (high - low) * 255, 0, 255)).max() <= 1


def test_a_mosaic_much_finer_than_the_model_is_thinned(
    lay: Any, make_model: MakeModel, tmp_path: Path
) -> None:
    pixels = smooth(300, 600)
    lay("a.tif", pixels[:, :310], 0, 0)
    folder = lay("b.tif", pixels[:, 290:], 290, 0)
    options = replace(SMALL, resolution="model")
    translate_raster(folder, tmp_path / "map.tif", make_model((6.0, 6.0)), options)
    with rasterio.open(tmp_path / "map.tif") as file:
        found = file.read().transpose(1, 2, 0)
    means = pixels.reshape(50, 6, 100, 6, 3).mean((1, 3))
    assert np.abs(found - means).max() < 12
    assert np.abs(found - means).mean() < 3


@pytest.mark.parametrize("factor", [1, 3, 6.5])
@pytest.mark.parametrize("overviews", [False, True])
def test_what_is_invalid_in_a_scene_never_leaks(lay: Any, factor: float, overviews: bool) -> None:
    """The same valid pixels give the same view, whatever lies under the masks."""
    shown = np.zeros((120, 130), bool)
    shown[10:97, 21:103] = True
    wanted = round(120 / factor), round(250 / factor)
    results = []
    for hidden in (0, 255):
        pixels = np.where(shown[..., None], noise(120, 130) // 2 + 60, np.uint8(hidden))
        lay("a.tif", pixels, 0, 0, mask=shown)
        folder = lay("b.tif", pixels, 120, 0, nodata=hidden)
        if overviews:
            for name in ("a.tif", "b.tif"):
                with rasterio.open(folder / name, "r+") as file:
                    file.build_overviews([2, 4], rasterio.enums.Resampling.average)
        with Scene(folder, 3) as scene:
            results.append(ResampledScene(scene, *wanted).read(0, 0, *wanted))
    (one, valid), (other, same) = results
    assert np.array_equal(valid, same)
    assert valid.mean() > 0.4
    assert np.abs(one.astype(int) - other)[valid].max() <= 1


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ({"georeference": {"crs": "EPSG:32632"}}, "has another coordinate reference system"),
        ({"georeference": {"transform": Affine.identity()}}, "has no coordinates"),
        ({"georeference": {"transform": Affine(1, 0, 5, 0, 1, 0)}}, "lies south up"),
        ({"georeference": {"transform": Affine.rotation(9)}}, "is rotated"),
        ({"photometric": "miniswhite", "pixels": noise(9, 9, 1)}, "has other bands"),
        ({"nbits": 4}, "is stored otherwise than a.tif"),
        ({"pixels": noise(9, 9, 4)}, "has other bands than a.tif"),
        ({"pixels": noise(9, 9).astype(np.uint16)}, "has other bands than a.tif: uint16"),
    ],
)
def test_scenes_that_do_not_go_together(lay: Any, what: dict[str, Any], line: str) -> None:
    lay("a.tif", noise(9, 9), 0, 0)
    folder = lay(
        "b.tif",
        what.get("pixels", noise(9, 9)),
        9,
        0,
        **{key: value for key, value in what.items() if key != "pixels"},
    )
    with pytest.raises(DataError, match=rf"b\.tif: .*{line}"):
        everything(folder)


def test_a_corrupt_scene_among_good_ones(lay: Any, make_model: MakeModel, tmp_path: Path) -> None:
    lay("a.tif", noise(64, 64), 0, 0)
    folder = lay("b.tif", noise(64, 64), 64, 0, compress="lzw")
    content = bytearray((folder / "b.tif").read_bytes())
    content[3000:6000] = b"\xff" * 3000
    (folder / "b.tif").write_bytes(content)
    with pytest.raises(DataError, match="scenes: cannot be read"):
        translate_raster(folder, tmp_path / "map.tif", make_model(), SMALL)
    assert not (tmp_path / "map.tif").exists()
    (folder / "b.tif").write_text("no raster")
    with pytest.raises(DataError, match=r"b\.tif: cannot be read"):
        translate_raster(folder, tmp_path / "map.tif", make_model(), SMALL)


def test_a_map_is_not_put_among_its_scenes(lay: Any, make_model: MakeModel, tmp_path: Path) -> None:
    folder = lay("a.tif", noise(9, 9), 0, 0)
    before = (folder / "a.tif").read_bytes()
    os.link(folder / "a.tif", tmp_path / "hard.tif")
    for target, line in (
        (folder / "a.tif", "is the input itself"),
        (tmp_path / "hard.tif", "is the input itself"),
        (folder / "map.tif", "lies in the input's folder"),
    ):
        with pytest.raises(UsageError, match=line):
            translate_raster(folder, target, make_model(), SMALL)
    assert (folder / "a.tif").read_bytes() == before


def test_many_scenes_are_not_open_at_once(lay: Any, tmp_path: Path) -> None:
    """Files are opened where they are read, and only so many stay open."""
    folder = lay("0.tif", noise(4, 4), 0, 0)
    for i in range(1, 200):
        path = folder / f"{i}.tif"
        shutil.copy(folder / "0.tif", path)
        with rasterio.open(path, "r+") as file:
            file.transform = Affine(1, 0, 500_000 + 4 * i, 0, -1, 5_000_000)
    with Scene(folder, 3) as scene:
        pixels, valid = scene.read(0, 0, 4, 800)
        held = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 0
    assert np.array_equal(pixels, np.tile(noise(4, 4), (1, 200, 1)))
    assert valid.all()
    assert held < 160


def test_nodata_that_is_told_shows_what_lies_below(lay: Any) -> None:
    """A collar that nobody called nodata, in two files that overlap."""
    pixels = smooth(30, 40)
    one, other = pixels.copy(), pixels.copy()
    one[:, 30:], other[:, :10] = 0, 0
    lay("a.tif", one, 0, 0)
    folder = lay("b.tif", other, 0, 0)
    for nodata in ((0.0,), (0.0, 0.0, 0.0)):
        shown, valid = everything(folder, nodata=nodata)
        assert valid.all()
        assert np.array_equal(shown, pixels)
    assert not everything(folder)[0][:, :10].any(), "without it the later file lies on top"


def test_nodata_of_the_files_may_be_none(lay: Any) -> None:
    pixels = smooth(30, 40)
    pixels[3, 4] = 255
    folder = lay("a.tif", pixels, 0, 0, nodata=255)
    assert not everything(folder)[1].all()
    shown, valid = everything(folder, nodata=())
    assert valid.all()
    assert np.array_equal(shown, pixels)


@pytest.mark.parametrize("how", [{"nbits": 4}, {"photometric": "miniswhite"}, {"nbits": 1}])
def test_how_the_scenes_are_stored_makes_no_difference(lay: Any, how: dict[str, Any]) -> None:
    grey = smooth(30, 40, 1)
    bits = how.get("nbits", 8)
    values = grey >> (8 - bits)
    right = np.rint(values * (255 / (2**bits - 1))).astype(np.uint8)
    stored = 255 - values if "photometric" in how else values
    lay("a.tif", stored[:, :20], 0, 0, colours=[ColorInterp.gray], **how)
    folder = lay("b.tif", stored[:, 20:], 20, 0, colours=[ColorInterp.gray], **how)
    shown, _ = everything(folder)
    assert np.abs(shown.astype(int) - right).max() <= 1


def test_a_scene_that_bends_is_no_part_of_a_mosaic(make_scene: MakeScene, tmp_path: Path) -> None:
    bent = [
        GroundControlPoint(row, column, 500_000 + column + (row / 6) ** 2, 5_000_000 - row)
        for row in (0, 15, 30)
        for column in (0, 20, 40)
    ]
    folder = tmp_path / "scenes"
    folder.mkdir()
    make_scene(smooth(30, 40), "a.tif", georeference={"crs": "EPSG:32633", "gcps": bent}).rename(
        folder / "a.tif"
    )
    with pytest.raises(DataError, match=r"a\.tif: lies by ground control points on no straight"):
        everything(folder)


def test_not_a_number_shows_what_lies_below(lay: Any) -> None:
    below = smooth(40, 40).astype(np.float32)
    above = below + 10
    above[5:12, 6:20] = np.nan
    lay("a.tif", below, 0, 0)
    folder = lay("b.tif", above, 0, 0)
    shown, valid = everything(folder, value_range=(0, 255))
    assert valid.all()
    assert np.array_equal(shown, np.where(np.isnan(above), below, above).clip(0, 255))


def test_what_jpegs_smear_around_nodata_is_no_value_in_mosaics_either(
    lay: Any,
) -> None:
    pixels = smooth(64, 64)
    pixels[:, :30] = 0
    jpeg = {"compress": "jpeg", "jpeg_quality": 75, "photometric": "ycbcr", "nodata": 0}
    jpeg |= {"tiled": True, "blockxsize": 16, "blockysize": 16}
    folder = lay("a.tif", pixels, 0, 0, **jpeg)
    lay("b.tif", smooth(64, 64), 64, 0, **jpeg)
    _, valid = everything(folder)
    with Scene(folder / "a.tif", 3) as alone:
        _, right = alone.read(0, 0, 64, 64)
    assert np.array_equal(valid[:, :64], right)
    assert right.mean() < 0.6


@pytest.mark.parametrize("bands", [None, (4, 2, 1)])
def test_a_value_for_each_band_that_is_read_of_four(
    lay: Any, bands: tuple[int, ...] | None
) -> None:
    """The fourth, infrared, may hold anything there."""
    colours = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined]
    below, above = np.clip(noise(40, 40, 4, seed=1), 20, 250), np.clip(noise(40, 40, 4), 20, 250)
    read = np.array(bands or (1, 2, 3)) - 1
    above[10:20, 10:30, read] = (7, 8, 9)
    above[25:28, 5, read[0]] = 7  # the others have values
    lay("a.tif", below, 0, 0, colours=colours, photometric="rgb")
    folder = lay("b.tif", above, 0, 0, colours=colours, photometric="rgb")
    shown, valid = everything(folder, nodata=(7, 8, 9), bands=bands)
    expected = above[..., read].copy()
    expected[10:20, 10:30] = below[10:20, 10:30][..., read]
    assert valid.all()
    assert np.array_equal(shown, expected)
