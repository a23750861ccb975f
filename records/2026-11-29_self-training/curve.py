"""Score the moving average of a run at its checkpoints, at home and away, and draw the curves.

    python curve.py RUN CARD MAPS RASTERS OUT SET STEP [STEP ...]

CARD is a model folder of the same network. MAPS are validation pairs at home; SET is a set of
class masks with roads, held out; RASTERS is the folder of `rasters.py`. Writes OUT.csv and OUT.svg
(`pip install matplotlib`).
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import torch
from rasters import judge

from sat2map.evaluation.evaluate import evaluate, evaluate_masks
from sat2map.model.folder import load_model
from sat2map.translation.translator import Translator

BUILDINGS = ("massachusetts_1m building", "atlanta_rgbnir_50cm building")


def main(run: str, card: str, maps: str, rasters: str, out: str, masks: str, *steps: str) -> None:
    """Write OUT.csv and OUT.svg."""
    model, rows = load_model(card), []
    for step in map(int, steps):
        file = Path(run) / "checkpoints" / f"step-{step:08d}.pt"
        average = torch.load(file, weights_only=True)["modules"]["average"]
        weights = {k.removeprefix("module."): v for k, v in average.items() if k != "n_averaged"}
        model.network.load_state_dict(weights)
        translator = Translator(model, "cpu")
        home = {
            size: evaluate(translator, Path(maps), size=size).summary.metrics["road_cldice"].mean
            for size in (256, None)
        }
        away = judge(translator, Path(rasters))
        rows.append(
            {
                "step": step,
                "home, 256 pixels: road clDice": home[256],
                "home, 600 pixels: road clDice": home[None],
                "Massachusetts: road clDice": evaluate_masks(translator, Path(masks))
                .summary.metrics["road_cldice"]
                .mean,
                "New Brunswick: road IoU": away["new_brunswick_50cm road"],
                "two rasters: building IoU": sum(away[name] for name in BUILDINGS) / 2,
            }
        )
        print(rows[-1], flush=True)
    with Path(f"{out}.csv").open("w", newline="") as file_:
        table = csv.DictWriter(file_, rows[0])
        table.writeheader()
        table.writerows({k: round(v, 4) for k, v in row.items()} for row in rows)
    draw(rows, Path(f"{out}.svg"))


def draw(rows: list[dict[str, float]], path: Path) -> None:
    """Draw each column over the steps."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name in list(rows[0])[1:]:
        line = "-" if name.startswith("home") else "--"
        axes.plot([r["step"] for r in rows], [r[name] for r in rows], line, marker="o", label=name)
    axes.set(xlabel="step", ylim=(0, 1))
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
