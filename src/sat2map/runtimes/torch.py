"""Torch: runs every model, on every device, and is the only one to predict as published.

It is the one door to torch for those who translate: they import this file, and only once a model
needs it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sat2map.errors import UsageError
from sat2map.legend import Legend, cover_shares
from sat2map.memory import keep_freed_memory
from sat2map.model.folder import load_model
from sat2map.networks.normalisation import in_published_mode, with_placed_dropout
from sat2map.networks.portable import outputs_of
from sat2map.networks.value_range import SHARPNESS, to_network
from sat2map.runtimes import convert
from sat2map.runtimes.interface import Answers, Asked, Precision, RuntimeName


class TorchRuntime:
    """A `Runtime` of torch.

    Threads may call it at once, in either mode.

    Args:
        network: A generator.
        device: Where it runs; None picks CUDA, then MPS, then the CPU.
        threads: How many threads torch uses for it on the CPU. Torch keeps the number for the
            calling thread and for threads that meet torch first while the network runs; after
            each call it is again what it was when this was made.
    """

    name: RuntimeName = "torch"
    version = str(torch.__version__)

    def __init__(
        self,
        network: nn.Module,
        device: torch.device | str | None = None,
        threads: int | None = None,
    ) -> None:
        self._device = default_device() if device is None else _named_device(device)
        keep_freed_memory()
        self._network = network.to(self._device).eval()
        self._threads = threads
        self._others_threads = torch.get_num_threads()
        self.device = str(self._device)
        self.multiple = int(getattr(network, "multiple", 1))
        self.at_once = 1
        self.precision: Precision = "f32"
        self.outputs = outputs_of(network)

    def run(
        self,
        source: NDArray[np.uint8],
        asked: Sequence[Asked],
        legend: Legend | None = None,
        halo: int = 0,
    ) -> Answers:
        """Translate a batch; see `Runtime`."""
        return self._run(self._network, source, asked, legend, halo)

    def _run(
        self,
        network: nn.Module,
        source: NDArray[np.uint8],
        asked: Sequence[Asked],
        legend: Legend | None,
        halo: int = 0,
    ) -> Answers:
        if self._threads is None:
            return self._answer(network, source, asked, legend, halo)
        torch.set_num_threads(self._threads)
        try:
            return self._answer(network, source, asked, legend, halo)
        finally:
            torch.set_num_threads(self._others_threads)

    @torch.inference_mode()
    def _answer(
        self,
        network: nn.Module,
        source: NDArray[np.uint8],
        asked: Sequence[Asked],
        legend: Legend | None,
        halo: int,
    ) -> Answers:
        # A copy, since torch takes neither read-only arrays nor negative strides.
        values = to_network(torch.from_numpy(np.array(source)).to(self._device))
        answers = answer(network, values, asked, legend)
        inside = slice(halo, -halo or None)  # what is not needed stays on the device
        return {name: tensor[:, inside, inside].cpu().numpy() for name, tensor in answers.items()}

    def run_published(
        self,
        source: NDArray[np.uint8],
        seed: int,
        asked: Sequence[Asked],
        legend: Legend | None = None,
    ) -> Answers:
        """Translate as published: dropout on, each batch normalised by its own statistics.

        Args:
            source: uint8 [N,H,W,bands].
            seed: Seed of the dropout; on one device it always gives the same.
            asked: As for `run`.
            legend: As for `run`.

        Returns:
            As of `run`.
        """
        dropout = torch.Generator(self._device).manual_seed(seed)
        return self._run(in_published_mode(self._network, dropout), source, asked, legend)

    def run_samples(
        self,
        source: NDArray[np.uint8],
        samples: int,
        seed: int,
        at: tuple[int, int],
        legend: Legend,
    ) -> NDArray[np.float32]:
        """Return in which share of passes with dropout a pixel has each class of the map.

        Args:
            source: uint8 [N,H,W,bands].
            samples: How many passes.
            seed: Of the dropout; see `with_placed_dropout`.
            at: Row and column of the first pixel in the scene.
            legend: The classes: the most probable one of a legend head, otherwise that with the
                nearest colour.

        Returns:
            float32 [N,H,W,classes], 0 to 1.
        """
        votes = np.zeros((*source.shape[:3], len(legend)), np.float32)
        asked: Asked = "classes" if "probabilities" in self.outputs else "image"
        for number in range(samples):
            network = with_placed_dropout(self._network, seed, number, at, source.shape[1])
            found = self._run(network, source, (asked,), legend)[asked]
            if asked == "image":
                found = np.stack([legend.label(image) for image in found])
            np.add.at(votes, (*np.indices(found.shape, sparse=True), found), np.float32(1))
        votes /= samples
        return votes

    def fingerprint(self) -> str:
        """Return a short text that other weights or another device change."""
        found = hashlib.blake2b(digest_size=16)
        found.update(f"{self._device.type} {type(self._network).__name__}".encode())
        for name, tensor in self._network.state_dict().items():
            found.update(name.encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            found.update(flat.numpy().data)
        return found.hexdigest()

    def instructions(self) -> str | None:
        """Return None: it is not told."""
        return None


def answer(
    network: nn.Module, source: Tensor, asked: Sequence[Asked], legend: Legend | None
) -> dict[Asked, Tensor]:
    """Return what is asked of a network, in one pass; see `Asked`.

    Args:
        network: A generator.
        source: float [N,bands,H,W] in [-1,1].
        asked: What is wanted.
        legend: The classes of a legend head.
    """
    answers: dict[Asked, Tensor] = {}
    if "probabilities" not in outputs_of(network):
        colours = network(source).permute(0, 2, 3, 1).float()
        return {name: colours if name == "colours" else _rounded(colours) for name in asked}
    if "cover" in outputs_of(network):
        logits, cover_logits = network.both_logits(source)  # type: ignore[operator]
        cover = cover_logits.softmax(1).float()
    else:
        logits, cover = network.logits(source), None  # type: ignore[operator]
    classes = logits.softmax(1).float()
    if cover is None and legend is not None:
        drawn_for = torch.from_numpy(cover_shares(legend)).to(classes)
        cover = torch.einsum("ck,nkhw->nchw", drawn_for, classes)
    for name in asked:
        told = cover if name.startswith("cover") else classes
        match name:
            case "colours":
                answers[name] = network.head(logits).permute(0, 2, 3, 1).float()  # type: ignore[operator]
            case "image" if legend is None:
                answers[name] = _rounded(network.head(logits).permute(0, 2, 3, 1).float())  # type: ignore[operator]
            case "image":
                assert legend is not None
                shares = (SHARPNESS * logits).softmax(1).float()
                colours = torch.from_numpy(legend.colours).to(shares)
                mixed = torch.einsum("kc,nkhw->nhwc", colours, shares)
                answers[name] = mixed.round().clamp(0, 255).byte()
            case "colour_shares":
                shares = (SHARPNESS * logits).softmax(1).float()
                answers[name] = (shares * 255).round().byte().permute(0, 2, 3, 1)
            case "probabilities" | "cover_probabilities":
                answers[name] = told.permute(0, 2, 3, 1)
            case "classes" | "cover":
                answers[name] = told.argmax(1).byte()
            case "cover_shares":
                assert told is not None
                answers[name] = (told * 255).round().byte().permute(0, 2, 3, 1)
            case "confidence" | "cover_confidence":
                answers[name] = (told.amax(1) * 255).round().clamp(0, 255).byte()
    return answers


def _rounded(colours: Tensor) -> Tensor:
    return colours.add(1).mul(127.5).round().clamp(0, 255).byte()


def default_device() -> torch.device:
    """Return CUDA where there is one, then MPS, then the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _named_device(device: torch.device | str) -> torch.device:
    """Return a device by its name, once something was put there.

    Raises:
        UsageError: There is none of that name, or not here.
    """
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (
        AssertionError,
        ImportError,
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        here = "cuda" if torch.cuda.is_available() else "cpu"
        raise UsageError(
            f"{device!r} is not a device of this machine ({str(error).splitlines()[0][:80]})",
            parameter="device",
            remedy=f"Give {here}, or None for the fastest there is.",
        ) from error
    return found


def open_on_torch(
    folder: Path, device: torch.device | str | None = None, threads: int | None = None
) -> TorchRuntime:
    """Open a model folder on torch.

    Args:
        folder: A model folder.
        device: As for `TorchRuntime`.
        threads: As for `TorchRuntime`.

    Raises:
        ModelError: A file is missing or damaged, or the weights do not fit the network.
    """
    return TorchRuntime(load_model(folder).network, device, threads)


def convert_model(folder: Path, runtime: RuntimeName, into: Path) -> None:
    """Write the model of a folder as another runtime reads it.

    Args:
        folder: A model folder.
        runtime: "openvino" or "onnx".
        into: An existing folder.

    Raises:
        ModelError: A file is missing or damaged.
        MissingExtraError: The extra `onnx` is not installed.
    """
    model = load_model(folder)
    card, bands = convert.exported_card(model.card, model.network), len(model.card.bands)
    if runtime == "onnx":
        convert.write_onnx(convert.to_onnx(model.network, bands), card, into)
    else:
        convert.write_openvino(convert.to_openvino(model.network, bands), card, into)
