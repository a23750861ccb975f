from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import Affine

from sat2map.data import mask_cache as module
from sat2map.data.mask_cache import DecodedMasks, decode_masks
from sat2map.errors import BatchError, DataError, OutputError
from sat2map.legend import COVER

Array = NDArray[np.uint8]
SIZES = {"1": (8, 12), "2": (20, 16), "10": (9, 9)}


def save(path: Path, pixels: Array) -> Array:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def describe(directory: Path, **more: Any) -> None:
    entries = {"legend": "cover", "classes": {"0": "unknown", "1": "road", "2": "not road"}}
    (directory / "dataset.json").write_text(json.dumps(entries | more))


@pytest.fixture
def masks(tmp_path: Path) -> dict[str, tuple[Array, Array]]:
    """Three photos of unequal sizes with their masks in tmp_path/train."""
    describe(tmp_path, resolution_m=0.5)
    made = {}
    for name, size in SIZES.items():
        random = np.random.default_rng(int(name))
        source = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        values = random.integers(0, 3, size, dtype=np.uint8)
        save(tmp_path / f"train/source/{name}.png", source)
        made[name] = source, save(tmp_path / f"train/classes/{name}.png", values)
    return made


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the masks that are decoded, as they are."""
    names: list[str] = []
    read = module.read_mask

    def counted(file: Any) -> tuple[Array, Array]:
        names.append(file.name)
        return read(file)

    monkeypatch.setattr(module, "read_mask", counted)
    return names


def decode(directory: Path, **options: Any) -> DecodedMasks:
    return decode_masks(directory, "train", **options)


def assert_same(decoded: DecodedMasks, masks: dict[str, tuple[Array, Array]]) -> None:
    assert decoded.names == tuple(masks)
    for number, (source, values) in enumerate(masks.values()):
        assert np.array_equal(decoded.source(number), source)
        assert np.array_equal(decoded.values(number), values)
        assert np.array_equal(decoded.both(number), np.dstack([source, values]))


def test_images_of_any_size_are_kept_as_they_are(
    tmp_path: Path, masks: dict[str, tuple[Array, Array]]
) -> None:
    calls: list[tuple[int, int]] = []
    decoded = decode(tmp_path, progress=lambda i, n: calls.append((i, n)))
    assert len(decoded) == 3
    assert decoded.sizes.tolist() == [[8, 12], [20, 16], [9, 9]]
    assert decoded.offsets.tolist() == [0, 4 * 96, 4 * (96 + 320)]
    assert decoded.source_channels == 3
    assert (decoded.legend, decoded.resolution_m) == (COVER, 0.5)
    assert decoded.mapping.classes[1] == ("road",)
    values = np.concatenate([values.ravel() for _, values in masks.values()])
    assert decoded.known == pytest.approx((values > 0).mean())
    assert_same(decoded, masks)
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_a_split_is_decoded_once_until_a_file_changes(
    tmp_path: Path, masks: dict[str, tuple[Array, Array]], reads: list[str]
) -> None:
    first = decode(tmp_path)
    assert decode(tmp_path).fingerprint == first.fingerprint
    assert len(reads) == 3
    changed = save(tmp_path / "train/classes/2.png", 2 - masks["2"][1])
    os.utime(tmp_path / "train/classes/2.png", ns=(1, 1))
    masks["2"] = masks["2"][0], changed
    again = decode(tmp_path)
    assert len(reads) == 6
    assert again.fingerprint != first.fingerprint
    assert_same(again, masks)


def test_another_mapping_needs_no_decoding(
    tmp_path: Path, masks: dict[str, tuple[Array, Array]], reads: list[str]
) -> None:
    decode(tmp_path)
    describe(tmp_path, classes={"0": "water", "1": "land", "2": "unknown"})
    assert decode(tmp_path).mapping.classes[0] == ("water",)
    assert len(reads) == 3


def test_writing_to_the_array_leaves_the_cache(
    tmp_path: Path, masks: dict[str, tuple[Array, Array]]
) -> None:
    decode(tmp_path).both(0)[:] = 0
    assert_same(decode(tmp_path), masks)


def test_values_outside_of_the_mapping(
    tmp_path: Path, masks: dict[str, tuple[Array, Array]]
) -> None:
    for name in ("2", "10"):
        save(tmp_path / f"train/classes/{name}.png", masks[name][1] + 5)
    with pytest.raises(BatchError, match="2 items could not be used, 1 done") as caught:
        decode(tmp_path)
    assert "2.png: has the values 5, 6, 7, which the mapping does not list" in str(caught.value)


def test_masks_of_which_nothing_is_known(
    tmp_path: Path, masks: dict[str, tuple[Array, Array]]
) -> None:
    describe(tmp_path, classes={"0": "unknown", "1": "unknown", "2": list(COVER.names)})
    with pytest.raises(DataError, match="train: has masks of which nothing is known"):
        decode(tmp_path)


def test_broken_files_and_other_sizes_are_all_named_and_nothing_is_kept(
    tmp_path: Path, masks: dict[str, tuple[Array, Array]], cache: Path
) -> None:
    save(tmp_path / "train/classes/1.png", masks["2"][1])
    save(tmp_path / "train/classes/10.png", masks["10"][0])
    with pytest.raises(BatchError) as caught:
        decode(tmp_path)
    assert [Path(str(f.where)).name for f in caught.value.failures] == ["1.png", "10.png"]
    assert "is 16 x 20 pixels, but its photo 1.png is 12 x 8" in str(caught.value)
    assert "has 3 bands, so colours and not class numbers" in str(caught.value)
    assert not list((cache / "masks").iterdir())


def test_bands_that_differ_from_image_to_image(
    tmp_path: Path, masks: dict[str, tuple[Array, Array]]
) -> None:
    (tmp_path / "train/source/2.png").unlink()
    _four_bands(tmp_path / "train/source/2.tif", (20, 16))
    with pytest.raises(BatchError, match=r"2\.tif: has 4 bands, but the first image has 3"):
        decode(tmp_path)


def _four_bands(path: Path, size: tuple[int, int]) -> None:
    facts = {"count": 4, "height": size[0], "width": size[1], "dtype": "uint8"}
    place = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)}
    with rasterio.open(
        path, "w", driver="GTiff", photometric="MINISBLACK", **facts, **place
    ) as file:
        file.write(np.zeros((4, *size), np.uint8))


def test_images_smaller_than_the_crop(
    tmp_path: Path, masks: dict[str, tuple[Array, Array]]
) -> None:
    assert len(decode(tmp_path, crop=8)) == 3
    with pytest.raises(DataError, match=r"1\.png: is 12 x 8 pixels, too small to crop 9"):
        decode(tmp_path, crop=9)


def test_a_damaged_cache_is_made_anew(
    tmp_path: Path, masks: dict[str, tuple[Array, Array]], cache: Path, reads: list[str]
) -> None:
    for text in ("", "[]", "{}", '{"state": 3}'):
        decode(tmp_path)
        (entry,) = (cache / "masks").iterdir()
        (entry / "masks.json").write_text(text)
    decode(tmp_path)
    (entry / "pixels.bin").write_bytes(b"short")
    assert_same(decode(tmp_path), masks)
    assert len(reads) == 3 * 6


def test_a_cache_that_cannot_be_written(
    tmp_path: Path, masks: dict[str, tuple[Array, Array]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SAT2MAP_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"cannot be written .*SAT2MAP_CACHE"):
        decode(tmp_path)
