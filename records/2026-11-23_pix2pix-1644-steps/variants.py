"""Other ways to estimate normalisation statistics, compared on a part of the data.

python variants.py RUN/model DATA
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from sat2map.networks.values import from_picture
from torch import Tensor, nn

from sat2map.data.cache import decode_pairs
from sat2map.data.pairs import find_pairs
from sat2map.evaluation.score import score_pictures, summarise
from sat2map.model import Model, load_model
from sat2map.networks.normalisation import as_published
from sat2map.training.validation import spread
from sat2map.translation.translator import Translator

PICTURES = 48


def collect(network: nn.Module, sources: list[Tensor], *, own: bool, between: bool) -> None:
    """Give each batch norm the statistics of its inputs.

    With `own`, the pictures are normalised by their own statistics meanwhile, otherwise by
    those that are stored; `between` adds the variance between the pictures' means.
    """
    seen: dict[nn.BatchNorm2d, list[tuple[Tensor, Tensor]]] = {}

    def note(norm: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3), correction=0)
        seen.setdefault(norm, []).append((mean, variance))

    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    with torch.inference_mode():
        for source in sources:
            if own:
                with as_published(network, dropout=False):
                    network(source)
            else:
                network.eval()(source)
    for hook in hooks:
        hook.remove()
    for norm, figures in seen.items():
        means, variances = (torch.stack(each) for each in zip(*figures, strict=True))
        norm.running_mean.copy_(means.mean(0))
        extra = means.var(0, correction=0) if between else 0.0
        norm.running_var.copy_(variances.mean(0) + extra)


def show(name: str, model: Model, data: Path, *, published: bool = False) -> None:
    """Print the figures of the model as it is."""
    translator = Translator(model)
    scores = score_pictures(
        lambda source: translator.translate(source, published=published),
        spread(find_pairs(data, "val"), PICTURES),
        size=256,
        legend=model.card.legend,
    )
    figures = summarise(scores.scores, model.card.legend).metrics
    shown = ("l1", "psnr", "mean_iou", "road_cldice")
    print(f"{name:24}", *(f"{metric} {figures[metric].mean:.3f}" for metric in shown), flush=True)


def main(folder: Path, data: Path) -> None:
    """Estimate in each way and score."""
    model = load_model(folder)
    decoded = decode_pairs(data, "train", resize=286, crop=256)
    chosen = [decoded.pixels[i * len(decoded) // PICTURES] for i in range(PICTURES)]
    sources = [from_picture(pixels[15:271, 15:271, :3]) for pixels in chosen]
    for between in (False, True):
        name = "within and between" if between else "within"
        collect(model.network, sources, own=True, between=between)
        show(name, model, data)
        for _ in range(3):
            collect(model.network, sources, own=False, between=between)
        show(f"{name}, three times over", model, data)
    show("as published", model, data, published=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
