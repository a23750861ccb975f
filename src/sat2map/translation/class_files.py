"""The class map of a scene, how sure it is, and what lies beside them: names, checks, writing."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from sat2map.arguments import check_fields
from sat2map.atomic import check_file_name
from sat2map.errors import UsageError, expect
from sat2map.geo.grid import Grid
from sat2map.legend import COVER, LEGEND_TAG, ROAD_WIDTH_TAG, Legend
from sat2map.raster.legend_files import (
    attribute_file,
    style_file,
    write_attributes,
    write_legend_image,
    write_style,
)
from sat2map.raster.named import KINDS, Named
from sat2map.raster.output import write_raster
from sat2map.raster.strips import Layout, Strips
from sat2map.translation.maps import Layer, check_layers
from sat2map.translation.translator import Translator

ClassLegend = Literal["cover", "map"]

NODATA = 255
"""Stands in a class map where the scene has no values."""

ROOM = 4
"""Bytes of the disk that a pixel of one raster may take while it is made: as a strip, and again
in the file with its overviews."""


@dataclass(frozen=True)
class ClassFiles:
    """Where the classes of a scene are written to.

    Attributes:
        classes: The class map, NAME.tif.
        confidence: How likely it is that the class is right, 0 to 1 as 0 to 255, NAME.tif; None for
            none.
        legend: "cover" for what is on the ground, "map" for the classes that the model draws.
        qgis_style: Whether QGIS's style is written beside the class map, NAME.qml.
        legend_image: A picture of the legend, NAME.png; None for none.
        min_confidence: Where a class is less likely than this to be right, 0 to 1, there is none.
    """

    classes: Path
    confidence: Path | None = None
    legend: ClassLegend = "cover"
    qgis_style: bool = False
    legend_image: Path | None = None
    min_confidence: float = 0.0

    def __post_init__(self) -> None:
        for name in ("classes", "confidence", "legend_image"):
            given = getattr(self, name)
            expect(given, (str, Path), name, "Give a file's name.", none=name != "classes")
            if isinstance(given, str):
                object.__setattr__(self, name, Path(given))
        check_fields(self, "qgis_style", "min_confidence")
        if not 0 <= self.min_confidence <= 1:
            raise UsageError(
                f"is {self.min_confidence:g}",
                parameter="min_confidence",
                remedy="Choose 0 to 1, such as 0.7.",
            )
        if not isinstance(self.legend, str) or self.legend not in get_args(ClassLegend):
            raise UsageError(
                f"{self.legend!r} does not say which classes are meant",
                parameter="legend",
                remedy="Choose cover or map.",
            )

    @property
    def rasters(self) -> dict[Path, Layer]:
        """The rasters, and what of the model's answers each holds."""
        layers: tuple[Layer, Layer] = ("classes", "confidence")
        if self.legend == "cover":
            layers = ("cover", "cover_confidence")
        named = (self.classes, self.confidence)
        return {file: layer for file, layer in zip(named, layers, strict=True) if file is not None}

    @property
    def least(self) -> tuple[Layer, int] | None:
        """The layer that says where there is a class, and the least value of it; None of none."""
        if self.min_confidence == 0:
            return None
        layer: Layer = "cover_confidence" if self.legend == "cover" else "confidence"
        return layer, math.ceil(self.min_confidence * 255 - 1e-9)

    @property
    def files(self) -> list[Path]:
        """All that is written."""
        style = style_file(self.classes) if self.qgis_style else None
        wanted = (self.confidence, style, self.legend_image)
        beside = [file for file in wanted if file is not None]
        return [self.classes, attribute_file(self.classes), *beside]

    def legend_of(self, translator: Translator) -> Legend:
        """Return what the numbers of the class map mean."""
        if self.legend == "cover":
            return COVER
        assert translator.legend is not None  # or `check` had refused it
        return translator.legend

    def width_tags(self, translator: Translator) -> dict[str, str]:
        """Return what the class map says of the widths of its roads."""
        return road_width_tags(translator) if self.legend == "cover" else {}

    def check(self, translator: Translator) -> None:
        """Refuse what cannot be written, before the work.

        Raises:
            UsageError: The model has no classes, or the names do not fit.
            OutputError: There is a folder where a file is to be.
        """
        layers = dict.fromkeys(self.rasters.values())
        if self.least is not None:
            layers[self.least[0]] = None
        check_layers(tuple(layers), translator.kind, translator.name)
        for file in self.rasters:
            if KINDS.get(file.suffix.lower()) != "tiff":
                raise UsageError(
                    "is not a name for a class map or its confidence",
                    where=file,
                    remedy="End it in .tif.",
                )
        if self.legend_image is not None and self.legend_image.suffix.lower() != ".png":
            raise UsageError(
                "is not a name for a picture of the legend",
                where=self.legend_image,
                remedy="End it in .png.",
            )
        for file in self.files:
            check_file_name(file)

    def layout_of(self, file: Path, grid: Grid, masked: bool, translator: Translator) -> Layout:
        """Return what one of `rasters` consists of.

        Args:
            file: The raster.
            grid: Its grid.
            masked: Whether some pixels of the scene may have no values.
            translator: The model.
        """
        if file == self.classes:
            return Layout(grid, True, self.legend_of(translator), NODATA)
        return Layout(grid, masked, values=1)

    def write(
        self,
        file: Path,
        strips: Strips,
        folder: Path,
        tags: Mapping[str, str],
        stop: threading.Event,
    ) -> None:
        """Make one of `rasters` of all its strips, and the class map's small files before it.

        Args:
            file: The raster.
            strips: What it is made of.
            folder: Where it is made, on the same disk.
            tags: What it says of its making.
            stop: Asks to stop once it is set.
        """
        legend = strips.layout.legend
        if legend is not None:
            tags = {**tags, LEGEND_TAG: json.dumps(legend.to_json())}
            write_attributes(file, legend)
            if self.qgis_style:
                write_style(file, legend)
            if self.legend_image is not None:
                write_legend_image(self.legend_image, legend)
        write_raster(strips, folder, Named(file, "tiff"), tags, stop)


def road_width_tags(translator: Translator) -> dict[str, str]:
    """Return the tag by which a land cover says that its roads are as wide as roads are."""
    error = translator.road_width_error_m
    return {} if error is None else {ROAD_WIDTH_TAG: f"{error:g}"}
