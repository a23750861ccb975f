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
from typing import TYPE_CHECKING, Literal

from sat2map.atomic import atomic_folder
from sat2map.errors import (
    MissingExtraError,
    ModelError,
    OutputError,
    UsageError,
    expect,
    missing_extra,
)
from sat2map.journal import Files, MadeOf, as_json, differing
from sat2map.model.card import (
    ModelCard,
    check_card,
    check_files,
    check_model_folder,
    model_name,
    read_model_card,
)
from sat2map.provenance import fingerprint_files
from sat2map.runtimes.interface import Precision, Runtime, RuntimeName
from sat2map.user_cache import cache_folder, making, mark_used, writable_folder

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
        """Return the model on torch and on the same device, which alone has dropout.

        Raises:
            UsageError: It is an exported model, which torch cannot run.
            MissingExtraError: Torch is not installed.
        """
        if is_exported(self.folder):
            raise UsageError(
                "is an exported model, which cannot be predicted with as published or `samples`",
                where=self.folder,
                remedy="Predict deterministically, or give the model folder that it came from.",
            )
        return _on_torch(self.folder, self.runtime.device, None)


def open_model(
    folder: Path,
    device: torch.device | str | None = None,
    runtime: RuntimeName | None = None,
    threads: int | None = None,
    precision: Precision | None = None,
) -> OpenModel:
    """Open a model for translation.

    Where nobody chooses, torch runs it on a GPU. On a CPU it is OpenVINO, with the files that
    the folder carries, and otherwise with converted ones that are kept in the user's cache.

    Args:
        folder: A model folder or what `sat2map export` wrote.
        device: Where it runs; None picks CUDA, then MPS, then the CPU.
        runtime: Which runtime; None picks.
        threads: How many threads; None leaves it to the runtime.
        precision: What it computes in; None takes int8 where the folder carries files for it on
            the runtime, and otherwise f32.

    Raises:
        ModelError: A file is missing or damaged.
        UsageError: The runtime does not run on that device, cannot run this model, or does not
            compute in this precision.
        MissingExtraError: The runtime is not installed.
    """
    check_model_folder(folder)
    expect(threads, Integral, "threads", "Give a whole number.", none=True)
    if threads is not None and threads < 1:
        raise UsageError(
            f"{threads} threads cannot work", parameter="threads", remedy="Give 1 or more."
        )
    card = read_model_card(folder)
    check_card(card, folder / "model.json")
    chosen = runtime or _choose(folder, device, precision)
    if chosen == "torch":
        if precision not in (None, "f32"):
            raise UsageError(
                f"torch runs models in f32, not in {precision}",
                parameter="precision",
                remedy="Choose f32, or the runtime openvino, which needs a CPU.",
            )
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
        opened = _opened(folder, card, chosen, threads, precision)
    except OutputError as error:
        if runtime is not None:
            raise
        log.warning("The model runs on torch, which is slower: %s", error)
        return OpenModel(card, model_name(folder), _on_torch(folder, device, threads), folder)
    return OpenModel(card, model_name(folder), opened, folder)


def _opened(
    folder: Path,
    card: ModelCard,
    runtime: RuntimeName,
    threads: int | None,
    precision: Precision | None,
) -> Runtime:
    """Return a model on OpenVINO or ONNX Runtime, of what it carries or of converted files."""
    carried = _carried(folder, runtime)
    if carried is not None:
        opened = _read(carried, card, runtime, threads, precision)
        if precision is None or opened.precision == precision:
            return opened
        if is_exported(folder):
            raise UsageError(
                f"was exported in {opened.precision}, and does not run in {precision}",
                where=folder,
                remedy="Give the model folder that it came from.",
            )
    if precision == "int8":
        raise UsageError(
            f"carries no files of int8 for {runtime}",
            where=folder,
            remedy=f"Export it for {runtime} in int8, and give what that writes; or choose f32.",
        )
    opened = _read(_converted(folder, runtime), card, runtime, threads, precision)
    if precision not in (None, opened.precision):
        raise UsageError(
            f"{runtime} does not compute in {precision}",
            parameter="precision",
            remedy="Choose f32, or the runtime openvino.",
        )
    return opened


def _read(
    path: Path,
    card: ModelCard,
    runtime: RuntimeName,
    threads: int | None,
    precision: Precision | None,
) -> Runtime:
    """Return what a file of a runtime holds."""
    multiple = _exported_card(path.parent, card).multiple or 1
    check_files(path.parent)
    if runtime == "onnx":
        from sat2map.runtimes.onnx import OnnxRuntime

        return OnnxRuntime(path, multiple, threads)
    from sat2map.runtimes.openvino import read_openvino

    cache = writable_folder("compiled")
    hint: Literal["f32", "bf16"] = "bf16" if precision == "bf16" else "f32"
    return read_openvino(path, multiple, threads, cache, hint)


def told_precision(folder: Path) -> tuple[Precision, str]:
    """Return what a model is run in where nobody chooses, and why, without opening it."""
    chosen = _choose(folder, None, None)
    if chosen == "torch":
        return "f32", "torch runs it on a GPU"
    carried = _carried(folder, chosen)
    if carried is None:
        return "f32", "it carries no files of int8; bf16 is taken where it is asked for"
    marks = {".xml": b'type="FakeQuantize"', ".onnx": b"QuantizeLinear"}
    if marks[carried.suffix] in carried.read_bytes():
        return "int8", f"its files for {chosen} are quantised"
    return "f32", f"its files for {chosen} are not quantised"


def weights_fingerprint(folder: Path) -> str:
    """Return the fingerprint of the weights in a model folder, of all files for all runtimes."""
    names = [WEIGHTS, *CARRIED.values(), "model.bin"]
    places = [folder, *(folder / runtime for runtime in CARRIED)]
    files = [place / name for place in places for name in names]
    return fingerprint_files(file for file in files if file.is_file())


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an exported model and no weights for torch."""
    return not (folder / WEIGHTS).is_file() and any(
        (folder / name).is_file() for name in CARRIED.values()
    )


def _choose(
    folder: Path, device: torch.device | str | None, precision: Precision | None
) -> RuntimeName:
    """Return the fastest runtime that is there and computes in a precision."""
    if device is None and precision in ("bf16", "int8"):
        return "openvino"
    on_gpu = has_gpu() if device is None else str(device) != "cpu"
    return "torch" if on_gpu and not is_exported(folder) else "openvino"


def has_gpu() -> bool:
    """Whether torch runs models on a GPU of this machine where nobody chooses."""
    return _may_have_gpu() and str(_torch_runtime().default_device()) != "cpu"


def _may_have_gpu() -> bool:
    """Whether it is worth importing torch to ask."""
    if sys.platform.startswith("linux"):  # NVIDIA, NVIDIA under WSL, AMD
        devices = (Path("/dev", name) for name in ("nvidiactl", "dxg", "kfd"))
        if not any(device.exists() for device in devices):
            return False
    try:
        return not version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False


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
        MissingExtraError: Torch is not installed.
    """
    try:
        from sat2map.runtimes import torch
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from error
    return torch
