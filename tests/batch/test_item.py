"""One scene of a batch: what is made of it, and what becomes of it where that fails."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.shutil import copy as copy_raster
from rasterio.transform import Affine

from fixtures.remote import Server
from fixtures.scenes import MakeScene, noise, smooth, with_classes
from sat2map.batch import item as item_room
from sat2map.batch.item import Item, Making, Outcome, open_worker, versions_of
from sat2map.batch.item import make_scene as make_map
from sat2map.batch.lease import LEASE, take_lease
from sat2map.batch.local import ENVIRONMENT
from sat2map.batch.manifest import block_name
from sat2map.batch.options import BatchOptions
from sat2map.errors import ModelError, UsageError
from sat2map.journal import HIDDEN
from sat2map.raster.options import Reading, SceneOptions
from sat2map.translation.class_files import ClassFiles
from sat2map.translation.scene import translate_raster
from sat2map.vectors.vectorise import VectorOptions

Try = Callable[..., Outcome]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def attempt(tmp_path: Path, out: Path) -> Iterator[Try]:
    """Return a function that makes a scene as a worker does whose driver lives."""
    translator = with_classes((1.0, 1.0))
    with take_lease(out) as lease:
        room = tmp_path / "scratch"

        def run(
            source: str | Path,
            name: str = "a/map.tif",
            *,
            scratch: Path = room,
            of: Any = None,
            **how: Any,
        ) -> Outcome:
            making = Making(out, lease.number, "", "", BatchOptions(**how), scratch)
            item = Item(name, str(source), **(of or {}))
            return make_map(making, translator, item, "w1", threading.Event(), ("avx2",))

        yield run
    assert not list(tmp_path.glob("scratch/*/*/*"))  # nothing is left


@pytest.fixture
def as_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have GDAL remember nothing of addresses, as in the processes of a batch."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def written(out: Path) -> set[str]:
    found = {path.relative_to(out) for path in out.rglob("*") if path.is_file()}
    return {path.as_posix() for path in found if HIDDEN not in path.parts}


def test_a_scene_becomes_what_translate_makes_of_it(
    attempt: Try, make_scene: MakeScene, tmp_path: Path, out: Path
) -> None:
    scene = make_scene(smooth(60, 80))
    outcome = attempt(scene, classes=True, confidence=True, qgis_style=True)
    assert outcome.kind == "done"
    alone = tmp_path / "alone"
    classes = ClassFiles(alone / "map.classes.tif", alone / "map.confidence.tif", "cover", True)
    translate_raster(
        scene, alone / "map.tif", with_classes((1.0, 1.0)), SceneOptions(), classes=classes
    )
    contents = {path.name: path.read_bytes() for path in alone.iterdir()}
    assert {Path(name).name for name in outcome.facts["files"]} == set(contents)
    for name, told in outcome.facts["files"].items():
        assert (out / name).read_bytes() == contents[Path(name).name]
        assert hashlib.sha256(contents[Path(name).name]).hexdigest() == told
    assert written(out) == set(outcome.facts["files"])
    assert outcome.facts["pixels"] == 60 * 80
    assert outcome.facts["features"] == ("avx2",)
    assert outcome.facts["fingerprint"]["files"] == ["scene.tif"]


@pytest.mark.parametrize(
    ("metres", "how"),
    [
        (1.0, {"classes": True, "confidence": True, "qgis_style": True}),
        (1.0, {"vectors": VectorOptions(), "scene": SceneOptions(legend_colours=True)}),
        (0.7, {"classes": True, "min_confidence": 0.6, "vectors": VectorOptions()}),
    ],
)
def test_a_giant_scene_in_blocks_has_the_bytes_of_the_whole(
    attempt: Try, make_scene: MakeScene, tmp_path: Path, out: Path, metres: float, how: Any
) -> None:
    pixels = smooth(1600, 40)  # all of it shows in the first two blocks of three
    pixels[:440] = pixels[600:] = 0
    scene = make_scene(pixels, nodata=0, transform=Affine(metres, 0, 5e5, 0, -metres, 58e5))
    how = how | {"scene": replace(how.get("scene", SceneOptions()), window=128)}
    whole = attempt(scene, "whole/map.tif", split_above=None, **how)
    assert whole.kind == "done", whole.facts

    limit = {"split_above": 1600 * 40 // 3 + 1}
    divided = attempt(scene, "map.tif", **limit, **how)
    assert (divided.kind, divided.facts["blocks"]) == ("split", 3)
    assert not (out / "map.tif").exists()
    strips: dict[str, str] = {}
    fingerprint = divided.facts["fingerprint"]
    for number in (2, 0, 1):
        name = block_name("map.tif", number, 3)
        part = {"block": (number, 3), "fingerprint": fingerprint}
        made = attempt(scene, name, of=part, **limit, **how)
        assert made.kind == ("empty" if number == 2 else "done"), made.facts
        assert all(file.startswith(f"{name}/") for file in made.facts["files"])
        strips |= made.facts["files"]
    all_of_it = {"strips": tuple(strips.items()), "fingerprint": fingerprint}
    joined = attempt(scene, "map.tif", of=all_of_it, **limit, **how)
    assert joined.kind == "done", joined.facts
    assert joined.facts["pixels"] == 1600 * 40
    names = {path.name for path in (out / "whole").iterdir()}
    assert {Path(name).name for name in joined.facts["files"]} == names
    for name in names:
        assert (out / name).read_bytes() == (out / "whole" / name).read_bytes(), name

    (out / next(iter(strips))).write_bytes(b"damaged")
    other = attempt(scene, "map.tif", of=all_of_it, **limit, **how)
    assert (other.kind, other.facts["lost"]) == ("other", next(iter(strips)))


def test_its_vectors_lie_beside_it(attempt: Try, make_scene: MakeScene, out: Path) -> None:
    scene = make_scene(smooth(60, 80))
    for name in ("one.tif", "two.tif"):
        assert attempt(scene, name, vectors=VectorOptions()).kind == "done"
    assert written(out) == {"one.tif", "one.gpkg", "two.tif", "two.gpkg"}
    # The same vectors are the same bytes, whenever they are made.
    assert (out / "one.gpkg").read_bytes() == (out / "two.gpkg").read_bytes()


def test_a_scene_that_is_replaced_while_it_is_read_is_tried_again(
    attempt: Try, make_scene: MakeScene, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, other = make_scene(noise(40, 50)), make_scene(noise(40, 50, seed=1), "other.tif")
    whole = item_room.translate_scene

    def replaced(*arguments: Any, **how: Any) -> None:
        whole(*arguments, **how)
        other.replace(scene)

    monkeypatch.setattr(item_room, "translate_scene", replaced)
    outcome = attempt(scene)
    assert outcome.kind == "again"
    assert "has changed while it was read" in outcome.facts["error"]
    assert written(out) == set()


def test_a_scene_at_an_address_that_is_replaced_while_it_is_read_is_tried_again(
    attempt: Try,
    make_scene: MakeScene,
    out: Path,
    server: Server,
    as_a_worker: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file, address = server.folder / "cog.tif", f"{server.address}/cog.tif"
    copy_raster(make_scene(smooth(60, 80)), file, driver="COG")
    whole = item_room.translate_scene

    def replaced(*arguments: Any, **how: Any) -> None:
        whole(*arguments, **how)
        os.utime(file, (0, 0))

    monkeypatch.setattr(item_room, "translate_scene", replaced)
    outcome = attempt(address)
    assert outcome.kind == "again", outcome.facts["error"]
    assert "has changed while it was read" in outcome.facts["error"]
    assert written(out) == set()
    assert attempt(address).kind == "done"  # at rest


@pytest.mark.parametrize("kind", ["cut off", "text", "image"])
def test_what_is_broken_stays_so(
    attempt: Try, make_scene: MakeScene, tmp_path: Path, out: Path, kind: str
) -> None:
    scene = make_scene(noise(300, 300), compress="deflate")
    if kind == "image":
        scene = tmp_path / "photo.png"
        from PIL import Image

        Image.fromarray(noise(20, 20)).save(scene)
    else:
        scene.write_bytes(scene.read_bytes()[:9000] if kind == "cut off" else b"no raster")
    outcome = attempt(scene)
    assert outcome.kind == "failed"
    assert scene.name in outcome.facts["error"]
    assert outcome.facts["fingerprint"] is not None  # so that a mended one is known
    assert written(out) == set()


def test_what_is_gone_may_be_back(attempt: Try, tmp_path: Path) -> None:
    outcome = attempt(tmp_path / "missing.tif")
    assert outcome.kind == "again"
    assert "there is no such file" in outcome.facts["error"]


def test_what_shows_nothing_is_empty(attempt: Try, make_scene: MakeScene, out: Path) -> None:
    blank = make_scene(np.zeros((20, 20, 3), np.uint8), nodata=0)
    assert attempt(blank).kind == "empty"
    elsewhere = SceneOptions(reading=Reading(bbox=(100, 10, 101, 11)))
    assert attempt(make_scene(noise(20, 20)), scene=elsewhere).kind == "empty"
    assert written(out) == set()


def test_a_call_that_does_not_fit_a_scene_is_told(attempt: Try, make_scene: MakeScene) -> None:
    outcome = attempt(
        make_scene(noise(20, 20)), scene=SceneOptions(reading=Reading(bands=(7, 8, 9)))
    )
    assert outcome.kind == "failed"
    assert "`bands`" in outcome.facts["error"]


def test_a_fault_of_ours_ends_no_other_scene(
    attempt: Try, make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise TypeError("of https://host/a?key=SECRET")

    monkeypatch.setattr(item_room, "translate_scene", fail)
    outcome = attempt(make_scene(noise(20, 20)))
    assert outcome.kind == "failed"
    assert outcome.facts["error"].startswith("TypeError: of https://host/a (test_item.py:")


def test_a_full_disk_of_the_worker_is_told_from_one_of_the_batch(
    attempt: Try,
    make_scene: MakeScene,
    tmp_path: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = make_scene(noise(40, 50))
    usage = item_room.shutil.disk_usage
    for full, kind in ((tmp_path / "scratch", "unfit"), (out, "output")):

        def shown(path: Path, full: Path = full) -> Any:
            return SimpleNamespace(free=0) if Path(path).is_relative_to(full) else usage(path)

        monkeypatch.setattr(item_room.shutil, "disk_usage", shown)
        outcome = attempt(scene)
        assert outcome.kind == kind, outcome.facts["error"]
        assert written(out) == set()


def test_a_worker_without_a_place_to_work_is_unfit(
    attempt: Try, make_scene: MakeScene, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert attempt(make_scene(noise(20, 20)), scratch=tmp_path / "file").kind == "unfit"


def test_a_late_worker_of_a_dead_driver_publishes_nothing(
    attempt: Try, make_scene: MakeScene, out: Path
) -> None:
    (out / HIDDEN / LEASE).unlink()
    assert attempt(make_scene(noise(20, 20))).kind == "stopped"
    assert written(out) == set()


def test_an_address_that_fails_for_a_while_is_tried_again(
    attempt: Try, make_scene: MakeScene, out: Path, server: Server, as_a_worker: None
) -> None:
    copy_raster(make_scene(smooth(60, 80)), server.folder / "cog.tif", driver="COG")

    server.fail(then=503)
    outcome = attempt(f"{server.address}/cog.tif?key=SECRET")
    assert outcome.kind == "again"
    assert "SECRET" not in str(outcome)
    server.fail()
    again = attempt(f"{server.address}/cog.tif?key=SECRET", "remote.tif")
    assert again.kind == "done", again.facts["error"]
    assert attempt(server.folder / "cog.tif", "local.tif").kind == "done"
    missing = attempt(f"{server.address}/missing.tif")
    assert missing.kind == "failed", missing.facts["error"]  # 404 is an answer
    with rasterio.open(out / "remote.tif") as one, rasterio.open(out / "local.tif") as other:
        assert (one.read() == other.read()).all()


def test_a_machine_with_other_versions_makes_no_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    translator = with_classes((1.0, 1.0))
    monkeypatch.setattr(item_room, "open_model", lambda model, options: translator)
    making = Making(
        tmp_path,
        "",
        "classes",
        translator.fingerprint(),
        BatchOptions(),
        versions=versions_of(translator),
    )
    assert callable(open_worker(making, "w1"))
    told = r"has sat2map \S+, rasterio .* was begun with sat2map 0.0.* same versions on all"
    with pytest.raises(UsageError, match=told):
        open_worker(replace(making, versions="sat2map 0.0"), "w1")
    with pytest.raises(ModelError, match="is not the model that the batch was begun with"):
        open_worker(replace(making, fingerprint="other"), "w1")
