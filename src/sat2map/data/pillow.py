"""Images opened with Pillow whatever their size, its guard against huge ones left as it is.

`Image.open` warns of images of more than `Image.MAX_IMAGE_PIXELS`, and refuses those twice as
large. That bound is the whole process's, and ours is another one, so images are opened by the
classes of their formats, which ask for it only of WebP. (GDAL would read all of them, but JPEG with
other colours: it smooths chroma otherwise, by up to 16 of 255 on smooth images.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import (  # each plugin enters its format into `Image.OPEN`
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)
from PIL.ImageFile import ImageFile


@contextmanager
def opened_image(path: Path, formats: Sequence[str]) -> Iterator[ImageFile]:
    """Open an image by its content, and read its header only.

    Args:
        path: The file, whatever its suffix.
        formats: Some of "PNG", "JPEG", "WEBP" and "TIFF".

    Raises:
        UnidentifiedImageError: It is of none of the formats.
        Image.DecompressionBombError: It is a WebP of more than twice the guard.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(16)
        for name in formats:
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
