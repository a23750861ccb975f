"""What every runtime offers, so that a translator need not know which one it has."""

from __future__ import annotations

import os
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

RuntimeName = Literal["torch", "openvino", "onnx"]

Output = Literal["picture", "probabilities", "cover"]
"""What a network can be asked for, as exported files name their outputs: colours ("picture"), with
a legend head also the classes' probabilities, and with a head for land cover those of what is on
the ground."""


class Runtime(Protocol):
    """Runs one network, deterministically."""

    @property
    def name(self) -> RuntimeName:
        """Which runtime it is."""

    @property
    def version(self) -> str:
        """Which version of it."""

    @property
    def device(self) -> str:
        """Where it runs, as torch calls it."""

    @property
    def multiple(self) -> int:
        """What the height and width of the source must be multiples of."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the network can be asked for."""

    def run(self, source: NDArray[np.uint8], output: Output = "picture") -> NDArray[np.float32]:
        """Translate a batch of images of one size.

        Args:
            source: uint8 [N,H,W,bands].
            output: What is wanted, one of `outputs`.

        Returns:
            float32 [N,H,W,channels]: colours, about -1 to 1, or probabilities, 0 to 1.
        """

    def digest(self) -> str:
        """Return a short text that other weights or another device change."""


def threads_or_default(threads: int | None) -> int | None:
    """Return how many threads a runtime gets; None leaves it to the runtime.

    Where nobody says, $OMP_NUM_THREADS does, which torch follows by itself.
    """
    if threads is not None:
        return threads
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdecimal() and int(told) > 0 else None
