from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

from fixtures.scenes import UTM, MakeModel, MakeScene, noise, with_classes
from sat2map import atomic as room
from sat2map.errors import EmptySceneError, OutputError, StoppedError, UsageError
from sat2map.legend import COVER, LEGEND_TAG, STREETS, Legend
from sat2map.raster.options import Reading, SceneOptions
from sat2map.translation.classes import NODATA, ClassLegend, translate_classes
from sat2map.translation.scene import translate_raster
from sat2map.translation.scene_windows import SceneWindows

CORE = 48


@pytest.mark.parametrize(("legend", "known"), [("cover", COVER), ("map", STREETS)])
def test_a_class_map_and_its_confidence_are_those_of_the_windows(
    make_scene: MakeScene, tmp_path: Path, legend: ClassLegend, known: Legend
) -> None:
    pixels = noise(110, 130)
    pixels[:60, :60] = 0
    source = make_scene(pixels, nodata=0)
    model = with_classes((0.5, 2.0))
    options = SceneOptions(window=CORE)
    classes, confidence = tmp_path / "classes.tif", tmp_path / "confidence.tif"
    steps: list[tuple[int, int]] = []
    assert classes == translate_classes(
        source,
        classes,
        model,
        options,
        confidence=confidence,
        legend=legend,
        progress=lambda *step: steps.append(step),
    )
    assert {path.name for path in tmp_path.iterdir()} == {
        "scene.tif",
        "classes.tif",
        "confidence.tif",
    }
    with rasterio.open(classes) as file, rasterio.open(confidence) as beside:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        numbers, sure, shown = file.read(1), beside.read(1), beside.read_masks(1) > 0
        assert (file.nodata, file.dtypes) == (NODATA, ("uint8",))
        assert Legend.from_json(json.loads(file.tags()[LEGEND_TAG])) == known
        colours = file.colormap(1)
        assert [colours[i][:3] for i in range(len(known))] == [c.colour for c in known.classes]
        assert np.array_equal(file.read_masks(1) > 0, shown)
        assert (file.transform, file.crs) == (beside.transform, beside.crs)
    layers = ("cover", "cover_confidence") if legend == "cover" else ("classes", "confidence")
    with SceneWindows(source, model, core=CORE) as windows:
        assert numbers.shape == (windows.grid.height, windows.grid.width)
        for row in range(windows.rows):
            for column in range(windows.columns):
                place = windows.place(row, column)
                where = np.s_[place.top : place.bottom, place.left : place.right]
                answer = windows.maps(row, column, layers)
                if answer is None:
                    assert (numbers[where] == NODATA).all()
                    continue
                maps, valid = answer
                assert np.array_equal(shown[where], valid)
                assert np.array_equal(numbers[where][valid], getattr(maps, layers[0])[valid])
                assert np.array_equal(sure[where][valid], getattr(maps, layers[1])[valid])
    assert (numbers[~shown] == NODATA).all()
    assert (~shown).sum() == 60 * 60
    assert steps == sorted(steps)
    assert steps[-1] == (numbers.size, numbers.size)


def test_a_finer_scene_gets_the_networks_grid_over_the_same_ground(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    transform = rasterio.Affine(0.25, 0, 500_000, 0, -0.25, 5_000_000)
    source = make_scene(noise(200, 160), transform=transform)
    made = translate_classes(source, tmp_path / "classes.tif", with_classes((1.0, 1.0)))
    with rasterio.open(made) as file, rasterio.open(source) as photo:
        assert file.bounds == pytest.approx(photo.bounds)
        assert file.shape == (50, 40)


@pytest.mark.parametrize("placed", [True, False])
def test_the_size_of_pixels_that_is_told_counts(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path, placed: bool
) -> None:
    """As it does for the map: whether the scene says none or a wrong one."""
    source = make_scene(noise(200, 160), georeference=UTM if placed else {})
    options, model = SceneOptions(Reading(pixel_size=0.25)), with_classes((1.0, 1.0))
    made = translate_classes(source, tmp_path / "classes.tif", model, options)
    with rasterio.open(made) as file:
        assert file.shape == (50, 40)
    seen = replace(options, resolution="model")
    with rasterio.open(translate_raster(source, tmp_path / "map.tif", model, seen)) as file:
        assert file.shape == (50, 40)


def test_models_without_classes_or_windows_are_refused(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    source, target = make_scene(noise(40, 40)), tmp_path / "classes.tif"
    with pytest.raises(UsageError, match=r"identity: the model has no legend"):
        translate_classes(source, target, make_model())
    with pytest.raises(UsageError, match=r"identity: its network sees the whole image"):
        translate_classes(source, target, make_model(legend=STREETS))
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


def test_options_and_names_that_do_not_fit_are_refused(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    source, model = make_scene(noise(40, 40)), with_classes((0.5, 2.0))
    target = tmp_path / "classes.tif"
    for parameter, options in (
        ("bbox", SceneOptions(reading=Reading(bbox=(14.9, 45.1, 15.1, 45.2)))),
        ("mask", SceneOptions(mask=tmp_path / "area.gpkg")),
        ("mode", replace(SceneOptions(), mode="published")),
    ):
        with pytest.raises(UsageError, match=parameter):
            translate_classes(source, target, model, options)
    with pytest.raises(UsageError, match=r"End it in \.tif"):
        translate_classes(source, tmp_path / "classes.png", model)
    with pytest.raises(UsageError, match="the input itself"):
        translate_classes(source, source, model)
    with pytest.raises(UsageError, match="two files"):
        translate_classes(source, target, model, confidence=target)
    (tmp_path / "taken.tif").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        translate_classes(source, tmp_path / "taken.tif", model)
    assert {path.name for path in tmp_path.iterdir()} == {"scene.tif", "taken.tif"}


def test_nothing_is_left_of_what_breaks_off(
    make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, target = with_classes((0.5, 2.0)), tmp_path / "classes.tif"
    beside = tmp_path / "confidence.tif"
    target.write_text("what was there")
    source = make_scene(noise(100, 100))
    stop = threading.Event()
    with pytest.raises(StoppedError):
        translate_classes(
            source,
            target,
            model,
            SceneOptions(window=CORE),
            confidence=beside,
            progress=lambda *_: stop.set(),
            stop=stop,
        )
    empty = make_scene(np.zeros((40, 40, 3), np.uint8), "empty.tif", nodata=0)
    with pytest.raises(EmptySceneError, match=r"empty\.tif"):
        translate_classes(empty, target, model, confidence=beside)

    class Usage:
        free = 1000

    monkeypatch.setattr(room.shutil, "disk_usage", lambda _path: Usage)
    with pytest.raises(OutputError, match="GB are free"):
        translate_classes(source, target, model, confidence=beside)
    assert target.read_text() == "what was there"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"scene.tif", "empty.tif", "classes.tif"}
