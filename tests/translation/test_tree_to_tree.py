from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image
from torch import Tensor

from fixtures.scenes import Identity, MakeModel, cut_tiles, noise, smooth, write_shapes
from sat2map.errors import DataError, OutputError, StoppedError, UsageError
from sat2map.legend import STREETS
from sat2map.raster.options import Reading, SceneOptions
from sat2map.raster.sources import Source, open_source
from sat2map.translation.folder import task_of, translate_path
from sat2map.translation.tile_tree import translate_tiles

SMALL = SceneOptions(window=64, overlap=16)


class Blur(Identity):
    """Answers each pixel with the mean of its neighbours."""

    def forward(self, source: Tensor) -> Tensor:
        from torch.nn.functional import avg_pool2d, pad

        self.seen.append(tuple(source.shape[2:]))
        return avg_pool2d(pad(source, (2, 2, 2, 2), mode="reflect"), 5, 1)


def tiles_of(root: Path) -> dict[str, np.ndarray]:
    return {
        path.relative_to(root).as_posix(): np.asarray(Image.open(path))
        for path in sorted(root.rglob("*.png"))
    }


@pytest.mark.parametrize("target", ["out", "out/{z}/{x}/{y}.png"])
def test_tiles_become_the_same_tiles(make_model: MakeModel, tmp_path: Path, target: str) -> None:
    root = cut_tiles(tmp_path / "tiles", noise(96, 128), 18, 100, 200)
    cut_tiles(root, noise(32, 32, seed=3), 18, 300, 7)
    cut_tiles(root, noise(64, 64, seed=5), 17, 50, 100)
    (root / "18/101/201.png").unlink()
    calls: list[tuple[int, int]] = []
    written = translate_path(
        make_model(None),
        str(root),
        tmp_path / target,
        SMALL,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert written == [tmp_path / "out"]
    before, after = tiles_of(root), tiles_of(tmp_path / "out")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert calls == sorted(calls)
    assert calls[-1][0] == calls[-1][1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "tiles"]


def test_a_tile_is_translated_with_its_neighbours(make_model: MakeModel, tmp_path: Path) -> None:
    """Where tiles meet, the answer is that of the whole image."""
    pixels = smooth(96, 96)
    root = cut_tiles(tmp_path / "tiles", pixels, 18, 100, 200)
    translate_tiles(open_source(root), tmp_path / "out", make_model(None, network=Blur(4)), SMALL)
    inverse = {"x": 100, "y": 200}
    found = np.zeros_like(pixels)
    for name, tile in tiles_of(tmp_path / "out").items():
        _, x, y = Path(name).with_suffix("").parts
        top, left = 32 * (int(y) - inverse["y"]), 32 * (int(x) - inverse["x"])
        found[top : top + 32, left : left + 32] = tile
    padded = np.pad(pixels.astype(float), ((2, 2), (2, 2), (0, 0)), mode="reflect")
    blurred = sum(padded[i : i + 96, j : j + 96] for i in range(5) for j in range(5)) / 25
    assert np.abs(found - blurred).max() <= 1


def test_a_box_chooses_tiles_and_leaves_them_their_neighbours(
    make_model: MakeModel, tmp_path: Path
) -> None:
    root = cut_tiles(tmp_path / "tiles", smooth(96, 96), 1, 0, 0)
    for path in root.rglob("*.png"):  # zoom 1 has 2 x 2 tiles only
        if int(path.stem) > 1 or int(path.parent.name) > 1:
            path.unlink()
    model = make_model(None, network=Blur(4))
    translate_tiles(open_source(root), tmp_path / "whole", model, SMALL)
    options = replace(SMALL, reading=Reading(bbox=(10, 10, 20, 20)))
    translate_tiles(open_source(root), tmp_path / "part", model, options)
    part = tiles_of(tmp_path / "part")
    assert list(part) == ["1/1/0.png"]
    assert np.array_equal(part["1/1/0.png"], tiles_of(tmp_path / "whole")["1/1/0.png"])
    options = replace(
        SMALL, mask=write_shapes(tmp_path / "a.gpkg", [shapely.box(-90, -60, 0, 0)], "EPSG:4326")
    )
    translate_tiles(open_source(root), tmp_path / "masked", model, options)
    ((name, tile),) = tiles_of(tmp_path / "masked").items()
    assert name == "1/0/1.png"
    assert tile.shape == (32, 32, 4)
    assert 0.2 < (tile[..., 3] > 0).mean() < 0.5


def test_legend_colours_and_clear_pixels(make_model: MakeModel, tmp_path: Path) -> None:
    clear = np.full((32, 64, 1), 255, np.uint8)
    clear[:5] = 0
    clear[:, 32:] = 0
    root = cut_tiles(tmp_path / "tiles", np.dstack([smooth(32, 64), clear]), 9, 3, 4)
    options = replace(SMALL, legend_colours=True)
    translate_tiles(open_source(root), tmp_path / "out", make_model(None, legend=STREETS), options)
    (path,) = (tmp_path / "out").rglob("*.png")
    tile = np.asarray(Image.open(path).convert("RGBA"))
    assert np.array_equal(tile[..., 3] > 0, clear[:, :32, 0] > 0)
    colours = {tuple(colour) for colour in STREETS.colours.tolist()}
    assert {tuple(c) for c in tile[tile[..., 3] > 0][:, :3].tolist()} <= colours


def test_an_interrupt_is_resumed(make_model: MakeModel, tmp_path: Path) -> None:
    root = cut_tiles(tmp_path / "tiles", noise(32, 32), 9, 3, 4)
    cut_tiles(root, noise(32, 32, seed=1), 9, 30, 4)
    cut_tiles(root, noise(32, 32, seed=2), 9, 60, 4)

    class Interrupted(Identity):
        def forward(self, source: Tensor) -> Tensor:
            self.seen.append(tuple(source.shape[2:]))
            if len(self.seen) == 2:
                raise KeyboardInterrupt
            return source

    network = Interrupted(4)
    model = make_model(None, network=network)
    with pytest.raises(KeyboardInterrupt):
        translate_tiles(open_source(root), tmp_path / "out", model, SMALL)
    assert not (tmp_path / "out").exists()
    translate_tiles(open_source(root), tmp_path / "out", model, replace(SMALL, resume=True))
    assert len(network.seen) == 4, "the first part is not translated again"
    before, after = tiles_of(root), tiles_of(tmp_path / "out")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_tree_stops_after_a_part_and_goes_on(make_model: MakeModel, tmp_path: Path) -> None:
    root, stop = cut_tiles(tmp_path / "tiles", noise(32, 32), 9, 3, 4), threading.Event()
    cut_tiles(root, noise(32, 32, seed=1), 9, 30, 4)
    seen: list[int] = []

    def show(done: int, total: int) -> None:
        seen.append(done)
        if done > 32 * 32:
            stop.set()

    source, target = open_source(root), tmp_path / "out"
    with pytest.raises(StoppedError, match=r"out: stopped as asked; 1 of 2 parts are finished"):
        translate_tiles(source, target, make_model(None), SMALL, show, stop)
    translate_tiles(source, target, make_model(None), replace(SMALL, resume=True))
    assert tiles_of(root).keys() == tiles_of(target).keys()


def test_a_notice_is_given_once_however_many_parts_it_is_true_of(
    make_model: MakeModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = cut_tiles(tmp_path / "tiles", noise(32, 32), 9, 3, 4)
    cut_tiles(root, noise(32, 32, seed=1), 9, 30, 4)
    cut_tiles(root, noise(32, 32, seed=2), 9, 60, 4)
    translate_tiles(open_source(root), tmp_path / "out", make_model(None), SMALL)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1
    assert "does not say which ground resolutions it knows" in told[0]


def test_what_does_not_fit(make_model: MakeModel, tmp_path: Path) -> None:
    root = cut_tiles(tmp_path / "tiles", noise(32, 32), 9, 3, 4)
    source, model, out = open_source(root), make_model(None), tmp_path / "out"
    for options, line in (
        (SceneOptions(resolution="model"), "`resolution`: does not apply"),
        (SceneOptions(compare=True), "`compare`: has no room"),
        (SceneOptions(reading=Reading(stretch=(2, 98))), "`stretch`: would treat"),
        (SceneOptions(reading=Reading(bbox=(0, 0, 1, 1))), "`bbox`: no tile"),
        (SceneOptions(legend_colours=True), "has no legend"),
    ):
        with pytest.raises(UsageError, match=line):
            translate_tiles(source, out, model, options)
    with pytest.raises(UsageError, match="lies in the input"):
        translate_tiles(source, root / "maps", model, SMALL)
    out.mkdir()
    (out / "notes.txt").touch()
    with pytest.raises(OutputError, match="exists already"):
        translate_tiles(source, out, model, SMALL)
    empty = cut_tiles(tmp_path / "empty", np.zeros((32, 32, 4), np.uint8), 9, 3, 4)
    with pytest.raises(DataError, match="has no tile in which anything shows"):
        translate_tiles(open_source(empty), tmp_path / "none", model, SMALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "out", "tiles"]


def test_what_a_call_means(tmp_path: Path) -> None:
    root = cut_tiles(tmp_path / "tiles", noise(32, 32), 9, 3, 4)
    Image.fromarray(noise(9, 9)).save(tmp_path / "photo.png")
    Image.fromarray(noise(9, 9)).save(tmp_path / "photo.tif")
    pattern = f"{root}/{{z}}/{{x}}/{{y}}.png"
    for name, target, task in (
        (root, "maps", "tiles"),
        (pattern, "maps", "tiles"),
        (pattern, "maps/{z}/{x}/{y}.png", "tiles"),
        (root, "map.tif", "scene"),
        (root, "map.pmtiles", "scene"),
        (tmp_path, "maps", "folder"),
        (tmp_path, "map.tif", "scene"),
        (tmp_path, "maps/{z}/{x}/{y}.png", "scene"),
        (tmp_path / "photo.png", "map.png", "image"),
        (tmp_path / "photo.tif", "map.png", "scene"),
    ):
        assert task_of(open_source(name), Path(target)) == task, (name, target)
    there = "https://example.com/ortho.tif"
    assert task_of(Source("address", there, "ortho.tif"), Path("map.tif")) == "scene"


def test_tiles_from_the_south_become_tiles_from_the_north(
    make_model: MakeModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = noise(64, 32)
    root = cut_tiles(tmp_path / "tiles", pixels, 9, 3, 4)
    (root / "9/3/4.png").rename(root / f"9/3/{511 - 4}.png")
    (root / "9/3/5.png").rename(root / f"9/3/{511 - 5}.png")
    pattern = f"{root}/{{z}}/{{x}}/{{-y}}.png"
    translate_path(make_model(None), pattern, tmp_path / "out", SMALL)
    assert "count from the south" in caplog.text
    found = tiles_of(tmp_path / "out")
    assert sorted(found) == ["9/3/4.png", "9/3/5.png"]
    assert np.array_equal(found["9/3/4.png"][..., :3], pixels[:32])
    assert np.array_equal(found["9/3/5.png"][..., :3], pixels[32:])
