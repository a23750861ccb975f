"""Misregistration is seen and told: the page, the contact sheet, the estimate."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sat2map.chips.chips import ChipOptions, Chips, make_chips
from sat2map.chips.preview import estimate_offsets, write_preview
from sat2map.style.features import VectorFile
from sat2map.towns import Scene, write_scene


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return write_scene(tmp_path_factory.mktemp("town"), 600, seed=3)


def cut(town: Scene, out: Path, shift: tuple[float, float] = (0.0, 0.0)) -> Chips:
    options = ChipOptions(size=96, shift_m=shift, validation=0.2)
    return make_chips([str(town.photo)], [VectorFile(town.shapes)], out, options)


def test_a_known_shift_is_told_with_its_remedy(town: Scene, tmp_path: Path) -> None:
    (aligned,) = estimate_offsets(cut(town, tmp_path / "aligned"))
    # Roofs lean and cast shadows, which draws the estimate with them by a metre or two.
    assert np.hypot(aligned.east_m, aligned.north_m) < 2
    assert "corrects it" not in aligned.describe()

    (found,) = estimate_offsets(cut(town, tmp_path / "shifted", (6.0, -4.0)))
    assert found.offset.sure
    moved = (found.east_m - aligned.east_m, found.north_m - aligned.north_m)
    assert moved == pytest.approx((6, -4), abs=0.75)
    told = found.describe()
    assert re.search(r"lie [4-7]\.\d m east and [2-6]\.\d m south of the imagery", told)
    remedy = re.search(r"`shift_m=(-?[\d.]+),(-?[\d.]+)` corrects it", told)
    assert remedy is not None
    # The shift that there was is undone.
    assert (float(remedy[1]), float(remedy[2])) == pytest.approx((0, 0), abs=2)


def test_the_page_shows_what_there_is(town: Scene, tmp_path: Path) -> None:
    chips = cut(town, tmp_path / "out")
    page = write_preview(chips, [offset.describe() for offset in estimate_offsets(chips)])
    text = page.read_text(encoding="utf-8")
    assert page == tmp_path / "out" / "preview" / "index.html"
    sources = re.findall(r"(?:src=\"|url\(')([^\"']+)", text)
    assert len(set(sources)) >= 2 * 6 + 1
    assert all((page.parent / source).is_file() for source in sources)
    assert f"{chips.counts()['train']} chips for training" in text
    assert "of the imagery" in text and ">park<" in text
    with Image.open(page.parent / "contact.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    assert pixels.shape[1] > 6 * 96
    pink = (np.abs(pixels.astype(int) - (230, 0, 126)).max(2) < 30).mean()
    assert pink > 0.002  # outlines of the map over the imagery


def test_a_file_of_one_chip_tells_nothing(town: Scene, tmp_path: Path) -> None:
    options = ChipOptions(size=512, validation=0.0)
    chips = make_chips([str(town.photo)], [VectorFile(town.shapes)], tmp_path / "out", options)
    assert len(chips.kept) == 1
    assert estimate_offsets(chips) == []
    assert write_preview(chips, []).is_file()
