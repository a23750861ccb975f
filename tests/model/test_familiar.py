from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sat2map.errors import ModelError
from sat2map.model.familiar import FEWEST, FILE, Familiar, describe_photo, read_familiar

Pixels = NDArray[np.uint8]


def photo(seed: int, side: int = 64) -> Pixels:
    """Return greenish ground with bright roofs and their shadows."""
    random = np.random.default_rng(seed)
    ground = random.normal((70, 95, 60), 12, (side, side, 3)) + random.normal(0, 8)
    for row, column in random.integers(0, side - 12, (9, 2)):
        ground[row + 2 : row + 11, column + 2 : column + 11] = (25, 30, 40)
        ground[row : row + 8, column : column + 8] = random.normal((190, 170, 160), 6)
    return ground.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def familiar() -> Familiar:
    learned = Familiar.learn([photo(seed) for seed in range(300)])
    assert learned is not None
    return learned


def test_photos_like_those_learned_from_are_familiar(familiar: Familiar) -> None:
    distances = familiar.distances([photo(seed) for seed in range(1000, 1100)])
    assert (distances > 1).mean() < 0.12


@pytest.mark.parametrize("kind", ["negative", "night", "cloud", "ice", "noise"])
def test_other_photos_are_not(familiar: Familiar, kind: str) -> None:
    known = photo(5000)
    random = np.random.default_rng(0)
    strange = {
        "negative": 255 - known,
        "night": known // 12,
        "cloud": (known // 8 + 220).astype(np.uint8),
        "ice": np.full_like(known, 240),
        "noise": random.integers(0, 256, known.shape, dtype=np.uint8),
    }[kind]
    assert familiar.distances([strange])[0] > 1


def test_from_few_or_small_photos_nothing_is_learned() -> None:
    assert Familiar.learn([photo(seed) for seed in range(FEWEST - 1)]) is None
    assert Familiar.learn([photo(seed)[:32, :32] for seed in range(FEWEST)]) is None
    assert Familiar.learn([]) is None


def test_of_one_band_too() -> None:
    grey = photo(0)[..., :1]
    assert np.array_equal(describe_photo(grey), describe_photo(np.repeat(grey, 3, axis=2)))
    assert np.isfinite(describe_photo(np.zeros((64, 64, 1), np.uint8))).all()


def test_it_is_kept_in_the_model_folder(familiar: Familiar, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    assert read_familiar(tmp_path) is None
    familiar.save(tmp_path)
    assert read_familiar(tmp_path) == familiar
    known = [photo(seed) for seed in range(3)]
    kept = read_familiar(tmp_path)
    assert kept is not None and np.array_equal(kept.distances(known), familiar.distances(known))


@pytest.mark.parametrize(
    ("key", "value"), [("mean", [1.0]), ("limit", 0), ("limit", None), ("side", 8), ("more", 1)]
)
def test_what_is_damaged_is_said(
    familiar: Familiar, tmp_path: Path, key: str, value: object
) -> None:
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / FILE).write_text(json.dumps(familiar.model_dump() | {key: value}))
    with pytest.raises(ModelError, match=r"familiar\.json: is damaged"):
        read_familiar(tmp_path)


def test_a_flipped_bit_is_noticed(familiar: Familiar, tmp_path: Path) -> None:
    familiar.save(tmp_path)
    told = hashlib.sha256((tmp_path / FILE).read_bytes()).hexdigest()
    (tmp_path / "model.json").write_text(json.dumps({"checksums": {FILE: told}}))
    assert read_familiar(tmp_path) == familiar
    text = (tmp_path / FILE).read_text()
    digit = text.index("5")
    (tmp_path / FILE).write_text(f"{text[:digit]}4{text[digit + 1 :]}")
    with pytest.raises(ModelError, match=r"familiar\.json: is damaged: its checksum"):
        read_familiar(tmp_path)
