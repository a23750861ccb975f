from __future__ import annotations

import pytest

from sat2map.errors import UsageError
from sat2map.raster.options import Reading, SceneOptions

NAN = float("nan")
BOXES = [(1, 2, NAN, 4), (1, 4, 2, 2), (1, 2, 1, 4), (500_000, 2, 500_100, 4), (1, 2, 3, 91)]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            {"window": 64, "overlap": 40},
            r"`overlap`: windows of 64 pixels cannot share 40.*0 to 32",
        ),
        ({"overlap": -1}, "`overlap`: windows of 1024 pixels cannot share -1"),
        ({"window": 1, "overlap": 0}, "`window`: 1 pixels are not a window"),
        ({"resolution": float("nan")}, "`resolution`: nan is not a resolution"),
        ({"resolution": float("inf")}, "`resolution`: inf is not a resolution"),
        ({"resolution": -0.5}, "`resolution`: -0.5 is not a resolution"),
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
        *({"bbox": box} for box in BOXES),
    ],
)
def test_limits_that_are_none_name_the_parameter(wrong: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(UsageError, match=f"^`{next(iter(wrong))}`: "):
        Reading(**wrong)  # type: ignore[arg-type]


def test_a_box_with_west_and_east_exchanged_is_refused() -> None:
    with pytest.raises(UsageError, match=r"has its west .* degrees east of its east"):
        Reading(bbox=(13.5, 52.4, 13.3, 52.6))
    across = Reading(bbox=(179, -17, -179, -16))
    assert across.bbox == (179, -17, -179, -16)
