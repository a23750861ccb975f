"""Specs: which generator, and what it is built with. They are data and need no torch.

One spec is the section `[generator]` of a recipe, the entry `generator` of a model's card, and
what `build_generator` takes. A new network is one class here, named in `GeneratorSpec`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sat2map.networks.blocks import BLOCKS, STEM, TAPS, Norm, compact_layers, lite_layers, reach

if TYPE_CHECKING:
    from torch import nn

Colour = Annotated[
    list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3, strict=False)
]

Count = Annotated[int, Field(ge=1)]

FROM_DATA = frozenset({"in_channels", "out_channels", "colours", "size"})
"""What follows from the data of a run: the card has it, a recipe has not."""

COVER_CLASSES = 5
"""How many classes a head for land cover tells: those of the legend `cover`."""

_NORM = (
    "normalisation layers; instance takes the statistics of each window, so that windows of one "
    "map differ, and instance_calibrated those of training"
)


class NetworkSpec(BaseModel):
    """The keys that all generators have in common.

    Attributes:
        name: Which network.
        head: What it answers in. A legend head mixes its image of the colours of a legend.
        in_channels: Bands of the source.
        out_channels: Bands of the target, where the head is one of colours.
        colours: RGB of each class of the legend, 0 to 255; a legend head needs them.
        sides: What the side of training crops must be, in words; `fits` checks it.
        pretrainable: Whether its submodule `encoder` can begin with the weights of ImageNet and
            learn at a rate of its own. The network then has a method `load_pretrained`.
        full_precision: Which of the network's modules stay float32 when it is quantised to int8
            for ONNX Runtime, whose graphs are rounded as NNCF does it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    sides: ClassVar[str] = "a multiple of 16"
    pretrainable: ClassVar[bool] = False
    full_precision: ClassVar[tuple[str, ...]] = ()

    name: str
    head: Literal["colour", "legend"] = Field(
        "colour",
        description="what it answers in: colours, or the classes of the legend, whose image is "
        "mixed of the legend's colours; legend needs data.scales or data.resolutions_m",
    )
    in_channels: int = Field(3, ge=1)
    out_channels: int = Field(3, ge=1)
    colours: list[Colour] | None = None

    @model_validator(mode="before")
    @classmethod
    def _colours_need_a_legend_head(cls, values: object) -> object:
        if isinstance(values, dict) and values.get("colours") is not None:
            return {"head": "legend"} | values
        return values

    @model_validator(mode="after")
    def _only_a_legend_head_has_colours(self) -> Self:
        if self.head == "colour" and self.colours is not None:
            raise ValueError("colours of a legend need head = legend")
        return self

    @property
    def pretrained(self) -> bool:
        """Whether training begins with the weights of ImageNet."""
        return False

    @property
    def tells_cover(self) -> bool:
        """Whether a second head tells the land cover."""
        return False

    @property
    def reach(self) -> int | None:
        """How far a pixel of the answer may be from what it depends on, in pixels.

        None where it may depend on the whole image: through a bottleneck that sees everything,
        or through statistics.
        """
        return None

    @property
    def has_dropout(self) -> bool:
        """Whether some of its values are dropped at random in training."""
        return False

    @property
    def widest(self) -> float:
        """Values of the largest tensor inside for each pixel of the source; 0 is unknown."""
        return 0.0

    @classmethod
    def fits(cls, size: int) -> bool:
        """Return whether the network can be trained on crops of a side, in pixels."""
        return size % 16 == 0

    def for_data(
        self,
        *,
        in_channels: int,
        out_channels: int,
        size: int,
        colours: list[list[int]] | None,
    ) -> Self:
        """Return the spec with what follows from the data of a run.

        Args:
            in_channels: Bands of the source.
            out_channels: Bands of the target.
            size: Side of the training crops in pixels.
            colours: RGB of each class of the legend, if there is one; for a legend head.
        """
        told = {"in_channels": in_channels, "out_channels": out_channels, "size": size}
        own: dict[str, Any] = {k: v for k, v in told.items() if k in type(self).model_fields}
        if self.head == "legend":
            own["colours"] = colours
        return type(self).model_validate(self.model_dump() | own)

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of the network, of JSON's own types.

        Raises:
            ValueError: There are no colours for a legend head.
        """
        if self.head == "legend" and self.colours is None:
            raise ValueError("a legend head needs the colours of its legend")
        given = self.model_dump(exclude={"name", "head", "colours"})
        return given if self.colours is None else given | {"colours": self.colours}

    @abstractmethod
    def build(self) -> nn.Module:
        """Return the network with fresh weights, drawn from torch's global random state.

        Raises:
            ValueError: There are no colours for a legend head.
        """


class UNetSpec(NetworkSpec):
    """The U-Net of Pix2Pix; its depth follows from `data.size`."""

    sides = "a power of two from 16 up"

    name: Literal["unet"] = "unet"
    size: int = 256
    base_channels: int = Field(
        64, ge=1, description="channels of the first layer; they double up to eightfold"
    )
    skips: bool = Field(True, description="false gives the encoder-decoder of the ablation")
    norm: Norm = Field("batch", description=_NORM)
    dropout: float = Field(
        0.5, ge=0, lt=1, description="probability in the decoder blocks that have dropout"
    )
    dropout_blocks: list[Count] = Field(
        [1, 2, 3], description="which decoder blocks those are, counted from 1 at the bottleneck"
    )

    @field_validator("size")
    @classmethod
    def _power_of_two(cls, size: int) -> int:
        if not cls.fits(size):
            raise ValueError(f"must be {cls.sides}")
        return size

    @property
    def has_dropout(self) -> bool:
        """Whether some of its values are dropped at random in training."""
        decoder = range(1, self.size.bit_length() - 1)
        return self.dropout > 0 and any(block in decoder for block in self.dropout_blocks)

    @classmethod
    def fits(cls, size: int) -> bool:
        """Return whether a side is a power of two, in pixels."""
        return size >= 16 and size & (size - 1) == 0

    def build(self) -> nn.Module:
        """Return the U-Net."""
        from sat2map.networks.unet import UNet

        return UNet(**self.arguments())


class ResNetSpec(NetworkSpec):
    """The residual generator of CycleGAN."""

    sides = "a multiple of 8"

    name: Literal["resnet"] = "resnet"
    base_channels: int = Field(
        64, ge=1, description="channels of the first layer; they double twice"
    )
    blocks: int = Field(9, ge=0, description="residual blocks; published are 9, and 6 at 128")
    norm: Norm = Field("instance", description=_NORM)
    dropout: float = Field(0.0, ge=0, lt=1, description="probability in the residual blocks")

    @property
    def has_dropout(self) -> bool:
        """Whether some of its values are dropped at random in training."""
        return self.dropout > 0 and self.blocks > 0

    @classmethod
    def fits(cls, size: int) -> bool:
        """Return whether a side is a multiple of 8, in pixels."""
        return size % 8 == 0

    def build(self) -> nn.Module:
        """Return the residual generator."""
        from sat2map.networks.resnet import ResNet

        return ResNet(**self.arguments())


class CompactSpec(NetworkSpec):
    """The compact generator, which is fast on a CPU."""

    name: Literal["compact"] = "compact"
    channels: list[Count] = Field(
        [48, 96, 256],
        min_length=3,
        max_length=3,
        description="channels at 1/4, 1/8 and 1/16 of the side",
    )
    blocks: list[Annotated[int, Field(ge=0)]] = Field(
        [1, 2, 4, 2, 1],
        min_length=5,
        max_length=5,
        description="residual blocks at 1/4, 1/8, 1/16 and back at 1/8, 1/4",
    )

    @property
    def reach(self) -> int:
        """How far it looks; see `NetworkSpec`."""
        return reach(compact_layers(self.blocks), 4 * STEM)

    @property
    def widest(self) -> float:
        """Values of its largest tensor for each pixel: at the entrance or at the exit."""
        told = self.out_channels if self.colours is None else len(self.colours)
        inside = (c / s**2 for c, s in zip(self.channels, (4, 8, 16), strict=True))
        return max(self.in_channels, told, *inside)

    def build(self) -> nn.Module:
        """Return the compact generator."""
        from sat2map.networks.compact import Compact

        return Compact(**self.arguments())


class LiteSpec(NetworkSpec):
    """The encoder of EfficientNet-Lite0 with a small decoder."""

    pretrainable = True
    # A twentieth of the multiplications, but two thirds of the pixels whose class int8 changes away
    # from where a model was trained: light and colours of other places leave the ranges here.
    full_precision = ("encoder._conv_stem", "encoder._blocks.0", "encoder._blocks.1")

    name: Literal["lite"] = "lite"
    cover: bool = Field(
        False, description="a second head tells the land cover; needs data.resolutions_m"
    )
    encoder: Literal["imagenet", "none"] = Field(
        "imagenet",
        description="what the encoder begins with, the weights of ImageNet or random ones",
    )
    freeze_norm: bool = Field(
        True, description="the encoder's batch norm keeps its statistics in training"
    )
    mix_norm: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="the largest share of an image's own statistics that training mixes at random "
        "into those of the frozen batch norm",
    )
    widths: list[Count] = Field(
        [48, 64, 96, 128],
        min_length=4,
        max_length=4,
        description="channels of the decoder at 1/2, 1/4, 1/8 and 1/16 of the side",
    )

    @model_validator(mode="before")
    @classmethod
    def _read_cover_classes(cls, values: object) -> object:
        """Read the network's own argument, which cards have."""
        if not (isinstance(values, dict) and "cover_classes" in values):
            return values
        others = {key: value for key, value in values.items() if key != "cover_classes"}
        if values["cover_classes"] not in (0, COVER_CLASSES):
            raise ValueError(f"cover_classes is 0 or {COVER_CLASSES}")
        return {"cover": values["cover_classes"] == COVER_CLASSES} | others

    @model_validator(mode="after")
    def _mixes_frozen_norm(self) -> Self:
        if self.mix_norm and not self.freeze_norm:
            raise ValueError("mix_norm needs freeze_norm = true")
        return self

    @property
    def pretrained(self) -> bool:
        """Whether training begins with the weights of ImageNet."""
        return self.encoder == "imagenet"

    @property
    def tells_cover(self) -> bool:
        """Whether a second head tells the land cover."""
        return self.cover

    @property
    def reach(self) -> int:
        """How far it looks; see `NetworkSpec`."""
        return reach(lite_layers(), 2 ** len(TAPS))

    @property
    def widest(self) -> float:
        """Values of its largest tensor for each pixel: where the encoder first expands."""
        told = self.out_channels if self.colours is None else len(self.colours)
        (before, *_), (_, _, _, expansion), *_ = BLOCKS
        return max(before * expansion / 4, self.widths[0] / 4, told)

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of the network; how it learns is none of them."""
        given = super().arguments()
        del given["encoder"], given["mix_norm"]
        return given | {"cover_classes": COVER_CLASSES if given.pop("cover") else 0}

    def build(self) -> nn.Module:
        """Return the network with random weights throughout."""
        from sat2map.networks.lite import Lite

        network = Lite(**self.arguments())
        network.mix_norm(self.mix_norm)
        return network


GeneratorSpec = Annotated[
    UNetSpec | ResNetSpec | CompactSpec | LiteSpec, Field(discriminator="name")
]
"""The spec of any generator."""

SPECS: dict[str, type[NetworkSpec]] = {
    spec.model_fields["name"].default: spec for spec in get_args(get_args(GeneratorSpec)[0])
}
"""The classes of `GeneratorSpec` by the names of their networks."""


def spec_class(name: object) -> type[NetworkSpec]:
    """Return the class of a network's specs.

    Raises:
        ValueError: There is no such network.
    """
    if not isinstance(name, str) or name not in SPECS:
        *others, last = map(repr, SPECS)
        raise ValueError(f"name is {', '.join(others)} or {last}, not {name!r}")
    return SPECS[name]


def place_of_error(loc: tuple[int | str, ...]) -> list[str]:
    """Return where in a recipe or a card an error of pydantic's lies.

    Args:
        loc: The place as pydantic has it, in which the network's name follows `generator`.
    """
    place = [str(part) for part in loc]
    if place[:1] == ["generator"] and place[1:2] and place[1] in SPECS:
        del place[1]
    return place
