"""Generators of junyanz/pytorch-CycleGAN-and-pix2pix, read into ours and made model folders.

That code saves the bare weights of `unet_128`, `unet_256`, `resnet_6blocks`, `resnet_9blocks`
with batch or instance norm as `EPOCH_net_G.pth`. Architecture and sizes are told by the names
and shapes of the weights. What a file like this cannot say, because it has no weights, is
taken as that code's defaults have it: reflection padding, and dropout in a U-Net's decoder.
"""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sat2map.arguments import checks_arguments
from sat2map.atomic import check_folder_name
from sat2map.data.pairs import Direction
from sat2map.errors import ModelError, UsageError
from sat2map.model.calibration_set import find_calibration_set
from sat2map.model.folder import DataFacts, ModelCard, build_generator, save_model
from sat2map.networks.normalisation import recalibrate
from sat2map.networks.specs import ResNetSpec, UNetSpec

log = logging.getLogger(__name__)

KNOWN = (
    "Read are the generators unet_128, unet_256, resnet_6blocks and resnet_9blocks of "
    "pytorch-CycleGAN-and-pix2pix with batch or instance norm, such as latest_net_G.pth."
)
RESNET_SIZE = 256  # what that code crops for training; a residual generator does not tell
WRAPPERS = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before names


@dataclass(frozen=True)
class _Layout:
    """The layers of a foreign generator, matched to those of ours.

    Attributes:
        spec: The generator that it becomes.
        layers: Our name of each layer with weights, and the foreign one.
        swapped: Our names of the layers whose two halves of inputs change places.
    """

    spec: UNetSpec | ResNetSpec
    layers: dict[str, str]
    swapped: frozenset[str] = field(default_factory=frozenset)


def read_checkpoint(path: Path) -> tuple[nn.Module, UNetSpec | ResNetSpec]:
    """Read a foreign generator; nothing that the file may contain besides weights is run.

    Args:
        path: A .pth file with the weights, bare or one level down in a dictionary.

    Returns:
        The generator, on the CPU in evaluation mode, and what builds another one.

    Raises:
        ModelError: The file is missing, damaged, holds more than weights, or holds another
            network; the message names the layer that does not fit.
    """
    weights = _find_generator(path, _load(path))
    layout = _unet(path, weights) if _is_unet(weights) else _resnet(path, weights)
    return _fill(path, weights, layout).eval(), layout.spec


def _load(path: Path) -> object:
    """Unpickle tensors and plain containers, and nothing else."""
    if not path.is_file():
        raise ModelError("there is no such file", where=path, remedy="Check the name.")
    try:
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f" ({found[1]})" if found else ""
        raise ModelError(
            f"holds more than weights{what}, or is damaged, and was not opened",
            where=path,
            remedy="If you trust it, save the weights alone where it was made, with "
            "torch.save(network.state_dict(), 'weights.pth').",
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes torch raise nearly anything
        raise ModelError(
            f"is not a readable PyTorch checkpoint ({type(error).__name__}: "
            f"{(str(error).splitlines() or ['no details'])[0][:200]})",
            where=path,
            remedy="Copy it again; it must be a .pth file with weights.",
        ) from error
    return content


def _find_generator(path: Path, content: object) -> dict[str, Tensor]:
    """Return the one set of generator weights in a file, its names without wrappers."""
    if not isinstance(content, Mapping):
        raise ModelError(f"holds a {type(content).__name__}, not weights", where=path, remedy=KNOWN)
    places = {"": content, **{str(k): v for k, v in content.items() if isinstance(v, Mapping)}}
    candidates = {place: _tensors(mapping) for place, mapping in places.items()}
    found = {p: w for p, w in candidates.items() if _is_unet(w) or _is_resnet(w)}
    if len(found) > 1:
        raise ModelError(
            f"holds several generators ({', '.join(found)})",
            where=path,
            remedy="Save the weights of one of them alone.",
        )
    if found:
        return next(iter(found.values()))
    if any(_rank(weights, "model.0.weight") == 4 for weights in candidates.values()):
        raise ModelError("holds a discriminator, not a generator", where=path, remedy=KNOWN)
    names = [name for weights in candidates.values() for name in weights]
    first = f"its first layer is {names[0]}" if names else "it has no weights"
    raise ModelError(f"holds no generator known here: {first}", where=path, remedy=KNOWN)


def _tensors(mapping: Mapping[Any, Any]) -> dict[str, Tensor]:
    tensors = {k: v for k, v in mapping.items() if isinstance(k, str) and isinstance(v, Tensor)}
    while tensors and (prefix := next(iter(tensors)).partition(".")[0] + ".") in WRAPPERS:
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _rank(weights: dict[str, Tensor], name: str) -> int:
    """Return how many axes a layer's weights have; -1 where there are no weights."""
    return weights[name].ndim if name in weights and weights[name].numel() else -1


def _is_unet(weights: dict[str, Tensor]) -> bool:
    return _rank(weights, "model.model.0.weight") == 4


def _is_resnet(weights: dict[str, Tensor]) -> bool:
    return _rank(weights, "model.1.weight") == 4


def _unet(path: Path, weights: dict[str, Tensor]) -> _Layout:
    """Lay out a U-Net, which is nested there: each block holds the next one in its middle.

    Within a block the indices count: [LeakyReLU,] convolution, [norm,] the next block, ReLU,
    transposed convolution, [norm, [dropout]]; what is in brackets the outermost has not, and
    the innermost has no next block and no first norm. A block hands on its input first and
    its result second, where ours, as the published code, joins them the other way round.
    """
    blocks = ["model.model"]
    inner = "model.model.1.model"
    while f"{inner}.1.weight" in weights:
        blocks.append(inner)
        inner += ".3.model"
    depth = len(blocks)
    if depth < 5:
        raise ModelError(
            f"holds a U-Net of {depth} levels; that code has 5 and more", where=path, remedy=KNOWN
        )
    norm = _norm(path, weights, first_norm=f"{blocks[1]}.2", first_conv=f"{blocks[1]}.1")
    layers = {"encoder.0.0": "model.model.0", f"decoder.{depth - 1}.1": "model.model.3"}
    swapped = {f"decoder.{depth - 1}.1"}
    for level, block in enumerate(blocks[1:], 1):
        ours = f"decoder.{depth - 1 - level}"
        innermost = level == depth - 1
        layers[f"encoder.{level}.1"] = f"{block}.1"
        layers[f"{ours}.1"] = f"{block}.3" if innermost else f"{block}.5"
        layers[f"{ours}.2"] = f"{block}.4" if innermost else f"{block}.6"
        if not innermost:
            layers[f"encoder.{level}.2"] = f"{block}.2"
            swapped.add(f"{ours}.1")
    first = weights["model.model.0.weight"].shape
    spec = UNetSpec(
        in_channels=first[1],
        out_channels=_channels(weights, "model.model.3.weight", 1),
        size=1 << depth,
        base_channels=first[0],
        norm=norm,
        # There, dropout is in the blocks of full width but the innermost.
        dropout_blocks=list(range(2, depth - 3)),
    )
    return _Layout(spec, layers, frozenset(swapped))


def _resnet(path: Path, weights: dict[str, Tensor]) -> _Layout:
    """Lay out a residual generator: one sequence, its residual blocks from index 10 on."""
    blocks = 0
    while f"model.{10 + blocks}.conv_block.1.weight" in weights:
        blocks += 1
    dropout = blocks > 0 and "model.10.conv_block.5.weight" not in weights
    norm = _norm(path, weights, first_norm="model.2", first_conv="model.1")
    layers: dict[str, str] = {}
    for i in (1, 4, 7):  # encoder: convolution, norm, ReLU from index 1 in both
        layers |= {f"encoder.{i}": f"model.{i}", f"encoder.{i + 1}": f"model.{i + 1}"}
    second = 6 if dropout else 5
    for i in range(blocks):
        theirs = f"model.{10 + i}.conv_block"
        layers |= {f"blocks.{i}.first.1": f"{theirs}.1", f"blocks.{i}.first.2": f"{theirs}.2"}
        layers |= {
            f"blocks.{i}.second.1": f"{theirs}.{second}",
            f"blocks.{i}.second.2": f"{theirs}.{second + 1}",
        }
    for i in (0, 1, 3, 4, 7):
        layers[f"decoder.{i}"] = f"model.{10 + blocks + i}"
    first = weights["model.1.weight"].shape
    spec = ResNetSpec(
        in_channels=first[1],
        out_channels=_channels(weights, f"model.{17 + blocks}.weight", 0),
        base_channels=first[0],
        blocks=blocks,
        norm=norm,
        dropout=0.5 if dropout else 0.0,
    )
    return _Layout(spec, layers)


def _norm(
    path: Path, weights: dict[str, Tensor], *, first_norm: str, first_conv: str
) -> Literal["batch", "instance"]:
    """Tell batch norm by its weights, instance norm by the biases that it leaves to others."""
    if f"{first_norm}.weight" in weights:
        return "batch"
    if f"{first_conv}.bias" in weights:
        return "instance"
    raise ModelError(
        f"has neither a norm's weights ({first_norm}) nor a bias ({first_conv}.bias), so it was "
        "trained without norm",
        where=path,
        remedy=KNOWN,
    )


def _channels(weights: dict[str, Tensor], name: str, axis: int) -> int:
    """Return the channels of the last convolution; 3 where it is missing, as is told later."""
    return weights[name].shape[axis] if _rank(weights, name) == 4 else 3


def _fill(path: Path, weights: dict[str, Tensor], layout: _Layout) -> nn.Module:
    """Return the generator of a layout with the foreign weights."""
    # On the meta device nothing is allocated and no random number is drawn.
    with torch.device("meta"):
        generator = build_generator(layout.spec)
    filled: dict[str, Tensor] = {}
    left = dict(weights)
    for name, empty in generator.state_dict().items():
        layer, _, leaf = name.rpartition(".")
        theirs = f"{layout.layers[layer]}.{leaf}"
        value = left.pop(theirs, None)
        if value is None and leaf == "num_batches_tracked":
            value = torch.zeros((), dtype=torch.long)  # PyTorch before 0.4.1 did not count
        if value is None:
            raise _misfit(path, layout, f"the layer {theirs} is missing")
        if value.shape != empty.shape:
            shapes = f"{list(value.shape)}, not {list(empty.shape)}"
            raise _misfit(path, layout, f"the layer {theirs} has the shape {shapes}")
        if not torch.isfinite(value).all():
            raise _misfit(path, layout, f"the layer {theirs} has values that are not numbers")
        if layer in layout.swapped and leaf == "weight":
            skip, decoded = value.chunk(2)
            value = torch.cat([decoded, skip])
        filled[name] = value.to(empty.dtype).contiguous()
    if layout.spec.norm == "instance":
        # Instance norm of PyTorch before 0.4 saved averages that were never used.
        statistics = ("running_mean", "running_var", "num_batches_tracked")
        left = {name: v for name, v in left.items() if not name.endswith(statistics)}
    if left:
        raise _misfit(path, layout, f"the layer {next(iter(left))} has no counterpart")
    generator.load_state_dict(filled, assign=True)
    return generator


def _misfit(path: Path, layout: _Layout, what: str) -> ModelError:
    spec = layout.spec
    kind = f"{spec.name} with {spec.base_channels} channels, {spec.norm} norm"
    return ModelError(f"looks like a {kind}, but {what}", where=path, remedy=KNOWN)


# Making a model folder of it


@checks_arguments
def import_checkpoint(
    checkpoint: Path,
    out: Path,
    *,
    resolution_m: tuple[float, float] | None = None,
    direction: Direction = "forward",
    calibrate: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ModelCard:
    """Write a model folder with the generator of a foreign checkpoint.

    The averages that batch norm keeps while training with batch 1 are poor, and instance norm
    keeps none, so that tiles of one scene come out differently. With `calibrate`, both get
    fixed statistics from given images instead (`networks.normalisation.recalibrate`).

    Args:
        checkpoint: A .pth file, see `read_checkpoint`.
        out: The new model folder.
        resolution_m: Finest and coarsest ground resolution that the model was trained on, in
            metres per pixel after resizing; None where nobody knows.
        direction: Which way of its data set the model goes.
        calibrate: A folder of images such as the model will get, or a data set, whose
            sources in train/ are taken. They are taken at their own scale, unless the folder's
            dataset.json and `resolution_m` say by how much they must be resized.
        progress: Told how many images of how many are done.

    Returns:
        The card that was written.

    Raises:
        ModelError: The checkpoint cannot be read or does not fit.
        UsageError: The resolution is not two positive numbers in order.
        DataError: There is no usable image to calibrate with.
        OutputError: `out` exists or cannot be written.
    """
    if resolution_m is not None and not 0 < resolution_m[0] <= resolution_m[1] < float("inf"):
        raise UsageError(
            f"{resolution_m[0]} to {resolution_m[1]} is not a ground resolution",
            parameter="resolution_m",
            remedy="Give metres per pixel, the finest and the coarsest, such as 0.5 and 2.",
        )
    check_folder_name(out)
    generator, spec = read_checkpoint(checkpoint)
    if calibrate is not None:
        generator, spec = _with_fixed_statistics(generator, spec)
        given = find_calibration_set(calibrate, direction=direction, resolution_m=resolution_m)
        side = spec.size if isinstance(spec, UNetSpec) else RESNET_SIZE
        windows = given.windows(side, spec.in_channels, progress)
        count = recalibrate(generator, windows)
        statistics = (
            f"recalibrated over {count} windows of {side} pixels from "
            f"{len(given.images)} images of {calibrate.resolve().name}"
        )
    elif spec.norm == "batch":
        statistics = "running averages of the foreign training, which are poor after batches of 1"
    else:
        statistics = "each tile's own (instance norm)"
    if calibrate is None:
        statistics += (
            ": tiles of one scene will differ; import it again with images to calibrate by"
        )
        log.warning("%s: statistics are %s", checkpoint, statistics)
    count_bands = spec.in_channels
    colours = ("red", "green", "blue")
    bands = colours if count_bands == 3 else tuple(f"band {i + 1}" for i in range(count_bands))
    card = ModelCard(
        generator=spec,
        direction=direction,
        bands=bands,
        resolution_m=resolution_m,
        normalisation=statistics,
        data=DataFacts(name=f"unknown, imported from {checkpoint.name}"),
    )
    save_model(out, generator.eval(), card)
    return card


def _with_fixed_statistics(
    generator: nn.Module, spec: UNetSpec | ResNetSpec
) -> tuple[nn.Module, UNetSpec | ResNetSpec]:
    """Return the same generator with room for the statistics of its instance norm."""
    if spec.norm != "instance":
        return generator, spec
    spec = spec.model_copy(update={"norm": "instance_calibrated"})
    fixed = build_generator(spec)
    fixed.load_state_dict({**fixed.state_dict(), **generator.state_dict()})
    return fixed.eval(), spec
