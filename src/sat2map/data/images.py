"""Images on disk: reading them as uint8 arrays, and writing them whole.

PNG, JPEG, WebP and AVIF go through Pillow, HEIC through pillow_heif where that is installed; TIFF
through GDAL, which knows several bands, and so does a WebP past Pillow's guard. Colours come out as
other programs show them: those of another colour profile as sRGB, 16 bits and 1 bit per channel as
8. What else is not an 8-bit image is refused with a line that says what to do, never silently
wrapped.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from sat2map.atomic import atomic_file
from sat2map.data.colour_profile import ColourProfile, read_profile
from sat2map.data.pillow import open_heic, opened_image, special_kind
from sat2map.errors import DataError, UsageError
from sat2map.provenance import TAG, Provenance

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"})
TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
READ_SUFFIXES = IMAGE_SUFFIXES | {".avif", ".heic", ".heif", ".jfif"}
"""What is read; the first are written as well."""

OTHER_SUFFIXES = frozenset(
    {
        *(".bmp", ".ecw", ".gif", ".img", ".j2k", ".jp2", ".jxl", ".nc", ".npy", ".npz", ".pbm"),
        *(".pgm", ".pnm", ".ppm", ".sid", ".svg", ".tga", ".vrt"),
    }
)
"""What is an image too, but not read in data sets."""

SIDECAR_SUFFIXES = frozenset(
    {
        *(".aux", ".bmpw", ".bpw", ".gfw", ".gifw", ".j2w", ".jgw", ".jp2w", ".jpegw", ".jpgw"),
        *(".jpw", ".msk", ".ovr", ".pgw", ".pngw", ".points", ".prj", ".qpj", ".tfw", ".tifw"),
        *(".tiffw", ".webpw", ".wld", ".wpw", ".xml"),
    }
)
"""What belongs to an image beside it."""

MAX_PIXELS = 500_000_000

EXTRA_SAMPLES, ASSOCIATED = 338, 1
"""The tag of TIFF that tells what further bands are, and what it says of such an alpha."""

NEARLY_BLACK = 16
"""Below this, of 255, stays an image of 16 bits that holds the 12 bits of a sensor."""


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image.

    Attributes:
        pixels: uint8 [H,W,C]; C is 3 but for a TIFF with more bands.
        alpha: uint8 [H,W], 0 where transparent, or None where the image has no alpha.
    """

    pixels: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None = None


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """Decode a PNG, JPEG, WebP, AVIF, HEIC or TIFF image.

    Grey and palette images become RGB, the EXIF orientation is applied, and so is a colour
    profile (ICC). Of 16 bits the whole range becomes 0 to 255, and so do the two values of 1 bit.

    Args:
        path: The file.
        max_pixels: Refuse larger images before they are decoded.

    Raises:
        DataError: The file is missing, broken, too large, or its values are not colours: floats,
            or 16 bits of which only the lowest are used.
    """
    if not path.is_file():
        raise DataError("there is no such file", where=path, remedy="Check the name.")
    if path.suffix.lower() in TIFF_SUFFIXES:
        return _read_with_gdal(path, "GTiff", max_pixels)
    return _read_with_pillow(path, max_pixels)


def write_image(
    path: Path,
    pixels: NDArray[np.uint8],
    alpha: NDArray[np.uint8] | None = None,
    made: Provenance | None = None,
) -> None:
    """Write an image by its suffix, whole or not at all.

    Args:
        path: .png, .jpg, .jpeg, .webp, .tif or .tiff; JPEG leaves out alpha.
        pixels: uint8 [H,W,3], or grey, [H,W,1], which is written as three equal bands.
        alpha: uint8 [H,W] or None.
        made: What it was made of and how, which it then says.

    Raises:
        UsageError: The suffix is none of these, the image is too large for the format, or
            it has other than one or three bands.
        OutputError: The place is not writable or the disk is full.
    """
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise UsageError(
            f"{suffix or 'no suffix'} is not an image format that can be written",
            where=path,
            remedy="End the name in .png, .jpg, .webp or .tif.",
        )
    if pixels.shape[2] not in (1, 3):
        raise UsageError(
            f"the result has {pixels.shape[2]} bands, but an image has 1 or 3",
            where=path,
            remedy="Use a model whose targets are grey or RGB images.",
        )
    pixels = three_bands(pixels)
    limit = {".jpg": 65_500, ".jpeg": 65_500, ".webp": 16_383}.get(suffix)
    if limit is not None and max(pixels.shape[:2]) > limit:
        raise UsageError(
            f"{suffix} holds at most {limit} pixels a side", where=path, remedy="Write a .png."
        )
    if alpha is not None and suffix not in {".jpg", ".jpeg"}:
        pixels = np.dstack([pixels, alpha])
    image = Image.fromarray(np.ascontiguousarray(pixels))
    how: dict[str, Any] = {".webp": {"lossless": True}, ".png": {}}.get(
        suffix, {"compression": "tiff_deflate"}
    )
    if suffix in {".jpg", ".jpeg"}:
        how = {"quality": 95, "subsampling": 0}  # thin coloured lines stay coloured
    if made is not None:
        how |= _saying(suffix, made)
    with atomic_file(path) as aside:
        image.save(aside, **how)


def _saying(suffix: str, made: Provenance) -> dict[str, Any]:
    """Return options of Pillow by which an image says what it was made of."""
    if suffix == ".png":
        text = PngInfo()
        text.add_itxt(TAG, made.to_text())
        return {"pnginfo": text}
    if suffix in {".jpg", ".jpeg", ".webp"}:
        exif = Image.Exif()
        exif[DESCRIPTION] = made.to_comment()
        return {"exif": exif}
    root = Element("GDALMetadata")
    SubElement(root, "Item", {"name": TAG}).text = made.to_ascii()
    return {"tiffinfo": {GDAL_METADATA: tostring(root, encoding="unicode")}}


DESCRIPTION = 0x010E
"""The number of EXIF's ImageDescription."""

GDAL_METADATA = 42112
"""The number of the TIFF tag in which GDAL has what rasterio calls tags."""


def three_bands(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return pixels of any number of bands, uint8 [H,W,C], as three that can be shown."""
    return pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, 2)


def in_bands(pixels: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Return RGB pixels as a model of `count` bands takes them: as grey where that is one.

    Grey is the luma of ITU-R BT.601, as Pillow and the published code have it; equal bands stay
    what they are. Other numbers of bands are left alone.

    Args:
        pixels: uint8 [H,W,C].
        count: How many bands the model takes.
    """
    if count != 1 or pixels.shape[2] != 3:
        return pixels
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))[..., None]


def resize_square(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resize uint8 [H,W,C] straight to uint8 [side,side,C].

    With Pillow's bicubic, which is widened by the scale when it shrinks; each channel by
    itself, rounded to 8 bits.
    """
    if pixels.shape[:2] == (side, side):
        return pixels

    def resize(band: NDArray[np.uint8]) -> NDArray[np.uint8]:
        image = Image.fromarray(np.ascontiguousarray(band))
        return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))

    if pixels.shape[2] == 3:
        return resize(pixels)
    return np.stack([resize(pixels[..., band]) for band in range(pixels.shape[2])], axis=2)


def has_one_band(path: Path) -> bool:
    """Return whether an image is stored as grey, as its header says; what is unknown is not.

    Grey that is stored as red, green and blue, and colour numbers, are not.
    """
    try:
        with opened_image(path, ("PNG", "JPEG", "WEBP", "AVIF", "TIFF")) as image:
            return image.mode in ("1", "L", "LA") or image.mode.startswith("I")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
        return False  # who reads it says what is wrong


def list_images(folder: Path, suffixes: Collection[str] = READ_SUFFIXES) -> list[Path]:
    """Return the images directly inside a folder in natural order (2 before 10).

    What is an image is told by its suffix.

    Hidden files are left out.

    Raises:
        DataError: There is no such folder.
    """
    if not folder.is_dir():
        raise DataError("there is no such folder", where=folder, remedy="Check the name.")
    found = (
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )
    return sorted(found, key=natural_order)


def other_files(folder: Path, suffixes: Collection[str] = READ_SUFFIXES) -> list[Path]:
    """Return the files of a folder that `list_images` leaves out, but what belongs to images.

    Hidden files and folders are not such files.
    """
    found = (
        path
        for path in folder.iterdir()
        if path.suffix.lower() not in SIDECAR_SUFFIXES.union(suffixes)
        and not path.name.startswith(".")
        and path.is_file()
    )
    return sorted(found, key=natural_order)


def describe_left_out(folder: Path, files: Sequence[Path]) -> str:
    """Return the line that says which kinds of files of a folder are left out."""
    kinds = ", ".join(sorted({path.suffix.lower() or path.name for path in files}))
    told = "1 file is" if len(files) == 1 else f"{len(files):,} files are"
    return f"{folder}: {told} left out, since such files are not read as images ({kinds})."


def natural_order(path: Path) -> tuple[tuple[int, int, str], ...]:
    """Return a sorting key under which 2.png comes before 10.png."""
    parts: list[tuple[int, int, str]] = []
    digits = ""
    for character in path.name + "\0":
        if character.isascii() and character.isdigit():
            digits += character
            continue
        if digits:
            parts.append((0, int(digits), digits))
            digits = ""
        parts.append((1, 0, character))
    return tuple(parts)


def _too_large(path: Path, width: int, height: int, max_pixels: int) -> DataError:
    return DataError(
        f"{width} x {height} pixels are more than the {max_pixels:,} that are decoded at once",
        where=path,
        remedy="Cut it into parts, or allow more by `max_pixels`.",
    )


def _read_with_pillow(path: Path, max_pixels: int) -> DecodedImage:
    try:
        special = special_kind(path)
        if special is not None:
            return _read_special(path, special, max_pixels)
        try:
            with opened_image(path, ("PNG", "JPEG", "WEBP", "AVIF")) as image:
                if image.width * image.height > max_pixels:
                    raise _too_large(path, image.width, image.height, max_pixels)
                return _decoded(path, image)
        except Image.DecompressionBombError:  # Pillow's guard, of a WebP
            turn = _webp_exif(path).get(ExifTags.Base.Orientation, 1)
    except UnidentifiedImageError as error:
        raise DataError(
            "is not a PNG, JPEG, WebP or AVIF image",
            where=path,
            remedy="The file is broken or something else: restore or remove it.",
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        detail = getattr(error, "strerror", None) or str(error) or repr(error)
        raise DataError(
            f"cannot be decoded ({detail.splitlines()[0]})",
            where=path,
            remedy="The file is broken or may not be read: restore or remove it.",
        ) from error
    decoded = _read_with_gdal(path, "WEBP", max_pixels)
    alpha = None if decoded.alpha is None else _turned(decoded.alpha, turn)
    return DecodedImage(_turned(decoded.pixels, turn), alpha)


def _read_special(path: Path, kind: str, max_pixels: int) -> DecodedImage:
    """Read what Pillow alone does not."""
    try:
        if kind != "HEIC":
            raise ImportError
        opened = open_heic(path)
    except ImportError as error:
        raise _not_read(path, kind) from error
    width, height = opened.size
    if width * height > max_pixels:
        raise _too_large(path, width, height, max_pixels)
    return _decoded(path, opened.to_pillow())  # upright already, and its EXIF says so


def refuse_special(path: Path) -> None:
    """Name what a file is that no reader knows, where it is an image of a kind that is not read.

    Raises:
        DataError: It is one.
    """
    try:
        kind = special_kind(path)
    except OSError:
        return  # whoever tries to read it says so
    if kind is not None:
        raise _not_read(path, kind)


def _not_read(path: Path, kind: str) -> DataError:
    more = ", or install pillow_heif with: pip install pillow-heif" if kind == "HEIC" else ""
    return DataError(
        f"is a {kind} image, which is not read",
        where=path,
        remedy=f"Save it as PNG or JPEG{more}.",
    )


def _decoded(path: Path, image: Image.Image) -> DecodedImage:
    image.load()
    profile = read_profile(image.info.get("icc_profile"))
    sixteen = image.mode.startswith("I")
    upright = ImageOps.exif_transpose(image)
    alpha = None
    if sixteen:  # grey: of colours Pillow takes the upper 8 bits by itself
        values, clear = np.asarray(upright), upright.info.get("transparency")
        if isinstance(clear, int):
            alpha = np.where(values == clear, 0, 255).astype(np.uint8)
        upright = Image.fromarray(in_8_bits(values, 16))
    elif upright.has_transparency_data:
        grey = upright.mode == "LA"
        upright = upright.convert("RGBA")
        alpha = np.asarray(upright.getchannel("A"))
        if grey:  # so that a profile of grey fits
            upright = upright.convert("L")
    if _has_16_bits(path):
        _refuse_nearly_black(path, np.asarray(upright.convert("RGB")))
    if profile is not None:
        fits = {"RGB": True, "L": upright.mode in ("1", "L"), "CMYK": upright.mode == "CMYK"}[
            profile.mode
        ]
        if fits:
            upright = profile.image(upright.convert(profile.mode))
    return DecodedImage(np.asarray(upright.convert("RGB")), alpha)


def in_8_bits(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Return values of so many bits, 0 to 2**bits - 1, as uint8, 0 to 255, of the same shape."""
    scaled = np.rint(np.asarray(values, np.float32) * np.float32(255 / (2**bits - 1)))
    found: NDArray[np.uint8] = np.clip(scaled, 0, 255).astype(np.uint8)
    return found


def _webp_exif(path: Path) -> Image.Exif:
    """Return the EXIF of a WebP, empty where it has none; its chunks are named and sized."""
    exif = Image.Exif()
    with path.open("rb") as file:
        file.seek(12)  # RIFF, the size of the file, WEBP
        while len(head := file.read(8)) == 8:
            size = int.from_bytes(head[4:], "little")
            if head[:4] == b"EXIF":
                exif.load(file.read(size))
                break
            file.seek(size + size % 2, 1)
    return exif


def _turned(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return pixels, uint8 [H,W] or [H,W,C], as an EXIF orientation says they are meant."""
    image = Image.fromarray(pixels)
    image.getexif()[ExifTags.Base.Orientation] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def _has_16_bits(path: Path) -> bool:
    """Return whether a file is a PNG of 16 bits per channel, as the 25th byte of it says."""
    with path.open("rb") as file:
        header = file.read(25)
    return header[:8] == b"\x89PNG\r\n\x1a\n" and len(header) == 25 and header[24] == 16


def _refuse_nearly_black(path: Path, pixels: NDArray[np.uint8]) -> None:
    brightest = int(pixels.max(initial=0))
    if 0 < brightest < NEARLY_BLACK:
        raise DataError(
            f"has 16 bits per channel and uses the lowest {brightest + 1} of 256 parts of them, so "
            "it would be nearly black",
            where=path,
            remedy="Stretch it to 8 bits first, for example with: gdal_translate -ot Byte -scale.",
        )


def read_palette(raster: Any) -> NDArray[np.uint8]:
    """Return the colours of a raster of 8-bit colour numbers, RGBA, uint8 [256,4].

    Args:
        raster: What rasterio opened; its first band has a colour table.
    """
    table = raster.colormap(1)
    return np.array([table.get(number, (0, 0, 0, 255)) for number in range(256)], np.uint8)


def _read_with_gdal(path: Path, driver: str, max_pixels: int) -> DecodedImage:
    import rasterio
    from rasterio.enums import ColorInterp
    from rasterio.errors import RasterioError

    kind = "TIFF" if driver == "GTiff" else driver
    try:
        with rasterio.open(path, driver=driver) as raster:
            if raster.width * raster.height > max_pixels:
                raise _too_large(path, raster.width, raster.height, max_pixels)
            if any(kind not in ("uint8", "uint16") for kind in raster.dtypes):
                raise DataError(
                    f"has the type {raster.dtypes[0]}, not 8 bits per channel",
                    where=path,
                    remedy="Stretch it to 8 bits first, for example with: "
                    "gdal_translate -ot Byte -scale.",
                )
            kinds = raster.colorinterp
            if kinds[0] == ColorInterp.palette and raster.dtypes[0] == "uint8":
                colours = read_palette(raster)
                painted = colours[raster.read(1)]
                opaque = bool((colours[..., 3] == 255).all())
                return DecodedImage(
                    np.ascontiguousarray(painted[..., :3]), None if opaque else painted[..., 3]
                )
            structure = raster.tags(ns="IMAGE_STRUCTURE")
            bands = [i for i, kind in enumerate(kinds, 1) if kind != ColorInterp.alpha]
            whole = 16 if "uint16" in raster.dtypes else 8
            bits = int(raster.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", whole))
            values = np.ascontiguousarray(raster.read(bands).transpose(1, 2, 0))
            pixels = values if bits == 8 else in_8_bits(values, bits)
            if bits == 16:
                _refuse_nearly_black(path, pixels)
            if structure.get("MINISWHITE") == "YES":
                pixels = 255 - pixels
            profile = profile_of(raster)
            alpha = None
            if ColorInterp.alpha in kinds:
                band = kinds.index(ColorInterp.alpha) + 1
                alpha = in_8_bits(raster.read(band), bits)
                if is_premultiplied(path):
                    pixels = unmultiplied(pixels.transpose(2, 0, 1), alpha).transpose(1, 2, 0)
    except RasterioError as error:
        raise DataError(
            f"cannot be decoded ({str(error).splitlines()[0]})",
            where=path,
            remedy=f"The file is broken or not a {kind}: restore or remove it.",
        ) from error
    if profile is not None and profile.mode == {1: "L", 3: "RGB"}.get(pixels.shape[2]):
        pixels = profile.pixels(pixels)
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    return DecodedImage(pixels, alpha)


def is_premultiplied(path: Path) -> bool:
    """Return whether a TIFF says that its colours are multiplied with its alpha.

    GDAL does not tell.
    """
    try:
        with opened_image(path, ("TIFF",)) as image:
            extra = getattr(image, "tag_v2", {}).get(EXTRA_SAMPLES, ())
            return ASSOCIATED in (extra if isinstance(extra, tuple) else (extra,))
    except (OSError, SyntaxError, ValueError, EOFError):
        return False


def unmultiplied(values: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """Return the colours, [B,h,w], that were multiplied with an alpha band, [h,w], of one type."""
    top = np.iinfo(values.dtype).max if values.dtype.kind in "ui" else 1.0
    share = np.maximum(alpha, np.finfo(np.float32).tiny) / top
    whole = np.minimum(values / share, top)
    found: NDArray[Any] = np.rint(whole) if values.dtype.kind in "ui" else whole
    return found.astype(values.dtype)


def profile_of(raster: Any) -> ColourProfile | None:
    """Return the colour profile of what rasterio opened, or None where none changes anything."""
    text = raster.tags(ns="COLOR_PROFILE").get("SOURCE_ICC_PROFILE", "")
    try:
        return read_profile(base64.b64decode(text))
    except ValueError:
        return None
