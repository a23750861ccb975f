from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sat2map.errors import UsageError
from sat2map.legend import STREETS
from sat2map.model.folder import build_generator
from sat2map.networks.patchgan import PatchGAN
from sat2map.networks.specs import (
    FROM_DATA,
    CompactSpec,
    GeneratorSpec,
    LiteSpec,
    ResNetSpec,
    UNetSpec,
)
from sat2map.recipe import Recipe, load_recipe, shipped_recipes

# What each ablation or variant says, beside its name.
DIFFERENCES: dict[str, dict[str, Any]] = {
    "pix2pix": {},
    "l1": {"objective.adversarial_weight": 0.0},
    "gan": {"objective.l1_weight": 0.0, "discriminator.conditional": False},
    "cgan": {"objective.l1_weight": 0.0},
    "l1_gan": {"discriminator.conditional": False},
    "encoder_decoder": {"generator.skips": False},
    "pixelgan": {"discriminator.strided_layers": 0},
    "patch16": {"discriminator.strided_layers": 1},
    "imagegan": {"discriminator.strided_layers": 5},
    "least_squares": {"objective.adversarial": "least_squares"},
    "hinge": {"objective.adversarial": "hinge"},
    "linear": {"schedule.name": "linear"},
    "native": {"data.resize": None},
    "pix2pix128": {"data.size": 128, "data.resize": 143},
    "pix2pix512": {"data.size": 512, "data.resize": 572},
}


def flat(recipe: Recipe) -> dict[str, Any]:
    return {
        f"{section}.{key}": value
        for section, values in recipe.model_dump(exclude={"name"}).items()
        for key, value in values.items()
    }


def refused(recipe: str | Path, *settings: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_recipe(recipe, list(settings))
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    return line


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_pix2pix_is_as_published() -> None:
    values = flat(load_recipe("pix2pix"))
    published = {
        "data.size": 256,
        "data.resize": 286,
        "data.flip": True,
        "data.direction": "forward",
        "generator.name": "unet",
        "generator.base_channels": 64,
        "generator.skips": True,
        "generator.norm": "batch",
        "generator.dropout": 0.5,
        "discriminator.base_channels": 64,
        "discriminator.strided_layers": 3,
        "discriminator.conditional": True,
        "discriminator.norm": "batch",
        "objective.adversarial": "vanilla",
        "objective.adversarial_weight": 1.0,
        "objective.l1_weight": 100.0,
        "optimiser.learning_rate": 2e-4,
        "optimiser.beta1": 0.5,
        "optimiser.beta2": 0.999,
        "schedule.name": "constant",
        "training.epochs": 200,
        "training.max_steps": None,
        "training.batch": 1,
        "training.precision": "f32",
        "training.ema_decay": None,
        "training.init": None,
        "training.freeze_encoder": False,
    }
    assert {key: values[key] for key in published} == published
    assert load_recipe("pix2pix").name == "pix2pix"


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_loads_and_its_networks_can_be_built(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    spec = recipe.generator.for_data(
        in_channels=3, out_channels=3, size=recipe.data.size, colours=STREETS.colours.tolist()
    )
    with torch.device("meta"):
        generator = build_generator(spec)
        source = torch.empty(2, 3, recipe.data.size, recipe.data.size)
        generated = generator(source)
        decisions = PatchGAN(**recipe.discriminator.model_dump())(source, generated)
    assert generated.shape == source.shape
    assert decisions.numel() >= 2


@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_variant_differs_from_pix2pix_only_in_what_it_says(name: str) -> None:
    published, variant = flat(load_recipe("pix2pix")), flat(load_recipe(name))
    changed = {key: value for key, value in variant.items() if value != published[key]}
    assert changed == DIFFERENCES[name]


def test_the_five_objectives_of_the_papers_first_table() -> None:
    table = {}
    for name in ("l1", "gan", "cgan", "l1_gan", "pix2pix"):
        recipe = load_recipe(name)
        adversarial = recipe.objective.adversarial_weight
        sees = recipe.discriminator.conditional if adversarial else None
        table[name] = (recipe.objective.l1_weight, adversarial, sees)
    assert table == {
        "l1": (100, 0, None),
        "gan": (0, 1, False),
        "cgan": (0, 1, True),
        "l1_gan": (100, 1, False),
        "pix2pix": (100, 1, True),
    }


def test_unknown_names_are_refused() -> None:
    line = refused("pix2pix", "training.epoch=5")
    assert line.startswith("pix2pix: unknown key 'training.epoch'. [training] has: epochs, ")
    line = refused("pix2pix", "trainings.epochs=5")
    assert "unknown key 'trainings'" in line
    assert "The sections are: data, generator, discriminator, objective, optimiser, " in line
    assert "unknown key 'data.a.b'" in refused("pix2pix", "data.a.b=3")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("training.steps", "training.max_steps"),
        ("training.learning_rate", "optimiser.learning_rate"),
        ("generator.skip", "generator.skips"),
        ("data.sizes", "data.size"),
        ("trainings.epochs", "training"),
    ],
)
def test_a_key_that_is_nearly_right_is_guessed(given: str, meant: str) -> None:
    assert refused("pix2pix", f"{given}=5").endswith(f" Perhaps you mean {meant}.")


def test_an_unknown_key_of_the_generator_is_told_with_those_of_its_network() -> None:
    line = refused("pix2pix", "generator.skip=false")
    assert line.startswith("pix2pix: unknown key 'generator.skip'. [generator] has for unet: ")
    assert " name, head, base_channels, skips, norm, dropout, dropout_blocks." in line
    line = refused("compact", "generator.width=[4, 4]")
    assert line.endswith("[generator] has for compact: name, head, channels, blocks.")


@pytest.mark.parametrize("key", ["in_channels=3", "out_channels=1", "size=128", "colours=[]"])
def test_what_follows_from_the_data_is_no_part_of_a_recipe(key: str) -> None:
    line = refused("pix2pix", f"generator.{key}")
    source = "data.size" if key.startswith("size") else "the data"
    assert f"generator: {key.partition('=')[0]} follows from {source}; leave it out" in line


EVERY_KEY = """
name = "mine"
[data]
size = 256
resize = "none"
resolutions_m = [0.4, 2.6]
[generator]
name = "{name}"
head = "legend"
cover = {cover}
channels = [8, 16, 24]
blocks = [1, 1, 1, 1, 1]
encoder = "none"
freeze_norm = false
widths = [4, 8, 16, 32]
base_channels = 32
skips = false
norm = "instance_calibrated"
dropout = 0.25
"""
"""As runs of the first versions keep their recipe: with the keys of all networks."""


@pytest.mark.parametrize(
    "spec",
    [
        UNetSpec(
            head="legend", base_channels=32, skips=False, norm="instance_calibrated", dropout=0.25
        ),
        CompactSpec(head="legend", channels=[8, 16, 24], blocks=[1, 1, 1, 1, 1]),
        LiteSpec(
            head="legend", cover=True, encoder="none", freeze_norm=False, widths=[4, 8, 16, 32]
        ),
    ],
)
def test_a_recipe_with_the_keys_of_all_networks_is_read(
    tmp_path: Path, spec: GeneratorSpec
) -> None:
    told = EVERY_KEY.format(name=spec.name, cover=str(spec.tells_cover).lower())
    recipe = load_recipe(write(tmp_path / "old.toml", told))
    assert recipe.generator == spec
    kept = tomllib.loads(recipe.to_toml())["generator"]
    assert kept.keys() == type(spec).model_fields.keys() - FROM_DATA
    assert load_recipe(write(tmp_path / "kept.toml", recipe.to_toml())) == recipe


def test_another_network_than_that_of_the_base_has_its_own_keys(tmp_path: Path) -> None:
    path = write(tmp_path / "my.toml", 'base = "encoder_decoder"\n[generator]\nname = "compact"\n')
    assert load_recipe(path).generator == CompactSpec()
    other = load_recipe("compact", ["generator.name=lite", "generator.widths=[8, 8, 8, 8]"])
    assert other.generator == LiteSpec(head="legend", widths=[8, 8, 8, 8])
    resnet = load_recipe("l1", ["generator.name=resnet", "generator.norm=instance"]).generator
    assert isinstance(resnet, ResNetSpec)
    assert (resnet.norm, resnet.blocks) == ("instance", 9)


def test_unknown_names_in_a_file_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "my.toml", 'base = "pix2pix"\nepochs = 3\n')
    assert refused(path).startswith(f"{path}: unknown key 'epochs'. The sections are: ")
    path = write(tmp_path / "my.toml", "[data]\nsizes = 3\n")
    assert refused(path).startswith(f"{path}: unknown key 'data.sizes'. [data] has: size, ")


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ("optimiser.learning_rate=-1e-4", "optimiser.learning_rate: .*greater than 0, not -0.0001"),
        ("optimiser.learning_rate=0", "optimiser.learning_rate: .*greater than 0"),
        ("optimiser.learning_rate=inf", "optimiser.learning_rate: .*finite"),
        ("optimiser.learning_rate=nan", "optimiser.learning_rate: .*finite"),
        ("optimiser.learning_rate='fast'", "optimiser.learning_rate: .*number, not 'fast'"),
        ("objective.l1_weight=inf", "objective.l1_weight: .*finite"),
        ("optimiser.beta1=1", "optimiser.beta1: .*less than 1, not 1"),
        ("training.epochs=2.5", "training.epochs: .*integer, not 2.5"),
        ("training.epochs=true", "training.epochs: .*integer, not True"),
        ("training.epochs=none", "training.epochs: .*integer, not 'none'"),
        ("training.epochs=0", "training.epochs: .*greater than or equal to 1, not 0"),
        ("training.seed=-1", "training.seed: .*, not -1"),
        ("data.flip=1", "data.flip: .*boolean, not 1"),
        ("data.direction=backward", "data.direction: .*'forward' or 'reverse', not 'backward'"),
        ("data.size=200", r"data.size \(200\) must be a power of two"),
        ("data.resize=255", r"data: resize \(255\) is smaller than size \(256\)"),
        ("discriminator.strided_layers=6", "discriminator.strided_layers: .*, not 6"),
        ("generator.norm=group", "generator.norm: .*, not 'group'"),
        ("generator.name=vit", "generator: name is 'unet', 'resnet', .*, not 'vit'"),
        ("generator.name=3", "generator: name is 'unet', 'resnet', .*, not 3"),
        ("generator.base_channels=none", "generator.base_channels: .*integer, not 'none'"),
        ("generator.cover=true", "generator: cover needs name = lite"),
        ("schedule.name=sine", "schedule.name: .*, not 'sine'"),
        ("objective.casing=other", "objective.casing needs objective.class_weight"),
        ("training.freeze_encoder=true", "training.freeze_encoder needs training.init"),
        ("training.keep_statistics=true", "training.keep_statistics needs training.init"),
    ],
)
def test_values_that_make_no_sense_are_refused(setting: str, what: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        load_recipe("pix2pix", [setting])
    assert str(caught.value).startswith("pix2pix: ")
    assert caught.value.exit_code == 2


def test_values_that_do_not_fit_together_are_refused() -> None:
    assert "nothing to learn" in refused("l1", "objective.l1_weight=0")
    assert "decay_epochs is larger than" in refused("linear", "training.epochs=50")
    load_recipe("linear", ["training.epochs=50", "schedule.decay_epochs=50"])
    assert "need resize = none" in refused("pix2pix", "data.scales=[1.0, 2.0]")
    assert "least and the most" in refused("compact", "data.scales=[2.0, 1.0]")
    assert "needs data.scales" in refused("pix2pix", "generator.head=legend")
    assert "generator.head = legend" in refused("pix2pix", "objective.class_weight=1")
    assert "multiple of 16" in refused("streets", "data.size=250")


@pytest.mark.parametrize("strided", range(6))
def test_the_discriminator_decides_at_every_size_that_is_allowed(strided: int) -> None:
    layers = f"discriminator.strided_layers={strided}"
    for size in (16, 32, 64, 128):
        settings = [layers, f"data.size={size}"]
        with torch.device("meta"):
            network, pair = PatchGAN(strided_layers=strided), torch.empty(2, 1, 3, size, size)
        try:
            decisions = network(*pair).numel()
        except (RuntimeError, ValueError):  # nothing to decide on, or one value to normalise
            decisions = 0
        if decisions:
            assert load_recipe("pix2pix", settings).data.size == size
        else:
            assert f"data.size ({size}) is too small" in refused("pix2pix", *settings)
            load_recipe("l1", settings)  # without a discriminator it does not matter


@pytest.mark.parametrize("setting", ["epochs=5", "training.epochs", "training.=5", ".epochs=5", ""])
def test_what_is_no_setting_is_refused(setting: str) -> None:
    assert f"`settings`: {setting}: " in refused("pix2pix", setting)
    assert "Write section.key=value." in refused("pix2pix", setting)


def test_a_setting_cannot_go_below_a_name() -> None:
    assert "'name' is not a section" in refused("pix2pix", "name.x=5")


@pytest.mark.parametrize(
    ("setting", "key", "value"),
    [
        ("training.epochs=5", "training.epochs", 5),
        (" training.epochs = 5 ", "training.epochs", 5),
        ("training.epochs=1_000", "training.epochs", 1000),
        ("objective.l1_weight=10", "objective.l1_weight", 10.0),
        ("optimiser.learning_rate=1e-3", "optimiser.learning_rate", 1e-3),
        ("data.flip=false", "data.flip", False),
        ("data.direction=reverse", "data.direction", "reverse"),
        ('data.direction="reverse"', "data.direction", "reverse"),
        ("data.direction='reverse'", "data.direction", "reverse"),
        ("data.resize=none", "data.resize", None),
        ('data.resize="none"', "data.resize", None),
        ("training.init=runs/my first/model", "training.init", "runs/my first/model"),
        ("training.init=a=b", "training.init", "a=b"),
        ("training.init=none", "training.init", None),
        ("generator.norm=none", "generator.norm", "none"),
        ("discriminator.norm=none", "discriminator.norm", "none"),
    ],
)
def test_settings_of_every_kind(setting: str, key: str, value: object) -> None:
    changed = flat(load_recipe("pix2pix", [setting]))
    assert changed[key] == value
    assert type(changed[key]) is type(value)
    published = flat(load_recipe("pix2pix"))
    assert {k: v for k, v in changed.items() if k != key} == {
        k: v for k, v in published.items() if k != key
    }


def test_later_settings_win_and_override_the_recipe() -> None:
    settings = ["data.resize=300", "data.resize=none", "objective.l1_weight=10"]
    recipe = load_recipe("cgan", settings)
    assert recipe.data.resize is None
    assert recipe.objective.l1_weight == 10


@pytest.mark.parametrize("name", shipped_recipes())
def test_toml_and_back(tmp_path: Path, name: str) -> None:
    recipe = load_recipe(name)
    path = write(tmp_path / "kept.toml", recipe.to_toml())
    assert load_recipe(path) == recipe


def test_toml_and_back_with_everything_changed(tmp_path: Path) -> None:
    settings = [
        "data.resize=none",
        "data.resolution_m=0.1",
        "generator.norm=none",
        "discriminator.norm=none",
        "training.init=C:\\my \"models\"\\ä",
        "training.ema_decay=0.999",
        "training.max_steps=7",
        "optimiser.learning_rate=1.2345678901234567e-05",
    ]  # fmt: skip
    recipe = load_recipe("hinge", settings)
    assert recipe.training.init == 'C:\\my "models"\\ä'
    again = load_recipe(write(tmp_path / "kept.toml", recipe.to_toml()))
    assert again == recipe
    assert again.name == "hinge"
    assert again.to_toml() == recipe.to_toml()


@given(st.floats(1e-12, 1e3), st.floats(0, 0.9999999), st.integers(1, 10**12))
def test_numbers_survive_toml_to_the_last_bit(rate: float, beta: float, epochs: int) -> None:
    values = {
        "optimiser": {"learning_rate": rate, "beta1": beta},
        "training": {"epochs": epochs},
    }
    recipe = Recipe.model_validate(values)
    assert Recipe.model_validate(tomllib.loads(recipe.to_toml())) == recipe


def test_a_file_may_build_on_another(tmp_path: Path) -> None:
    write(tmp_path / "bases" / "mine.toml", 'base = "l1"\n[data]\nsize = 128\nresize = "none"\n')
    path = write(
        tmp_path / "runs" / "long.toml",
        'base = "../bases/mine.toml"\n[training]\nepochs = 9\n[data]\nflip = false\n',
    )
    recipe = load_recipe(path)
    assert recipe.name == "long"
    published = flat(load_recipe("pix2pix"))
    assert {k: v for k, v in flat(recipe).items() if v != published[k]} == {
        "objective.adversarial_weight": 0.0,
        "data.size": 128,
        "data.resize": None,
        "data.flip": False,
        "training.epochs": 9,
    }
    named = write(tmp_path / "named.toml", 'base = "pix2pix"\nname = "mine"\n')
    assert load_recipe(named).name == "mine"
    absolute = write(tmp_path / "runs" / "abs.toml", f'base = "{named.as_posix()}"\n')
    assert flat(load_recipe(absolute)) == published


def test_a_shipped_name_comes_before_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "pix2pix", "[training]\nepochs = 1\n")
    assert load_recipe("pix2pix").training.epochs == 200
    assert load_recipe("./pix2pix").training.epochs == 1


@pytest.mark.parametrize("base", ["a.toml", "b.toml", "../recipes/a.toml", "../recipes/b.toml"])
def test_bases_that_run_in_a_circle_are_refused(tmp_path: Path, base: str) -> None:
    path = write(tmp_path / "recipes" / "a.toml", f'base = "{base}"\n')
    write(tmp_path / "recipes" / "b.toml", 'base = "../recipes/a.toml"\n')
    line = refused(path)
    assert "is its own base (" in line
    assert "Remove one of these base lines." in line


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    line = refused(tmp_path / "no.toml")
    assert "no.toml: is neither a shipped recipe nor a file that can be read" in line
    assert "Shipped are: cgan, " in line
    assert "is neither a shipped recipe" in refused("pix3pix")
    assert "is neither a shipped recipe" in refused(tmp_path)
    path = write(tmp_path / "my.toml", 'base = "pix3pix"\n')
    assert f"{tmp_path.resolve() / 'pix3pix'}: is neither a shipped recipe" in refused(path)
    path = write(tmp_path / "my.toml", "[data\nsize = 3\n")
    assert refused(path).startswith(f"{path}: is not valid TOML (")
    assert "line 1" in refused(path)
    path.write_bytes(b"\xff\xfe")
    assert refused(path).startswith(f"{path}: is not valid TOML (")
    path = write(tmp_path / "my.toml", "data = 3\n")
    assert refused(path).startswith(f"{path}: data: ")
    path = write(tmp_path / "my.toml", "name = 3\n")
    assert refused(path).startswith(f"{path}: name: ")


def test_a_recipe_is_frozen() -> None:
    recipe = load_recipe("pix2pix")
    with pytest.raises(ValueError, match="frozen"):
        recipe.training.epochs = 3  # type: ignore[misc]


def test_keys_may_be_called_by_their_new_names(tmp_path: Path) -> None:
    (tmp_path / "new.toml").write_text(
        'base = "streets"\n[data]\nphotometric = 0.25\n[validation]\nimages = 7\n'
        "[statistics]\nimages = 8\nvalidation_images = 9\n"
    )
    recipe = load_recipe(tmp_path / "new.toml")
    assert recipe.data.weather == 0.25
    assert recipe.validation.pictures == 7
    assert (recipe.statistics.pictures, recipe.statistics.validation_pictures) == (8, 9)
    written = recipe.to_toml()  # by the old names, which every version reads
    assert "pictures = 7" in written
    assert "images" not in written
    (tmp_path / "kept.toml").write_text(written)
    assert load_recipe(tmp_path / "kept.toml").model_dump(exclude={"name"}) == recipe.model_dump(
        exclude={"name"}
    )
    assert load_recipe("streets", ["validation.images=3"]).validation.pictures == 3
    assert load_recipe("streets", ["validation.pictures=3"]).validation.pictures == 3


def test_a_key_by_both_of_its_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "both.toml").write_text("[validation]\nimages = 7\npictures = 8\n")
    with pytest.raises(UsageError, match=r"both validation\.images and validation\.pictures"):
        load_recipe(tmp_path / "both.toml")
