"""A scene as it lies before a model: opened, at the scale that suits the model, and looked at.

Whoever translates a scene, and whoever tells what translating it would say, opens it here, so both
give the same notices.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sat2map.closing import Closing
from sat2map.geo.grid import Grid, Part, window_of
from sat2map.raster.options import SceneOptions
from sat2map.raster.resampled import ResampledScene
from sat2map.raster.scale import Scale, choose_scale
from sat2map.raster.scene import Scene
from sat2map.raster.sources import Source
from sat2map.translation.translator import Translator
from sat2map.translation.unfamiliar import strange_scene

if TYPE_CHECKING:
    from sat2map.raster.mask import Mask

logger = logging.getLogger(__name__)


class SceneView(Closing):
    """An open scene, and how a model is to see it. Use it in a `with` statement.

    Args:
        source: As for `translate_raster`.
        translator: The model; None where nobody is to translate it, so that no scale is wrong.
        options: Settings of the translation.
        part: Which of the scene's pixels are wanted, in place of a `bbox`; for models with
            canonical windows, which are those of the whole scene.
        straight: Whether the map must lie on a straight grid, as tiles and images do.
        say: Called with each notice of the scene, of its scale and of the mask.

    Attributes:
        scene: The scene.
        part: Which of its pixels are wanted.
        scale: At which resolution it is seen and its map written.
        seen: The scene on the network's grid.
        mask: Where a map is wanted, if not everywhere.

    Raises:
        DataError: The scene cannot be read.
        UsageError: The options do not fit it.
    """

    def __init__(
        self,
        source: str | Path | Source,
        translator: Translator | None,
        options: SceneOptions,
        *,
        part: Part | None = None,
        straight: bool = False,
        say: Callable[[str], object] = logger.warning,
    ) -> None:
        reading, bbox = options.reading, options.reading.bbox
        if straight or options.mask is not None:  # which know places on a straight grid only
            reading = replace(reading, warp=True)
        canonical = (
            translator is not None
            and options.mode != "published"
            and translator.frame(options.window) is not None
        )
        if canonical:  # its windows are those of the whole scene, whatever is wanted of it
            reading = replace(reading, bbox=None, warp=reading.warp or bbox is not None)
        bands = 3 if translator is None else len(translator.card.bands)
        known = (0.0, math.inf) if translator is None else translator.card.resolution_m
        self.scene = Scene(source, bands, reading, say=say)
        try:
            grid, where = self.scene.grid, self.scene.source.where
            if part is None:
                part = Part(0, 0, grid.height, grid.width)
                if canonical and bbox is not None:
                    part = Part(*window_of(grid, bbox, where))
            self.part = part
            self.scale: Scale = choose_scale(
                grid,
                known,
                options.resolution,
                where,
                say,
                pixel_size=reading.pixel_size,
                part=self.wanted,
            )
            self.mask: Mask | None = None
            if options.mask is not None:
                from sat2map.raster.mask import Mask  # and shapely, which few need

                self.mask = Mask(options.mask, self.wanted, where, say)
            self.seen = ResampledScene(self.scene, *self.scale.seen)
            if translator is not None:
                strange = strange_scene(translator, self.seen, part.on(grid, self.seen.grid))
                if strange is not None:
                    say(f"{where}: {strange}")
        except BaseException:
            self.close()
            raise

    @property
    def wanted(self) -> Grid:
        """The grid of the wanted pixels, as fine as the scene's."""
        part = self.part
        return self.scene.grid.part(part.top, part.left, part.height, part.width)

    def close(self) -> None:
        """Close the scene."""
        self.scene.close()
