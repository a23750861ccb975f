"""From a network of torch to what another runtime reads, and the folder that it is kept in.

The source is `source`, float32 [N,C,H,W] in [-1,1] of any batch size, height and width; the
outputs are called as in `Portable`. In the folder are the model, in which the card is embedded
as `sat2map`, and `model.json`, the same card.
"""

from __future__ import annotations

import errno
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from sat2map.errors import MissingExtraError
from sat2map.model.card import ModelCard, write_card
from sat2map.networks.portable import Portable

if TYPE_CHECKING:
    import onnx
    import openvino

OPSET = 17
"""What ONNX Runtime reads since 1.12, 2022."""


def exported_card(card: ModelCard, network: nn.Module) -> ModelCard:
    """Return the card of an exported model, which must say what its network no longer can."""
    return card.model_copy(update={"multiple": int(getattr(network, "multiple", 1))})


def to_openvino(network: nn.Module, bands: int, *, for_int8: bool = False) -> openvino.Model:
    """Return a generator as a model of OpenVINO.

    Args:
        network: The generator.
        bands: How many channels it takes.
        for_int8: Whether it will be quantised; see `Portable`.
    """
    # The frontend itself, since `openvino.convert_model` reports its use to its makers.
    from openvino import opset13
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch import ConversionExtension
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
    from openvino.passes import ConstantFolding, Manager

    def shuffle(mode: str) -> ConversionExtension:
        # By itself the frontend makes reshapes of it, which are slow where sizes are not known.
        layer = opset13.depth_to_space if mode == "pixel_shuffle" else opset13.space_to_depth
        return ConversionExtension(
            f"aten::{mode}",
            lambda context: layer(
                context.get_input(0), "depth_first", int(context.get_values_from_const_input(1))
            ).outputs(),
        )

    frontend = FrontEndManager().load_by_framework("pytorch")
    for mode in ("pixel_shuffle", "pixel_unshuffle"):
        frontend.add_extension(shuffle(mode))
    portable = Portable(network, for_int8=for_int8)
    with tracing():
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            portable, example_source(network, bands), check_trace=False
        )
    decoder = TorchScriptPythonDecoder(traced)  # must live until the model is converted
    model = frontend.convert(frontend.load(decoder))
    model.reshape([-1, bands, -1, -1])
    model.input(0).get_tensor().set_names({"source"})
    for name, output in zip(portable.outputs, model.outputs, strict=True):
        output.get_tensor().set_names({name})
    tidy = Manager()
    tidy.register_pass(ConstantFolding())
    tidy.run_passes(model)
    return model


def to_onnx(network: nn.Module, bands: int, *, for_int8: bool = False) -> onnx.ModelProto:
    """Return a generator as a model of ONNX; see `to_openvino`.

    Raises:
        MissingExtraError: The extra `onnx` is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "onnx") from error
    portable = Portable(network, for_int8=for_int8)
    names = ["source", *portable.outputs]
    written = io.BytesIO()
    with tracing():
        torch.onnx.export(
            portable,
            (example_source(network, bands),),
            written,  # type: ignore[arg-type]  # the older exporter takes a file too
            input_names=names[:1],
            output_names=names[1:],
            dynamic_axes={name: {0: "batch", 2: "height", 3: "width"} for name in names},
            opset_version=OPSET,
            dynamo=False,  # the newer exporter takes twenty times as long
        )
    return onnx.load_from_string(written.getvalue())


def write_openvino(graph: openvino.Model, card: ModelCard, folder: Path) -> None:
    """Write `model.xml`, `model.bin` and `model.json` into an existing folder.

    Raises:
        OSError: They cannot be written, as on a full disk.
    """
    import openvino

    graph.set_rt_info(json.dumps(card.model_dump(mode="json")), "sat2map")
    try:
        openvino.save_model(graph, folder / "model.xml", compress_to_fp16=False)
    except RuntimeError as error:  # so says its stream that it could not write, and not why
        raise OSError(errno.EIO, "OpenVINO could not write the model") from error
    write_card(folder, card, ["model.xml", "model.bin"])


def write_onnx(graph: onnx.ModelProto, card: ModelCard, folder: Path) -> None:
    """Write `model.onnx` and `model.json` into an existing folder."""
    import onnx

    onnx.helper.set_model_props(graph, {"sat2map": json.dumps(card.model_dump(mode="json"))})
    onnx.save(graph, folder / "model.onnx")
    write_card(folder, card, ["model.onnx"])


def example_source(network: nn.Module, bands: int) -> torch.Tensor:
    """Return a source, float32 [1,bands,side,side], with which a network can be traced."""
    multiple = int(getattr(network, "multiple", 1))
    side = -(-64 // multiple) * multiple
    return torch.linspace(-1, 1, bands * side * side).reshape(1, bands, side, side)


@contextmanager
def tracing() -> Iterator[None]:
    """Within, a network may be traced; one thread does so at a time, as torch notes it globally."""
    with _tracing, torch.inference_mode():
        yield


_tracing = threading.Lock()
