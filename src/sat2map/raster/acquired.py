"""When a scene was taken, as its tags say it."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

_TAGS = (
    ("IMAGERY", "ACQUISITIONDATETIME"),  # what GDAL reads of the metadata of satellites
    (None, "EXIF_DateTimeOriginal"),
    (None, "TIFFTAG_DATETIME"),
)


def acquired(dataset: Any) -> str | None:
    """Return when a raster was taken, or None where no tag says it.

    Args:
        dataset: What rasterio opened.

    Returns:
        A time as in RFC 3339, in UTC, which is meant where no zone is named; of a day alone its
        first and last second, with a slash between.
    """
    for space, name in _TAGS:
        tags = dataset.tags(ns=space) if space else dataset.tags()
        text = str(tags.get(name, "")).strip()
        if text[4:5] == text[7:8] == ":":  # of TIFF and EXIF
            text = text.replace(":", "-", 2)
        with suppress(ValueError, OverflowError):
            time = datetime.fromisoformat(text)
            time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
            if len(text) == len("2026-11-29"):
                return f"{_written(time)}/{_written(time.replace(hour=23, minute=59, second=59))}"
            return _written(time)
    return None


def _written(time: datetime) -> str:
    return time.replace(tzinfo=None).isoformat() + "Z"
