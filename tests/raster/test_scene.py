from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio._env import get_gdal_config
from rasterio.enums import ColorInterp, Resampling
from rasterio.shutil import copy as copy_raster
from rasterio.warp import transform_bounds

from fixtures.scenes import MakeScene, noise, smooth
from sat2map.errors import DataError, UsageError
from sat2map.raster.options import Reading
from sat2map.raster.resampled import ResampledScene
from sat2map.raster.scene import Scene
from sat2map.raster.values import Values

GREY, NONE, ALPHA = ColorInterp.gray, ColorInterp.undefined, ColorInterp.alpha
RED, GREEN, BLUE = ColorInterp.red, ColorInterp.green, ColorInterp.blue


def everything(path: Path, wanted: int = 3, **reading: Any) -> tuple[Any, Any]:
    """Return all pixels of a scene and where it is valid."""
    with Scene(path, wanted, Reading(**reading)) as scene:
        return scene.read(0, 0, scene.grid.height, scene.grid.width)


# Which bands.


def test_colours_are_found_by_what_the_file_calls_them(make_scene: MakeScene) -> None:
    pixels = noise(8, 9, 4)
    path = make_scene(pixels, colours=[BLUE, GREEN, RED, NONE])
    assert np.array_equal(everything(path)[0], pixels[..., [2, 1, 0]])
    assert np.array_equal(everything(path, bands=(4, 3, 1))[0], pixels[..., [3, 2, 0]])


def test_nameless_bands_are_the_first_three_with_a_notice(
    make_scene: MakeScene, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = noise(8, 9, 5)
    path = make_scene(pixels, colours=[GREY, NONE, NONE, NONE, NONE])
    assert np.array_equal(everything(path)[0], pixels[..., :3])
    assert "scene.tif: does not say which of its 5 bands" in caplog.text
    assert "bands 1, 2, 3 are taken" in caplog.text


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_bands_are_grey_with_a_warning(
    make_scene: MakeScene, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    pixels = noise(8, 9, count)
    path = make_scene(pixels, colours=[GREY, NONE][:count])
    assert np.array_equal(everything(path)[0], pixels[..., [0, 0, 0]])
    assert "translated as grey" in caplog.text


def test_one_named_band_is_grey(make_scene: MakeScene) -> None:
    pixels = noise(8, 9, 3)
    assert np.array_equal(everything(make_scene(pixels), bands=(2,))[0], pixels[..., [1, 1, 1]])


def test_a_model_of_four_bands_takes_four(make_scene: MakeScene) -> None:
    pixels = noise(8, 9, 4)
    path = make_scene(pixels, colours=[RED, GREEN, BLUE, NONE])
    assert np.array_equal(everything(path, 4)[0], pixels)
    with pytest.raises(DataError, match=r"scene\.tif: has 4 bands, but the model takes 5"):
        everything(path, 5)


@pytest.mark.parametrize("bands", [(1, 2, 4), (0, 1, 2), (-1,)])
def test_a_band_that_does_not_exist(make_scene: MakeScene, bands: tuple[int, ...]) -> None:
    path = make_scene(noise(8, 9))
    with pytest.raises(UsageError, match=r"`bands`: .*scene\.tif has no band -?\d; it has 3"):
        everything(path, bands=bands)


def test_too_few_bands_named(make_scene: MakeScene) -> None:
    with pytest.raises(UsageError, match="`bands`: 2 bands are named, but the model takes 3"):
        everything(make_scene(noise(8, 9)), bands=(1, 2))


def test_a_palette_becomes_its_colours(make_scene: MakeScene) -> None:
    numbers = np.array([[0, 1], [2, 1]], np.uint8)[..., None]
    path = make_scene(numbers, photometric="palette")
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (1, 2, 3), 1: (40, 50, 60), 2: (255, 0, 9)})
    pixels, valid = everything(path)
    assert pixels.tolist() == [[[1, 2, 3], [40, 50, 60]], [[255, 0, 9], [40, 50, 60]]]
    assert valid.all()


# Which values.


@pytest.mark.parametrize("kind", ["uint16", "int16", "float32", "uint32", "int8", "float64"])
def test_other_types_are_stretched_over_the_whole_scene(make_scene: MakeScene, kind: str) -> None:
    """What .5 % of the pixels are below becomes 0, what .5 % are above 255."""
    ramp = np.linspace(-100 if kind == "int8" else 100, 120 if kind == "int8" else 3000, 60 * 50)
    values = np.random.default_rng(0).permutation(ramp).reshape(60, 50)
    path = make_scene(np.repeat(values[..., None], 3, 2).astype(kind))
    low, high = np.percentile(values.astype(kind), (0.5, 99.5))
    expected = np.clip((values.astype(kind) - low) / (high - low) * 255, 0, 255)
    with Scene(path, 3) as scene:
        whole, _ = scene.read(0, 0, 60, 50)
        part, _ = scene.read(13, 17, 20, 9)
    assert np.abs(whole - expected[..., None]).max() <= 1
    assert np.array_equal(part, whole[13:33, 17:26]), "a window has the scene's stretch"
    assert 0 < (whole == 0).mean() < 0.01


def test_percentiles_and_values_may_be_given(make_scene: MakeScene) -> None:
    values = np.arange(100 * 100, dtype=np.uint16).reshape(100, 100, 1)
    path = make_scene(values, colours=[GREY])
    everything_, _ = everything(path, stretch=(0, 100))
    assert np.abs(everything_[..., 0] - values[..., 0] / 9999 * 255).max() <= 0.51
    fixed, _ = everything(path, value_range=(0, 510))
    assert fixed[2, 55, 0] == round(255 / 2)
    assert (fixed[6:] == 255).all()


def test_eight_bits_are_left_alone_unless_told(make_scene: MakeScene) -> None:
    pixels = noise(30, 30) // 2 + 100
    path = make_scene(pixels)
    assert np.array_equal(everything(path)[0], pixels)
    assert everything(path, stretch=(2, 98))[0].max() == 255


def test_nodata_has_no_say_in_the_stretch(make_scene: MakeScene) -> None:
    values = np.random.default_rng(0).integers(1000, 1100, (50, 50, 3)).astype(np.uint16)
    values[:25] = 0
    pixels, valid = everything(make_scene(values, nodata=0))
    assert np.array_equal(valid, values.any(-1))
    assert np.median(pixels[25:]) == pytest.approx(127, abs=10)


def test_a_constant_scene_is_no_division_by_zero(make_scene: MakeScene) -> None:
    pixels, valid = everything(make_scene(np.full((9, 9, 3), 700, np.uint16)))
    assert valid.all()
    assert len(np.unique(pixels)) == 1


def test_few_bits_fill_the_range(make_scene: MakeScene) -> None:
    pixels, _ = everything(make_scene(noise(9, 9, 3) % 16, nbits=4))
    assert pixels.max() == 255


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_one_bit_is_black_and_white(make_scene: MakeScene, photometric: str) -> None:
    bits = noise(9, 9, 1) % 2
    path = make_scene(bits, colours=[GREY], nbits=1, photometric=photometric)
    white = bits[..., 0] == (photometric == "minisblack")
    assert np.array_equal(everything(path)[0][..., 1], np.where(white, 255, 0))


def test_complex_numbers_are_refused(make_scene: MakeScene) -> None:
    path = make_scene(np.ones((4, 4, 1), np.complex64), colours=[GREY])
    with pytest.raises(DataError, match=r"scene\.tif: holds complex numbers"):
        everything(path)


# What is valid.


def test_nodata_is_where_all_bands_have_it(make_scene: MakeScene) -> None:
    pixels = np.full((4, 4, 3), 9, np.uint8)
    pixels[0, 0] = 255
    pixels[1, 1, :2] = 255
    _, valid = everything(make_scene(pixels, nodata=255))
    assert np.argwhere(~valid).tolist() == [[0, 0]]


def test_not_a_number_is_no_value(make_scene: MakeScene) -> None:
    values = np.random.default_rng(0).normal(size=(9, 9, 3)).astype(np.float32)
    values[2, 3, 1] = np.nan
    values[4, 4, 0] = np.inf
    pixels, valid = everything(make_scene(values, nodata=float("nan")))
    assert np.argwhere(~valid).tolist() == [[2, 3], [4, 4]]
    assert pixels.max() == 255


@pytest.mark.parametrize("bands", [None, (1, 2, 3), (2,)])
def test_a_band_that_nobody_looks_at_says_what_is_nodata_too(
    make_scene: MakeScene, bands: tuple[int, ...] | None
) -> None:
    """Water may be black in all colours, but not in the infrared."""
    pixels = noise(9, 9, 4) // 2 + 1
    pixels[0, 0, :3] = 0
    pixels[1, 1] = 0
    path = make_scene(pixels, nodata=0, colours=[RED, GREEN, BLUE, NONE])
    assert np.argwhere(~everything(path, bands=bands)[1]).tolist() == [[1, 1]]


def test_a_nodata_value_that_the_type_cannot_hold_marks_nothing(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    copy_raster(make_scene(noise(9, 9)), tmp_path / "scene.vrt", driver="VRT")
    text = (tmp_path / "scene.vrt").read_text()
    wrong = "<NoDataValue>-9999</NoDataValue><ColorInterp>"
    (tmp_path / "scene.vrt").write_text(text.replace("<ColorInterp>", wrong))
    with Scene(tmp_path / "scene.vrt", 3) as scene:
        assert scene.read(0, 0, 9, 9)[1].all()


def test_masks_and_alpha(make_scene: MakeScene) -> None:
    shown = np.zeros((9, 9), bool)
    shown[2:7, 3:8] = True
    masked = make_scene(noise(9, 9), "masked.tif", mask=shown)
    assert np.array_equal(everything(masked)[1], shown)
    alpha = np.dstack([noise(9, 9), shown.astype(np.uint8) * 255])
    path = make_scene(alpha, "alpha.tif", colours=[RED, GREEN, BLUE, ALPHA])
    pixels, valid = everything(path)
    assert np.array_equal(valid, shown)
    assert pixels.shape == (9, 9, 3)


def test_infrared_that_is_called_alpha(
    make_scene: MakeScene, caplog: pytest.LogCaptureFixture
) -> None:
    """Many files' fourth band is called so by whoever wrote them."""
    pixels = noise(30, 30, 4)
    pixels[0, 0, 3] = 0
    path = make_scene(pixels, colours=[RED, GREEN, BLUE, ALPHA])
    assert everything(path)[1].all()
    assert "band 4 is called alpha" in caplog.text
    everything(path, bands=(4, 1, 2))


# Views.


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    wanted=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    window=st.tuples(st.integers(-40, 60), st.integers(-40, 60)),
    masked=st.booleans(),
)
def test_any_window_of_a_view_is_the_same_piece_of_it(
    make_scene: MakeScene,
    size: tuple[int, int],
    wanted: tuple[int, int],
    window: tuple[int, int],
    masked: bool,
) -> None:
    pixels = noise(*size, seed=sum(size))
    pixels[: size[0] // 3] = 0
    path = make_scene(pixels, nodata=0 if masked else None)
    with Scene(path, 3) as scene:
        view = ResampledScene(scene, *wanted)
        whole, valid = view.read(0, 0, *wanted)
        part, part_valid = view.read(*window, 30, 20)
    tall, wide = ((size_ - 1) or 1 for size_ in wanted)
    rows = np.abs((np.arange(window[0], window[0] + 30) + tall) % (2 * tall) - tall)
    columns = np.abs((np.arange(window[1], window[1] + 20) + wide) % (2 * wide) - wide)
    rows, columns = rows * (wanted[0] > 1), columns * (wanted[1] > 1)
    assert np.array_equal(part_valid, valid[rows[:, None], columns[None]])
    difference = part.astype(int) - whole[rows[:, None], columns[None]]
    assert np.abs(difference)[part_valid].max(initial=0) <= 1


@pytest.mark.parametrize("factor", [0.5, 1.5, 3, 7.3, 20])
def test_a_view_covers_the_same_ground(make_scene: MakeScene, factor: float) -> None:
    """A smooth scene reduced lies where it lay: what is bright stays in its place."""
    path = make_scene(smooth(400, 500))
    wanted = (round(400 / factor), round(500 / factor))
    with Scene(path, 3) as scene:
        view = ResampledScene(scene, *wanted)
        pixels, valid = view.read(0, 0, *wanted)
        assert np.allclose(view.grid.transform @ (wanted[1], wanted[0]), (500_500, 4_999_600))
    rows = (np.arange(wanted[0]) + 0.5) * 400 / wanted[0] - 0.5
    columns = (np.arange(wanted[1]) + 0.5) * 500 / wanted[1] - 0.5
    wave = np.sin(rows[:, None] / 9) * 60 + np.cos(columns[None] / 11) * 60
    agreement = np.corrcoef(wave.ravel(), pixels[..., 0].ravel())[0, 1]
    assert agreement > 0.99
    assert valid.all()


@pytest.mark.parametrize("factor", [0.6, 1, 1.7, 3, 9])
def test_what_is_invalid_never_leaks(make_scene: MakeScene, factor: float) -> None:
    """The same valid pixels give the same view, whatever lies under the mask."""
    shown = np.zeros((90, 90), bool)
    shown[20:71, 33:80] = True
    wanted = round(90 / factor)
    results = []
    for hidden in (0, 255):
        pixels = np.where(shown[..., None], noise(90, 90) // 2 + 60, np.uint8(hidden))
        path = make_scene(pixels, f"{hidden}.tif", mask=shown)
        with Scene(path, 3) as scene:
            view = ResampledScene(scene, wanted, wanted)
            results.append((*view.read(0, 0, wanted, wanted), view.valid(0, 0, wanted, wanted)))
    (one, valid, half), (other, again, _) = results
    assert np.array_equal(valid, again)
    assert np.array_equal(one[valid], other[valid])
    assert one[valid].min() >= 60 and one[valid].max() <= 187
    assert not valid.all()
    assert (half <= valid).all()
    assert half.mean() == pytest.approx(shown.mean(), abs=0.08)


def test_overviews_are_used_and_agree(make_scene: MakeScene) -> None:
    path = make_scene(smooth(600, 600), tiled=True, blockxsize=128, blockysize=128)
    with Scene(path, 3) as scene:
        plain, _ = ResampledScene(scene, 60, 60).read(0, 0, 60, 60)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], rasterio.enums.Resampling.average)
    with Scene(path, 3) as scene:
        fast, _ = ResampledScene(scene, 60, 60).read(0, 0, 60, 60)
    assert np.abs(plain.astype(int) - fast).max() <= 3


# Bad files.


def test_files_that_are_no_rasters(tmp_path: Path) -> None:
    text = tmp_path / "text.tif"
    text.write_text("not a raster")
    with pytest.raises(DataError, match=r"text\.tif: cannot be read .*not recognized"):
        everything(text)
    vector = tmp_path / "vector.tif"
    vector.write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(DataError, match=r"vector\.tif: cannot be read"):
        everything(vector)
    empty = tmp_path / "empty.tif"
    empty.touch()
    with pytest.raises(DataError, match=r"empty\.tif: cannot be read"):
        everything(empty)
    with pytest.raises(DataError, match=r"no\.tif: there is no such file"):
        everything(tmp_path / "no.tif")


def test_a_corrupt_block_in_the_middle(make_scene: MakeScene) -> None:
    path = make_scene(noise(256, 256), tiled=True, blockxsize=64, blockysize=64, compress="lzw")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = b"\xff" * 3000
    path.write_bytes(content)
    with Scene(path, 3) as scene:
        scene.read(0, 0, 64, 64)
        with pytest.raises(DataError, match=r"scene\.tif: cannot be read"):
            scene.read(0, 0, 256, 256)


def test_whoever_reads_does_so_under_our_settings(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever thread, and with the mask beside a local file in sight."""
    monkeypatch.delenv("GDAL_HTTP_MAX_RETRY", raising=False)
    seen: list[tuple[object, object]] = []

    def spy(reader: type[Scene | Values], name: str) -> None:
        real = getattr(reader, name)

        def spied(*arguments: Any, **options: Any) -> Any:
            names = "GDAL_HTTP_MAX_RETRY", "GDAL_DISABLE_READDIR_ON_OPEN"
            seen.append(tuple(map(get_gdal_config, names)))  # type: ignore[arg-type]
            return real(*arguments, **options)

        monkeypatch.setattr(reader, name, spied)

    spy(Scene, "_prepare")
    spy(Values, "sample")
    spy(Values, "read")
    scene = Scene(make_scene(noise(20, 20)), 3, Reading(stretch=(2, 98)))
    with scene, ThreadPoolExecutor(1) as thread, rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE"):
        thread.submit(scene.read, 0, 0, 20, 20).result()
        scene.read(0, 0, 20, 20)
    assert seen == [(4, "FALSE")] * 4
    assert get_gdal_config("GDAL_HTTP_MAX_RETRY") is None


def test_a_broken_file_fails_at_once(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drive or a server may be back a moment later, what is broken stays so."""
    path = make_scene(noise(256, 256), tiled=True, blockxsize=64, blockysize=64, compress="lzw")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    monkeypatch.setattr("sat2map.geo.gdal.time.sleep", lambda _: pytest.fail("waits"))
    with (
        Scene(path, 3) as scene,
        pytest.raises(DataError, match=r"scene\.tif: cannot be read"),
    ):
        scene.read(0, 0, 256, 256)
    with pytest.raises(DataError, match=r"scene\.tif: cannot be read"):
        Scene(path, 3, Reading(stretch=(2, 98)))  # looks at pixels from all over it


def test_notices_are_given_once(make_scene: MakeScene, caplog: pytest.LogCaptureFixture) -> None:
    path = make_scene(noise(8, 8, 1), colours=[GREY])
    with (
        caplog.at_level(logging.WARNING),
        Scene(path, 3),
        Scene(path, 3, say=logging.getLogger().debug),
    ):
        pass
    assert len(caplog.records) == 1


def test_a_dark_scene_of_8_bits_is_stretched_and_that_is_said(
    make_scene: MakeScene, caplog: pytest.LogCaptureFixture
) -> None:
    bright = smooth(300, 300)
    with Scene(make_scene(bright // 6, "dark.tif"), 3) as dark:
        assert dark.value_range is not None
        shown = dark.read(0, 0, 300, 300)[0]
    assert "is dark" in caplog.text and "`value_range`=0,255" in caplog.text
    assert shown.max() == 255 and shown.std() > 50
    caplog.clear()
    with Scene(make_scene(bright // 6, "left.tif"), 3, Reading(value_range=(0, 255))) as left:
        assert np.array_equal(left.read(0, 0, 300, 300)[0], bright // 6)
    with Scene(make_scene(bright, "bright.tif"), 3) as usual:
        assert usual.value_range is None
    with Scene(make_scene(bright * 0, "black.tif"), 3) as black:
        assert black.value_range is None
    assert "is dark" not in caplog.text


def test_a_dull_scene_gets_contrast_but_no_more_than_twice(
    make_scene: MakeScene, caplog: pytest.LogCaptureFixture
) -> None:
    bright = smooth(300, 300)
    with Scene(make_scene(bright // 3 + 40, "dull.tif"), 3) as dull:  # 40 to 125
        shown = dull.read(0, 0, 300, 300)[0]
    assert "is dull" in caplog.text and "`value_range`=0,255" in caplog.text
    expected = (bright // 3).astype(float)
    assert np.ptp(shown) == pytest.approx(2 * np.ptp(expected), rel=0.03)
    with Scene(make_scene(bright // 2, "half.tif"), 3) as half:
        shown = half.read(0, 0, 300, 300)[0]
    assert np.abs(shown.astype(int) - bright).max() <= 2, "what fits is brought back"
    with Scene(make_scene(bright // 12 + 100, "flat.tif"), 3) as flat:  # as a sea
        shown = flat.read(0, 0, 300, 300)[0]
    assert np.ptp(shown) < 50
    assert abs(float(shown.mean()) - 110) < 60


def test_a_part_of_a_dark_scene_looks_like_the_whole(make_scene: MakeScene) -> None:
    path = make_scene(smooth(300, 300) // 6)
    with Scene(path, 3) as whole:
        expected = whole.read(40, 50, 30, 30)[0]
        west, north = whole.grid.transform @ (50, 40)
        east, south = whole.grid.transform @ (80, 70)
    bounds = transform_bounds("EPSG:32633", "EPSG:4326", west, south, east, north)
    with Scene(path, 3, Reading(bbox=bounds)) as part:
        inner = part.read(1, 1, 20, 20)[0]
    assert any(
        np.array_equal(inner, expected[r : r + 20, c : c + 20])
        for r in range(10)
        for c in range(10)
    )


def with_overviews(path: Path, kind: Resampling, raised: int = 0) -> None:
    """Give a scene overviews at a half and a quarter, whose values are raised by a little."""
    with rasterio.open(path, "r+") as file:
        pixels = file.read()
        file.write(pixels + np.uint8(raised))
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], kind)
    with rasterio.open(path, "r+") as file:
        file.write(pixels)


@pytest.mark.parametrize("kind", [Resampling.average, Resampling.cubic, Resampling.gauss])
def test_overviews_that_are_means_are_read(make_scene: MakeScene, kind: Resampling) -> None:
    path = make_scene(
        noise(240, 280) // 2 + smooth(240, 280) // 4, tiled=True, blockxsize=64, blockysize=64
    )
    with Scene(path, 3) as scene:
        plain, _ = ResampledScene(scene, 100, 117).read(0, 0, 100, 117)  # 2.4 pixels become one
        assert scene.thinning(2.4) == 1
    with_overviews(path, kind, raised=3)
    with Scene(path, 3) as scene:
        assert [scene.thinning(ratio) for ratio in (1.0, 1.9, 2.4, 3.9, 4.0, 9.0)] == [
            1,
            1,
            2,
            2,
            4,
            4,
        ]
        fast, _ = ResampledScene(scene, 100, 117).read(0, 0, 100, 117)
    apart = fast.astype(int) - plain
    assert abs(apart.mean() - 3) < 0.5  # they hold other values, so it is known that they were read
    assert np.abs(apart - 3).mean() < 9  # of noise of 127


def test_overviews_of_single_pixels_are_not_read(make_scene: MakeScene) -> None:
    path = make_scene(noise(240, 280), tiled=True, blockxsize=64, blockysize=64)
    sizes = ((100, 117), (48, 56))
    with Scene(path, 3) as scene:
        plain = [ResampledScene(scene, *size).read(0, 0, *size)[0] for size in sizes]
    with_overviews(path, Resampling.nearest)
    with Scene(path, 3) as scene:
        found = [ResampledScene(scene, *size).read(0, 0, *size)[0] for size in sizes]
    for before, after in zip(plain, found, strict=True):
        assert np.abs(after.astype(int) - before).max() <= 1
