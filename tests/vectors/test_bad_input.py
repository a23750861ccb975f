"""What nobody wishes for: a right file, or one clear line and nothing half-written."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine

from fixtures.scenes import MakeScene
from sat2map.errors import DataError, OutputError, UsageError
from sat2map.legend import COVER
from sat2map.vectors.vectorise import VectorOptions, vectorise

pyogrio = pytest.importorskip("pyogrio")
pytest.importorskip("pyarrow")

LAND, BUILDING, ROAD, VEGETATION, WATER = range(5)
NOTHING = 255
LEFT_AS_IT_IS = dict.fromkeys(("land", "building", "road", "vegetation", "water"), 0.0)


def read(path: Path, layer: str) -> tuple[Any, dict[str, Any]]:
    meta, _, blobs, values = pyogrio.raw.read(path, layer=layer)
    return shapely.from_wkb(blobs), dict(zip(meta["fields"], values, strict=True))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def spiral(side: int = 128) -> NDArray[np.uint8]:
    """Return a road, five pixels wide, that winds from the edge to the middle."""
    numbers = np.full((side, side), LAND, np.uint8)
    row, column, length = 6, 0, side - 6
    for turn in range(14):
        down, along = ((0, 1), (1, 0), (0, -1), (-1, 0))[turn % 4]
        for _ in range(length):
            numbers[row - 2 : row + 3, column - 2 if column > 1 else 0 : column + 3] = ROAD
            row, column = row + down, column + along
        row, column = row - down, column - along
        length -= 8 if turn else 6
        length -= 6 if turn % 2 == 0 else 0
    return numbers


def ring_in_a_ring(side: int = 90) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:side, :side]
    away = np.hypot(rows - side / 2, columns - side / 2)
    numbers = np.full((side, side), LAND, np.uint8)
    for radius, number in ((44, WATER), (36, VEGETATION), (28, ROAD), (22, WATER), (12, BUILDING)):
        numbers[away < radius] = number
    return numbers


def diagonal(side: int = 70) -> NDArray[np.uint8]:
    numbers = np.full((side, side), LAND, np.uint8)
    np.fill_diagonal(numbers, ROAD)
    return numbers


def checkerboard(side: int = 64) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:side, :side]
    return ((rows + columns) % 2 * WATER).astype(np.uint8)


def with_holes(side: int = 64) -> NDArray[np.uint8]:
    numbers = ring_in_a_ring(side)
    numbers[10:20, 10:50] = NOTHING
    numbers[:, 62:] = NOTHING
    return numbers


MAPS = {
    "spiral": spiral(),
    "ring in a ring": ring_in_a_ring(),
    "diagonal": diagonal(),
    "checkerboard": checkerboard(),
    "holes": with_holes(),
    "one pixel": np.full((1, 1), BUILDING, np.uint8),
    "one row": np.full((1, 70), ROAD, np.uint8),
    "one column": np.full((70, 1), WATER, np.uint8),
}


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("name", MAPS)
def test_strange_maps_become_right_files(
    make_scene: MakeScene, tmp_path: Path, name: str, keep: bool
) -> None:
    numbers = MAPS[name]
    path = make_scene(numbers[..., None], "classes.tif", nodata=NOTHING)
    minimum = LEFT_AS_IT_IS if keep else {}
    found = []
    for sheet in (2048, 64):
        options = VectorOptions(sheet=sheet, minimum_m2=minimum)  # type: ignore[arg-type]
        out = vectorise(path, tmp_path / f"{sheet}.gpkg", legend=COVER, options=options)
        shapes, facts = read(out, "coverage")
        assert shapely.coverage_is_valid(shapes)
        assert shapely.is_valid(shapes).all()
        # The border of what has no map is simplified, like all others.
        about = 5e-3 if (numbers == NOTHING).any() else 1e-9
        assert shapely.area(shapes).sum() == pytest.approx((numbers != NOTHING).sum(), rel=about)
        if keep:
            assert set(facts["class"]) == {COVER.names[n] for n in np.unique(numbers) if n < 255}
        nodes, about = read(out, "road_nodes")
        places = dict(zip(about["node"], shapely.get_coordinates(nodes).tolist(), strict=True))
        roads, about = read(out, "roads")
        degrees = dict.fromkeys(places, 0)
        for road, u, v in zip(roads, about["u"], about["v"], strict=True):
            assert road.geom_type == "LineString"
            assert [list(road.coords[0]), list(road.coords[-1])] == [places[u], places[v]]
            degrees[u] += 1
            degrees[v] += 1
        _, about = read(out, "road_nodes")
        assert degrees == dict(zip(about["node"], about["degree"], strict=True))
        found.append(sorted(road.wkb for road in roads))
    assert found[0] == found[1]
    if name == "spiral":
        assert len(found[0]) == 1
    assert names(tmp_path) == {"classes.tif", "2048.gpkg", "64.gpkg"}


@pytest.mark.parametrize("name", ["one row", "holes"])
@pytest.mark.parametrize("suffix", ["pmtiles", "geojson", "fgb", "parquet"])
def test_every_format_takes_them_too(
    make_scene: MakeScene, tmp_path: Path, name: str, suffix: str
) -> None:
    if suffix == "pmtiles":
        pytest.importorskip("pmtiles")
    path = make_scene(MAPS[name][..., None], "classes.tif", nodata=NOTHING)
    layers = [None] if suffix == "pmtiles" else ["coverage", "roads"]
    for layer in layers:
        options = VectorOptions(layer=layer)  # type: ignore[arg-type]
        out = vectorise(path, tmp_path / f"out.{suffix}", legend=COVER, options=options)
        assert out.stat().st_size > 0
    beside = {"out.style.json"} if suffix == "pmtiles" else set()
    assert names(tmp_path) == {"classes.tif", f"out.{suffix}"} | beside


def test_a_palette_of_somebody_else_is_no_legend(make_scene: MakeScene, tmp_path: Path) -> None:
    path = make_scene(ring_in_a_ring()[..., None], "classes.tif")
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {number: (number * 40, 90, 7, 255) for number in range(5)})
    with pytest.raises(DataError, match=r"classes\.tif: does not say what its values mean"):
        vectorise(path, tmp_path / "town.gpkg")
    assert names(tmp_path) == {"classes.tif"}
    _, facts = read(vectorise(path, tmp_path / "town.gpkg", legend="cover"), "coverage")
    assert set(facts["class"]) == {"land", "water", "vegetation", "road", "building"}


def test_what_lies_nowhere_is_refused(make_scene: MakeScene, tmp_path: Path) -> None:
    for georeference in ({}, {"crs": "EPSG:32633"}, {"transform": Affine(1, 0, 5, 0, -1, 5)}):
        path = make_scene(spiral()[..., None], "classes.tif", georeference=georeference)
        with pytest.raises(DataError, match="does not say where on the ground it lies"):
            vectorise(path, tmp_path / "town.gpkg", legend="cover")
    assert names(tmp_path) == {"classes.tif"}


def test_control_points_on_no_straight_grid_are_refused_or_placed(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    path = make_scene(ring_in_a_ring()[..., None], "classes.tif", georeference={})
    with rasterio.open(path, "r+") as file:
        points = [(0, 0, 0), (0, 90, 0), (90, 0, 0), (90, 90, 9), (45, 45, 30)]
        file.gcps = (
            [
                GroundControlPoint(row, column, 500_000 + column + bend, 5_000_000 - row)
                for row, column, bend in points
            ],
            rasterio.crs.CRS.from_epsg(32633),
        )
    try:
        out = vectorise(path, tmp_path / "town.gpkg", legend="cover")
    except DataError as error:
        assert "classes.tif" in str(error)
        assert names(tmp_path) == {"classes.tif"}
    else:
        shapes, facts = read(out, "coverage")
        assert shapely.coverage_is_valid(shapes)
        assert set(facts["class"]) == {"land", "water", "vegetation", "road", "building"}


# The disk, other processes, and kills.


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes, which writing then fails at as on a full disk."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize(
    ("suffix", "size"),
    [
        ("gpkg", 500),
        ("gpkg", 70_000),
        ("pmtiles", 3_000),
        ("geojson", 3_000),
        ("fgb", 3_000),
        ("parquet", 3_000),
    ],
)
def test_a_full_disk_leaves_what_was_there(
    make_scene: MakeScene, tmp_path: Path, suffix: str, size: int
) -> None:
    if suffix == "pmtiles":
        pytest.importorskip("pmtiles")
    path = make_scene(ring_in_a_ring()[..., None], "classes.tif", nodata=NOTHING)
    out = tmp_path / f"town.{suffix}"
    out.write_text("what was there")
    layer = None if suffix in ("gpkg", "pmtiles") else "coverage"
    options = VectorOptions(layer=layer, minimum_m2=LEFT_AS_IT_IS)  # type: ignore[arg-type]
    with room_for(size), pytest.raises(OutputError, match=rf"town\.{suffix}|scene\.sqlite|whole"):
        vectorise(path, out, legend="cover", options=options)
    assert out.read_text() == "what was there"
    assert names(tmp_path) <= {"classes.tif", out.name, f".{out.name}.partial"}
    vectorise(path, out, legend="cover", options=options)
    assert out.stat().st_size > 1000


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_named(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    path = make_scene(spiral()[..., None], "classes.tif")
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(OutputError, match=r"town\.gpkg: cannot be written"):
        vectorise(path, folder / "town.gpkg", legend="cover")
    assert names(folder) == set()


def test_a_folder_that_is_a_file_is_named(make_scene: MakeScene, tmp_path: Path) -> None:
    path = make_scene(spiral()[..., None], "classes.tif")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"town\.gpkg"):
        vectorise(path, tmp_path / "file" / "town.gpkg", legend="cover")
    assert (tmp_path / "file").read_text() == "mine"


def test_two_at_once_are_refused(make_scene: MakeScene, tmp_path: Path) -> None:
    path = make_scene(spiral()[..., None], "classes.tif")
    out, tried = tmp_path / "town.gpkg", threading.Event()

    def other(_done: int, _total: int) -> None:
        if not tried.is_set():
            tried.set()
            with pytest.raises(UsageError, match="is being written by another process"):
                vectorise(path, out, legend="cover")

    assert vectorise(path, out, legend="cover", progress=other) == out
    assert tried.is_set()
    assert names(tmp_path) == {"classes.tif", "town.gpkg"}


PROGRAM = """
import sys, time
from sat2map.vectors.vectorise import VectorOptions, vectorise

def show(done, total):
    print(done, flush=True)
    time.sleep(0.05)

options = VectorOptions(sheet=32, resume="resume" in sys.argv)
vectorise("classes.tif", "town.gpkg", legend="cover", options=options, progress=show)
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", [3, 20, 36])
def test_a_kill_leaves_nothing_under_the_name_and_the_work_goes_on(
    make_scene: MakeScene, tmp_path: Path, when: int
) -> None:
    path = make_scene(spiral()[..., None], "classes.tif")
    program = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(program, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ended = time.monotonic() + 120
        for line in process.stdout:
            assert time.monotonic() < ended
            if int(line) >= when:
                break
        process.kill()
    assert names(tmp_path) == {"classes.tif", ".town.gpkg.partial"}
    subprocess.run([*program, "resume"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    assert names(tmp_path) == {"classes.tif", "town.gpkg"}
    other = vectorise(
        path, tmp_path / "other.gpkg", legend="cover", options=VectorOptions(sheet=32)
    )
    for layer in ("coverage", "roads", "road_nodes"):
        one, two = read(tmp_path / "town.gpkg", layer), read(other, layer)
        assert [shape.wkb for shape in one[0]] == [shape.wkb for shape in two[0]]
