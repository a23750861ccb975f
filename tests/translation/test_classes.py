"""Class maps of scenes, in the same pass as the map or alone."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.warp
import shapely
from PIL import Image

from fixtures.scenes import UTM, MakeModel, MakeScene, noise, smooth, with_classes, write_shapes
from sat2map import atomic as room
from sat2map.errors import EmptySceneError, OutputError, StoppedError, UsageError
from sat2map.legend import COVER, LEGEND_TAG, ROAD_WIDTH_TAG, STREETS, Legend
from sat2map.model.folder import Model, ModelCard, build_generator
from sat2map.networks.specs import LiteSpec
from sat2map.raster.options import Reading, SceneOptions
from sat2map.raster.sources import open_source
from sat2map.translation.class_files import NODATA, ClassFiles, ClassLegend
from sat2map.translation.classes import translate_classes
from sat2map.translation.land_cover import land_cover_of
from sat2map.translation.scene import translate_raster
from sat2map.translation.scene_windows import SceneWindows
from sat2map.translation.translator import Translator

CORE = 48
OPTIONS = SceneOptions(window=CORE)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(("legend", "known"), [("cover", COVER), ("map", STREETS)])
def test_a_class_map_and_its_confidence_are_those_of_the_windows(
    make_scene: MakeScene, tmp_path: Path, legend: ClassLegend, known: Legend
) -> None:
    pixels = noise(110, 130)
    pixels[:60, :60] = 0
    source = make_scene(pixels, nodata=0)
    model = with_classes((0.5, 2.0))
    classes, confidence = tmp_path / "classes.tif", tmp_path / "confidence.tif"
    steps: list[tuple[int, int]] = []
    assert classes == translate_classes(
        source,
        classes,
        model,
        OPTIONS,
        lambda *step: steps.append(step),
        confidence=confidence,
        legend=legend,
    )
    made = {"scene.tif", "classes.tif", "classes.tif.aux.xml", "confidence.tif"}
    assert names(tmp_path) == made
    with rasterio.open(classes) as file, rasterio.open(confidence) as beside:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        numbers, sure, shown = file.read(1), beside.read(1), beside.read_masks(1) > 0
        assert (file.nodata, file.dtypes) == (NODATA, ("uint8",))
        assert Legend.from_json(json.loads(file.tags()[LEGEND_TAG])) == known
        colours = file.colormap(1)
        opaque = {number for number, colour in colours.items() if colour[3]}
        assert opaque == set(range(len(known)))
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


@pytest.mark.parametrize(("legend", "told"), [("cover", "1.1"), ("map", None)])
def test_a_land_cover_says_by_how_much_widths_of_roads_are_off(
    make_scene: MakeScene, tmp_path: Path, legend: ClassLegend, told: str | None
) -> None:
    colours = STREETS.colours.tolist()
    spec = LiteSpec(colours=colours, cover_classes=len(COVER), widths=[4, 4, 4, 4])
    card = ModelCard(
        generator=spec, normalisation="none", legend=STREETS, cover=COVER, road_width_error_m=1.1
    )
    model = Translator(Model(build_generator(spec), card, Path("lite")), "cpu")
    classes, source = tmp_path / "classes.tif", make_scene(noise(64, 64))
    translate_classes(source, classes, model, legend=legend)
    with rasterio.open(classes) as file:
        assert file.tags().get(ROAD_WIDTH_TAG) == told
    if legend == "cover":
        with (
            land_cover_of(open_source(source), tmp_path / "photo", model) as (numbers, _),
            rasterio.open(numbers) as file,
        ):
            assert file.tags()[ROAD_WIDTH_TAG] == told


@pytest.mark.parametrize("resolution", ["model", "native", 0.4])
def test_map_and_classes_come_of_one_pass_and_are_those_of_two(
    make_scene: MakeScene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    resolution: str | float,
) -> None:
    transform = rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)
    source = make_scene(smooth(200, 160), transform=transform)
    model, options = with_classes((1.0, 1.0)), replace(OPTIONS, resolution=resolution)
    passes: list[int] = []
    predict = type(model).predict

    def counted(self: object, *arguments: object) -> object:
        passes.append(1)
        return predict(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(type(model), "predict", counted)
    translate_raster(source, tmp_path / "alone.tif", model, options)
    windows = len(passes)
    translate_classes(
        source, tmp_path / "own.tif", model, options, confidence=tmp_path / "own_sure.tif"
    )
    passes.clear()
    files = ClassFiles(tmp_path / "classes.tif", tmp_path / "confidence.tif")
    translate_raster(source, tmp_path / "map.tif", model, options, classes=files)
    assert len(passes) == windows
    for one, other in (("map", "alone"), ("classes", "own"), ("confidence", "own_sure")):
        with (
            rasterio.open(tmp_path / f"{one}.tif") as left,
            rasterio.open(tmp_path / f"{other}.tif") as right,
            rasterio.open(tmp_path / "map.tif") as map_,
        ):
            assert np.array_equal(left.read(), right.read())
            assert (left.shape, left.transform) == (map_.shape, map_.transform)


@pytest.mark.parametrize("placed", [True, False])
def test_the_size_of_pixels_that_is_told_counts(
    make_scene: MakeScene, tmp_path: Path, placed: bool
) -> None:
    """As it does for the map: whether the scene says none or a wrong one."""
    source = make_scene(noise(200, 160), georeference=UTM if placed else {})
    model = with_classes((1.0, 1.0))
    options = SceneOptions(Reading(pixel_size=0.25), resolution="model")
    made = translate_classes(source, tmp_path / "classes.tif", model, options)
    with rasterio.open(made) as file:
        assert file.shape == (50, 40)
    with rasterio.open(translate_raster(source, tmp_path / "map.tif", model, options)) as file:
        assert file.shape == (50, 40)


@pytest.mark.parametrize("published", [False, True])
def test_a_model_that_answers_in_colours_has_classes_but_no_confidence(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path, published: bool
) -> None:
    pixels = STREETS.paint(np.random.default_rng(0).integers(0, len(STREETS), (80, 96)))
    source, model = make_scene(pixels), make_model(legend=STREETS)
    options = SceneOptions(window=64, mode="published" if published else "deterministic")
    translate_classes(source, tmp_path / "classes.tif", model, options, legend="map")
    with rasterio.open(tmp_path / "classes.tif") as file:
        assert np.array_equal(file.read(1), STREETS.label(pixels))
    with pytest.raises(UsageError, match="answers in colours, which tell no confidence"):
        translate_classes(
            source, tmp_path / "c.tif", model, options, confidence=tmp_path / "sure.tif"
        )


def test_bbox_and_mask_leave_a_part_of_the_whole(make_scene: MakeScene, tmp_path: Path) -> None:
    source, model = make_scene(noise(150, 140)), with_classes((0.5, 2.0))
    translate_classes(source, tmp_path / "whole.tif", model, OPTIONS)
    with rasterio.open(tmp_path / "whole.tif") as file:
        whole = file.read(1)
        west, north = file.transform @ (30, 20)
        east, south = file.transform @ (100, 90)
        bbox = rasterio.warp.transform_bounds(file.crs, "EPSG:4326", west, south, east, north)
    part = replace(OPTIONS, reading=Reading(bbox=bbox))
    translate_classes(source, tmp_path / "part.tif", model, part)
    with rasterio.open(tmp_path / "part.tif") as file:
        left, top = map(round, (~rasterio.open(source).transform) @ file.transform @ (0, 0))
        inside = whole[top : top + file.height, left : left + file.width]
        assert np.array_equal(file.read(1), inside)
        assert file.height < 80 < 150
    area = write_shapes(tmp_path / "area.gpkg", [shapely.box(west, south, east, north)])
    translate_classes(source, tmp_path / "masked.tif", model, replace(OPTIONS, mask=area))
    with rasterio.open(tmp_path / "masked.tif") as file:
        masked = file.read(1)
    assert np.array_equal(masked[20:90, 30:100], whole[20:90, 30:100])
    masked[20:90, 30:100] = NODATA
    assert (masked == NODATA).all()


def test_gdal_and_qgis_read_names_and_colours(make_scene: MakeScene, tmp_path: Path) -> None:
    files = ClassFiles(
        tmp_path / "classes.tif", qgis_style=True, legend_image=tmp_path / "legend.png"
    )
    translate_classes(make_scene(noise(40, 40)), files, with_classes((0.5, 2.0)))
    assert names(tmp_path) == {"scene.tif", *(path.name for path in files.files)}
    band = ElementTree.parse(tmp_path / "classes.tif.aux.xml").getroot()[0]
    assert [entry.text for entry in band.iter("Category")] == list(COVER.names)
    columns = [entry.findtext("Name") for entry in band.iter("FieldDefn")]
    rows = [[value.text for value in row] for row in band.iter("Row")]
    table = [dict(zip(columns, row, strict=True)) for row in rows]
    for number, (row, entry) in enumerate(zip(table, COVER.classes, strict=True)):
        assert (row["Value"], row["Class"], row["Role"]) == (str(number), entry.name, entry.role)
        assert tuple(int(row[c] or "") for c in ("Red", "Green", "Blue")) == entry.colour
    palette = ElementTree.parse(tmp_path / "classes.qml").getroot().iter("paletteEntry")
    shown = {int(e.get("value", "")): (e.get("label"), e.get("color")) for e in palette}
    assert shown == {
        number: (entry.name, "#{:02x}{:02x}{:02x}".format(*entry.colour))
        for number, entry in enumerate(COVER.classes)
    }
    picture = np.asarray(Image.open(tmp_path / "legend.png").convert("RGB")).reshape(-1, 3)
    assert {entry.colour for entry in COVER.classes} <= set(map(tuple, picture.tolist()))


def test_what_does_not_fit_is_refused(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    source, model = make_scene(noise(40, 40)), with_classes((0.5, 2.0))
    target = tmp_path / "classes.tif"
    with pytest.raises(UsageError, match="identity: the model has no legend"):
        translate_classes(source, target, make_model())
    with pytest.raises(UsageError, match=r"End it in \.tif"):
        translate_classes(source, tmp_path / "classes.png", model)
    with pytest.raises(UsageError, match=r"End it in \.png"):
        files = ClassFiles(target, legend_image=tmp_path / "legend.tif")
        translate_classes(source, files, model)
    with pytest.raises(UsageError, match="the input itself"):
        translate_classes(source, source, model)
    for classes, confidence in ((target, target), (target, tmp_path / "map.tif")):
        with pytest.raises(UsageError, match="the name of two files"):
            files = ClassFiles(classes, confidence)
            translate_raster(source, tmp_path / "map.tif", model, classes=files)
    with pytest.raises(UsageError, match="`legend`: 'what' does not say"):
        ClassFiles(target, legend="what")  # type: ignore[arg-type]
    (tmp_path / "taken.tif").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        translate_classes(source, tmp_path / "taken.tif", model)
    assert names(tmp_path) == {"scene.tif", "taken.tif"}


def test_nothing_is_left_of_what_has_not_begun(
    make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, target = with_classes((0.5, 2.0)), tmp_path / "classes.tif"
    beside = tmp_path / "confidence.tif"
    target.write_text("what was there")
    source = make_scene(noise(100, 100))
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        translate_classes(source, target, model, OPTIONS, stop=stop, confidence=beside)
    empty = make_scene(np.zeros((40, 40, 3), np.uint8), "empty.tif", nodata=0)
    with pytest.raises(EmptySceneError, match=r"empty\.tif"):
        translate_classes(empty, target, model, confidence=beside)

    class Usage:
        free = 1000

    monkeypatch.setattr(room.shutil, "disk_usage", lambda _path: Usage)
    with pytest.raises(OutputError, match=r"[GM]B are free"):
        translate_classes(source, target, model, confidence=beside)
    assert target.read_text() == "what was there"
    assert names(tmp_path) == {"scene.tif", "empty.tif", "classes.tif"}


def test_what_was_interrupted_goes_on_and_two_at_once_are_refused(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    source, model = make_scene(noise(1000, 90)), with_classes((0.5, 2.0))
    (tmp_path / "elsewhere").mkdir()
    files = ClassFiles(tmp_path / "elsewhere" / "classes.tif", tmp_path / "confidence.tif")
    whole = ClassFiles(tmp_path / "whole.tif", tmp_path / "whole_sure.tif")
    options, stop = SceneOptions(window=256), threading.Event()
    translate_raster(source, tmp_path / "expected.tif", model, options, classes=whole)

    def show(done: int, _total: int) -> None:
        if done >= 700 * 90:
            stop.set()
            for other in (tmp_path / "map.tif", tmp_path / "other.tif"):
                with pytest.raises(UsageError, match="is being written by another process"):
                    translate_raster(source, other, model, options, classes=files)

    with pytest.raises(StoppedError, match=r"map\.tif: .* rows are finished"):
        translate_raster(source, tmp_path / "map.tif", model, options, show, stop, classes=files)
    kept = {".map.tif.partial", "elsewhere", "scene.tif"}
    made = {"expected.tif", "whole.tif", "whole.tif.aux.xml", "whole_sure.tif"}
    assert names(tmp_path) == kept | made
    assert names(tmp_path / "elsewhere") == set()
    again = replace(options, resume=True)
    with pytest.raises(UsageError, match="set of parameters"):
        translate_raster(source, tmp_path / "map.tif", model, again)
    translate_raster(source, tmp_path / "map.tif", model, again, classes=files)
    for one, other in (
        (tmp_path / "map.tif", tmp_path / "expected.tif"),
        (files.classes, whole.classes),
        (files.confidence, whole.confidence),
    ):
        assert one is not None and other is not None
        with rasterio.open(one) as left, rasterio.open(other) as right:
            assert np.array_equal(left.read(masked=True), right.read(masked=True))
    assert names(tmp_path / "elsewhere") == {"classes.tif", "classes.tif.aux.xml"}


PROGRAM = """
import sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
from fixtures.scenes import with_classes
from sat2map.raster.options import SceneOptions
from sat2map.translation.class_files import ClassFiles
from sat2map.translation.scene import translate_raster

def show(done, total):
    print(done, flush=True)
    time.sleep(0.05)

files = ClassFiles(Path("classes.tif"), Path("confidence.tif"), qgis_style=True)
options = SceneOptions(window=256, resume="resume" in sys.argv)
translate_raster("scene.tif", "map.tif", with_classes((0.5, 2.0)), options, show, classes=files)
"""


@pytest.mark.slow
def test_a_kill_leaves_nothing_under_a_final_name(make_scene: MakeScene, tmp_path: Path) -> None:
    make_scene(noise(1600, 120))
    program = [sys.executable, "-c", PROGRAM.format(here=str(Path(__file__).parents[1]))]
    with subprocess.Popen(program, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        ended = time.monotonic() + 120
        while not (tmp_path / ".map.tif.partial/strips/classes-000000512.tif").exists():
            assert time.monotonic() < ended
            time.sleep(0.01)
        process.kill()
    partial = {f".{name}.tif.partial" for name in ("map", "classes", "confidence")}
    assert names(tmp_path) == {"scene.tif"} | partial
    subprocess.run([*program, "resume"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    made = {"map.tif", "classes.tif", "classes.tif.aux.xml", "classes.qml", "confidence.tif"}
    assert names(tmp_path) == {"scene.tif"} | made


@pytest.mark.parametrize("legend", ["cover", "map"])
def test_ground_that_is_not_sure_enough_has_no_class(
    make_scene: MakeScene, tmp_path: Path, legend: ClassLegend
) -> None:
    source, model = make_scene(smooth(60, 70)), with_classes((0.5, 2.0))
    whole = ClassFiles(tmp_path / "whole.tif", tmp_path / "sure.tif", legend)
    some = ClassFiles(tmp_path / "some.tif", None, legend, min_confidence=0.8)
    for files in (whole, some):
        translate_classes(source, files, model, OPTIONS)
    with (
        rasterio.open(whole.classes) as file,
        rasterio.open(tmp_path / "sure.tif") as beside,
        rasterio.open(some.classes) as left,
    ):
        sure = beside.read(1) >= 0.8 * 255
        assert 0.05 < sure.mean() < 0.95
        assert np.array_equal(left.read(1), np.where(sure, file.read(1), NODATA))
    with pytest.raises(UsageError, match="min_confidence"):
        ClassFiles(tmp_path / "c.tif", min_confidence=1.5)
