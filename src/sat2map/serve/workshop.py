"""What all scenes of a server share: the model, and where results are made and kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sat2map.errors import UsageError
from sat2map.raster.options import Reading
from sat2map.serve.memory import RecentMemory
from sat2map.serve.pool import WindowPool
from sat2map.serve.results import IN_MEMORY
from sat2map.serve.styles import MapStyle, styles_of
from sat2map.serve.window_store import WindowStore
from sat2map.translation.class_files import ClassLegend
from sat2map.translation.translator import Translator


@dataclass(frozen=True)
class ServeOptions:
    """How scenes are served.

    Attributes:
        reading: How values become pixels; its `bbox` is left aside.
        styles: Names of shipped styles, and JSON files of colours; maps are shown in the first
            unless another is asked for. See `styles_of`.
        class_legend: "cover" for what is on the ground, "map" for the classes that are drawn.
        window: Side of what a window of the model yields; None chooses as `translate` does.
        trust_vrt: Whether virtual rasters may name files outside of their folder.
        cache_bytes: Bytes that results may take on the disk; None takes half of the cache.
    """

    reading: Reading = field(default_factory=Reading)
    styles: tuple[str, ...] = ()
    class_legend: ClassLegend = "cover"
    window: int | None = None
    trust_vrt: bool = False
    cache_bytes: int | None = None


class Workshop:
    """What all scenes of a server share: the model, and where results are made and kept.

    Args:
        load: Loads the model; called once, when a photo needs it. None shows photos as they are.
        options: How scenes are served.
        say: Called with notices of scenes.

    Attributes:
        styles: What maps of the model are shown in, the usual one first; known with the model.
    """

    def __init__(
        self,
        load: Callable[[], Translator] | None,
        options: ServeOptions,
        say: Callable[[str], object],
    ) -> None:
        self.options, self.say = options, say
        self.has_model = load is not None
        self.store = WindowStore(options.cache_bytes)
        self.memory: RecentMemory[NDArray[np.uint8]] = RecentMemory(IN_MEMORY, lambda a: a.nbytes)
        self.pool = WindowPool()
        self.styles: dict[str, MapStyle] = {}
        self._load = load
        self._translator: Translator | None = None

    @property
    def translator(self) -> Translator:
        """The model, loaded when it is needed first.

        Raises:
            UsageError: Its network sees the whole image, so no tile stands alone.
            ModelError: The folder is missing or damaged.
        """
        if self._translator is None:
            assert self._load is not None
            translator = self._load()
            if translator.frame() is None:
                raise UsageError(
                    "its network sees the whole image, so no tile of a map stands alone",
                    where=translator.name,
                    remedy="Write the map first, with `sat2map translate`, and serve it in place "
                    "of the photo; or choose a model whose network is `compact` or `lite`, such as "
                    "streets.",
                )
            self.styles = styles_of(translator, self.options.styles)
            self._translator = translator
        return self._translator

    @property
    def model_name(self) -> str | None:
        """What the model is called, where one was needed."""
        return None if self._translator is None else self._translator.name

    @property
    def instructions(self) -> str | None:
        """Which of the processor's instructions the model's convolutions use, where it is known."""
        return None if self._translator is None else self._translator.instructions
