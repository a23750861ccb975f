"""Data sets of photos and class masks on disk: which files belong together, and reading them.

`DIR/SPLIT/source/NAME.*` is a photo and `DIR/SPLIT/classes/NAME.png` its mask of numbers.
`DIR/dataset.json` says in `classes` what they mean (`MaskMapping`), in `legend` in which
legend, and in `resolution_m` how large a pixel is on the ground.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from sat2map.data.images import MAX_PIXELS, read_image
from sat2map.data.pairs import DataSetCard, match_by_stem, read_dataset_card
from sat2map.data.pillow import opened_image
from sat2map.errors import DataError

_NUMBERS = "A class mask has one band of 8-bit numbers"


@dataclass(frozen=True)
class MaskFile:
    """The files of a photo and its mask.

    Attributes:
        name: The name that both share.
        source: The file with the photo.
        classes: The file with the mask.
    """

    name: str
    source: Path
    classes: Path


def is_mask_set(directory: Path, split: str) -> bool:
    """Return whether a split of a data set consists of photos and class masks."""
    return (directory / split / "classes").is_dir()


def has_no_maps(directory: Path, split: str) -> bool:
    """Return whether a split has class masks, and no target maps beside them."""
    return is_mask_set(directory, split) and not (directory / split / "target").is_dir()


def find_masks(directory: Path, split: str) -> list[MaskFile]:
    """Return the photos and masks of a split in natural order of their names; at least one.

    Raises:
        DataError: The folder or the split is missing or empty, or a file lacks its partner.
    """
    if not directory.is_dir():
        raise DataError("there is no such folder", where=directory, remedy="Check the name.")
    folder = directory / split
    if not is_mask_set(directory, split):
        raise DataError(
            f"has no folder {split}/classes",
            where=directory,
            remedy=f"A set of class masks is DIR/{split}/source/ and DIR/{split}/classes/; "
            "`sat2map data masks` writes one.",
        )
    matched = match_by_stem(folder / "source", folder / "classes")
    if not matched:
        raise DataError(
            "has no images", where=folder, remedy="Put photos into source/, masks into classes/."
        )
    return [MaskFile(name, source, classes) for name, source, classes in matched]


def read_mask_card(directory: Path) -> DataSetCard:
    """Return what `directory/dataset.json` says of masks; legend and mapping are there.

    Raises:
        DataError: The file is missing or not valid, or says nothing of the masks.
    """
    card = read_dataset_card(directory)
    if card.mask_legend is not None:
        card = replace(card, legend=card.mask_legend)
    if card.classes is None or card.legend is None:
        raise DataError(
            "does not say what the numbers of the masks mean",
            where=directory / "dataset.json",
            remedy='Give it "legend": "cover" and "classes": {"0": "unknown", "1": "building"}.',
        )
    return card


def read_mask(file: MaskFile) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Decode a photo and its mask.

    Returns:
        The photo, uint8 [H,W,C], and the values of the mask, uint8 [H,W].

    Raises:
        DataError: A file cannot be decoded, the mask is not one of numbers, or the two have
            unequal sizes.
    """
    source, values = read_image(file.source).pixels, read_numbers(file.classes)
    if source.shape[:2] != values.shape:
        raise DataError(
            f"is {values.shape[1]} x {values.shape[0]} pixels, but its photo "
            f"{file.source.name} is {source.shape[1]} x {source.shape[0]}",
            where=file.classes,
            remedy="A mask shows the same ground as its photo at the same size.",
        )
    return source, values


def read_numbers(path: Path) -> NDArray[np.uint8]:
    """Read a class mask: a PNG or TIFF of one band, or of palette numbers, uint8 [H,W].

    The numbers of a palette are taken, whatever colours it gives them.

    Raises:
        DataError: The file is missing or broken, has several bands, or numbers other than
            0 to 255.
    """
    if not path.is_file():
        raise DataError("there is no such file", where=path, remedy="Check the name.")
    try:
        with opened_image(path, ("PNG", "TIFF")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"{image.width} x {image.height} pixels are more than the {MAX_PIXELS:,} that "
                    "are decoded at once",
                    where=path,
                    remedy="Cut the photo and its mask into parts.",
                )
            if len(image.getbands()) > 1:
                raise DataError(
                    f"has {len(image.getbands())} bands, so colours and not class numbers",
                    where=path,
                    remedy=f"{_NUMBERS}: take one band (gdal_translate -b 1) where all are alike; "
                    "a coloured map is a target of pairs.",
                )
            values = np.asarray(image)
    except UnidentifiedImageError as error:
        raise DataError(
            "is not a PNG or TIFF of one band",
            where=path,
            remedy=f"{_NUMBERS}; JPEG would blur them.",
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DataError(
            f"cannot be decoded ({(str(error) or repr(error)).splitlines()[0]})",
            where=path,
            remedy="The file is broken or may not be read: restore or remove it.",
        ) from error
    whole = values.dtype.kind in "uib"
    if not whole or (values.size and not 0 <= int(values.min()) <= int(values.max()) < 256):
        raise DataError(
            "has numbers that are not whole or not from 0 to 255",
            where=path,
            remedy=f"{_NUMBERS}: write it anew with other numbers.",
        )
    return values.astype(np.uint8)
