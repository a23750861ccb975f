"""The translator: a model that answers arrays of any size with arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sat2map.errors import UsageError
from sat2map.model import Model, ModelCard, load_model
from sat2map.networks.normalisation import as_published
from sat2map.networks.values import from_picture, round_picture, to_pixels
from sat2map.translation.tiling import OVERLAP, WINDOW, Span, blend_rows, mirrored, spans

MAX_PUBLISHED_PIXELS = 16_000_000


class Translator:
    """Translates pictures with one model.

    Args:
        model: What `load_model` returns.
        device: Where the network runs; None picks CUDA, then MPS, then the CPU.

    Attributes:
        card: The model's card.
        name: What people call the model.
        device: Where it runs.
        multiple: What the sides of a window must be multiples of.
    """

    def __init__(self, model: Model, device: torch.device | str | None = None) -> None:
        self.card: ModelCard = model.card
        self.name = model.name
        self.device = default_device() if device is None else torch.device(device)
        self._network: nn.Module = model.network.to(self.device).eval()
        self.multiple = int(getattr(model.network, "multiple", 1))

    def digest(self) -> str:
        """Return a short text that another card, other weights or another device change."""
        digest = hashlib.blake2b(self.card.model_dump_json().encode(), digest_size=16)
        digest.update(f"{self.device.type} {type(self._network).__name__}".encode())
        for name, tensor in self._network.state_dict().items():
            digest.update(name.encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(flat.numpy().data)
        return digest.hexdigest()

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
        window = max(WINDOW, self.multiple)
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

    def predict(self, window: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return what the network makes of one window, deterministically.

        This is for those who lay and blend windows themselves; `translate` does it for arrays.

        Args:
            window: uint8 [h,w,C], both sides multiples of `multiple`.

        Returns:
            float32 [h,w,out_channels], about -1 to 1.
        """
        answer = self._predict(from_picture(window, self.device))
        values: NDArray[np.float32] = answer[0].permute(1, 2, 0).float().cpu().numpy()
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
        tensor = from_picture(source[rows[:, None], columns[None, :]], self.device)
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), as_published(self._network):
            _seed(self.device, seed)
            answer = self._predict(tensor)
        pixels: NDArray[np.uint8] = to_pixels(answer)[0, :height, :width].cpu().numpy()
        return pixels

    @torch.inference_mode()
    def _predict(self, source: Tensor) -> Tensor:
        answer: Tensor = self._network(source)
        return answer


def _seed(device: torch.device, seed: int) -> None:
    """Seed the random numbers of one device and leave the others' alone."""
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def default_device() -> torch.device:
    """Return CUDA where there is one, then MPS, then the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def load(name_or_folder: str | Path, device: torch.device | str | None = None) -> Translator:
    """Load a model for translation.

    Args:
        name_or_folder: A model folder.
        device: As for `Translator`.

    Raises:
        ModelError: The folder is missing or damaged.
    """
    return Translator(load_model(name_or_folder), device)
