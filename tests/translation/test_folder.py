from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from fixtures.scenes import Identity, MakeModel, MakeScene, noise
from sat2map.data.images import read_image
from sat2map.errors import BatchError, DataError, OutputError, StoppedError, UsageError
from sat2map.raster.options import Reading, SceneOptions
from sat2map.raster.sources import Source
from sat2map.translation import folder as folder_module
from sat2map.translation import image as image_module
from sat2map.translation import scene as scene_module
from sat2map.translation import translator as translator_module
from sat2map.translation.folder import translate_path
from sat2map.translation.translator import Translator, load

SMALL = SceneOptions(window=64, overlap=16)


@pytest.fixture
def translator(model_folder: Path) -> Translator:
    return load(model_folder, "cpu")


def save(path: Path, height: int, width: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(noise(height, width, seed=height)).save(path)
    return path


PutForeign = Callable[..., Callable[..., None]]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".sat2map")


def test_scenes_become_geotiffs_and_images_png(
    make_scene: MakeScene, translator: Translator, tmp_path: Path
) -> None:
    source = tmp_path / "photos"
    for i, name in enumerate(("2.jpg", "10.webp", "b.tif", "a.png")):
        save(source / name, 8 + i, 16)
    (source / "notes.txt").write_text("no image")
    scene = make_scene(noise(30, 30))
    scene.rename(source / "ortho.tif")
    calls: list[tuple[int, int]] = []
    written = translate_path(
        translator,
        source,
        tmp_path / "maps",
        SMALL,
        progress=lambda i, n: calls.append((i, n)),
    )
    assert [path.name for path in written] == ["2.png", "10.png", "a.png", "b.png", "ortho.tif"]
    assert names(tmp_path / "maps") == ["10.png", "2.png", "a.png", "b.png", "ortho.tif"]
    assert calls == [(i, 5) for i in range(1, 6)]
    for path, image in zip(written, ("2.jpg", "10.webp", "a.png", "b.tif"), strict=False):
        expected = translator.translate(read_image(source / image).pixels)
        assert np.array_equal(read_image(path).pixels, expected)
    with rasterio.open(tmp_path / "maps" / "ortho.tif") as file:
        assert file.crs.to_epsg() == 32633


def test_what_cannot_be_used_is_named_and_the_others_are_done(
    make_scene: MakeScene, translator: Translator, tmp_path: Path
) -> None:
    source = tmp_path / "photos"
    save(source / "1.png", 8, 8)
    (source / "2.jpg").write_text("no image")
    save(source / "3.png", 8, 8)
    Image.new("I;16", (8, 8), 2000).save(source / "4.png")
    (source / "5.tif").write_text("no raster")
    make_scene(np.zeros((9, 9, 3), np.uint8), nodata=0).rename(source / "6.tif")
    make_scene(noise(9, 9)).rename(source / "7.tif")
    with pytest.raises(BatchError) as caught:
        translate_path(translator, source, tmp_path / "maps", SMALL)
    assert names(tmp_path / "maps") == ["1.png", "3.png", "7.tif"]
    line = str(caught.value)
    assert line.startswith("4 items could not be used, 3 done: ")
    assert f"{source / '2.jpg'}: is not a PNG, JPEG, WebP or AVIF image" in line
    assert f"{source / '4.png'}: has 16 bits per channel" in line
    assert f"{source / '5.tif'}: cannot be read" in line
    assert f"{source / '6.tif'}: has no valid pixel" in line
    assert len(line.splitlines()) == 1


def test_nothing_of_a_folder_is_left_out_in_silence(
    translator: Translator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "photos"
    save(source / "1.png", 8, 8)
    Image.fromarray(noise(8, 8)).save(source / "2.bmp")
    for name in ("3.svg", "notes.txt", "1.png.aux.xml", ".hidden"):
        (source / name).touch()
    with pytest.raises(BatchError, match=r"1 item .* 2 done: .*3\.svg: SVG is not read"):
        translate_path(translator, source, tmp_path / "maps", SMALL)
    assert names(tmp_path / "maps") == ["1.png", "2.png"]
    assert (
        f"{source}: 1 file is left out, since such files are not read as images (.txt)."
        in caplog.text
    )


def test_a_scene_that_a_box_misses_is_an_item_of_the_batch(
    make_scene: MakeScene, translator: Translator, tmp_path: Path
) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    make_scene(noise(9, 9)).rename(source / "a.tif")
    options = replace(SMALL, reading=Reading(bbox=(0, 0, 1, 1)))
    with pytest.raises(BatchError, match=r"a\.tif lies wholly outside"):
        translate_path(translator, source, tmp_path / "maps", options)


def test_the_same_stem_twice_is_an_error_for_the_second(
    make_scene: MakeScene, translator: Translator, tmp_path: Path
) -> None:
    source = tmp_path / "photos"
    save(source / "a.jpg", 8, 8)
    save(source / "a.png", 16, 8)
    make_scene(noise(9, 9)).rename(source / "a.tif")
    with pytest.raises(BatchError) as caught:
        translate_path(translator, source, tmp_path / "maps", SMALL)
    assert "a.png: has the same stem as another file" in str(caught.value)
    assert "a.tif: has the same stem as another file" in str(caught.value)
    assert read_image(tmp_path / "maps" / "a.png").pixels.shape == (8, 8, 3)


def test_no_comparison_overwrites_a_map(translator: Translator, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    save(source / "a.png", 8, 8)
    save(source / "a.compare.png", 16, 8)
    with pytest.raises(BatchError, match=r"a\.png: would overwrite .*a\.compare\.png, which was"):
        translate_path(translator, source, tmp_path / "maps", replace(SMALL, compare=True))
    assert names(tmp_path / "maps") == ["a.compare.compare.png", "a.compare.png"]
    assert read_image(tmp_path / "maps" / "a.compare.png").pixels.shape == (16, 8, 3)


def test_a_file_is_opened_once_to_find_out_what_it_is(
    make_scene: MakeScene,
    translator: Translator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first of the two threads that read a scene takes what was opened then."""
    source = tmp_path / "photos"
    save(source / "a.png", 8, 8)
    make_scene(noise(30, 30)).rename(source / "b.tif")
    opened: list[str] = []
    real = rasterio.open

    def noted(name: Any, *arguments: Any, **options: Any) -> Any:
        if Path(str(name)).parent == source:
            opened.append(Path(str(name)).name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(rasterio, "open", noted)
    translate_path(translator, source, tmp_path / "maps", SMALL)
    assert sorted(opened) == ["a.png", "b.tif", "b.tif"]


def test_a_folder_that_is_called_like_a_scene_is_not_one(
    translator: Translator, tmp_path: Path
) -> None:
    source = tmp_path / "photos"
    save(source / "a.png", 8, 8)
    save(source / "b.tif" / "c.png", 8, 8)
    with pytest.raises(BatchError, match=r"b\.tif: there is no such file"):
        translate_path(translator, source, tmp_path / "maps", SMALL)
    assert names(tmp_path / "maps") == ["a.png"]


def test_an_image_with_a_world_file_is_a_scene(translator: Translator, tmp_path: Path) -> None:
    photo = save(tmp_path / "photos" / "photo.jpg", 20, 30)
    photo.with_suffix(".jgw").write_text("2\n0\n0\n-2\n500001\n4999999\n")
    (written,) = translate_path(translator, photo.parent, tmp_path / "maps", SMALL)
    assert written == tmp_path / "maps" / "photo.tif"
    with rasterio.open(written) as file:
        assert file.bounds == (500_000, 4_999_960, 500_060, 5_000_000)


def test_a_folder_into_a_raster_is_one_mosaic(
    make_scene: MakeScene, translator: Translator, tmp_path: Path
) -> None:
    source = tmp_path / "scenes"
    source.mkdir()
    for right in (0, 25):
        place = {"crs": "EPSG:32633", "transform": rasterio.Affine(1, 0, right, 0, -1, 9)}
        make_scene(noise(30, 30), georeference=place).rename(source / f"{right}.tif")
    (written,) = translate_path(translator, source, tmp_path / "map.tif", SMALL)
    with rasterio.open(written) as file:
        assert (file.width, file.height) == (55, 30)


def test_too_large_as_published_is_an_item_of_the_batch(
    translator: Translator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translator_module, "MAX_PUBLISHED_PIXELS", 100)
    source = tmp_path / "photos"
    save(source / "1.png", 16, 16)
    save(source / "2.png", 8, 8)
    with pytest.raises(BatchError, match=r"1\.png: 16 x 16 pixels are too many"):
        translate_path(translator, source, tmp_path / "maps", SceneOptions(mode="published"))
    assert names(tmp_path / "maps") == ["2.png"]


def test_a_full_disk_ends_the_batch(
    make_scene: MakeScene,
    translator: Translator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = itertools.count()

    def full(*_: object) -> None:
        next(done)
        raise OutputError("cannot be written", where="maps", remedy="Free some space.")

    source = tmp_path / "photos"
    save(source / "1.png", 8, 8)
    make_scene(noise(9, 9)).rename(source / "2.tif")
    monkeypatch.setattr(image_module, "write_image", full)
    monkeypatch.setattr(scene_module, "translate_raster", full)
    with pytest.raises(OutputError):
        translate_path(translator, source, tmp_path / "maps")
    assert next(done) == 1


def test_an_interrupted_folder_goes_on_where_it_was(
    make_scene: MakeScene,
    translator: Translator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, maps = tmp_path / "photos", tmp_path / "maps"
    save(source / "1.png", 8, 8)
    make_scene(noise(9, 9)).rename(source / "2.tif")
    save(source / "3.png", 8, 9)
    save(source / "4.png", 8, 10)
    made: list[str] = []
    stop_at: str | None = "4.png"

    def noted(real: Callable[..., Path]) -> Callable[..., Path]:
        def run(*arguments: Any, **named: Any) -> Path:
            paths = [a.where if isinstance(a, Source) else a for a in arguments]
            (file,) = (p for p in paths if isinstance(p, Path) and p.parent == source)
            if file.name == stop_at:
                raise KeyboardInterrupt
            made.append(file.name)
            return real(*arguments, **named)

        return run

    for module, name in ((scene_module, "translate_raster"), (folder_module, "translate_image")):
        monkeypatch.setattr(module, name, noted(getattr(module, name)))
    again = replace(SMALL, resume=True)
    with pytest.raises(KeyboardInterrupt):
        translate_path(translator, source, maps, SMALL)
    stop_at = None
    (maps / "1.png").unlink()  # what is gone is made again, and so is what changed
    save(source / "3.png", 8, 12)
    assert len(translate_path(translator, source, maps, again)) == 4
    assert made == ["1.png", "2.tif", "3.png", "1.png", "3.png", "4.png"]
    assert names(maps) == ["1.png", "2.tif", "3.png", "4.png"]
    assert read_image(maps / "3.png").pixels.shape == (8, 12, 3)
    translate_path(translator, source, maps, again)  # all is done
    assert made[6:] == []
    translate_path(translator, source, maps, SMALL)
    assert made[6:] == ["1.png", "2.tif", "3.png", "4.png"]


def test_a_folder_stops_between_files_and_goes_on(translator: Translator, tmp_path: Path) -> None:
    source, maps, stop = tmp_path / "photos", tmp_path / "maps", threading.Event()
    for number in range(3):
        save(source / f"{number}.png", 8, 8 + number)
    with pytest.raises(StoppedError, match="maps: stopped as asked; 2 of 3 files are done"):
        translate_path(
            translator,
            source,
            maps,
            SMALL,
            progress=lambda done, total: stop.set() if done == 2 else None,
            stop=stop,
        )
    assert names(maps) == ["0.png", "1.png"]
    assert len(translate_path(translator, source, maps, replace(SMALL, resume=True))) == 3


def test_what_was_mended_is_all_that_a_second_run_does(
    translator: Translator, tmp_path: Path
) -> None:
    source, maps = tmp_path / "photos", tmp_path / "maps"
    save(source / "1.png", 8, 8)
    (source / "2.png").write_text("no image")
    with pytest.raises(BatchError):
        translate_path(translator, source, maps, SMALL)
    before = (maps / "1.png").stat().st_mtime_ns
    with (maps / ".sat2map" / "done.jsonl").open("a") as file:
        file.write('["2.png", {"mo')  # killed while it wrote
    save(source / "2.png", 8, 8)
    translate_path(translator, source, maps, replace(SMALL, resume=True))
    assert (maps / "1.png").stat().st_mtime_ns == before
    assert names(maps) == ["1.png", "2.png"]


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_others_filled_is_left_as_it_is(
    translator: Translator, tmp_path: Path, put_foreign: PutForeign, resume: bool
) -> None:
    source, maps = tmp_path / "photos", tmp_path / "maps"
    save(source / "1.png", 8, 8)
    check = put_foreign(maps)
    with pytest.raises(OutputError, match="is not empty and was not written by sat2map translate"):
        translate_path(translator, source, maps, replace(SMALL, resume=resume))
    check(alone=True)


@pytest.mark.parametrize("resume", [False, True])
def test_files_of_others_among_the_maps_are_kept(
    translator: Translator, tmp_path: Path, put_foreign: PutForeign, resume: bool
) -> None:
    source, maps = tmp_path / "photos", tmp_path / "maps"
    save(source / "1.png", 8, 8)
    translate_path(translator, source, maps, SMALL)
    check = put_foreign(maps, "2.png", ".3.0123abcd.png")
    for name in ("1", "2", "3"):
        save(source / f"{name}.png", 8, 8)
    with pytest.raises(BatchError, match=r"2\.png: is there already and was not written by"):
        translate_path(translator, source, maps, replace(SMALL, resume=resume))
    check()
    assert (maps / "3.png").is_file()


def test_a_folder_that_an_older_version_began_is_gone_on_with(
    translator: Translator, tmp_path: Path
) -> None:
    source, maps = tmp_path / "photos", tmp_path / "maps"
    save(source / "1.png", 8, 8)
    save(source / "2.png", 8, 8)
    (maps).mkdir()
    (maps / "1.png").write_text("by an older version, made of something that nobody knows")
    (maps / ".finished.jsonl").write_text('\n{"1.png": {"model": "x"}}\n\n{"2.p')
    translate_path(translator, source, maps, replace(SMALL, resume=True))
    assert read_image(maps / "1.png").pixels.shape == (8, 8, 3)
    assert sorted(path.name for path in maps.iterdir()) == [".sat2map", "1.png", "2.png"]


def test_names_that_do_not_fit(translator: Translator, tmp_path: Path) -> None:
    photo = save(tmp_path / "photos" / "photo.png", 8, 8)
    with pytest.raises(UsageError, match="another folder"):
        translate_path(translator, photo.parent, photo.parent)
    for target in (photo, tmp_path / "map.tif"):  # one mosaic of all
        with pytest.raises(DataError, match=r"photo\.png: has no coordinates"):
            translate_path(translator, photo.parent, target)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: has no images"):
        translate_path(translator, tmp_path / "empty", tmp_path / "maps")
    assert names(tmp_path) == ["empty", "photos"]
    for missing in ("no.png", "no.tif"):
        with pytest.raises(DataError, match=rf"{missing}: there is no such file"):
            translate_path(translator, tmp_path / missing, tmp_path / "map.png")


@pytest.mark.parametrize(
    "options",
    [
        SceneOptions(resolution="model"),
        SceneOptions(reading=Reading(bands=(3, 2, 1))),
        SceneOptions(reading=Reading(bbox=(0, 0, 1, 1))),
    ],
)
def test_options_of_scenes_do_not_apply_to_an_image(
    translator: Translator, tmp_path: Path, options: SceneOptions
) -> None:
    photo = save(tmp_path / "photo.png", 8, 8)
    with pytest.raises(UsageError, match=r"photo\.png: is an image"):
        translate_path(translator, photo, tmp_path / "map.png", options)


def test_a_legend_that_the_model_lacks_is_missed_once(
    translator: Translator, tmp_path: Path
) -> None:
    save(tmp_path / "photos" / "photo.png", 8, 8)
    with pytest.raises(UsageError, match="`legend_colours`: the model tiny has no legend"):
        options = SceneOptions(legend_colours=True)
        translate_path(translator, tmp_path / "photos", tmp_path / "maps", options)


def test_a_scene_of_any_size_is_no_image_too_large(
    make_scene: MakeScene, translator: Translator, tmp_path: Path
) -> None:
    scene, target = make_scene(noise(30, 30)), tmp_path / "map.tif"
    assert translate_path(translator, scene, target, SMALL, max_pixels=1) == [target]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_utf_8_ends_no_folder(
    make_scene: MakeScene, translator: Translator, tmp_path: Path
) -> None:
    source = tmp_path / "photos"
    save(source / "1.png", 8, 8)
    save(source / "2.png", 8, 8)
    strange = os.fsdecode(os.fsencode(source) + b"/caf\xe9")
    (source / "2.png").rename(f"{strange}.png")
    make_scene(noise(9, 9)).rename(f"{strange}.tif")
    with pytest.raises(BatchError, match="1 item could not be used, 2 done") as caught:
        translate_path(translator, source, tmp_path / "maps", SMALL)
    assert "has a name that is not UTF-8" in str(caught.value)
    assert len(names(tmp_path / "maps")) == 2


def test_what_is_new_or_changed_is_all_that_resuming_does(
    make_model: MakeModel, tmp_path: Path
) -> None:
    network = Identity(4)
    translator = make_model(network=network)
    source = tmp_path / "photos"
    for number in range(3):
        save(source / f"{number}.png", 8, 8)
    translate_path(translator, source, tmp_path / "maps", SMALL)
    network.seen.clear()
    save(source / "9.png", 12, 8)
    Image.fromarray(noise(16, 16, seed=5)).save(source / "1.png")
    made = translate_path(translator, source, tmp_path / "maps", replace(SMALL, resume=True))
    assert [path.name for path in made] == ["0.png", "1.png", "2.png", "9.png"]
    assert len(network.seen) == 2
