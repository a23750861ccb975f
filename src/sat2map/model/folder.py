"""The model folder: a generator's weights and the card that says what they are for.

    model.safetensors   the weights
    model.json          the card, for programs
    README.md           the card, for people
    familiar.json       what the photos look like that it has learned from, where that is known

There is never a pickle in it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sat2map.atomic import atomic_folder
from sat2map.errors import ModelError
from sat2map.model.card import (
    DataFacts,
    ModelCard,
    check_card,
    check_files,
    check_model_folder,
    describe,
    model_folder,
    model_name,
    read_model_card,
    write_card,
)
from sat2map.model.familiar import FILE as FAMILIAR
from sat2map.model.familiar import Familiar
from sat2map.networks.specs import GeneratorSpec

__all__ = [
    "DataFacts",
    "Model",
    "ModelCard",
    "build_generator",
    "describe",
    "load_model",
    "read_model_card",
    "save_model",
]


@dataclass(frozen=True)
class Model:
    """A generator with its card; `folder` is where it was read from."""

    network: nn.Module
    card: ModelCard
    folder: Path

    @property
    def name(self) -> str:
        """Name of the model."""
        return model_name(self.folder)


def build_generator(spec: GeneratorSpec) -> nn.Module:
    """Return the network of a spec with fresh weights, drawn from torch's global random state.

    Raises:
        ValueError: The spec has a legend head and no colours for it.
    """
    return spec.build()


def save_model(
    folder: Path,
    network: nn.Module,
    card: ModelCard,
    *,
    familiar: Familiar | None = None,
    replace: bool = False,
    half: bool = False,
) -> None:
    """Write a model folder, whole or not at all.

    Args:
        folder: Its name; the last part is the model's name.
        network: A generator whose `card.generator` builds one of the same shape.
        card: Its card.
        familiar: What the photos look like that it has learned from.
        replace: Whether an existing folder gives way.
        half: Whether weights are written as float16, half as large; they are read as float32.

    Raises:
        OutputError: The folder exists, or cannot be written.
    """
    weights = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    if half:
        weights = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    with atomic_folder(folder, replace=replace) as aside:
        try:
            save_file(weights, aside / "model.safetensors", {"format": "pt"})
        except SafetensorError as error:  # what it says of a full disk
            raise OSError(str(error)) from error
        names = ["model.safetensors"]
        if familiar is not None:
            familiar.save(aside)
            names.append(FAMILIAR)
        write_card(aside, card, names)
        # safetensors lets nobody read them but their owner, and a model is shared as its card is.
        shutil.copymode(aside / "model.json", aside / "model.safetensors")
        (aside / "README.md").write_text(describe(folder.name, card), encoding="utf-8")


def load_model(folder: str | Path) -> Model:
    """Read a model folder.

    Returns:
        The network on the CPU, in evaluation mode, and its card.

    Raises:
        ModelError: A file is missing or damaged, or the weights do not fit the network.
    """
    folder = model_folder(folder)
    check_model_folder(folder)
    card = read_model_card(folder)
    check_card(card, folder / "model.json")
    check_files(folder)
    weights = _read_weights(folder / "model.safetensors")
    try:
        with _Undrawn():
            network = build_generator(card.generator)
    except (ValueError, RuntimeError) as error:  # such as one that is larger than the memory
        raise ModelError(
            f"describes a network that cannot be built ({error})",
            where=folder / "model.json",
            remedy="Restore the file, or train or import the model again.",
        ) from error
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        detail = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise ModelError(
            f"does not fit the network of model.json ({detail[:200]})",
            where=folder / "model.safetensors",
            remedy="Restore both files from the same model.",
        ) from error
    return Model(network.eval(), card, folder)


class _Undrawn(TorchFunctionMode):
    """Within, in this thread, no initial weights are drawn: loaded ones take their place.

    It spares the time, and the random state of torch, which is the whole process's.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return named["tensor"] if "tensor" in named else args[0]
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return func(*args, **named)


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise ModelError(
            "is missing", where=path, remedy="Restore it, or train or import the model again."
        ) from error
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            f"is damaged ({error})",
            where=path,
            remedy="Restore it, or train or import the model again.",
        ) from error
