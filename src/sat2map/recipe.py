"""A training run as data: a frozen, validated recipe, read from TOML.

A recipe may name another one as its `base` and then holds only what differs, so that each
ablation of the paper is a line or two. An unknown key is an error.
"""

from __future__ import annotations

import tomllib
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

import tomli_w
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from sat2map.arguments import checks_arguments
from sat2map.errors import UsageError
from sat2map.networks.specs import (
    FROM_DATA,
    SPECS,
    GeneratorSpec,
    UNetSpec,
    place_of_error,
    spec_class,
)

NEW_NAMES = {
    "data": {"photometric": "weather"},
    "validation": {"images": "pictures"},
    "statistics": {"images": "pictures", "validation_images": "validation_pictures"},
}
"""Better names of keys, by section, which are read as well. Written are the old ones, which every
version reads."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _none_is_absent(cls, values: object) -> object:
        """TOML has no null, so "none" says that an optional key is absent."""
        if not isinstance(values, dict):
            return values
        optional = {k for k, f in cls.model_fields.items() if type(None) in get_args(f.annotation)}
        return {k: None if v == "none" and k in optional else v for k, v in values.items()}


class Data(_Section):
    """Settings of the data: how images become training pairs.

    Protocol: with `resize`, images are resized to `resize` pixels a side and `size` is
    cropped out of that (286 -> 256 as published); without it, `size` is cropped out of the
    images' own pixels, at their own scale or, with `scales`, at a random one.
    """

    size: int = Field(256, ge=16, description="side of the crops in pixels")
    resize: int | None = Field(286, ge=16, description="side before cropping")
    flip: bool = Field(True, description="mirror left to right at random")
    scales: list[float] | None = Field(
        None,
        min_length=2,
        max_length=2,
        description="least and most pixels of the files, along a side, that one pixel of a crop "
        "is made of; crops are also turned by quarter turns. Needs resize = none",
    )
    weather: float = Field(
        0.0,
        ge=0,
        le=2,
        description="photometric augmentation: how much the light, colour, haze, blur and noise "
        "of sources vary",
    )
    camera: float = Field(
        0.0,
        ge=0,
        le=2,
        description="how much sources vary as between cameras and files: gain and gamma of each "
        "band, saturation, hue, haze, black point, sharpness, noise, JPEG",
    )
    resolutions_m: list[float] | None = Field(
        None,
        min_length=2,
        max_length=2,
        description="finest and coarsest ground resolution of crops, in metres per pixel, drawn "
        "anew for each; several data sets are then mixed, class masks among them",
    )
    shares: list[float] | None = Field(
        None, min_length=1, description="with resolutions_m: each data set's share of a batch"
    )
    direction: Literal["forward", "reverse"] = Field(
        "forward", description="which half is the source; reverse takes the target for it"
    )
    resolution_m: float | None = Field(
        None, gt=0, description="metres per pixel of the files, where dataset.json is silent"
    )
    source_bands: Literal[1, 3] | None = Field(
        None,
        description="1 takes sources as grey, 3 as colours; none takes what `training.init` takes, "
        "or else grey where all images of training are stored in one band",
    )
    target_bands: Literal[1, 3] | None = Field(
        None, description="the same of targets; of those of a legend none means 3"
    )

    @model_validator(mode="after")
    def _crop_fits(self) -> Data:
        if self.resize is not None and self.resize < self.size:
            raise ValueError(f"resize ({self.resize}) is smaller than size ({self.size})")
        if self.scales is not None:
            if self.resize is not None:
                raise ValueError("scales need resize = none")
            if not 0 < self.scales[0] <= self.scales[1]:
                raise ValueError("scales are the least and the most, both above 0")
        if self.resolutions_m is not None:
            if self.scales is not None or self.resize is not None:
                raise ValueError("resolutions_m needs resize = none and scales = none")
            if self.direction == "reverse":
                raise ValueError("resolutions_m needs direction = forward")
            if not 0 < self.resolutions_m[0] <= self.resolutions_m[1]:
                raise ValueError("resolutions_m are the finest and the coarsest, both above 0")
        elif self.shares is not None or self.camera:
            raise ValueError("shares and camera need resolutions_m")
        if self.shares is not None and min(self.shares) <= 0:
            raise ValueError("shares are numbers above 0")
        return self


class Discriminator(_Section):
    """The PatchGAN; unused where the objective has no adversarial part."""

    base_channels: int = Field(
        64, ge=1, description="channels of the first layer; they double up to eightfold"
    )
    strided_layers: int = Field(
        3,
        ge=0,
        le=5,
        description="0 to 5 see patches of 1, 16, 34, 70, 142 and 286 pixels",
    )
    conditional: bool = Field(True, description="whether it sees the source too")
    norm: Literal["batch", "instance", "none"] = Field("batch", description="normalisation layers")


class Objective(_Section):
    """The sum of the losses, each times its weight."""

    adversarial: Literal["vanilla", "least_squares", "hinge"] = Field(
        "vanilla", description="adversarial loss; vanilla is the published cross-entropy"
    )
    adversarial_weight: float = Field(1.0, ge=0, description="0 trains without discriminator")
    l1_weight: float = Field(100.0, ge=0, description="lambda of the paper")
    class_weight: float = Field(
        0.0, ge=0, description="legend head: cross-entropy with the share of each class"
    )
    class_balance: float = Field(
        0.5,
        ge=0,
        le=1,
        description="0 weighs all pixels alike, 1 all classes, within 0.7 to 2.5 of the median",
    )
    casing: str | None = Field(
        None,
        description="legend head: the outlines that its roads are to have: casing for the class "
        "of that role, or the name of a class",
    )
    road_dice_weight: float = Field(0.0, ge=0, description="legend head: Dice of the roads")
    road_cldice_weight: float = Field(
        0.0, ge=0, description="legend head: soft centre-line Dice of the roads"
    )
    road_recall_weight: float = Field(
        0.0,
        ge=0,
        description="legend head and land cover: how much of the roads' centre lines is missed",
    )
    building_dice_weight: float = Field(
        0.0, ge=0, description="legend head and land cover: Dice of the buildings, where certain"
    )
    cover_weight: float = Field(
        0.0, ge=0, description="land cover: minus log of the probability of what pixels may be"
    )
    distillation_weight: float = Field(
        0.0,
        ge=0,
        description="with training.init: stay with that model where labels leave a choice",
    )
    cover_dice_weight: float = Field(
        0.0, ge=0, description="land cover: Dice of the roads, where they are certain"
    )

    @property
    def needs_classes(self) -> bool:
        """Whether a loss compares classes, which takes a legend head."""
        return any(
            (
                self.class_weight,
                self.road_dice_weight,
                self.road_cldice_weight,
                self.road_recall_weight,
                self.building_dice_weight,
            )
        )

    @property
    def needs_cover(self) -> bool:
        """Whether a loss compares land cover, which takes a second head."""
        return any((self.cover_weight, self.cover_dice_weight))

    @model_validator(mode="after")
    def _something_to_learn(self) -> Objective:
        if self.adversarial_weight == 0 and self.l1_weight == 0 and not self.needs_classes:
            raise ValueError("all weights are 0, so there is nothing to learn")
        return self


class Optimiser(_Section):
    """Adam, one for each network."""

    name: Literal["adam", "adamw"] = Field(
        "adam", description="adamw decays weights apart from the gradients"
    )
    weight_decay: float = Field(
        0.0, ge=0, description="adamw: of kernels; biases and norms do not decay"
    )
    clip_norm: float | None = Field(
        None, gt=0, description="longest gradient of the generator; longer ones are shortened"
    )
    learning_rate: float = Field(2e-4, gt=0, description="of both networks")
    encoder_rate: float = Field(
        1.0, gt=0, description="lite: learning rate of the encoder, times `learning_rate`"
    )
    beta1: float = Field(0.5, ge=0, lt=1, description="decay of the mean of the gradients")
    beta2: float = Field(0.999, ge=0, lt=1, description="decay of the mean of their squares")


class Schedule(_Section):
    """The learning rate: constant, constant and then linear down to 0, or a cosine to 0."""

    name: Literal["constant", "linear", "cosine"] = Field(
        "constant",
        description="linear falls towards 0 over the last `decay_epochs`, cosine over the run",
    )
    decay_epochs: int = Field(100, ge=1, description="length of the linear part, the last epochs")
    warmup_steps: int = Field(0, ge=0, description="steps over which the rate rises from 0")


class Training(_Section):
    """The run itself."""

    epochs: int = Field(200, ge=1, description="times that every pair is seen")
    max_steps: int | None = Field(None, ge=1, description="end earlier, after so many steps")
    batch: int = Field(1, ge=1, description="pairs of one step, for each process")
    seed: int = Field(0, ge=0, description="of weights, order, crops and dropout")
    precision: Literal["f32", "bf16-mixed"] = Field(
        "f32", description="bf16-mixed computes convolutions in bfloat16; weights stay f32"
    )
    channels_last: bool = Field(
        False, description="memory order; for GPUs, on a CPU slower at batch 1"
    )
    compile: bool = Field(False, description="compile the networks with torch.compile")
    cuda_graphs: bool = Field(
        False,
        description="on CUDA, replay whole steps as a CUDA graph; needs scales = none, no weather",
    )
    accelerate: bool = Field(
        False,
        description="on CUDA, turn on bf16-mixed, channels_last, compile and cuda_graphs; "
        "elsewhere nothing",
    )
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="keep an exponential moving average of the generator"
    )
    ema_warmup: bool = Field(
        False,
        description="let the average follow faster at first: after t steps its decay is at most "
        "(1 + t) / (10 + t)",
    )
    init: str | None = Field(None, description="start from the generator of this model folder")
    freeze_encoder: bool = Field(False, description="with init: do not train the encoder")
    keep_statistics: bool = Field(
        False,
        description="with init: batch norm keeps the statistics of that model, which those of a "
        "few images would spoil",
    )
    init_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="with init: the share of its weights mixed into those learned, at the end",
    )
    checkpoint_steps: int | None = Field(
        None, ge=1, description="checkpoints within epochs too, every so many steps"
    )
    keep_checkpoints: int = Field(2, ge=1, description="how many of the newest are kept")
    log_steps: int = Field(50, ge=1, description="steps between two lines of losses")
    grid_epochs: int = Field(5, ge=1, description="epochs between two grids of images")


class Validation(_Section):
    """Scoring on the split `val`, with the deterministic mode of prediction.

    In the first data set maps are scored, or class masks where it has nothing else; in further
    ones class masks.
    """

    epochs: int = Field(5, ge=1, description="epochs between two validations")
    pictures: int = Field(100, ge=1, description="at most so many pairs, or masks of each data set")
    size: int | None = Field(
        None, ge=16, description="side that pairs are resized to; none takes that of training"
    )
    metric: Literal[
        "l1", "rmse", "psnr", "ssim", "acc_5", "acc_10", "mean_iou", "road_cldice", "edge_f1"
    ] = Field("l1", description="what `best` is chosen by; of class masks mean_iou or road_cldice")


class Statistics(_Section):
    """Recalibration of batch norm: the normalisation statistics, taken anew on training images."""

    pictures: int = Field(1000, ge=1, description="after training")
    validation_pictures: int = Field(50, ge=1, description="at each validation")


class Recipe(_Section):
    """A whole training run."""

    name: str = ""
    data: Data = Data()
    generator: GeneratorSpec = UNetSpec()
    discriminator: Discriminator = Discriminator()
    objective: Objective = Objective()
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    training: Training = Training()
    validation: Validation = Validation()
    statistics: Statistics = Statistics()

    @field_validator("generator", mode="before")
    @classmethod
    def _leave_out_keys_of_other_networks(cls, entries: object) -> object:
        """Keep the keys that the named network has, and those that no network has.

        A recipe that names another network than its base still has the keys of that one, and
        recipes of the first versions have the keys of all.
        """
        if not isinstance(entries, dict):
            return entries
        name = entries.get("name", "unet")
        own = spec_class(name).model_fields
        for key in sorted(FROM_DATA & entries.keys()):
            source = "data.size" if key == "size" else "the data"
            raise ValueError(f"{key} follows from {source}; leave it out")
        if entries.get("cover") is True and "cover" not in own:
            able = [name for name, spec in SPECS.items() if "cover" in spec.model_fields]
            raise ValueError(f"cover needs name = {' or '.join(able)}")
        known = {key for spec in SPECS.values() for key in spec.model_fields}
        return {"name": name} | {k: v for k, v in entries.items() if k in own or k not in known}

    @field_serializer("generator")
    def _without_what_follows_from_data(self, spec: GeneratorSpec) -> dict[str, Any]:
        return spec.model_dump(exclude=set(FROM_DATA))

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        size = self.data.size
        if not self.generator.fits(size):
            raise ValueError(
                f"data.size ({size}) must be {self.generator.sides} for this generator"
            )
        scaled = self.data.scales is not None or self.data.resolutions_m is not None
        if self.generator.head == "legend" and not scaled:
            raise ValueError(
                "generator.head = legend needs data.scales or data.resolutions_m, since classes "
                "are labelled at the scale of the files"
            )
        if self.data.resolutions_m is not None and self.generator.head != "legend":
            raise ValueError("data.resolutions_m needs generator.head = legend")
        if self.generator.tells_cover and self.data.resolutions_m is None:
            raise ValueError("generator.cover needs data.resolutions_m")
        if self.objective.needs_cover and not self.generator.tells_cover:
            raise ValueError("the losses of land cover need generator.cover")
        if self.objective.needs_classes and self.generator.head != "legend":
            raise ValueError("the losses of classes and roads need generator.head = legend")
        if self.objective.casing is not None and not self.objective.class_weight:
            raise ValueError("objective.casing needs objective.class_weight")
        strided = self.discriminator.strided_layers
        if self.objective.adversarial_weight and size < 3 * 2**strided:
            raise ValueError(
                f"data.size ({size}) is too small for a discriminator with {strided} strided "
                f"layers (discriminator.strided_layers)"
            )
        if self.schedule.name == "linear" and self.schedule.decay_epochs > self.training.epochs:
            raise ValueError("schedule.decay_epochs is larger than training.epochs")
        if self.objective.distillation_weight and self.training.init is None:
            raise ValueError("objective.distillation_weight needs training.init")
        if self.objective.distillation_weight and self.data.resolutions_m is None:
            raise ValueError("objective.distillation_weight needs data.resolutions_m")
        if self.training.freeze_encoder and self.training.init is None:
            raise ValueError("training.freeze_encoder needs training.init")
        if self.training.keep_statistics and self.training.init is None:
            raise ValueError("training.keep_statistics needs training.init")
        if self.training.init_share and self.training.init is None:
            raise ValueError("training.init_share needs training.init")
        if self.training.cuda_graphs and (scaled or self.data.weather):
            raise ValueError("training.cuda_graphs needs data.scales = none and no data.weather")
        return self

    def to_toml(self) -> str:
        """Return the recipe, with every default written out, as TOML."""
        entries = {
            section: {k: "none" if v is None else v for k, v in values.items()}
            if isinstance(values, dict)
            else values
            for section, values in self.model_dump().items()
        }
        return tomli_w.dumps(entries)


def shipped_recipes() -> list[str]:
    """Return the names of the recipes that come with the package."""
    folder = files("sat2map") / "recipes"
    return sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".toml"))


@checks_arguments
def load_recipe(name_or_path: str | Path, settings: list[str] | None = None) -> Recipe:
    """Read a recipe and apply settings.

    Args:
        name_or_path: A shipped name ("pix2pix") first, otherwise the path of a TOML file.
        settings: "section.key=value" each, the value as in TOML; bare words are strings, and
            "none" leaves an optional key out.

    Raises:
        UsageError: The recipe or a setting is not valid; the message names the key.
    """
    entries = _read(str(name_or_path), ())
    for setting in settings or []:
        _apply(entries, setting)
    try:
        return Recipe.model_validate(entries)
    except ValidationError as error:
        raise _explained(error, str(name_or_path)) from error


def _read(name_or_path: str, seen: tuple[str, ...]) -> dict[str, Any]:
    if name_or_path in seen:
        raise UsageError(
            f"is its own base ({' -> '.join([*seen, name_or_path])})",
            where=name_or_path,
            remedy="Remove one of these base lines.",
        )
    shipped = name_or_path in shipped_recipes()
    try:
        if shipped:
            text = (files("sat2map") / "recipes" / f"{name_or_path}.toml").read_text("utf-8")
        else:
            text = Path(name_or_path).read_text("utf-8")
        entries = tomllib.loads(text)
    except OSError as error:
        raise UsageError(
            "is neither a shipped recipe nor a file that can be read",
            where=name_or_path,
            remedy=f"Shipped are: {', '.join(shipped_recipes())}.",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"is not valid TOML ({error})", where=name_or_path, remedy="Correct that line."
        ) from error
    for section, values in entries.items():
        if isinstance(values, dict):
            entries[section] = _known_by_old_names(section, values, name_or_path)
    base = entries.pop("base", None)
    if base is None:
        merged = entries
    else:
        base = str(base)
        if base not in shipped_recipes() and not shipped:
            base = str((Path(name_or_path).parent / base).resolve())
        merged = _read(base, (*seen, name_or_path))
        for section, values in entries.items():
            if isinstance(values, dict) and isinstance(merged.get(section), dict):
                merged[section] |= values
            else:
                merged[section] = values
    merged["name"] = entries.get("name", Path(name_or_path).stem)
    return merged


def _apply(entries: dict[str, Any], setting: str) -> None:
    path, equals, text = setting.partition("=")
    section, dot, key = path.strip().partition(".")
    if not (equals and dot and section and key):
        raise UsageError(
            "is not a setting",
            parameter="settings",
            where=setting,
            remedy="Write section.key=value.",
        )
    try:
        value: Any = tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    values = entries.setdefault(section, {})
    if not isinstance(values, dict):
        raise UsageError(
            f"{section!r} is not a section", parameter="settings", where=setting, remedy=_sections()
        )
    values[NEW_NAMES.get(section, {}).get(key, key)] = value


def _known_by_old_names(section: str, values: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a section's entries under the names that are written; see `NEW_NAMES`."""
    new = NEW_NAMES.get(section, {})
    for key in new.keys() & values.keys():
        if new[key] in values:
            raise UsageError(
                f"has both {section}.{key} and {section}.{new[key]}, which are the same",
                where=where,
                remedy="Keep one of them.",
            )
    return {new.get(key, key): value for key, value in values.items()}


def _explained(error: ValidationError, where: str) -> UsageError:
    first = error.errors(include_url=False)[0]
    location = place_of_error(first["loc"])
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        known = _known_keys(first["loc"]) if len(location) > 1 else _sections()
        return UsageError(
            f"unknown key {key!r}",
            where=where,
            remedy=known + _perhaps(key, first["loc"][-2] if len(location) > 1 else None),
        )
    message = first["msg"].removeprefix("Value error, ")
    given = "" if isinstance(first["input"], dict | BaseModel) else f", not {first['input']!r}"
    what = f"{key}: {message}{given}" if key else message
    return UsageError(what, where=where, remedy="Correct the value in the recipe or in `settings`.")


def _known_keys(loc: tuple[int | str, ...]) -> str:
    """Return the keys of a section as a sentence; of the generator, those of its network."""
    section = str(loc[0])
    if section == "generator":
        keys = [key for key in SPECS[str(loc[1])].model_fields if key not in FROM_DATA]
        return f"[generator] has for {loc[1]}: {', '.join(keys)}."
    model = Recipe.model_fields[section].annotation
    assert isinstance(model, type) and issubclass(model, BaseModel)
    return f"[{section}] has: {', '.join(model.model_fields)}."


def _perhaps(key: str, network: object) -> str:
    """Return a sentence with the key that is most likely meant: of another section, or alike.

    Args:
        key: SECTION.KEY, or a section.
        network: Of the section `generator`, which network its keys are of.
    """
    section, _, name = key.partition(".")
    if not name:
        near = get_close_matches(section, Recipe.model_fields, 1, 0.8)
        return f" Perhaps you mean {near[0]}." if near else ""
    known = []
    for section, field in Recipe.model_fields.items():
        model, hidden = field.annotation, frozenset[str]()
        if section == "generator":
            model, hidden = SPECS.get(str(network)), frozenset(FROM_DATA)
        names = sorted(set(getattr(model, "model_fields", {})) - hidden)
        known += [f"{section}.{one}" for one in names]
    elsewhere = [one for one in known if one.partition(".")[2] == name]
    meant = elsewhere or get_close_matches(key, known, 1, 0.8)
    return f" Perhaps you mean {meant[0]}." if meant else ""


def _sections() -> str:
    return f"The sections are: {', '.join(f for f in Recipe.model_fields if f != 'name')}."
