from __future__ import annotations

import io
import json
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sat2map.data.pairs import DataSetCard, write_card
from sat2map.errors import DataError, ModelError, OutputError, UsageError
from sat2map.model import pix2pix_checkpoint
from sat2map.model.folder import load_model, read_model_card
from sat2map.model.pix2pix_checkpoint import import_checkpoint, read_checkpoint
from sat2map.networks.normalisation import in_published_mode
from sat2map.networks.value_range import to_network
from sat2map.translation.translator import load

# The foreign generators, written anew from their architecture so that their weights get the
# names of that code. They are what the import is held to, by output.


def norms(norm: str, channels: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels, affine=False, track_running_stats=norm == "old instance")


class Level(nn.Module):
    """A level of the nested U-Net; it hands on its input, then what it made of it."""

    def __init__(
        self,
        outside: int,
        inside: int,
        inner: Level | None,
        norm: str,
        *,
        incoming: int | None = None,
        dropout: bool = False,
    ) -> None:
        super().__init__()
        bias = norm != "batch"
        self.outermost = incoming is not None
        down = nn.Conv2d(incoming or outside, inside, 4, 2, 1, bias=bias)
        joined = inside if inner is None else 2 * inside
        up = nn.ConvTranspose2d(joined, outside, 4, 2, 1, bias=bias or self.outermost)
        layers: list[nn.Module]
        if inner is None:
            layers = [nn.LeakyReLU(0.2, True), down, nn.ReLU(True), up, norms(norm, outside)]
        elif self.outermost:
            layers = [down, inner, nn.ReLU(True), up, nn.Tanh()]
        else:
            layers = [nn.LeakyReLU(0.2, True), down, norms(norm, inside), inner]
            layers += [nn.ReLU(True), up, norms(norm, outside)]
            layers += [nn.Dropout(0.5)] if dropout else []
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.model(x)
        return made if self.outermost else torch.cat([x, made], 1)


class ForeignUNet(nn.Module):
    def __init__(self, depth: int, width: int, norm: str, bands: int = 3, answer: int = 3) -> None:
        super().__init__()
        level = Level(8 * width, 8 * width, None, norm)
        for _ in range(depth - 5):
            level = Level(8 * width, 8 * width, level, norm, dropout=True)
        for channels in (4 * width, 2 * width, width):
            level = Level(channels, 2 * channels, level, norm)
        self.model = Level(answer, width, level, norm, incoming=bands)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.model(x)
        return made


class Residual(nn.Module):
    def __init__(self, width: int, norm: str, dropout: bool) -> None:
        super().__init__()
        bias = norm != "batch"
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=bias),
            norms(norm, width),
            nn.ReLU(True),
            *([nn.Dropout(0.5)] if dropout else []),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=bias),
            norms(norm, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = x + self.conv_block(x)
        return made


class ForeignResNet(nn.Module):
    def __init__(
        self, blocks: int, width: int, norm: str, dropout: bool = False, bands: int = 3
    ) -> None:
        super().__init__()
        bias = norm != "batch"
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(bands, width, 7, bias=bias)]
        layers += [norms(norm, width), nn.ReLU(True)]
        for channels in (width, 2 * width):
            layers.append(nn.Conv2d(channels, 2 * channels, 3, 2, 1, bias=bias))
            layers += [norms(norm, 2 * channels), nn.ReLU(True)]
        layers += [Residual(4 * width, norm, dropout) for _ in range(blocks)]
        for channels in (2 * width, width):
            layers.append(nn.ConvTranspose2d(2 * channels, channels, 3, 2, 1, 1, bias=bias))
            layers += [norms(norm, channels), nn.ReLU(True)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.model(x)
        return made


def shuffle(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give a network weights and statistics that leave no layer idle."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        elif value.ndim == 4:
            spread = (2 / value[0].numel()) ** 0.5
            value.copy_(torch.randn(value.shape, generator=generator) * spread)
        elif value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.3)
    return network


def saved(weights: object, path: Path) -> Path:
    torch.save(weights, path)
    return path


def images(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


FOREIGN: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "unet_256 batch": (lambda: ForeignUNet(8, 4, "batch"), 256),
    "unet_256 instance": (lambda: ForeignUNet(8, 4, "instance"), 256),
    "unet_128 batch": (lambda: ForeignUNet(7, 6, "batch", bands=4, answer=1), 128),
    "unet_128 instance": (lambda: ForeignUNet(7, 4, "instance"), 128),
    "unet_32 batch": (lambda: ForeignUNet(5, 4, "batch"), 32),
    "resnet_9blocks instance": (lambda: ForeignResNet(9, 4, "instance"), 32),
    "resnet_6blocks batch": (lambda: ForeignResNet(6, 6, "batch", bands=4), 32),
    "resnet_6blocks batch dropout": (lambda: ForeignResNet(6, 4, "batch", dropout=True), 32),
    "resnet_9blocks instance dropout": (lambda: ForeignResNet(9, 4, "instance", True), 32),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_an_import_gives_the_same_image(kind: str, tmp_path: Path) -> None:
    build, side = FOREIGN[kind]
    foreign = shuffle(build())
    ours, _ = read_checkpoint(saved(foreign.state_dict(), tmp_path / "latest_net_G.pth"))
    bands = next(foreign.parameters()).shape[1]
    source = images(2, bands, side, 2 * side)
    with torch.no_grad():
        expected = foreign.eval()(source)
        answer = ours(source)
        assert expected.std() > 0.05  # a dull image would prove nothing
        torch.testing.assert_close(answer, expected, atol=1e-5, rtol=1e-4)

        # And with the image's own statistics, as that code predicts, without its dropout.
        foreign.train()
        for module in foreign.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
        torch.testing.assert_close(
            in_published_mode(ours)(source), foreign(source), atol=1e-4, rtol=1e-3
        )


@pytest.mark.parametrize("kind", ["unet_256 batch", "resnet_6blocks batch dropout"])
def test_dropout_sits_where_it_did(kind: str, tmp_path: Path) -> None:
    foreign = shuffle(FOREIGN[kind][0]())
    ours, _ = read_checkpoint(saved(foreign.state_dict(), tmp_path / "net.pth"))

    def dropped(network: nn.Module) -> list[tuple[int, ...]]:
        shapes: list[tuple[int, ...]] = []
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape)))
        network(images(1, 3, 256, 256))
        return shapes

    assert dropped(ours) == dropped(foreign) != []


@pytest.mark.parametrize("wrap", ["module", "compiled", "nested", "netG", "half", "old format"])
def test_the_ways_in_which_checkpoints_are_saved(wrap: str, tmp_path: Path) -> None:
    foreign = shuffle(ForeignUNet(5, 4, "batch"))
    state: Any = foreign.state_dict()
    if wrap in {"module", "compiled"}:
        prefix = {"module": "module.", "compiled": "module._orig_mod."}[wrap]
        state = OrderedDict((prefix + k, v) for k, v in state.items())
    elif wrap == "nested":
        state = {"epoch": 3, "state_dict": state, "options": {"ngf": 4}}
    elif wrap == "netG":
        discriminator = {"model.0.weight": torch.zeros(4, 6, 4, 4)}
        state = {"netG": state, "netD": discriminator, "loss": 0.5}
    elif wrap == "half":
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    path = tmp_path / "net.pth"
    torch.save(state, path, _use_new_zipfile_serialization=wrap != "old format")
    ours, _ = read_checkpoint(path)
    source = images(1, 3, 32, 32)
    with torch.no_grad():
        tolerance = 0.02 if wrap == "half" else 1e-5
        torch.testing.assert_close(ours(source), foreign.eval()(source), atol=tolerance, rtol=0)


def test_averages_that_old_instance_norm_saved_are_left_out(tmp_path: Path) -> None:
    foreign = shuffle(ForeignResNet(6, 4, "old instance"))
    assert any(name.endswith("running_mean") for name in foreign.state_dict())
    ours, spec = read_checkpoint(saved(foreign.state_dict(), tmp_path / "net.pth"))
    assert spec.norm == "instance"
    source = images(1, 3, 32, 32)
    with torch.no_grad():  # that code predicts in training mode
        torch.testing.assert_close(ours(source), foreign(source), atol=1e-5, rtol=1e-4)


def test_batch_norm_that_did_not_count_its_batches(tmp_path: Path) -> None:
    state = shuffle(ForeignUNet(5, 4, "batch")).state_dict()
    for name in [name for name in state if name.endswith("num_batches_tracked")]:
        del state[name]
    read_checkpoint(saved(state, tmp_path / "net.pth"))


class Evil:
    """What it would do when unpickled: make a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("way", ["beside weights", "alone", "bare pickle", "old format"])
def test_a_malicious_pickle_does_not_run(way: str, tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "latest_net_G.pth"
    weights = dict(ForeignUNet(5, 4, "batch").state_dict())
    content = Evil(trace) if way == "alone" else {**weights, "model.extra": Evil(trace)}
    if way == "bare pickle":
        path.write_bytes(pickle.dumps(Evil(trace)))
        pickle.loads(path.read_bytes())
    else:
        torch.save(content, path, _use_new_zipfile_serialization=way != "old format")
        torch.load(path, weights_only=False)
    assert trace.exists()  # it is armed
    trace.unlink()

    with pytest.raises(ModelError) as raised:
        read_checkpoint(path)
    assert not trace.exists()
    message = str(raised.value)
    assert "\n" not in message and "latest_net_G.pth" in message
    assert "not opened" in message and "state_dict()" in message


def test_a_whole_pickled_network_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = saved(nn.Sequential(nn.Conv2d(3, 4, 3)), tmp_path / "net.pth")
    with pytest.raises(ModelError, match=r"torch\.nn.*not opened.*state_dict\(\)"):
        read_checkpoint(path)


def zip_of_a_script() -> bytes:
    buffer = io.BytesIO()
    torch.save({"model.model.0.weight": torch.zeros(4, 3, 4, 4)}, buffer)
    return buffer.getvalue()[:-200]


@pytest.mark.parametrize(
    "content",
    [b"", b"not a checkpoint at all", b"\x80\x02}q\x00.", b"PK\x03\x04", zip_of_a_script()],
)
def test_a_damaged_file_gives_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"net\.pth: ") as raised:
        read_checkpoint(path)
    assert "\n" not in str(raised.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        read_checkpoint(tmp_path / "net.pth")


DEEP = "model.model.1.model.3.model.1.weight"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda w: w.pop(DEEP), "U-Net of 2 levels"),
        (lambda w: w.pop("model.model.3.weight"), r"layer model\.model\.3\.weight is missing"),
        (
            lambda w: w.update({DEEP: torch.zeros(16, 8, 3, 3)}),
            r"1\.model\.3\.model\.1\.weight has the shape \[16, 8, 3, 3\], not \[16, 8, 4, 4\]",
        ),
        (
            lambda w: w.update({"model.model.7.weight": torch.zeros(1)}),
            r"layer model\.model\.7\.weight has no counterpart",
        ),
        (lambda w: w[DEEP].fill_(float("nan")), r"3\.model\.1\.weight has values that are not num"),
        (
            lambda w: w.pop("model.model.1.model.2.running_mean"),
            r"model\.2\.running_mean is missing",
        ),
        (lambda w: w.pop("model.model.1.model.2.weight"), "without norm"),
        (lambda w: w.pop("model.model.0.weight"), r"no generator known.*model\.model\.1\.model\.1"),
    ],
)
def test_the_layer_that_does_not_fit_is_named(
    change: Callable[[dict[str, Tensor]], object], complaint: str, tmp_path: Path
) -> None:
    weights = dict(ForeignUNet(5, 4, "batch").state_dict())
    change(weights)
    with pytest.raises(ModelError, match=complaint):
        read_checkpoint(saved(weights, tmp_path / "net.pth"))


def test_other_networks_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    with pytest.raises(ModelError, match="holds a discriminator"):
        read_checkpoint(saved({"model.0.weight": torch.zeros(4, 6, 4, 4)}, path))
    with pytest.raises(ModelError, match="it has no weights"):
        read_checkpoint(saved({"epoch": 3}, path))
    with pytest.raises(ModelError, match="holds a list"):
        read_checkpoint(saved([torch.zeros(3)], path))
    state = ForeignUNet(5, 4, "batch").state_dict()
    with pytest.raises(ModelError, match=r"several generators \(G_A, G_B\)"):
        read_checkpoint(saved({"G_A": state, "G_B": state}, path))


def write_images(folder: Path, count: int, size: tuple[int, int]) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_model_folder_answers_as_the_foreign_network(norm: str, tmp_path: Path) -> None:
    foreign = shuffle(ForeignUNet(5, 4, norm)).eval()
    path = saved(foreign.state_dict(), tmp_path / "latest_net_G.pth")
    import_checkpoint(path, tmp_path / "model", resolution_m=(1.8, 2.4), direction="reverse")
    model = load_model(tmp_path / "model")
    source = images(1, 3, 32, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.network(source), foreign(source), atol=1e-5, rtol=1e-4)
    assert (model.card.resolution_m, model.card.direction) == ((1.8, 2.4), "reverse")
    assert "will differ" in model.card.normalisation
    assert "calibrate" in (tmp_path / "model" / "README.md").read_text()
    assert "latest_net_G.pth" in model.card.data.name
    assert (
        json.loads((tmp_path / "model" / "model.json").read_text())["generator"]["name"] == "unet"
    )


@pytest.mark.parametrize("kind", ["unet batch", "unet instance", "resnet instance"])
def test_calibration_makes_tiles_alike(kind: str, tmp_path: Path) -> None:
    architecture, norm = kind.split()
    build = ForeignUNet if architecture == "unet" else ForeignResNet
    foreign = shuffle(build(5, 4, norm))
    path = saved(foreign.state_dict(), tmp_path / "net.pth")
    write_images(tmp_path / "given", 3, (70, 100))
    card = import_checkpoint(path, tmp_path / "model", calibrate=tmp_path / "given")
    network = load_model(tmp_path / "model").network
    windows = {"unet": "18 windows of 32", "resnet": "3 windows of 256"}[architecture]
    assert f"{windows} pixels from 3 images of given" in card.normalisation

    # Half of an image, next to something else: its far end must not notice.
    left = images(1, 3, 256, 256)
    beside = torch.cat([left, torch.full_like(left, 0.9)], 3)
    with torch.no_grad():
        alone, together = network(left), network(beside)[..., :256]
        torch.testing.assert_close(alone[..., :128], together[..., :128], atol=1e-5, rtol=1e-4)
        # While with the image's own statistics, as the foreign code predicts, it does.
        own = foreign.train()(left), foreign(beside)[..., :256]
    assert (own[0] - own[1])[..., :128].abs().mean() > 0.01


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("size", [(1, 1), (3, 50), (33, 40)])
def test_an_imported_model_translates_any_size(
    norm: str, size: tuple[int, int], tmp_path: Path
) -> None:
    for i, foreign in enumerate([ForeignUNet(5, 4, norm), ForeignResNet(6, 4, norm)]):
        path = saved(shuffle(foreign).state_dict(), tmp_path / "net.pth")
        import_checkpoint(path, tmp_path / f"model{i}")
        translator = load(tmp_path / f"model{i}", "cpu")
        source = np.full((*size, 3), 100, np.uint8)
        for mode in ("deterministic", "published"):
            assert translator.translate(source, mode=mode).shape == source.shape


def test_calibration_uses_what_the_network_will_see(tmp_path: Path) -> None:
    foreign = shuffle(ForeignUNet(5, 4, "batch"))
    path = saved(foreign.state_dict(), tmp_path / "net.pth")
    write_images(tmp_path / "given", 1, (32, 32))
    import_checkpoint(path, tmp_path / "model", calibrate=tmp_path / "given")
    pixels = np.asarray(Image.open(tmp_path / "given" / "0.png"))
    source = to_network(torch.from_numpy(pixels.copy())[None])
    # The statistics of one image are those that this image is normalised with by itself.
    for module in foreign.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0
    with torch.no_grad():
        answer = load_model(tmp_path / "model").network(source)
        torch.testing.assert_close(answer, foreign.train()(source), atol=1e-4, rtol=1e-3)


def test_calibration_takes_the_sources_of_a_data_set(tmp_path: Path) -> None:
    """Sources and targets differ much in brightness, so it shows which ones were taken."""
    path = saved(shuffle(ForeignUNet(5, 4, "batch")).state_dict(), tmp_path / "net.pth")
    rng = np.random.default_rng(0)
    dark, light = (rng.integers(low, low + 56, (64, 64, 3), np.uint8) for low in (0, 200))
    (tmp_path / "set" / "train").mkdir(parents=True)
    Image.fromarray(np.hstack([dark, light])).save(tmp_path / "set" / "train" / "1.png")
    for name, pixels in (("dark", dark), ("light", light)):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "1.png")

    def weights(name: str, **arguments: Any) -> dict[str, Tensor]:
        import_checkpoint(path, tmp_path / "models" / name, **arguments)
        return load_model(tmp_path / "models" / name).network.state_dict()

    forward = weights("forward", calibrate=tmp_path / "set")
    reverse = weights("reverse", calibrate=tmp_path / "set", direction="reverse")
    from_dark = weights("dark", calibrate=tmp_path / "dark")
    from_light = weights("light", calibrate=tmp_path / "light")
    for name in forward:
        assert torch.equal(forward[name], from_dark[name])
        assert torch.equal(reverse[name], from_light[name])
    assert any(not torch.equal(forward[name], reverse[name]) for name in forward)


def test_calibration_brings_images_to_the_scale_of_the_model(tmp_path: Path) -> None:
    path = saved(shuffle(ForeignUNet(5, 4, "batch")).state_dict(), tmp_path / "net.pth")
    write_images(tmp_path / "given", 1, (64, 128))
    write_card(tmp_path / "given", DataSetCard(resolution_m=0.5))
    seen = []
    for resolution in (None, (0.3, 0.7), (1.0, 2.0)):
        out = tmp_path / f"model{len(seen)}"
        card = import_checkpoint(path, out, calibrate=tmp_path / "given", resolution_m=resolution)
        seen.append(int(card.normalisation.split()[2]))
    assert seen == [8, 8, 2]  # windows of 32 in 64 x 128, and in 32 x 64 pixels


def test_calibration_takes_no_more_than_it_needs(tmp_path: Path) -> None:
    path = saved(shuffle(ForeignUNet(5, 4, "batch")).state_dict(), tmp_path / "net.pth")
    write_images(tmp_path / "given", 5, (320, 320))  # 100 windows each
    told: list[tuple[int, int]] = []
    card = import_checkpoint(
        path,
        tmp_path / "model",
        calibrate=tmp_path / "given",
        progress=lambda done, total: told.append((done, total)),
    )
    assert int(card.normalisation.split()[2]) == 100
    assert told == [(i, 5) for i in range(6)]


def test_what_cannot_be_calibrated_with_is_named(tmp_path: Path) -> None:
    four = saved(ForeignUNet(5, 4, "batch", bands=4).state_dict(), tmp_path / "four.pth")
    write_images(tmp_path / "given", 1, (32, 32))
    (tmp_path / "empty").mkdir()
    for folder, complaint in [
        ("given", r"0\.png: has 3 bands, but the model takes 4"),
        ("empty", "no images"),
        ("nowhere", "no such folder"),
    ]:
        with pytest.raises(DataError, match=complaint):
            import_checkpoint(four, tmp_path / "model", calibrate=tmp_path / folder)
    assert not (tmp_path / "model").exists()


def test_wrong_calls(tmp_path: Path) -> None:
    path = saved(ForeignUNet(5, 4, "batch", bands=4).state_dict(), tmp_path / "net.pth")
    for resolution in [(0.0, 1.0), (2.0, 1.0), (float("nan"), 1.0), (1.0, float("inf"))]:
        with pytest.raises(UsageError, match="`resolution_m`"):
            import_checkpoint(path, tmp_path / "model", resolution_m=resolution)
    import_checkpoint(path, tmp_path / "model")
    assert len(read_model_card(tmp_path / "model").bands) == 4
    with pytest.raises(OutputError, match="exists already"):
        import_checkpoint(path, tmp_path / "model")


def test_a_folder_of_others_is_told_before_the_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    put_foreign: Callable[..., Callable[..., None]],
) -> None:
    path = saved(ForeignUNet(5, 4, "batch").state_dict(), tmp_path / "net.pth")
    check = put_foreign(tmp_path / "model", "model.json")
    monkeypatch.setattr(pix2pix_checkpoint, "read_checkpoint", lambda _: pytest.fail("it was read"))
    with pytest.raises(OutputError, match="model: exists already"):
        import_checkpoint(path, tmp_path / "model")
    check(alone=True)
