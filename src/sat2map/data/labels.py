"""Class numbers of the targets of decoded pairs, kept beside the pairs in the cache.

Labels are taken at the scale of the files, where a map's colours are pure: shrunk first, a
road beside land would be a mixed colour, which is near that of a building.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sat2map.atomic import atomic_file
from sat2map.data.cache import DecodedPairs, in_order
from sat2map.legend import Legend
from sat2map.user_cache import cache_folder, making, mark_used


def label_targets(
    pairs: DecodedPairs, legend: Legend, progress: Callable[[int, int], None] | None = None
) -> NDArray[np.uint8]:
    """Return the class of each pixel of the targets; found once, later mapped from the cache.

    Args:
        pairs: Decoded pairs whose targets have three bands.
        legend: The classes.
        progress: Called with (done, all) images while labelling.

    Returns:
        uint8 [N,H,W], memory-mapped.

    Raises:
        OutputError: The cache cannot be written.
    """
    path = _place(pairs, legend)
    if not path.is_file():
        with making(path):
            if not path.is_file():  # another process has not made it meanwhile
                _label_all(path, pairs, legend, progress)
    mark_used(path)
    labels: NDArray[np.uint8] = np.load(path, mmap_mode="c")
    return labels


def _place(pairs: DecodedPairs, legend: Legend) -> Path:
    """Return a name that other pixels or another legend would change."""
    told = json.dumps([pairs.fingerprint, legend.to_json()])
    fingerprint = hashlib.sha256(told.encode()).hexdigest()[:20]
    return cache_folder() / "labels" / f"{fingerprint}.npy"


def _label_all(
    path: Path,
    pairs: DecodedPairs,
    legend: Legend,
    progress: Callable[[int, int], None] | None,
) -> None:
    def label(i: int) -> bytes:
        target = np.ascontiguousarray(pairs.pixels[i, :, :, pairs.source_channels :])
        return legend.label(target).tobytes()

    shape = pairs.pixels.shape[:3]
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with (
        atomic_file(path) as aside,
        aside.open("wb") as file,
        closing(in_order(label, range(len(pairs)))) as labelled,
    ):
        np.lib.format.write_array_header_1_0(file, header)
        for done, labels in enumerate(labelled, 1):
            file.write(labels)
            if progress is not None:
                progress(done, len(pairs))
