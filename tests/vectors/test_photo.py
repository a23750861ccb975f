from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

from fixtures.scenes import MakeModel, MakeScene, noise, smooth, with_classes
from sat2map import atomic
from sat2map.cli.app import app
from sat2map.errors import DataError, OutputError, Sat2mapError, StoppedError, UsageError
from sat2map.legend import STREETS, Role
from sat2map.model.folder import save_model
from sat2map.raster.options import Reading
from sat2map.raster.sources import open_source
from sat2map.raster.strips import TILE
from sat2map.towns import draw_town
from sat2map.translation import translator as translators
from sat2map.translation import windows
from sat2map.translation.classes import translate_classes
from sat2map.translation.land_cover import land_cover_of
from sat2map.translation.scene import translate_raster
from sat2map.translation.scene_windows import SceneWindows
from sat2map.translation.translator import Translator
from sat2map.vectors.class_map import open_class_map
from sat2map.vectors.photo import vectorise_photo
from sat2map.vectors.vectorise import VectorOptions, vectorise

LARGER = ("--pixel-size", "4", "--resolution", "model")

pyogrio = pytest.importorskip("pyogrio")
pytest.importorskip("pyarrow")


def test_a_photos_vectors_are_those_of_its_classes(make_scene: MakeScene, tmp_path: Path) -> None:
    photo, model = make_scene(smooth(60, 70)), with_classes((0.5, 2.0))
    classes, confidence = tmp_path / "classes.tif", tmp_path / "confidence.tif"
    translate_classes(photo, classes, model, confidence=confidence)
    vectorise(classes, tmp_path / "two.gpkg", confidence=confidence)
    steps: list[tuple[int, int]] = []
    vectorise_photo(photo, tmp_path / "one.gpkg", model, progress=lambda *step: steps.append(step))
    names = {"scene.tif", "classes.tif", "confidence.tif", "one.gpkg", "two.gpkg"}
    names.add("classes.tif.aux.xml")
    assert {path.name for path in tmp_path.iterdir()} == names
    for layer in ("coverage", "buildings"):
        one, two = (pyogrio.raw.read(tmp_path / f"{n}.gpkg", layer=layer) for n in ("one", "two"))
        assert one[2].tolist() == two[2].tolist()
        fields = list(one[0]["fields"])
        for name, left, right in zip(fields, one[3], two[3], strict=True):
            if name == "confidence":
                np.testing.assert_allclose(left, right, atol=1 / 255)
                assert len(left) > 0
                assert ((left >= 0) & (left <= 1)).all()
            else:
                assert left.tolist() == right.tolist()
    assert steps == sorted(steps)
    assert steps[-1] == (2000, 2000)


def test_roads_of_a_photo_follow_from_their_probability(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    """What is a road with more than 0.4 is one, though something else is a little likelier."""
    photo, model = make_scene(smooth(60, 70)), with_classes((0.5, 2.0))
    with (
        land_cover_of(open_source(photo), tmp_path / "town", model) as (numbers, shares_of_all),
        open_class_map(numbers, probabilities=shares_of_all) as scene,
    ):
        likely = scene.read_roads(0, 0, 60, 70)
        classes = scene.read(0, 0, 60, 70)
        sure = scene.read_confidence(0, 0, 60, 70)
    with SceneWindows(photo, model) as seen:
        answer = seen.maps(0, 0, ("cover_shares",))
    assert answer is not None
    shares = answer[0].cover_shares
    assert shares is not None
    assert sure is not None
    np.testing.assert_allclose(likely, shares[..., 2] / 255, atol=1e-6)
    np.testing.assert_array_equal(classes, shares.argmax(2))
    np.testing.assert_allclose(sure, shares.max(2) / 255, atol=1e-6)


def test_doubtful_ground_of_a_photo_is_left_out(make_scene: MakeScene, tmp_path: Path) -> None:
    photo, model = make_scene(smooth(60, 70)), with_classes((0.5, 2.0))
    areas = []
    for least in (0.0, 0.7):
        options = VectorOptions(min_confidence=least)
        vectorise_photo(photo, tmp_path / "town.gpkg", model, options=options)
        fields, columns = pyogrio.raw.read(tmp_path / "town.gpkg", layer="coverage")[0::3]
        area, sure = (columns[list(fields["fields"]).index(n)] for n in ("area_m2", "confidence"))
        areas.append(area.sum())
        assert np.isfinite(sure).all()
        assert area[sure < least].sum() < 0.01 * area.sum()  # slivers beside what is left out
    assert 0 < areas[1] < 0.95 * areas[0]


SHEETS = VectorOptions(sheet=128, minimum_m2=dict.fromkeys(get_args(Role), 2000.0))
"""Large areas alone, which take little time."""


def without_roads() -> Translator:
    """Return a model of random weights that never sees a road, of which it would see too many."""
    model = with_classes((0.5, 2.0))
    bias = model._model.network.exit.bias.data  # type: ignore[union-attr]
    bias.view(len(STREETS), -1)[STREETS.roads.tolist()] -= 1000
    return model


def same_layers(one: Path, other: Path) -> None:
    for layer in ("coverage", "buildings", "roads", "road_nodes", "water", "vegetation"):
        left, right = (pyogrio.raw.read(path, layer=layer) for path in (one, other))
        assert left[2].tolist() == right[2].tolist()
        for ours, theirs in zip(left[3], right[3], strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Small windows; one is added for each that the network sees."""
    monkeypatch.setattr(windows, "CORE", 64)
    seen: list[int] = []
    predict = Translator.predict

    def counted(self: Translator, *arguments: Any) -> Any:
        seen.append(1)
        return predict(self, *arguments)

    monkeypatch.setattr(Translator, "predict", counted)
    return seen


def stopped(photo: Path, target: Path, model: Translator, when: int) -> None:
    stop = threading.Event()

    def show(done: int, _total: int) -> None:
        if done >= when:
            stop.set()

    with pytest.raises(StoppedError, match=r"town\.gpkg: stopped as asked"):
        vectorise_photo(photo, target, model, options=SHEETS, progress=show, stop=stop)
    assert not target.exists()


def test_classes_that_are_done_are_not_made_again(
    make_scene: MakeScene, tmp_path: Path, passes: list[int]
) -> None:
    # Rows are finished by `TILE`: the first of them are long on the disk when the second are seen.
    rows = 2 * TILE + 176
    photo, model = make_scene(smooth(rows, 70)), without_roads()
    whole = vectorise_photo(photo, tmp_path / "whole.gpkg", model, options=SHEETS)
    needed = len(passes)
    assert needed == -(-rows // 64) * 2
    target = tmp_path / "town.gpkg"
    stopped(photo, target, model, 1000 * 2 * TILE // rows)
    left = {"scene.tif", "whole.gpkg", ".town.gpkg.classes.partial"}
    assert {path.name for path in tmp_path.iterdir()} == left
    again = replace(SHEETS, resume=True)
    other = Reading(bands=(3, 2, 1))
    with pytest.raises(UsageError, match=r"begun with another set of parameters"):
        vectorise_photo(photo, target, model, options=again, reading=other)
    passes.clear()
    vectorise_photo(photo, target, model, options=again)
    assert 0 < len(passes) <= needed - 2 * (TILE // 64)
    same_layers(target, whole)
    assert {path.name for path in tmp_path.iterdir()} == {"scene.tif", "whole.gpkg", "town.gpkg"}


@pytest.mark.parametrize(
    "when", [1500, *(pytest.param(when, marks=pytest.mark.slow) for when in (1200, 1800))]
)
def test_sheets_that_are_done_are_not_made_again(
    make_scene: MakeScene, tmp_path: Path, passes: list[int], when: int
) -> None:
    photo, model = make_scene(smooth(600, 70)), without_roads()
    whole = vectorise_photo(photo, tmp_path / "whole.gpkg", model, options=SHEETS)
    target = tmp_path / "town.gpkg"
    stopped(photo, target, model, when)
    sheet = tmp_path / ".town.gpkg.partial/sieved/0.npy"
    made, seen = sheet.stat().st_mtime_ns, []
    passes.clear()

    def note(done: int, _total: int) -> None:
        if not seen:
            seen.append((done, sheet.stat().st_mtime_ns))

    vectorise_photo(photo, target, model, options=replace(SHEETS, resume=True), progress=note)
    assert passes == []
    assert seen[0][1] == made
    same_layers(target, whole)
    assert {path.name for path in tmp_path.iterdir()} == {"scene.tif", "whole.gpkg", "town.gpkg"}


def test_where_nothing_is_to_go_on_with_it_is_begun(make_scene: MakeScene, tmp_path: Path) -> None:
    photo, model, said = make_scene(smooth(60, 70)), without_roads(), list[str]()
    options = VectorOptions(resume=True)
    vectorise_photo(photo, tmp_path / "town.gpkg", model, options=options, say=said.append)
    assert [text for text in said if "begun afresh" in text] == said[-1:]
    assert {path.name for path in tmp_path.iterdir()} == {"scene.tif", "town.gpkg"}


def test_a_map_that_was_drawn_is_not_a_photo(make_scene: MakeScene, tmp_path: Path) -> None:
    photo, model = make_scene(smooth(64, 64)), with_classes((0.5, 2.0))
    drawn = translate_raster(photo, tmp_path / "map.tif", model)
    with pytest.raises(DataError, match=rf"map\.tif: is a map that was drawn of {photo.name}, .*"):
        vectorise_photo(drawn, tmp_path / "map.gpkg", model)
    assert not (tmp_path / "map.gpkg").exists()


def test_a_photo_is_not_written_over(make_scene: MakeScene, tmp_path: Path) -> None:
    photo = make_scene(smooth(60, 70)).rename(tmp_path / "photo.gpkg")
    before = photo.read_bytes()
    with pytest.raises(UsageError, match="is the input itself"):
        vectorise_photo(photo, photo, without_roads())
    assert photo.read_bytes() == before


def test_room_for_classes_and_vectors_is_asked_for_before_the_work(
    make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passes: list[int]
) -> None:
    class Usage:
        free = 60 * 70 * 10

    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda _path: Usage)
    with pytest.raises(OutputError, match=r"[GM]B are free"):
        vectorise_photo(make_scene(smooth(60, 70)), tmp_path / "t.gpkg", without_roads())
    assert passes == []
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


PROGRAM = """
import sys, time
from typing import get_args
from sat2map.legend import Role
from sat2map.translation import windows
from sat2map.translation.translator import load
from sat2map.vectors.photo import vectorise_photo
from sat2map.vectors.vectorise import VectorOptions

windows.CORE = 64

def show(done, total):
    print(done, flush=True)
    time.sleep(0.05)

least = dict.fromkeys(get_args(Role), 2000.0)
options = VectorOptions(sheet=128, minimum_m2=least, resume="resume" in sys.argv)
model = load("model", runtime="torch", threads=1)
vectorise_photo("scene.tif", "town.gpkg", model, options=options, progress=show)
"""


@pytest.mark.parametrize(
    "when",
    [500, *(pytest.param(when, marks=pytest.mark.slow) for when in (100, 800, 1000, 1300, 1900))],
)
def test_a_kill_leaves_nothing_under_the_name_and_the_photo_goes_on(
    make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    monkeypatch.setattr(windows, "CORE", 64)
    photo, model = make_scene(smooth(600, 70)), without_roads()
    save_model(tmp_path / "model", model._model.network, model.card)  # type: ignore[union-attr]
    program = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(program, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= when:
                break
        process.kill()
    left = {path.name for path in tmp_path.iterdir()} - {"scene.tif", "model"}
    assert left <= {".town.gpkg.classes.partial", ".town.gpkg.partial"}
    assert ".town.gpkg.classes.partial" in left
    subprocess.run([*program, "resume"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    assert {path.name for path in tmp_path.iterdir()} == {"scene.tif", "model", "town.gpkg"}
    loaded = translators.load(tmp_path / "model", runtime="torch", threads=1)
    same_layers(
        tmp_path / "town.gpkg",
        vectorise_photo(photo, tmp_path / "whole.gpkg", loaded, options=SHEETS),
    )


def test_what_makes_no_vectors_is_refused_by_name(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    nowhere = make_scene(noise(40, 40), "nowhere.tif", georeference={})
    target, model = tmp_path / "town.gpkg", with_classes((0.5, 2.0))
    with pytest.raises(DataError, match=r"nowhere\.tif: does not say where"):
        vectorise_photo(nowhere, target, model)
    with pytest.raises(UsageError, match="identity: the model has no legend"):
        vectorise_photo(make_scene(noise(40, 40)), target, make_model())
    assert {path.name for path in tmp_path.iterdir()} == {"scene.tif", "nowhere.tif"}


def test_the_verbs_make_classes_and_vectors_of_a_photo(
    make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translators, "load", lambda *_, **__: with_classes((0.5, 2.0)))
    photo = str(make_scene(smooth(60, 70)))
    names = ("map.tif", "classes.tif", "confidence.tif", "larger.tif", "town.gpkg", "same.gpkg")
    made, classes, confidence, larger, town, same = (str(tmp_path / name) for name in names)

    def run(*arguments: str) -> list[str]:
        done = CliRunner().invoke(app, [*arguments, "--quiet"])
        if done.exception is not None:
            raise done.exception
        return done.stdout.splitlines()

    told = run("translate", photo, made, "--classes", classes, "--confidence", confidence)
    assert told == [made, classes, confidence]
    with rasterio.open(made) as file, rasterio.open(classes) as numbers:
        assert file.shape == numbers.shape
        assert np.unique(numbers.read(1)).max() < 5
    told = run("translate", photo, made, "--classes", larger, *LARGER)
    assert told == [made, larger]
    with rasterio.open(made) as file, rasterio.open(larger) as numbers:
        assert file.shape == numbers.shape == (120, 140)
    assert run("vectors", photo, town, "--nodata", "7", "--bands", "3,2,1") == [town]
    assert run("vectors", photo, town, "--resume") == [town]
    assert run("vectors", classes, same, "--confidence", confidence) == [same]
    found = [pyogrio.raw.read(path, layer="coverage")[2].tolist() for path in (town, same)]
    assert found[0] == found[1]
    for wrong, about in (
        (("vectors", photo, town, "--confidence", confidence), "is a photo"),
        (("vectors", classes, town, "--model", "streets"), "is a class map"),
        (("vectors", classes, town, "--nodata", "0"), "`nodata`: .* is a class map"),
        (("translate", photo, made, "--confidence", confidence), "there are none"),
        (("translate", photo, made, "--classes", made), "the name of two files"),
        (("translate", str(tmp_path), str(tmp_path / "m"), "--classes", classes), "one scene"),
    ):
        with pytest.raises(Sat2mapError, match=about):
            run(*wrong)


@pytest.mark.slow
def test_windows_of_the_network_do_not_matter_to_vectors(
    make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shipped model sees a halo around each window that holds all that it looks at."""
    photo = make_scene(draw_town(600, 301, kind="temperate", resolution=1.0).photo)
    model = translators.translator_of("streets")
    seen = []
    for core in (256, 1024):
        monkeypatch.setattr(windows, "CORE", core)
        out = vectorise_photo(photo, tmp_path / f"{core}.gpkg", model)
        layers = ("coverage", "buildings", "roads", "road_nodes")
        seen.append([pyogrio.raw.read(out, layer=layer)[2].tolist() for layer in layers])
    assert len(seen[0][1]) > 50
    assert seen[0] == seen[1]
