"""What a network computes in: as it is told, or what suits the files that a model carries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fixtures.scenes import noise
from sat2map.errors import UsageError
from sat2map.export.export import export_model
from sat2map.legend import STREETS
from sat2map.model.card import model_folder as shipped_folder
from sat2map.model.folder import ModelCard, build_generator, save_model
from sat2map.networks.specs import CompactSpec
from sat2map.runtimes import openvino as module
from sat2map.runtimes.open import told_precision
from sat2map.translation.translator import load


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that carries nothing for other runtimes."""
    spec = CompactSpec(
        channels=[8, 8, 16], blocks=[0, 1, 1, 1, 0], colours=STREETS.colours.tolist()
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_generator(spec)
    folder = tmp_path_factory.mktemp("models") / "plain"
    save_model(folder, network, ModelCard(generator=spec, normalisation="none", legend=STREETS))
    return folder


def test_the_shipped_model_is_int8_unless_f32_is_asked_for() -> None:
    quantised, exact = load("streets", "cpu"), load("streets", "cpu", precision="f32")
    assert (quantised.precision, exact.precision) == ("int8", "f32")
    assert quantised.runtime == exact.runtime == "openvino"
    assert quantised.fingerprint() != exact.fingerprint()
    source = noise(64, 64)
    expected = load("streets", "cpu", runtime="torch").translate(source).astype(int)
    off = [np.abs(one.translate(source) - expected) for one in (exact, quantised)]
    assert off[0].max() <= 1
    assert off[0].mean() < off[1].mean()


def test_a_model_without_files_of_int8_is_f32(plain: Path) -> None:
    assert load(plain, "cpu").precision == "f32"
    assert told_precision(plain)[0] == "f32"
    with pytest.raises(UsageError, match="carries no files of int8 for openvino"):
        load(plain, "cpu", precision="int8")


def test_bf16_where_the_processor_has_it(plain: Path) -> None:
    if not module.has_bf16():
        with pytest.raises(UsageError, match="does not compute in bf16"):
            load(plain, "cpu", precision="bf16")
        return
    rounded, exact = load(plain, "cpu", precision="bf16"), load(plain, "cpu", precision="f32")
    assert rounded.precision == "bf16"
    assert rounded.fingerprint() != exact.fingerprint()
    source = noise(64, 64)
    off = np.abs(rounded.predict(source) - exact.predict(source))
    assert 0 < off.max() < 0.1


def test_bf16_is_refused_where_the_processor_lacks_it(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "has_bf16", lambda: False)
    with pytest.raises(UsageError, match="this processor does not compute in bf16"):
        load(plain, "cpu", precision="bf16")


def test_runtimes_that_do_not_compute_in_it_say_so(plain: Path) -> None:
    with pytest.raises(UsageError, match="torch runs models in f32, not in int8"):
        load("streets", "cpu", runtime="torch", precision="int8")
    with pytest.raises(UsageError, match="onnx does not compute in bf16"):
        load(plain, "cpu", runtime="onnx", precision="bf16")
    with pytest.raises(UsageError, match="`precision`: is 'f16', which is not taken"):
        load(plain, "cpu", precision="f16")  # type: ignore[arg-type]


def test_an_exported_model_is_what_it_was_exported_in(plain: Path, tmp_path: Path) -> None:
    exported = tmp_path / "exported"
    export_model(plain, exported, "openvino")
    assert load(exported, precision="f32").precision == "f32"
    with pytest.raises(UsageError, match="was exported in f32, and does not run in int8"):
        load(exported, precision="int8")


def test_what_is_run_is_told_without_opening_it() -> None:
    precision, why = told_precision(shipped_folder("streets"))
    assert precision == load("streets").precision
    if precision == "int8":  # on a machine without a GPU
        assert "quantised" in why
