from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import Affine

from sat2map.data.mask_cache import decode_masks
from sat2map.data.mask_mapping import MaskMapping
from sat2map.data.mask_set import (
    ValueCount,
    choose_validation,
    count_values,
    find_labelled,
    write_mask_set,
)
from sat2map.data.masks import MaskFile, find_masks, read_mask, read_mask_card
from sat2map.errors import BatchError, DataError, OutputError, UsageError
from sat2map.legend import COVER

Array = NDArray[np.uint8]
MAPPING = MaskMapping.from_json({"0": "unknown", "1": "water", "2": "not road"}, COVER)


def save(path: Path, pixels: Array) -> Array:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def labelled(folder: Path, count: int, below: int = 3) -> list[MaskFile]:
    """Write NAME.jpg beside NAME.png, 12 x 8 pixels, numbers from 0."""
    for i in range(count):
        random = np.random.default_rng(i)
        save(folder / f"{i}.jpg", random.integers(0, 256, (8, 12, 3), np.uint8))
        save(folder / f"{i}.png", random.integers(0, below, (8, 12), np.uint8))
    return find_labelled(folder)


def test_photos_and_masks_lie_beside_each_other_or_in_two_folders(tmp_path: Path) -> None:
    beside = labelled(tmp_path / "one", 11)
    assert [file.name for file in beside] == [str(i) for i in range(11)]
    assert beside[10] == MaskFile("10", tmp_path / "one/10.jpg", tmp_path / "one/10.png")
    for kind, suffix in (("images", "png"), ("masks", "tif")):
        save(tmp_path / f"{kind}/a.{suffix}", np.zeros((4, 4), np.uint8))
    assert find_labelled(tmp_path / "images", tmp_path / "masks") == [
        MaskFile("a", tmp_path / "images/a.png", tmp_path / "masks/a.tif")
    ]


def test_photos_without_masks_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        find_labelled(tmp_path / "none")
    with pytest.raises(DataError, match="has no images"):
        find_labelled(tmp_path)
    save(tmp_path / "a.jpg", np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError, match=r"a\.jpg: is not one of a photo and its mask a\.png\. "):
        find_labelled(tmp_path)
    save(tmp_path / "a.tif", np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError, match=r"a\.png beside a\.\w+\. .*folder of the masks"):
        find_labelled(tmp_path)
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match=r"a\.\w+: "):
        find_labelled(tmp_path, tmp_path / "masks")


def test_values_are_counted(tmp_path: Path) -> None:
    for name, values in (("a", [[0, 0], [0, 7]]), ("b", [[0, 0], [0, 0]])):
        save(tmp_path / f"{name}.jpg", np.zeros((2, 2, 3), np.uint8))
        save(tmp_path / f"{name}.png", np.array(values, np.uint8))
    assert count_values(find_labelled(tmp_path)) == [
        ValueCount(0, 7 / 8, 2),
        ValueCount(7, 1 / 8, 1),
    ]


def test_validation_by_share_is_the_same_every_time() -> None:
    names = [f"tile_{i}" for i in range(40)]
    chosen = choose_validation(names, 0.1)
    assert len(chosen) == 4
    assert choose_validation(names[::-1], 0.1) == chosen
    assert choose_validation(names, 0.2) > chosen
    assert choose_validation(names, 0.0) == set()
    assert choose_validation(names, 1.0) == set(names)
    assert len(choose_validation(names[:2], 0.1)) == 1
    assert len(choose_validation(names[:2], 0.9)) == 1
    assert choose_validation(names[:1], 0.1) == set()


def test_validation_by_name() -> None:
    names = ["austin1", "austin2", "vienna1", "tyrol"]
    assert choose_validation(names, ["austin*", "tyrol"]) == {"austin1", "austin2", "tyrol"}
    with pytest.raises(UsageError, match=r"`validation`: no image is called 'chicago\*'"):
        choose_validation(names, ["austin*", "chicago*"])
    for share in (-0.1, 1.5, float("nan")):
        with pytest.raises(UsageError, match=r"`validation`: .* is not a share"):
            choose_validation(names, share)


def test_the_set_that_is_written_can_be_read(tmp_path: Path) -> None:
    files = labelled(tmp_path / "in", 10)
    calls: list[tuple[int, int]] = []
    made = write_mask_set(
        files,
        tmp_path / "out",
        COVER,
        MAPPING,
        resolution_m=0.5,
        licence="CC0-1.0",
        validation=0.2,
        progress=lambda done, all: calls.append((done, all)),
    )
    assert calls == [(i, 10) for i in range(1, 11)]
    assert (len(made.train), len(made.val), made.unknown) == (8, 2, ())
    card = read_mask_card(tmp_path / "out")
    assert (card.resolution_m, card.licence, card.legend) == (0.5, "CC0-1.0", COVER)
    assert card.classes == MAPPING
    for split, names in (("train", made.train), ("val", made.val)):
        written = find_masks(tmp_path / "out", split)
        assert tuple(file.name for file in written) == names
        for file in written:
            given = next(one for one in files if one.name == file.name)
            assert file.source.read_bytes() == given.source.read_bytes()
            assert np.array_equal(read_mask(file)[1], read_mask(given)[1])
    values = np.concatenate([read_mask(file)[1].ravel() for file in files])
    assert np.allclose(made.shares, np.bincount(values, minlength=256) / values.size)
    assert len(decode_masks(tmp_path / "out", "train", crop=8)) == 8


def test_masks_can_be_looked_at(tmp_path: Path) -> None:
    files = labelled(tmp_path / "in", 1)
    write_mask_set(files, tmp_path / "out", COVER, MAPPING)
    values = read_mask(files[0])[1]
    with Image.open(tmp_path / "out/train/classes/0.png") as image:
        painted = np.asarray(image.convert("RGB"))
    assert (painted[values == 1] == COVER.colours[COVER.names.index("water")]).all()
    assert (painted[values == 0] == 0).all()
    assert not (painted[values == 2] == 0).any()


def test_what_was_made_is_told(tmp_path: Path) -> None:
    mapping = MaskMapping.from_json({**MAPPING.to_json(), "9": "road"}, COVER)
    files = labelled(tmp_path / "in", 10)
    save(tmp_path / "in/3.png", np.zeros((8, 12), np.uint8))
    made = write_mask_set(files, tmp_path / "out", COVER, mapping)
    assert made.unknown == ("3",)
    assert not list((tmp_path / "out").rglob("3.*"))
    lines = made.describe()
    assert lines[0] == f"{len(made.train)} training images, {len(made.val)} validation images"
    assert f"    1  {made.shares[1]:6.1%}  water" in lines
    assert any(line.endswith("land or building or vegetation or water") for line in lines)
    unknown, unused, few = made.notices()
    assert "3 (1 in all)" in unknown
    assert "values 9 of the mapping" in unused
    assert "fewer than 5 validation images" in few
    enough = write_mask_set(files[4:], tmp_path / "more", COVER, MAPPING, validation=0.9)
    assert enough.notices() == []


def assert_refused(files: list[MaskFile], out: Path, *what: str) -> None:
    with pytest.raises(BatchError) as caught:
        write_mask_set(files, out, COVER, MAPPING)
    line = str(caught.value)
    assert "\n" not in line
    for words in what:
        assert words in line
    assert not out.exists()
    assert not list(out.parent.glob(".out.*"))


def test_values_outside_of_the_mapping(tmp_path: Path) -> None:
    files = labelled(tmp_path / "in", 4)
    save(tmp_path / "in/1.png", np.full((8, 12), 77, np.uint8))
    save(tmp_path / "in/2.png", np.full((8, 12), 78, np.uint8))
    words = "in/1.png: has the value 77, which the mapping", "in/2.png: has the value 78"
    assert_refused(files, tmp_path / "out", *words, "2 items could not be used, 2 done")


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    files = labelled(tmp_path / "in", 4)
    save(tmp_path / "in/1.png", np.zeros((8, 11), np.uint8))
    words = "in/1.png: is 11 x 8 pixels, but its photo 1.jpg is 12 x 8"
    assert_refused(files, tmp_path / "out", words)


def test_colours_instead_of_numbers(tmp_path: Path) -> None:
    files = labelled(tmp_path / "in", 4)
    save(tmp_path / "in/1.png", np.zeros((8, 12, 3), np.uint8))
    words = "in/1.png: has 3 bands, so colours and not class numbers"
    assert_refused(files, tmp_path / "out", words)


def test_nothing_is_known_of_any_pixel(tmp_path: Path) -> None:
    files = labelled(tmp_path / "in", 4, below=1)
    with pytest.raises(DataError, match="in: nothing is known of any pixel"):
        write_mask_set(files, tmp_path / "out", COVER, MAPPING)
    assert not (tmp_path / "out").exists()


def test_photos_of_different_bands(tmp_path: Path) -> None:
    files = labelled(tmp_path / "in", 2)
    facts = {"count": 4, "height": 8, "width": 12, "dtype": "uint8"}
    place = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)}
    path = tmp_path / "in/2.tif"
    with rasterio.open(path, "w", driver="GTiff", photometric="MINISBLACK", **facts, **place) as f:
        f.write(np.zeros((4, 8, 12), np.uint8))
    save(tmp_path / "in/2.png", np.ones((8, 12), np.uint8))
    with pytest.raises(DataError, match=r"2\.tif: has 4 bands, but 0\.jpg has 3"):
        write_mask_set(find_labelled(tmp_path / "in"), tmp_path / "out", COVER, MAPPING)
    assert not (tmp_path / "out").exists()
    assert len(files) == 2


def test_what_is_there_already_is_left_alone(tmp_path: Path) -> None:
    files = labelled(tmp_path / "in", 2)
    save(tmp_path / "out/mine.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(OutputError, match="out: exists already"):
        write_mask_set(files, tmp_path / "out", COVER, MAPPING)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.png"]


def test_a_resolution_that_makes_no_sense(tmp_path: Path) -> None:
    files = labelled(tmp_path / "in", 2)
    for metres in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match=r"`resolution_m`: .* is not a ground resolution"):
            write_mask_set(files, tmp_path / "out", COVER, MAPPING, resolution_m=metres)
