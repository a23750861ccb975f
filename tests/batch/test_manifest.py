"""What a manifest says of scenes is read back as it was noted, also while it is written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sat2map.batch.manifest import (
    WRITER,
    Row,
    fingerprint_of,
    has_changed,
    read_manifest,
)
from sat2map.errors import DataError
from sat2map.journal import claim

DONE = Row(
    "a/b.tif",
    "a/b.jp2",
    "done",
    tries=2,
    deaths=("w1",),
    seconds=1.5,
    pixels=70_000,
    files={"a/b.tif": "ab12", "a/b.gpkg": "cd34"},
    fingerprint={"files": ["b.jp2"], "of": {"bytes": 3}, "told": None},
    features=("avx2",),
    item={"id": "b", "datetime": None},
)


def test_a_row_is_read_back_as_it_was_noted(tmp_path: Path) -> None:
    waiting = Row("c.tif", "c.tif")
    with claim(tmp_path / "out", WRITER, {"model": "streets"}) as journal:
        journal.start()
        journal.note({row.name: row.to_json() for row in (DONE, waiting)})
        manifest = read_manifest(tmp_path / "out")
        assert manifest.rows == {"a/b.tif": DONE, "c.tif": waiting}
        assert manifest.settings == {"model": "streets"}
        assert manifest.finished() == [DONE]
        assert manifest.counts()["waiting"] == 1
    assert DONE.outputs(Path("out")) == [Path("out/a/b.tif"), Path("out/a/b.gpkg")]


@pytest.mark.parametrize("facts", [None, True, {}, {"scene": 3}, {"scene": "a", "state": "gone"}])
def test_a_row_that_is_none_is_told(tmp_path: Path, facts: Any) -> None:
    with claim(tmp_path / "out", WRITER, {}) as journal:
        journal.start()
        journal.note({"a.tif": facts})
    with pytest.raises(DataError, match="has a damaged manifest"):
        read_manifest(tmp_path / "out")


def test_another_folder_is_none_of_a_batch(tmp_path: Path) -> None:
    with claim(tmp_path / "out", "sat2map translate", {}) as journal:
        journal.start()
    for folder in (tmp_path / "out", tmp_path / "missing"):
        with pytest.raises(DataError, match="is not the folder of a batch"):
            read_manifest(folder)


def test_a_scene_has_changed_with_its_contents_wherever_it_is(tmp_path: Path) -> None:
    scene, world = tmp_path / "a.tif", tmp_path / "a.tfw"
    scene.write_bytes(b"123")
    world.write_bytes(b"4")
    known = json.loads(json.dumps(fingerprint_of(scene, (scene, world), "1220ab")))
    assert not has_changed(known, scene, "1220ab")
    os.utime(scene, ns=(0, 0))
    assert not has_changed(known, scene, "1220ab")  # the same contents, copied once more
    assert has_changed(known, scene, "1220ac")
    assert has_changed(None, scene, "1220ab")
    (tmp_path / "moved").mkdir()
    moved = [path.rename(tmp_path / "moved" / path.name) for path in (scene, world)]
    assert not has_changed(known, moved[0], "1220ab")
    moved[1].write_bytes(b"5")
    assert has_changed(known, moved[0], "1220ab")


def test_an_address_has_changed_where_its_list_says_so() -> None:
    known = fingerprint_of(Path("a.tif"), (), "May")
    assert not has_changed(known, Path("a.tif"), "May")
    assert has_changed(known, Path("a.tif"), "June")
