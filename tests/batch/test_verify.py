"""Is a file what its source and its model give?"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from typer.testing import CliRunner

from fixtures.scenes import MakeScene, noise, smooth, with_classes
from sat2map.batch import verify as module
from sat2map.batch.manifest import WRITER, Row, source_of
from sat2map.batch.verify import verify
from sat2map.cli.app import app
from sat2map.errors import DataError, Sat2mapError, StoppedError, UsageError
from sat2map.journal import claim
from sat2map.legend import COVER
from sat2map.model.folder import ModelCard, build_generator, save_model
from sat2map.networks.specs import UNetSpec
from sat2map.provenance import TAG
from sat2map.raster.options import Reading, SceneOptions
from sat2map.raster.provenance_reader import read_provenance
from sat2map.translation.class_files import ClassFiles
from sat2map.translation.scene import translate_raster
from sat2map.translation.translator import Translator, load

SIZE = (190, 250)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return the folder of a small model with classes that looks only so far."""
    translator = with_classes((1.0, 1.0))
    torch_model: Any = translator._model
    save_model(tmp_path / "small", torch_model.network, translator.card)
    return tmp_path / "small"


def run(model: Path) -> Translator:
    return load(model, runtime="torch")


@pytest.mark.parametrize(
    ("metres", "options"),
    [
        (1.0, {}),
        (1.0, {"window": 64}),
        (0.6, {"window": 64}),
        (1.0, {"window": 64, "resolution": 0.7}),
        (1.0, {"window": 100, "legend_colours": True}),
    ],
)
def test_what_was_made_is_made_again(
    make_scene: MakeScene, model: Path, tmp_path: Path, metres: float, options: dict[str, Any]
) -> None:
    transform = rasterio.Affine(metres, 0, 500_000, 0, -metres, 5_000_000)
    place = {"crs": "EPSG:32633", "transform": transform}
    mask = np.ones(SIZE, np.bool_)
    mask[:40, :90] = False
    source = make_scene(noise(*SIZE), georeference=place, mask=mask)
    files = ClassFiles(tmp_path / "c.tif", tmp_path / "sure.tif", min_confidence=0.3)
    translate_raster(
        source, tmp_path / "map.tif", run(model), SceneOptions(**options), classes=files
    )
    for name in ("map.tif", "c.tif", "sure.tif"):
        (found,) = verify(tmp_path / name, model=model, sample=100)
        assert (found.answer, found.changed, found.differing) == ("equal", (), 0), name
        assert 0 < found.windows <= found.of
        assert found.pixels > 0.5 * SIZE[0] * SIZE[1]


def test_blended_windows_and_a_part_of_a_scene(make_scene: MakeScene, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_generator(spec := UNetSpec(size=16, base_channels=4))
    card = ModelCard(generator=spec, normalisation="none", resolution_m=(1, 1))
    save_model(tmp_path / "unet", network, card)
    source = make_scene(smooth(*SIZE))
    with rasterio.open(source) as file:
        west, south, east, north = rasterio.warp.transform_bounds(file.crs, 4326, *file.bounds)
    box = (west, south, west + 0.8 * (east - west), north)
    options = SceneOptions(Reading(bbox=box), window=64, overlap=16)
    translate_raster(source, tmp_path / "map.tif", run(tmp_path / "unet"), options)
    (found,) = verify(tmp_path / "map.tif", model=tmp_path / "unet", sample=100)
    assert found.answer == "equal"
    assert found.windows == found.of > 4


@pytest.fixture
def made(make_scene: MakeScene, model: Path, tmp_path: Path) -> Path:
    """Return a folder with a scene, its map and its class map."""
    source = make_scene(noise(*SIZE))
    files = ClassFiles(tmp_path / "c.tif")
    options = SceneOptions(window=64)
    translate_raster(source, tmp_path / "map.tif", run(model), options, classes=files)
    return tmp_path


def change(file: Path, row: int, column: int) -> None:
    """Give a pixel of a class map another class."""
    with rasterio.open(file, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as opened:
        pixels = opened.read()
        pixels[0, row, column] = (pixels[0, row, column] + 1) % len(COVER)
        opened.write(pixels)


def test_a_pixel_that_somebody_changed_is_found(made: Path, model: Path) -> None:
    change(made / "c.tif", 70, 130)
    (found,) = verify(made / "c.tif", model=model, sample=100)
    assert (found.differing, found.changed) == (1, ())
    assert found.answer == (
        "differs" if found.largest > module.LEAD else "equal within the runtime"
    )
    assert found.largest > 0


def test_a_runtime_may_round_where_classes_are_near(
    made: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(made / "c.tif", 70, 130)
    monkeypatch.setattr(module, "LEAD", 1.0)
    (found,) = verify(made / "c.tif", model=model, sample=100)
    assert found.answer == "equal within the runtime"
    for column in range(100, 160):
        change(made / "c.tif", 20, column)
    (found,) = verify(made / "c.tif", model=model, sample=100)
    assert found.answer == "differs", "more than one of a thousand"


def test_another_source_is_named(made: Path, model: Path, make_scene: MakeScene) -> None:
    (made / "scene.tif").rename(made / "kept.tif")
    (found,) = verify(made / "map.tif", made / "kept.tif", model)
    assert found.answer == "equal", "its name does not count"
    make_scene(noise(*SIZE, seed=1))
    (found,) = verify(made / "map.tif", model=model)
    assert (found.answer, found.changed, found.windows) == ("differs", ("source",), 0)


def test_another_model_is_named(made: Path, model: Path) -> None:
    other = load(model, runtime="torch")._model
    network: Any = other.with_torch()._network  # type: ignore[union-attr]
    next(network.parameters()).data.add_(0.5)
    save_model(made / "other", network, other.card)
    (found,) = verify(made / "map.tif", model=made / "other")
    assert (found.answer, found.changed) == ("differs", ("model",))


def test_another_runtime_is_named(made: Path, model: Path) -> None:
    (found,) = verify(made / "map.tif", model=model, runtime="openvino", precision="f32")
    assert found.changed == ("runtime",)
    assert found.answer in ("equal", "equal within the runtime")


def test_a_sample_is_spread_and_the_same_for_a_seed() -> None:
    def chosen(count: int, sample: int, seed: int) -> list[int]:
        asked = module._Asked(None, None, sample, seed, None, None)
        return module._Work(asked, None)._choose(count)

    found = chosen(100, 20, 0)
    assert found == chosen(100, 20, 0) != chosen(100, 20, 1)
    assert [number // 5 for number in found] == list(range(20))
    assert chosen(3, 20, 0) == [0, 1, 2]


def refused(call: Callable[[], object], kind: type[Sat2mapError], text: str) -> None:
    with pytest.raises(kind, match=text) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1


def test_bad_input_is_one_line(made: Path, model: Path) -> None:
    lines: list[tuple[Callable[[], object], type[Sat2mapError], str]] = [
        (lambda: verify(made / "none.tif"), DataError, "there is no such file"),
        (lambda: verify(made / "scene.tif"), DataError, "does not say what it was made of"),
        (lambda: verify(made / "c.tif.aux.xml"), UsageError, "not of a kind"),
        (lambda: verify(model), DataError, "holds no map or vectors"),
        (lambda: verify(made / "map.tif"), UsageError, "does not come with the package"),
        (lambda: verify(made / "map.tif", sample=0), UsageError, "`sample`: is 0"),
        (lambda: verify(made / "map.tif", made / "no.tif", model), DataError, "no such file"),
    ]
    for line in lines:
        refused(*line)
    (made / "scene.tif").unlink()
    refused(lambda: verify(made / "map.tif", model=model), DataError, "made of scene.tif, which")


def test_a_folder_of_maps_and_a_folder_of_sources(made: Path, model: Path) -> None:
    (made / "out").mkdir()
    (made / "photos" / "north").mkdir(parents=True)
    (made / "map.tif").rename(made / "out" / "map.tif")
    (made / "c.tif").rename(made / "out" / "c.tif")
    (made / "scene.tif").rename(made / "photos" / "north" / "scene.tif")
    (made / "photos" / "scene.tif").write_bytes((made / "out" / "c.tif").read_bytes())
    seen: list[tuple[int, int]] = []
    found = verify(
        made / "out", made / "photos", model, sample=1, progress=lambda *at: seen.append(at)
    )
    assert [one.file.name for one in found] == ["c.tif", "map.tif"]
    assert {one.answer for one in found} == {"equal"}, "the one of the same contents was found"
    assert {one.windows for one in found} == {1}
    assert seen == sorted(seen)


def test_it_stops_when_asked(made: Path, model: Path) -> None:
    import threading

    stop = threading.Event()
    stop.set()
    refused(
        lambda: verify(made / "map.tif", model=model, stop=stop), StoppedError, "stopped as asked"
    )


def test_the_command_line(made: Path, model: Path) -> None:
    def ran(*arguments: str) -> Any:
        called = ["verify", "-q", "--model", str(model), *arguments]
        return CliRunner().invoke(app, called)

    result = ran(str(made / "map.tif"), "--json")
    (told,) = json.loads(result.stdout)
    assert (result.exit_code, told["answer"]) == (0, "equal")
    with rasterio.open(made / "map.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.write(255 - file.read())
    result = ran(str(made / "map.tif"), "--sample", "2")
    assert result.exit_code == 1
    assert "map.tif: differs; 2 of 12 windows" in result.stdout


def test_tags_name_no_place_and_no_time(made: Path) -> None:
    with rasterio.open(made / "map.tif") as file:
        text = file.tags()[TAG]
    assert str(made) not in text
    told = read_provenance(made / "map.tif")
    assert told is not None and told.model is not None
    assert (told.source.name, told.model.name, told.precision) == ("scene.tif", "small", "f32")
    before = (made / "map.tif").read_bytes()
    (made / "scene.tif").touch()
    translate_raster(
        made / "scene.tif", made / "map.tif", run(made / "small"), SceneOptions(window=64)
    )
    assert (made / "map.tif").read_bytes() == before


def test_the_manifest_of_a_batch_knows_what_its_maps_were_made_of(
    make_scene: MakeScene, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    source = make_scene(noise(64, 64), "photos/a.tif")
    out, name = tmp_path / "out", "north/map.tif"
    with claim(out, WRITER, {}) as journal:
        journal.start()
        files = {name: "", "north/map.classes.tif": ""}
        row = Row(name, "a.tif", "done", files=files, source=source_of(str(source), out))
        journal.note({name: row.to_json()})
    classes = ClassFiles(out / "north" / "map.classes.tif")
    translate_raster(source, out / name, run(model), classes=classes)
    for path, count in ((out, 2), (out / "north" / "map.classes.tif", 1)):
        assert [one.answer for one in verify(path, model=model)] == ["equal"] * count
    source.rename(tmp_path / "photos" / "moved.tif")
    with pytest.raises(DataError, match=r"was made of a.tif, which is not beside it"):
        verify(out, model=model)


def test_a_map_that_is_called_like_its_scene_is_not_taken_for_it(made: Path, model: Path) -> None:
    (made / "maps").mkdir()
    (made / "map.tif").rename(made / "maps" / "scene.tif")
    (made / "c.tif").rename(made / "maps" / "scene.classes.tif")
    for source in (None, made / "maps"):
        with pytest.raises(DataError, match=r"was made of scene\.tif, which is not (in|beside)"):
            verify(made / "maps" / "scene.classes.tif", source, model)
    assert verify(made / "maps" / "scene.classes.tif", made, model)[0].answer == "equal"


def test_one_that_cannot_be_compared_does_not_keep_the_others_from_it(
    made: Path, model: Path
) -> None:
    shutil.copy(made / "scene.tif", made / "other.tif")
    translate_raster(made / "other.tif", made / "lone.tif", run(model), SceneOptions(window=64))
    (made / "other.tif").unlink()
    found = {one.file.name: one for one in verify(made, model=model)}
    assert {name: one.answer for name, one in found.items()} == {
        "c.tif": "equal",
        "lone.tif": "unverified",
        "map.tif": "equal",
    }
    assert "was made of other.tif, which is not beside it" in found["lone.tif"].to_line()
    called = ["verify", "-q", "--model", str(model), str(made)]
    assert CliRunner().invoke(app, called).exit_code == 1
