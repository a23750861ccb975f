"""The translator: a model that answers arrays of any size with arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from sat2map.card import ModelCard
from sat2map.errors import UsageError
from sat2map.networks.values import round_picture
from sat2map.translation.runtimes.interface import Output, Runtime, RuntimeName
from sat2map.translation.runtimes.open import OpenModel, open_model
from sat2map.translation.tiling import OVERLAP, WINDOW, Span, blend_rows, mirrored, spans

if TYPE_CHECKING:
    import torch

    from sat2map.model import Model
    from sat2map.translation.runtimes.torch import TorchRuntime

MAX_PUBLISHED_PIXELS = 16_000_000


class Translator:
    """Translates pictures with one model.

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
    """

    def __init__(self, model: Model | OpenModel, device: torch.device | str | None = None) -> None:
        self.card: ModelCard = model.card
        self.name = model.name
        self._model = model
        self._torch: TorchRuntime | None = None
        self._runtime: Runtime
        if isinstance(model, OpenModel):
            self._runtime = model.runtime
        else:
            from sat2map.translation.runtimes.torch import TorchRuntime

            self._runtime = self._torch = TorchRuntime(model.network, device)
        self.device = self._runtime.device
        self.runtime: RuntimeName = self._runtime.name
        self.runtime_version = self._runtime.version
        self.multiple = self._runtime.multiple

    def digest(self) -> str:
        """Return a short text that another card, runtime or device, or other weights, change."""
        text = f"{self.card.model_dump_json()} {self.runtime} {self._runtime.digest()}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def translate(
        self,
        source: NDArray[np.uint8],
        *,
        published: bool = False,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.uint8]:
        """Translate one picture.

        By default prediction is deterministic: dropout is off, and normalisation uses the
        statistics that were stored with the model, so that every window is treated alike and
        pictures of any size come out without seams. As published, dropout is on and
        normalisation uses the statistics of the picture itself (Isola et al. 2017, section
        3.3), which therefore passes as a whole.

        Args:
            source: uint8 [H,W,C] with the bands of `card.bands`, any H and W from 1 up.
            published: Predict as published.
            seed: Seed of the dropout as published.
            progress: Called with (done, all) windows.

        Returns:
            uint8 [H,W,out_channels].

        Raises:
            UsageError: The array is not uint8 with the model's bands, or too large to be
                predicted as published.
        """
        bands = len(self.card.bands)
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != bands:
            raise UsageError(
                f"the model takes uint8 [H,W,{bands}], not {source.dtype} {list(source.shape)}",
                remedy=f"Give it the bands {', '.join(self.card.bands)}, 0 to 255.",
            )
        if 0 in source.shape:
            raise UsageError("the picture has no pixels", remedy="Give at least one.")
        if published:
            return self._translate_published(source, seed)
        height, width, _ = source.shape
        window = -(-WINDOW // self.multiple) * self.multiple
        rows = spans(height, window, OVERLAP, self.multiple)
        columns = spans(width, window, OVERLAP, self.multiple)
        result: NDArray[np.uint8] | None = None
        strips = self._strips(source, rows, columns, progress)
        for top, strip in blend_rows(rows, strips):
            pixels = round_picture(strip[: height - top])
            if result is None:
                result = np.empty((height, width, strip.shape[2]), np.uint8)
            result[top : top + len(pixels)] = pixels
        assert result is not None
        return result

    def predict(self, window: NDArray[np.uint8], output: Output = "picture") -> NDArray[np.float32]:
        """Return what the network makes of one window, deterministically.

        This is for those who lay and blend windows themselves; `translate` does it for arrays.

        Args:
            window: uint8 [h,w,C], both sides multiples of `multiple`.
            output: "picture", or of a model with a legend head "probabilities".

        Returns:
            float32 [h,w,channels]: colours, about -1 to 1, or probabilities of the classes.
        """
        values: NDArray[np.float32] = self._runtime.run(window[None], output)[0]
        return values

    def _strips(
        self,
        source: NDArray[np.uint8],
        rows: list[Span],
        columns: list[Span],
        progress: Callable[[int, int], None] | None,
    ) -> Iterator[NDArray[np.float32]]:
        """Yield each row of windows, blended from left to right, float32 [size,W,C]."""
        height, width, _ = source.shape
        done = 0
        for row in rows:
            strip: NDArray[np.float32] | None = None
            for column in columns:
                window = source[
                    mirrored(row.start, row.size, height)[:, None],
                    mirrored(column.start, column.size, width)[None, :],
                ]
                values = self.predict(window)
                if strip is None:
                    strip = np.zeros((row.size, width, values.shape[2]), np.float32)
                stop = min(column.start + column.size, width)
                kept = stop - column.start
                strip[:, column.start : stop] += (
                    values[:, :kept] * column.weights()[None, :kept, None]
                )
                done += 1
                if progress is not None:
                    progress(done, len(rows) * len(columns))
            assert strip is not None
            yield strip

    def _translate_published(self, source: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        height, width, _ = source.shape
        if height * width > MAX_PUBLISHED_PIXELS:
            raise UsageError(
                f"{width} x {height} pixels are too many to be predicted as published, which "
                "takes the whole picture at once",
                remedy="Predict deterministically, or cut the picture into parts.",
            )
        rows = mirrored(0, -(-height // self.multiple) * self.multiple, height)
        columns = mirrored(0, -(-width // self.multiple) * self.multiple, width)
        pixels = source[rows[:, None], columns[None, :]]
        if self._torch is None:
            assert isinstance(self._model, OpenModel)
            self._torch = self._model.with_torch()
        answer = self._torch.run_published(pixels[None], seed)
        return round_picture(answer[0, :height, :width])


def load(
    name_or_folder: str | Path,
    device: torch.device | str | None = None,
    *,
    runtime: Literal["auto"] | RuntimeName = "auto",
    threads: int | None = None,
) -> Translator:
    """Load a model for translation.

    Args:
        name_or_folder: A model folder, or what `sat2map export` wrote.
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
            where="runtime",
            remedy="Choose auto, torch, openvino or onnx.",
        )
    chosen = None if runtime == "auto" else runtime
    return Translator(open_model(Path(name_or_folder), device, chosen, threads))
