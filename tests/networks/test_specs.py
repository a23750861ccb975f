from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from sat2map.legend import COVER
from sat2map.model.card import ModelCard, model_folder, read_model_card, shipped_models
from sat2map.networks.compact import Compact
from sat2map.networks.lite import Lite
from sat2map.networks.resnet import ResNet
from sat2map.networks.specs import (
    COVER_CLASSES,
    FROM_DATA,
    SPECS,
    CompactSpec,
    GeneratorSpec,
    LiteSpec,
    NetworkSpec,
    ResNetSpec,
    UNetSpec,
)
from sat2map.networks.unet import UNet

NETWORKS: dict[str, type[nn.Module]] = {
    "unet": UNet, "resnet": ResNet, "compact": Compact, "lite": Lite
}  # fmt: skip
COLOURS = [[0, 10, 20], [255, 255, 255]]


def plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_without_arguments_is_the_network_without_arguments(name: str) -> None:
    """Each argument that a network takes is a field, with the same default."""
    parameters = inspect.signature(NETWORKS[name]).parameters
    defaults = {key: plain(p.default) for key, p in parameters.items() if key != "colours"}
    assert SPECS[name]().arguments() == defaults  # type: ignore[call-arg]
    with torch.device("meta"):
        network = SPECS[name]().build()  # type: ignore[call-arg]
    assert type(network) is NETWORKS[name]


@pytest.mark.parametrize("name", SPECS)
def test_what_follows_from_the_data_is_filled_in(name: str) -> None:
    for head, colours in (("colour", None), ("legend", COLOURS)):
        spec = SPECS[name](head=head)  # type: ignore[call-arg]
        filled = spec.for_data(in_channels=4, out_channels=2, size=32, colours=COLOURS)
        assert (filled.in_channels, filled.out_channels) == (4, 2)
        assert filled.colours == colours
        assert getattr(filled, "size", 32) == 32
        kept = spec.model_dump(exclude=set(FROM_DATA))
        assert filled.model_dump(exclude=set(FROM_DATA)) == kept
        with torch.device("meta"):
            network = filled.build()
            image = network(torch.empty(2, 4, 32, 32))
        assert image.shape == (2, 2 if colours is None else 3, 32, 32)


@pytest.mark.parametrize("name", SPECS)
def test_sides_that_fit_are_those_that_the_network_takes(name: str) -> None:
    for size in range(16, 80, 4):
        with torch.device("meta"):
            try:
                spec = SPECS[name]().for_data(  # type: ignore[call-arg]
                    in_channels=3, out_channels=3, size=size, colours=None
                )
                network = spec.build()
                takes = size % network.multiple == 0
            except ValueError:
                takes = False
        assert SPECS[name].fits(size) == takes, size


@pytest.mark.parametrize(
    "spec",
    [
        UNetSpec(in_channels=1, size=64, norm="none", dropout_blocks=[]),
        UNetSpec(colours=COLOURS),
        ResNetSpec(blocks=6, norm="instance_calibrated", dropout=0.5),
        CompactSpec(channels=[8, 16, 32], blocks=[0, 1, 1, 1, 0]),
        LiteSpec(widths=[4, 4, 4, 4], freeze_norm=False),
        LiteSpec(colours=COLOURS, cover=True),
    ],
)
def test_a_card_keeps_a_spec(spec: GeneratorSpec) -> None:
    card = ModelCard(generator=spec, normalisation="none")
    entries = json.loads(card.model_dump_json())
    assert entries["generator"] == {"name": spec.name, "arguments": spec.arguments()}
    again = ModelCard.model_validate(entries)
    assert again == card
    assert again.generator.tells_cover == spec.tells_cover
    network = NETWORKS[spec.name]
    with torch.device("meta"):
        shapes = [
            {key: value.shape for key, value in built.state_dict().items()}
            for built in (again.generator.build(), network(**entries["generator"]["arguments"]))
        ]
    assert shapes[0] == shapes[1]


def test_cards_of_the_first_versions_are_read() -> None:
    def read(name: str, arguments: dict[str, Any]) -> GeneratorSpec:
        entry = {"name": name, "arguments": arguments}
        return ModelCard.model_validate({"generator": entry, "normalisation": ""}).generator

    assert read("unet", {}) == UNetSpec()
    lite = read("lite", {"in_channels": 3, "colours": COLOURS, "cover_classes": 5})
    assert isinstance(lite, LiteSpec)
    assert lite.cover and lite.head == "legend"
    assert read("lite", {"cover": True}) == LiteSpec(cover=True)
    assert read("lite", {"cover_classes": 0}) == LiteSpec()


@pytest.mark.parametrize("name", shipped_models())
def test_a_shipped_card_says_of_its_network_what_its_file_says(name: str) -> None:
    folder = model_folder(name)
    stored = json.loads((folder / "model.json").read_text())["generator"]
    assert read_model_card(folder).model_dump(mode="json")["generator"] == stored
    assert list(read_model_card(folder).generator.arguments()) == list(stored["arguments"])


def test_a_legend_head_needs_colours_and_colours_a_legend_head() -> None:
    with pytest.raises(ValueError, match="needs the colours"):
        CompactSpec(head="legend").build()
    with pytest.raises(ValueError, match="need head = legend"):
        UNetSpec(head="colour", colours=COLOURS)


def test_land_cover_has_as_many_classes_as_its_legend() -> None:
    assert len(COVER) == COVER_CLASSES
    network = LiteSpec(colours=COLOURS, cover=True).build()
    assert isinstance(network, Lite)
    drawn, cover = network.both_logits(torch.zeros(1, 3, 32, 32))
    assert (drawn.shape[1], cover.shape[1]) == (2, len(COVER))


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_is_found_by_its_name(name: str) -> None:
    adapter: TypeAdapter[NetworkSpec] = TypeAdapter(GeneratorSpec)
    assert type(adapter.validate_python({"name": name})) is SPECS[name]
    with pytest.raises(ValueError, match="frozen"):
        SPECS[name]().head = "legend"  # type: ignore[call-arg, misc]
