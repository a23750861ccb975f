from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sat2map.data import labels as module
from sat2map.data.cache import DecodedPairs, decode_pairs
from sat2map.data.labels import label_targets
from sat2map.errors import OutputError
from sat2map.legend import STREETS, Legend


def decoded(directory: Path, seed: int = 0) -> tuple[DecodedPairs, np.ndarray]:
    """Write and decode three pairs whose targets are legend colours; also return the classes."""
    random = np.random.default_rng(seed)
    classes = random.integers(0, len(STREETS), (3, 6, 8)).astype(np.uint8)
    for number, truth in enumerate(classes):
        both = np.zeros((6, 16, 3), np.uint8)
        both[:, 8:] = STREETS.paint(truth)
        path = directory / "train" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(both).save(path)
    return decode_pairs(directory, "train", resize=None, crop=4), classes


def test_targets_are_labelled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs, classes = decoded(tmp_path)
    assert np.array_equal(label_targets(pairs, STREETS), classes)
    monkeypatch.setattr(module, "_label_all", lambda *_: pytest.fail("labelled again"))
    assert np.array_equal(label_targets(pairs, STREETS), classes)


def test_other_images_or_another_legend_are_labelled_anew(tmp_path: Path) -> None:
    pairs, _ = decoded(tmp_path)
    label_targets(pairs, STREETS)
    pairs, classes = decoded(tmp_path, seed=1)
    assert np.array_equal(label_targets(pairs, STREETS), classes)
    backwards = Legend(STREETS.classes[::-1])
    assert np.array_equal(label_targets(pairs, backwards), 7 - classes)


def test_a_cache_that_cannot_be_written_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, _ = decoded(tmp_path)
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("SAT2MAP_CACHE", str(tmp_path / "taken"))
    with pytest.raises(OutputError, match="SAT2MAP_CACHE"):
        label_targets(pairs, STREETS)
