"""The last step of a batch: its maps as a whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import rasterio

from sat2map.batch.catalogue import Entry
from sat2map.batch.manifest import WRITER, Row
from sat2map.batch.names import Listed, Names
from sat2map.batch.whole import write_whole
from sat2map.journal import claim
from sat2map.translation.translator import load
from sat2map.vectors.vectorise import vectorise

from .test_catalogue import make_map
from .test_catalogue import model as model

pytest.importorskip("pyogrio")


def note(out: Path, entries: list[Entry]) -> list[Listed]:
    """Write the manifest of a batch of some maps, and return its list of scenes."""
    with claim(out, WRITER, {"list of scenes": "photos"}) as journal:
        journal.start()
        rows = [
            Row(entry.name, f"{Path(entry.name).stem}.tif", "done", files=entry.files)
            for entry in entries
        ]
        rows.append(Row("broken.tif", "broken.tif", "failed", error="is broken"))
        journal.note({row.name: row.to_json() for row in rows})
    return [Listed(row.scene, str(out.parent / "photos" / row.scene), row.scene) for row in rows]


def with_vectors(out: Path, entry: Entry) -> Entry:
    path = vectorise(
        (out / entry.name).with_suffix(".classes.tif"), (out / entry.name).with_suffix(".gpkg")
    )
    name = path.relative_to(out).as_posix()
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    return replace(entry, files={**entry.files, name: checksum})


def test_all_maps_that_are_done_become_one(tmp_path: Path, model: Path) -> None:
    out, run = tmp_path / "out", load(model, runtime="torch")
    out.mkdir()
    with claim(out, WRITER, {"list of scenes": "photos"}) as journal:
        journal.start()
    entries = [
        with_vectors(out, make_map(out, "north/a.tif", run, classes=True)),
        with_vectors(out, make_map(out, "b.tif", run, 500_050, seed=1, classes=True)),
    ]
    found = note(out, entries)
    written = write_whole(out, found, model)
    assert [path.name for path in written] == [
        "catalog.json",
        "index.gti.gpkg",
        "classes.gti.gpkg",
        "map.gpkg",
    ]
    with rasterio.open(out / "index.gti.gpkg") as file:
        assert file.shape == (64, 114)
    item = json.loads((out / "b.stac.json").read_text(encoding="utf-8"))
    (source,) = [link["href"] for link in item["links"] if link["rel"] == "derived_from"]
    assert source == "../photos/b.tif"
    assert set(item["assets"]) == {"map", "classes", "gpkg"}
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    number = (out / "map.gpkg").stat().st_ino
    write_whole(out, found, model)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert (out / "map.gpkg").stat().st_ino == number, "it is not joined again"


def test_of_no_map_there_is_nothing(tmp_path: Path, model: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert write_whole(out, note(out, []), model) == []
    assert not (out / "catalog.json").exists()


def test_no_scene_has_the_name_of_the_whole() -> None:
    names = Names()
    assert names.give("map") == "map-2.tif"
    assert names.give("north/map") == "north/map.tif"
