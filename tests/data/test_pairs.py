from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sat2map.data.pairs import (
    CLASS_NUMBERS,
    DataSetCard,
    PairFile,
    find_pairs,
    read_dataset_card,
    read_pair,
    refuse_class_numbers,
    write_card,
)
from sat2map.errors import DataError, OutputError
from sat2map.legend import STREETS, Legend, LegendClass


def save(path: Path, height: int = 6, width: int = 8, colour: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(colour).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def pixels(path: Path) -> Any:
    return np.asarray(Image.open(path))


def refused(directory: Path, what: str) -> None:
    with pytest.raises(DataError, match=what) as caught:
        find_pairs(directory, "train")
    assert len(str(caught.value).splitlines()) == 1


def test_side_by_side(tmp_path: Path) -> None:
    for name in ("10.png", "2.png", "1.png"):
        save(tmp_path / "train" / name)
    pairs = find_pairs(tmp_path, "train")
    assert [pair.stem for pair in pairs] == ["1", "2", "10"]
    assert all(pair.source == pair.target for pair in pairs)
    both = pixels(tmp_path / "train" / "1.png")
    source, target = read_pair(pairs[0])
    assert np.array_equal(source, both[:, :4])
    assert np.array_equal(target, both[:, 4:])
    source, target = read_pair(pairs[0], "reverse")
    assert np.array_equal(source, both[:, 4:])
    assert np.array_equal(target, both[:, :4])


def test_two_images_of_one_name_are_not_two_pairs(tmp_path: Path) -> None:
    for name in ("1.png", "2.png", "1.jpg"):
        save(tmp_path / "train" / name)
    refused(tmp_path, r"train/1\.(png|jpg): stands beside 1\.(png|jpg), which has the same name")


def test_two_folders(tmp_path: Path) -> None:
    split = tmp_path / "train"
    for i, name in enumerate(("10", "2")):
        save(split / "source" / f"{name}.png", colour=i)
        save(split / "target" / f"{name}.webp", colour=i + 2)
    pairs = find_pairs(tmp_path, "train")
    assert pairs == [
        PairFile("2", split / "source" / "2.png", split / "target" / "2.webp"),
        PairFile("10", split / "source" / "10.png", split / "target" / "10.webp"),
    ]
    source, target = read_pair(pairs[0])
    assert np.array_equal(source, pixels(pairs[0].source))
    assert np.array_equal(target, pixels(pairs[0].target))
    swapped = read_pair(pairs[0], "reverse")
    assert np.array_equal(swapped[0], target)
    assert np.array_equal(swapped[1], source)


def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    refused(tmp_path / "none", "none: there is no such folder")
    (tmp_path / "val").mkdir()
    refused(tmp_path, r"has no folder 'train'\. A data set is DIR/train/ with side-by-side")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "notes.txt").touch()
    refused(tmp_path, "train: has no images")
    (tmp_path / "train" / "target").mkdir()
    refused(tmp_path, "train/source: there is no such folder")
    (tmp_path / "train" / "source").mkdir()
    refused(tmp_path, "train: has no images")


@pytest.mark.parametrize(("has", "lacks"), [("source", "target"), ("target", "source")])
def test_a_missing_partner_is_named(tmp_path: Path, has: str, lacks: str) -> None:
    split = tmp_path / "train"
    for side in ("source", "target"):
        save(split / side / "1.png")
    save(split / has / "2.png")
    where = f"{split / has / '2.png'}: has no partner of that name in {split / lacks}"
    refused(tmp_path, rf"^{where}\.")
    save(split / has / "10.png")
    refused(tmp_path, f"^{where}, nor have 1 more")


def test_the_same_name_twice_in_a_folder(tmp_path: Path) -> None:
    split = tmp_path / "train"
    for name in ("source/1.png", "target/1.png", "target/1.tif"):
        save(split / name)
    refused(tmp_path, r"target/1\.tif: stands beside 1\.png, which has the same name")


def test_unequal_sizes(tmp_path: Path) -> None:
    split = tmp_path / "train"
    save(split / "source" / "1.png", 6, 8)
    save(split / "target" / "1.png", 6, 9)
    (pair,) = find_pairs(tmp_path, "train")
    with pytest.raises(DataError, match=r"source/1\.png: is 8 x 6 pixels, but .* is 9 x 6"):
        read_pair(pair)


def test_an_odd_width(tmp_path: Path) -> None:
    save(tmp_path / "train" / "1.png", 6, 9)
    (pair,) = find_pairs(tmp_path, "train")
    with pytest.raises(DataError, match=r"1\.png: is 9 pixels wide, so it has no two equal"):
        read_pair(pair)


def test_broken_files_are_named(tmp_path: Path) -> None:
    whole = save(tmp_path / "train" / "1.jpg", 64, 128).read_bytes()
    (tmp_path / "train" / "1.jpg").write_bytes(whole[:600])
    (tmp_path / "train" / "2.jpg").write_text("This is not an image.")
    for pair in find_pairs(tmp_path, "train"):
        with pytest.raises(DataError, match=rf"{pair.stem}\.jpg: ") as caught:
            read_pair(pair)
        assert len(str(caught.value).splitlines()) == 1


def test_a_card_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_dataset_card(tmp_path) == DataSetCard()
    card = DataSetCard(resolution_m=0.5, legend=STREETS, licence="CC BY 4.0")
    write_card(tmp_path, card)
    assert read_dataset_card(tmp_path) == card
    write_card(tmp_path, DataSetCard())
    assert read_dataset_card(tmp_path) == DataSetCard()
    (tmp_path / "dataset.json").write_text('{"resolution_m": 2, "made_by": "hand"}')
    assert read_dataset_card(tmp_path) == DataSetCard(resolution_m=2.0)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "null",
        '{"resolution_m": "fine"}',
        '{"resolution_m": 0}',
        '{"resolution_m": -1.5}',
        '{"resolution_m": NaN}',
        '{"resolution_m": [1]}',
        '{"licence": 4}',
        '{"legend": [{"name": "road"}]}',
        '{"legend": "maps"}',
        '{"legend": []}',
    ],
)
def test_a_card_that_is_not_valid(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=r"dataset\.json: is not a valid description") as caught:
        read_dataset_card(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_card_that_is_not_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dataset.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"dataset\.json"):
        read_dataset_card(tmp_path)

    def denied(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(DataError, match=r"dataset\.json.*Permission denied"):
        read_dataset_card(tmp_path)


def test_a_card_goes_only_where_one_may_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"dataset\.json: cannot be written"):
        write_card(tmp_path / "file", DataSetCard())


def test_an_image_of_a_kind_that_is_not_read_is_named(tmp_path: Path) -> None:
    split = tmp_path / "train"
    save(split / "source/0.jpg")
    save(split / "target/0.bmp")
    refused(tmp_path, r"target/0\.bmp: BMP is not read in data sets. Save it as PNG")


def test_what_is_left_out_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    split = tmp_path / "train"
    save(split / "1.png")
    for name in ("1.png.aux.xml", "1.pgw", ".hidden"):
        (split / name).touch()
    find_pairs(tmp_path, "train")
    assert not caplog.messages
    save(split / "1.bmp")
    for name in ("notes.txt", "more.txt", "README"):
        (split / name).touch()
    assert [pair.stem for pair in find_pairs(tmp_path, "train")] == ["1"]
    (line,) = caplog.messages
    assert line == (
        f"{split}: 4 files are left out, since such files are not read as images "
        "(.bmp, .txt, README)."
    )


def masks(folder: Path, *values: int, mode: str = "L") -> list[PairFile]:
    """Write a pair whose target has these values, mixed, and return the pairs."""
    target = np.resize(np.array(values, np.uint8), (6, 8))
    save(folder / "train/source/1.png")
    (folder / "train/target").mkdir(parents=True, exist_ok=True)
    Image.fromarray(target).convert(mode).save(folder / "train/target/1.png")
    return find_pairs(folder, "train")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ((0, 1), "0 to 1:"),
        ((0, 1, 255), "0 to 1 and 255:"),
        (tuple(range(8)), "0 to 7:"),
        ((3, CLASS_NUMBERS), "3 to 40:"),
    ],
)
def test_class_numbers_are_not_targets(tmp_path: Path, values: tuple[int, ...], told: str) -> None:
    for mode in ("L", "RGB"):
        pairs = masks(tmp_path, *values, mode=mode)
        with pytest.raises(DataError, match=f"train/target: .* no values but {told}") as caught:
            refuse_class_numbers(pairs)
        assert "sat2map data masks" in caught.value.remedy
        refuse_class_numbers(pairs, "reverse")  # the photo is the target


def test_class_numbers_beside_a_photo_are_seen_too(tmp_path: Path) -> None:
    both = np.hstack([np.full((6, 8, 3), 200, np.uint8), np.full((6, 8, 3), 2, np.uint8)])
    (tmp_path / "train").mkdir()
    Image.fromarray(both).save(tmp_path / "train/1.png")
    with pytest.raises(DataError, match="class numbers"):
        refuse_class_numbers(find_pairs(tmp_path, "train"))


@pytest.mark.parametrize(
    "values", [(0,), (255,), (0, 255), (0, 128, 255), (0, CLASS_NUMBERS + 1), (30, 90, 200)]
)
def test_grey_maps_are_targets(tmp_path: Path, values: tuple[int, ...]) -> None:
    refuse_class_numbers(masks(tmp_path, *values))


def test_numbers_with_colours_are_targets(tmp_path: Path) -> None:
    masks(tmp_path, 0, 1, 2)
    path = tmp_path / "train/target/1.png"
    image = Image.open(path)
    image.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10])
    image.save(path)
    refuse_class_numbers(find_pairs(tmp_path, "train"))


def test_dark_colours_that_a_legend_names_are_targets(tmp_path: Path) -> None:
    pairs = masks(tmp_path, 0, 20)
    dark = [LegendClass(f"grey_{value}", (value,) * 3) for value in (0, 20)]
    refuse_class_numbers(pairs, legend=Legend(tuple(dark)))
    with pytest.raises(DataError, match="class numbers"):
        refuse_class_numbers(pairs, legend=STREETS)
