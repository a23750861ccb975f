"""Chips as a user gets them: in their place, split by ground, resumable, and all else one line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from PIL import Image
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds

from sat2map import atomic as whole
from sat2map.chips.chips import ChipOptions, Chips, make_chips
from sat2map.chips.preview import write_preview
from sat2map.data.pairs import find_pairs, read_dataset_card, read_pair
from sat2map.errors import DataError, OutputError, Sat2mapError, StoppedError, UsageError
from sat2map.geo import gdal
from sat2map.geo.gdal import SETTINGS
from sat2map.raster.options import Reading
from sat2map.style.features import VectorFile
from sat2map.style.spec import read_style

PutForeign = Callable[..., Callable[..., None]]
SIZE = 32
UTM, ORIGIN = "EPSG:32633", (392_000.0, 5_820_000.0)


def make(ground: Any, out: Path, imagery: list[Path] | None = None, **options: Any) -> Chips:
    options = {"size": SIZE, "min_mapped": 0.0, **options}
    sources = [str(path) for path in imagery or [ground.imagery]]
    return make_chips(sources, [VectorFile(ground.vectors)], out, ChipOptions(**options))


def pair(out: Path, split: str, name: str) -> tuple[Any, Any]:
    (found,) = [pair for pair in find_pairs(out, split) if pair.stem == name]
    return read_pair(found)


def test_chips_are_a_data_set_whose_pixels_are_those_of_the_ground(
    make_ground: Any, tmp_path: Path
) -> None:
    house = ("building", shapely.box(70, 40, 82, 50))
    ground = make_ground(shapes=[house])
    chips = make(ground, tmp_path / "out", validation=0.0)
    assert [o.chip.name for o in chips.kept] == ["ortho_r32_c64"]
    imagery, drawn = pair(tmp_path / "out", "train", "ortho_r32_c64")
    assert (imagery == ground.pixels[32:64, 64:96]).all()
    legend = read_style("streets").legend
    building = legend.label(drawn) == legend.names.index("building")
    inner = np.zeros((SIZE, SIZE), bool)
    inner[9:17, 7:17] = True  # a pixel within the house's edge
    assert building[inner].all()
    outside = np.ones((SIZE, SIZE), bool)
    outside[7:19, 5:19] = False
    assert not building[outside].any()

    card = read_dataset_card(tmp_path / "out")
    assert (card.resolution_m, card.legend, card.licence) == (1.0, legend, None)
    table = geopandas.read_parquet(tmp_path / "out" / "index.parquet")
    assert table[["name", "split", "row", "column"]].values.tolist() == [
        ["ortho_r32_c64", "train", 32, 64]
    ]
    west, south, east, north = table.to_crs(UTM).total_bounds
    assert (west - ORIGIN[0], ORIGIN[1] - north) == pytest.approx((64, 32), abs=0.01)
    assert (east - ORIGIN[0], ORIGIN[1] - south) == pytest.approx((96, 64), abs=0.01)
    assert 0 < table["mapped"][0] < 0.2
    with Image.open(tmp_path / "out" / "split.png") as image:
        assert image.width >= 200


def grounds_of(out: Path, crs: Any = UTM) -> tuple[Any, Any]:
    table = geopandas.read_parquet(out / "index.parquet").to_crs(crs)
    splits = table["split"]
    return tuple(shapely.union_all(table.geometry[splits == s].values) for s in ("train", "val"))


@pytest.mark.parametrize("random", [None, 40])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_pixel_of_training_ground_is_in_validation(
    make_ground: Any, tmp_path: Path, random: int | None, seed: int
) -> None:
    ground = make_ground(300, 400)
    chips = make(ground, tmp_path / "out", random=random, seed=seed, buffer_m=6.0)
    training, validation = grounds_of(tmp_path / "out")
    assert chips.counts()["train"] >= 30 and chips.counts()["val"] >= 2
    assert training.distance(validation) >= 6 - 1e-3


def test_overlapping_imagery_of_other_projections_shares_the_blocks(
    make_ground: Any, tmp_path: Path
) -> None:
    ground = make_ground(300, 400)
    with rasterio.open(ground.imagery) as file, WarpedVRT(file, crs="EPSG:3857", nodata=0) as web:
        pixels, place = web.read(), web.transform
    other = make_ground.imagery(
        "web.tif", pixels.transpose(1, 2, 0), crs="EPSG:3857", transform=place, nodata=0
    )
    chips = make(ground, tmp_path / "out", [ground.imagery, other], buffer_m=6.0)
    names = {o.chip.sheet for o in chips.kept}
    assert names == {0, 1}
    training, validation = grounds_of(tmp_path / "out")
    assert training.distance(validation) >= 6 - 0.05


def test_small_ground_has_validation_and_the_smallest_says_that_it_has_none(
    make_ground: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chips = make(make_ground(40, 80), tmp_path / "out")
    assert chips.counts() == {"train": 1, "val": 1}
    chips = make(make_ground(40, 60), tmp_path / "none")
    assert chips.counts() == {"train": 1, "val": 0}
    assert "too small for validation" in caplog.text


def test_an_interrupted_call_goes_on_and_the_same_again_changes_nothing(
    make_ground: Any, tmp_path: Path
) -> None:
    ground, out = make_ground(), tmp_path / "out"
    options = ChipOptions(size=SIZE, min_mapped=0)

    def interrupt(done: int, total: int | None) -> None:
        if done == 5:
            raise KeyboardInterrupt

    vectors = [VectorFile(ground.vectors)]
    with pytest.raises(KeyboardInterrupt):
        make_chips([str(ground.imagery)], vectors, out, options, progress=interrupt)
    assert not (out / "dataset.json").exists()
    with (out / ".sat2map" / "done.jsonl").open("a") as file:
        file.write('["train/half a li')  # as a kill leaves it
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert len(before) == 5
    steps: list[int] = []
    chips = make_chips(
        [str(ground.imagery)], vectors, out, options, progress=lambda done, _: steps.append(done)
    )
    assert steps[0] == 5
    whole_set = {path.relative_to(out): path.read_bytes() for path in out.rglob("*.png")}
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    again = make_chips([str(ground.imagery)], vectors, out, options)
    assert again.outcomes == chips.outcomes
    fresh = make_chips([str(ground.imagery)], vectors, tmp_path / "fresh", options)
    assert fresh.outcomes == chips.outcomes
    assert whole_set == {
        path.relative_to(tmp_path / "fresh"): path.read_bytes()
        for path in (tmp_path / "fresh").rglob("*.png")
    }


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_asked_to_stop_what_is_done_is_kept(make_ground: Any, tmp_path: Path, workers: int) -> None:
    ground, out, stop = make_ground(300, 400), tmp_path / "out", threading.Event()
    options = ChipOptions(size=SIZE, min_mapped=0, workers=workers)
    sources, vectors = [str(ground.imagery)], [VectorFile(ground.vectors)]

    def show(done: int, total: int | None) -> None:
        if done == 5:
            stop.set()

    with pytest.raises(StoppedError, match=r"out: stopped as asked; \d+ of \d+ places are done"):
        make_chips(sources, vectors, out, options, progress=show, stop=stop)
    assert not (out / "dataset.json").exists()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert len(before) >= 5
    chips = make_chips(sources, vectors, out, options)
    assert len(before) < len(chips.kept)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_a_chip_that_was_removed_is_cut_again(make_ground: Any, tmp_path: Path) -> None:
    ground, out = make_ground(), tmp_path / "out"
    name = make(ground, out).kept[0].chip.name
    (out / "train" / f"{name}.png").unlink()
    make(ground, out)
    assert (out / "train" / f"{name}.png").is_file()


def test_chips_of_other_settings_and_foreign_files_are_left_alone(
    make_ground: Any, tmp_path: Path
) -> None:
    ground, out = make_ground(), tmp_path / "out"
    make(ground, out)
    with pytest.raises(OutputError, match=r"out: holds chips of other settings \(seed\)"):
        make(ground, out, seed=3)
    os.utime(ground.imagery, (1, 1))  # another time, but the same contents
    before = (out / "split.png").read_bytes()
    make(ground, out)
    assert (out / "split.png").read_bytes() == before
    with rasterio.open(ground.imagery, "r+") as file:
        file.write(np.zeros((3, 1, 1), np.uint8), window=((0, 1), (0, 1)))
    with pytest.raises(OutputError, match=r"other settings \(imagery\)"):
        make(ground, out)


@pytest.mark.parametrize("kind", ["vectors", "clouds", "style"])
def test_what_changed_beneath_chips_is_named(make_ground: Any, tmp_path: Path, kind: str) -> None:
    ground, out = make_ground(), tmp_path / "out"
    sky = np.zeros((64, 64, 1), np.uint8)
    clouds = make_ground.imagery("clouds.tif", sky, photometric="minisblack")
    base, style = tmp_path / "base.json", tmp_path / "style.json"
    base.write_text('{"metadata": {"sat2map:base": "streets"}}')
    style.write_text(json.dumps({"metadata": {"sat2map:base": str(base)}}))
    make(ground, out, clouds=(clouds,), style=style)
    if kind == "vectors":
        ground.vectors.write_bytes(ground.vectors.read_bytes() + b"\n")
    elif kind == "clouds":
        sky[0] = 1
        make_ground.imagery("clouds.tif", sky, photometric="minisblack")
    else:  # what it builds on
        base.write_text('{"metadata": {"sat2map:base": "landcover"}}')
    with pytest.raises(OutputError, match=rf"other settings \({kind}\)"):
        make(ground, out, clouds=(clouds,), style=style)


def test_imagery_that_is_a_folder_is_known_by_its_files(make_ground: Any, tmp_path: Path) -> None:
    ground, out, folder = make_ground(), tmp_path / "out", tmp_path / "photos"
    folder.mkdir()
    shutil.copy(ground.imagery, folder / "one.tif")
    make(ground, out, [folder])
    (tmp_path / "moved").mkdir()
    moved = folder.rename(tmp_path / "moved" / "photos")
    make(ground, out, [moved])
    with rasterio.open(moved / "one.tif", "r+") as file:
        file.write(np.zeros((3, 1, 1), np.uint8), window=((0, 1), (0, 1)))
    with pytest.raises(OutputError, match=r"other settings \(imagery\)"):
        make(ground, out, [moved])


def test_a_folder_that_others_filled_is_left_as_it_is(
    make_ground: Any, tmp_path: Path, put_foreign: PutForeign
) -> None:
    check = put_foreign(tmp_path / "mine", "chips.json")
    with pytest.raises(OutputError, match="mine: is not empty and was not written by"):
        make(make_ground(), tmp_path / "mine")
    check(alone=True)


def test_files_of_others_among_the_chips_are_kept(
    make_ground: Any, tmp_path: Path, put_foreign: PutForeign
) -> None:
    ground, out = make_ground(), tmp_path / "out"
    chips = make(ground, out)
    names = [f"{o.chip.split}/{o.chip.name}.png" for o in chips.kept[:2]]
    check = put_foreign(out, "train/mine.png", f"train/.{chips.kept[0].chip.name}.0123abcd.png")
    (out / names[0]).unlink()
    write_preview(make(ground, out), [])
    check()
    check = put_foreign(tmp_path / "taken", *names)
    journal = shutil.copytree(out / ".sat2map", tmp_path / "taken" / ".sat2map")
    (journal / "done.jsonl").write_text("")  # it was killed before the first chip
    with pytest.raises(OutputError, match="is there already and was not written by"):
        make(ground, tmp_path / "taken")
    check()


def test_two_at_once_are_not_let_in(make_ground: Any, tmp_path: Path) -> None:
    ground, out, refused = make_ground(), tmp_path / "out", []

    def another(done: int, total: int | None) -> None:
        with pytest.raises(UsageError, match="out: is being written by another process"):
            make(ground, out)
        refused.append(done)

    options = ChipOptions(size=SIZE, min_mapped=0)
    make_chips([str(ground.imagery)], [VectorFile(ground.vectors)], out, options, progress=another)
    assert len(refused) > 1


def test_chips_of_an_older_version_are_told_apart(make_ground: Any, tmp_path: Path) -> None:
    ground, out = make_ground(), tmp_path / "out"
    make(ground, out)
    shutil.rmtree(out / ".sat2map")
    settings = {"version": 1, "imagery": [["photo.tif", 1, 2]], "vectors": [], "style": ["a", "b"]}
    (out / "chips.json").write_text(json.dumps(settings))
    with pytest.raises(OutputError, match="out: holds chips of an earlier version of sat2map"):
        make(ground, out)
    assert json.loads((out / "chips.json").read_text()) == settings


def test_chips_without_imagery_with_clouds_or_with_nothing_mapped_are_left_out(
    make_ground: Any, tmp_path: Path
) -> None:
    mask = np.full((96, 160), 255, np.uint8)
    mask[40, 40] = 0  # a single pixel of the chip in the second row and column
    shapes = [
        ("building", shapely.box(x + 4, y + 4, x + 14, y + 14))
        for y in (0, 32, 64)
        for x in range(0, 160, 32)
        if (x, y) != (0, 0)
    ]
    shapes.append(("building", shapely.box(2, 2, 4, 4)))  # 4 of 1024 pixels
    ground = make_ground(96, 160, shapes, mask=mask)
    sky = np.zeros((24, 40, 1), np.uint8)
    sky[17, 33] = 1  # 4 m pixels: rows 68 to 72, columns 132 to 136
    place = Affine(4, 0, ORIGIN[0], 0, -4, ORIGIN[1])
    clouds = make_ground.imagery("clouds.tif", sky, transform=place, photometric="minisblack")
    chips = make(ground, tmp_path / "out", validation=0.0, min_mapped=0.01, clouds=(clouds,))
    reasons = {o.chip.place: o.reason for o in chips.outcomes if o.reason}
    assert reasons.pop((0, 0)) == "unmapped"
    assert reasons.pop((64, 128)) == "clouds"
    assert reasons in ({}, {(32, 32): "nodata"})
    assert len(chips.kept) == 12
    assert not (tmp_path / "out" / "train" / "ortho_r32_c32.png").exists()
    assert "1 with clouds" in chips.describe()


@pytest.mark.parametrize("shift", [(5.0, -3.0), (0.0, 2.0)])
def test_a_shift_moves_the_map_and_not_the_imagery(
    make_ground: Any, tmp_path: Path, shift: tuple[float, float]
) -> None:
    ground = make_ground(shapes=[("building", shapely.box(74, 44, 84, 52))])
    make(ground, tmp_path / "here", validation=0.0)
    make(ground, tmp_path / "there", validation=0.0, shift_m=shift)
    imagery, drawn = pair(tmp_path / "here", "train", "ortho_r32_c64")
    same, moved = pair(tmp_path / "there", "train", "ortho_r32_c64")
    assert (imagery == same).all()
    rows, columns = round(-shift[1]), round(shift[0])  # north is up
    assert (moved == np.roll(drawn, (rows, columns), (0, 1))).all()
    assert not (moved == drawn).all()


def test_finer_imagery_is_brought_to_the_resolution(make_ground: Any, tmp_path: Path) -> None:
    ground = make_ground(64, 64, [("building", shapely.box(4, 4, 28, 28))])
    fine = np.kron(ground.pixels, np.ones((2, 2, 1), np.uint8))
    place = Affine(0.5, 0, ORIGIN[0], 0, -0.5, ORIGIN[1])
    finer = make_ground.imagery("fine.tif", fine, transform=place)
    make(ground, tmp_path / "plain", validation=0.0)
    make(ground, tmp_path / "out", [finer], validation=0.0)
    imagery, drawn = pair(tmp_path / "plain", "train", "ortho_r0_c0")
    again, redrawn = pair(tmp_path / "out", "train", "fine_r0_c0")
    assert again.shape == imagery.shape
    assert np.abs(again.astype(int) - imagery)[1:-1, 1:-1].mean() < 40  # smoothed noise
    assert np.corrcoef(again.ravel(), imagery.ravel())[0, 1] > 0.8
    assert (drawn == redrawn).all()


def test_only_a_part_is_cut_where_one_is_meant(make_ground: Any, tmp_path: Path) -> None:
    ground = make_ground()
    with rasterio.open(ground.imagery) as file:
        west, south, east, north = transform_bounds(file.crs, "EPSG:4326", *file.bounds)
    half = (west, south, (west + east) / 2, north)
    everything = make(ground, tmp_path / "all", validation=0.0)
    part = make(ground, tmp_path / "part", validation=0.0, reading=Reading(bbox=half))
    assert 0 < len(part.kept) <= len(everything.kept) / 2 + 4


def test_the_licence_is_what_the_files_say(make_ground: Any, tmp_path: Path) -> None:
    ground = make_ground()
    with rasterio.open(ground.imagery, "r+") as file:
        file.update_tags(ATTRIBUTION="© City, CC BY 4.0")
    make(ground, tmp_path / "out")
    assert read_dataset_card(tmp_path / "out").licence == "Imagery: © City, CC BY 4.0"
    make(ground, tmp_path / "told", licence="mine")
    assert read_dataset_card(tmp_path / "told").licence == "mine"


@pytest.mark.slow
def test_several_processes_make_the_same(make_ground: Any, tmp_path: Path) -> None:
    ground = make_ground(300, 400)
    one = make(ground, tmp_path / "one")
    two = make(ground, tmp_path / "two", workers=2)
    assert one.outcomes == two.outcomes
    for path in (tmp_path / "one").rglob("*.png"):
        assert (
            path.read_bytes()
            == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
        )


KILLED = """
import os, signal, sys
from multiprocessing import active_children
from pathlib import Path
from sat2map.chips.chips import ChipOptions, make_chips
from sat2map.style.features import VectorFile

def kill(done, total):
    if done > 16:
        print(len(active_children()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    imagery, vectors, out = sys.argv[1:]
    options = ChipOptions(size=32, min_mapped=0, workers=2)
    make_chips([imagery], [VectorFile(Path(vectors))], Path(out), options, progress=kill)
"""


@pytest.mark.slow
def test_a_kill_leaves_no_process_behind_and_the_work_goes_on(
    make_ground: Any, tmp_path: Path
) -> None:
    ground, out = make_ground(320, 320), tmp_path / "out"
    (tmp_path / "killed.py").write_text(KILLED)
    program = [sys.executable, tmp_path / "killed.py", ground.imagery, ground.vectors, out]
    # Its output ends when nobody holds it any more, and the workers hold it.
    ended = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert ended.stdout == "2\n"
    chips = make(ground, out)
    fresh = make(ground, tmp_path / "fresh")
    assert chips.outcomes == fresh.outcomes


@pytest.mark.slow
def test_an_error_of_another_process_is_the_same_line(make_ground: Any, tmp_path: Path) -> None:
    ground = make_ground(300, 400)
    (tmp_path / "out").mkdir()
    make(ground, tmp_path / "out")  # leaves the settings
    for path in (tmp_path / "out" / "train").iterdir():
        path.unlink()
    (tmp_path / "out" / "train").rmdir()
    (tmp_path / "out" / "train").write_text("in the way")
    with pytest.raises(OutputError, match=r"ortho_r\d+_c\d+\.png: cannot be written"):
        make(ground, tmp_path / "out", workers=2)


def test_a_full_disk_is_one_line_and_what_is_done_is_kept(
    make_ground: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground, out = make_ground(), tmp_path / "out"
    flushed: list[Path] = []

    def full(path: Path) -> None:
        flushed.append(path)
        if sum(p.suffix == ".png" for p in flushed) > 3:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(whole, "flush", full)
        with pytest.raises(OutputError, match=r"\.png: cannot be written \(No space left"):
            make(ground, out)
    assert len(list(out.rglob("*.png"))) == 3
    assert len(make(ground, out).kept) > 3


@pytest.mark.parametrize(
    ("case", "kind", "words"),
    [
        ("elsewhere", DataError, r"none of the vectors lies on the imagery"),
        ("empty", DataError, r"empty\.gpkg: none of the vectors lies on the imagery"),
        ("imagery without CRS", DataError, r"ortho\.tif: has no coordinate reference system"),
        ("vectors without CRS", DataError, r"shapes\.shp.*coordinate"),
        ("no such imagery", DataError, r"gone\.tif: there is no such file"),
        ("no such vectors", DataError, r"gone\.gpkg: there is no such file"),
        ("no such style", UsageError, r"baroque: is neither a shipped style nor a file"),
        ("no such class", UsageError, r"no class 'castle'"),
        ("too small", UsageError, r"ortho\.tif: has 200 x 150 pixels at 1 m, .* chip of 256"),
        ("too coarse", UsageError, r"ortho\.tif: has 1 m per pixel, which is far too coarse"),
        ("twice", UsageError, r"ortho\.tif: is given twice"),
        ("nothing mapped", DataError, r"no chip is left of \d+ .*too little on the map"),
        ("size", UsageError, r"`size`: 8 is not possible"),
        ("share", UsageError, r"`validation`: 1 is not possible"),
    ],
)
def test_what_goes_wrong_is_one_line(
    make_ground: Any, tmp_path: Path, case: str, kind: type[Sat2mapError], words: str
) -> None:
    ground = make_ground()
    imagery, vectors = [str(ground.imagery)], VectorFile(ground.vectors)
    options: dict[str, Any] = {"size": SIZE}
    if case == "elsewhere":
        far = shapely.box(90_000, 10, 90_020, 20)
        vectors = VectorFile(make_ground.vectors("far.geojson", [("building", far)]))
    elif case == "empty":
        vectors = VectorFile(make_ground.vectors("empty.gpkg", []))
    elif case == "imagery without CRS":
        make_ground.imagery("ortho.tif", ground.pixels, crs=None)
    elif case == "vectors without CRS":
        box = [("building", shapely.box(1, 1, 9, 9))]
        shapes = make_ground.vectors("shapes.shp", box, UTM)
        shapes.with_suffix(".prj").unlink()
        vectors = VectorFile(shapes)
    elif case == "no such imagery":
        imagery = [str(tmp_path / "gone.tif")]
    elif case == "no such vectors":
        vectors = VectorFile(tmp_path / "gone.gpkg")
    elif case == "no such style":
        options["style"] = "baroque"
    elif case == "no such class":
        vectors = VectorFile(ground.vectors, "castle")
    elif case == "too small":
        options["size"] = 256
    elif case == "too coarse":
        options["resolution_m"] = 0.1
    elif case == "twice":
        imagery *= 2
    elif case == "nothing mapped":
        options["min_mapped"] = 1.0
    with pytest.raises(kind, match=words) as caught:
        if case in {"size", "share"}:
            options |= {"size": {"size": 8}, "share": {"validation": 1.0}}[case]
        make_chips(imagery, [vectors], tmp_path / "out", ChipOptions(**options))
    assert "\n" not in str(caught.value)
    if case != "nothing mapped":
        assert not (tmp_path / "out").exists()


def test_the_settings_are_written_down(make_ground: Any, tmp_path: Path) -> None:
    make(make_ground(), tmp_path / "out", seed=7)
    settings = json.loads((tmp_path / "out" / "chips.json").read_text())
    assert (settings["seed"], settings["size"], settings["style"][0]) == (7, SIZE, "streets")


def test_gdal_keeps_few_blocks_however_large_the_region(
    make_ground: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is opened, imagery or clouds, is opened under our settings."""
    ground = make_ground()
    clouds = make_ground.imagery(
        "clouds.tif", np.zeros((64, 64, 1), np.uint8), photometric="minisblack"
    )
    opened: list[tuple[str, Any]] = []
    real = rasterio.open

    def spied(name: Any, *arguments: Any, **options: Any) -> Any:
        opened.append((Path(name).name, rasterio.env.getenv().get("GDAL_CACHEMAX")))
        return real(name, *arguments, **options)

    monkeypatch.setattr(gdal.rasterio, "open", spied)
    make(ground, tmp_path / "out", clouds=(clouds,))
    assert {name for name, _ in opened} == {ground.imagery.name, "clouds.tif"}
    assert {kept for _, kept in opened} == {SETTINGS["GDAL_CACHEMAX"]}
    assert SETTINGS["GDAL_CACHEMAX"] <= 2**25
