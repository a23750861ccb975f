"""Which windows an axis has, and which pixels each of them completes: pure geometry.

Canonical windows, for networks that look only so far: cores lie side by side, from the scene's own
origin on, and each is seen with the same halo around it. Beyond the scene it is mirrored. The last
core of an axis ends with the scene, or as soon after it as the network can:

           halo      core 0       halo
         |~~~~~~|===============|~~~~~~|
                |        |~~~~~~|===============|~~~~~~|              window 1
                |               |        |~~~~~~|=========|~~~~~~|    window 2
                0             core           2 core       |
         mirrored                                         the scene's end, mirrored beyond

What a window sees, and its shape, on which rounding may depend, follow from its number and the
scene alone. So whoever asks for it gets the same, whatever else is asked for.

Windows that overlap are for networks that see everything at once, such as the published U-Net;
no halo is enough for them, so neighbours are blended.

The network sees a scene on one grid; the map may lie on a finer or coarser one over the same
ground. Along one axis, with two windows that overlap (cores do not, so there is no ~ between them):

    seen by the network
        window 1    |==================|~~~~~~~~~|
        window 2                       |~~~~~~~~~|==================|
                    |               |  |         |
                    needed_from     |  |         stop of window 1
                    of window 1     |  complete_until of window 1: where window 2 starts
                                    needed_from of window 2

    written to the map
                    |  piece 1       |  piece 2                     |
                    out_start        out_stop of window 1, out_start of window 2

In the overlap (~) the weight of window 1 falls while that of window 2 rises. What lies left of
`complete_until` no later window adds to, so it can be resampled and written: that is the
window's piece of the map, from `out_start` to `out_stop`. A pixel of the map is made of several
seen ones, so the next piece needs some that are complete already, from `needed_from` on. Where
both grids are the same, a piece is what was completed, but for the alignment of pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sat2map.geo.windows import Span, spans
from sat2map.raster.resampling import resampling

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from sat2map.model.card import ModelCard


CORE = 1024
"""Side of a core, unless said otherwise."""

MOST_BYTES = 2**28
"""The largest tensor in the network while it answers one window, in float32, unless cores of
`SMALLEST` need more."""

SMALLEST = 256


@dataclass(frozen=True)
class Frame:
    """What canonical windows look like.

    Attributes:
        core: Side of what a window yields, in pixels that the network sees.
        halo: How much more it sees on each side.
        multiple: What both are multiples of.
    """

    core: int
    halo: int
    multiple: int = 1

    @property
    def size(self) -> int:
        """Side of what a window sees, those at the end of a scene left aside."""
        return self.core + 2 * self.halo

    def count(self, length: int) -> int:
        """Return how many windows an axis of `length` seen pixels has."""
        return -(-length // self.core)

    def span(self, number: int, length: int) -> Span:
        """Return the core of a window, of an axis of `length` seen pixels.

        The last one may reach beyond its end, up to a multiple of what the network needs.
        """
        start = number * self.core
        left = -(-(length - start) // self.multiple) * self.multiple
        return Span(start, min(self.core, left), 0, 0)


def choose_frame(card: ModelCard, multiple: int, core: int | None = None) -> Frame | None:
    """Return the canonical windows of a model, or None where no halo is enough.

    Args:
        card: Its card.
        multiple: What sides must be multiples of.
        core: The side of the core; None takes `CORE`, or half of it and so on until the
            largest tensor in the network is no larger than `MOST_BYTES`.
    """
    spec = card.generator
    halo = spec.reach if card.halo is None else card.halo
    if halo is None:
        return None
    side = core or CORE
    while True:
        frame = Frame(-(-side // multiple) * multiple, -(-halo // multiple) * multiple, multiple)
        if core or side <= SMALLEST or largest_tensor(card, frame) <= MOST_BYTES:
            return frame
        side //= 2


def largest_tensor(card: ModelCard, frame: Frame) -> int:
    """Return the bytes of the largest tensor while the network answers one window, in float32.

    It follows from the card alone, so that windows are the same on every runtime; tests compare it
    with the graphs of torch and of OpenVINO.
    """
    return int(4 * card.generator.widest * frame.size**2)


@dataclass(frozen=True)
class AxisWindow:
    """One window along one axis; the drawing above shows its bounds.

    Attributes:
        span: The window, in pixels that the network sees.
        weights: Its blending weights within the scene, float32 [n], n at most `span.size`; None
            for a core, which nothing is blended with.
        needed_from: First seen pixel that is still needed when this window comes.
        complete_until: One past the last seen pixel that no later window adds to.
        stop: One past the last seen pixel that a window so far adds to.
        out_start: First pixel of the map in this window's piece.
        out_stop: One past its last.
        matrix: How the piece is made of the seen pixels from `needed_from` to
            `complete_until`, float32 [out_stop - out_start, complete_until - needed_from],
            sparse; None where both grids are the same.
        shift: Where the map's first pixel lies, in seen pixels, where both grids are the same.
    """

    span: Span
    weights: NDArray[np.float32] | None
    needed_from: int
    complete_until: int
    stop: int
    out_start: int
    out_stop: int
    matrix: csr_array | None
    shift: int = 0

    def part(self, start: int, stop: int) -> csr_array | slice:
        """Return how pixels of the map, all of this piece, are made of the complete seen ones.

        Args:
            start: First pixel of the map.
            stop: One past the last.

        Returns:
            Some rows of `matrix`, or which of the complete pixels they are.
        """
        if self.matrix is None:
            first = self.shift - self.needed_from
            return slice(start + first, stop + first)
        return self.matrix[start - self.out_start : stop - self.out_start]


def lay_windows(
    seen: int, written: int, window: int, overlap: int, multiple: int, align: int = 1
) -> list[AxisWindow]:
    """Lay windows along an axis.

    The weights of every seen pixel sum to one, and the pieces of the map follow each other
    without gap or overlap.

    Args:
        seen: Pixels of the axis that the network sees.
        written: Pixels of the map's axis over the same ground.
        window: Size of a window, a multiple of `multiple`.
        overlap: What neighbours share, at most half of the window.
        multiple: What sizes are multiples of.
        align: Pieces start at multiples of this.
    """
    laid = spans(seen, window, overlap, multiple)
    weights = [span.weights()[: min(span.size, seen - span.start)] for span in laid]
    return _place(laid, weights, seen, written, 0, written, align)


def lay_cores(
    seen: int, written: int, frame: Frame, start: int = 0, stop: int | None = None, align: int = 1
) -> list[AxisWindow]:
    """Lay the canonical windows along an axis, those that a part of the map needs.

    Args:
        seen: Pixels of the axis that the network sees, of the whole scene.
        written: Pixels of the axis over the same ground on the map's grid.
        frame: What windows look like.
        start: First of these that are wanted.
        stop: One past the last, by default all.
        align: Pieces start at multiples of this, from `start` on.

    Returns:
        Windows whose `span` is a core; the halo is the reader's. What is written counts from
        `start`.
    """
    stop = written if stop is None else stop
    made_from, made_until, _ = _made_of(seen, written, start, stop)
    first, last = int(made_from[0]) // frame.core, (int(made_until[-1]) - 1) // frame.core
    laid = [frame.span(number, seen) for number in range(first, last + 1)]
    return _place(laid, [None] * len(laid), seen, written, start, stop, align)


def _made_of(
    seen: int, written: int, start: int, stop: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], csr_array | None]:
    """Return for written pixels the first seen one that each is made of, one past the last, how."""
    if seen == written:
        same = np.arange(start, stop, dtype=np.int64)
        return same, same + 1, None
    whole = resampling(seen, written, start, stop)
    return whole.indices[whole.indptr[:-1]], whole.indices[whole.indptr[1:] - 1] + 1, whole


def _place(
    laid: list[Span],
    weights: Sequence[NDArray[np.float32] | None],
    seen: int,
    written: int,
    start: int,
    stop: int,
    align: int,
) -> list[AxisWindow]:
    """Find out which pixels of the map each window completes."""
    made_from, made_until, whole = _made_of(seen, written, start, stop)
    windows: list[AxisWindow] = []
    needed_from, out_start = int(made_from[0]), 0
    for i, (span, weight) in enumerate(zip(laid, weights, strict=True)):
        complete_until, out_stop = int(made_until[-1]), stop - start
        if i + 1 < len(laid):
            complete_until = laid[i + 1].start
            ready = int(np.searchsorted(made_until, complete_until, side="right"))
            out_stop = max(ready // align * align, out_start)
        matrix = None if whole is None else whole[out_start:out_stop, needed_from:complete_until]
        windows.append(
            AxisWindow(
                span,
                weight,
                needed_from,
                complete_until,
                min(span.start + span.size, seen),
                out_start,
                out_stop,
                matrix,
                start,
            )
        )
        if out_stop < stop - start:
            needed_from = min(int(made_from[out_stop]), complete_until)
        out_start = out_stop
    return windows
