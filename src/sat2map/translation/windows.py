"""Which windows an axis has, and which pixels each of them completes: pure geometry.

The network sees a scene on one grid; the map may lie on a finer or coarser one over the same
ground. Along one axis, with two windows that overlap:

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

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sat2map.geo.windows import Span, spans
from sat2map.raster.resampling import resampling

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True)
class AxisWindow:
    """One window along one axis; the drawing above shows its bounds.

    Attributes:
        span: The window, in pixels that the network sees.
        weights: Its blending weights within the scene, float32 [n], n at most `span.size`.
        needed_from: First seen pixel that is still needed when this window comes.
        complete_until: One past the last seen pixel that no later window adds to.
        stop: One past the last seen pixel that a window so far adds to.
        out_start: First pixel of the map in this window's piece.
        out_stop: One past its last.
        matrix: How the piece is made of the seen pixels from `needed_from` to
            `complete_until`, float32 [out_stop - out_start, complete_until - needed_from],
            sparse; None where both grids are the same.
    """

    span: Span
    weights: NDArray[np.float32]
    needed_from: int
    complete_until: int
    stop: int
    out_start: int
    out_stop: int
    matrix: csr_array | None

    def part(self, start: int, stop: int) -> csr_array | slice:
        """Return how pixels of the map, all of this piece, are made of the complete seen ones.

        Args:
            start: First pixel of the map.
            stop: One past the last.

        Returns:
            Some rows of `matrix`, or which of the complete pixels they are.
        """
        if self.matrix is None:
            return slice(start - self.needed_from, stop - self.needed_from)
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
    whole: csr_array | None = None
    # Of each written pixel the first seen one that it is made of, and one past the last.
    made_from, made_until = np.arange(written), np.arange(written) + 1
    if seen != written:
        whole = resampling(seen, written)
        made_from = whole.indices[whole.indptr[:-1]]
        made_until = whole.indices[whole.indptr[1:] - 1] + 1
    laid = spans(seen, window, overlap, multiple)
    windows: list[AxisWindow] = []
    needed_from = out_start = 0
    for i, span in enumerate(laid):
        stop = min(span.start + span.size, seen)
        complete_until, out_stop = seen, written
        if i + 1 < len(laid):
            complete_until = laid[i + 1].start
            ready = int(np.searchsorted(made_until, complete_until, side="right"))
            out_stop = max(ready // align * align, out_start)
        matrix = None if whole is None else whole[out_start:out_stop, needed_from:complete_until]
        weights = span.weights()[: stop - span.start]
        windows.append(
            AxisWindow(
                span, weights, needed_from, complete_until, stop, out_start, out_stop, matrix
            )
        )
        if out_stop < written:
            needed_from = min(int(made_from[out_stop]), complete_until)
        out_start = out_stop
    return windows
