"""A giant scene in blocks of rows, which are translated by themselves and joined at the end.

    rows of windows      block 0 |===========|
                         block 1             |===========|
                         block 2                         |========|
    strips               map-000000000.tif, map-000001024.tif, ...      of each block
    joined               one file with its overviews

A block is rows of the windows that the whole scene has, each seen with its halo, so the strips are
those that one pass over the scene writes, and so is what is made of them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sat2map.raster.options import SceneOptions
from sat2map.raster.partial import Partial
from sat2map.raster.sources import Source
from sat2map.raster.strips import TILE
from sat2map.translation.pipeline import Product, ScenePipeline
from sat2map.translation.scene_view import SceneView
from sat2map.translation.translator import Translator


@dataclass(frozen=True)
class Blocks:
    """One block of rows of a scene, or all of them.

    Attributes:
        folder: Where strips wait for the others: those of a block are moved there, and all are
            moved away to be joined. It lies on the disk on which the map is made.
        count: How many blocks there are.
        number: Which one is made, from 0; None joins all.
        prefix: What the names of strips begin with in the folder.
    """

    folder: Path
    count: int
    number: int | None = None
    prefix: str = ""

    def run(
        self,
        pipeline: ScenePipeline,
        products: Sequence[Product],
        partial: Partial,
        target: Path,
        stop: threading.Event,
    ) -> None:
        """Make the strips of the block, or take over those of all blocks.

        Args:
            pipeline: The scene on its way.
            products: The rasters that are written.
            partial: Where the strips are made.
            target: The map, for messages.
            stop: Asks to stop once it is set.

        Raises:
            StoppedError: `stop` is set.
            OSError: The disk is full, or a strip is missing.
        """
        if self.number is None:
            partial.take_over(self.folder, self.prefix, pipeline.height)
            for product in products:
                product.strips.adopt()
            return
        partial.rows, until = pipeline.block(self.number, self.count)
        pipeline.run(list(products), partial, target, stop, None, until)
        partial.hand_over(self.folder, self.prefix)
        partial.discard()


def count_blocks(source: Source, translator: Translator, options: SceneOptions, most: int) -> int:
    """Return in how many blocks a scene is translated; 1 is in one go.

    Args:
        source: The scene.
        translator: The model.
        options: Settings of the translation; as published, a scene is one window.
        most: Pixels of the scene that are translated in one go.

    Raises:
        DataError: The scene cannot be read.
        UsageError: The options do not fit it.
    """
    grid = source.grid
    is_small = grid is not None and grid.height * grid.width <= most
    if is_small or options.mode == "published":
        return 1
    with SceneView(source, translator, options, say=lambda _: None) as view:
        part = view.part
        return min(-(-part.height * part.width // most), max(part.height // TILE, 1))
