from __future__ import annotations

import pytest

from sat2map.errors import UsageError
from sat2map.raster.options import Reading, SceneOptions, scene_reading, scene_resolution


def test_words_become_options() -> None:
    assert scene_reading(None, None, None, None) == Reading()
    assert scene_reading("3,2,1", "0.5,99.5", "-10,3e3", "-71.2,42,-71.1,42.5") == Reading(
        (3, 2, 1), (0.5, 99.5), (-10, 3000), (-71.2, 42, -71.1, 42.5)
    )
    assert scene_reading(None, None, None, "179.5,-20,-179.5,-19").bbox == (179.5, -20, -179.5, -19)
    assert [scene_resolution(text) for text in ("native", "model", "0.5")] == [
        "native",
        "model",
        0.5,
    ]


@pytest.mark.parametrize("text", ["", "1,a,3", "red", "1.5", "1 2 3"])
def test_bands_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"--bands: .* names no bands"):
        scene_reading(text, None, None, None)


@pytest.mark.parametrize("text", ["2", "98,2", "-1,50", "0,101", "a,b", "1,2,3", "nan,5"])
def test_percentiles_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"--stretch: .* is no range"):
        scene_reading(None, text, None, None)


@pytest.mark.parametrize("text", ["5,5", "9,1", "inf,3", "x"])
def test_values_that_are_no_range(text: str) -> None:
    with pytest.raises(UsageError, match=r"--range: .* is no range"):
        scene_reading(None, None, text, None)


@pytest.mark.parametrize(
    "text", ["13,52,14", "13,53,14,52", "13,52,13,53", "500000,52,500100,53", "13,52,14,91", "box"]
)
def test_boxes_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"--bbox: .* is no bounding box"):
        scene_reading(None, None, None, text)


@pytest.mark.parametrize("text", ["", "0", "-1", "fine", "1,2", "nan"])
def test_resolutions_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"--resolution: .* is no resolution"):
        scene_resolution(text)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"window": 64, "overlap": 40}, r"overlap: windows of 64 pixels cannot share 40.*0 to 32"),
        ({"overlap": -1}, "overlap: windows of 1024 pixels cannot share -1"),
        ({"window": 1, "overlap": 0}, "window: 1 pixels are not a window"),
        ({"resolution": float("nan")}, "resolution: nan is not a resolution"),
        ({"resolution": float("inf")}, "resolution: inf is not a resolution"),
        ({"resolution": -0.5}, "resolution: -0.5 is not a resolution"),
    ],
)
def test_options_that_do_not_fit_together_are_said(wrong: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        SceneOptions(**wrong)  # type: ignore[arg-type]


def test_half_a_window_may_be_shared() -> None:
    assert SceneOptions(window=65, overlap=32).overlap == 32


@pytest.mark.parametrize(
    "wrong",
    [
        {"stretch": (98, 2)},
        {"stretch": (2, 101)},
        {"stretch": (float("nan"), 98)},
        {"value_range": (5, 5)},
        {"value_range": (0, float("inf"))},
        {"bbox": (1, 2, float("nan"), 4)},
    ],
)
def test_limits_that_are_none_name_the_parameter(wrong: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(UsageError, match=f"^{next(iter(wrong))}: "):
        Reading(**wrong)  # type: ignore[arg-type]


def test_a_box_with_west_and_east_exchanged_is_refused() -> None:
    with pytest.raises(UsageError, match=r"has its west .* degrees east of its east"):
        scene_reading(None, None, None, "13.5,52.4,13.3,52.6")
    across = scene_reading(None, None, None, "179,-17,-179,-16")
    assert across.bbox == (179, -17, -179, -16)
