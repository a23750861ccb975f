from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from sat2map.errors import ModelError, UsageError
from sat2map.legend import STREETS, cover_of
from sat2map.model.folder import Model, ModelCard, build_generator
from sat2map.networks.specs import CompactSpec, UNetSpec
from sat2map.raster.options import Mode
from sat2map.translation import image_windows as module
from sat2map.translation import translator as translator_module
from sat2map.translation.maps import LAYERS, calibrated, mixed
from sat2map.translation.translator import Translator, load

MODES = st.sampled_from(("deterministic", "published"))


class Identity(nn.Module):
    """Answers what it is given, and keeps the sizes that it saw."""

    def __init__(self, multiple: int) -> None:
        super().__init__()
        self.multiple = multiple
        self.seen: list[tuple[int, ...]] = []

    def forward(self, source: Tensor) -> Tensor:
        self.seen.append(tuple(source.shape[2:]))
        return source


def image(height: int, width: int, bands: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, bands), dtype=np.uint8)


def identity(multiple: int = 4) -> tuple[Translator, Identity]:
    network = Identity(multiple)
    card = ModelCard(generator=UNetSpec(), normalisation="none")
    return Translator(Model(network, card, Path("identity")), "cpu"), network


def unet(**arguments: Any) -> Translator:
    return Translator(unet_model(**arguments), "cpu")


def unet_model(**arguments: Any) -> Model:
    """A model whose weights are not those of a fresh network."""
    spec = UNetSpec(**{"size": 16, "base_channels": 4} | arguments)
    torch.manual_seed(0)
    network = build_generator(spec)
    for parameter in network.parameters():
        parameter.data.mul_(5)
    bands = tuple(f"band_{i + 1}" for i in range(arguments.get("in_channels", 3)))
    card = ModelCard(generator=spec, normalisation="none", bands=bands)
    return Model(network, card, Path("unet"))


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW", 16)
    monkeypatch.setattr(module, "OVERLAP", 4)


@settings(max_examples=40)
@given(st.integers(1, 50), st.integers(1, 50), st.sampled_from([1, 4, 8, 16]), MODES)
def test_a_network_that_changes_nothing_gives_the_image_back(
    height: int, width: int, multiple: int, mode: Mode
) -> None:
    source = image(height, width, seed=height * 50 + width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "WINDOW", 16)
        patch.setattr(module, "OVERLAP", 4)
        translator, network = identity(multiple)
        result = translator.translate(source, mode=mode)
    assert result.dtype == np.uint8
    assert np.array_equal(result, source)
    assert all(side % multiple == 0 for size in network.seen for side in size)
    assert mode == "published" or all(side <= 16 for size in network.seen for side in size)


def test_every_value_comes_back_through_blended_windows(small_windows: None) -> None:
    source = np.resize(np.arange(256, dtype=np.uint8), (40, 40, 3))
    assert np.array_equal(identity()[0].translate(source), source)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (17, 16), (16, 16), (33, 35)])
def test_any_size_is_translated_and_twice_the_same(
    size: tuple[int, int], small_windows: None
) -> None:
    translator, source = unet(), image(*size)
    result = translator.translate(source)
    assert result.shape == (*size, 3)
    assert np.array_equal(translator.translate(source), result)
    published = translator.translate(source, mode="published")
    assert published.shape == (*size, 3)


def test_what_a_window_answers_does_not_depend_on_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Deterministic prediction far from a change stays as it was, to the last bit."""
    monkeypatch.setattr(module, "WINDOW", 32)
    monkeypatch.setattr(module, "OVERLAP", 16)
    translator, source = unet(), image(100, 32)
    changed = source.copy()
    changed[80:] = 255
    one, other = translator.translate(source), translator.translate(changed)
    assert np.array_equal(one[:48], other[:48])
    assert not np.array_equal(one[80:], other[80:])


def test_one_window_is_what_the_network_answers() -> None:
    model, source = unet_model(), image(16, 32)
    translator = Translator(model, "cpu")
    with torch.no_grad():
        values = torch.from_numpy(source).permute(2, 0, 1)[None].float() / 127.5 - 1
        answer = model.network(values)[0].permute(1, 2, 0).numpy()
    expected = np.rint((answer + 1) * 127.5)
    assert np.abs(translator.translate(source) - expected).max() <= 1


def test_progress_counts_the_windows(small_windows: None) -> None:
    calls: list[tuple[int, int]] = []
    translator, network = identity()
    translator.translate(image(30, 20), progress=lambda done, all_: calls.append((done, all_)))
    assert calls == [(i + 1, 6) for i in range(6)]
    assert network.seen == [(16, 16), (16, 8), (16, 16), (16, 8), (8, 16), (8, 8)]


def test_as_published_a_seed_repeats_the_dropout() -> None:
    translator, source = unet(), image(20, 20)
    first = translator.translate(source, mode="published", seed=3)
    assert np.array_equal(translator.translate(source, mode="published", seed=3), first)
    assert not np.array_equal(translator.translate(source, mode="published", seed=4), first)
    assert not np.array_equal(translator.translate(source), first)


@pytest.mark.parametrize("norm", ["batch", "instance_calibrated"])
def test_as_published_touches_neither_the_model_nor_the_random_state(norm: str) -> None:
    model, source = unet_model(norm=norm), image(20, 20)
    translator = Translator(model, "cpu")
    before = {k: v.clone() for k, v in model.network.state_dict().items()}
    deterministic = translator.translate(source)
    state = torch.random.get_rng_state()
    translator.translate(source, mode="published")
    assert torch.equal(torch.random.get_rng_state(), state)
    after = model.network.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert np.array_equal(translator.translate(source), deterministic)


def test_as_published_takes_the_images_own_statistics() -> None:
    """An image brightened as a whole is normalised back by its first norm, near enough."""
    translator = unet(dropout=0.0)
    source = image(32, 32) // 2
    results = [translator.translate(s, mode="published") for s in (source, source + 40)]
    far = [translator.translate(s) for s in (source, source + 40)]

    def difference(pair: list[NDArray[np.uint8]]) -> float:
        return float(np.abs(pair[0].astype(float) - pair[1]).mean())

    assert difference(results) < difference(far)


def test_too_large_as_published_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translator_module, "MAX_PUBLISHED_PIXELS", 400)
    translator = identity()[0]
    assert translator.translate(image(20, 20), mode="published").shape == (20, 20, 3)
    with pytest.raises(UsageError, match="21 x 20 pixels are too many"):
        translator.translate(image(20, 21), mode="published")
    assert translator.translate(image(20, 21)).shape == (20, 21, 3)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (np.zeros((8, 8, 3), np.uint16), "not uint16"),
        (np.zeros((8, 8, 3), np.float32), "not float32"),
        (np.zeros((8, 8), np.uint8), r"\[8, 8\]"),
        (np.zeros((8, 8, 4), np.uint8), r"takes uint8 \[H,W,3\]"),
        (np.zeros((0, 8, 3), np.uint8), "no pixels"),
    ],
)
def test_other_arrays_are_refused(source: Any, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        identity()[0].translate(source)


def test_bands_are_free() -> None:
    translator = unet(in_channels=5, out_channels=2)
    assert translator.translate(image(20, 20, 5)).shape == (20, 20, 2)


def test_a_network_larger_than_the_window_gets_what_it_needs(small_windows: None) -> None:
    translator, network = identity(multiple=32)
    source = image(20, 70)
    assert np.array_equal(translator.translate(source), source)
    assert set(network.seen) == {(32, 32)}


def test_arrays_that_are_read_only_or_not_contiguous_are_taken(small_windows: None) -> None:
    source = image(20, 20)[:, ::-1]
    source.setflags(write=False)
    assert np.array_equal(identity()[0].translate(source), source)


def test_loading_a_folder(model_folder: Path) -> None:
    translator = load(model_folder, "cpu")
    assert translator.name == "tiny"
    assert translator.card.bands == ("red", "green", "blue")
    assert translator.translate(image(20, 20)).shape == (20, 20, 3)
    with pytest.raises(ModelError, match="no such model folder"):
        load(model_folder / "other")


# A legend head answers in classes.


def legend_model(**arguments: Any) -> Translator:
    torch.manual_seed(0)
    colours = STREETS.colours.tolist()
    spec = CompactSpec(**{"channels": [8, 8, 16], "colours": colours} | arguments)
    network = build_generator(spec)
    for parameter in network.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    network.exit.weight.data.mul_(20)  # type: ignore[operator, union-attr]
    card = ModelCard(generator=spec, normalisation="none", legend=STREETS)
    return Translator(Model(network, card, Path("legend")), "cpu")


def test_a_legend_head_answers_in_probabilities_classes_and_colours() -> None:
    translator = legend_model()
    source = image(70, 45)
    shares = translator.translate(source, output="probabilities")
    classes = translator.translate(source, output="classes")
    assert shares.shape == (70, 45, 8)
    assert shares.dtype == np.float32
    np.testing.assert_allclose(shares.sum(2), 1, rtol=1e-5)
    assert len(np.unique(classes)) > 2
    assert np.array_equal(classes, shares.argmax(2))
    painted = translator.translate(source)
    sharp = shares.astype(np.float64) ** 4
    mixed = sharp @ STREETS.colours / sharp.sum(2, keepdims=True)
    assert np.abs(painted - mixed).max() <= 0.51
    sure = shares.max(2) > 0.9
    assert sure.mean() > 0.1
    off = np.abs(painted.astype(int) - STREETS.paint(classes))[sure]
    assert off.max() <= 1  # pure where the network is sure


def test_classes_are_blended_before_one_is_chosen(small_windows: None) -> None:
    translator = legend_model()
    source = image(80, 90)
    shares = translator.translate(source, output="probabilities")
    np.testing.assert_allclose(shares.sum(2), 1, rtol=1e-5)
    assert np.array_equal(translator.translate(source, output="classes"), shares.argmax(2))
    painted = mixed(shares, STREETS)  # as the network does it
    assert np.abs(translator.translate(source).astype(int) - painted).max() <= 1


def test_cover_follows_from_the_classes_of_the_map(small_windows: None) -> None:
    translator = legend_model()
    for source in (image(12, 12), image(80, 90)):
        shares = translator.translate(source, output="probabilities")
        cover = translator.translate(source, output="cover")
        assert (cover.shape, cover.dtype) == (source.shape[:2], np.uint8)
        ground = np.stack([shares[..., cover_of(STREETS) == c].sum(2) for c in range(5)], axis=2)
        ground.sort(axis=2)
        sure = ground[..., -1] - ground[..., -2] > 1e-5
        assert sure.mean() > 0.99
        of_map = np.stack([shares[..., cover_of(STREETS) == c].sum(2) for c in range(5)], axis=2)
        assert np.array_equal(cover[sure], of_map.argmax(2)[sure])
    assert len(np.unique(cover)) > 2
    model = unet_model()
    card = model.card.model_copy(update={"legend": STREETS})
    colours = Translator(Model(model.network, card, model.folder), "cpu")
    source = image(40, 24)
    expected = cover_of(STREETS)[colours.translate(source, output="classes")]
    assert np.array_equal(colours.translate(source, output="cover"), expected)


def test_confidence_is_calibrated_by_the_temperature_of_the_card() -> None:
    source, model = image(40, 24), legend_model()
    raw = model.maps(source, ("confidence", "cover_confidence"))
    card = model.card.model_copy(update={"temperatures": {"map": 2.0, "cover": 0.5}})
    told = Translator(Model(model._model.network, card, Path("x")), "cpu")  # type: ignore[union-attr]
    found = told.maps(source, ("confidence", "cover_confidence"))
    for before, after, power in (
        (raw.confidence, found.confidence, 0.5),
        (raw.cover_confidence, found.cover_confidence, 2.0),
    ):
        assert before is not None and after is not None
        odds = (before / np.maximum(255.0 - before, 1e-9)) ** power
        assert np.abs(after - 255 * odds / (1 + odds)).max() <= 0.501
        assert (after != before).any()


def test_calibrated_keeps_order_and_ends() -> None:
    steps = np.arange(256, dtype=np.uint8)
    for temperature in (0.3, 1.0, 1.45, 5.0):
        sure = calibrated(steps, temperature)
        assert (sure[0], sure[255]) == (0, 255)
        assert (np.diff(sure.astype(int)) >= 0).all()
    assert calibrated(np.array([204], np.uint8), 2.0)[0] == 170  # odds of 4 are odds of 2


@pytest.mark.parametrize("size", [(40, 24), (80, 90)])
def test_one_pass_gives_all_layers(size: tuple[int, int], small_windows: None) -> None:
    translator, source = legend_model(), image(*size)
    found = translator.maps(source, LAYERS)
    shares = translator.translate(source, output="probabilities")
    assert found.confidence is not None
    assert found.confidence.dtype == np.uint8
    assert np.abs(found.confidence - 255 * shares.max(2)).max() <= 0.501
    for name, layer in (("image", found.image), ("classes", found.classes)):
        assert np.array_equal(translator.translate(source, output=name), layer)  # type: ignore[call-overload]
    assert found.cover is not None and found.cover_confidence is not None
    assert np.array_equal(translator.translate(source, output="cover"), found.cover)
    ground = np.stack([shares[..., cover_of(STREETS) == c].sum(2) for c in range(5)], axis=2)
    assert found.cover_shares is not None
    assert found.cover_shares.dtype == np.uint8
    assert np.abs(found.cover_shares - 255 * ground).max() <= 0.501
    assert found.colour_shares is not None
    sharp = shares**4 / (shares**4).sum(2, keepdims=True)
    assert np.abs(found.colour_shares - 255 * sharp).max() <= 0.501
    told = np.take_along_axis(ground, found.cover[..., None].astype(int), 2)[..., 0]
    assert np.abs(found.cover_confidence - 255 * told).max() <= 0.501
    alone = translator.maps(source, ("cover",))
    assert alone.image is None and alone.confidence is None
    assert np.array_equal(alone.cover, found.cover)


def test_layers_that_a_model_does_not_have() -> None:
    source = image(16, 16)
    with pytest.raises(UsageError, match="no confidence"):
        unet().maps(source, ("confidence",))
    with pytest.raises(UsageError, match="no legend"):
        unet().maps(source, ("cover",))
    with pytest.raises(UsageError, match="not mixed of the colours of classes"):
        unet().maps(source, ("colour_shares",))
    with pytest.raises(UsageError, match="named twice"):
        legend_model().maps(source, ("cover", "cover"))
    with pytest.raises(UsageError, match="'roads' is not a layer"):
        legend_model().maps(source, ("roads",))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="nothing"):
        legend_model().maps(source, ())


def test_another_style_paints_the_same_classes() -> None:
    translator = legend_model()
    source = image(32, 32)
    other = translator.in_colours({"land": (1, 2, 3), "road": "#0000ff"})
    shares = translator.translate(source, output="probabilities")
    assert np.array_equal(other.translate(source, output="probabilities"), shares)
    sure = shares.max(2) > 0.95
    legend = STREETS.in_colours({"land": (1, 2, 3), "road": "#0000ff"})
    off = np.abs(other.translate(source).astype(int) - legend.paint(shares.argmax(2)))[sure]
    assert off.max() <= 1
    painted = mixed(shares, STREETS)  # as the network does it
    assert np.abs(translator.translate(source).astype(int) - painted).max() <= 1
    assert other.fingerprint() != translator.fingerprint()  # an interrupted map is not mixed


def test_classes_of_a_colour_head_are_the_nearest_colours() -> None:
    model = unet_model()
    card = model.card.model_copy(update={"legend": STREETS})
    translator = Translator(Model(model.network, card, model.folder), "cpu")
    source = image(40, 24)
    assert np.array_equal(
        translator.translate(source, output="classes"), STREETS.label(translator.translate(source))
    )


def test_a_colour_head_has_no_probabilities_and_no_other_style() -> None:
    translator = unet()
    with pytest.raises(UsageError, match="answers in colours"):
        translator.translate(image(16, 16), output="probabilities")
    for output in ("classes", "cover"):
        with pytest.raises(UsageError, match="no legend"):
            translator.translate(image(16, 16), output=output)
    with pytest.raises(UsageError, match="legend head"):
        translator.in_colours({})
