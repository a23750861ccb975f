from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from fixtures.scenes import Identity, MakeModel, noise, smooth, with_classes
from sat2map.data.images import read_image
from sat2map.errors import DataError, StoppedError, UsageError
from sat2map.legend import STREETS
from sat2map.model.folder import Model, ModelCard, build_generator, load_model
from sat2map.networks.specs import UNetSpec
from sat2map.translation import image_windows as module
from sat2map.translation.image import ImageOptions, translate_image
from sat2map.translation.translator import Translator, load

PLAIN = ImageOptions()


@pytest.fixture
def translator(model_folder: Path) -> Translator:
    return load(model_folder, "cpu")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return save(tmp_path / "photo.png", 20, 24)


def save(path: Path, height: int, width: int, mode: str = "RGB") -> Path:
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 4), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_image_stops_after_a_window(
    translator: Translator, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WINDOW", 16)
    monkeypatch.setattr(module, "OVERLAP", 4)
    stop, seen = threading.Event(), list[int]()

    def show(done: int, total: int) -> None:
        seen.append(done)
        stop.set()

    with pytest.raises(StoppedError, match=r"map.png: stopped as asked"):
        translate_image(translator, photo, tmp_path / "map.png", PLAIN, show, stop)
    assert seen == [1]
    assert names(tmp_path) == ["photo.png"]


@pytest.mark.parametrize("name", ["map.png", "map.webp", "map.tif", "new/map.PNG"])
def test_an_image_becomes_an_image_of_its_size(
    translator: Translator, photo: Path, tmp_path: Path, name: str
) -> None:
    target = tmp_path / name
    assert translate_image(translator, photo, target, PLAIN) == target
    expected = translator.translate(read_image(photo).pixels)
    written = read_image(target)
    assert np.array_equal(written.pixels, expected)
    assert written.alpha is None


def test_jpeg_is_written_near_enough(translator: Translator, photo: Path, tmp_path: Path) -> None:
    target = tmp_path / "map.jpg"
    translate_image(translator, photo, target, PLAIN)
    expected = translator.translate(read_image(photo).pixels)
    assert np.abs(read_image(target).pixels.astype(int) - expected).mean() < 8


def test_as_published_with_a_seed(translator: Translator, photo: Path, tmp_path: Path) -> None:
    options = ImageOptions(mode="published", seed=5)
    translate_image(translator, photo, tmp_path / "a.png", options)
    expected = translator.translate(read_image(photo).pixels, mode="published", seed=5)
    assert np.array_equal(read_image(tmp_path / "a.png").pixels, expected)


def test_a_comparison_shows_both_side_by_side(
    translator: Translator, photo: Path, tmp_path: Path
) -> None:
    translate_image(translator, photo, tmp_path / "my.map.png", ImageOptions(compare=True))
    beside = read_image(tmp_path / "my.map.compare.png").pixels
    assert np.array_equal(beside[:, :24], read_image(photo).pixels)
    assert np.array_equal(beside[:, 24:], read_image(tmp_path / "my.map.png").pixels)


def test_alpha_is_kept_and_what_lies_under_it_does_not_leak(
    translator: Translator, tmp_path: Path
) -> None:
    alpha = np.zeros((24, 24), np.uint8)
    alpha[4:20, 6:18] = 255
    alpha[4, 6] = 7
    visible = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    results = []
    for hidden in (0, 255):
        pixels = np.where(alpha[..., None] > 0, visible, np.uint8(hidden))
        path = tmp_path / f"{hidden}.png"
        Image.fromarray(np.dstack([pixels, alpha])).save(path)
        target = tmp_path / f"{hidden}.map.png"
        translate_image(translator, path, target, PLAIN)
        results.append(read_image(target))
    assert np.array_equal(results[0].alpha, alpha)  # type: ignore[arg-type]
    assert np.array_equal(results[0].pixels, results[1].pixels)
    translate_image(translator, tmp_path / "0.png", tmp_path / "flat.jpg", PLAIN)
    assert read_image(tmp_path / "flat.jpg").alpha is None


def test_what_is_faintly_visible_counts(translator: Translator, tmp_path: Path) -> None:
    visible = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    alpha = np.full((16, 16, 1), 255, np.uint8)
    alpha[4:12, 4:12] = 1
    Image.fromarray(np.dstack([visible, alpha])).save(tmp_path / "faint.png")
    translate_image(translator, tmp_path / "faint.png", tmp_path / "map.png", PLAIN)
    assert np.array_equal(read_image(tmp_path / "map.png").pixels, translator.translate(visible))
    alpha[4:12, 4:12] = 0
    Image.fromarray(np.dstack([visible, alpha])).save(tmp_path / "clear.png")
    translate_image(translator, tmp_path / "clear.png", tmp_path / "map.png", PLAIN)
    assert not np.array_equal(
        read_image(tmp_path / "map.png").pixels, translator.translate(visible)
    )


def test_a_wholly_transparent_image_is_translated(translator: Translator, tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (9, 9, 9, 0)).save(tmp_path / "clear.png")
    translate_image(translator, tmp_path / "clear.png", tmp_path / "out.png", PLAIN)
    written = read_image(tmp_path / "out.png")
    assert written.alpha is not None
    assert not written.alpha.any()


@pytest.mark.parametrize("name", ["map.gif", "map", "map.npy"])
def test_a_name_for_no_image_is_refused(
    translator: Translator, photo: Path, tmp_path: Path, name: str
) -> None:
    with pytest.raises(UsageError, match=rf"{name}: is not a name for an image"):
        translate_image(translator, photo, tmp_path / name, PLAIN)
    assert names(tmp_path) == ["photo.png"]


def test_the_input_is_never_overwritten(translator: Translator, photo: Path) -> None:
    folder, before = photo.parent, photo.read_bytes()
    with pytest.raises(UsageError, match="is the input itself"):
        translate_image(translator, photo, folder / "x" / ".." / photo.name, PLAIN)
    assert photo.read_bytes() == before
    assert names(folder) == ["photo.png"]


def test_what_is_not_there(translator: Translator, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.png: there is no such file"):
        translate_image(translator, tmp_path / "no.png", tmp_path / "map.png", PLAIN)


def test_max_pixels(translator: Translator, photo: Path, tmp_path: Path) -> None:
    options = replace(PLAIN, max_pixels=20 * 24)
    translate_image(translator, photo, tmp_path / "map.png", options)
    with pytest.raises(DataError, match=r"24 x 20 pixels are more than the 479.*`max_pixels`"):
        translate_image(translator, photo, tmp_path / "b.png", replace(PLAIN, max_pixels=479))
    assert not (tmp_path / "b.png").exists()


def save_bands(path: Path, bands: int) -> Path:
    facts = {"width": 8, "height": 8, "count": bands, "dtype": "uint8"}
    with (
        pytest.warns(NotGeoreferencedWarning),
        rasterio.open(path, "w", driver="GTiff", photometric="minisblack", **facts) as file,
    ):
        file.colorinterp = [ColorInterp.gray] + [ColorInterp.undefined] * (bands - 1)
        file.write(np.full((bands, 8, 8), 77, np.uint8))
    return path


def test_other_bands_are_refused(translator: Translator, tmp_path: Path) -> None:
    four = save_bands(tmp_path / "four.tif", 4)
    with pytest.raises(DataError, match=r"four\.tif: has 4 bands, but the model takes 3: red"):
        translate_image(translator, four, tmp_path / "map.png", PLAIN)


@pytest.mark.parametrize("bands", [2, 4])
def test_a_source_of_other_bands_is_compared_too(tmp_path: Path, bands: int) -> None:
    spec = UNetSpec(in_channels=bands, size=16, base_channels=2)
    names = tuple(f"band_{i}" for i in range(bands))
    card = ModelCard(generator=spec, bands=names, normalisation="none")
    model = Translator(Model(build_generator(spec), card, tmp_path), "cpu")
    source = save_bands(tmp_path / "source.tif", bands)
    translate_image(model, source, tmp_path / "map.png", ImageOptions(compare=True))
    beside = read_image(tmp_path / "map.compare.png").pixels
    assert beside.shape == (8, 16, 3)
    assert (beside[:, :8] == 77).all()


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 3), (3, 1), (1, 1)])
def test_models_of_one_band_are_ordinary_models(
    photo: Path, tmp_path: Path, inputs: int, outputs: int
) -> None:
    channels = {"in_channels": inputs, "out_channels": outputs}
    spec = UNetSpec(**channels, size=16, base_channels=2)
    names = tuple(f"band_{i}" for i in range(inputs))
    card = ModelCard(generator=spec, bands=names, normalisation="none")
    model = Translator(Model(build_generator(spec), card, tmp_path), "cpu")
    pixels = read_image(photo).pixels
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    Image.fromarray(grey).save(tmp_path / "grey.png")
    options = ImageOptions(compare=True)
    for name in (photo, tmp_path / "grey.png"):
        translate_image(model, name, tmp_path / "map.png", options)
        seen = read_image(name).pixels if inputs == 3 else grey[..., None]
        found = read_image(tmp_path / "map.png").pixels
        assert np.array_equal(found, np.broadcast_to(model.translate(seen), found.shape))


def test_legend_colours_are_the_only_ones(model_folder: Path, photo: Path, tmp_path: Path) -> None:
    model = load_model(model_folder)
    card = model.card.model_copy(update={"legend": STREETS})
    with_legend = Translator(replace(model, card=card), "cpu")
    options = ImageOptions(legend_colours=True)
    translate_image(with_legend, photo, tmp_path / "map.png", options)
    found = {tuple(p) for p in read_image(tmp_path / "map.png").pixels.reshape(-1, 3).tolist()}
    assert found <= {entry.colour for entry in STREETS.classes}
    with pytest.raises(UsageError, match="`legend_colours`: the model tiny has no legend"):
        translate_image(Translator(model, "cpu"), photo, tmp_path / "other.png", options)


def test_an_image_whose_pixel_size_is_told_is_seen_at_a_scale_that_the_model_knows(
    make_model: MakeModel, tmp_path: Path
) -> None:
    network = Identity(1)
    translator = make_model((0.5, 2), network=network)
    source = tmp_path / "fine.png"
    Image.fromarray(smooth(120, 90)).save(source)
    options = ImageOptions(pixel_size=0.25)
    translate_image(translator, source, tmp_path / "map.png", options)
    assert network.seen == [(60, 45)]
    result = np.asarray(Image.open(tmp_path / "map.png")).astype(int)
    assert result.shape == (120, 90, 3)
    assert np.abs(result - smooth(120, 90)).mean() < 3


def test_and_snapped_to_its_legend_it_keeps_to_it(tmp_path: Path) -> None:
    translator = with_classes((0.5, 2))
    source = tmp_path / "fine.png"
    Image.fromarray(noise(120, 90)).save(source)
    options = ImageOptions(pixel_size=0.25, legend_colours=True)
    translate_image(translator, source, tmp_path / "map.png", options)
    colours = np.unique(np.asarray(Image.open(tmp_path / "map.png")).reshape(-1, 3), axis=0)
    assert {tuple(c) for c in colours.tolist()} <= {c.colour for c in translator.legend.classes}
