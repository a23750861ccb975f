from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from PIL import Image
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.shutil import copy as copy_raster
from rasterio.transform import Affine
from rio_cogeo import cog_validate
from torch import Tensor, nn

import sat2map
from fixtures.scenes import UTM, Identity, MakeModel, MakeScene, noise, smooth
from sat2map.errors import DataError, OutputError, UsageError
from sat2map.legend import STREETS
from sat2map.model.folder import Model, ModelCard, build_generator
from sat2map.networks.specs import CompactSpec, UNetSpec
from sat2map.raster.options import Reading, SceneOptions
from sat2map.raster.provenance_reader import read_provenance
from sat2map.translation import pipeline as work
from sat2map.translation.scene import translate_raster
from sat2map.translation.translator import Translator

SMALL = SceneOptions(window=64, overlap=16)
RED, GREEN, BLUE = ColorInterp.red, ColorInterp.green, ColorInterp.blue


def read(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as file:
        pixels: NDArray[Any] = file.read().transpose(1, 2, 0)
        return pixels


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def unet() -> Translator:
    """A translator whose answer depends on what is around a pixel."""
    spec = UNetSpec(size=16, base_channels=4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_generator(spec)
    for parameter in network.parameters():
        parameter.data.mul_(3)
    card = ModelCard(generator=spec, normalisation="none", resolution_m=(1, 1))
    return Translator(Model(network, card, Path("unet")), "cpu")


def answers_in_classes() -> Translator:
    """A translator with a legend head and classes that differ from place to place."""
    arguments = {"channels": [8, 8, 16], "colours": STREETS.colours.tolist()}
    spec = CompactSpec(**arguments)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_generator(spec)
    network.exit.weight.data.mul_(20)  # type: ignore[operator, union-attr]
    card = ModelCard(generator=spec, normalisation="none", legend=STREETS, resolution_m=(1, 1))
    return Translator(Model(network, card, Path("classes")), "cpu")


# What comes out.


@pytest.mark.parametrize("metres", [1.0, 0.6, 1.7])
def test_a_scene_in_classes(make_scene: MakeScene, tmp_path: Path, metres: float) -> None:
    transform = Affine(metres, 0, 500_000, 0, -metres, 5_400_000)
    source = make_scene(noise(150, 130), transform=transform)
    model, options = answers_in_classes(), replace(SMALL, legend_colours=True)
    translate_raster(source, tmp_path / "numbers.tif", model, options)
    classes = read(tmp_path / "numbers.tif")[..., 0]
    assert len(np.unique(classes)) > 2
    translate_raster(source, tmp_path / "map.tif", model, SMALL)
    painted = read(tmp_path / "map.tif")
    night = model.in_colours({"land": "#000000"})
    translate_raster(source, tmp_path / "night.tif", night, SMALL)
    assert not np.array_equal(read(tmp_path / "night.tif"), painted)
    translate_raster(source, tmp_path / "night_numbers.tif", night, options)
    assert np.array_equal(read(tmp_path / "night_numbers.tif")[..., 0], classes)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (64, 64), (65, 200), (300, 270)])
def test_a_network_that_changes_nothing_gives_the_scene_back(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path, size: tuple[int, int]
) -> None:
    pixels = noise(*size)
    source, target = make_scene(pixels), tmp_path / "map.tif"
    model = make_model()
    assert translate_raster(source, target, model, SMALL) == target
    assert np.array_equal(read(target), pixels)
    seen = model._model.network.seen  # type: ignore[union-attr]
    assert all(side % 4 == 0 and side <= 64 for window in seen for side in window)  # type: ignore[union-attr]
    with rasterio.open(source) as before, rasterio.open(target) as after:
        assert after.transform.almost_equals(before.transform, 1e-9)
        assert after.crs == before.crs
        assert after.bounds == before.bounds
        assert after.mask_flag_enums[0] == [MaskFlags.all_valid]
    assert left(tmp_path) == ["map.tif", "scene.tif"]


def test_the_map_is_a_cloud_optimized_geotiff_that_says_how_it_was_made(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    target = tmp_path / "map.tif"
    translate_raster(make_scene(noise(1100, 1200)), target, make_model((0.5, 2)), SceneOptions())
    assert cog_validate(target, strict=True, quiet=True)[0]
    with rasterio.open(target) as file:
        assert file.overviews(1) == [2, 4]
        assert file.colorinterp == (RED, GREEN, BLUE)
        tags = file.tags()
    assert tags["SAT2MAP_VERSION"] == sat2map.__version__
    assert tags["SAT2MAP_MODEL"] == "identity"
    told = json.loads(tags["SAT2MAP_PARAMETERS"])
    assert told["mode"] == "deterministic"
    assert told["seen_m"] == pytest.approx(1, rel=0.01)


def test_windows_leave_no_trace_on_what_the_network_answers(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    """The window's size changes little, and where windows meet nothing more than elsewhere."""
    source, translator = make_scene(noise(200, 240)), unet()
    results = []
    for i, window in enumerate((64, 96, 256)):
        options = SceneOptions(window=window, overlap=32)
        translate_raster(source, tmp_path / f"{i}.tif", translator, options)
        results.append(read(tmp_path / f"{i}.tif").astype(int))
    whole = results[-1]
    assert np.array_equal(whole, translator.translate(read(source)))
    assert whole.std() > 5
    for other in results[:2]:
        assert np.abs(other - whole).mean() < 2


def test_an_array_and_a_scene_are_translated_alike(make_scene: MakeScene, tmp_path: Path) -> None:
    """To the last bit, over the edges of windows: both are blended by the same sums."""

    class Edges(Identity):
        def forward(self, source: Tensor) -> Tensor:
            padded = nn.functional.pad(source, (4, 4, 4, 4))  # zeros: each window has its own edge
            return nn.functional.avg_pool2d(padded, 9, 1)

    pixels = noise(1100, 1900)
    card = ModelCard(generator=UNetSpec(), normalisation="none")
    translator = Translator(Model(Edges(8), card, Path("edges")), "cpu")
    translate_raster(make_scene(pixels), tmp_path / "map.tif", translator)
    with rasterio.open(tmp_path / "map.tif") as file:
        found = file.read().transpose(1, 2, 0)
    assert np.array_equal(found, translator.translate(pixels))


@pytest.mark.parametrize(("known", "size"), [(2, (180, 230)), (0.5, (100, 90)), (7, (300, 310))])
def test_another_scale_is_read_and_the_map_laid_back(
    make_scene: MakeScene,
    make_model: MakeModel,
    tmp_path: Path,
    known: float,
    size: tuple[int, int],
) -> None:
    pixels = smooth(*size)
    source, target = make_scene(pixels), tmp_path / "map.tif"
    model = make_model((known, known))
    translate_raster(source, target, model, SMALL)
    with rasterio.open(source) as before, rasterio.open(target) as after:
        assert after.transform == before.transform
        assert after.shape == before.shape
    difference = np.abs(read(target).astype(int) - pixels)
    assert difference.mean() < (3 if known < 5 else 10)
    translate_raster(source, target, model, replace(SMALL, resolution="model"))
    with rasterio.open(source) as before, rasterio.open(target) as after:
        assert after.res == pytest.approx((known, known), rel=0.02)
        assert np.allclose(after.bounds, before.bounds, atol=1e-6)
    translate_raster(source, target, model, replace(SMALL, resolution=1.5))
    with rasterio.open(target) as after:
        assert after.res == pytest.approx((1.5, 1.5), rel=0.02)


def test_the_scale_is_the_same_in_every_window(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    source, model = make_scene(noise(310, 290)), make_model((1.7, 1.7))
    maps = []
    for window in (32, 64, 512):
        translate_raster(
            source, tmp_path / "map.tif", model, SceneOptions(window=window, overlap=8)
        )
        maps.append(read(tmp_path / "map.tif").astype(int))
    assert np.abs(maps[0] - maps[2]).max() <= 2
    assert np.abs(maps[1] - maps[2]).max() <= 2


@pytest.mark.parametrize(
    "transform",
    [
        Affine(1, 0, 500_000, 0, 1, 5_000_000),
        Affine(0.6, 0.8, 500_000, 0.8, -0.6, 5_000_000),
        Affine(0, 1, 500_000, -1, 0, 5_000_000),
    ],
)
@pytest.mark.parametrize("known", [1.0, 2.0])
def test_south_up_and_rotated_scenes_stay_as_they_lie(
    make_scene: MakeScene,
    make_model: MakeModel,
    tmp_path: Path,
    transform: Affine,
    known: float,
) -> None:
    pixels = smooth(90, 120)
    source = make_scene(pixels, georeference={"crs": "EPSG:32633", "transform": transform})
    target = tmp_path / "map.tif"
    translate_raster(source, target, make_model((known, known)), SMALL)
    with rasterio.open(target) as file:
        assert file.transform.almost_equals(transform, 1e-9)
        assert file.crs == CRS.from_epsg(32633)
    assert np.abs(read(target).astype(int) - pixels).mean() < 3
    assert cog_validate(target, quiet=True)[0]


def test_without_a_crs(
    make_scene: MakeScene,
    make_model: MakeModel,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pixels = noise(70, 70)
    for name, georeference in (("plain", {}), ("placed", {"transform": UTM["transform"]})):
        source = make_scene(pixels, f"{name}.tif", georeference=georeference)
        target = tmp_path / f"{name}_map.tif"
        caplog.clear()
        translate_raster(source, target, make_model(), SMALL)
        assert "has no coordinate reference system" in caplog.text
        image = np.asarray(Image.open(target))
        assert np.array_equal(image, pixels)
    with rasterio.open(tmp_path / "placed_map.tif") as file:
        assert file.crs is None
        assert file.transform == UTM["transform"]


def test_nodata_is_transparent_and_does_not_leak(make_scene: MakeScene, tmp_path: Path) -> None:
    shown = np.zeros((150, 150), bool)
    shown[30:100, 40:130] = True
    maps = []
    for hidden in (0, 255):
        pixels = np.where(shown[..., None], noise(150, 150) // 2 + 40, np.uint8(hidden))
        source = make_scene(pixels, f"{hidden}.tif", mask=shown)
        target = tmp_path / f"{hidden}_map.tif"
        translate_raster(source, target, unet(), SMALL)
        with rasterio.open(target) as file:
            assert file.mask_flag_enums[0] == [MaskFlags.per_dataset]
            assert np.array_equal(file.dataset_mask() > 0, shown)
        assert cog_validate(target, quiet=True)[0]
        maps.append(read(target))
    assert np.array_equal(maps[0], maps[1])
    assert not maps[0][~shown].any()


def test_windows_without_a_valid_pixel_cost_nothing(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    pixels = np.zeros((400, 400, 3), np.uint8)
    pixels[:40, :40] = noise(40, 40) // 2 + 100
    model = make_model()
    translate_raster(make_scene(pixels, nodata=0), tmp_path / "map.tif", model, SMALL)
    assert len(model._model.network.seen) == 1  # type: ignore[arg-type,union-attr]
    assert np.array_equal(read(tmp_path / "map.tif"), pixels)


def test_sixteen_bits_are_not_black(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    values = (smooth(120, 130).astype(np.uint16) + 20) * 9
    translate_raster(make_scene(values), tmp_path / "map.tif", make_model(), SMALL)
    pixels = read(tmp_path / "map.tif")
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert np.corrcoef(pixels.ravel(), values.ravel())[0, 1] > 0.99


def test_a_part_lies_where_it_lay(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    pixels = noise(100, 120)
    source = make_scene(
        pixels, georeference={"crs": "EPSG:4326", "transform": Affine(9e-6, 0, 10, 0, -9e-6, 9e-4)}
    )
    options = replace(SMALL, reading=Reading(bbox=(10.00018, 0.00027, 10.00063, 0.00081)))
    translate_raster(source, tmp_path / "map.tif", make_model(), options)
    assert np.array_equal(read(tmp_path / "map.tif"), pixels[10:70, 20:70])
    with rasterio.open(tmp_path / "map.tif") as file:
        assert np.allclose(file.bounds, (10.00018, 0.00027, 10.00063, 0.00081), atol=1e-11)
    options = replace(SMALL, reading=Reading(bbox=(0, 50, 1, 51)))
    with pytest.raises(UsageError, match="wholly outside"):
        translate_raster(source, tmp_path / "other.tif", make_model(), options)
    assert left(tmp_path) == ["map.tif", "scene.tif"]


def test_other_formats_that_gdal_opens(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    pixels = smooth(90, 100)
    tiff = make_scene(pixels)
    for name, driver, options in (
        ("scene.vrt", "VRT", {}),
        ("scene.jp2", "JP2OpenJPEG", {"reversible": "yes", "quality": 100}),
        ("scene_cog.tif", "COG", {}),
    ):
        copy_raster(tiff, tmp_path / name, driver=driver, **options)
        translate_raster(tmp_path / name, tmp_path / "map.tif", make_model(), SMALL)
        assert np.array_equal(read(tmp_path / "map.tif"), pixels), name


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("masked", [False, True])
def test_an_image_with_a_world_file(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path, suffix: str, masked: bool
) -> None:
    pixels, shown = smooth(70, 90), np.ones((70, 90), bool)
    shown[:20, :30] = not masked
    source = make_scene(pixels, mask=shown if masked else None)
    target = tmp_path / f"map.{suffix}"
    translate_raster(source, target, make_model(), SMALL)
    world = {"png": "pgw", "jpg": "jgw"}[suffix]
    assert left(tmp_path) == [f"map.{world}", target.name, "scene.tif"]
    with Image.open(target) as image:
        assert image.mode == ("RGBA" if masked and suffix == "png" else "RGB")
        found = np.asarray(image)
    assert np.abs(found[..., :3].astype(int) - pixels)[shown].mean() < 3
    if image.mode == "RGBA":
        assert np.array_equal(found[..., 3] > 0, shown)
    six = (tmp_path / f"map.{world}").read_text().split()
    assert list(map(float, six)) == [1, 0, 0, -1, 500_000.5, 4_999_999.5]
    with rasterio.open(target) as file:
        assert file.transform == UTM["transform"]


def test_legend_colours_are_the_only_ones_in_overviews_too(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    model = make_model(legend=STREETS)
    options = SceneOptions(legend_colours=True, window=256, overlap=32)
    source, target = make_scene(smooth(600, 700)), tmp_path / "map.tif"
    translate_raster(source, target, model, options)
    assert cog_validate(target, strict=True, quiet=True)[0]
    colours = {tuple(colour) for colour in STREETS.colours.tolist()}
    for level in ({}, {"overview_level": 0}):
        with rasterio.open(target, **level) as file:
            assert file.colorinterp == (ColorInterp.palette,)
            table = np.array([file.colormap(1)[i][:3] for i in range(len(STREETS))])
            found = table[file.read(1)].reshape(-1, 3)
        assert {tuple(colour) for colour in np.unique(found, axis=0).tolist()} <= colours
    with Image.open(target) as image:
        labels = STREETS.label(read(source))
        assert np.array_equal(np.asarray(image.convert("RGB")), STREETS.paint(labels))
    translate_raster(source, tmp_path / "many.tif", model, replace(options, legend_colours=False))
    assert target.stat().st_size < (tmp_path / "many.tif").stat().st_size / 2
    with pytest.raises(UsageError, match="`legend_colours`: the model identity has no legend"):
        translate_raster(source, target, make_model(), options)


def test_as_published_the_scene_passes_as_a_whole(
    make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, translator = noise(70, 40), unet()
    source, target = make_scene(pixels), tmp_path / "map.tif"
    options = replace(SMALL, mode="published", seed=3)
    translate_raster(source, target, translator, options)
    rows, columns = ((0, 10), (0, 8))
    mirrored = np.pad(pixels, (rows, columns, (0, 0)), mode="reflect")
    expected = translator.translate(mirrored, mode="published", seed=3)[:70, :40]
    assert np.abs(read(target).astype(int) - expected).max() <= 1
    monkeypatch.setattr(work, "MAX_PUBLISHED_PIXELS", 1000)
    with pytest.raises(UsageError, match="40 x 70 pixels are too many"):
        translate_raster(source, target, translator, options)


def test_a_comparison_shows_both_side_by_side(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    pixels = noise(90, 100)

    class Inverse(Identity):
        def forward(self, source: Tensor) -> Tensor:
            return -source

    model = make_model(network=Inverse(4))
    options = replace(SMALL, compare=True, attribution="© 東京")
    translate_raster(make_scene(pixels), tmp_path / "map.png", model, options)
    both = np.asarray(Image.open(tmp_path / "map.compare.png"))
    assert np.array_equal(both, np.hstack([pixels, 255 - pixels]))
    for name, layer in (("map.png", "image"), ("map.compare.png", "compare")):
        made = read_provenance(tmp_path / name)
        assert made is not None
        assert (made.layer, made.source.name, made.attribution) == (layer, "scene.tif", "© 東京")
    translate_raster(tmp_path / "scene.tif", tmp_path / "map.tif", model, options)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "map.compare.tif")), both)
    assert len(left(tmp_path)) == 6  # two maps, two comparisons, a world file and the scene


def test_progress_counts_pixels(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    calls: list[tuple[int, int]] = []
    translate_raster(
        make_scene(noise(300, 300)),
        tmp_path / "map.tif",
        make_model(),
        SMALL,
        lambda done, total: calls.append((done, total)),
    )
    assert calls[-1] == (90_000, 90_000)
    assert calls == sorted(calls)
    assert len(calls) > 20


@pytest.mark.parametrize("west", [179.9995, -180.0005])
def test_across_the_antimeridian(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path, west: float
) -> None:
    """Whichever way the scene counts its degrees, it stays where it is, and so does a part."""
    pixels = noise(100, 120)
    place = {"crs": "EPSG:4326", "transform": Affine(9e-6, 0, west, 0, -9e-6, 9e-4)}
    source = make_scene(pixels, georeference=place)
    translate_raster(source, tmp_path / "map.tif", make_model(), SMALL)
    assert np.array_equal(read(tmp_path / "map.tif"), pixels)
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.transform.almost_equals(place["transform"], 1e-12)
    box = (179.99959, 0.00009, -179.99987, 0.00081)
    options = replace(SMALL, reading=Reading(bbox=box))
    translate_raster(source, tmp_path / "part.tif", make_model(), options)
    assert np.array_equal(read(tmp_path / "part.tif"), pixels[10:90, 10:70])


# What goes wrong.


def test_a_scene_of_nodata_alone(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    for name, kind in (("eight.tif", np.uint8), ("float.tif", np.float32)):
        source = make_scene(np.zeros((100, 100, 3), kind), name, nodata=0)
        with pytest.raises(DataError, match=rf"{name}: has no valid pixel, only nodata"):
            translate_raster(source, tmp_path / "map.tif", make_model(), SMALL)
    assert left(tmp_path) == ["eight.tif", "float.tif"]


def test_the_input_is_never_overwritten(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    source = make_scene(noise(20, 20))
    before = source.read_bytes()
    copy_raster(source, tmp_path / "scene.vrt", driver="VRT")
    (tmp_path / "link.tif").symlink_to(source)
    os.link(source, tmp_path / "hard.tif")
    for given, target in (
        ("scene.tif", "scene.tif"),
        ("scene.tif", "x/../scene.tif"),
        ("scene.vrt", "scene.tif"),
        ("link.tif", "scene.tif"),
        ("scene.tif", "hard.tif"),
    ):
        with pytest.raises(UsageError, match="is the input itself"):
            translate_raster(tmp_path / given, tmp_path / target, make_model(), SMALL)
    assert source.read_bytes() == before


def test_a_corrupt_block_leaves_no_map(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    source = make_scene(noise(256, 256), tiled=True, blockxsize=64, blockysize=64, compress="lzw")
    content = bytearray(source.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = b"\xff" * 3000
    source.write_bytes(content)
    with pytest.raises(DataError, match=r"scene\.tif: cannot be read"):
        translate_raster(source, tmp_path / "map.tif", make_model(), SMALL)
    assert left(tmp_path) == ["scene.tif"]


def test_a_name_for_no_map(make_scene: MakeScene, make_model: MakeModel, tmp_path: Path) -> None:
    source = make_scene(noise(20, 20))
    for name in ("map.gif", "map", "map.webp"):
        with pytest.raises(UsageError, match=rf"{name}: is not a name for the map of a scene"):
            translate_raster(source, tmp_path / name, make_model(), SMALL)


def test_a_model_of_other_targets(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    class Two(nn.Module):
        def forward(self, source: Tensor) -> Tensor:
            return source[:, :2]

    card = make_model().card.model_copy(update={"generator": UNetSpec(out_channels=2)})
    model = Translator(Model(Two(), card, Path("two")), "cpu")
    with pytest.raises(UsageError, match="the result has 2 bands, but a map has 1 or 3"):
        translate_raster(make_scene(noise(20, 20)), tmp_path / "map.tif", model, SMALL)
    assert left(tmp_path) == ["scene.tif"]


def test_a_map_of_one_band_is_written_as_three_equal_ones(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    class One(Identity):
        def forward(self, source: Tensor) -> Tensor:
            return source[:, :1]

    scene, pixels = make_scene(noise(20, 20)), noise(20, 20)
    spec = UNetSpec(out_channels=1)
    one = make_model(network=One(4))
    card = one.card.model_copy(update={"generator": spec})
    model = Translator(Model(One(4), card, Path("one")), "cpu")
    translate_raster(scene, tmp_path / "map.tif", model, SMALL)
    with rasterio.open(tmp_path / "map.tif") as file:
        assert (file.read((1, 2, 3)) == pixels[..., 0]).all()


@pytest.mark.parametrize("when", [1, 12])
def test_an_interrupt_leaves_nothing(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path, when: int
) -> None:
    calls = 0

    class Interrupted(Identity):
        def forward(self, source: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            if calls == when:
                raise KeyboardInterrupt
            return source

    target = tmp_path / "map.tif"
    target.write_text("the map of yesterday")
    with pytest.raises(KeyboardInterrupt):
        translate_raster(
            make_scene(noise(300, 300)), target, make_model(network=Interrupted(4)), SMALL
        )
    assert left(tmp_path) == ["map.tif", "scene.tif"]
    assert target.read_text() == "the map of yesterday"


FULL = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from fixtures.scenes import Identity
from sat2map.errors import Sat2mapError
from sat2map.model.folder import Model, ModelCard
from sat2map.networks.specs import UNetSpec
from sat2map.raster.options import SceneOptions
from sat2map.translation.scene import translate_raster
from sat2map.translation.translator import Translator

card = ModelCard(
    generator=UNetSpec(),
    normalisation="none",
    resolution_m=(1, 1),
    bands=("band_1", "band_2", "band_3"),
)
model = Translator(Model(Identity(4), card, Path("identity")), "cpu")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in map(int, sys.argv[3:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    options = SceneOptions(window=256, overlap=32, resume=limit < 0)
    try:
        translate_raster(sys.argv[1], sys.argv[2], model, options)
    except Sat2mapError as error:
        print(limit, type(error).__name__, error)
    else:
        print(limit, "done")
"""


@pytest.mark.parametrize("suffix", ["tif", "png", "mbtiles", "pmtiles"])
def test_a_full_disk_says_so_and_can_be_resumed(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path, suffix: str
) -> None:
    """A limit on the size of files stands in for the disk, at every stage of the writing."""
    source, target = make_scene(noise(1300, 400)), tmp_path / f"map.{suffix}"
    options = SceneOptions(window=256, overlap=32)
    limits = [0, 100, 1000, 300_000, 610_000, 630_000]  # strips have 620 kilobytes
    if suffix != "pmtiles":  # whose tiles lie in several files at first
        limits += [1_000_000, 1_500_000]
    if suffix == "tif":
        limits += [1_900_000, 2_000_000, 2_049_000]  # the map with its overviews 2.05
    program = FULL.format(here=str(Path(__file__).parents[1]))
    ended = subprocess.run(
        [sys.executable, "-c", program, source, target, *map(str, limits), "-1"],
        capture_output=True,
        text=True,
        check=True,
    )
    *lines, last = ended.stdout.splitlines()
    assert len(lines) == len(limits)
    for line in lines:
        assert " OutputError " in line and f"map.{suffix}: cannot be written" in line, line
    assert "what is finished is kept in" in ended.stderr
    assert last == "-1 done"
    with_world_file = ["map.pgw"] if suffix == "png" else []
    assert left(tmp_path) == [*with_world_file, target.name, "scene.tif"]
    resumed = target.read_bytes()
    translate_raster(source, target, make_model(), options)
    assert target.read_bytes() == resumed


def test_an_unwritable_place(make_scene: MakeScene, make_model: MakeModel, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"map\.tif: cannot be written"):
        translate_raster(
            make_scene(noise(20, 20)), tmp_path / "file" / "map.tif", make_model(), SMALL
        )
