from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from sat2map.data.pairs import find_pairs
from sat2map.errors import BatchError, OutputError, UsageError
from sat2map.evaluation.evaluate import evaluate
from sat2map.evaluation.gallery import goodness
from sat2map.evaluation.report import METRICS
from sat2map.translation.translator import Translator, load


@pytest.fixture
def translator(model_folder: Path) -> Translator:
    return load(model_folder, runtime="torch")


def images(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}


def test_every_image_is_saved_and_shown(
    data_set: Path, tmp_path: Path, translator: Translator
) -> None:
    (data_set / "val" / "1.png").rename(data_set / "val" / "a b#1 ü.png")
    result = evaluate(translator, data_set, size=16, save=tmp_path / "all")
    assert result.saved == tmp_path / "all" / "index.html"
    names = {pair.stem for pair in find_pairs(data_set, "val")}
    expected = {f"{part}/{n}.png" for part in ("source", "result", "target") for n in names}
    assert images(tmp_path / "all") == expected
    text = result.saved.read_text(encoding="utf-8")
    shown = {unquote(address) for address in re.findall(r'<img src="([^"]+)"', text)}
    assert shown == expected
    assert text.count('loading="lazy"') == len(expected)
    for image in expected:
        with Image.open(tmp_path / "all" / image) as opened:
            assert opened.size == (16, 16)
    # What is saved is what was scored.
    result_1, target_1 = (
        np.asarray(Image.open(tmp_path / "all" / part / "2.png"), int)
        for part in ("result", "target")
    )
    score = np.abs(result_1 - target_1).mean()
    assert f"L1 {score:.2f}" in text


def test_another_evaluation_takes_the_place_of_the_one_before(
    data_set: Path, tmp_path: Path, translator: Translator, put_foreign: Any
) -> None:
    evaluate(translator, data_set, size=16, save=tmp_path / "all")
    check = put_foreign(tmp_path / "all", "notes.txt", "source/mine.png")
    (data_set / "val" / "2.png").unlink()
    page = evaluate(translator, data_set, size=16, save=tmp_path / "all").saved
    assert page is not None
    assert "2.png" not in page.read_text(encoding="utf-8")
    assert not any(name.endswith("/2.png") for name in images(tmp_path / "all"))
    check()


def test_a_folder_of_others_is_refused_before_the_work(
    data_set: Path, tmp_path: Path, translator: Translator, put_foreign: Any
) -> None:
    check = put_foreign(tmp_path / "mine", "index.html")
    with pytest.raises(OutputError, match="mine: is not empty and was not written by"):
        evaluate(translator, data_set, size=16, save=tmp_path / "mine")
    check(alone=True)
    with pytest.raises(UsageError, match="is the folder of `report`, too"):
        evaluate(translator, data_set, size=16, save=tmp_path / "a", report=tmp_path / "a")


def test_what_cannot_be_scored_is_neither_saved_nor_shown(
    data_set: Path, tmp_path: Path, translator: Translator
) -> None:
    (data_set / "val" / "2.png").write_bytes(b"no image")
    result = evaluate(translator, data_set, size=16, save=tmp_path / "all")
    assert result.saved is not None
    text = result.saved.read_text(encoding="utf-8")
    assert "1 left out" in text and "2.png" in text
    assert len(images(tmp_path / "all")) == 6
    with pytest.raises(BatchError):
        result.raise_failures()


@pytest.mark.parametrize(
    ("metric", "better", "worse"),
    [("l1", 1.0, 2.0), ("psnr", 30.0, 20.0), ("edge_density", 0.9, 1.3), ("edge_density", 1, 0.5)],
)
def test_goodness_grows_with_what_is_good(metric: str, better: float, worse: float) -> None:
    first, second = (goodness(METRICS[metric], value) for value in (better, worse))
    assert first is not None and second is not None and first > second


def test_what_is_not_defined_has_no_place() -> None:
    assert goodness(METRICS["psnr"], None) is None
    assert json.dumps(goodness(METRICS["psnr"], float("inf"))) == "null"


def test_the_page_sorts_by_any_metric(
    data_set: Path, tmp_path: Path, translator: Translator, chromium: Any
) -> None:
    saved = evaluate(translator, data_set, size=16, save=tmp_path / "all").saved
    assert saved is not None
    page = chromium.new_page()
    page.set_default_timeout(120_000)
    page.goto(saved.as_uri())

    def names() -> list[str]:
        found: list[str] = page.locator("#all article > p > b").all_inner_texts()
        return found

    def values(label: str) -> list[float]:
        found = page.locator("#all article > p").all_inner_texts()
        return [float(re.search(rf"{label} ([\d.]+)", line)[1]) for line in found]  # type: ignore[index]

    assert names() == ["1", "2", "3"]
    page.select_option("#key", label="L1")
    assert values("L1") == sorted(values("L1"), reverse=True)
    page.select_option("#first", "best")
    assert values("L1") == sorted(values("L1"))
    page.select_option("#key", label="SSIM")
    assert values("SSIM") == sorted(values("SSIM"), reverse=True)
    page.select_option("#key", label="name")
    assert names() == ["1", "2", "3"]
    page.close()
