"""Decoded pairs: a memory-mapped uint8 array that every epoch reads at memory speed.

All pairs of a split, at the size that the recipe asks for, lie in one array
[N,H,W,source channels + target channels], so that one slice cuts source and target alike.
The array is kept in the user's cache folder under the data set's path; it is made anew when
a file has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sat2map.atomic import atomic_folder
from sat2map.data.images import in_bands, resize_square
from sat2map.data.pairs import (
    Direction,
    PairFile,
    find_pairs,
    read_dataset_card,
    read_pair,
    refuse_class_numbers,
)
from sat2map.errors import BatchError, DataError, Sat2mapError, parsed_json
from sat2map.journal import Files, as_json
from sat2map.user_cache import cache_folder, making, mark_used

FORMAT = 1

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class DecodedPairs:
    """The pairs of one split.

    Attributes:
        pixels: uint8 [N,H,W,source_channels + target_channels], memory-mapped.
        source_channels: How many of the channels are the source's; they come first.
        native_sides: Smallest and largest height of the files' images before resizing.
        names: The names of the pairs.
        fingerprint: Changes with the files and with how they are decoded.
    """

    pixels: NDArray[np.uint8]
    source_channels: int
    native_sides: tuple[int, int]
    names: tuple[str, ...]
    fingerprint: str

    @property
    def target_channels(self) -> int:
        """How many of the channels are the target's."""
        return int(self.pixels.shape[3]) - self.source_channels

    def __len__(self) -> int:
        return len(self.names)


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item]
) -> Generator[Result, None, None]:
    """Yield what `work` gives for each item, in their order, done by one thread for each core.

    Few results are held at a time, however slowly they are taken: they may be large. Close it
    where it may not come to its end.
    """
    threads = os.cpu_count() or 1
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, "sat2map-decode") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def decode_pairs(
    directory: Path,
    split: str,
    *,
    resize: int | None,
    crop: int,
    direction: Direction = "forward",
    bands: tuple[int | None, int | None] = (None, None),
    progress: Callable[[int, int], None] | None = None,
) -> DecodedPairs:
    """Decode a split once; later calls map the same file.

    Args:
        directory: The data set.
        split: "train", "val" and so on.
        resize: Bring each image to so many pixels a side (Pillow's bicubic), or None to
            keep the images' own pixels.
        crop: The side that will be cropped, for the check that images are large enough.
        direction: "reverse" swaps source and target.
        bands: How many bands sources and targets are kept in: 1 makes grey of colours, None takes
            what the images are decoded as.
        progress: Called with (done, all) while decoding.

    Raises:
        BatchError: Some files cannot be decoded; all of them are named.
        DataError: The pairs have unequal sizes or channels, are smaller than the crop, or their
            targets are class numbers.
        OutputError: The cache cannot be written.
    """
    directory = directory.resolve()
    pairs = find_pairs(directory, split)
    refuse_class_numbers(pairs, direction, read_dataset_card(directory).legend)
    place = f"{directory}|{split}|{resize}|{direction}"
    if bands != (None, None):
        place += f"|{bands}"
    entry = cache_folder() / "pairs" / hashlib.sha256(place.encode()).hexdigest()[:20]
    fingerprint = fingerprint_of(
        FORMAT, directory, (f for pair in pairs for f in (pair.source, pair.target))
    )
    if _read_fingerprint(entry) != fingerprint:
        with making(entry):
            if _read_fingerprint(entry) != fingerprint:  # another process has not made it meanwhile
                _decode_all(entry, fingerprint, pairs, resize, direction, bands, progress)
    mark_used(entry)
    facts = parsed_json((entry / "pairs.json").read_text("utf-8"))
    # "c" is copy on write: torch takes no read-only arrays, and the file stays as it is.
    pixels = np.load(entry / "pixels.npy", mmap_mode="c")
    height, width = pixels.shape[1:3]
    if min(height, width) < crop:
        raise DataError(
            f"has pairs of {width} x {height} pixels, too small to crop {crop} out of them",
            where=directory / split,
            remedy=f"Enlarge them with `data.resize={crop}`, or crop less with `data.size=128`.",
        )
    low, high = facts["native_sides"]
    whole = hashlib.sha256(json.dumps([place, fingerprint]).encode()).hexdigest()
    names = tuple(pair.stem for pair in pairs)
    return DecodedPairs(pixels, facts["source_channels"], (low, high), names, whole)


def fingerprint_of(version: int, directory: Path, files: Iterable[Path]) -> dict[str, object]:
    """Return what changes when a file of a data set, or the format of the cache, does.

    Sizes and times tell of it: to read all contents would take as long as to decode them.
    """
    paths = tuple(dict.fromkeys(files))
    return as_json({"version": version, "files": Files(paths, directory, limit=0)})


def _read_fingerprint(entry: Path) -> object:
    try:
        return parsed_json((entry / "pairs.json").read_text("utf-8"))["state"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _decode_all(
    entry: Path,
    fingerprint: object,
    pairs: list[PairFile],
    resize: int | None,
    direction: Direction,
    bands: tuple[int | None, int | None],
    progress: Callable[[int, int], None] | None,
) -> None:
    def decode(
        pair: PairFile,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], int] | Sat2mapError:
        try:
            source, target = (
                pixels if count is None else in_bands(pixels, count)
                for pixels, count in zip(read_pair(pair, direction), bands, strict=True)
            )
        except Sat2mapError as error:
            return error
        native = source.shape[0]
        if resize is not None:
            source = resize_square(source, resize)
            target = resize_square(target, resize)
        return source, target, native

    failures: list[Sat2mapError] = []
    natives: set[int] = set()
    source_channels, shape, first = 0, (0, 0, 0), pairs[0]
    # Written in order rather than through a memory map, where a full disk kills the process.
    with (
        atomic_folder(entry, replace=True) as aside,
        (aside / "pixels.npy").open("wb") as file,
        closing(in_order(decode, pairs)) as all_decoded,
    ):
        for done, (pair, decoded) in enumerate(zip(pairs, all_decoded, strict=True)):
            if isinstance(decoded, Sat2mapError):
                failures.append(decoded)
                continue
            source, target, native = decoded
            natives.add(native)
            both = np.concatenate([source, target], axis=2)
            if source_channels == 0:
                source_channels, shape, first = source.shape[2], both.shape, pair
                header = {"descr": "|u1", "fortran_order": False, "shape": (len(pairs), *shape)}
                np.lib.format.write_array_header_1_0(file, header)
            if both.shape != shape or source.shape[2] != source_channels:
                failures.append(_differs(pair, both.shape, shape, first))
                continue
            file.write(both.tobytes())
            if progress is not None:
                progress(done + 1, len(pairs))
        if failures:
            raise BatchError(failures, len(pairs) - len(failures))
        facts = {
            "state": fingerprint,
            "source_channels": source_channels,
            "native_sides": [min(natives), max(natives)],
        }
        (aside / "pairs.json").write_text(json.dumps(facts), encoding="utf-8")


def _differs(
    pair: PairFile, shape: tuple[int, ...], expected: tuple[int, ...], first: PairFile
) -> DataError:
    return DataError(
        f"is {shape[1]} x {shape[0]} pixels with {shape[2]} channels in all, but "
        f"{first.source.name} is {expected[1]} x {expected[0]} with {expected[2]}",
        where=pair.source,
        remedy="Give all pairs the same bands and one size, or have them resized with "
        "`data.resize=286`.",
    )
