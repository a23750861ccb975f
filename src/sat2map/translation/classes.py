"""A class map of a scene without its map, from file to file."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from sat2map.arguments import checks_arguments
from sat2map.errors import expect
from sat2map.raster.options import SceneOptions
from sat2map.raster.sources import Source
from sat2map.translation.class_files import ClassFiles, ClassLegend
from sat2map.translation.scene import translate_scene
from sat2map.translation.translator import Translator, translator_of


@checks_arguments
def translate_classes(
    input: str | Path | Source,
    classes: str | Path | ClassFiles,
    model: str | Path | Translator | None = None,
    options: SceneOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
    *,
    confidence: str | Path | None = None,
    legend: ClassLegend = "cover",
) -> Path:
    """Make a class map of a scene of any size, without its map.

    Everything is as `translate_raster` does it. The class map is a Cloud Optimized GeoTIFF, uint8,
    with the colours of the legend, and `NODATA` where the scene has no values. Its tag `LEGEND_TAG`
    says what the numbers mean, and NAME.tif.aux.xml beside it tells GDAL their names.

    Args:
        input: As for `translate_raster`.
        classes: The class map, NAME.tif, or what all is written.
        model: As for `translate_raster`; one with classes.
        options: Settings of the translation. With `resolution="model"` the class map has the
            network's own grid.
        progress: Called with (done, all) pixels of the class map.
        stop: Another thread or a signal's handler sets it to have the work stop soon.
        confidence: Where `classes` is a name: where to write how likely it is that the class is
            right, 0 to 1 as 0 to 255, uint8, on the same grid; masked where the scene has no
            values.
        legend: Where `classes` is a name: "cover" for what is on the ground, "map" for the classes
            that the model draws.

    Returns:
        The class map.

    Raises:
        DataError: The scene cannot be read, or has no valid pixel.
        ModelError: The model's folder is missing or damaged.
        UsageError: The model has no classes, or the options or names do not fit.
        OutputError: The place is not writable or the disk is full.
        StoppedError: `stop` is set.
    """
    model = translator_of(model)
    expect(options, SceneOptions, "options", "Give SceneOptions.", none=True)
    if not isinstance(classes, ClassFiles):
        expect(classes, (str, Path), "classes", "Give the name of the class map.")
        beside = None if confidence is None else Path(confidence)
        classes = ClassFiles(Path(classes), beside, legend)
    chosen = options or SceneOptions()
    translate_scene(input, None, model, chosen, progress, stop, classes=classes)
    return classes.classes
