"""Making a data set of photos and class masks that somebody else labelled.

The photos are copied as they are. The masks keep their numbers and become PNGs with a palette
of the legend's colours, so that they can be looked at.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sat2map.arguments import checks_arguments
from sat2map.atomic import atomic_folder
from sat2map.data.images import list_images
from sat2map.data.mask_mapping import MaskMapping, mask_colours
from sat2map.data.masks import MaskFile, read_mask, read_numbers
from sat2map.data.pairs import DataSetCard, match_by_stem, write_card
from sat2map.errors import BatchError, DataError, Sat2mapError, UsageError
from sat2map.legend import Legend

Result = TypeVar("Result")

FEW = 5
"""Fewer validation images than these say little about a model."""


@dataclass(frozen=True)
class MaskSet:
    """A data set of class masks as it was written.

    Attributes:
        train: Names of the training images.
        val: Names of the validation images.
        unknown: Names of the images that were left out, as nothing is known of any pixel.
        shares: The share of all pixels that each value has, float64 [256].
        legend: The classes.
        mapping: What the values stand for.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    unknown: tuple[str, ...]
    shares: NDArray[np.float64]
    legend: Legend
    mapping: MaskMapping

    def describe(self) -> list[str]:
        """Return lines that say what the set holds, for people."""
        lines = [f"{len(self.train)} training images, {len(self.val)} validation images"]
        may_be = self.mapping.may_be(self.legend)
        for value, names in sorted(self.mapping.classes.items()):
            meant = " or ".join(names) if may_be[value].any() else "unknown"
            lines.append(f"{value:5}  {self.shares[value]:6.1%}  {meant}")
        return lines

    def notices(self) -> list[str]:
        """Return lines that warn of what may be a mistake."""
        lines = []
        if self.unknown:
            some = ", ".join(self.unknown[:3]) + (", ..." if len(self.unknown) > 3 else "")
            lines.append(
                f"Left out, as nothing is known of any pixel: {some} ({len(self.unknown)} in all)."
            )
        unused = [value for value in sorted(self.mapping.classes) if self.shares[value] == 0]
        if unused:
            lines.append(f"No mask has the values {', '.join(map(str, unused))} of the mapping.")
        if 0 < len(self.val) < FEW:
            lines.append(
                f"Scores on fewer than {FEW} validation images say little; here are "
                f"{len(self.val)}. Set more of them aside."
            )
        return lines


@checks_arguments
def find_labelled(images: Path, classes: Path | None = None) -> list[MaskFile]:
    """Return photos and their masks, matched by their names without suffix.

    Args:
        images: A folder of photos; without `classes` each has its mask NAME.png beside it.
        classes: The folder of masks.

    Raises:
        DataError: A folder is missing or empty, or a file has no partner or several.
    """
    if classes is not None:
        matched = match_by_stem(images, classes)
        files = [MaskFile(name, source, mask) for name, source, mask in matched]
    else:
        files = _beside_each_other(images)
    if not files:
        raise DataError(
            "has no images", where=images, remedy="Name the folder with the photos themselves."
        )
    return files


def _beside_each_other(folder: Path) -> list[MaskFile]:
    found: dict[str, list[Path]] = {}
    for path in list_images(folder):
        found.setdefault(path.stem, []).append(path)
    files = []
    for name, paths in found.items():
        masks = [path for path in paths if path.suffix.lower() == ".png"]
        if len(paths) != 2 or len(masks) != 1:
            also = f" beside {', '.join(path.name for path in paths[1:])}" if paths[1:] else ""
            raise DataError(
                f"is not one of a photo and its mask {name}.png{also}",
                where=paths[0],
                remedy="Put NAME.jpg beside NAME.png, or name the folder of the masks too.",
            )
        source = next(path for path in paths if path not in masks)
        files.append(MaskFile(name, source, masks[0]))
    return files


@dataclass(frozen=True)
class ValueCount:
    """How often a value occurs: the share of all pixels, 0 to 1, and in how many masks."""

    value: int
    share: float
    masks: int


def count_values(
    files: Sequence[MaskFile], progress: Callable[[int, int], None] | None = None
) -> list[ValueCount]:
    """Return which values the masks have.

    Raises:
        BatchError: Some masks cannot be used; all of them are named.
    """

    def count(file: MaskFile) -> NDArray[np.int64]:
        return np.bincount(read_numbers(file.classes).ravel(), minlength=256)

    counts = np.array(_for_each(files, count, progress))
    shares = counts.sum(axis=0) / counts.sum()
    masks = (counts > 0).sum(axis=0)
    return [ValueCount(v, float(shares[v]), int(masks[v])) for v in np.flatnonzero(masks).tolist()]


def choose_validation(names: Sequence[str], chosen: float | Sequence[str]) -> set[str]:
    """Return which images validate.

    Args:
        names: The images.
        chosen: A share, 0 to 1: those whose names have the lowest hashes, so that it is the
            same choice every time. Or patterns such as "austin*": those that match one.

    Raises:
        UsageError: The share is out of range, or a pattern matches nothing.
    """
    if isinstance(chosen, float):
        if not 0 <= chosen <= 1:
            raise UsageError(
                f"{chosen:g} is not a share",
                parameter="validation",
                remedy="Give 0 to 1, such as 0.1.",
            )
        count = round(chosen * len(names))
        if 0 < chosen < 1 and len(names) > 1:  # some of both, if at all possible
            count = min(max(count, 1), len(names) - 1)
        return set(sorted(names, key=_hash)[:count])
    matching: set[str] = set()
    for pattern in chosen:
        found = {name for name in names if fnmatchcase(name, pattern)}
        if not found:
            raise UsageError(
                f"no image is called {pattern!r}",
                parameter="validation",
                remedy=f"Give a share such as 0.1, or patterns of names such as {names[0]!r}.",
            )
        matching |= found
    return matching


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


@checks_arguments
def write_mask_set(
    files: Sequence[MaskFile],
    out: Path,
    legend: Legend,
    mapping: MaskMapping,
    *,
    resolution_m: float | None = None,
    licence: str | None = None,
    validation: float | Sequence[str] = 0.1,
    progress: Callable[[int, int], None] | None = None,
) -> MaskSet:
    """Check photos and masks and write them as a data set.

    Args:
        files: What `find_labelled` found.
        out: The data set's folder, which is new or empty.
        legend: The classes.
        mapping: What the values of the masks stand for.
        resolution_m: Ground resolution in metres per pixel.
        licence: The terms of the data, in words.
        validation: As for `choose_validation`.
        progress: Called with (done, all) images.

    Raises:
        BatchError: Some images cannot be used: broken, of unequal sizes, colours instead of
            numbers, values outside of the mapping, other bands. All of them are named, and
            nothing is written.
        DataError: The legend lacks a class of the mapping, or nothing is known of any pixel.
        UsageError: `validation` does not fit.
        OutputError: `out` exists, or cannot be written.
    """
    if resolution_m is not None and not 0 < resolution_m < math.inf:
        raise UsageError(
            f"{resolution_m:g} is not a ground resolution",
            parameter="resolution_m",
            remedy="Give metres per pixel, such as 0.5.",
        )
    known = mapping.may_be(legend).any(axis=1)
    val = choose_validation([file.name for file in files], validation)
    palette = mask_colours(mapping.may_be(legend), legend).ravel().tolist()
    with atomic_folder(out) as aside:
        for split in ("train", "val"):
            (aside / split / "source").mkdir(parents=True)
            (aside / split / "classes").mkdir()

        def write(file: MaskFile) -> tuple[int, NDArray[np.int64]]:
            source, values = read_mask(file)
            mapping.check(values, file.classes)
            counts = np.bincount(values.ravel(), minlength=256)
            if counts[known].any():
                folder = aside / ("val" if file.name in val else "train")
                shutil.copyfile(file.source, folder / "source" / file.source.name)
                image = Image.fromarray(values)
                image.putpalette(palette)
                image.save(folder / "classes" / f"{file.name}.png")
            return source.shape[2], counts

        done = _for_each(files, write, progress)
        _check_bands(files, [bands for bands, _ in done])
        counts = np.array([counts for _, counts in done])
        useful = [bool(one[known].any()) for one in counts]
        if not any(useful):
            raise DataError(
                "nothing is known of any pixel",
                where=files[0].classes.parent,
                remedy="Every value that occurs is unknown: check the mapping.",
            )
        for split in ("train", "val"):
            if not any((aside / split / "source").iterdir()):
                shutil.rmtree(aside / split)
        write_card(aside, DataSetCard(resolution_m, legend, licence, mapping))
    used = [file.name for file, used in zip(files, useful, strict=True) if used]
    return MaskSet(
        tuple(name for name in used if name not in val),
        tuple(name for name in used if name in val),
        tuple(file.name for file, used in zip(files, useful, strict=True) if not used),
        counts.sum(axis=0) / counts.sum(),
        legend,
        mapping,
    )


def _for_each(
    files: Sequence[MaskFile],
    work: Callable[[MaskFile], Result],
    progress: Callable[[int, int], None] | None,
) -> list[Result]:
    """Return what `work` gives for each file; what fails is named together."""

    def attempt(file: MaskFile) -> Result | Sat2mapError:
        try:
            return work(file)
        except Sat2mapError as error:
            return error

    failures: list[Sat2mapError] = []
    results: list[Result] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for done, result in enumerate(pool.map(attempt, files), 1):
            if isinstance(result, Sat2mapError):
                failures.append(result)
            else:
                results.append(result)
            if progress is not None:
                progress(done, len(files))
    if failures:
        raise BatchError(failures, len(results))
    return results


def _check_bands(files: Sequence[MaskFile], bands: Sequence[int]) -> None:
    for file, count in zip(files, bands, strict=True):
        if count != bands[0]:
            raise DataError(
                f"has {count} bands, but {files[0].source.name} has {bands[0]}",
                where=file.source,
                remedy="Give all photos the same bands, or make two data sets.",
            )
