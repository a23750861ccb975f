"""What every runtime offers, so that a translator need not know which one it has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sat2map.legend import Legend

RuntimeName = Literal["torch", "openvino", "onnx"]

Precision = Literal["f32", "bf16", "int8"]
"""What a network computes in: float32; float32 rounded to 8 bits of precision for products, where
the processor has that; or 8-bit integers, in files that were quantised."""

Asked = Literal[
    "colours",
    "probabilities",
    "cover_probabilities",
    "image",
    "classes",
    "cover",
    "confidence",
    "cover_confidence",
    "cover_shares",
    "colour_shares",
    "votes",
]
"""What one pass of a network can be asked for.

The first three are its values, float32 [N,H,W,channels]: colours, about -1 to 1; with a legend
head the probabilities of the classes of the map; with a head for land cover those of the classes
on the ground. The others are uint8, made of the values where the network runs, so that a few
bytes leave it for each pixel:

- `image` [N,H,W,channels]: the colours, 0 to 255; of a legend head mixed of those of the legend;
- `classes` [N,H,W]: the number of the most probable class of the map;
- `cover` [N,H,W]: that of the most probable class on the ground. Without a head for it the
  probabilities of the map's classes that are drawn for the same are added up;
- `confidence`, `cover_confidence` [N,H,W]: the probability of the most probable class, 0 to 1 as 0
  to 255;
- `cover_shares` [N,H,W,classes]: the probabilities of the classes on the ground, 0 to 1 as 0
  to 255;
- `colour_shares` [N,H,W,classes]: how much of the colour of each class of the map is in the image
  of a legend head, 0 to 1 as 0 to 255. Of these the image follows in any colours.

`votes`, float32 [N,H,W,classes], are not of one pass and no runtime answers them: a translator
that is `sampled` counts in how many passes with dropout a pixel has each class of the map.
"""

Answers = dict[Asked, NDArray[Any]]
"""What was asked for."""

VALUES = frozenset({"colours", "probabilities", "cover_probabilities", "votes"})
"""What is float32; everything else is uint8."""


class Runtime(Protocol):
    """Runs one network, deterministically."""

    @property
    def name(self) -> RuntimeName:
        """Name of the runtime."""

    @property
    def version(self) -> str:
        """Version of the runtime."""

    @property
    def device(self) -> str:
        """Device on which it runs, as torch names it."""

    @property
    def precision(self) -> Precision:
        """What it computes in."""

    @property
    def multiple(self) -> int:
        """What the height and width of the source must be multiples of."""

    @property
    def at_once(self) -> int:
        """How many calls of `run` with a halo it answers at once, each faster than in turn."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the network answers by itself: see `networks/portable.py`."""

    def run(
        self,
        source: NDArray[np.uint8],
        asked: Sequence[Asked],
        legend: Legend | None = None,
        halo: int = 0,
    ) -> Answers:
        """Translate a batch of images of one size, in one pass.

        Args:
            source: uint8 [N,H,W,bands].
            asked: What is wanted; colours and images of every network, the others of those with
                such a head.
            legend: The classes of a legend head: in its colours is the image, and by its roles
                cover follows from the classes.
            halo: How many pixels along each edge of the source the answers leave out: a multiple
                of `multiple`, of a network that looks only so far.

        Returns:
            What was asked for; see `Asked`.
        """

    def fingerprint(self) -> str:
        """Return a short text that other weights or another device change."""

    def instructions(self) -> str | None:
        """Return which of the processor's instructions convolutions use, such as `avx512`.

        None where it is not known, as before anything was run.
        """


def without_halo(answers: Answers, halo: int) -> Answers:
    """Return answers without so many pixels along each edge."""
    if not halo:
        return answers
    inside = slice(halo, -halo)
    return {name: answer[:, inside, inside] for name, answer in answers.items()}


def threads_or_default(threads: int | None) -> int | None:
    """Return how many threads a runtime gets; None leaves it to the runtime.

    Where nobody says, $OMP_NUM_THREADS does, which torch follows by itself.
    """
    if threads is not None:
        return threads
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdecimal() and int(told) > 0 else None
