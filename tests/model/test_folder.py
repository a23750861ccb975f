from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from sat2map.errors import ModelError, OutputError
from sat2map.legend import STREETS
from sat2map.model import folder as module
from sat2map.model.card import FORMAT, check_files, model_folder, replace_card, shipped_models
from sat2map.model.folder import (
    DataFacts,
    ModelCard,
    build_generator,
    describe,
    load_model,
    read_model_card,
    save_model,
)
from sat2map.networks.resnet import ResNet
from sat2map.networks.specs import GeneratorSpec, ResNetSpec, UNetSpec
from sat2map.networks.unet import UNet

TINY = UNetSpec(size=16, base_channels=2)
FULL = ModelCard(
    generator=TINY,
    direction="reverse",
    bands=("red", "green", "nir"),
    resolution_m=(0.5, 2.25),
    normalisation="mean over 12 training images after training",
    legend=STREETS,
    data=DataFacts(name="towns", licence="CC0-1.0", pairs=12),
    metrics={"val": {"l1": 7.5, "n": 3}},
)


@pytest.fixture
def tiny() -> nn.Module:
    torch.manual_seed(0)
    return build_generator(TINY)


@pytest.fixture
def saved(tmp_path: Path, tiny: nn.Module) -> Path:
    save_model(tmp_path / "tiny", tiny, FULL)
    return tmp_path / "tiny"


def refused(folder: Path, what: str, where: str = "") -> None:
    """Check that loading gives one line that names the file."""
    with pytest.raises(ModelError, match=what) as caught:
        load_model(folder)
    line = str(caught.value)
    assert line.startswith(f"{folder / where}: ")
    assert len(line.splitlines()) == 1
    assert caught.value.exit_code == 1


def edit(folder: Path, **entries: Any) -> None:
    """Change entries of model.json."""
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


@pytest.mark.parametrize(
    "spec",
    [
        TINY,
        UNetSpec(
            in_channels=4,
            out_channels=2,
            size=16,
            base_channels=2,
            skips=False,
            norm="instance_calibrated",
            dropout=0.25,
            dropout_blocks=[1, 2],
        ),
        ResNetSpec(base_channels=4, blocks=1),
    ],
)
def test_a_model_comes_back_as_it_was_saved(tmp_path: Path, spec: GeneratorSpec) -> None:
    network = build_generator(spec).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    source = torch.rand(1, spec.in_channels, 16, 16)
    network.train()
    network(source)  # running statistics that are not those of a fresh network
    bands = tuple(f"band_{i}" for i in range(source.shape[1]))
    card = FULL.model_copy(update={"generator": spec, "bands": bands})
    save_model(tmp_path / "model", network, card)
    loaded = load_model(str(tmp_path / "model"))
    assert loaded.card == card
    assert not any(m.training for m in loaded.network.modules())
    before, after = network.state_dict(), loaded.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    with torch.no_grad():
        torch.testing.assert_close(loaded.network(source), network.eval()(source))


def test_each_name_builds_its_network() -> None:
    assert isinstance(build_generator(TINY), UNet)
    with torch.device("meta"):
        assert isinstance(build_generator(ResNetSpec()), ResNet)


def test_the_folder_holds_no_pickle(saved: Path) -> None:
    assert {path.name for path in saved.iterdir()} == {
        "README.md", "model.json", "model.safetensors"
    }  # fmt: skip
    for path in saved.iterdir():
        assert path.read_bytes()[:1] != b"\x80"  # what every binary pickle starts with
        assert path.read_bytes()[:2] != b"PK"  # the archive that torch.save writes
    with safe_open(saved / "model.safetensors", "pt") as weights:
        assert "encoder.0.0.weight" in weights.keys()  # noqa: SIM118 - no mapping


def test_whoever_may_read_the_card_may_read_the_weights(saved: Path) -> None:
    modes = {path.stat().st_mode for path in saved.iterdir()}
    assert len(modes) == 1


def test_loading_draws_no_random_numbers(model_folder: Path) -> None:
    """They are the whole process's, and the weights are there."""
    before = torch.random.get_rng_state()
    network = load_model(model_folder).network
    assert torch.equal(torch.random.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = build_generator(read_model_card(model_folder).generator)  # as the fixture does
    for name, tensor in expected.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name


def test_the_card_for_programs(saved: Path) -> None:
    entries = json.loads((saved / "model.json").read_text())
    weights = (saved / "model.safetensors").read_bytes()
    assert entries.pop("checksums") == {"model.safetensors": hashlib.sha256(weights).hexdigest()}
    assert entries == {
        "format": FORMAT,
        "generator": {
            "name": "unet",
            "arguments": {
                "in_channels": 3,
                "out_channels": 3,
                "size": 16,
                "base_channels": 2,
                "skips": True,
                "norm": "batch",
                "dropout": 0.5,
                "dropout_blocks": [1, 2, 3],
            },
        },
        "direction": "reverse",
        "bands": ["red", "green", "nir"],
        "value_range": [-1.0, 1.0],
        "resolution_m": [0.5, 2.25],
        "normalisation": "mean over 12 training images after training",
        "legend": STREETS.to_json(),
        "cover": None,
        "data": {"name": "towns", "licence": "CC0-1.0", "pairs": 12},
        "temperatures": None,
        "road_width_error_m": None,
        "metrics": {"val": {"l1": 7.5, "n": 3}},
        "halo": None,
        "multiple": None,
    }
    assert read_model_card(saved) == FULL


def test_the_card_for_people(saved: Path) -> None:
    text = (saved / "README.md").read_text()
    assert text.startswith("# tiny\n")
    for words in (
        "unet(in_channels=3, out_channels=3, size=16, base_channels=2, skips=True, ",
        "reverse",
        "red, green, nir",
        "0.5 to 2.25 m per pixel",
        "mean over 12 training images",
        "towns, 12 pairs",
        "CC0-1.0",
        "| highway | rgb(247, 160, 33) | yes |",
        "| park | rgb(203, 223, 173) |  |",
        '"l1": 7.5',
    ):
        assert words in text
    bare = describe("bare", ModelCard(generator=TINY, normalisation="none"))
    assert "| ground resolution | not recorded |" in bare
    assert "| licence of that data | not recorded |" in bare
    assert "| trained on | unknown |" in bare
    assert "Legend" not in bare
    assert "Metrics" not in bare


def test_the_card_for_people_shows_an_evaluation_as_a_table() -> None:
    interval = {"mean": 0.12345, "low": 0.1, "high": 0.25}
    evaluation = {
        "pictures": 8,
        "protocol": {"size": 256, "split": "val", "legend": STREETS.to_json()},
        "metrics": {"road_cldice": interval, "iou_park": interval},
        "class_iou": {"park": {"iou": interval}},
    }
    card = ModelCard(generator=TINY, normalisation="none", metrics={"validation": evaluation})
    _, _, metrics = describe("a", card).partition("## Metrics")
    assert metrics.splitlines()[2:] == [
        "validation: 8 images; size: 256; split: val",
        "",
        "| metric | mean | 95 % interval |",
        "|---|---|---|",
        "| road_cldice | 0.1235 | 0.1 to 0.25 |",
    ]


@pytest.mark.parametrize(
    ("path", "name"),
    [("streets", "streets"), ("run1/model", "run1"), ("run1/best", "run1"), ("a/models", "models")],
)
def test_people_call_a_model_by_its_folder_or_its_run(
    tmp_path: Path, tiny: nn.Module, path: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tmp_path / path, tiny, FULL)
    assert load_model(tmp_path / path).name == name
    monkeypatch.chdir(tmp_path / path)
    assert load_model(".").name == name


def test_an_existing_model_is_replaced_only_if_told(saved: Path, tiny: nn.Module) -> None:
    before = (saved / "model.json").read_bytes()
    card = FULL.model_copy(update={"direction": "forward"})
    with pytest.raises(OutputError, match="tiny: exists already"):
        save_model(saved, tiny, card)
    assert (saved / "model.json").read_bytes() == before
    save_model(saved, tiny, card, replace=True)
    assert load_model(saved).card == card


def test_a_full_disk_leaves_the_old_model(
    saved: Path, tiny: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    card = FULL.model_copy(update={"direction": "forward"})
    with pytest.raises(OutputError, match="No space left on device"):
        save_model(saved, tiny, card, replace=True)
    assert load_model(saved).card == FULL
    assert [path.name for path in saved.parent.iterdir()] == ["tiny"]


def test_what_is_not_there(saved: Path) -> None:
    refused(saved.parent / "other", "there is no such model folder")
    refused(saved / "model.json", "there is no such model folder")
    (saved / "model.safetensors").unlink()
    refused(saved, "is missing", "model.safetensors")
    (saved / "model.json").unlink()
    refused(saved, r"cannot be read \(No such file or directory\)", "model.json")


@pytest.mark.parametrize("kept", [0, 4, 50, 2000, -1])
def test_truncated_weights(saved: Path, kept: int) -> None:
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    refused(saved, "is damaged", "model.safetensors")


def test_weights_that_are_something_else(saved: Path) -> None:
    path = saved / "model.safetensors"
    path.write_text("These are not weights, however long this line may be.")
    refused(saved, "is damaged", "model.safetensors")
    torch.save({"a": torch.zeros(3)}, path)  # a pickle is not even looked into
    refused(saved, "is damaged", "model.safetensors")
    path.unlink()
    path.mkdir()
    refused(saved, "is damaged", "model.safetensors")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[]", "the file: .*valid dictionary"),
        (b"null", "the file: "),
        (b"{}", "generator: Field required"),
    ],
)
def test_a_card_that_is_garbage(saved: Path, text: bytes, what: str) -> None:
    (saved / "model.json").write_bytes(text)
    refused(saved, what, "model.json")


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"format": FORMAT + 1}, f"has format {FORMAT + 1}; .* reads up to {FORMAT}.*Upgrade"),
        ({"format": "new"}, "format: "),
        ({"generator": {"name": "vit", "arguments": {}}}, "generator: name is 'unet', .*'vit'"),
        ({"generator": {"name": ["unet"], "arguments": {}}}, "generator: name is 'unet', "),
        ({"generator": {"name": "unet", "size": 16}}, "generator: has a name and arguments"),
        ({"generator": {"name": "unet", "arguments": []}}, "generator: has a name and arguments"),
        ({"generator": "unet"}, "generator: "),
        ({"direction": "up"}, "direction: "),
        ({"resolution_m": [1]}, "resolution_m"),
        ({"legend": [{"name": "road"}]}, "the legend has the entry {'name': 'road'}"),
        ({"legend": []}, "a legend has 1 to 255 classes"),
        ({"legend": "maps"}, "legend: "),
        ({"data": {"size": 3}}, "data.size: Extra inputs"),
        ({"bands": ["red"]}, "names 1 bands, but its network takes 3"),
        ({"value_range": [0, 1]}, r"has the value range \[0.0, 1.0\], but only \[-1, 1\]"),
    ],
)
def test_a_card_with_an_entry_that_is_wrong(
    saved: Path, entries: dict[str, Any], what: str
) -> None:
    edit(saved, **entries)
    refused(saved, what, "model.json")


@pytest.mark.parametrize(
    ("name", "arguments", "what"),
    [
        ("unet", {"size": 20}, "size: must be a power of two"),
        ("unet", {"size": "16"}, "size: .*integer"),
        ("unet", {"base_channels": "2"}, "base_channels: .*integer"),
        ("unet", {"base_channels": -2}, "base_channels: .*greater"),
        ("unet", {"dropout": 3}, "dropout: .*less"),
        ("unet", {"colour": "red"}, "colour: Extra inputs"),
        ("unet", {"colours": [[1, 2]]}, "colours.0: .*at least 3"),
        ("unet", {"colours": [[1, 2, 256]]}, "colours.0.2: .*255"),
        ("unet", {"head": "legend"}, "a legend head needs"),
        ("compact", {"blocks": 9}, "blocks: .*list"),
        ("lite", {"cover_classes": 4}, "cover_classes is 0 or 5"),
    ],
)
def test_a_network_that_cannot_be_built(
    saved: Path, name: str, arguments: dict[str, Any], what: str
) -> None:
    edit(saved, generator={"name": name, "arguments": arguments})
    refused(saved, what, "model.json")


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ({"name": "unet", "arguments": {"size": 16, "base_channels": 3}}, "size mismatch for enc"),
        ({"name": "unet", "arguments": {"size": 32, "base_channels": 2}}, "Missing key"),
        ({"name": "resnet", "arguments": {"base_channels": 2, "blocks": 1}}, "Missing key"),
    ],
)
def test_weights_of_another_network(saved: Path, spec: dict[str, Any], what: str) -> None:
    edit(saved, generator=spec)
    refused(saved, rf"does not fit the network of model\.json \({what}", "model.safetensors")


def test_half_precision_halves_the_folder_and_is_read_as_float32(
    tmp_path: Path, tiny: nn.Module
) -> None:
    for name, half in (("whole", False), ("half", True)):
        save_model(tmp_path / name, tiny, FULL, half=half)
    sizes = [(tmp_path / n / "model.safetensors").stat().st_size for n in ("whole", "half")]
    assert sizes[1] < 0.65 * sizes[0]
    loaded = load_model(tmp_path / "half").network
    for value, before in zip(loaded.parameters(), tiny.parameters(), strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, before, rtol=1e-3, atol=1e-5)


def test_a_shipped_name_comes_before_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "streets").mkdir()
    assert "streets" in shipped_models()
    assert load_model("streets").name == "streets"
    assert model_folder("streets") != Path("streets")
    assert model_folder("other") == Path("other")


def test_a_flipped_bit_is_noticed(saved: Path) -> None:
    load_model(saved)
    weights = saved / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    refused(saved, "is damaged: its checksum is not the one in model.json", "model.safetensors")


def test_a_folder_without_checksums_is_read(saved: Path) -> None:
    path = saved / "model.json"
    entries = json.loads(path.read_text())
    assert entries.pop("checksums").keys() == {"model.safetensors"}
    path.write_text(json.dumps(entries))
    load_model(saved)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_is_not_a_card(saved: Path) -> None:
    (saved / "model.json").unlink()
    os.mkfifo(saved / "model.json")
    refused(saved, "is not a file", "model.json")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[" * 100_000, "is not JSON"),
        (" " * (2**24 + 1), "has more than 16,777,216 bytes"),
    ],
)
def test_a_card_has_bounds(saved: Path, text: str, what: str) -> None:
    (saved / "model.json").write_text(text)
    refused(saved, what, "model.json")


@pytest.mark.parametrize(
    "resolution", ["[NaN, NaN]", "[-1, 1]", "[0, 1]", "[1, Infinity]", "[2, 1]"]
)
def test_resolutions_are_above_0(saved: Path, resolution: str) -> None:
    path = saved / "model.json"
    entries = json.loads(path.read_text()) | {"resolution_m": "HERE"}
    path.write_text(json.dumps(entries).replace('"HERE"', resolution))
    refused(saved, "resolution_m: .*resolution above 0", "model.json")


def test_a_card_is_replaced_and_the_weights_are_still_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_model(folder, build_generator(TINY), ModelCard(generator=TINY, normalisation="none"))
    card = read_model_card(folder)
    assert card.temperatures is None
    replace_card(folder, card.model_copy(update={"temperatures": {"map": 1.2}}))
    assert read_model_card(folder).temperatures == {"map": 1.2}
    check_files(folder)
    told = json.loads((folder / "model.json").read_text())
    assert list(told["checksums"]) == ["model.safetensors"]
    told["temperatures"] = {"map": 0}
    (folder / "model.json").write_text(json.dumps(told))
    with pytest.raises(ModelError, match="temperatures"):
        read_model_card(folder)
