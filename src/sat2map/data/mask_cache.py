"""Decoded photos and class masks: a memory-mapped file that every epoch reads at memory speed.

The images of a set may differ in size and are kept as they are, one after the other in one
file. The mask is the last channel of its photo, so that one slice cuts both. The file lies in
the user's cache folder under the data set's path; it is made anew when a file has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sat2map.atomic import atomic_folder
from sat2map.data.cache import fingerprint_of, in_order
from sat2map.data.images import in_bands
from sat2map.data.mask_mapping import MaskMapping
from sat2map.data.masks import MaskFile, find_masks, read_mask, read_mask_card
from sat2map.errors import BatchError, DataError, Sat2mapError, parsed_json
from sat2map.legend import Legend
from sat2map.user_cache import cache_folder, making, mark_used

FORMAT = 1


@dataclass(frozen=True)
class DecodedMasks:
    """The photos and class masks of one split.

    Attributes:
        pixels: All of them one after the other, uint8 [bytes], memory-mapped.
        sizes: Height and width of each, int64 [N,2].
        offsets: Where each begins in `pixels`, int64 [N].
        source_channels: How many bands the photos have.
        names: The names of the images.
        legend: The classes.
        mapping: What the values of the masks mean.
        resolution_m: Ground resolution in metres per pixel, or None where nobody said.
        known: The share of all pixels of which something is known, 0 to 1.
        fingerprint: Changes with the files, not with what their values mean.
    """

    pixels: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    offsets: NDArray[np.int64]
    source_channels: int
    names: tuple[str, ...]
    legend: Legend
    mapping: MaskMapping
    resolution_m: float | None
    known: float
    fingerprint: str

    def __len__(self) -> int:
        return len(self.names)

    def both(self, number: int) -> NDArray[np.uint8]:
        """Return an image and the values of its mask, uint8 [H,W,source_channels + 1]."""
        height, width = self.sizes[number].tolist()
        start, channels = int(self.offsets[number]), self.source_channels + 1
        return self.pixels[start : start + height * width * channels].reshape(
            height, width, channels
        )

    def source(self, number: int) -> NDArray[np.uint8]:
        """Return an image, uint8 [H,W,source_channels]."""
        return self.both(number)[..., :-1]

    def values(self, number: int) -> NDArray[np.uint8]:
        """Return the values of the mask of an image, uint8 [H,W]."""
        return self.both(number)[..., -1]


def decode_masks(
    directory: Path,
    split: str,
    *,
    crop: int = 1,
    bands: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DecodedMasks:
    """Decode a split once; later calls map the same file.

    Args:
        directory: The data set.
        split: "train", "val" and so on.
        crop: The side that will be cropped, for the check that images are large enough.
        bands: How many bands photos are kept in, as for `decode_pairs`.
        progress: Called with (done, all) while decoding.

    Raises:
        BatchError: Some files cannot be decoded, have values that the mapping does not list, or
            other bands than the first; all of them are named.
        DataError: There is no such split, `dataset.json` does not say what the values mean,
            nothing is known of any pixel, or an image is smaller than the crop.
        OutputError: The cache cannot be written.
    """
    directory = directory.resolve()
    card = read_mask_card(directory)
    assert card.legend is not None and card.classes is not None
    files = find_masks(directory, split)
    place = f"{directory}|{split}" if bands is None else f"{directory}|{split}|{bands}"
    entry = cache_folder() / "masks" / hashlib.sha256(place.encode()).hexdigest()[:20]
    fingerprint = fingerprint_of(
        FORMAT, directory, (f for file in files for f in (file.source, file.classes))
    )
    facts = _read_facts(entry)
    if facts is None or facts["state"] != fingerprint:
        with making(entry):
            facts = _read_facts(entry)
            if facts is None or facts["state"] != fingerprint:  # nor has another process made it
                facts = _decode_all(entry, fingerprint, files, bands, progress)
    mark_used(entry)
    counts = np.array(facts["counts"], np.int64)
    _check_values(counts, card.classes, files)
    known = counts.sum(axis=0)[card.classes.may_be(card.legend).any(axis=1)].sum() / counts.sum()
    if known == 0:
        raise DataError(
            "has masks of which nothing is known",
            where=directory / split,
            remedy='Check "classes" in dataset.json: every value that occurs is "unknown".',
        )
    sizes = np.array(facts["sizes"], np.int64)
    small = int(sizes.min(axis=1).argmin())
    if sizes[small].min() < crop:
        raise DataError(
            f"is {sizes[small][1]} x {sizes[small][0]} pixels, too small to crop {crop} out of it",
            where=files[small].source,
            remedy="Remove it, or crop less with `data.size=128`.",
        )
    # "c" is copy on write: torch takes no read-only arrays, and the file stays as it is.
    pixels = np.memmap(entry / "pixels.bin", np.uint8, mode="c")
    lengths = sizes.prod(axis=1) * (facts["source_channels"] + 1)
    return DecodedMasks(
        pixels,
        sizes,
        np.cumsum(lengths) - lengths,
        facts["source_channels"],
        tuple(file.name for file in files),
        card.legend,
        card.classes,
        card.resolution_m,
        float(known),
        hashlib.sha256(json.dumps([place, fingerprint]).encode()).hexdigest(),
    )


def _read_facts(entry: Path) -> dict[str, Any] | None:
    """Return what is known of an entry of the cache, or None where it is not whole."""
    try:
        facts = parsed_json((entry / "masks.json").read_text("utf-8"))
        pixels = int(np.prod(facts["sizes"], axis=1).sum()) * (facts["source_channels"] + 1)
        whole = (entry / "pixels.bin").stat().st_size == pixels and len(facts["counts"]) > 0
        return facts if whole and "state" in facts else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _decode_all(
    entry: Path,
    fingerprint: object,
    files: list[MaskFile],
    bands: int | None,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    def decode(file: MaskFile) -> NDArray[np.uint8] | Sat2mapError:
        try:
            source, values = read_mask(file)
        except Sat2mapError as error:
            return error
        source = source if bands is None else in_bands(source, bands)
        return np.concatenate([source, values[..., None]], axis=2)

    failures: list[Sat2mapError] = []
    sizes: list[tuple[int, int]] = []
    counts: list[list[int]] = []
    channels = 0
    # Written in order rather than through a memory map, where a full disk kills the process.
    with (
        atomic_folder(entry, replace=True) as aside,
        (aside / "pixels.bin").open("wb") as out,
        closing(in_order(decode, files)) as decoded,
    ):
        for done, (file, both) in enumerate(zip(files, decoded, strict=True), 1):
            if isinstance(both, Sat2mapError):
                failures.append(both)
                continue
            channels = channels or both.shape[2]
            if both.shape[2] != channels:
                failures.append(_other_bands(file, both.shape[2] - 1, channels - 1))
                continue
            sizes.append((both.shape[0], both.shape[1]))
            counts.append(np.bincount(both[..., -1].ravel(), minlength=256).tolist())
            out.write(both.tobytes())
            if progress is not None:
                progress(done, len(files))
        if failures:
            raise BatchError(failures, len(files) - len(failures))
        facts = {
            "state": fingerprint,
            "source_channels": channels - 1,
            "sizes": sizes,
            "counts": counts,
        }
        (aside / "masks.json").write_text(json.dumps(facts), encoding="utf-8")
    return facts


def _check_values(counts: NDArray[np.int64], mapping: MaskMapping, files: list[MaskFile]) -> None:
    failures: list[Sat2mapError] = []
    for file, occurring in zip(files, counts > 0, strict=True):
        try:
            mapping.check(np.flatnonzero(occurring).astype(np.uint8), file.classes)
        except DataError as error:
            failures.append(error)
    if failures:
        raise BatchError(failures, len(files) - len(failures))


def _other_bands(file: MaskFile, bands: int, expected: int) -> DataError:
    return DataError(
        f"has {bands} bands, but the first image has {expected}",
        where=file.source,
        remedy="Give all images of a data set the same bands.",
    )
