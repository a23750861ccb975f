"""Export for Deepness, the plug-in of QGIS that runs ONNX models over a canvas.

It cuts square tiles of one size out of a layer, hands them over as float32 [1,C,side,side] in
[0,1], and gives each pixel the class with the largest of the scores that come back, unless that
is below a threshold. It reads what it needs to know from the model's metadata, as JSON, and
runs ONNX Runtime 1.12 to 1.17, so opset 17.
"""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sat2map.arguments import checks_arguments
from sat2map.atomic import atomic_folder, check_folder_name
from sat2map.errors import MissingExtraError, ModelError, UsageError
from sat2map.export.export import TOLERANCE, Export
from sat2map.legend import Legend
from sat2map.model.card import ModelCard
from sat2map.model.folder import load_model
from sat2map.networks.portable import Portable
from sat2map.runtimes.convert import OPSET, tracing

FILE = "deepness.onnx"
SIDE = 512
OVERLAP_PERCENT = 15
SOFTNESS = 50.0
"""Squared Lab distance over which the score of a colour falls to a third."""


WHITE = torch.tensor([0.95047, 1.0, 1.08883])
XYZ_OF_RGB = (
    torch.tensor(
        [
            [0.412453, 0.357580, 0.180423],
            [0.212671, 0.715160, 0.072169],
            [0.019334, 0.119193, 0.950227],
        ]
    )
    / WHITE[:, None]
)[:, :, None, None]
"""From linear RGB to XYZ, as parts of white (D65), float32 [3,3,1,1]."""


class Segmentor(nn.Module):
    """A generator that scores the classes of its legend.

    Args:
        network: The generator.
        legend: Its legend.
    """

    def __init__(self, network: nn.Module, legend: Legend) -> None:
        super().__init__()
        self.portable = Portable(network)
        colours = torch.from_numpy(legend.colours.astype(np.float32) / 255)
        self.register_buffer("colours", lab(colours.T[None, :, :, None])[0, :, :, 0].T)

    def forward(self, source: Tensor) -> Tensor:
        """Return scores, float [N,K,H,W] in [0,1] that add up to 1, of float [N,C,H,W] in [0,1]."""
        outputs: tuple[Tensor, ...] = self.portable(source * 2 - 1)
        if len(outputs) == 2:
            return outputs[1]
        found = lab((outputs[0].clamp(-1, 1) + 1) / 2)
        colours: Tensor = self.colours  # type: ignore[assignment]
        distances = [((found - c[None, :, None, None]) ** 2).sum(1, keepdim=True) for c in colours]
        return torch.softmax(torch.cat(distances, 1) / -SOFTNESS, 1)


def lab(colours: Tensor) -> Tensor:
    """Return CIE Lab (D65) of sRGB, float [N,3,H,W] in [0,1], as `legend.lab` does for arrays."""
    linear = torch.where(
        colours > 0.04045, ((colours.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4, colours / 12.92
    )
    xyz = nn.functional.conv2d(linear, XYZ_OF_RGB)
    root = torch.where(xyz > 0.008856, xyz.clamp(min=0.008856) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = root[:, 0:1], root[:, 1:2], root[:, 2:3]
    return torch.cat([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


@checks_arguments
def export_for_deepness(folder: Path, out: Path, side: int | None = None) -> Export:
    """Write `deepness.onnx`, a segmentor over the model's legend.

    Args:
        folder: The model folder.
        out: The folder to write.
        side: Side of the tiles in pixels, a multiple of what the network takes; None means
            512, or the next that is one.

    Raises:
        ModelError: The folder is damaged, or the exported model answers otherwise than torch.
        UsageError: The model has no legend, or the side does not fit.
        MissingExtraError: The extra `onnx` is not installed.
        OutputError: `out` exists or cannot be written.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnx and onnxruntime", "onnx") from error
    check_folder_name(out)
    model = load_model(folder)
    card = model.card
    if card.legend is None:
        raise UsageError(
            "has no legend, whose classes Deepness could tell apart",
            where=folder,
            remedy="Export it as onnx, or choose a model with a legend.",
        )
    multiple = int(getattr(model.network, "multiple", 1))
    side = -(-SIDE // multiple) * multiple if side is None else side
    if side < 1 or side % multiple:
        raise UsageError(
            f"tiles of {side} pixels do not fit the network",
            parameter="tile",
            remedy=f"Give a multiple of {multiple}.",
        )
    segmentor = Segmentor(model.network, card.legend).eval()
    source = torch.rand(1, len(card.bands), side, side, generator=torch.Generator().manual_seed(0))
    written = io.BytesIO()
    with tracing():
        expected = segmentor(source).numpy()
        torch.onnx.export(
            segmentor,
            (source,),
            written,  # type: ignore[arg-type]  # the older exporter takes a file too
            input_names=["source"],
            output_names=["classes"],
            opset_version=OPSET,
            dynamo=False,
        )
    graph = onnx.load_from_string(written.getvalue())
    onnx.helper.set_model_props(graph, _metadata(card, side))
    with atomic_folder(out) as aside:
        onnx.save(graph, aside / FILE)
        session = onnxruntime.InferenceSession(aside / FILE, providers=["CPUExecutionProvider"])
        answer = session.run(None, {"source": source.numpy()})[0]
        difference = float(np.abs(answer - expected).max())
        if difference > TOLERANCE:
            raise ModelError(
                f"answers otherwise than torch, by up to {difference:.2g}, when exported",
                where=folder,
                remedy="Report this, with the model.",
            )
    return Export(out, difference)


def _metadata(card: ModelCard, side: int) -> dict[str, str]:
    """Return what the plug-in reads, and the card."""
    assert card.legend is not None
    facts: dict[str, object] = {
        "model_type": "Segmentor",
        "class_names": {str(i): name for i, name in enumerate(card.legend.names)},
        "tile_size": side,
        "tiles_overlap": OVERLAP_PERCENT,
        "seg_thresh": 0.0,  # below it, every pixel would be of the first class
        "seg_small_segment": 1,
    }
    if card.resolution_m is not None:  # in centimetres
        facts["resolution"] = round(100 * math.sqrt(card.resolution_m[0] * card.resolution_m[1]), 2)
    props = {key: json.dumps(value) for key, value in facts.items()}
    return props | {"sat2map": card.model_dump_json()}
