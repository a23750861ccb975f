"""What the normalisation statistics do to a trained generator's images.

Takes the newest checkpoint of a run and scores its generator on the validation pairs

- with the running averages that training at batch 1 left behind,
- with statistics recalibrated on training images, as `RUN/model` has them,
- as published: statistics of each image itself, dropout on.

    python benchmarks/prediction_modes.py RUN DATA [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from sat2map.evaluation.evaluate import evaluate
from sat2map.model.folder import load_model, save_model
from sat2map.progress import Progress
from sat2map.raster.options import Mode
from sat2map.training.checkpoint import checkpoints
from sat2map.translation.translator import load

SHOWN = ("l1", "psnr", "ssim", "acc_10", "mean_iou", "road_cldice", "edge_f1", "edge_density")


def with_running_averages(run: Path, folder: Path) -> Path:
    """Write the generator of the newest checkpoint as it is, and return its folder."""
    model = load_model(run / "model")
    content = torch.load(checkpoints(run / "checkpoints")[-1], weights_only=True)
    model.network.load_state_dict(content["modules"]["generator"])
    card = model.card.model_copy(update={"normalisation": "running averages of training"})
    save_model(folder, model.network, card)
    return folder


def main() -> None:
    """Print a table of the three ways."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--json", type=Path, help="also write all figures here")
    arguments = parser.parse_args()
    figures: dict[str, dict[str, Any]] = {}
    with TemporaryDirectory() as folder:
        raw = with_running_averages(arguments.run, Path(folder) / "averages")
        modes: list[tuple[str, Path, Mode]] = [
            ("running averages", raw, "deterministic"),
            ("recalibrated", arguments.run / "model", "deterministic"),
            ("as published, seed 0", arguments.run / "model", "published"),
        ]
        for name, model, mode in modes:
            with Progress(name) as progress:
                figures[name] = evaluate(
                    load(model), arguments.data, mode=mode, progress=progress.show
                ).to_json()
    print(f"{'':22}" + "".join(f"{name:>14}" for name in SHOWN))
    for name, result in figures.items():
        means = [result["metrics"][metric]["mean"] for metric in SHOWN]
        print(f"{name:22}" + "".join(f"{mean:14.3f}" for mean in means))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
