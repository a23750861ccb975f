"""Data sets of pairs on disk: which files belong together, and reading them.

Two layouts of `DIR/SPLIT`:

- side by side: `STEM.*`, one image with the source on the left and the target on the
  right, as the published pix2pix sets have it;
- two folders: `source/STEM.*` and `target/STEM.*`.

`DIR/dataset.json` may say what is known about all of them (`DataSetCard`).
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sat2map.atomic import write_text
from sat2map.data.images import (
    OTHER_SUFFIXES,
    describe_left_out,
    list_images,
    other_files,
    read_image,
)
from sat2map.data.mask_mapping import MaskMapping
from sat2map.errors import DataError, Sat2mapError, parsed_json
from sat2map.journal import Files
from sat2map.legend import COVER, LEGENDS, Legend

Direction = Literal["forward", "reverse"]

CLASS_NUMBERS = 40
"""Grey targets of no value above it, but perhaps 255 for unknown, are class numbers: published
sets have up to 35 classes, and as an image they are black."""

LOOKED_AT = 20
"""So many targets are asked whether they are class numbers."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PairFile:
    """The files of one pair.

    Attributes:
        stem: The name that both images share.
        source: The file with the source.
        target: The file with the target; the same file where the two lie side by side.
    """

    stem: str
    source: Path
    target: Path


@dataclass(frozen=True)
class DataSetCard:
    """The contents of `dataset.json`; None for what it does not say.

    Attributes:
        resolution_m: Ground resolution of the files in metres per pixel.
        legend: The classes of the maps or masks.
        licence: The terms of the data, in words.
        classes: What the values of class masks mean in that legend.
        mask_legend: The classes of the masks, where a set has maps in another legend as well.
        told: The classes that the maps tell of. Where they show bare land, any other class may
            be there. None where they tell of all.
    """

    resolution_m: float | None = None
    legend: Legend | None = None
    licence: str | None = None
    classes: MaskMapping | None = None
    mask_legend: Legend | None = None
    told: tuple[str, ...] | None = None


def find_pairs(directory: Path, split: str) -> list[PairFile]:
    """Return the pairs of a split in natural order of their names; at least one.

    Raises:
        DataError: The folder or the split is missing or empty, or an image of the two
            folders lacks its partner.
    """
    if not directory.is_dir():
        raise DataError("there is no such folder", where=directory, remedy="Check the name.")
    folder = directory / split
    if not folder.is_dir():
        raise DataError(
            f"has no folder {split!r}",
            where=directory,
            remedy=f"A data set is DIR/{split}/ with side-by-side images, or "
            f"DIR/{split}/source/ and DIR/{split}/target/.",
        )
    if (folder / "classes").is_dir() and not (folder / "target").is_dir():
        raise DataError(
            "has class masks, not target maps",
            where=folder,
            remedy="Name a data set of pairs: photos and maps.",
        )
    if (folder / "source").is_dir() or (folder / "target").is_dir():
        matched = match_by_stem(folder / "source", folder / "target")
        pairs = [PairFile(stem, source, target) for stem, source, target in matched]
    else:
        pairs = [PairFile(stem, path, path) for stem, path in _by_stem(folder).items()]
    if not pairs:
        raise DataError(
            "has no images", where=folder, remedy="Put PNG, JPEG, WebP or TIFF pairs there."
        )
    return pairs


def read_pair(
    pair: PairFile, direction: Direction = "forward"
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Decode one pair.

    Args:
        pair: Its files.
        direction: "reverse" swaps the two.

    Returns:
        Source and target, uint8 [H,W,C] each, of equal height and width.

    Raises:
        DataError: A file cannot be decoded, the two have unequal sizes, or a side-by-side
            image has an odd width.
    """
    if pair.source == pair.target:
        both = read_image(pair.source).pixels
        if both.shape[1] % 2:
            raise DataError(
                f"is {both.shape[1]} pixels wide, so it has no two equal halves",
                where=pair.source,
                remedy="A side-by-side image has the source on the left and the target, "
                "equally wide, on the right.",
            )
        half = both.shape[1] // 2
        source, target = both[:, :half], both[:, half:]
    else:
        source, target = read_image(pair.source).pixels, read_image(pair.target).pixels
        if source.shape[:2] != target.shape[:2]:
            raise DataError(
                f"is {source.shape[1]} x {source.shape[0]} pixels, but its partner "
                f"{pair.target} is {target.shape[1]} x {target.shape[0]}",
                where=pair.source,
                remedy="The two images of a pair show the same ground at the same size.",
            )
    return (source, target) if direction == "forward" else (target, source)


def refuse_class_numbers(
    pairs: Sequence[PairFile], direction: Direction = "forward", legend: Legend | None = None
) -> None:
    """Refuse targets that hold class numbers, where colours are asked for.

    They would look black, and a model would learn to answer black.

    Args:
        pairs: The pairs of a split; a few of them are read.
        direction: "reverse" swaps source and target.
        legend: The classes of the targets, if they are known, whose colours may be that dark.

    Raises:
        DataError: All that were read hold class numbers.
    """
    known = set() if legend is None else {r for r, g, b in legend.colours.tolist() if r == g == b}
    values: set[int] = set()
    for pair in pairs[:: max(1, len(pairs) // LOOKED_AT)]:
        try:
            target = read_pair(pair, direction)[1]
        except Sat2mapError:
            continue  # who reads all of them says so
        if not (target == target[..., :1]).all():
            return
        values |= set(np.unique(target[..., 0]).tolist())
        if max(values - {255}, default=0) > CLASS_NUMBERS:
            return
    numbers = values - {255}
    if not any(numbers) or values <= known:
        return
    raise DataError(
        f"the targets are grey with no values but {min(numbers)} to {max(numbers)}"
        f"{' and 255' if 255 in values else ''}: class numbers, which as an image are black",
        where=pairs[0].target.parent if direction == "forward" else pairs[0].source.parent,
        remedy="Make class masks of them with: sat2map data masks; or give each number a colour "
        "(a palette, or a PNG in RGB).",
    )


def data_set_files(directory: Path, split: str) -> Files:
    """Return a fingerprint of the images of a split, pairs and class masks.

    A split that is not there has no files.
    """
    places = [directory / split / part for part in ("", "source", "target", "classes")]
    paths = [path for place in places if place.is_dir() for path in list_images(place)]
    return Files(tuple(path for path in paths if not path.is_dir()), directory, limit=None)


def read_dataset_card(directory: Path) -> DataSetCard:
    """Return what `directory/dataset.json` says; an empty card where there is none.

    Raises:
        DataError: The file is not valid.
    """
    path = directory / "dataset.json"
    if not path.is_file():
        return DataSetCard()
    try:
        entries = parsed_json(path.read_text(encoding="utf-8"))
        resolution, licence = entries.get("resolution_m"), entries.get("licence")
        if resolution is not None and not 0 < float(resolution) < math.inf:
            raise ValueError(f"resolution_m is {resolution}, not above 0")
        if not isinstance(licence, str | None):
            raise ValueError(f"licence is {licence!r}, not a text")
        legend = _read_legend(entries.get("legend"))
        classes, mask_legend = entries.get("classes"), _read_legend(entries.get("mask_legend"))
        of_masks = legend if mask_legend is None else mask_legend
        if classes is not None and of_masks is None:
            raise ValueError("classes are given without a legend")
        return DataSetCard(
            None if resolution is None else float(resolution),
            legend,
            licence,
            None
            if classes is None or of_masks is None
            else MaskMapping.from_json(classes, of_masks),
            mask_legend,
            _read_told(entries.get("told"), legend),
        )
    except (OSError, ValueError, TypeError, AttributeError, DataError) as error:
        detail = error.what if isinstance(error, DataError) else error
        raise DataError(
            f"is not a valid description of a data set ({detail})",
            where=path,
            remedy="It is a JSON object with resolution_m, legend and licence, and for class masks "
            "with classes.",
        ) from error


def write_card(directory: Path, card: DataSetCard) -> None:
    """Write `directory/dataset.json`.

    Raises:
        OutputError: The place is not writable.
    """
    entries: dict[str, object] = {
        "resolution_m": card.resolution_m,
        "legend": _legend_to_json(card.legend),
        "licence": card.licence,
    }
    if card.mask_legend is not None:
        entries["mask_legend"] = _legend_to_json(card.mask_legend)
    if card.classes is not None:
        entries["classes"] = card.classes.to_json()
    if card.told is not None:
        entries["told"] = list(card.told)
    write_text(directory / "dataset.json", json.dumps(entries, indent=2) + "\n")


def match_by_stem(source: Path, target: Path) -> list[tuple[str, Path, Path]]:
    """Return (stem, source, target) of the files in two folders whose names agree.

    Args:
        source: The folder with the sources.
        target: The folder with what belongs to them.

    Raises:
        DataError: A folder is missing, a file lacks its partner, or has two.
    """
    sources, targets = _by_stem(source), _by_stem(target)
    for files, others, other in ((sources, targets, target), (targets, sources, source)):
        lonely = [path for stem, path in files.items() if stem not in others]
        if lonely:
            more = f", nor have {len(lonely) - 1} more" if len(lonely) > 1 else ""
            raise DataError(
                f"has no partner of that name in {other}{more}",
                where=lonely[0],
                remedy="Add the partner or remove the image.",
            )
    return [(stem, path, targets[stem]) for stem, path in sources.items()]


def _legend_to_json(legend: Legend | None) -> object:
    if legend == COVER:
        return "cover"
    return None if legend is None else legend.to_json()


def _read_told(value: object, legend: Legend | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = () if legend is None else legend.names
    if not isinstance(value, list) or not all(name in names for name in value):
        raise ValueError(f"told is {value!r}, not a list of classes of the legend")
    return tuple(value)


def _read_legend(value: object) -> Legend | None:
    if isinstance(value, str):
        if value not in LEGENDS:
            raise ValueError(f"the legend is {value!r}, not one of {', '.join(LEGENDS)} or a list")
        return LEGENDS[value]
    return None if value is None else Legend.from_json(value)  # type: ignore[arg-type]


def _by_stem(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by their names without suffix, by which pairs are known.

    Raises:
        DataError: Two images have one name, or an image is of a kind that is not read.
    """
    files: dict[str, Path] = {}
    for path in list_images(folder):
        if path.stem in files:
            raise DataError(
                f"stands beside {files[path.stem].name}, which has the same name without suffix",
                where=path,
                remedy="Keep one image of each name.",
            )
        files[path.stem] = path
    _say_others(folder, files)
    return files


def _say_others(folder: Path, used: Mapping[str, Path]) -> None:
    """Say which files of a folder are left out.

    Raises:
        DataError: One of them is an image of a kind that is not read, and there is no other of its
            name.
    """
    others = other_files(folder)
    for path in others:
        if path.suffix.lower() in OTHER_SUFFIXES and path.stem not in used:
            raise DataError(
                f"{path.suffix[1:].upper()} is not read in data sets",
                where=path,
                remedy="Save it as PNG, or remove it.",
            )
    if others:
        logger.warning(describe_left_out(folder, others))
