"""Every runtime answers alike, and the right one is chosen."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sat2map.errors import MissingExtraError, ModelError, OutputError, UsageError
from sat2map.geo.windows import mirrored
from sat2map.legend import COVER, STREETS
from sat2map.model.card import read_model_card
from sat2map.model.folder import ModelCard, build_generator, load_model, save_model
from sat2map.networks.specs import CompactSpec, LiteSpec
from sat2map.networks.value_range import SHARPNESS, round_image
from sat2map.raster.options import Mode
from sat2map.runtimes import convert, open
from sat2map.runtimes import openvino as openvino_runtime
from sat2map.runtimes.interface import RuntimeName
from sat2map.translation.maps import LAYERS, pack
from sat2map.translation.translator import Translator, load

RUNTIMES: tuple[RuntimeName, ...] = ("torch", "openvino", "onnx")


def photo(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def carry(folder: Path, runtime: str) -> Path:
    """Put into a model folder what `export` would."""
    model, place = load_model(folder), folder / runtime
    place.mkdir()
    card = convert.exported_card(model.card, model.network)
    if runtime == "onnx":
        convert.write_onnx(convert.to_onnx(model.network, 3), card, place)
    else:
        convert.write_openvino(convert.to_openvino(model.network, 3), card, place)
    return place


@pytest.mark.parametrize("runtime", ["openvino", "onnx"])
def test_a_full_disk_is_one_line_where_a_model_is_converted(
    runtime: RuntimeName, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("SAT2MAP_CACHE", str(cache))
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # no file grows beyond, as if full
    try:
        with pytest.raises(OutputError, match=r"cannot be written .*Free some space"):
            load(model_folder, "cpu", runtime=runtime)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert not list((cache / "converted").iterdir())
    load(model_folder, "cpu", runtime=runtime)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_answers_as_torch_does(runtime: RuntimeName, model_folder: Path) -> None:
    network = load_model(model_folder).network
    translator = load(model_folder, "cpu", runtime=runtime)
    assert (translator.runtime, translator.device, translator.multiple) == (runtime, "cpu", 16)
    for height, width in ((16, 16), (48, 32), (16, 32), (7, 50)):
        source = photo(height, width)
        expected = load(model_folder, "cpu", runtime="torch").translate(source)
        answer = translator.translate(source)
        assert answer.shape == expected.shape
        assert np.abs(answer.astype(int) - expected).max() <= 1
    import torch

    window = photo(16, 32)
    with torch.no_grad():
        values = torch.from_numpy(window).permute(2, 0, 1)[None].float() / 127.5 - 1
        truth = network(values)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(translator.predict(window), truth, atol=1e-5)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="of other processors")
def test_which_instructions_are_used_is_told(model_folder: Path) -> None:
    """A benchmark that limits them can tell whether that held."""
    code = (
        "import sys, numpy, sat2map\n"
        "model = sat2map.load(sys.argv[1], 'cpu', runtime='openvino')\n"
        "before = model.instructions\n"
        "model.translate(numpy.zeros((16, 16, 3), numpy.uint8))\n"
        "print(before, model.instructions)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, model_folder],
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.split()[0] == "None"
    assert ended.stdout.split()[1] in ("avx2", "avx", "sse41")  # what the processor has of these
    assert load(model_folder, "cpu", runtime="torch").instructions is None


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_a_runtime_answered_stays_as_it_was(runtime: RuntimeName, model_folder: Path) -> None:
    translator = load(model_folder, "cpu", runtime=runtime)
    first = translator.predict(photo(16, 16))
    kept = first.copy()
    translator.predict(photo(16, 16, seed=1))
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_view_of_an_array_will_do(runtime: RuntimeName, model_folder: Path) -> None:
    translator, source = load(model_folder, "cpu", runtime=runtime), photo(32, 48)
    views = [source[::-1, ::-1], source[:, :, ::-1], source[::2, ::3]]
    source.flags.writeable = False
    for view in [*views, source]:
        copied = np.ascontiguousarray(view).copy()
        assert np.array_equal(translator.translate(view), translator.translate(copied))


def test_on_a_cpu_it_is_openvino(model_folder: Path) -> None:
    assert load(model_folder, "cpu").runtime == "openvino"


def test_a_conversion_is_kept_until_the_model_changes(
    model_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    to_openvino = convert.to_openvino

    def counted(*arguments: Any, **named: Any) -> Any:
        made.append(arguments)
        return to_openvino(*arguments, **named)

    monkeypatch.setattr(convert, "to_openvino", counted)
    first = load(model_folder, "cpu").translate(photo(16, 16))
    assert np.array_equal(load(model_folder, "cpu").translate(photo(16, 16)), first)
    assert len(made) == 1
    assert sorted(cache.rglob("model.xml"))
    text = (model_folder / "model.json").read_text()
    (model_folder / "model.json").write_text(text + "\n")
    load(model_folder, "cpu")
    assert len(made) == 2
    assert len(list(cache.rglob("model.xml"))) == 1


def test_where_nothing_can_be_kept_torch_does(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*arguments: object, **named: object) -> None:
        raise OutputError("is full", where="cache", remedy="Free some space.")

    monkeypatch.setattr(open, "atomic_folder", full)
    assert load(model_folder, "cpu").runtime == "torch"
    assert "slower" in caplog.text
    with pytest.raises(OutputError, match="full"):
        load(model_folder, "cpu", runtime="openvino")


@pytest.mark.parametrize("runtime", ["openvino", "onnx"])
def test_what_a_folder_carries_is_taken(
    runtime: RuntimeName, model_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry(model_folder, runtime)
    expected = load(model_folder, "cpu", runtime="torch").translate(photo(20, 40))

    def refuse(*arguments: object) -> None:
        raise AssertionError("nothing needs to be converted")

    monkeypatch.setattr(open, "_converted", refuse)
    answer = load(model_folder, "cpu", runtime=runtime).translate(photo(20, 40))
    assert np.abs(answer.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("runtime", ["openvino", "onnx"])
def test_an_exported_folder_is_a_model(runtime: RuntimeName, model_folder: Path) -> None:
    expected = load(model_folder, "cpu", runtime="torch").translate(photo(20, 40))
    exported = carry(model_folder, runtime)
    translator = load(exported)
    assert translator.runtime == "openvino"  # it reads both
    assert translator.multiple == 16
    assert translator.card.bands == ("red", "green", "blue")
    assert np.abs(translator.translate(photo(20, 40)).astype(int) - expected).max() <= 1
    with pytest.raises(UsageError, match="as published"):
        translator.translate(photo(20, 40), mode="published")
    with pytest.raises(UsageError, match="torch cannot run"):
        load(exported, runtime="torch")


def test_an_exported_model_of_openvino_is_nothing_for_onnx(model_folder: Path) -> None:
    with pytest.raises(UsageError, match="onnx cannot read"):
        load(carry(model_folder, "openvino"), runtime="onnx")


def test_as_published_goes_to_torch(model_folder: Path) -> None:
    carry(model_folder, "openvino")
    source = photo(20, 20)
    expected = load(model_folder, "cpu", runtime="torch").translate(
        source, mode="published", seed=3
    )
    translator = load(model_folder, "cpu")
    assert translator.runtime == "openvino"
    assert np.array_equal(translator.translate(source, mode="published", seed=3), expected)


def test_the_card_is_embedded(model_folder: Path) -> None:
    import onnx
    import openvino

    card = json.loads(read_model_card(carry(model_folder, "openvino")).model_dump_json())
    assert card["multiple"] == 16
    model = openvino.Core().read_model(model_folder / "openvino" / "model.xml")
    assert json.loads(model.get_rt_info("sat2map").astype(str)) == card
    proto = onnx.load(carry(model_folder, "onnx") / "model.onnx")
    assert {p.key: json.loads(p.value) for p in proto.metadata_props} == {"sat2map": card}


def test_files_of_another_model_are_refused(model_folder: Path) -> None:
    card = carry(model_folder, "openvino") / "model.json"
    entries = json.loads(card.read_text())
    entries["generator"]["arguments"]["base_channels"] = 8
    card.write_text(json.dumps(entries))
    with pytest.raises(ModelError, match="another model"):
        load(model_folder, "cpu")


@pytest.mark.parametrize(
    ("runtime", "name"),
    [("openvino", "model.xml"), ("openvino", "model.bin"), ("onnx", "model.onnx")],
)
def test_damaged_files_are_named(runtime: RuntimeName, name: str, model_folder: Path) -> None:
    file = carry(model_folder, runtime) / name
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ModelError, match=f"{runtime}.*is damaged.*Restore both files"):
        load(model_folder, "cpu", runtime=runtime).translate(photo(16, 16))


def test_calls_that_do_not_fit(model_folder: Path) -> None:
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: load(model_folder, "cuda", runtime="openvino"), "on the CPU, not on cuda"),
        (lambda: load(model_folder, runtime="tensorrt"), "'tensorrt', which is not taken"),  # type: ignore[arg-type]
        (lambda: load(model_folder, threads=0), "0 threads"),
    ]
    for call, words in calls:
        with pytest.raises(UsageError, match=words):
            call()


def test_without_onnx_runtime_the_extra_is_named(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(open, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"sat2map\[onnx\]"):
        load(model_folder, "cpu", runtime="onnx")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_threads_are_what_was_asked_for(runtime: RuntimeName, model_folder: Path) -> None:
    import torch

    before = torch.get_num_threads()
    wanted = before + 1
    translator = load(model_folder, "cpu", runtime=runtime, threads=wanted)
    inside: Any = translator._runtime
    seen: list[int] = []
    if runtime == "torch":
        inside._network.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    translator.translate(photo(16, 16))
    if runtime == "torch":
        assert seen == [wanted]
        assert torch.get_num_threads() == before  # the number is the caller's again
    elif runtime == "openvino":
        ((compiled, _),) = inside._compiled.values()
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else wanted
        assert compiled.get_property("INFERENCE_NUM_THREADS") == min(wanted, cores)
    else:
        assert inside._options.intra_op_num_threads == wanted


def test_openvino_computes_in_float32_on_every_processor(model_folder: Path) -> None:
    """By itself it takes bfloat16 or float16 where the processor is faster at it."""
    import openvino

    translator = load(model_folder, "cpu", runtime="openvino")
    translator.translate(photo(16, 16))
    inside: Any = translator._runtime
    ((compiled, _),) = inside._compiled.values()
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32


def test_what_was_answered_before_changes_no_answer(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Usual sizes have compiled graphs of their own, of which only the last few are kept."""
    sizes = [(256, 256), (16, 256), (512, 512), (32, 16), (256, 512), (512, 512), (256, 256)]
    alone = {
        size: load(model_folder, "cpu", runtime="openvino").translate(photo(*size))
        for size in set(sizes)
    }
    monkeypatch.setattr(openvino_runtime, "KEPT", 2)
    translator = load(model_folder, "cpu", runtime="openvino")
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda size: translator.translate(photo(*size)), sizes * 2))
    for size, answer in zip(sizes * 2, found, strict=True):
        np.testing.assert_array_equal(answer, alone[size])
    inside: Any = translator._runtime
    assert len(inside._compiled) == 2


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_eight_threads_get_what_one_gets(runtime: RuntimeName, model_folder: Path) -> None:
    """Deterministically and as published, mixed, each with an image and a seed of its own."""
    modes: tuple[Mode, ...] = ("deterministic", "published", "published")
    calls = [(photo(24, 40, seed=i % 3), modes[i % 3], i // 3) for i in range(48)]

    def answer(translator: Translator, call: tuple[NDArray[np.uint8], Mode, int]) -> Any:
        source, mode, seed = call
        return translator.translate(source, mode=mode, seed=seed)

    alone = load(model_folder, "cpu", runtime=runtime, threads=1)
    expected = [answer(alone, call) for call in calls]
    shared = load(model_folder, "cpu", runtime=runtime, threads=1)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda call: answer(shared, call), calls))
    assert [np.array_equal(*pair) for pair in zip(got, expected, strict=True)] == [True] * 48


def test_a_model_folder_with_openvino_files_costs_no_torch(
    model_folder: Path, tmp_path: Path
) -> None:
    from PIL import Image

    carry(model_folder, "openvino")
    Image.fromarray(photo(40, 30)).save(tmp_path / "photo.png")
    if not metadata.version("torch").endswith("+cpu"):
        pytest.skip("where torch may find a GPU it is asked")
    code = (
        "import sys\n"
        f"sys.argv = ['sat2map', 'translate', {str(tmp_path / 'photo.png')!r},"
        f" {str(tmp_path / 'map.png')!r}, '--model', {str(model_folder)!r}]\n"
        "from sat2map.cli.app import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "print('MODULES', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    loaded = set(done.stdout.rpartition("MODULES ")[2].split())
    assert "openvino" in loaded
    assert not loaded & {"torch", "skimage", "sklearn", "nncf", "tensorboard", "lightning_fabric"}
    expected = load(model_folder, "cpu", runtime="torch").translate(photo(40, 30))
    with Image.open(tmp_path / "map.png") as written:
        assert np.abs(np.asarray(written).astype(int) - expected).max() <= 1


def test_rounding_is_that_of_numpy() -> None:
    values = np.linspace(-1.2, 1.2, 4001, dtype=np.float32)
    expected = np.clip(np.rint((values + 1) * 127.5), 0, 255).astype(np.uint8)
    assert np.array_equal(round_image(values), expected)
    assert values[0] == np.float32(-1.2)  # they are left as they are


@pytest.fixture(scope="module", params=[False, True], ids=["classes", "classes and cover"])
def legend_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose answers differ from place to place, without and with a head for cover."""
    import torch

    colours = STREETS.colours.tolist()
    spec: CompactSpec | LiteSpec = CompactSpec(
        colours=colours, channels=[8, 8, 8], blocks=[1, 0, 0, 0, 0]
    )
    cover = None
    if request.param:
        spec, cover = LiteSpec(colours=colours, cover=True, encoder="none"), COVER
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_generator(spec)
    for name in ("exit", "cover_exit"):
        if hasattr(network, name):
            getattr(network, name).weight.data.mul_(5)
    card = ModelCard(generator=spec, normalisation="none", legend=STREETS, cover=cover)
    folder = tmp_path_factory.mktemp("models") / "legend"
    save_model(folder, network, card)
    return folder


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_legend_head_gives_its_probabilities(runtime: RuntimeName, legend_folder: Path) -> None:
    translator = load(legend_folder, "cpu", runtime=runtime)
    window = photo(32, 48)
    probabilities = translator.predict(window)
    assert probabilities.shape == (32, 48, 8)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    sharp = probabilities**SHARPNESS / (probabilities**SHARPNESS).sum(-1, keepdims=True)
    mixed = sharp @ (STREETS.colours.astype(np.float32) / 127.5 - 1)
    np.testing.assert_allclose(translator.predict(window, ["colours"]), mixed, atol=1e-5)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_bytes_are_what_the_values_say(runtime: RuntimeName, legend_folder: Path) -> None:
    """Whether the graph chooses the classes or numpy does, on every runtime."""
    translator = load(legend_folder, "cpu", runtime=runtime)
    legend = STREETS.in_colours({"land": "#000000"})
    translator = translator.in_colours({"land": "#000000"})
    batch = np.stack([photo(32, 48), photo(32, 48, seed=1)])
    kind = translator.kind
    values = translator._runtime.run(batch, kind.values(LAYERS), legend)
    found = translator._runtime.run(batch, kind.bytes(LAYERS), legend)
    assert list(found) == list(LAYERS)
    assert all(answer.dtype == np.uint8 for answer in found.values())
    for number in range(2):
        one = {name: answer[number : number + 1] for name, answer in values.items()}
        expected = kind.unpack(kind.to_bytes(pack(one), LAYERS), LAYERS)
        got = kind.unpack(
            pack({name: answer[number : number + 1] for name, answer in found.items()}), LAYERS
        )
        assert got.image is not None and got.image.shape == (32, 48, 3)
        for layer in LAYERS:
            one_of, other = getattr(got, layer).astype(int), getattr(expected, layer)
            apart = np.abs(one_of - other)
            if layer in ("classes", "cover"):
                assert len(np.unique(other)) > 1
                close = getattr(expected, f"{layer}_confidence".removeprefix("classes_")) < 1
                assert apart[~close].max(initial=0) == 0
            else:
                assert apart.max() <= 1


@pytest.mark.parametrize("runtime", RUNTIMES[1:])
def test_bytes_are_those_of_torch(runtime: RuntimeName, legend_folder: Path) -> None:
    window = photo(48, 32)
    truth = load(legend_folder, "cpu", runtime="torch").maps(window, LAYERS)
    found = load(legend_folder, "cpu", runtime=runtime).maps(window, LAYERS)
    for layer in LAYERS:
        apart = np.abs(getattr(found, layer).astype(int) - getattr(truth, layer))
        if layer in ("classes", "cover"):
            close = getattr(truth, f"{layer}_confidence".removeprefix("classes_")) < 1
            assert apart[~close].max(initial=0) == 0
        else:
            assert apart.max() <= 1


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's C library")
def test_openvino_leaves_the_main_threads_stack_for_signals_alone(model_folder: Path) -> None:
    """Its own is so small that the handler of Ctrl-C crashed on it."""

    class Stack(ctypes.Structure):
        _fields_ = (("place", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))

    def now() -> tuple[int | None, int]:
        stack = Stack()
        assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
        return stack.place, stack.size

    carry(model_folder, "openvino")
    before, translator = now(), load(model_folder, "cpu")
    assert translator.runtime == "openvino"
    translator.translate(photo(16, 16))
    assert now() == before


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_second_head_tells_the_land_cover(runtime: RuntimeName, tmp_path: Path) -> None:
    import torch

    from sat2map.networks.value_range import from_image

    arguments = {
        "colours": [list(entry.colour) for entry in STREETS.classes],
        "cover_classes": len(COVER),
        "widths": [8, 8, 8, 8],
    }
    spec = LiteSpec(**arguments)
    torch.manual_seed(0)
    network = build_generator(spec).eval()
    card = ModelCard(generator=spec, normalisation="none", legend=STREETS, cover=COVER)
    save_model(tmp_path / "cover", network, card)
    translator = load(tmp_path / "cover", "cpu", runtime=runtime)
    source = photo(40, 56)  # not a multiple of the stride
    rows, columns = mirrored(0, 48, 40), mirrored(0, 64, 56)
    with torch.inference_mode():
        drawn, cover = network.both_logits(from_image(source[rows[:, None], columns[None]]))
    expected = cover[0, :, :40, :56].argmax(0).numpy()
    told = translator.translate(source, output="cover")
    assert told.dtype == np.uint8
    assert (told == expected).mean() > 0.999  # equal but for ties of rounding
    of_map = translator.translate(source, output="classes")
    assert (of_map == drawn[0, :, :40, :56].argmax(0).numpy()).mean() > 0.999
    assert len(np.unique(expected)) > 1
