"""Where the pixels of a served scene come from, for what is exported of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sat2map
from sat2map.geo.grid import Part
from sat2map.legend import ROAD_WIDTH_TAG
from sat2map.provenance import TAG, Ingredient, Provenance
from sat2map.raster.acquired import acquired
from sat2map.raster.options import SceneOptions
from sat2map.raster.sources import Source
from sat2map.serve.styles import MapStyle
from sat2map.translation.class_files import road_width_tags
from sat2map.translation.provenance import provenance_of

if TYPE_CHECKING:
    from sat2map.translation.translator import Translator


@dataclass(frozen=True)
class Origin:
    """Where the pixels of an open scene come from.

    Attributes:
        source: The photo, or a map that was written earlier.
        layers: What each layer that a model makes is called in `Provenance.layer`.
        translator: The model; None where nothing is made by one.
        options: How it translates.
        is_warped: Whether the scene was warped to a straight grid for it.
    """

    source: Source
    layers: Mapping[str, str] = field(default_factory=dict)
    translator: Translator | None = None
    options: SceneOptions = field(default_factory=SceneOptions)
    is_warped: bool = False

    def provenance(
        self, layer: str, part: Part, style: MapStyle | None, attribution: str | None
    ) -> Provenance:
        """Return what a part of a layer is made of and how.

        Args:
            layer: The layer.
            part: Which pixels of its grid.
            style: Its colours; None is the usual ones.
            attribution: Whom those who show it are to name; None takes what the scene says.

        Raises:
            DataError: The files are gone.
        """
        made = self._translated if layer in self.layers else self._as_it_is
        place = {"part": [part.top, part.left, part.height, part.width]}
        settings: dict[str, Any] = {**made.settings, **place}
        if layer == "map" and self.translator is not None and self.translator.answers_in_classes:
            settings["painted"] = "from kept shares"  # which are rounded, to be had in any style
        if style is not None and layer == "map" and self.translator is not None:
            if style.legend == self.translator.card.legend:
                settings.pop("colours", None)
            else:
                settings["colours"] = style.legend.named_colours
        return replace(
            made,
            layer=self.layers.get(layer, "image" if layer == "map" else layer),
            settings=settings,
            attribution=made.attribution if attribution is None else attribution,
        )

    def road_width_tags(self) -> dict[str, str]:
        """Return the tag by which classes say that their roads are as wide as roads are."""
        if self.translator is not None:
            cover = self.layers.get("classes") == "cover"
            return road_width_tags(self.translator) if cover else {}
        with self.source.open() as dataset:
            return {k: v for k, v in dataset.tags().items() if k == ROAD_WIDTH_TAG}

    @cached_property
    def _translated(self) -> Provenance:
        assert self.translator is not None
        with self.source.open() as dataset:
            return provenance_of(
                self.translator,
                self.source,
                self.options,
                is_warped=self.is_warped,
                tagged=dataset,
            )

    @cached_property
    def _as_it_is(self) -> Provenance:
        with self.source.open() as dataset:
            before = Provenance.from_text(dataset.tags().get(TAG), self.source.where)
            named, taken = dataset.tags().get("TIFFTAG_COPYRIGHT"), acquired(dataset)
        return Provenance(
            "photo",
            Ingredient(self.source.name, self.source.content_fingerprint()),
            None,
            {},
            None,
            None,
            sat2map.__version__,
            None if before is None else before.licence,
            named,
            taken if before is None else before.acquired,
            made_from=before,
        )
