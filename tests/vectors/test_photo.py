from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

from fixtures.scenes import MakeModel, MakeScene, noise, smooth, with_classes
from sat2map.cli.app import app
from sat2map.errors import DataError, Sat2mapError, StoppedError, UsageError
from sat2map.raster.sources import open_source
from sat2map.translation import translator as translators
from sat2map.translation.classes import translate_classes
from sat2map.translation.land_cover import write_land_cover
from sat2map.translation.scene_windows import SceneWindows
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
    made = tmp_path / "classes.tif", tmp_path / "probabilities.tif"
    write_land_cover(open_source(photo), *made, model)
    with open_class_map(made[0], probabilities=made[1]) as scene:
        likely = scene.read_roads(0, 0, 60, 70)
        classes = scene.read(0, 0, 60, 70)
        sure = scene.read_confidence(0, 0, 60, 70)
    with SceneWindows(photo, model) as windows:
        answer = windows.maps(0, 0, ("cover_shares",))
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


def test_nothing_is_left_of_what_breaks_off(make_scene: MakeScene, tmp_path: Path) -> None:
    photo, model = make_scene(smooth(60, 70)), with_classes((0.5, 2.0))
    for when in (1, 1001):
        stop = threading.Event()

        def show(done: int, _total: int, when: int = when, stop: threading.Event = stop) -> None:
            if done >= when:
                stop.set()

        with pytest.raises(StoppedError, match=r"town\.gpkg: .* Begin anew"):
            vectorise_photo(photo, tmp_path / "town.gpkg", model, progress=show, stop=stop)
        assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


def test_what_makes_no_vectors_is_refused_by_name(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    nowhere = make_scene(noise(40, 40), "nowhere.tif", georeference={})
    target, model = tmp_path / "town.gpkg", with_classes((0.5, 2.0))
    with pytest.raises(DataError, match=r"nowhere\.tif: does not say where"):
        vectorise_photo(nowhere, target, model)
    with pytest.raises(UsageError, match="identity: the model has no legend"):
        vectorise_photo(make_scene(noise(40, 40)), target, make_model())
    with pytest.raises(UsageError, match="resume"):
        vectorise_photo(nowhere, target, model, options=VectorOptions(resume=True))
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
    assert run("vectors", photo, town) == [town]
    assert run("vectors", classes, same, "--confidence", confidence) == [same]
    found = [pyogrio.raw.read(path, layer="coverage")[2].tolist() for path in (town, same)]
    assert found[0] == found[1]
    for wrong, about in (
        (("vectors", photo, town, "--resume"), "is a photo"),
        (("vectors", photo, town, "--confidence", confidence), "is a photo"),
        (("vectors", classes, town, "--model", "streets"), "is a class map"),
        (("vectors", classes, town, "--nodata", "0"), "`nodata`: .* is a class map"),
        (("translate", photo, made, "--confidence", confidence), "there are none"),
        (("translate", photo, made, "--classes", made), "the name of two files"),
        (("translate", str(tmp_path), str(tmp_path / "m"), "--classes", classes), "one scene"),
    ):
        with pytest.raises(Sat2mapError, match=about):
            run(*wrong)
