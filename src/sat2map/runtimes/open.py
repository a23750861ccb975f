"""Opening a model folder, or an exported one, on the runtime that suits the machine.

Nothing here imports torch before a model needs it, so that a model with files of OpenVINO
translates where torch is not installed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from numbers import Integral
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from sat2map.atomic import atomic_folder
from sat2map.errors import MissingExtraError, ModelError, OutputError, UsageError, expect
from sat2map.journal import Files, MadeOf, as_json, differing
from sat2map.model.card import ModelCard, check_card, check_files, model_name, read_model_card
from sat2map.runtimes.interface import Runtime, RuntimeName
from sat2map.user_cache import cache_folder, making, mark_used

if TYPE_CHECKING:
    import torch

    from sat2map.runtimes.torch import TorchRuntime

log = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"
CARRIED: dict[RuntimeName, str] = {"openvino": "model.xml", "onnx": "model.onnx"}
"""What a runtime reads: in an exported folder itself, in a model folder one level down."""


@dataclass(frozen=True)
class OpenModel:
    """A model on a runtime.

    Attributes:
        card: Its card.
        name: What people call it.
        runtime: What runs it.
        folder: Where it was read from.
    """

    card: ModelCard
    name: str
    runtime: Runtime
    folder: Path

    def with_torch(self) -> TorchRuntime:
        """Return the model on torch and on the same device, to predict as published.

        Raises:
            UsageError: It is an exported model, which torch cannot run.
        """
        if is_exported(self.folder):
            raise UsageError(
                "is an exported model, which cannot be predicted with as published",
                where=self.folder,
                remedy="Predict deterministically, or give the model folder that it came from.",
            )
        return _on_torch(self.folder, self.runtime.device, None)


def open_model(
    folder: Path,
    device: torch.device | str | None = None,
    runtime: RuntimeName | None = None,
    threads: int | None = None,
) -> OpenModel:
    """Open a model for translation.

    Where nobody chooses, torch runs it on a GPU. On a CPU it is OpenVINO, with the files that
    the folder carries, and otherwise with converted ones that are kept in the user's cache.

    Args:
        folder: A model folder or what `sat2map export` wrote.
        device: Where it runs; None picks CUDA, then MPS, then the CPU.
        runtime: Which runtime; None picks.
        threads: How many threads; None leaves it to the runtime.

    Raises:
        ModelError: A file is missing or damaged.
        UsageError: The runtime does not run on that device, or cannot run this model.
        MissingExtraError: The runtime is not installed.
    """
    if not folder.is_dir():
        raise ModelError(
            "there is no such model folder",
            where=folder,
            remedy="Give the folder that training or import wrote, such as RUN/model.",
        )
    expect(threads, Integral, "threads", "Give a whole number.", none=True)
    if threads is not None and threads < 1:
        raise UsageError(
            f"{threads} threads cannot work", parameter="threads", remedy="Give 1 or more."
        )
    card = read_model_card(folder)
    check_card(card, folder / "model.json")
    chosen = runtime or _choose(folder, device)
    if chosen == "torch":
        return OpenModel(card, model_name(folder), _on_torch(folder, device, threads), folder)
    if device is not None and str(device) != "cpu":
        raise UsageError(
            f"{chosen} runs models on the CPU, not on {device}",
            parameter="runtime",
            remedy="Choose torch, or the device cpu.",
        )
    if chosen == "onnx" and find_spec("onnxruntime") is None:
        raise MissingExtraError("onnxruntime", "onnx")
    try:
        carried = _carried(folder, chosen) or _converted(folder, chosen)
    except OutputError as error:
        if runtime is not None:
            raise
        log.warning("The model runs on torch, which is slower: %s", error)
        return OpenModel(card, model_name(folder), _on_torch(folder, device, threads), folder)
    multiple = _exported_card(carried.parent, card).multiple
    check_files(carried.parent)
    opened: Runtime
    if chosen == "onnx":
        from sat2map.runtimes.onnx import OnnxRuntime

        opened = OnnxRuntime(carried, multiple or 1, threads)
    else:
        from sat2map.runtimes.openvino import read_openvino

        cache = cache_folder() / "compiled"
        opened = read_openvino(carried, multiple or 1, threads, cache)
    return OpenModel(card, model_name(folder), opened, folder)


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an exported model and no weights for torch."""
    return not (folder / WEIGHTS).is_file() and any(
        (folder / name).is_file() for name in CARRIED.values()
    )


def _choose(folder: Path, device: torch.device | str | None) -> RuntimeName:
    """Return the fastest runtime that is there."""
    if device is None and _may_have_gpu():
        device = _torch_runtime().default_device()
    if device is not None and str(device) != "cpu" and not is_exported(folder):
        return "torch"
    return "openvino"


def _may_have_gpu() -> bool:
    """Whether it is worth importing torch to ask."""
    try:
        if version("torch").endswith("+cpu"):
            return False
    except PackageNotFoundError:
        return False
    if sys.platform.startswith("linux"):  # NVIDIA, NVIDIA under WSL, AMD
        return any(Path("/dev", name).exists() for name in ("nvidiactl", "dxg", "kfd"))
    return True


def _carried(folder: Path, runtime: RuntimeName) -> Path | None:
    """Return what a folder has for a runtime, or None."""
    name = CARRIED[runtime]
    places = [folder / name, folder / runtime / name]
    if runtime == "openvino":  # it reads ONNX as well
        places += [folder / CARRIED["onnx"]]
    return next((place for place in places if place.is_file()), None)


def _exported_card(exported: Path, card: ModelCard) -> ModelCard:
    """Return the card of an exported model, which must be of the same network."""
    own = read_model_card(exported)
    if own.generator != card.generator or own.legend != card.legend:
        raise ModelError(
            "was exported from another model than the folder's",
            where=exported,
            remedy="Remove it, or export the model again.",
        )
    return own


def _converted(folder: Path, runtime: RuntimeName) -> Path:
    """Return the folder's model as a runtime reads it, kept in the user's cache."""
    if is_exported(folder):
        raise UsageError(
            f"is an exported model, which {runtime} cannot read",
            where=folder,
            remedy="Leave out the runtime, or export the model for this one.",
        )
    torch = _torch_runtime()
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    kept = cache_folder() / "converted" / f"{place}-{runtime}"
    made_of = _made_of(folder, runtime)
    if not _is_made_of(kept, made_of):
        with making(kept):
            if not _is_made_of(kept, made_of):  # another process has not made it meanwhile
                with atomic_folder(kept, replace=True) as aside:
                    torch.convert_model(folder, runtime, aside)
                    told = json.dumps(as_json(made_of))
                    (aside / "stamp.json").write_text(told, encoding="utf-8")
    mark_used(kept)
    return kept / CARRIED[runtime]


def _is_made_of(kept: Path, made_of: MadeOf) -> bool:
    """Return whether a converted model is there and made of the same."""
    try:
        before = json.loads((kept / "stamp.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(before, dict) and not differing(before, made_of)


def _made_of(folder: Path, runtime: RuntimeName) -> dict[str, object]:
    """Return what a converted model is made of: as long as it is the same, so is the model."""
    import sat2map

    files = tuple(folder / name for name in (WEIGHTS, "model.json"))  # loading names a missing one
    made_with = ("torch", "onnxruntime" if runtime == "onnx" else "openvino")
    return {
        "model": Files(files),
        "versions": [sat2map.__version__, *map(version, made_with)],
    }


def _on_torch(folder: Path, device: torch.device | str | None, threads: int | None) -> TorchRuntime:
    if is_exported(folder):
        raise UsageError(
            "is an exported model, which torch cannot run",
            where=folder,
            remedy="Leave out the runtime, or give the model folder that it came from.",
        )
    opened: TorchRuntime = _torch_runtime().open_on_torch(folder, device, threads)
    return opened


def _torch_runtime() -> ModuleType:
    """Return `runtimes/torch.py`, the only way from here to torch.

    Raises:
        UsageError: Torch is not installed.
    """
    try:
        from sat2map.runtimes import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise UsageError(
            "is needed for this and is not installed",
            where="torch",
            remedy="Install it with: pip install torch; or use an exported model, without options "
            "that torch alone knows.",
        ) from error
    return torch
