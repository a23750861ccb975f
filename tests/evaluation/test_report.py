from __future__ import annotations

import base64
import io
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from skimage.color import rgb2lab

from sat2map.data.pairs import find_pairs
from sat2map.errors import DataError, OutputError
from sat2map.evaluation.examples import (
    choose_examples,
    collect_examples,
    colour_map,
    data_url,
    paint_error,
)
from sat2map.evaluation.report import report_page, write_report
from sat2map.evaluation.score import ImageScore, score_images, summarise
from sat2map.legend import STREETS

CARD = {
    "generator": {"name": "unet", "arguments": {"channels": 64}},
    "bands": 3,
    "legend": STREETS.to_json(),
    "data": {"licence": "<b>theirs</b>"},
}


class Page(HTMLParser):
    """What a page shows, and whether each tag that is opened is closed."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        self.links += [value for key, value in attrs if key in {"src", "href"}]

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def evaluated(tmp_path):
    """Nine pairs and a translation that blurs ever more."""
    (tmp_path / "val").mkdir()
    truth = {}
    for number in range(9):
        image = Image.new("RGB", (64, 64), STREETS.classes[0].colour)
        draw = ImageDraw.Draw(image)
        draw.rectangle((5, 40, 30, 60), fill=STREETS.classes[4].colour)
        for at in range(8 + number, 64, 20):
            draw.line((at, 0, at, 64), fill=STREETS.classes[2].colour, width=4)
        source = np.full((64, 64, 3), 10 * number, np.uint8)
        truth[10 * number] = np.asarray(image.filter(ImageFilter.GaussianBlur(number / 4)))
        Image.fromarray(np.hstack([source, np.asarray(image)])).save(
            tmp_path / "val" / f"town {number}.png"
        )
    pairs = find_pairs(tmp_path, "val")

    def translate(source):
        return truth[int(source[0, 0, 0])]

    return translate, pairs, score_images(translate, pairs, size=None, legend=STREETS)


def write(folder, evaluated, **changes):
    translate, pairs, result = evaluated
    arguments = {
        "title": "streets & roads",
        "model_card": CARD,
        "summary": summarise(result.scores, STREETS, result.protocol),
        "scores": result.scores,
        "examples": collect_examples(translate, pairs, result.scores, size=None, count=2),
    } | changes
    return write_report(folder, report_page(**arguments))


def test_the_page_holds_all_it_shows(tmp_path, evaluated):
    path = write(tmp_path / "new" / "report", evaluated)
    assert path == tmp_path / "new" / "report" / "index.html"
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.links) == 6 * 4
    assert all(link.startswith("data:image/") for link in page.links)
    assert not re.search(r"https?://", text)
    for link in page.links:
        image = Image.open(io.BytesIO(base64.b64decode(link.split(",")[1])))
        assert image.size == (64, 64)


def test_the_page_shows_the_metrics_with_their_intervals(tmp_path, evaluated):
    *_, result = evaluated
    words = " ".join(Page(write(tmp_path / "report", evaluated).read_text(encoding="utf-8")).words)
    summary = summarise(result.scores, STREETS)
    for name, digits in (("road_cldice", 3), ("mean_iou", 3), ("l1", 2), ("iou_water", 3)):
        interval = summary.metrics[name]
        assert f"{interval.mean:.{digits}f}" in words
        assert f"{interval.low:.{digits}f} – {interval.high:.{digits}f}" in words
    for text in ("9 images", "Road clDice", "water", "town 8", "Best", "Median", "Worst"):
        assert text in words


def test_text_of_others_is_escaped(tmp_path, evaluated):
    text = write(tmp_path / "report", evaluated).read_text(encoding="utf-8")
    assert "<b>theirs</b>" not in text
    assert "&lt;b&gt;theirs" in text
    assert "streets &amp; roads" in text


def test_what_failed_is_named(tmp_path, evaluated):
    failure = DataError("cannot be decoded", where="val/bad.png", remedy="Remove it.")
    words = " ".join(
        Page(
            write(tmp_path / "report", evaluated, failures=[failure]).read_text(encoding="utf-8")
        ).words
    )
    assert "1 left out" in words
    assert "val/bad.png: cannot be decoded. Remove it." in words


def test_without_a_legend_the_page_has_no_classes(tmp_path, evaluated):
    translate, pairs, _ = evaluated
    result = score_images(translate, pairs[:1], size=None)
    path = write(
        tmp_path / "report",
        (translate, pairs, result),
        summary=summarise(result.scores, None, result.protocol),
        model_card={},
    )
    words = " ".join(Page(path.read_text(encoding="utf-8")).words)
    assert "1 image compared" in words
    assert "Road" not in words
    assert "PSNR" in words


def test_nothing_scored_still_gives_a_page(tmp_path):
    failure = DataError("cannot be decoded", where="val/bad.png", remedy="Remove it.")
    page = report_page(
        title="nothing",
        model_card={},
        summary=summarise([], None),
        scores=[],
        failures=[failure],
    )
    assert "bad.png" in " ".join(Page(page).words)


def test_a_model_without_cover_says_nothing_of_it(tmp_path, evaluated):
    for cover, shown in ((None, False), ([{"name": "water"}], True)):
        folder = tmp_path / str(shown)
        path = write(folder, evaluated, model_card={"name": "town", "cover": cover})
        assert ("cover" in Page(path.read_text(encoding="utf-8")).words) == shown


def test_a_place_that_cannot_be_written_to(tmp_path, evaluated):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        write(tmp_path / "file", evaluated)


def test_a_folder_of_others_is_left_as_it_is(tmp_path, evaluated, put_foreign):
    check = put_foreign(tmp_path / "mine", "index.html")
    with pytest.raises(OutputError, match="mine: is not empty and was not written by"):
        write(tmp_path / "mine", evaluated)
    check(alone=True)


def test_a_report_is_written_again_among_the_files_of_others(tmp_path, evaluated, put_foreign):
    path = write(tmp_path / "report", evaluated)
    check = put_foreign(tmp_path / "report", "index.htm", ".index.0123abcd.html")
    first = path.read_bytes()
    write(tmp_path / "report", evaluated, title="another")
    assert path.read_bytes() != first
    check()


def test_the_report_of_an_older_version_gives_way(tmp_path, evaluated):
    path = write(tmp_path / "report", evaluated)
    shutil.rmtree(tmp_path / "report" / ".sat2map")
    assert write(tmp_path / "report", evaluated) == path
    shutil.rmtree(tmp_path / "report" / ".sat2map")
    path.write_text("<html>mine</html>")
    with pytest.raises(OutputError, match="is not empty and was not written by"):
        write(tmp_path / "report", evaluated)


def scored(**values: float) -> list[ImageScore]:
    return [ImageScore(name, {"l1": value}) for name, value in values.items()]


def test_examples_are_the_best_the_median_and_the_worst():
    scores = scored(a=5, b=1, c=9, d=3, e=7, f=2, g=8)
    chosen = [(place, score.name) for place, score in choose_examples(scores, 2)]
    assert chosen == [
        ("best", "b"), ("best", "f"), ("median", "d"), ("median", "a"),
        ("worst", "c"), ("worst", "g"),
    ]  # fmt: skip


def test_examples_are_by_road_cldice_where_there_is_one():
    scores = [
        ImageScore("lake", {"l1": 0.0}),
        ImageScore("hidden", {"l1": 1.0, "road_cldice": 0.1}),
        ImageScore("found", {"l1": 9.0, "road_cldice": 0.9}),
        ImageScore("half", {"l1": 5.0, "road_cldice": 0.5}),
    ]
    chosen = [(place, score.name) for place, score in choose_examples(scores, 1)]
    assert chosen == [("best", "found"), ("median", "half"), ("worst", "hidden")]


@pytest.mark.parametrize("count", range(8))
def test_no_example_is_shown_twice(count):
    scores = scored(**{chr(97 + i): float(i) for i in range(count)})
    names = [score.name for _, score in choose_examples(scores, 3)]
    assert len(names) == len(set(names)) <= count
    assert len(names) >= min(count, 3)


def test_the_error_map_is_black_where_right_and_light_where_wrong():
    true = np.zeros((4, 4, 3), np.uint8)
    generated = true.copy()
    generated[0] = 32
    generated[1] = 200
    painted = paint_error(generated, true)
    lightness = rgb2lab(painted)[..., 0].mean(axis=1)
    assert lightness[2] < 5
    assert lightness[0] == pytest.approx(50, abs=3)
    assert lightness[1] > 90


def test_the_colour_map_gets_evenly_lighter():
    lightness = rgb2lab(colour_map()[:, None] / 255)[:, 0, 0]
    steps = np.diff(lightness)
    assert steps.min() > -0.3  # colours are rounded to 8 bits
    assert np.diff(lightness[::16]).min() > 3


def test_images_of_any_bands_and_size_become_part_of_the_page():
    for shape in ((700, 1400, 3), (20, 10, 1), (20, 10, 4)):
        url = data_url(np.random.default_rng(0).integers(0, 255, shape, np.uint8))
        image = Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))
        assert image.mode == "RGB"
        assert max(image.size) <= 640
