from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

from sat2map.data.mask_mapping import MaskMapping
from sat2map.data.masks import (
    MaskFile,
    find_masks,
    is_mask_set,
    read_mask,
    read_mask_card,
    read_numbers,
)
from sat2map.data.pairs import DataSetCard, read_dataset_card, write_card
from sat2map.errors import DataError
from sat2map.legend import COVER, STREETS

Array = NDArray[np.uint8]


def photo(height: int, width: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def numbers(height: int, width: int, seed: int = 0, below: int = 5) -> Array:
    return np.random.default_rng(seed).integers(0, below, (height, width), dtype=np.uint8)


def save(path: Path, pixels: Array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def save_tiff(path: Path, bands: NDArray[Any]) -> Path:
    """Write [bands,H,W]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = bands.shape
    facts = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    with (
        pytest.warns(NotGeoreferencedWarning),
        rasterio.open(path, "w", driver="GTiff", **facts) as file,
    ):
        file.write(bands)
    return path


def test_files_are_matched_in_natural_order(tmp_path: Path) -> None:
    for name in ("10", "2"):
        save(tmp_path / f"val/source/{name}.jpg", photo(4, 4))
        save(tmp_path / f"val/classes/{name}.png", numbers(4, 4))
    assert is_mask_set(tmp_path, "val")
    assert not is_mask_set(tmp_path, "train")
    folder = tmp_path / "val"
    assert find_masks(tmp_path, "val") == [
        MaskFile(name, folder / f"source/{name}.jpg", folder / f"classes/{name}.png")
        for name in ("2", "10")
    ]


def test_what_is_no_mask_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        find_masks(tmp_path / "nowhere", "train")
    with pytest.raises(DataError, match="has no folder train/classes"):
        find_masks(tmp_path, "train")
    (tmp_path / "train/classes").mkdir(parents=True)
    with pytest.raises(DataError, match="source: there is no such folder"):
        find_masks(tmp_path, "train")
    (tmp_path / "train/source").mkdir()
    with pytest.raises(DataError, match="has no images"):
        find_masks(tmp_path, "train")
    save(tmp_path / "train/source/1.png", photo(4, 4))
    with pytest.raises(DataError, match=r"1\.png: has no partner of that name in .*classes"):
        find_masks(tmp_path, "train")


def test_a_mask_is_read_beside_its_photo(tmp_path: Path) -> None:
    pixels, values = photo(6, 9), numbers(6, 9)
    file = MaskFile("1", save(tmp_path / "1.png", pixels), save(tmp_path / "m.png", values))
    source, read = read_mask(file)
    assert np.array_equal(source, pixels)
    assert np.array_equal(read, values)
    assert read.dtype == np.uint8


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    file = MaskFile(
        "1", save(tmp_path / "1.png", photo(6, 9)), save(tmp_path / "m.png", numbers(6, 8))
    )
    with pytest.raises(DataError, match=r"m\.png: is 8 x 6 pixels, but its photo 1\.png is 9 x 6"):
        read_mask(file)


def test_the_numbers_of_a_palette_are_taken(tmp_path: Path) -> None:
    values = numbers(6, 9)
    image = Image.fromarray(values, "P")
    image.putpalette(np.random.default_rng(1).integers(0, 256, 768, np.uint8).tolist())
    image.save(tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as written:
        assert written.mode == "P"
    assert np.array_equal(read_numbers(tmp_path / "p.png"), values)


def test_other_depths_are_read_where_the_numbers_fit(tmp_path: Path) -> None:
    two = numbers(6, 9, below=2)
    Image.fromarray(two.astype(bool)).save(tmp_path / "bit.png")
    assert np.array_equal(read_numbers(tmp_path / "bit.png"), two)
    deep = numbers(6, 9).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.array_equal(read_numbers(tmp_path / "deep.png"), deep)
    Image.fromarray(deep * 300).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png: has numbers that are not .* from 0 to 255"):
        read_numbers(tmp_path / "deep.png")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_masks_past_pillows_guard_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = save(tmp_path / f"mask{suffix}", numbers(40, 50))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert np.array_equal(read_numbers(path), numbers(40, 50))


def test_masks_may_be_tiffs(tmp_path: Path) -> None:
    values = numbers(6, 9)
    path = save_tiff(tmp_path / "m.tif", values[None].astype(np.int16))
    assert np.array_equal(read_numbers(path), values)
    with pytest.raises(DataError, match="not whole or not from 0 to 255"):
        read_numbers(save_tiff(tmp_path / "f.tif", values[None].astype(np.float32)))
    with pytest.raises(DataError, match="not whole or not from 0 to 255"):
        read_numbers(save_tiff(tmp_path / "n.tif", values[None].astype(np.int16) - 1))
    with pytest.raises(DataError, match=r"c\.tif: has 3 bands, so colours and not class numbers"):
        read_numbers(save_tiff(tmp_path / "c.tif", np.stack([values] * 3)))


def test_colours_instead_of_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"c\.png: has 3 bands, so colours .*target of pairs"):
        read_numbers(save(tmp_path / "c.png", photo(4, 4)))
    save(tmp_path / "m.jpg", numbers(4, 4))
    with pytest.raises(DataError, match=r"m\.jpg: is not a PNG or TIFF .* blur"):
        read_numbers(tmp_path / "m.jpg")


def test_broken_masks_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_numbers(tmp_path / "none.png")
    whole = save(tmp_path / "m.png", numbers(64, 64)).read_bytes()
    (tmp_path / "m.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"m\.png: cannot be decoded"):
        read_numbers(tmp_path / "m.png")
    (tmp_path / "m.tif").write_text("no TIFF")
    with pytest.raises(DataError, match=r"m\.tif: is not a PNG or TIFF"):
        read_numbers(tmp_path / "m.tif")


def test_the_card_says_what_the_values_mean(tmp_path: Path) -> None:
    classes = {"0": "unknown", "7": "road", "255": ["land", "vegetation"]}
    text = {"resolution_m": 0.5, "licence": "CC0-1.0", "legend": "cover", "classes": classes}
    (tmp_path / "dataset.json").write_text(json.dumps(text))
    card = read_mask_card(tmp_path)
    mapping = MaskMapping({0: (), 7: ("road",), 255: ("land", "vegetation")})
    assert card == DataSetCard(0.5, COVER, "CC0-1.0", mapping)
    write_card(tmp_path, card)
    assert json.loads((tmp_path / "dataset.json").read_text()) == text
    assert read_dataset_card(tmp_path) == card


def test_the_legend_map_has_a_name(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"legend": "map"}')
    assert read_dataset_card(tmp_path).legend == STREETS
    with pytest.raises(DataError, match=r"dataset\.json: does not say what the numbers"):
        read_mask_card(tmp_path)


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        ({"legend": "night"}, "'night', not one of map, cover or a list"),
        ({"classes": {"0": "road"}}, "classes are given without a legend"),
        ({"legend": "cover", "classes": {"0": "lava"}}, "'lava', which the legend has not"),
        ({"legend": "cover", "classes": ["road"]}, "not an object with values"),
    ],
)
def test_a_card_that_makes_no_sense(tmp_path: Path, entries: Any, what: str) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps(entries))
    with pytest.raises(DataError, match=what):
        read_dataset_card(tmp_path)
