from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from sat2map.data.pairs import read_dataset_card
from sat2map.errors import (
    BatchError,
    DataError,
    MissingExtraError,
    ModelError,
    OutputError,
    Sat2mapError,
    TrainingError,
    UsageError,
    parsed_json,
    writing_to,
)
from sat2map.legend import read_colours


def test_a_message_says_where_what_and_what_to_do() -> None:
    error = DataError("is\n broken", where=Path("a b") / "1.png", remedy="Remove it.")
    assert str(error) == "a b/1.png: is broken. Remove it."
    assert str(UsageError("no", remedy="Yes.")) == "no. Yes."


@pytest.mark.parametrize("kind", [DataError, ModelError, TrainingError, OutputError])
def test_what_the_machine_or_the_data_caused_exits_with_1(kind: type[Sat2mapError]) -> None:
    assert kind("a", remedy="b").exit_code == 1


def test_a_wrong_call_exits_with_2() -> None:
    assert UsageError("a", remedy="b").exit_code == 2
    error = MissingExtraError("torchmetrics", "perceptual")
    assert error.exit_code == 2
    assert "pip install 'sat2map[perceptual]'" in str(error)
    assert "'torchmetrics'" in str(error)


def test_a_batch_names_each_failure_in_one_line() -> None:
    failures: list[Sat2mapError] = [
        DataError("is broken", where=f"{n}.png", remedy="Remove it.") for n in (1, 2)
    ]
    error = BatchError(failures, 7)
    assert error.failures == failures
    assert str(error).startswith(
        "2 items could not be used, 7 done: 1.png: is broken; 2.png: is broken. "
    )
    assert str(BatchError(failures[:1], 0)).startswith("1 item could not be used, 0 done")


def test_what_the_system_says_while_writing_becomes_an_output_error() -> None:
    with (
        pytest.raises(OutputError, match=r"^a\.tif: cannot be written \(No space left\)\. Free"),
        writing_to(Path("a.tif")),
    ):
        raise OSError(28, "No space left")
    with pytest.raises(OutputError, match=r"cannot be written \(odd\)"), writing_to(Path("a.tif")):
        raise OSError("odd")
    with pytest.raises(ValueError, match="other"), writing_to(Path("a.tif")):
        raise ValueError("other")


@pytest.mark.parametrize(
    "error",
    [
        DataError("is broken", where="a.png", remedy="Mend it."),
        MissingExtraError("pyogrio", "cartography"),
        BatchError([DataError("is broken", where="a.png", remedy="Mend it.")], 3),
    ],
)
def test_an_error_comes_whole_from_another_process(error: Sat2mapError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.what, again.remedy, again.where) == (
        str(error),
        error.what,
        error.remedy,
        error.where,
    )


@pytest.mark.parametrize(
    "address",
    [
        "https://host.test/a/b.tif?X-Amz-Signature=SECRET&x=1",
        "http:/host.test/v.geojson?sig=SECRET",  # as a path
        "https://name:SECRET@host.test/a.tif?token=SECRET",
        "/vsicurl/https://host.test/a.tif?sig=SECRET",
        "https://host.test/a.tif#SECRET",
    ],
)
def test_no_error_tells_the_keys_of_an_address(address: str) -> None:
    for error in (
        DataError(f"is not {address!r}", where=address, remedy=f"Look at {address}."),
        UsageError("is wrong", where=Path(address), remedy="Mend it."),
    ):
        told = f"{error} {error.where} {error.what} {error.remedy} {error.headline}"
        assert "SECRET" not in told
        assert "host.test/" in told


def test_json_of_any_depth_is_read_or_refused(tmp_path: Path) -> None:
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        parsed_json(deep.read_bytes())
    with pytest.raises(DataError, match=r"deep\.json: cannot be read \(it is nested too deeply\)"):
        read_colours(deep)
    (tmp_path / "dataset.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"dataset\.json: is not a valid description"):
        read_dataset_card(tmp_path)


def test_questions_stay() -> None:
    assert "Why? {x}" in str(DataError("a", where="b", remedy="Why? {x}"))
    assert "GTIFF?x=1" in str(DataError("a", where="GTIFF?x=1", remedy="b"))
