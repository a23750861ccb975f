"""What one pass over a source gives, and how it is made of a network's values.

    network -> bytes -------------------------------> `unpack` -> maps
    network -> values -> blended or resampled -> `to_bytes` -> `unpack` -> maps

Values are probabilities or colours, float32; bytes are images, class numbers and confidence,
uint8. The first way is for windows whose answer stands alone, the second for what is blended of
overlapping windows, or laid on another grid: classes are chosen once, where all windows have had
their say. Both give the same, but for the rounding. On its way an answer is one array
[h,w,channels], what was asked for side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sat2map.errors import UsageError
from sat2map.legend import COVER, Legend, cover_of, cover_shares
from sat2map.networks.value_range import round_image
from sat2map.runtimes.interface import Answers, Asked

Layer = Literal[
    "image", "classes", "cover", "confidence", "cover_confidence", "cover_shares", "colour_shares"
]
"""What a source can be translated to; see `Maps`."""

LAYERS: tuple[Layer, ...] = get_args(Layer)

_GROUND: frozenset[Layer] = frozenset({"cover", "cover_confidence", "cover_shares"})


@dataclass(frozen=True)
class Maps:
    """The layers of one pass; those that nobody asked for are None.

    Attributes:
        image: The map, uint8 [H,W,channels]; with a legend head in the colours of the classes,
            mixed along their edges.
        classes: The numbers of the classes that the pixels belong to, uint8 [H,W], of the
            translator's legend.
        cover: What is on the ground, uint8 [H,W], numbers of the legend `COVER`.
        confidence: How likely it is that the most probable class is the right one, 0 to 1 as 0 to
            255, uint8 [H,W]; see `calibrated`. Of a model that is `sampled` the agreement: the
            share of passes that say the class, which is not how likely it is.
        cover_confidence: The same of `cover`.
        cover_shares: The probabilities of the classes on the ground, 0 to 1 as 0 to 255, uint8
            [H,W,classes].
        colour_shares: How much of the colour of each class of the map is in the image, 0 to 1 as 0
            to 255, uint8 [H,W,classes].
    """

    image: NDArray[np.uint8] | None = None
    classes: NDArray[np.uint8] | None = None
    cover: NDArray[np.uint8] | None = None
    confidence: NDArray[np.uint8] | None = None
    cover_confidence: NDArray[np.uint8] | None = None
    cover_shares: NDArray[np.uint8] | None = None
    colour_shares: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Kind:
    """The outputs of a model: colours or classes, and a head for land cover.

    Attributes:
        has_classes: Whether it has a legend head.
        has_cover: Whether it has a head for land cover.
        legend: The classes of its maps, if any.
        temperature: Of the confidence of its classes.
        cover_temperature: Of that of the cover.
        votes: How many passes vote for the classes; 0 where one tells them.
    """

    has_classes: bool
    has_cover: bool
    legend: Legend | None
    temperature: float = 1.0
    cover_temperature: float = 1.0
    votes: int = 0

    def values(self, layers: Sequence[Layer]) -> tuple[Asked, ...]:
        """Return the values of the network that layers follow from."""
        if self.votes:
            drawn: Asked = "probabilities" if self.has_classes else "colours"
            both: tuple[Asked, Asked] = (drawn, "votes")
            return both["image" not in layers : 2 - (set(layers) == {"image"})]
        if not self.has_classes:
            return ("colours",)
        ground = _GROUND if self.has_cover else set()
        asked: list[Asked] = []
        if set(layers) - ground:
            asked.append("probabilities")
        if ground & set(layers):
            asked.append("cover_probabilities")
        return tuple(asked)

    def bytes(self, layers: Sequence[Layer]) -> tuple[Asked, ...]:
        """Return what the network is asked for, where it makes the layers itself."""
        return tuple(layers) if self.has_classes else ("image",)

    def to_bytes(self, values: NDArray[np.float32], layers: Sequence[Layer]) -> NDArray[np.uint8]:
        """Return what the network would have been asked for by `bytes`, made of its values.

        Args:
            values: float32 [h,w,channels], what was asked for by `values`, blended or not.
            layers: What is wanted.

        Returns:
            uint8 [h,w,channels].
        """
        if self.votes:
            return self._counted(values, layers)
        if not self.has_classes:
            return round_image(values)
        assert self.legend is not None
        split = values.shape[2]
        if "cover_probabilities" in self.values(layers):
            split -= len(COVER)
        classes, cover = values[..., :split], values[..., split:]
        if not self.has_cover and _GROUND & set(layers):
            cover = classes @ cover_shares(self.legend).T
        return self._chosen(classes, cover, layers)

    def _counted(self, values: NDArray[np.float32], layers: Sequence[Layer]) -> NDArray[np.uint8]:
        """Return the same of what was drawn without dropout, if that is wanted, and of votes."""
        assert self.legend is not None
        if "votes" not in self.values(layers):
            drawn = values
        else:
            drawn, votes = np.split(values, [values.shape[2] - len(self.legend)], axis=2)
        if "image" not in layers:
            image = None
        else:
            image = mixed(drawn, self.legend) if self.has_classes else round_image(drawn)
        if image is not None and len(layers) == 1:
            return image
        cover = votes @ cover_shares(self.legend).T if _GROUND & set(layers) else votes
        return self._chosen(votes, cover, layers, image)

    def _chosen(
        self,
        classes: NDArray[np.float32],
        cover: NDArray[np.float32],
        layers: Sequence[Layer],
        image: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]:
        """Return layers of the probabilities of classes and cover; the image may be there."""
        assert self.legend is not None
        parts: list[NDArray[np.uint8]] = []
        for layer in layers:
            told = cover if layer.startswith("cover") else classes
            match layer:
                case "image":
                    parts.append(mixed(told, self.legend) if image is None else image)
                case "classes" | "cover":
                    parts.append(told.argmax(2).astype(np.uint8)[..., None])
                case "cover_shares":
                    parts.append(np.rint(told * 255).astype(np.uint8))
                case "colour_shares":
                    sharp = np.square(np.square(told))  # `SHARPNESS`
                    sharp /= sharp.sum(2, keepdims=True)
                    parts.append(np.rint(sharp * 255).astype(np.uint8))
                case _:
                    parts.append(np.rint(told.max(2, keepdims=True) * 255).astype(np.uint8))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

    def leads(self, values: NDArray[np.float32], layers: Sequence[Layer]) -> NDArray[np.float32]:
        """Return by how much the most probable class leads the second, float32 [h,w], 0 to 1.

        Where colours alone tell the class nobody knows, and it is 1.

        Args:
            values: float32 [h,w,channels], what was asked for by `values`.
            layers: What is wanted; the first says of which classes.
        """
        if not (self.has_classes or self.votes):
            return np.ones(values.shape[:2], np.float32)
        assert self.legend is not None
        split = values.shape[2]
        if "cover_probabilities" in self.values(layers):
            split -= len(COVER)
        told = values[..., :split]
        if layers[0].startswith("cover"):
            told = values[..., split:] if self.has_cover else told @ cover_shares(self.legend).T
        best = np.sort(told, axis=2)
        lead: NDArray[np.float32] = best[..., -1] - best[..., -2]
        return lead

    def unpack(self, answer: NDArray[np.uint8], layers: Sequence[Layer]) -> Maps:
        """Return the layers of bytes that the network was asked for by `bytes`.

        Args:
            answer: uint8 [h,w,channels].
            layers: What is wanted.
        """
        if not self.has_classes and not self.votes:
            return self._of_image(answer, layers)
        found: dict[str, NDArray[np.uint8]] = {}
        assert self.legend is not None
        deep: dict[Layer, int] = {"cover_shares": len(COVER), "colour_shares": len(self.legend)}
        others = sum(deep.get(layer, 1) for layer in layers if layer != "image")
        deep["image"] = answer.shape[2] - others
        left = 0
        for layer in layers:
            part = answer[..., left : left + deep.get(layer, 1)]
            match layer:
                case "confidence":
                    part = calibrated(part, self.temperature)
                case "cover_confidence":
                    part = calibrated(part, self.cover_temperature)
            found[layer] = part if layer in deep else part[..., 0]
            left += part.shape[2]
        return Maps(**found)

    def _of_image(self, image: NDArray[np.uint8], layers: Sequence[Layer]) -> Maps:
        """Return layers of a model that answers in colours, by the nearest of its legend."""
        classes = cover = None
        if {"classes", "cover"} & set(layers):
            assert self.legend is not None
            classes = self.legend.label(image)
            cover = np.take(cover_of(self.legend), classes)
        return Maps(
            image=image if "image" in layers else None,
            classes=classes if "classes" in layers else None,
            cover=cover if "cover" in layers else None,
        )


def pack(answers: Answers) -> NDArray[Any]:
    """Return the answers for one window side by side, [h,w,channels], in their order.

    Several lie in memory channel by channel, which is how most of them come and are taken apart.
    """
    parts: list[NDArray[Any]] = [
        answer[0] if answer.ndim == 4 else answer[0][..., None] for answer in answers.values()
    ]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([part.transpose(2, 0, 1) for part in parts]).transpose(1, 2, 0)


def mixed(shares: NDArray[np.float32], legend: Legend) -> NDArray[np.uint8]:
    """Return the image, uint8 [H,W,3], of the probabilities of classes, float32 [H,W,K].

    To the power of `SHARPNESS` they mix the colours of the classes.
    """
    colours = np.ones((len(legend), 4), np.float32)  # the last one adds up the weights
    colours[:, :3] = legend.colours
    sharp = np.square(np.square(shares))  # `SHARPNESS`, much faster than by `**`
    sums = sharp.reshape(-1, len(colours)) @ colours
    weights = np.maximum(sums[:, 3:], np.finfo(np.float32).tiny)  # 0 where nobody looks
    pixels: NDArray[np.uint8] = np.rint(sums[:, :3] / weights).astype(np.uint8)
    return pixels.reshape(*shares.shape[:2], 3)


def calibrated(largest: NDArray[np.uint8], temperature: float) -> NDArray[np.uint8]:
    """Return how likely it is that the most probable class is right.

    Networks are surer than they should be, or less. The odds of their answers to the power of
    1 / temperature are what is found on ground that is known (after Guo et al., "On calibration of
    modern neural networks", 2017, arXiv 1706.04599).

    Args:
        largest: Probability of the most probable class, uint8, 0 to 1 as 0 to 255.
        temperature: Above 0; 1 takes the odds as they are.

    Returns:
        uint8 of the same shape, 0 to 1 as 0 to 255.
    """
    if temperature == 1:
        return largest
    steps = np.arange(1, 255) / 255
    sure = 1 / (1 + (1 / steps - 1) ** (1 / temperature))
    table: NDArray[np.uint8] = np.r_[0, np.rint(255 * sure), 255].astype(np.uint8)
    return table[largest]


def check_layers(layers: Sequence[str], kind: Kind, name: str) -> None:
    """Refuse layers that a model does not have.

    Raises:
        UsageError: A layer is unknown, or the model has no legend or no legend head for it.
    """
    if not layers:
        raise UsageError("nothing is asked for", parameter="layers", remedy="Name a layer.")
    for layer in layers:
        if layer not in LAYERS or list(layers).count(layer) > 1:
            raise UsageError(
                f"{layer!r} is not a layer, or is named twice",
                parameter="layers",
                remedy=f"Choose of {', '.join(LAYERS)}.",
            )
        if layer in ("classes", "cover") and kind.legend is None:
            raise UsageError(
                "the model has no legend",
                where=name,
                remedy="Ask for the image, or choose a model with a legend.",
            )
        if layer == "colour_shares" and (kind.votes or not kind.has_classes):
            raise UsageError(
                "its image is not mixed of the colours of classes, or another pass draws it",
                where=name,
                remedy="Ask for the image, or choose a model with a legend head, not sampled.",
            )
        told = layer.endswith(("confidence", "shares"))
        if told and not ((kind.has_classes or kind.votes) and kind.legend is not None):
            raise UsageError(
                "the model answers in colours, which tell no confidence",
                where=name,
                remedy="Give `samples`, where its network has dropout, or choose a model with a "
                "legend head.",
            )
