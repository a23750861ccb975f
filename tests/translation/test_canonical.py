"""Canonical windows: whoever asks for one, and for whatever else beside it, gets the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.transform import Affine
from rasterio.warp import transform_bounds

from fixtures.scenes import MakeScene, noise, smooth
from sat2map.errors import UsageError
from sat2map.legend import STREETS
from sat2map.model.folder import Model, ModelCard, build_generator
from sat2map.networks.specs import CompactSpec, UNetSpec
from sat2map.raster.options import Reading, SceneOptions
from sat2map.translation import windows as module
from sat2map.translation.maps import LAYERS
from sat2map.translation.scene import translate_raster
from sat2map.translation.scene_windows import SceneWindows
from sat2map.translation.translator import Translator, load
from sat2map.translation.windows import choose_frame

CORE = 64


def read(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as file:
        pixels: NDArray[Any] = file.read().transpose(1, 2, 0)
        return pixels


def near_sighted(halo: int | None = None) -> Translator:
    """A translator that looks 40 pixels far, less than the scenes here are wide."""
    spec = CompactSpec(
        channels=[8, 8, 16], blocks=[0, 0, 0, 0, 0], colours=STREETS.colours.tolist()
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_generator(spec)
    network.exit.weight.data.mul_(20)  # type: ignore[operator, union-attr]
    card = ModelCard(
        generator=spec, normalisation="none", legend=STREETS, resolution_m=(1, 1), halo=halo
    )
    return Translator(Model(network, card, Path("near")), "cpu")


def watched(translator: Translator) -> list[tuple[int, ...]]:
    """Return the shapes of what the network sees from now on."""
    shapes: list[tuple[int, ...]] = []
    run = translator._runtime.run

    def noted(source: NDArray[np.uint8], *arguments: Any, **named: Any) -> Any:
        shapes.append(source.shape)
        return run(source, *arguments, **named)

    translator._runtime.run = noted  # type: ignore[method-assign]
    return shapes


def bounds_of(source: Path, rows: slice, columns: slice) -> tuple[float, float, float, float]:
    """Return the bounds in degrees of some pixels, a little within."""
    with rasterio.open(source) as file:
        left, top = file.transform @ (columns.start + 0.2, rows.start + 0.2)
        right, bottom = file.transform @ (columns.stop - 0.2, rows.stop - 0.2)
        west, south, east, north = transform_bounds(file.crs, 4326, left, bottom, right, top)
    return west, south, east, north


@pytest.mark.parametrize("metres", [1.0, 0.45, 1.7])
@pytest.mark.parametrize("resolution", ["native", "model"])
@pytest.mark.parametrize("legend_colours", [False, True])
def test_a_part_is_what_the_whole_scene_has_there(
    make_scene: MakeScene,
    tmp_path: Path,
    metres: float,
    resolution: Any,
    legend_colours: bool,
) -> None:
    transform = Affine(metres, 0, 500_000, 0, -metres, 5_400_000)
    source = make_scene(noise(190, 310), transform=transform, nodata=None)
    model = near_sighted()
    options = SceneOptions(window=CORE, resolution=resolution, legend_colours=legend_colours)
    translate_raster(source, tmp_path / "whole.tif", model, options)
    whole = read(tmp_path / "whole.tif")
    assert len(np.unique(whole)) > 2
    bbox = bounds_of(source, slice(37, 150), slice(70, 203))
    part = replace(options, reading=Reading(bbox=bbox))
    translate_raster(source, tmp_path / "part.tif", model, part)
    found = read(tmp_path / "part.tif")
    with rasterio.open(tmp_path / "part.tif") as one, rasterio.open(tmp_path / "whole.tif") as all_:
        left, top = ~all_.transform @ one.transform @ (0, 0)
        assert abs(left - round(left)) < 1e-6
        assert abs(top - round(top)) < 1e-6
    there = whole[round(top) :, round(left) :][: found.shape[0], : found.shape[1]]
    assert np.array_equal(found, there)


def test_the_shape_of_a_window_follows_from_the_scene(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    model = near_sighted()
    shapes = watched(model)
    frame = model.frame(CORE)
    assert frame is not None
    assert frame.core == CORE
    assert frame.halo % model.multiple == 0
    source = make_scene(noise(190, 135))
    translate_raster(source, tmp_path / "map.tif", model, SceneOptions(window=CORE))
    around = 2 * frame.halo
    rows, columns = [64 + around] * 3, [64 + around, 64 + around, 16 + around]
    whole = [(1, row, column, 3) for row in rows for column in columns]
    assert shapes == whole
    shapes.clear()
    bbox = bounds_of(source, slice(70, 100), slice(70, 135))
    part = SceneOptions(window=CORE, reading=Reading(bbox=bbox))
    translate_raster(source, tmp_path / "part.tif", model, part)
    assert shapes == whole[4:6]


@pytest.mark.parametrize("metres", [1.0, 0.6])
def test_a_window_alone_is_what_the_scene_has_there(
    make_scene: MakeScene, tmp_path: Path, metres: float
) -> None:
    transform = Affine(metres, 0, 500_000, 0, -metres, 5_400_000)
    pixels = noise(190, 170)
    pixels[:100, :100] = 0
    source = make_scene(pixels, transform=transform, nodata=0)
    model = near_sighted()
    options = SceneOptions(window=CORE, resolution="model")
    translate_raster(source, tmp_path / "map.tif", model, options)
    with rasterio.open(tmp_path / "map.tif") as file:
        whole, inside = file.read().transpose(1, 2, 0), file.dataset_mask() > 0
    with SceneWindows(source, model, core=CORE) as windows:
        assert (windows.grid.height, windows.grid.width) == whole.shape[:2]
        places = []
        for row in range(windows.rows):
            for column in range(windows.columns):
                place = windows.place(row, column)
                where = np.s_[place.top : place.bottom, place.left : place.right]
                places.append(where)
                with windows.another() as other:
                    found = other.maps(row, column, LAYERS)
                if found is None:
                    assert not inside[where].any()
                    continue
                maps, valid = found
                assert maps.image is not None
                assert np.array_equal(valid, inside[where])
                assert np.array_equal(maps.image[valid], whole[where][valid])
                assert maps.confidence is not None
                assert maps.confidence.shape == valid.shape
        times = np.zeros(whole.shape[:2], int)
        for where in places:
            times[where] += 1
        assert (times == 1).all()
        assert windows.touching(windows.place(1, 1)) == [(1, 1)]
        with pytest.raises(UsageError, match="there is no window"):
            windows.place(windows.rows, 0)


def test_large_arrays_are_translated_as_scenes_are(
    make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CORE", CORE)
    model, pixels = near_sighted(), noise(200, 170)
    translate_raster(make_scene(pixels), tmp_path / "map.tif", model, SceneOptions(window=CORE))
    shapes = watched(model)
    assert np.array_equal(model.translate(pixels), read(tmp_path / "map.tif"))
    assert len(shapes) == 4 * 3
    shapes.clear()
    frame = model.frame()
    assert frame is not None
    model.translate(pixels[: frame.size, :40])  # one window is enough
    assert shapes == [(1, frame.size, 48, 3)]


def test_a_halo_makes_windows_agree_with_the_whole() -> None:
    """With the halo that the network needs, cutting changes nothing but rounding."""
    model, source = near_sighted(), smooth(320, 320)
    whole = model.translate(source, output="probabilities")
    frame = choose_frame(model.card, model.multiple, CORE)
    assert frame is not None
    top = left = 128
    window = source[top - frame.halo :, left - frame.halo :][: frame.size, : frame.size]
    inner = slice(frame.halo, frame.halo + CORE)
    cut = model.predict(window)[inner, inner]
    np.testing.assert_allclose(cut, whole[top : top + CORE, left : left + CORE], rtol=0, atol=1e-3)


def test_the_halo_of_a_card_counts() -> None:
    frame = near_sighted(halo=17).frame(CORE)
    assert frame is not None
    assert frame.halo == 32  # a multiple of what the network needs


def test_a_network_that_sees_everything_has_no_canonical_windows(make_scene: MakeScene) -> None:
    spec = UNetSpec(size=16, base_channels=4)
    card = ModelCard(generator=spec, normalisation="none", resolution_m=(1, 1))
    model = Translator(Model(build_generator(spec), card, Path("unet")), "cpu")
    assert model.frame() is None
    with pytest.raises(UsageError, match="sees the whole image"):
        SceneWindows(make_scene(noise(40, 40)), model)


def test_the_core_is_as_large_as_memory_allows() -> None:
    card = near_sighted().card
    wide = card.model_copy(update={"generator": CompactSpec(channels=[48, 96, 256])})
    huge = card.model_copy(update={"generator": CompactSpec(in_channels=200)})
    for asked, spec, expected in ((None, wide, 1024), (4096, huge, 4096), (None, huge, 256)):
        frame = choose_frame(spec, 16, asked)
        assert frame is not None
        assert frame.core == expected


def test_in_int8_a_part_is_what_the_whole_has(make_scene: MakeScene, tmp_path: Path) -> None:
    """The kernels of int8 round differently for other shapes; here all shapes are one."""
    model = load("streets", "cpu")
    metres = 1.0
    transform = Affine(metres, 0, 500_000, 0, -metres, 5_400_000)
    source = make_scene(smooth(200, 300), transform=transform)
    options = SceneOptions(window=128)
    translate_raster(source, tmp_path / "whole.tif", model, options)
    bbox = bounds_of(source, slice(37, 170), slice(70, 203))
    part = replace(options, reading=Reading(bbox=bbox))
    translate_raster(source, tmp_path / "part.tif", model, part)
    found, whole = read(tmp_path / "part.tif"), read(tmp_path / "whole.tif")
    assert np.array_equal(found, whole[37:170, 70:203])
