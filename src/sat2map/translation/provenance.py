"""What a translation is made of and how, as its journal and its outputs say it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import rasterio

import sat2map
from sat2map.journal import Files
from sat2map.provenance import Ingredient, Provenance
from sat2map.raster.acquired import acquired
from sat2map.raster.options import SceneOptions
from sat2map.raster.sources import Source
from sat2map.translation.class_files import ClassFiles
from sat2map.translation.pipeline import blended
from sat2map.translation.translator import Translator


def made_of(
    translator: Translator,
    input: Mapping[str, Any],
    options: SceneOptions,
    classes: ClassFiles | None = None,
) -> dict[str, Any]:
    """Return all that a result is made of, so that it can be told from another.

    Args:
        translator: The model.
        input: The fingerprint of what is translated.
        options: Settings of the translation.
        classes: What else is made in the same pass.
    """
    parameters = asdict(options) | {"mask": None if options.mask is None else options.mask.name}
    del parameters["resume"]  # attribution and licence stay: they stand in the files
    masks: tuple[Path, ...] = ()
    if options.mask is not None:
        from sat2map.raster.mask import vector_files

        masks = vector_files(options.mask)
    if classes is not None:
        parameters["classes"] = [*classes.rasters.values(), classes.min_confidence]
    return {
        **input,
        "mask": Files(masks),
        "model": translator.fingerprint(),
        "set of parameters": parameters,
        "version of sat2map or rasterio": f"{sat2map.__version__} {rasterio.__version__}",
        "runtime": f"{translator.runtime} {translator.runtime_version}",
    }


def provenance_of(
    translator: Translator,
    source: Source,
    options: SceneOptions,
    *,
    is_warped: bool = False,
    tagged: Any = None,
) -> Provenance:
    """Return what an image of a scene is made of and how.

    Args:
        translator: The model.
        source: The scene.
        options: Settings of the translation.
        is_warped: Whether it was warped to a straight grid.
        tagged: What rasterio opened, whose tags may say when the scene was taken, and whom those
            who show it are to name.
    """
    settings = asdict(options)
    for name in ("resume", "compare", "attribution", "licence"):
        del settings[name]
    settings["mask"] = None if options.mask is None else options.mask.name
    settings["reading"]["warp"] = is_warped
    settings |= windows_of(translator, options)
    if translator.samples is not None:
        settings["samples"] = asdict(translator.samples)
    if translator.other_colours is not None:
        settings["colours"] = translator.other_colours
    named = None if tagged is None else tagged.tags().get("TIFFTAG_COPYRIGHT")
    return Provenance(
        "image",
        Ingredient(source.name, source.content_fingerprint()),
        Ingredient(translator.name, translator.identity, translator.card.data.licence),
        json.loads(json.dumps(settings)),
        runtime_of(translator),
        translator.precision,
        sat2map.__version__,
        options.licence,
        named if options.attribution is None else options.attribution,
        None if tagged is None else acquired(tagged),
    )


def runtime_of(translator: Translator) -> str:
    """Return what runs a model and where, and what reads its scenes, with their versions."""
    return f"{translator.runs_on}, GDAL {rasterio.__gdal_version__}"


def windows_of(translator: Translator, options: SceneOptions) -> dict[str, int]:
    """Return how the scene was cut."""
    frame = None if options.mode == "published" else translator.frame(options.window)
    if frame is None:
        return dict(zip(("window", "overlap"), blended(options), strict=True))
    return {"window": frame.core, "halo": frame.halo}
