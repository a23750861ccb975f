"""Which pixels of a map are finished after which window, along one axis: pure geometry.

The windows lie on the grid that the network sees; the map may lie on another over the same
ground. What is finished of the one is resampled to the other piece by piece, and each piece
gets as many of its neighbour's pixels as its own edge needs.
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
class Placement:
    """One window along one axis. Seen pixels are the network's, written ones the map's.

    Attributes:
        span: The window.
        weights: Its blending weights within the scene, float32 [n], n at most `span.size`.
        begin: First seen pixel that is still needed when this window comes.
        finish: One past the last seen pixel that no later window contributes to.
        end: One past the last seen pixel that a window so far contributes to.
        first: First written pixel of this window's piece.
        last: One past its last.
        matrix: How the piece is made of the seen pixels from `begin` to `finish`, float32
            [last - first, finish - begin], sparse.
    """

    span: Span
    weights: NDArray[np.float32]
    begin: int
    finish: int
    end: int
    first: int
    last: int
    matrix: csr_array


def placements(
    seen: int, written: int, window: int, overlap: int, multiple: int, align: int
) -> list[Placement]:
    """Lay windows along an axis.

    The weights of every seen pixel sum to one, and the pieces from `first` to `last` follow
    each other without gap or overlap.

    Args:
        seen: Pixels of the axis that the network sees.
        written: Pixels of the map's axis over the same ground.
        window: Size of a window, a multiple of `multiple`.
        overlap: What neighbours share, at most half of the window.
        multiple: What sizes are multiples of.
        align: Pieces start at multiples of this.
    """
    whole = resampling(seen, written)
    needs = whole.indices[whole.indptr[:-1]]  # of each written pixel the first that it needs
    needed = whole.indices[whole.indptr[1:] - 1] + 1
    laid = spans(seen, window, overlap, multiple)
    placed: list[Placement] = []
    begin = first = 0
    for i, span in enumerate(laid):
        end = min(span.start + span.size, seen)
        finish, last = seen, written
        if i + 1 < len(laid):
            finish = laid[i + 1].start
            ready = int(np.searchsorted(needed, finish, side="right"))
            last = max(ready // align * align, first)
        matrix = whole[first:last, begin:finish]
        weights = span.weights()[: end - span.start]
        placed.append(Placement(span, weights, begin, finish, end, first, last, matrix))
        if last < written:
            begin = min(int(needs[last]), finish)
        first = last
    return placed
