"""Are vectors those that their class map, or their photo, gives?"""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from fixtures.scenes import UTM, MakeScene, smooth, with_classes
from sat2map.batch import verify_vectors as module
from sat2map.batch.verify import Verification, verify
from sat2map.errors import DataError, StoppedError, UsageError
from sat2map.legend import COVER, LEGEND_TAG
from sat2map.model.folder import save_model
from sat2map.raster.options import Reading
from sat2map.raster.provenance_reader import read_provenance
from sat2map.translation.translator import Translator, load
from sat2map.vectors.photo import vectorise_photo
from sat2map.vectors.vectorise import VectorOptions, vectorise

pytest.importorskip("pyogrio")
pytest.importorskip("pyarrow")

SMALL = VectorOptions(sheet=64, minimum_m2=dict.fromkeys(("vegetation", "land", "water"), 4.0))
"""With sheets of 64 pixels a small scene has many, and all of them look over their edges."""


def village(height: int, width: int) -> NDArray[np.uint8]:
    """Return class numbers of the legend `COVER`: a road, a pond, a wood, houses on a lattice."""
    names = {entry.role: number for number, entry in enumerate(COVER.classes)}
    numbers = np.full((height, width), names["land"], np.uint8)
    rows, columns = np.mgrid[:height, :width]
    numbers[columns + rows // 3 < 90] = names["vegetation"]
    numbers[np.hypot(rows - 40, columns - 150) < 25] = names["water"]
    numbers[:, 100:108] = numbers[70:78] = names["road"]
    for top in range(12, height - 12, 27):
        for left in range(6, width - 16, 29):
            numbers[top : top + 9, left : left + 12] = names["building"]
    return numbers


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Return a class map of 4 x 3 sheets of 64 pixels."""
    numbers = village(250, 180)
    path = tmp_path / "c.tif"
    facts: dict[str, Any] = {"count": 1, "dtype": "uint8", "height": 250, "width": 180, **UTM}
    with rasterio.open(path, "w", driver="GTiff", nodata=255, **facts) as file:
        file.write(numbers, 1)
        file.update_tags(**{LEGEND_TAG: json.dumps(COVER.to_json())})
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    translator = with_classes((0.5, 2.0))
    torch_model: Any = translator._model
    save_model(tmp_path / "small", torch_model.network, translator.card)
    return tmp_path / "small"


def run(model: Path) -> Translator:
    return load(model, runtime="torch")


def one(path: Path, **how: Any) -> Verification:
    (found,) = verify(path, **how)
    return found


def tamper(path: Path, statement: str, *, forge: bool = False) -> None:
    """Change rows of a GeoPackage; a forger also writes down the fingerprint of the result."""
    with sqlite3.connect(path) as database:
        triggers = database.execute("select name from sqlite_master where type = 'trigger'")
        for (name,) in triggers.fetchall():  # which call functions of GDAL
            database.execute(f'drop trigger "{name}"')
        assert database.execute(statement).rowcount > 0
    database.close()
    if not forge:
        return
    told = read_provenance(path)
    assert told is not None and told.contents is not None
    with sqlite3.connect(path) as database:
        database.execute(
            "update gpkg_metadata set metadata = replace(metadata, ?, ?)",
            (told.contents, module_contents(path)),
        )
    database.close()
    found = read_provenance(path)
    assert found is not None and found.contents == module_contents(path)


def module_contents(path: Path) -> str:
    from sat2map.vectors.geopackage import contents_of

    return contents_of(path)


def test_all_sheets_of_a_class_map_give_every_layer_again(classes: Path, tmp_path: Path) -> None:
    path = vectorise(classes, tmp_path / "v.gpkg", options=SMALL)
    found = one(path)
    assert (found.answer, found.changed, found.differing) == ("equal", (), 0)
    assert (found.windows, found.of) == (12, 12)
    assert found.shapes > 60
    assert found.to_line() == (
        f"{path}: equal; 12 of 12 sheets, {found.shapes} shapes of coverage, buildings, roads, "
        "road_nodes, water, vegetation"
    )
    assert not list(tmp_path.glob("v.gpkg?*")), "reading leaves nothing beside it"


def test_some_sheets_give_their_coverage_and_buildings_again(classes: Path, tmp_path: Path) -> None:
    path = vectorise(classes, tmp_path / "v.gpkg", options=SMALL)
    whole = one(path)
    seen = 0
    for seed in range(6):
        found = one(path, sample=3, seed=seed)
        assert (found.answer, found.windows, found.of) == ("equal", 3, 12), found.to_line()
        assert 0 < found.shapes < whole.shapes
        assert "shapes of coverage, buildings" in found.compared
        seen += "left aside" in found.compared
    assert seen, "of some houses no sheet has all"


@pytest.mark.parametrize(
    "statement",
    [
        "update roads set drawn_width_m = drawn_width_m + 1",
        "delete from buildings where fid = (select min(fid) from buildings)",
        "update coverage set class = 'water' where fid = (select max(fid) from coverage)",
    ],
)
def test_whoever_changes_a_row_is_found_out(classes: Path, tmp_path: Path, statement: str) -> None:
    path = vectorise(classes, tmp_path / "v.gpkg", options=SMALL)
    forged = Path(shutil.copy(path, tmp_path / "forged.gpkg"))
    tamper(path, statement)
    found = one(path)
    assert (found.answer, found.changed) == ("differs", ())
    assert found.note == "its shapes are not those that were written"
    tamper(forged, statement, forge=True)
    found = one(forged)
    assert (found.answer, found.note) == ("differs", None)
    assert found.differing >= 1


def test_a_changed_sheet_that_is_not_in_the_sample_is_found_by_the_fingerprint(
    classes: Path, tmp_path: Path
) -> None:
    path = vectorise(classes, tmp_path / "v.gpkg", options=SMALL)
    tamper(path, "update roads set drawn_width_m = drawn_width_m + 1")
    found = one(path, sample=1)
    assert (found.answer, found.differing) == ("differs", 0)
    assert found.note == "its shapes are not those that were written"


def test_a_forger_of_a_sheet_is_found_out_by_that_sheet(classes: Path, tmp_path: Path) -> None:
    path = vectorise(classes, tmp_path / "v.gpkg", options=SMALL)
    tamper(path, "update coverage set area_m2 = area_m2 + 1 where class = 'building'", forge=True)
    found = [one(path, sample=1, seed=seed) for seed in range(3)]
    assert {each.answer for each in found} == {"differs"}, found


@pytest.mark.parametrize("name", ["v.pmtiles", "v.geojson", "v.fgb", "v.parquet"])
def test_every_format_is_made_again(classes: Path, tmp_path: Path, name: str) -> None:
    layer = None if name == "v.pmtiles" else "buildings"
    options = VectorOptions(SMALL.minimum_m2, sheet=64, layer=layer)
    path = vectorise(classes, tmp_path / name, options=options)
    found = one(path)
    assert (found.answer, found.windows) == ("equal", 12)
    told = "tiles" if layer is None else "shapes of buildings"
    assert found.compared == f"{found.shapes} {told}"
    assert found.shapes > (10 if layer else 1)
    if layer is not None:
        part = one(path, sample=2)
        assert (part.answer, part.windows) == ("equal", 2)
        assert part.shapes > 0
    other = village(250, 180)
    other[60:100, 20:50] = 0
    with rasterio.open(classes, "r+") as file:
        file.write(other, 1)
    found = one(path)
    assert (found.answer, found.changed) == ("differs", ("source",))


def test_other_coordinates_are_those_of_the_file(classes: Path, tmp_path: Path) -> None:
    options = VectorOptions(SMALL.minimum_m2, sheet=64, out_crs="EPSG:4326")
    path = vectorise(classes, tmp_path / "v.gpkg", options=options)
    for sample in (4, 12):
        found = one(path, sample=sample)
        assert (found.answer, found.windows) == ("equal", sample)
        assert found.shapes > 20


@pytest.mark.parametrize("layer", ["roads", None])
def test_what_follows_from_all_sheets_asks_for_all(
    classes: Path, tmp_path: Path, layer: Any
) -> None:
    options = VectorOptions(SMALL.minimum_m2, sheet=64, layer=layer)
    path = tmp_path / ("v.fgb" if layer else "v.pmtiles")
    vectorise(classes, path, options=options)
    with pytest.raises(UsageError, match=r"follow from all 12 sheets.*Give `sample=12`"):
        verify(path, sample=11)


def test_confidence_is_found_beside_the_class_map(classes: Path, tmp_path: Path) -> None:
    sure = tmp_path / "c.confidence.tif"
    with rasterio.open(classes) as file:
        facts = {**file.profile, "nodata": None}
    with rasterio.open(sure, "w", **facts) as file:
        rows, columns = np.mgrid[:250, :180]
        file.write((120 + (rows + columns) % 120).astype(np.uint8), 1)
    options = VectorOptions(SMALL.minimum_m2, sheet=64, min_confidence=0.5)
    path = vectorise(classes, tmp_path / "v.gpkg", confidence=sure, options=options)
    for sample in (3, 12):
        assert one(path, sample=sample).answer == "equal"
    sure.rename(tmp_path / "c.confidence")
    with pytest.raises(DataError, match=r"with a raster of confidence that is not beside c\.tif"):
        verify(path)


def test_a_legend_of_ones_own(classes: Path, tmp_path: Path) -> None:
    with rasterio.open(classes, "r+") as file:
        file.update_tags(**{LEGEND_TAG: ""})
    path = vectorise(classes, tmp_path / "v.gpkg", legend="cover", options=SMALL)
    assert one(path).answer == "equal"
    entries = [entry | {"name": f"my {entry['name']}"} for entry in COVER.to_json()]
    (tmp_path / "mine.json").write_text(json.dumps(entries))
    path = vectorise(classes, tmp_path / "m.gpkg", legend=tmp_path / "mine.json", options=SMALL)
    found = one(path)
    assert found.answer == "unchanged"
    assert found.note is not None and "legend of somebody's own" in found.note
    tamper(path, "update roads set drawn_width_m = 0")
    assert one(path).answer == "differs"


@pytest.mark.parametrize("suffix", ["gpkg", "pmtiles"])
def test_vectors_of_a_photo_are_made_again(
    make_scene: MakeScene, model: Path, tmp_path: Path, suffix: str
) -> None:
    make_scene(smooth(150, 190))
    options = VectorOptions(sheet=64, min_confidence=0.2)
    path = tmp_path / f"v.{suffix}"
    vectorise_photo(
        tmp_path / "scene.tif", path, run(model), reading=Reading(pixel_size=0.7), options=options
    )
    found = one(path, model=model)
    assert (found.answer, found.changed, found.differing) == ("equal", (), 0), found.to_line()
    assert found.windows == found.of >= 4
    if suffix == "gpkg":
        found = one(path, model=model, sample=2)
        assert (found.answer, found.windows) == ("equal", 2)
        assert found.shapes > 0
        tamper(path, "update coverage set class = 'water' where fid % 2 = 0", forge=True)
        found = one(path, model=model)
        assert found.answer == "differs"


def test_another_photo_and_another_model_are_named(
    make_scene: MakeScene, model: Path, tmp_path: Path
) -> None:
    source = make_scene(smooth(150, 190))
    path = vectorise_photo(source, tmp_path / "v.gpkg", run(model))
    other = load(model, runtime="torch")._model
    network: Any = other.with_torch()._network  # type: ignore[union-attr]
    next(network.parameters()).data.add_(0.5)
    save_model(tmp_path / "other", network, other.card)
    found = one(path, model=tmp_path / "other")
    assert (found.answer, found.changed, found.windows) == ("differs", ("model",), 0)
    make_scene(255 - smooth(150, 190))
    found = one(path, model=model)
    assert (found.answer, found.changed, found.windows) == ("differs", ("source",), 0)


def test_a_runtime_may_round_where_classes_are_near(
    make_scene: MakeScene, model: Path, tmp_path: Path
) -> None:
    source = make_scene(smooth(150, 190))
    path = vectorise_photo(source, tmp_path / "v.gpkg", run(model))
    found = one(path, model=model, runtime="openvino", precision="f32")
    assert found.changed == ("runtime",)
    assert found.answer in ("equal", "equal within the runtime"), found.to_line()


@pytest.mark.parametrize(
    ("forged", "answer"),
    [
        # A corner that is a hundredth of a pixel off: the ground is the same but for nothing.
        (lambda shapes: shapes + 0.01, "equal within the runtime"),
        # Six metres: the ground differs, where the model is sure.
        (lambda shapes: shapes + 6.0, "differs"),
    ],
)
def test_how_far_a_border_may_lie(
    make_scene: MakeScene,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    forged: Callable[[Any], Any],
    answer: str,
) -> None:
    """What another processor would have made of it: all the same, but a little beside."""
    import shapely

    source = make_scene(smooth(150, 190))
    path = vectorise_photo(source, tmp_path / "v.gpkg", run(model))
    read = module._read

    def moved(file: Path, layer: str, bounds: Any) -> Any:
        rows = read(file, layer, bounds)
        if file == path and layer in ("coverage", "buildings"):
            shapes = shapely.transform(shapely.from_wkb(rows.shapes), forged)
            rows.shapes[:] = shapely.to_wkb(shapes)
        return rows

    monkeypatch.setattr(module, "_read", moved)
    found = one(path, model=model)
    assert found.answer == answer, found


def test_it_stops_when_asked(classes: Path, make_scene: MakeScene, model: Path) -> None:
    stop = threading.Event()
    folder = classes.parent
    of_classes = vectorise(classes, folder / "v.gpkg", options=SMALL)
    of_photo = vectorise_photo(make_scene(smooth(150, 190)), folder / "p.gpkg", run(model))
    stop.set()
    for path, sample in ((of_classes, 2), (of_classes, 20), (of_photo, 20)):
        with pytest.raises(StoppedError, match="stopped as asked"):
            verify(path, model=model, sample=sample, stop=stop)
