"""A folder of adjoining scenes as one raster: a virtual one, of which GDAL reads what is asked.

Where scenes overlap, the one whose name comes later lies on top; where it has no values, what
lies below shows. A pixel of a scene has no value by the same rule as in `Scene`: its alpha or
its mask says so, or it has the nodata value in all bands.

The virtual raster is written here and not left to GDAL's tile index driver (GTI). Tried with
GDAL 3.10 on the same scenes, GTI gives the same pixels for masks, alpha, palettes and coarser
scenes, but it takes the nodata value band by band, so that where white is nodata a red roof shows
the scene below it in one band; and it hides pixels where infrared is called alpha. So each such
scene would be wrapped in a virtual raster all the same, beside an index file that must lie
somewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.transform import Affine

from sat2map.errors import DataError
from sat2map.geo.gdal import believable_alpha, open_dataset, reading_from
from sat2map.raster.georeference import grid_of

Stored = tuple[tuple[str, ...], str, str]
"""How values are stored: bits of each band, whether white is the least, and the colour profile."""

_COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)

_GDAL_TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "float32": "Float32",
    "float64": "Float64",
}


@dataclass(frozen=True)
class _Part:
    """What is told of one scene: its size and place, and how its values are to be taken."""

    path: Path
    width: int
    height: int
    transform: Affine
    crs: CRS | None
    kinds: tuple[str, ...]
    colours: tuple[ColorInterp, ...]
    palette: tuple[tuple[int, ...], ...]
    nodata: tuple[float | None, ...]
    masked: bool
    stored: Stored
    told: bool  # nodata is not what the file says
    block: tuple[int, int]
    lossy: bool  # its compression

    @property
    def alpha(self) -> int | None:
        """The band that says what is transparent."""
        return (
            self.colours.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in self.colours else None
        )

    @property
    def partial(self) -> bool:
        """Whether some of its pixels may have no value."""
        named = any(value is not None for value in self.nodata)
        return (
            self.alpha is not None
            or self.masked
            or None not in self.nodata
            or (self.told and named)
        )


def mosaic_vrt(
    files: Sequence[Path],
    nodata: tuple[float, ...] | None = None,
    bands: tuple[int, ...] | None = None,
) -> str:
    """Lay scenes side by side, and return the XML of the virtual raster, which GDAL opens.

    The pixels are as fine as the finest scene's and lie as the first one's do. Scenes that
    are coarser are interpolated.

    Args:
        files: The scenes; later ones lie on top.
        nodata: What stands where nothing is, in place of what they call so: one value for all
            bands, one for each that is read, or none.
        bands: The numbers of those that are read; None for the colours, or the first.

    Raises:
        DataError: A scene cannot be read, has no coordinates, or does not go with the first.
    """
    parts = [_look(path, nodata, bands) for path in files]
    first = parts[0]
    for part in parts:
        _check(part, first)
    alpha = first.alpha is not None and _believed(first)
    across = min(part.transform.a for part in parts)
    down = min(-part.transform.e for part in parts)
    west = min(part.transform.c for part in parts)
    north = max(part.transform.f for part in parts)
    # The grid runs through the first scene's corner, so that its pixels are read as they are.
    west = first.transform.c - round((first.transform.c - west) / across) * across
    north = first.transform.f + round((north - first.transform.f) / down) * down
    east = max(part.transform.c + part.width * part.transform.a for part in parts)
    south = min(part.transform.f + part.height * part.transform.e for part in parts)
    root = Element(
        "VRTDataset",
        rasterXSize=str(max(1, round((east - west) / across))),
        rasterYSize=str(max(1, round((north - south) / down))),
    )
    if first.crs is not None:
        SubElement(root, "SRS").text = first.crs.to_wkt()
    _say_stored(root, first, lossy=any(part.lossy for part in parts))
    SubElement(root, "GeoTransform").text = f"{west!r}, {across!r}, 0, {north!r}, 0, {-down!r}"
    placed = [
        (
            part,
            ((part.transform.c - west) / across, (north - part.transform.f) / down),
            (part.width * part.transform.a / across, part.height * -part.transform.e / down),
        )
        for part in parts
    ]
    for number, (kind, colour) in enumerate(zip(first.kinds, first.colours, strict=True), 1):
        band = SubElement(root, "VRTRasterBand", dataType=_GDAL_TYPES[kind], band=str(number))
        _say_bits(band, first, number)
        common = {part.nodata[number - 1] for part in parts}
        if len(common) == 1 and None not in common and None not in first.nodata:
            # So that what lossy compression has smeared around it is known, too.
            SubElement(band, "NoDataValue").text = f"{common.copy().pop():.17g}"
        SubElement(band, "ColorInterp").text = colour.name.capitalize()
        if first.palette:
            _add_palette(band, first.palette)
        for part, corner, size in placed:
            source = _add_source(band, part, str(number), corner, size, alpha=alpha)
            if number == part.alpha and alpha:
                SubElement(source, "NODATA").text = "0"
            elif part.partial:
                SubElement(source, "UseMaskBand").text = "true"
            elif kind.startswith("float"):
                SubElement(source, "NODATA").text = "nan"  # what lies below shows there
    mask = SubElement(SubElement(root, "MaskBand"), "VRTRasterBand", dataType="Byte")
    for part, corner, size in placed:
        source = _add_source(mask, part, "mask,1", corner, size, alpha=alpha)
        SubElement(source, "NODATA").text = "0"
    return tostring(root, encoding="unicode")


def _look(path: Path, nodata: tuple[float, ...] | None, bands: tuple[int, ...] | None) -> _Part:
    with open_dataset(str(path), path) as file:
        palette: tuple[tuple[int, ...], ...] = ()
        if file.colorinterp[0] == ColorInterp.palette:
            table = file.colormap(1)
            palette = tuple(table.get(number, (0, 0, 0, 255)) for number in range(256))
        flags = file.mask_flag_enums[0]
        grid = grid_of(file)
        if grid.points:
            raise DataError(
                "lies by ground control points on no straight grid",
                where=path,
                remedy="Warp it first, for example with: gdalwarp -tps -t_srs EPSG:CODE.",
            )
        structure, profile = file.tags(ns="IMAGE_STRUCTURE"), file.tags(ns="COLOR_PROFILE")
        bits = (file.tags(n, ns="IMAGE_STRUCTURE").get("NBITS", "") for n in file.indexes)
        return _Part(
            path,
            file.width,
            file.height,
            grid.transform,
            grid.crs,
            tuple(file.dtypes),
            tuple(file.colorinterp),
            palette,
            _given(nodata, bands, file) if nodata is not None else tuple(file.nodatavals),
            MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags,
            (tuple(bits), structure.get("MINISWHITE", ""), profile.get("SOURCE_ICC_PROFILE", "")),
            nodata is not None,
            file.block_shapes[0],
            structure.get("COMPRESSION", "").endswith(("JPEG", "WEBP")),
        )


def _given(
    nodata: tuple[float, ...], bands: tuple[int, ...] | None, file: Any
) -> tuple[float | None, ...]:
    """Return what each band is to call nodata; what does not fit is said when it is read."""
    kinds = file.colorinterp
    usable = [n for n, kind in enumerate(kinds, 1) if kind != ColorInterp.alpha]
    if len(nodata) == 1:
        return tuple(nodata[0] if n in usable else None for n in file.indexes)
    if bands is None and all(kind in kinds for kind in _COLOURS):
        bands = tuple(kinds.index(kind) + 1 for kind in _COLOURS)
    values = dict(zip(usable[: len(nodata)] if bands is None else bands, nodata, strict=False))
    return tuple(values.get(n) for n in file.indexes)


def _say_stored(root: Element, part: _Part, *, lossy: bool) -> None:
    _, inverted, profile = part.stored
    if inverted or lossy:
        structure = SubElement(root, "Metadata", domain="IMAGE_STRUCTURE")
        if inverted:
            SubElement(structure, "MDI", key="MINISWHITE").text = inverted
        if lossy:
            SubElement(structure, "MDI", key="COMPRESSION").text = "JPEG"
    if profile:
        colours = SubElement(root, "Metadata", domain="COLOR_PROFILE")
        SubElement(colours, "MDI", key="SOURCE_ICC_PROFILE").text = profile


def _say_bits(band: Element, part: _Part, number: int) -> None:
    if part.stored[0][number - 1]:
        structure = SubElement(band, "Metadata", domain="IMAGE_STRUCTURE")
        SubElement(structure, "MDI", key="NBITS").text = part.stored[0][number - 1]


def _believed(part: _Part) -> bool:
    with open_dataset(str(part.path), part.path) as file, reading_from(part.path):
        return believable_alpha(file, part.alpha or 0)


def _check(part: _Part, first: _Part) -> None:
    """Refuse a scene that does not go with the first."""
    transform = part.transform
    if transform == Affine.identity():
        raise DataError(
            "has no coordinates, so its place in the mosaic is not known",
            where=part.path,
            remedy="Georeference it, or take it out of the folder.",
        )
    if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
        raise DataError(
            "is rotated or lies south up, which scenes of a mosaic must not",
            where=part.path,
            remedy="Turn it first, for example with gdalwarp.",
        )
    if part.crs != first.crs:
        remedy = "Bring all to one first, for example with: gdalwarp -t_srs EPSG:CODE."
        raise DataError(
            f"has another coordinate reference system than {first.path.name}",
            where=part.path,
            remedy=remedy,
        )
    if part.kinds != first.kinds or part.palette != first.palette:
        raise DataError(
            f"has other bands than {first.path.name}: {', '.join(part.kinds)} in place of "
            f"{', '.join(first.kinds)}"
            if part.kinds != first.kinds
            else f"has other colours in its table than {first.path.name}",
            where=part.path,
            remedy="Make them alike first, for example with gdal_translate.",
        )
    if part.stored != first.stored:
        raise DataError(
            f"is stored otherwise than {first.path.name}: in other bits, with white as the least "
            "value, or with another colour profile",
            where=part.path,
            remedy="Make them alike first, for example with gdal_translate.",
        )
    if any(kind not in _GDAL_TYPES for kind in part.kinds):
        raise DataError(
            f"holds {part.kinds[0]} values, which no mosaic takes",
            where=part.path,
            remedy="Convert it first, for example with: gdal_translate -ot Float32.",
        )


def _add_palette(band: Element, palette: tuple[tuple[int, ...], ...]) -> None:
    table = SubElement(band, "ColorTable")
    for colour in palette:
        SubElement(table, "Entry", {f"c{i + 1}": str(value) for i, value in enumerate(colour)})


def _add_source(
    band: Element,
    part: _Part,
    number: str,
    corner: tuple[float, float],
    size: tuple[float, float],
    *,
    alpha: bool,
) -> Element:
    source = SubElement(band, "ComplexSource", resampling="nearest")
    same = abs(size[0] - part.width) < 1e-3 and abs(size[1] - part.height) < 1e-3
    if not same and not part.palette:
        source.set("resampling", "bilinear")
    name = SubElement(source, "SourceFilename", relativeToVRT="0")
    own = not part.partial and not part.told
    name.text = str(part.path.absolute()) if own else _with_mask(part, alpha=alpha)
    SubElement(source, "SourceBand").text = number
    # What these are need not be asked of the file before it is read.
    SubElement(
        source,
        "SourceProperties",
        RasterXSize=str(part.width),
        RasterYSize=str(part.height),
        DataType=_GDAL_TYPES[part.kinds[0] if number == "mask,1" else part.kinds[int(number) - 1]],
        BlockXSize=str(part.block[1]),
        BlockYSize=str(part.block[0]),
    )
    wide, tall = map(str, (part.width, part.height))
    SubElement(source, "SrcRect", xOff="0", yOff="0", xSize=wide, ySize=tall)
    x, y, width, height = (repr(_snapped(value)) for value in (*corner, *size))
    SubElement(source, "DstRect", xOff=x, yOff=y, xSize=width, ySize=height)
    return source


def _snapped(value: float) -> float:
    """Return a whole number where the value is one but for rounding."""
    return float(round(value)) if abs(value - round(value)) < 1e-3 else value


def _with_mask(part: _Part, *, alpha: bool) -> str:
    """Return a virtual raster of one scene whose mask follows the rule for all bands."""
    root = Element("VRTDataset", rasterXSize=str(part.width), rasterYSize=str(part.height))
    by_band: str | None = None
    if part.alpha is not None and alpha:
        by_band = str(part.alpha)
    elif part.masked:
        by_band = "mask,1"
    elif part.told and None in part.nodata and part.partial:
        mask = SubElement(SubElement(root, "MaskBand"), "VRTRasterBand", dataType="Byte")
        for number, value in enumerate(part.nodata, 1):
            if value is not None:  # 255 wherever one of the bands is something else
                _not_nodata(mask, part, number, value)
    elif None not in part.nodata:
        metadata = SubElement(SubElement(root, "Metadata"), "MDI", key="NODATA_VALUES")
        metadata.text = " ".join(f"{value:.17g}" for value in part.nodata)
    for number, kind in enumerate(part.kinds, 1):
        band = SubElement(root, "VRTRasterBand", dataType=_GDAL_TYPES[kind], band=str(number))
        if part.palette:
            SubElement(band, "ColorInterp").text = "Palette"
        _simple(band, part.path, str(number))
    if by_band is not None:
        mask = SubElement(SubElement(root, "MaskBand"), "VRTRasterBand", dataType="Byte")
        _simple(mask, part.path, by_band)
    return tostring(root, encoding="unicode")


def _not_nodata(mask: Element, part: _Part, number: int, value: float) -> None:
    source = SubElement(mask, "ComplexSource")
    name = SubElement(source, "SourceFilename", relativeToVRT="0")
    name.text = str(part.path.absolute())
    SubElement(source, "SourceBand").text = str(number)
    SubElement(source, "ScaleOffset").text = "255"
    SubElement(source, "ScaleRatio").text = "0"
    SubElement(source, "NODATA").text = f"{value:.17g}"


def _simple(band: Element, path: Path, number: str) -> None:
    source = SubElement(band, "SimpleSource")
    SubElement(source, "SourceFilename", relativeToVRT="0").text = str(path.absolute())
    SubElement(source, "SourceBand").text = number
