"""Images opened with Pillow whatever their size, its guard against huge ones left as it is.

`Image.open` warns of images of more than `Image.MAX_IMAGE_PIXELS`, and refuses those twice as
large. That bound is the whole process's, and ours is another one, so images are opened by the
classes of their formats, which ask for it only of WebP. (GDAL would read all of them, but JPEG with
other colours: it smooths chroma otherwise, by up to 16 of 255 on smooth images.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

_PLUGINS = {
    "PNG": "PngImagePlugin",
    "JPEG": "JpegImagePlugin",
    "WEBP": "WebPImagePlugin",
    "AVIF": "AvifImagePlugin",
    "TIFF": "TiffImagePlugin",
}
"""What enters each format into `Image.OPEN`, imported for an image that may have it."""

HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
"""What files of phones say they are, beside the general mif1 and msf1."""

JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")


@contextmanager
def opened_image(path: Path, formats: Sequence[str]) -> Iterator[ImageFile]:
    """Open an image by its content, and read its header only.

    Args:
        path: The file, whatever its suffix.
        formats: Some of "PNG", "JPEG", "WEBP", "AVIF" and "TIFF".

    Raises:
        UnidentifiedImageError: It is of none of the formats.
        Image.DecompressionBombError: It is a WebP of more than twice the guard.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(16)
        for name in formats:
            import_module(f"PIL.{_PLUGINS[name]}")
            factory, accepts = Image.OPEN[name]
            if accepts is None or accepts(start) is True:
                file.seek(0)
                try:
                    image = factory(file, str(path))
                except SyntaxError:
                    continue
                yield image
                return
    raise UnidentifiedImageError(f"none of {', '.join(formats)}")


def special_kind(path: Path) -> str | None:
    """Return what an image is that Pillow alone does not read, "HEIC" or "JPEG XL", or None.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(JPEG_XL):
        return "JPEG XL"
    if start[4:8] != b"ftyp":
        return None
    size = min(int.from_bytes(start[:4], "big"), len(start))
    brands = {start[at : at + 4] for at in (8, *range(16, size, 4))}
    return "HEIC" if brands & HEIC_BRANDS else None


def open_heic(path: Path) -> Any:
    """Open a HEIC by its content with pillow_heif, which is not among our dependencies.

    Its plug-in for Pillow would change the whole process, so it is not registered.

    Returns:
        What has a `size`, and `to_pillow()`, which decodes it.

    Raises:
        ImportError: pillow_heif is not installed.
        OSError: It cannot be read.
    """
    import pillow_heif

    return pillow_heif.open_heif(path)
