"""Passes with dropout that vote for the classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from fixtures.scenes import MakeModel, MakeScene, smooth, with_classes
from sat2map.cli.app import app
from sat2map.errors import UsageError
from sat2map.export.export import export_model
from sat2map.legend import STREETS, SURENESS_TAG, Legend, cover_of
from sat2map.model.folder import Model, ModelCard, build_generator, save_model
from sat2map.networks.normalisation import with_placed_dropout
from sat2map.networks.specs import GeneratorSpec, ResNetSpec, UNetSpec
from sat2map.networks.value_range import round_image, to_network
from sat2map.raster.options import SceneOptions
from sat2map.translation.class_files import ClassFiles
from sat2map.translation.provenance import made_of
from sat2map.translation.scene import translate_raster
from sat2map.translation.translator import Translator, load

UNET = UNetSpec(size=16, base_channels=8, dropout_blocks=[1, 2])


def model(spec: GeneratorSpec = UNET, legend: Legend | None = STREETS) -> Model:
    torch.manual_seed(0)
    network = build_generator(spec)
    for parameter in network.parameters():
        parameter.data.mul_(1 if parameter.ndim < 2 else 6)
    card = ModelCard(generator=spec, normalisation="none", legend=legend, resolution_m=(1.0, 1.0))
    return Model(network.eval(), card, Path("drops"))


def translator(spec: GeneratorSpec = UNET, legend: Legend | None = STREETS) -> Translator:
    return Translator(model(spec, legend), "cpu")


class Features(nn.Module):
    """Answers which features of a quarter of the side are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Dropout(0.5), nn.Dropout(0.25)

    def forward(self, source: Tensor) -> Tensor:
        ones = torch.ones(1, 6, source.shape[2] // 4, source.shape[3] // 4)
        return torch.cat([self.first(ones), self.second(ones)], 1)


def kept(seed: int, number: int, at: tuple[int, int], side: int = 256) -> np.ndarray:
    source = torch.zeros(1, 3, side, side)
    return with_placed_dropout(Features(), seed, number, at, side)(source)[0].numpy()


def test_windows_that_overlap_drop_the_same_where_they_do() -> None:
    whole = kept(3, 1, (0, 0))
    assert np.array_equal(kept(3, 1, (64, 128), 128), whole[:, 16:48, 32:64])
    beyond = kept(3, 1, (-64, -128))  # a halo reaches beyond the scene
    assert np.array_equal(beyond[:, 16:, 32:], whole[:, :48, :32])


def test_what_is_dropped_differs_by_seed_pass_layer_channel_and_place() -> None:
    whole = kept(3, 1, (0, 0)) > 0
    assert whole[:6].mean() == pytest.approx(0.5, abs=0.02)
    assert whole[6:].mean() == pytest.approx(0.75, abs=0.02)
    assert set(np.unique(kept(3, 1, (0, 0)))) == {0.0, np.float32(4 / 3), 2.0}
    rows, columns = whole[:, 1:], whole[:, :, 1:]
    for one, other, share in (
        (whole[:6], kept(4, 1, (0, 0))[:6] > 0, 0.5),
        (whole[:6], kept(3, 2, (0, 0))[:6] > 0, 0.5),
        (whole[0], whole[1], 0.5),
        (whole[6], whole[7], 0.625),
        (rows[:6], whole[:6, :-1], 0.5),
        (columns[:6], whole[:6, :, :-1], 0.5),
        (whole[:6], whole[6:], 0.5),
    ):
        assert (one == other).mean() == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("spec", [UNET, ResNetSpec(base_channels=4, blocks=1, dropout=0.5)])
def test_votes_are_those_of_passes_one_by_one(spec: GeneratorSpec) -> None:
    whole = model(spec)
    source = smooth(64, 48)
    told = Translator(whole, "cpu").sampled(5, seed=2).translate(source, output="probabilities")
    counts = np.zeros((64, 48, len(STREETS)))
    for number in range(5):
        network = with_placed_dropout(whole.network, 2, number, (0, 0), 64)
        with torch.inference_mode():
            drawn = network(to_network(torch.from_numpy(source[None])))
        numbers = STREETS.label(round_image(drawn[0].permute(1, 2, 0).numpy()))
        counts += numbers[..., None] == np.arange(len(STREETS))
    assert np.array_equal(told, (counts / 5).astype(np.float32))
    assert 0.2 < told.max(2).mean() < 0.999  # passes differ, or there is nothing to see
    maps = (
        Translator(whole, "cpu")
        .sampled(5, seed=2)
        .maps(source, ("classes", "confidence", "cover", "cover_confidence", "image"))
    )
    assert np.array_equal(maps.classes, told.argmax(2))
    assert np.array_equal(maps.confidence, np.rint(told.max(2) * 255))
    of_cover = np.stack([told[..., cover_of(STREETS) == n].sum(2) for n in range(5)], 2)
    assert maps.cover is not None and maps.cover_confidence is not None
    assert np.abs(maps.cover_confidence - of_cover.max(2) * 255).max() <= 1
    chosen = np.take_along_axis(of_cover, maps.cover[..., None].astype(int), 2)[..., 0]
    assert np.allclose(chosen, of_cover.max(2))
    assert np.array_equal(maps.image, Translator(whole, "cpu").translate(source))


def test_a_legend_head_votes_too_and_draws_as_without() -> None:
    spec = UNET.for_data(in_channels=3, out_channels=3, size=16, colours=None)
    spec = UNetSpec(**(spec.model_dump() | {"head": "legend", "colours": STREETS.colours.tolist()}))
    plain = translator(spec)
    voted = plain.sampled(4)
    told = voted.translate(smooth(32, 32), output="probabilities")
    assert np.allclose(told * 4, np.rint(told * 4)) and np.allclose(told.sum(2), 1)
    assert np.array_equal(voted.translate(smooth(32, 32)), plain.translate(smooth(32, 32)))


def test_seeds_are_heeded_and_the_first_translator_stays_as_it_was() -> None:
    source, plain = smooth(64, 64), translator()
    one, again, other = (plain.sampled(4, seed).maps(source, ("confidence",)) for seed in (1, 1, 2))
    assert np.array_equal(one.confidence, again.confidence)
    assert not np.array_equal(one.confidence, other.confidence)
    assert plain.samples is None
    options = SceneOptions()
    known = [made_of(t, {}, options)["model"] for t in (plain, plain.sampled(4), plain.sampled(5))]
    assert len({*known, made_of(plain.sampled(4, 9), {}, options)["model"]}) == 4


def test_a_scene_gets_the_agreement_and_the_map_that_it_gets_without(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    pixels = smooth(110, 150)
    pixels[:20, :20] = 0
    source, plain = make_scene(pixels, nodata=0), translator()
    options = SceneOptions(window=64, overlap=32)
    names = [tmp_path / f"{name}.tif" for name in ("map", "classes", "sure", "plain")]
    files = ClassFiles(names[1], names[2], "map")
    voted = plain.sampled(4, 7)
    translate_raster(source, names[0], voted, options, classes=files)
    translate_raster(source, names[3], plain, options)
    with rasterio.open(names[0]) as made, rasterio.open(names[3]) as without:
        assert np.array_equal(made.read(), without.read())
        assert json.loads(made.tags()["SAT2MAP_PARAMETERS"])["samples"] == {"count": 4, "seed": 7}
    with rasterio.open(names[2]) as file, rasterio.open(names[1]) as numbers:
        assert file.tags()[SURENESS_TAG].startswith("agreement: the share of 4 passes")
        sure, valid = file.read(1), file.read_masks(1) > 0
        assert SURENESS_TAG not in numbers.tags()
        classes = numbers.read(1)
    assert (classes[~valid] == 255).all() and (~valid).sum() == 400
    assert sure[valid].min() < 160
    # Where one window alone is seen, it is what the window gets by itself.
    window = voted.maps(np.ascontiguousarray(pixels[64:96, 64:96]), ("confidence",))
    assert window.confidence is not None and window.confidence.shape == (32, 32)
    by_itself = voted.predict(np.ascontiguousarray(pixels[32:96, 64:128]), ("votes",), 0, (32, 64))
    elsewhere = voted.predict(np.ascontiguousarray(pixels[32:96, 64:128]), ("votes",), 0, (0, 0))
    assert not np.array_equal(by_itself, elsewhere)


def test_a_class_map_has_a_calibrated_confidence_only_where_the_card_says_so(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    source = make_scene(smooth(64, 64))
    plain = with_classes((1.0, 1.0))
    fitted = with_classes((1.0, 1.0))
    fitted.card = fitted.card.model_copy(update={"temperatures": {"map": 1.2, "cover": 1.1}})
    for each, begins in ((plain, "probability"), (fitted, "confidence")):
        files = ClassFiles(tmp_path / f"{begins}.tif", tmp_path / f"{begins}_sure.tif")
        translate_raster(source, tmp_path / f"{begins}_map.tif", each, classes=files)
        with rasterio.open(tmp_path / f"{begins}_sure.tif") as file:
            assert file.tags()[SURENESS_TAG].startswith(begins)


def test_models_whose_passes_cannot_vote_are_refused_by_name(make_model: MakeModel) -> None:
    for each in (
        with_classes((1.0, 1.0)),
        translator(UNetSpec(size=16, base_channels=8, dropout=0.0)),
        translator(UNetSpec(size=16, base_channels=8, dropout_blocks=[4])),  # the last has none
        translator(ResNetSpec(base_channels=4, blocks=1)),
    ):
        with pytest.raises(UsageError, match=f"^{each.name}: its network has no dropout"):
            each.sampled(4)
    with pytest.raises(UsageError, match="drops: the model has no legend"):
        translator(legend=None).sampled(4)
    for wrong in (1, 1001, -3):
        with pytest.raises(UsageError, match=f"`samples`: is {wrong}"):
            translator().sampled(wrong)
    with pytest.raises(UsageError, match="`seed`: is -1"):
        translator().sampled(4, -1)


def test_passes_that_vote_are_not_as_published(make_scene: MakeScene, tmp_path: Path) -> None:
    voted = translator().sampled(4)
    with pytest.raises(UsageError, match="not as published"):
        voted.translate(smooth(32, 32), mode="published")
    with pytest.raises(UsageError, match="not as published"):
        voted.translate(smooth(32, 32), output="probabilities", mode="published")
    options = SceneOptions(mode="published")
    with pytest.raises(UsageError, match="not as published"):
        translate_raster(make_scene(smooth(32, 32)), tmp_path / "map.tif", voted, options)
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


def test_an_exported_model_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    save_model(tmp_path / "model", model().network, model().card)
    export_model(tmp_path / "model", tmp_path / "exported", "openvino")
    with pytest.raises(UsageError, match="is an exported model"):
        load(tmp_path / "exported").sampled(4)
    voted = load(tmp_path / "model", runtime="openvino").sampled(4, 1)  # torch votes for it
    told = voted.translate(smooth(32, 32), output="probabilities")
    assert np.array_equal(
        told, translator().sampled(4, 1).translate(smooth(32, 32), output="probabilities")
    )


def test_the_command_line_lets_passes_vote(make_scene: MakeScene, tmp_path: Path) -> None:
    source = make_scene(smooth(64, 64))
    save_model(tmp_path / "unet", model().network, model().card)
    names = [str(tmp_path / name) for name in ("map.tif", "classes.tif", "sure.tif")]
    own = ["--model", str(tmp_path / "unet"), "--runtime", "torch", "--quiet"]
    told = ["translate", str(source), names[0], *own]
    runner = CliRunner()
    done = runner.invoke(app, [*told, "--samples", "3"])
    assert isinstance(done.exception, UsageError) and done.exception.parameter == "samples"
    done = runner.invoke(app, [*told, "--classes", names[1], "--samples", "3", "--as-published"])
    assert isinstance(done.exception, UsageError) and done.exception.parameter == "samples"
    more = ["--classes", names[1], "--confidence", names[2], "--samples", "3", "--seed", "5"]
    done = runner.invoke(app, [*told, *more])
    assert done.exit_code == 0, done.exception
    with rasterio.open(names[2]) as file:
        assert set(np.unique(file.read(1))) <= {0, 85, 170, 255}
    streets = ["translate", str(source), names[0], "--classes", names[1], "--samples", "3"]
    done = runner.invoke(app, streets)
    assert str(done.exception).startswith("streets: its network has no dropout")


def test_vectors_of_a_photo_may_be_of_votes(make_scene: MakeScene, tmp_path: Path) -> None:
    pyogrio = pytest.importorskip("pyogrio")
    source = make_scene(smooth(96, 96))
    save_model(tmp_path / "unet", model().network, model().card)
    told = ["vectors", str(source), str(tmp_path / "town.gpkg"), "--quiet", "--samples", "3"]
    done = CliRunner().invoke(app, [*told, "--model", str(tmp_path / "unet")])
    assert done.exit_code == 0, done.exception
    _, _, _, fields = pyogrio.raw.read(tmp_path / "town.gpkg", "coverage", columns=["confidence"])
    assert ((fields[0] > 0.3) & (fields[0] <= 1)).all() and len(fields[0])
