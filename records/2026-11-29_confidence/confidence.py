"""How sure a model is: fits the temperatures that its card keeps, and shows what they are worth.

    python confidence.py fit MODEL MAPS MASKS [MASKS ...]
    python confidence.py table MODEL MAPS MASKS [MASKS ...]
    python confidence.py votes MODEL MAPS [SAMPLES]

`fit` looks at training images, prints the temperatures and writes them into MODEL/model.json;
`table` prints risk and calibration on validation images. `votes` prints the same of passes with
dropout that vote, for a U-Net, on MAPS at its own side. MAPS is the data set of pairs whose
targets are maps, for the classes that are drawn; MASKS are data sets of class masks, for land
cover. Of each set some images are taken, evenly spread. What is not unknown in a mask counts; an
answer that the mask allows is right. Masks that allow several classes somewhere are lenient:
nothing is fitted to them. MODEL is a model folder, as training or
`ship.py` leaves it; it runs as `load` runs it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import minimize_scalar

from sat2map.data.mask_cache import decode_masks
from sat2map.errors import DataError
from sat2map.model.card import model_folder, read_model_card, replace_card
from sat2map.translation.translator import Translator, load

IMAGES = 40
"""Of each set."""

EVERY = 7
"""Of the pixels of an image every seventh is looked at."""

Floats = NDArray[np.float64]


@dataclass
class Sample:
    """Some pixels.

    Attributes:
        shares: Probabilities of all classes, float64 [N,K].
        right: Whether the most probable one is right, bool [N].
        exact: Whether it is known of each which class is right.
    """

    shares: Floats
    right: NDArray[np.bool_]
    exact: bool = True


def tempered(shares: Floats, temperature: float) -> Floats:
    """Return probabilities at another temperature."""
    logits = np.log(np.maximum(shares, 1e-6)) / temperature
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def margin(shares: Floats, temperature: float) -> Floats:
    """Return the odds of the most probable class against the next one, as a probability."""
    first, second = np.sort(shares, 1)[:, [-1, -2]].T
    return 1 / (1 + (np.maximum(second, 1e-6) / np.maximum(first, 1e-6)) ** (1 / temperature))


def largest(shares: Floats, temperature: float) -> Floats:
    """Return what `sat2map.translation.maps.calibrated` makes of the greatest probability."""
    first = np.clip(shares.max(1), 1e-6, 1 - 1e-6)
    return 1 / (1 + (1 / first - 1) ** (1 / temperature))


def entropy(shares: Floats, temperature: float) -> Floats:
    """Return what the normalised entropy lacks to 1."""
    told = tempered(shares, temperature)
    return 1 + (told * np.log(np.maximum(told, 1e-12))).sum(1) / np.log(told.shape[1])


MEASURES: dict[str, Callable[[Floats, float], Floats]] = {
    "margin": margin,
    "largest": largest,
    "entropy": entropy,
}


def loss(sure: Floats, right: NDArray[np.bool_]) -> float:
    """Return the mean negative log-likelihood of what is right."""
    sure = np.clip(sure, 1e-4, 1 - 1e-4)
    return float(-np.where(right, np.log(sure), np.log(1 - sure)).mean())


def fitted(samples: list[Sample], measure: str) -> float:
    """Return the temperature with the least mean loss over the sets, each as much as another."""
    of = MEASURES[measure]

    def total(log_t: float) -> float:
        t = float(np.exp(log_t))
        return float(np.mean([loss(of(s.shares, t), s.right) for s in samples]))

    return float(np.exp(minimize_scalar(total, bounds=(-2.5, 2.5), method="bounded").x))


def calibration_error(sure: Floats, right: NDArray[np.bool_], bins: int = 15) -> float:
    """Return the expected calibration error over bins of equal width."""
    at = np.minimum((sure * bins).astype(int), bins - 1)
    count = np.bincount(at, minlength=bins)
    off = np.abs(np.bincount(at, sure, bins) - np.bincount(at, right, bins))
    return float(off.sum() / count.sum())


def risk(sure: Floats, right: NDArray[np.bool_], coverage: float) -> float:
    """Return the share of wrong answers among the surest ones."""
    order = np.argsort(-sure, kind="stable")[: max(1, round(coverage * len(sure)))]
    return float(1 - right[order].mean())


def area(sure: Floats, right: NDArray[np.bool_]) -> float:
    """Return the area under the curve of risk over coverage."""
    order = np.argsort(-sure, kind="stable")
    wrong = np.cumsum(~right[order]) / np.arange(1, len(order) + 1)
    return float(wrong.mean())


def spread(count: int) -> list[int]:
    """Return the numbers of the images that are looked at."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(count, IMAGES))})


def of_maps(translator: Translator, maps: Path, split: str, side: int | None = None) -> Sample:
    """Look at pairs whose right half is a map in the model's legend, resized to a side or not."""
    legend = translator.legend
    assert legend is not None
    files = sorted((maps / split).glob("*.jpg"))
    shares, right = [], []
    for number in spread(len(files)):
        pair = Image.open(files[number]).convert("RGB")
        half, height = pair.width // 2, pair.height
        photo, drawn = pair.crop((0, 0, half, height)), pair.crop((half, 0, pair.width, height))
        if side is not None:
            photo = photo.resize((side, side), Image.Resampling.BICUBIC)
            drawn = drawn.resize((side, side), Image.Resampling.NEAREST)
        told = translator.translate(np.array(photo), output="probabilities")
        true = legend.label(np.array(drawn)).ravel()[::EVERY]
        told = told.reshape(-1, told.shape[2])[::EVERY].astype(np.float64)
        shares.append(told)
        right.append(told.argmax(1) == true)
    return Sample(np.concatenate(shares), np.concatenate(right))


def of_masks(translator: Translator, data: Path, split: str) -> Sample:
    """Look at class masks."""
    masks = decode_masks(data, split)
    may_be = masks.mapping.may_be(masks.legend)
    shares, right, exact = [], [], True
    for number in spread(len(masks)):
        found = translator.maps(np.ascontiguousarray(masks.source(number)), ("cover_shares",))
        assert found.cover_shares is not None
        told = found.cover_shares.reshape(-1, found.cover_shares.shape[2])[::EVERY] / 255
        values = masks.values(number).ravel()[::EVERY]
        known = ~may_be[values].all(1) & may_be[values].any(1)
        told, values = told[known], values[known]
        exact = exact and bool((may_be[values].sum(1) == 1).all())
        shares.append(told)
        right.append(may_be[values, told.argmax(1)])
    return Sample(np.concatenate(shares), np.concatenate(right), exact)


def samples_of(
    translator: Translator, sets: list[Path], split: str
) -> Iterator[tuple[str, Sample]]:
    """Yield what there is of each set, with its name."""
    for data in sets:
        try:
            yield data.name, of_masks(translator, data, split)
        except DataError as error:  # a set may have no such split
            print(f"{data.name}: {error}", file=sys.stderr)


def exact_ones(translator: Translator, sets: list[Path]) -> list[Sample]:
    """Return what there is to fit to."""
    return [sample for _, sample in samples_of(translator, sets, "train") if sample.exact]


def fit(model: str, maps: str, *masks: str) -> None:
    """Print the temperatures of the greatest probability and write them into the model's card."""
    translator = load(model, "cpu")
    drawn = of_maps(translator, Path(maps), "train")
    ground = exact_ones(translator, [Path(m) for m in masks])
    found = {"map": fitted([drawn], "largest"), "cover": fitted(ground, "largest")}
    found = {name: round(value, 3) for name, value in found.items()}
    print(found)
    folder = model_folder(model)
    replace_card(folder, read_model_card(folder).model_copy(update={"temperatures": found}))


def table(model: str, maps: str, *masks: str) -> None:
    """Print risk and calibration of each measure, raw and at its fitted temperature."""
    translator = load(model, "cpu")
    sets = [Path(m) for m in masks]
    train_map = [of_maps(translator, Path(maps), "train")]
    train = exact_ones(translator, sets)
    held = [(Path(maps).name, of_maps(translator, Path(maps), "val"), train_map)]
    held += [(name, sample, train) for name, sample in samples_of(translator, sets, "val")]
    print_table(held)


def votes(model: str, maps: str, samples: str = "8") -> None:
    """Print the same of the votes of passes with dropout."""
    translator = load(model, "cpu").sampled(int(samples))
    side = translator.card.generator.size  # type: ignore[union-attr]
    train, held = (of_maps(translator, Path(maps), split, side) for split in ("train", "val"))
    print_table([(f"{Path(maps).name}, {samples} passes", held, [train])])
    sure = held.shares.max(1)
    for share in np.unique(sure):
        alike = sure == share
        print(
            f"agreement {share:.3f}: {alike.mean():.3f} of pixels, "
            f"{held.right[alike].mean():.3f} of them right"
        )


def print_table(held: list[tuple[str, Sample, list[Sample]]]) -> None:
    """Print what is held out, by its name, with what its temperature is fitted to."""
    print("| held out | measure | T | wrong at 100 / 90 / 70 / 50 % | area | ECE raw | ECE |")
    print("|---|---|---|---|---|---|---|")
    for name, sample, ground in held:
        for measure, of in MEASURES.items():
            t = fitted(ground, measure)
            raw, sure = of(sample.shares, 1.0), of(sample.shares, t)
            risks = " / ".join(f"{risk(sure, sample.right, c):.3f}" for c in (1, 0.9, 0.7, 0.5))
            print(
                f"| {name} | {measure} | {t:.2f} | {risks} | {area(sure, sample.right):.4f} "
                f"| {calibration_error(raw, sample.right):.3f} "
                f"| {calibration_error(sure, sample.right):.3f} |"
            )


if __name__ == "__main__":
    {"fit": fit, "table": table, "votes": votes}[sys.argv[1]](*sys.argv[2:])
