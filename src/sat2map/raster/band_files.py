"""Bands in files of their own, as satellites' scenes are delivered: found, and laid together."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

from sat2map.errors import DataError
from sat2map.geo.gdal import open_dataset

_BAND = re.compile(r"(?<![A-Za-z0-9])(?:(B(?:and)?0?)(\d{1,2}A?)|(red|green|blue))(?![A-Za-z0-9])")
"""T33UUU_20200101_B04_10m, LC08_..._B4, or red."""

_EARLY_LANDSAT = re.compile(r"L[TEC]0?[4-7]")
"""Landsat 4 to 7 number their bands from blue on, later ones and Sentinel-2 from the coast's."""

_KINDS = {"uint8": "Byte", "uint16": "UInt16", "int16": "Int16", "float32": "Float32"}


@dataclass(frozen=True)
class BandFile:
    """A file that is called as one of several bands.

    Attributes:
        path: The file.
        scene: Its name without what tells the band, the same of all bands of a scene.
        band: The number of the band without zeros before it, or the name of its colour.
    """

    path: Path
    scene: tuple[str, str]
    band: str

    def beside(self, band: str) -> str:
        """Return what the file of another band would be called."""
        found = _BAND.search(self.path.stem)
        assert found is not None
        place = 2 if found[2] else 3
        stem = self.path.stem
        if place == 2 and found[1].endswith("0") and len(band) > 1:
            band = band.lstrip("0")
        return f"{stem[: found.start(place)]}{band}{stem[found.end(place) :]}{self.path.suffix}"

    @property
    def colours(self) -> tuple[str, str, str]:
        """The bands that are red, green and blue."""
        if not self.band[0].isdigit():
            return "red", "green", "blue"
        return ("3", "2", "1") if _EARLY_LANDSAT.match(self.path.name) else ("4", "3", "2")


def band_file(path: Path) -> BandFile | None:
    """Return what the name of a file tells of bands, or None where it tells nothing."""
    found = _BAND.search(path.stem)
    if found is None:
        return None
    scene = path.stem[: found.start()], path.stem[found.end() :]
    # Sentinel-2 names its resolution behind the band, which differs between them.
    scene = scene[0], re.sub(r"^_\d+m$", "", scene[1])
    return BandFile(path, scene, found[2] or found[3])


def find_colours(files: Sequence[Path]) -> tuple[Path, Path, Path] | None:
    """Return the files of the red, green and blue band of the one scene of a folder.

    None where the files are not bands of scenes: sheets of a map may be called B2, B3 and B4 too,
    but they have colours, or lie beside each other.

    Raises:
        DataError: There are bands of several scenes, or bands without those of the colours.
    """
    scenes: dict[tuple[str, str], dict[str, BandFile]] = {}
    for path in files:
        file = band_file(path)
        if file is not None:
            scenes.setdefault(file.scene, {}).setdefault(file.band, file)
    scenes = {scene: bands for scene, bands in scenes.items() if _one_place(bands.values())}
    if not scenes:
        return None
    folder = files[0].parent
    if len(scenes) > 1:
        raise DataError(
            f"has bands in files of their own of {len(scenes)} scenes",
            where=folder,
            remedy="Lay those of each together first, for example with: gdalbuildvrt -separate.",
        )
    (bands,) = scenes.values()
    names = next(iter(bands.values())).colours
    missing = [name for name in names if name not in bands]
    if missing:
        raise DataError(
            f"has bands in files of their own, but none of them is band {missing[0]}",
            where=folder,
            remedy="Put red, green and blue there, or lay together what you want first, for "
            "example with: gdalbuildvrt -separate.",
        )
    red, green, blue = (bands[name].path for name in names)
    return red, green, blue


def _one_place(files: Collection[BandFile]) -> bool:
    """Return whether files are several, of one band each, and lie upon each other."""
    places: set[tuple[float, float]] = set()
    for file in files if len(files) > 1 else ():
        with open_dataset(str(file.path), file.path) as raster:
            if raster.count != 1:
                return False
            places.add((raster.transform.c, raster.transform.f))
    return len(places) == 1


def colours_vrt(files: tuple[Path, Path, Path]) -> str:
    """Lay three bands of the same grid together, and return the XML of the virtual raster.

    Raises:
        DataError: They cannot be read, or do not go together.
    """
    root = Element("VRTDataset")
    first: tuple[object, ...] = ()
    for number, (path, colour) in enumerate(zip(files, ("Red", "Green", "Blue"), strict=True), 1):
        with open_dataset(str(path), path) as file:
            kind, nodata = file.dtypes[0], file.nodatavals[0]
            facts = (file.shape, file.transform, file.crs, file.count, kind)
            if number == 1:
                first = facts
                root.set("rasterXSize", str(file.width))
                root.set("rasterYSize", str(file.height))
                if file.crs:
                    SubElement(root, "SRS").text = file.crs.to_wkt()
                place = ", ".join(map(repr, map(float, file.transform.to_gdal())))
                SubElement(root, "GeoTransform").text = place
            if facts != first or file.count != 1 or kind not in _KINDS:
                raise DataError(
                    f"does not go together with {files[0].name}, a band of the same scene: it has "
                    "another size, place, type or number of bands",
                    where=path,
                    remedy="Lay them together first, for example with: gdalbuildvrt -separate.",
                )
        band = SubElement(root, "VRTRasterBand", dataType=_KINDS[kind], band=str(number))
        if nodata is not None:
            SubElement(band, "NoDataValue").text = f"{nodata:.17g}"
        SubElement(band, "ColorInterp").text = colour
        source = SubElement(band, "SimpleSource")
        SubElement(source, "SourceFilename", relativeToVRT="0").text = str(path.absolute())
        SubElement(source, "SourceBand").text = "1"
    return tostring(root, encoding="unicode")
