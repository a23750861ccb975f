"""Exporting a model folder, checked against torch."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sat2map.arguments import checks_arguments
from sat2map.atomic import atomic_folder
from sat2map.errors import ModelError, UsageError
from sat2map.export.int8 import Calibration, Quantised, quantise
from sat2map.model.card import ModelCard
from sat2map.model.familiar import read_familiar
from sat2map.model.folder import Model, load_model
from sat2map.runtimes.convert import (
    exported_card,
    to_onnx,
    to_openvino,
    write_onnx,
    write_openvino,
)
from sat2map.runtimes.interface import Runtime
from sat2map.runtimes.onnx import OnnxRuntime
from sat2map.runtimes.openvino import read_openvino
from sat2map.runtimes.torch import TorchRuntime

Format = Literal["openvino", "onnx"]

TOLERANCE = 1e-3
"""By how much a float32 export may differ from torch, an eighth of an 8-bit step."""


@dataclass(frozen=True)
class Export:
    """The result of an export.

    Attributes:
        folder: Where it lies.
        difference: Largest difference to torch, of images in [-1,1].
        quantised: What int8 cost, or None for float32.
    """

    folder: Path
    difference: float
    quantised: Quantised | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return asdict(self) | {"folder": str(self.folder)}


@checks_arguments
def export_model(
    folder: Path,
    out: Path,
    kind: Format,
    calibration: Calibration | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Export:
    """Export a model for another runtime: `model.xml` and `model.bin`, or `model.onnx`.

    The input is `source`, float32 [N,C,H,W] in [-1,1] of any batch size and of any height and
    width that are multiples of `multiple` in `model.json`. The first output is `picture`,
    float32 [N,3,H,W] in [-1,1]; with a legend head `probabilities`, float32 [N,K,H,W], follows,
    and with a head for land cover `cover`, float32 [N,5,H,W].
    Whoever runs it with OpenVINO gives it INFERENCE_PRECISION_HINT f32, or a processor with
    bfloat16 answers in that.

    Args:
        folder: The model folder.
        out: The folder to write. As `openvino` or `onnx` in the model folder itself, it is
            what `load` takes from then on.
        kind: For which runtime.
        calibration: With what to quantise to int8; None leaves it float32.
        progress: Called with (done, all) images that were translated for the metrics.

    Raises:
        ModelError: The folder is damaged, or the exported model answers otherwise than torch.
        UsageError: `out` is the model folder itself.
        DataError: There is nothing to calibrate with.
        MissingExtraError: A library stands behind an extra that is not installed.
        OutputError: `out` exists or cannot be written.
    """
    if out.resolve() == folder.resolve():
        raise UsageError(
            "is the model folder itself",
            where=out,
            remedy="Choose another name; a folder `openvino` within it is found by itself.",
        )
    model = load_model(folder)
    card = exported_card(model.card, model.network)
    with atomic_folder(out) as aside:
        quantised = _write(model, card, aside, kind, calibration, progress)
        difference = _largest_difference(model, _open(aside, kind, card))
        if quantised is None and difference > TOLERANCE:
            raise ModelError(
                f"answers otherwise than torch, by up to {difference:.2g}, when exported",
                where=folder,
                remedy="Report this, with the model.",
            )
        familiar = read_familiar(folder)
        if familiar is not None and out.resolve().parent != folder.resolve():
            familiar.save(aside)
    return Export(out, difference, quantised)


def _write(
    model: Model,
    card: ModelCard,
    folder: Path,
    kind: Format,
    calibration: Calibration | None,
    progress: Callable[[int, int], None] | None,
) -> Quantised | None:
    bands, int8 = len(card.bands), calibration is not None
    plain = folder / "float32" if int8 else folder
    plain.mkdir(exist_ok=True)
    if kind == "onnx":
        write_onnx(to_onnx(model.network, bands, for_int8=int8), card, plain)
    else:
        write_openvino(to_openvino(model.network, bands, for_int8=int8), card, plain)
    if calibration is None:
        return None
    quantised = quantise(plain, folder, kind, card, calibration, progress)
    shutil.rmtree(plain)
    return quantised


def _open(folder: Path, kind: Format, card: ModelCard) -> Runtime:
    multiple = card.multiple or 1
    if kind == "onnx":
        return OnnxRuntime(folder / "model.onnx", multiple)
    return read_openvino(folder / "model.xml", multiple)


def _largest_difference(model: Model, exported: Runtime) -> float:
    """Compare with torch at two sizes and batch sizes, none of which the export was made with."""
    plain = TorchRuntime(model.network, "cpu")
    side, bands = exported.multiple, len(model.card.bands)
    worst = 0.0
    for batch, rows, columns in ((2, 1, 2), (1, 3, 1)):
        source = _noise((batch, rows * max(side, 32 // side * side), columns * side, bands))
        answers = (run(source, ["colours"])["colours"] for run in (exported.run, plain.run))
        worst = max(worst, float(np.abs(np.subtract(*answers)).max()))
    return worst


def _noise(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
