"""What a batch makes of each of its scenes, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

from sat2map.arguments import check_fields
from sat2map.errors import UsageError, expect
from sat2map.raster.options import SceneOptions
from sat2map.runtimes.interface import Precision, RuntimeName
from sat2map.translation.class_files import ClassFiles, ClassLegend
from sat2map.translation.image import compare_name
from sat2map.vectors.vectorise import VectorOptions

SPLIT_ABOVE = 2_000_000_000
"""Pixels of a scene beyond which it is made in blocks, unless said otherwise."""


@dataclass(frozen=True)
class BatchOptions:
    """What is made of each scene, and how.

    Attributes:
        scene: Settings of the translation; with `compare` there is STEM.compare.tif, too, and
            `resume` is of no use here.
        classes: Also write STEM.classes.tif, the class map.
        confidence: Also write STEM.confidence.tif, how sure the classes are.
        class_legend: What the class map holds: land cover, or what the map draws.
        qgis_style: Also write QGIS's style of the class map.
        legend_image: Also write STEM.legend.png, a picture of what its colours mean.
        samples: How many passes with dropout vote for the classes, with the seed of `scene`; None
            where one pass without answers.
        min_confidence: Less sure ground has no class, 0 to 1.
        vectors: Also write STEM.gpkg, the vectors that `vectorise_photo` makes in this way.
        colours: What the map's classes are painted in; None is as the model has it.
        runtime: What runs the network; "auto" is decided once, for all scenes.
        precision: What it computes in; "auto" is decided once, for all scenes.
        split_above: A scene of more pixels is made in blocks of rows, each as if it were a scene,
            which are joined at the end; what comes out is the same. None splits none.
        threads: How many threads it has in each worker. The last bits may depend on it, so it does
            not follow from the number of workers.
    """

    scene: SceneOptions = field(default_factory=SceneOptions)
    classes: bool = False
    confidence: bool = False
    class_legend: ClassLegend = "cover"
    qgis_style: bool = False
    legend_image: bool = False
    samples: int | None = None
    min_confidence: float = 0.0
    vectors: VectorOptions | None = None
    colours: Mapping[str, object] | None = None
    runtime: Literal["auto"] | RuntimeName = "auto"
    precision: Literal["auto"] | Precision = "auto"
    threads: int = 1
    split_above: int | None = SPLIT_ABOVE

    def __post_init__(self) -> None:
        check_fields(self, *(one.name for one in fields(self) if one.name != "scene"))
        expect(self.scene, SceneOptions, "scene", "Give SceneOptions.")
        for parameter, given in (
            ("confidence", self.confidence),
            ("qgis_style", self.qgis_style),
            ("legend_image", self.legend_image),
            ("min_confidence", self.min_confidence > 0),
        ):
            if given and not self.classes:
                raise UsageError(
                    "goes with `classes`, and there are none",
                    parameter=parameter,
                    remedy="Give `classes`, too.",
                )
        if self.samples is not None and not self.classes and self.vectors is None:
            raise UsageError(
                "goes with `classes` or `vectors`, and there are none",
                parameter="samples",
                remedy="Give `classes`, too.",
            )
        if self.split_above is not None and self.split_above < 1:
            raise UsageError(
                f"is {self.split_above}", parameter="split_above", remedy="Give 1 or more pixels."
            )
        for parameter, given in (
            ("resume", self.scene.resume),
            ("mask", self.scene.mask is not None and self.vectors is not None),
        ):
            if given:
                raise UsageError(
                    "is not done for a batch" if parameter != "mask" else "is not for vectors",
                    parameter=parameter,
                    remedy="Leave it out.",
                )

    def class_files(self, map_file: Path) -> ClassFiles | None:
        """Return where the classes of a scene go, beside its map; None of none."""
        if not self.classes:
            return None
        beside = map_file.with_name(f"{map_file.stem}.confidence.tif")
        return ClassFiles(
            map_file.with_name(f"{map_file.stem}.classes.tif"),
            beside if self.confidence else None,
            self.class_legend,
            self.qgis_style,
            map_file.with_name(f"{map_file.stem}.legend.png") if self.legend_image else None,
            self.min_confidence,
        )

    @property
    def vectors_told(self) -> VectorOptions | None:
        """How vectors are made, with the attribution and the licence of the maps."""
        if self.vectors is None:
            return None
        told = {
            name: getattr(self.vectors, name) or getattr(self.scene, name)
            for name in ("attribution", "licence")
        }
        return replace(self.vectors, **told)

    def vector_file(self, map_file: Path) -> Path | None:
        """Return where the vectors of a scene go, beside its map; None of none."""
        return None if self.vectors is None else map_file.with_suffix(".gpkg")

    def files(self, name: str) -> list[str]:
        """Return the names of all that is made of a scene, told from the folder.

        Args:
            name: Its map's.
        """
        classes, vectors = self.class_files(Path(name)), self.vector_file(Path(name))
        compared = [compare_name(Path(name))] if self.scene.compare else []
        beside = [
            *compared,
            *([] if classes is None else classes.files),
            *([vectors] if vectors else []),
        ]
        return [name, *(file.as_posix() for file in beside)]
