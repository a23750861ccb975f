"""Which bands of a raster are read, and what the others of them stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from sat2map.data.images import read_palette
from sat2map.errors import DataError, UsageError
from sat2map.geo.gdal import believable_alpha
from sat2map.raster.band_files import band_file
from sat2map.raster.sources import Source

_COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


@dataclass(frozen=True)
class Bands:
    """The bands of a raster that are read.

    Attributes:
        numbers: Their numbers, from 1, in the model's order; a band may stand in place of several.
        alpha: The band that says what is transparent, if there is one.
        palette: Of a raster of colour numbers their colours, RGBA, uint8 [256,4].
    """

    numbers: list[int]
    alpha: int | None
    palette: NDArray[np.uint8] | None

    @property
    def distinct(self) -> list[int]:
        """Each of them once, in the file's order."""
        return sorted(set(self.numbers))


def choose_bands(
    dataset: Any,
    source: Source,
    wanted: int,
    chosen: tuple[int, ...] | None,
    say: Callable[[str], object],
) -> Bands:
    """Choose the bands that a model sees, by what the file calls them.

    Args:
        dataset: The raster.
        source: What it was opened as.
        wanted: How many bands the model takes.
        chosen: Their numbers, where the user names them.
        say: Called with each notice.

    Raises:
        DataError: It has too few bands.
        UsageError: `chosen` does not fit the raster or the model.
    """
    where = source.where
    palette = _palette(dataset) if chosen is None else None
    alpha = _find_alpha(dataset, source, chosen or (), say)
    if chosen is not None:
        return Bands(_named(dataset, where, wanted, chosen), alpha, None)
    if palette is not None and wanted in (1, 3):
        return Bands([1], alpha, palette)
    kinds = dataset.colorinterp
    if wanted in (1, 3) and all(kind in kinds for kind in _COLOURS):
        # of which grey is the luma
        return Bands([kinds.index(kind) + 1 for kind in _COLOURS], alpha, None)
    usable = [band for band in range(1, dataset.count + 1) if band != alpha]
    return Bands(_first(usable, where, wanted, say), alpha, None)


def _find_alpha(
    dataset: Any, source: Source, chosen: tuple[int, ...], say: Callable[[str], object]
) -> int | None:
    """Return the band that says what is transparent, if it is one."""
    kinds = dataset.colorinterp
    if ColorInterp.alpha not in kinds:
        return None
    band: int = kinds.index(ColorInterp.alpha) + 1
    if band in chosen:
        return None
    if source.kind != "tile tree" and not believable_alpha(dataset, band):
        say(
            f"{source.where}: band {band} is called alpha, but most of its values are between "
            "clear and opaque; it is taken for something else, such as infrared. If it is "
            "transparency, make it 0 and 255 first."
        )
        return None
    return band


def _named(dataset: Any, where: str | Path, wanted: int, chosen: tuple[int, ...]) -> list[int]:
    """Return the bands that the user names, or refuse them."""
    missing = [band for band in chosen if not 1 <= band <= dataset.count]
    if missing or not chosen:
        raise UsageError(
            f"{where} has no band {missing[0] if missing else 'of no name'}; it has "
            f"{dataset.count}",
            parameter="bands",
            remedy="Give numbers from 1, such as 3,2,1.",
        )
    if len(chosen) not in {1, wanted}:
        raise UsageError(
            f"{len(chosen)} bands are named, but the model takes {wanted}",
            parameter="bands",
            remedy=f"Name {wanted}, in the model's order.",
        )
    return list(chosen) * (wanted // len(chosen))


def _first(
    usable: list[int], where: str | Path, wanted: int, say: Callable[[str], object]
) -> list[int]:
    """Return the first of the bands that are not alpha, where none is called a colour."""
    if not usable:
        raise DataError("has only an alpha band", where=where, remedy="Give a photo.")
    if len(usable) >= wanted:
        if len(usable) > 1 and (len(usable) > wanted or wanted == 3):
            names = ", ".join(map(str, usable[:wanted]))
            say(
                f"{where}: does not say which of its {len(usable)} bands are which "
                f"colours; bands {names} are taken. Choose others by `bands`."
            )
        return usable[:wanted]
    if wanted == 3:
        band = band_file(Path(where)) if len(usable) == 1 else None
        if band is not None:
            names = " ".join(map(band.beside, band.colours))
            say(
                f"{where}: seems to be one of several bands in files of their own. Lay "
                f"them together first: gdalbuildvrt -separate rgb.vrt {names}."
            )
        say(
            f"{where}: has one band without colours, which is translated as grey; the "
            "model was trained on colours, so expect less. Give colours, or another `model`."
            if len(usable) == 1
            else f"{where}: has {len(usable)} bands, of which the first is translated as "
            "grey; the model was trained on colours, so expect less. Choose another one by "
            "`bands`, or another `model`."
        )
        return [usable[0]] * 3
    raise DataError(
        f"has {len(usable)} bands, but the model takes {wanted}",
        where=where,
        remedy="Choose another model, or add the bands.",
    )


def _palette(dataset: Any) -> NDArray[np.uint8] | None:
    """Return the colours of a raster of colour numbers, RGBA, uint8 [256,4]."""
    if dataset.colorinterp[0] != ColorInterp.palette or dataset.dtypes[0] != "uint8":
        return None
    return read_palette(dataset)
