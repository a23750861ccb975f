"""The translator: a model that answers arrays of any size with arrays."""

from __future__ import annotations

import copy
import hashlib
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from itertools import chain, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from sat2map.errors import UsageError
from sat2map.geo.windows import OVERLAP, WINDOW, Span, mirrored
from sat2map.legend import cover_of
from sat2map.model.card import ModelCard, model_folder
from sat2map.networks.values import round_image
from sat2map.runtimes.interface import Output, Runtime, RuntimeName
from sat2map.runtimes.open import OpenModel, open_model
from sat2map.translation.blending import blend
from sat2map.translation.windows import AxisWindow, lay_windows

if TYPE_CHECKING:
    import torch

    from sat2map.model.folder import Model
    from sat2map.runtimes.torch import TorchRuntime

MAX_PUBLISHED_PIXELS = 16_000_000


class Translator:
    """Translates images with one model.

    Threads may call it at once, in either mode: each gets what it would get alone.

    Args:
        model: A network in hand, which torch runs, or what `open_model` returns.
        device: Where a network in hand runs; None picks CUDA, then MPS, then the CPU.

    Attributes:
        card: The model's card.
        name: What people call the model.
        device: Where it runs, as torch calls it.
        runtime: What runs it: torch, openvino or onnx.
        runtime_version: Which version of it.
        multiple: What the sides of a window must be multiples of.
        legend: The classes of the map, in the colours that they are painted in, or None.
        answers_in_classes: Whether it has a legend head.
        answers_in_cover: Whether it has a head for land cover.
    """

    def __init__(self, model: Model | OpenModel, device: torch.device | str | None = None) -> None:
        self.card: ModelCard = model.card
        self.name = model.name
        self._model = model
        self._torch: TorchRuntime | None = None
        self._torch_lock = threading.Lock()  # another runtime's model is loaded once for it
        self._runtime: Runtime
        if isinstance(model, OpenModel):
            self._runtime = model.runtime
        else:
            from sat2map.runtimes.torch import TorchRuntime

            self._runtime = self._torch = TorchRuntime(model.network, device)
        self.device = self._runtime.device
        self.runtime: RuntimeName = self._runtime.name
        self.runtime_version = self._runtime.version
        self.multiple = self._runtime.multiple
        self.legend = self.card.legend
        self.answers_in_classes = "probabilities" in self._runtime.outputs
        self.answers_in_cover = "cover" in self._runtime.outputs
        self._output: Output = "probabilities" if self.answers_in_classes else "picture"

    @property
    def depth(self) -> int:
        """How many channels `predict` gives: colours, or classes of a legend head."""
        if self.answers_in_classes and self.legend is not None:
            return len(self.legend)
        return self.card.generator.out_channels

    def digest(self) -> str:
        """Return a short text that another card, runtime or device, or other weights, change."""
        colours = None if self.legend is None else self.legend.to_json()
        text = f"{self.card.model_dump_json()} {colours} {self.runtime} {self._weights}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @cached_property
    def _weights(self) -> str:
        """Their digest, which takes a while and is asked for by every file of a folder."""
        return self._runtime.digest()

    @overload
    def translate(
        self,
        source: NDArray[np.uint8],
        *,
        published: bool = ...,
        seed: int = ...,
        output: Literal["image", "classes", "cover", "picture"] = ...,
        progress: Callable[[int, int], None] | None = ...,
    ) -> NDArray[np.uint8]: ...

    @overload
    def translate(
        self,
        source: NDArray[np.uint8],
        *,
        published: bool = ...,
        seed: int = ...,
        output: Literal["probabilities"],
        progress: Callable[[int, int], None] | None = ...,
    ) -> NDArray[np.float32]: ...

    def translate(
        self,
        source: NDArray[np.uint8],
        *,
        published: bool = False,
        seed: int = 0,
        output: Literal["image", "classes", "cover", "probabilities", "picture"] = "image",
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[Any]:
        """Translate one image.

        By default prediction is deterministic: dropout is off, and normalisation uses the
        statistics that were stored with the model, so that every window is treated alike and
        images of any size come out without seams. As published, dropout is on and
        normalisation uses the statistics of the image itself (Isola et al. 2017, section
        3.3), which therefore passes as a whole.

        Args:
            source: uint8 [H,W,C] with the bands of `card.bands`, any H and W from 1 up.
            published: Predict as published.
            seed: Seed of the dropout as published.
            output: "image"; of a model with a legend "classes", the numbers of those that
                the pixels belong to, or "cover", those of the legend `COVER`: what is on the
                ground; or with a legend head the "probabilities" of all classes.
            progress: Called with (done, all) windows.

        Returns:
            The image, uint8 [H,W,out_channels], which of a model with a legend head has the
            colours of the classes, mixed along their edges; the classes or the cover, uint8
            [H,W]; or the probabilities, float32 [H,W,K], 0 to 1.

        Raises:
            UsageError: The array is not uint8 with the model's bands, or too large to be
                predicted as published, or the model has no legend or no legend head.
        """
        bands = len(self.card.bands)
        if not isinstance(source, np.ndarray):
            raise UsageError(
                f"is a {type(source).__name__}, not an array of numpy",
                parameter="source",
                remedy="Give numpy.asarray of an image, or tensor.numpy() as uint8 [H,W,C].",
            )
        if output == "picture":
            warnings.warn(
                'output="picture" is now called "image"', DeprecationWarning, stacklevel=2
            )
            output = "image"
        if output not in ("image", "classes", "cover", "probabilities"):
            raise UsageError(
                f"{output!r} is not an output",
                parameter="output",
                remedy="Choose image, classes, cover or probabilities.",
            )
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != bands:
            raise UsageError(
                f"the model takes uint8 [H,W,{bands}], not {source.dtype} {list(source.shape)}",
                remedy=f"Give it the bands {', '.join(self.card.bands)}, 0 to 255.",
            )
        if 0 in source.shape:
            raise UsageError("the image has no pixels", remedy="Give at least one.")
        if output in ("classes", "cover") and self.legend is None:
            raise UsageError(
                "the model has no legend",
                where=self.name,
                remedy="Ask for the image, or choose a model with a legend.",
            )
        if output == "probabilities" and not self.answers_in_classes:
            raise UsageError(
                "the model answers in colours, not in probabilities",
                where=self.name,
                remedy="Ask for the image, or train with generator.head = legend.",
            )
        finish: dict[str, Callable[[NDArray[np.float32]], NDArray[Any]]] = {
            "image": self.paint,
            "classes": self.classes,
            "cover": self.cover,
            "probabilities": np.asarray,
        }
        asked: Output = self._output
        if output == "cover" and self.answers_in_cover:
            asked = "cover"
        if published:
            return finish[output](self.predict_published(source, seed, asked))
        height, width, _ = source.shape
        window = -(-WINDOW // self.multiple) * self.multiple
        rows = lay_windows(height, height, window, OVERLAP, self.multiple)
        columns = lay_windows(width, width, window, OVERLAP, self.multiple)
        if len(rows) == len(columns) == 1:  # nothing to blend it with
            pixels = self._window(source, rows[0].span, columns[0].span)
            if output == "image" and self.legend == self.card.legend:
                # The network mixes the colours faster than `paint` does.
                answer = round_image(self._runtime.run(pixels[None], "picture")[0])
            else:
                answer = finish[output](self.predict(pixels, asked))
            if progress is not None:
                progress(1, 1)
            return answer[:height, :width]
        result: NDArray[Any] | None = None
        answers = self._answers(source, rows, columns, asked, progress)
        first = next(answers)
        for row, column, values in blend(rows, columns, chain((first,), answers), first.shape[2]):
            finished = finish[output](values)
            if result is None:
                result = np.empty((height, width, *finished.shape[2:]), finished.dtype)
            result[row.out_start : row.out_stop, column.out_start : column.out_stop] = finished
        assert result is not None
        return result

    def predict(
        self, window: NDArray[np.uint8], output: Output | None = None
    ) -> NDArray[np.float32]:
        """Return what the network makes of one window, deterministically.

        This is for those who lay and blend windows themselves; `translate` does it for arrays.
        The image comes of it by `paint`. Classes are blended by their probabilities, so that
        one is chosen once, where all windows have had their say.

        Args:
            window: uint8 [h,w,C], both sides multiples of `multiple`.
            output: What to ask the network for; None asks for what `depth` describes.

        Returns:
            float32 [h,w,depth]: colours, about -1 to 1, or with a legend head the
            probabilities of the classes.
        """
        values: NDArray[np.float32] = self._runtime.run(window[None], output or self._output)[0]
        return values

    def paint(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the image, uint8 [H,W,C], of what `predict` gave, blended or not.

        Probabilities to the power of `SHARPNESS` mix the colours of the classes.
        """
        if not self.answers_in_classes:
            return round_image(values)
        assert self.legend is not None
        colours = np.ones((len(self.legend), 4), np.float32)  # the last one adds up the weights
        colours[:, :3] = self.legend.colours
        sharp = np.square(np.square(values))  # `SHARPNESS`, much faster than by `**`
        mixed = sharp.reshape(-1, len(colours)) @ colours
        pixels: NDArray[np.uint8] = np.rint(mixed[:, :3] / mixed[:, 3:]).astype(np.uint8)
        return pixels.reshape(*values.shape[:2], 3)

    def classes(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the class of each pixel, uint8 [H,W], of what `predict` gave.

        It is the most probable one, or of a model that answers in colours the one with the
        nearest colour in its legend.
        """
        assert self.legend is not None
        if not self.answers_in_classes:
            return self.legend.label(self.paint(values))
        numbers: NDArray[np.uint8] = values.argmax(2).astype(np.uint8)
        return numbers

    def cover(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return what is on the ground, uint8 [H,W], numbers of `COVER`.

        Without a head for land cover it follows from the classes of the map by their roles.

        Args:
            values: What `predict` gave, blended or not, where there is such a head for "cover".
        """
        if self.answers_in_cover:
            told: NDArray[np.uint8] = values.argmax(2).astype(np.uint8)
            return told
        assert self.legend is not None
        numbers: NDArray[np.uint8] = np.take(cover_of(self.legend), self.classes(values))
        return numbers

    def in_colours(self, colours: Mapping[str, object]) -> Translator:
        """Return a translator that paints the same classes in other colours.

        Args:
            colours: As for `Legend.in_colours`.

        Raises:
            UsageError: The model has no legend head.
            DataError: A class or a colour does not fit.
        """
        if not self.answers_in_classes or self.legend is None:
            raise UsageError(
                "the model answers in colours, which are those that it was trained on",
                where=self.name,
                remedy="Leave out the style, or use a model with a legend head.",
            )
        other = copy.copy(self)
        other.legend = self.legend.in_colours(colours)
        return other

    def _answers(
        self,
        source: NDArray[np.uint8],
        rows: list[AxisWindow],
        columns: list[AxisWindow],
        asked: Output,
        progress: Callable[[int, int], None] | None,
    ) -> Iterator[NDArray[np.float32]]:
        """Yield what the network makes of each window, float32 [h,w,C]."""
        for done, (row, column) in enumerate(product(rows, columns), 1):
            answer = self.predict(self._window(source, row.span, column.span), asked)
            if progress is not None:
                progress(done, len(rows) * len(columns))
            yield answer

    @staticmethod
    def _window(source: NDArray[np.uint8], row: Span, column: Span) -> NDArray[np.uint8]:
        """Return a window, mirrored where it reaches beyond the image."""
        height, width, _ = source.shape
        inside = source[row.start :, column.start :][: row.size, : column.size]
        if inside.shape[:2] == (row.size, column.size):
            return inside
        rows = mirrored(row.start, row.size, height)
        columns = mirrored(column.start, column.size, width)
        return source[rows[:, None], columns[None, :]]

    def predict_published(
        self, source: NDArray[np.uint8], seed: int = 0, output: Output | None = None
    ) -> NDArray[np.float32]:
        """Return what the network makes of a whole image as published; see `translate`.

        Args:
            source: uint8 [H,W,C], any H and W from 1 up.
            seed: Seed of the dropout.
            output: As for `predict`.

        Returns:
            float32 [H,W,depth], as `predict` gives it.

        Raises:
            UsageError: The image is too large, or the model cannot be run like this.
        """
        height, width, _ = source.shape
        if height * width > MAX_PUBLISHED_PIXELS:
            raise UsageError(
                f"{width} x {height} pixels are too many to be predicted as published, which "
                "takes the whole image at once",
                remedy="Predict deterministically, or cut the image into parts.",
            )
        rows = mirrored(0, -(-height // self.multiple) * self.multiple, height)
        columns = mirrored(0, -(-width // self.multiple) * self.multiple, width)
        pixels = source[rows[:, None], columns[None, :]]
        with self._torch_lock:
            if self._torch is None:
                assert isinstance(self._model, OpenModel)
                self._torch = self._model.with_torch()
        answer = self._torch.run_published(pixels[None], seed, output or self._output)
        return answer[0, :height, :width]


def load(
    name_or_folder: str | Path,
    device: torch.device | str | None = None,
    *,
    runtime: Literal["auto"] | RuntimeName = "auto",
    threads: int | None = None,
) -> Translator:
    """Load a model for translation.

    Args:
        name_or_folder: A shipped model's name first, otherwise a model folder, or what
            `sat2map export` wrote.
        device: Where it runs; None picks CUDA, then MPS, then the CPU.
        runtime: "torch", "openvino", "onnx", or "auto" for the fastest one: torch on a GPU and
            OpenVINO on a CPU, with the int8 files that a folder carries.
        threads: How many threads it uses on a CPU; None leaves it to the runtime.

    Raises:
        ModelError: The folder is missing or damaged.
        UsageError: The runtime does not run on that device, or cannot run this model.
        MissingExtraError: The runtime is not installed.
    """
    if runtime not in ("auto", "torch", "openvino", "onnx"):
        raise UsageError(
            f"{runtime!r} is no runtime",
            parameter="runtime",
            remedy="Choose auto, torch, openvino or onnx.",
        )
    chosen = None if runtime == "auto" else runtime
    return Translator(open_model(model_folder(name_or_folder), device, chosen, threads))
