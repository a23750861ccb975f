"""How a scene is stored makes no difference to what the model sees."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image, ImageCms
from rasterio.enums import ColorInterp

from fixtures.scenes import UTM, MakeScene, noise, smooth
from sat2map.data.images import in_bands, read_image
from sat2map.errors import DataError
from sat2map.raster.options import Reading
from sat2map.raster.scene import Scene
from sat2map.raster.sources import open_source

GREY = [ColorInterp.gray]


def seen(source: str | Path, **reading: object) -> NDArray[np.uint8]:
    with Scene(source, 3, Reading(**reading)) as scene:
        return scene.read(0, 0, scene.grid.height, scene.grid.width)[0]


@pytest.mark.parametrize("bits", [8, 4])
def test_white_may_be_the_least(make_scene: MakeScene, bits: int) -> None:
    top = 2**bits - 1
    grey = smooth(40, 40, 1) >> (8 - bits)
    right = seen(make_scene(grey, "right.tif", colours=GREY, nbits=bits))
    path = make_scene(top - grey, colours=GREY, nbits=bits, photometric="miniswhite")
    assert np.array_equal(seen(path), right)
    if bits == 8:
        assert np.array_equal(read_image(path).pixels, right)
    ends = {"stretch": (0.0, 100.0)}
    assert np.array_equal(seen(path, **ends), seen(path.with_name("right.tif"), **ends))


def test_inks_are_shown_as_colours(make_scene: MakeScene) -> None:
    colours = smooth(40, 40)
    inks = np.dstack([255 - colours, np.zeros((40, 40), np.uint8)])
    path = make_scene(inks, photometric="cmyk")
    assert np.abs(seen(path).astype(int) - colours).max() <= 1


@pytest.mark.parametrize("name", ["scene.tif", "scene.jpg"])
def test_colours_of_another_profile_are_those_of_srgb(tmp_path: Path, name: str) -> None:
    """As other programs show them, whether the file has a place or not."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    green, blue = profile.index(b"gXYZ"), profile.index(b"bXYZ")
    profile[green : green + 4], profile[blue : blue + 4] = b"bXYZ", b"gXYZ"
    image = Image.new("RGB", (40, 40), (200, 120, 60))
    image.save(tmp_path / name, icc_profile=bytes(profile), quality=100)
    (tmp_path / "scene.wld").write_text("1\n0\n0\n-1\n500000.5\n4999999.5\n")
    assert open_source(tmp_path / name).kind == "scene"
    assert np.abs(seen(tmp_path / name).astype(int) - (200, 60, 120)).max() <= 3
    if name == "scene.tif":
        chosen = seen(tmp_path / name, bands=(1, 2, 3))
        assert (chosen == (200, 120, 60)).all(), "who names bands wants their values"


def test_a_model_of_one_band_sees_the_luma(make_scene: MakeScene) -> None:
    """As of a PNG: of colours by name and of a palette, not one band or a palette's numbers."""
    colours = smooth(40, 40)
    right = in_bands(colours, 1)
    with Scene(make_scene(colours), 1, say=pytest.fail) as scene:
        assert np.array_equal(scene.read(0, 0, 40, 40)[0], right)
    numbers = (colours[..., :1] // 8).astype(np.uint8)
    table = np.random.default_rng(0).integers(0, 256, (256, 3))
    path = make_scene(numbers, photometric="palette")
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {i: tuple(c) for i, c in enumerate(table.tolist())})
    with Scene(path, 1, say=pytest.fail) as scene:
        painted = table.astype(np.uint8)[numbers[..., 0]]
        assert np.array_equal(scene.read(0, 0, 40, 40)[0], in_bands(painted, 1))


def test_means_of_a_palette_are_means_of_its_colours(make_scene: MakeScene) -> None:
    numbers = (noise(40, 40, 1) % 2).astype(np.uint8)
    path = make_scene(numbers, photometric="palette")
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (0, 0, 0), 1: (200, 100, 50)})
    painted = np.where(numbers == 1, np.array([200, 100, 50], np.uint8), np.uint8(0))
    with Scene(make_scene(painted, "right.tif"), 3) as right, Scene(path, 3) as scene:
        means, expected = (s.read(0, 0, 10, 10, 4)[0].astype(int) for s in (scene, right))
        assert np.abs(means - expected).max() <= 1  # halves are rounded otherwise


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("T33UUU_20200101_B02_10m.tif", "T33UUU_20200101_B04_10m.tif T33UUU_20200101_B03_10m.tif"),
        ("LC08_B4.tif", "LC08_B4.tif LC08_B3.tif LC08_B2.tif"),
    ],
)
def test_bands_in_files_of_their_own_are_noticed(
    make_scene: MakeScene, name: str, others: str
) -> None:
    said: list[str] = []
    with Scene(make_scene(smooth(40, 40, 1), name, colours=GREY), 3, say=said.append):
        assert f"gdalbuildvrt -separate rgb.vrt {others}" in said[0]


def test_rasters_in_one_file_are_named_and_taken(tmp_path: Path) -> None:
    path = tmp_path / "several.gpkg"
    for name, colours in (("one", smooth(40, 40)), ("two", smooth(40, 50))):
        more = {"APPEND_SUBDATASET": "YES"} if name == "two" else {}
        with rasterio.open(
            path, "w", driver="GPKG", count=3, dtype="uint8", height=40, width=colours.shape[1],
            RASTER_TABLE=name, TILE_FORMAT="PNG", **UTM, **more,
        ) as file:  # fmt: skip
            file.write(colours.transpose(2, 0, 1))
    with pytest.raises(DataError, match=r"Give one of the rasters in it: GPKG:.*:one, GPKG:.*:two"):
        seen(path)
    name = f"GPKG:{path}:two"
    assert open_source(name).kind == "scene"
    assert np.array_equal(seen(name), smooth(40, 50))


def test_a_zip_of_one_scene_is_the_scene(make_scene: MakeScene, tmp_path: Path) -> None:
    path = make_scene(smooth(40, 40))
    with zipfile.ZipFile(tmp_path / "scene.zip", "w") as archive:
        archive.write(path, "deep/scene.tif")
        archive.writestr("deep/read me.txt", "text")
    assert np.array_equal(seen(tmp_path / "scene.zip"), smooth(40, 40))
    with zipfile.ZipFile(tmp_path / "scene.zip", "a") as archive:
        archive.write(path, "other.tif")
    with pytest.raises(DataError, match=r"holds 2 scenes.*/vsizip/.*scene\.zip/deep/scene\.tif"):
        seen(tmp_path / "scene.zip")
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("read me.txt", "text")
    with pytest.raises(DataError, match="holds no scene"):
        seen(tmp_path / "none.zip")


def test_a_virtual_raster_of_a_file_that_has_gone_is_refused(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    """GDAL may read black in its place."""
    gone = make_scene(smooth(40, 40), "gone.tif")
    band = (
        f'<SimpleSource><SourceFilename relativeToVRT="1">{gone.name}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource>"
    )
    (tmp_path / "scene.vrt").write_text(
        '<VRTDataset rasterXSize="40" rasterYSize="40"><VRTRasterBand dataType="Byte" band="1">'
        f"{band}</VRTRasterBand></VRTDataset>"
    )
    assert open_source(tmp_path / "scene.vrt").kind == "scene"
    gone.unlink()
    with pytest.raises(DataError, match=r"scene\.vrt: is made of .*gone\.tif, which is not there"):
        open_source(tmp_path / "scene.vrt")


def test_a_file_of_several_images_is_noticed(tmp_path: Path) -> None:
    first, second = Image.fromarray(smooth(20, 30)), Image.fromarray(smooth(40, 60))
    first.save(tmp_path / "pages.tif", save_all=True, append_images=[second])
    said: list[str] = []
    with Scene(tmp_path / "pages.tif", 3, say=said.append) as scene:
        assert (scene.grid.height, scene.grid.width) == (20, 30)
    assert any("holds 2 images, of which the first is read" in line for line in said)
    assert np.array_equal(seen(f"GTIFF_DIR:2:{tmp_path / 'pages.tif'}"), smooth(40, 60))


@pytest.mark.parametrize("factor", [1, 4])
def test_colours_multiplied_with_alpha_are_divided_again(
    make_scene: MakeScene, factor: int
) -> None:
    """Along the edges of what was warped, colours would darken."""
    pixels, alpha = smooth(40, 40), np.full((40, 40), 255, np.uint8)
    alpha[:, :8], alpha[:, 8:16], alpha[:, 16:24] = 0, 64, 128
    made = []
    for kind, shown in (
        ("PREMULTIPLIED", np.rint(pixels * (alpha[..., None] / 255)).astype(np.uint8)),
        ("NON-PREMULTIPLIED", pixels),
    ):
        path = make_scene(np.dstack([shown, alpha]), f"{kind}.tif", alpha=kind)
        with Scene(path, 3) as scene:
            made.append(scene.read(0, 0, 40 // factor, 40 // factor, factor))
        assert np.abs(read_image(path).pixels.astype(int) - pixels)[alpha > 0].max() <= 4
    (one, shown), (other, valid) = made
    assert np.array_equal(shown, valid)
    assert np.abs(one.astype(int) - other)[valid].max() <= (4 if factor == 1 else 8)
