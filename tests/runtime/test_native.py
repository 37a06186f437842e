"""The native kernels send the spikes of the ONNX functions they stand in for; without a compiler nothing is lost."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

import csscc
from csscc.cli import cli
from csscc.coding.coding import Coding
from csscc.dialect.model import copy_of, define_operators, spike_sources, with_outputs, with_residuals
from csscc.dialect.spiking import DOMAIN_VERSION
from csscc.errors import RefusedError
from csscc.measure.evaluation import evaluate
from csscc.models import digits_data, digits_model
from csscc.passes.lower.kernels import open_session
from csscc.passes.lower.scan import scanned_function
from csscc.runtime import native
from csscc.runtime.session import Session
from tests.helpers import parse, random_feeds
from tests.runtime.test_functions import (
    CASES,
    FLIPS,
    IMAGE,
    SETTINGS,
    Case,
    differing,
    encode_model,
    f32,
    feeds_for,
    in_bursts,
    near_thresholds,
    neuron_model,
    scalar,
)

CODING = Coding(5, 1.5, 1)
Array = NDArray[Any]


def both(model: onnx.ModelProto, feeds: dict[str, Array], **options: Any) -> tuple[dict[str, Array], dict[str, Array]]:
    """Outputs by the functions and by the kernels."""
    session = open_session(model, **options)
    assert session.native
    return Session(model, **options).run(feeds), session.run(feeds)


def assert_same(model: onnx.ModelProto, feeds: dict[str, Array], *, flips: float = 0.0, **options: Any) -> None:
    expected, actual = both(model, feeds, **options)
    assert list(expected) == list(actual)
    for name, value in expected.items():
        assert np.isfinite(value).all()
        assert differing(actual[name], value) <= flips, name


def shown(model: onnx.ModelProto) -> onnx.ModelProto:
    """The neuron's model with its residual as an output."""
    with_residuals(model)
    model.graph.output.append(onnx.ValueInfoProto(name="neuron_residual"))
    return model


def test_every_kernel_has_a_case(kernels: frozenset[str]) -> None:
    cases = {f"TSA{c.op}" for c in CASES}
    assert {"Encode", "TSARelu", "TSAReluMaxPool"} <= kernels
    assert kernels - {"Encode", "Merge", "Scale"} <= cases


@pytest.mark.parametrize("optimise", [True, False])
def test_spikes_and_residuals_of_every_kernel(kernels: frozenset[str], optimise: bool) -> None:
    for index, case in enumerate(CASES):
        if f"TSA{case.op}" not in kernels:
            continue
        for number, setting in enumerate(SETTINGS[index % len(SETTINGS)]):
            coding = Coding(*setting)
            feeds = feeds_for(case, coding, 3, seed=31 * index + number)
            flips = 0.0 if case.exact else FLIPS
            model = neuron_model(case, coding, burst=in_bursts(coding.negative, index + number))
            expected, actual = both(model, feeds, optimise=optimise)
            assert differing(actual["spikes"], expected["spikes"]) <= flips, (case.op, coding)
            if case.exact:
                assert_same(shown(model), feeds, optimise=optimise)


@pytest.mark.parametrize("signed", [True, False])
def test_encoder(kernels: frozenset[str], signed: bool) -> None:
    for beta in (1.0, 1.3, 1.5, 2.0, 3.0):
        coding = Coding(7, beta, signed_input=signed)
        for theta in (scalar(0.05), f32(0.1, 0.2, 0.3, 0.4).reshape(1, 4, 1, 1)):
            x = np.random.default_rng(1).uniform(-1, 1, (3, *IMAGE)).astype(np.float32)
            assert_same(encode_model(coding, theta.ndim), {"x": x, "theta": theta})


@pytest.mark.parametrize("signed", [True, False])
def test_spikes_next_to_a_threshold(kernels: frozenset[str], signed: bool) -> None:
    for T, beta in ((1, 1.5), (5, 1.3), (12, 1.5), (12, 2.7), (40, 3.0)):
        coding = Coding(T, beta, 0, negative=signed, signed_input=signed)
        x = near_thresholds(coding).reshape(-1, 1, 1, 1)
        assert_same(encode_model(coding, 0), {"x": x, "theta": scalar(1)})
        z = np.zeros((T * len(x), 1, 1, 1), np.float32)
        assert_same(neuron_model(Case("Relu"), coding), {"z0": z, "b0": x, "theta": scalar(1)})


@pytest.mark.parametrize("version", [1, DOMAIN_VERSION - 1])
def test_a_file_of_another_version_keeps_its_functions(kernels: frozenset[str], version: int) -> None:
    """A kernel would take its currents for what they are not."""
    model = neuron_model(CASES[0], CODING)
    feeds = feeds_for(CASES[0], CODING, 2, 0)
    expected = Session(model).run(feeds)["spikes"]
    next(o for o in model.opset_import if o.domain == "csscc").version = version
    wrong = neuron_model(CASES[0], Coding(5, 3.0, 1)).functions[0]
    for function in (model.functions[0], wrong):
        model.functions[0].CopyFrom(function)
        session = open_session(model)
        assert session.native == frozenset()
        options = ort.SessionOptions()
        options.register_custom_ops_library(native.library())
        registered = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        spikes = session.run(feeds)["spikes"]
        np.testing.assert_array_equal(registered.run(None, feeds)[0], spikes)
        assert np.array_equal(spikes, expected) == (function is not wrong)


def test_the_kernel_runs_instead_of_the_function(kernels: frozenset[str]) -> None:
    """A file whose function is wrong sends wrong spikes without kernels and right ones with them."""
    feeds = feeds_for(CASES[0], CODING, 2, 0)
    right, other = neuron_model(CASES[0], CODING), neuron_model(CASES[0], Coding(5, 3.0, 1))
    wrong = copy_of(right)
    wrong.functions[0].CopyFrom(other.functions[0])
    expected = Session(right).run(feeds)["spikes"]
    by_function, by_kernel = both(wrong, feeds)
    assert differing(by_function["spikes"], expected) > 0.01
    np.testing.assert_array_equal(by_kernel["spikes"], expected)


@pytest.mark.parametrize("negative", [True, False])
def test_other_codings(kernels: frozenset[str], negative: bool) -> None:
    """The other codings of `csscc.coding.coding`: equal weights, all steps silent, one spike at most, or two."""
    codings = [Coding(9, 1.0, 0, negative), Coding(4, 2.0, 4, negative), Coding(9, 1.0, 9, negative, linear=True)]
    for coding in (*codings, Coding(9, 1.0, 9, linear=True, switched=True)):
        for op in ("Relu", "Sqrt", "ReluMaxPool"):
            case = Case(op, {"kernel_shape": [2, 2]} if op == "ReluMaxPool" else {}, positive=op == "Sqrt")
            assert_same(shown(neuron_model(case, coding)), feeds_for(case, coding, 3, 6))


BROADCASTS = {
    "scalar": (),
    "channel": (4, 1, 1),
    "batched channel": (1, 4, 1, 1),
    "row": (6,),
    "plane": (6, 6),
    "all": IMAGE,
}


@pytest.mark.parametrize("shape", BROADCASTS.values(), ids=BROADCASTS)
def test_broadcasting_of_biases_and_amplitudes(kernels: frozenset[str], shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    for op in ("Relu", "HardSwish"):
        case = Case(op)
        model = neuron_model(case, CODING, theta_rank=len(shape))
        feeds = feeds_for(case, CODING, 3, 1)
        feeds["theta"] = rng.uniform(0.1, 0.5, shape).astype(np.float32)
        feeds["b0"] = rng.standard_normal(shape).astype(np.float32)
        resized(model, "b0", len(shape))
        assert_same(model, feeds)


def resized(model: onnx.ModelProto, name: str, rank: int) -> None:
    """Declare the input `name` to have another rank."""
    (value,) = (i for i in model.graph.input if i.name == name)
    value.type.tensor_type.shape.ClearField("dim")
    for i in range(rank):
        value.type.tensor_type.shape.dim.add().dim_param = f"{name}_{i}"


@pytest.mark.parametrize("gate", [(4, 1, 1), (1, 6, 6), (4, 6, 6), (1, 1, 1)], ids=str)
def test_two_inputs_of_different_shapes(kernels: frozenset[str], gate: tuple[int, ...]) -> None:
    for shapes in ((IMAGE, gate), (gate, IMAGE)):
        for op in ("Mul", "Max"):
            case = Case(op, shapes=shapes)
            assert_same(neuron_model(case, CODING), feeds_for(case, CODING, 2, 5))


@pytest.mark.parametrize("shape", [(2, 4, 6, 6), (2, 1, 1, 6), (2, 4, 1, 6), (1, 4, 1, 6), (2, 1, 6, 1)], ids=str)
def test_biases_that_differ_between_samples_or_repeat_in_between(
    kernels: frozenset[str], shape: tuple[int, ...]
) -> None:
    case, rng = Case("Relu"), np.random.default_rng(5)
    feeds = feeds_for(case, CODING, 2, 5) | {"b0": rng.standard_normal(shape, np.float32)}
    assert_same(neuron_model(case, CODING), feeds)


@pytest.mark.parametrize("shape", [(1,), (3, 700), (5, 17, 31), (2, 3, 4, 5, 6), (64, 40, 40)], ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_sizes(kernels: frozenset[str], shape: tuple[int, ...], threads: int) -> None:
    """From less than a block to many tasks."""
    case = Case("Relu", shapes=(shape,))
    assert_same(neuron_model(case, CODING), feeds_for(case, CODING, 3, 2), threads=threads)


POOLS: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
    ((3, 9), {"kernel_shape": [3], "strides": [2]}),
    ((3, 9), {"kernel_shape": [2], "dilations": [3], "pads": [1, 1]}),
    ((2, 7, 8), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ((2, 7, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ((2, 7, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1]}),
    ((2, 7, 8), {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1}),
    ((2, 7, 8), {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1, "pads": [0, 0, 1, 1]}),
    ((2, 7, 8), {"kernel_shape": [3, 2], "strides": [1, 3], "pads": [0, 1, 2, 0], "dilations": [2, 1]}),
    ((2, 7, 8), {"kernel_shape": [3, 4], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ((2, 7, 8), {"kernel_shape": [3, 4], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    ((2, 7, 8), {"kernel_shape": [3, 4], "strides": [2, 2], "auto_pad": "VALID"}),
    ((2, 7, 8), {"kernel_shape": [3, 3], "strides": [1, 1], "auto_pad": "NOTSET", "storage_order": 0}),
    ((3, 90, 200), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((1, 90, 1000), {"kernel_shape": [4, 2], "dilations": [4, 1], "pads": [3, 0, 3, 0]}),
    ((2, 5, 6, 7), {"kernel_shape": [2, 3, 2], "strides": [2, 1, 3], "pads": [1, 1, 0, 0, 1, 1]}),
)


@pytest.mark.parametrize(("shape", "attributes"), POOLS, ids=str)
def test_windows(kernels: frozenset[str], shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
    for op in ("MaxPool", "ReluMaxPool"):
        case = Case(op, attributes, shapes=(shape,))
        assert_same(shown(neuron_model(case, CODING)), feeds_for(case, CODING, 2, 4))


def test_wrong_inputs_are_errors_of_one_line(kernels: frozenset[str]) -> None:
    case = Case("Relu")
    feeds = feeds_for(case, CODING, 2, 0)
    feeds["z0"] = feeds["z0"][:-1]
    with pytest.raises(RefusedError, match="no multiple of T") as caught:
        open_session(neuron_model(case, CODING)).run(feeds)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def digits() -> csscc.SNN:
    return csscc.compile(digits_model(), np.load(digits_data())["x_calib"][:64], T=8, silent=1)


@pytest.mark.parametrize("threads", [1, 2])
def test_all_spikes_of_a_network(kernels: frozenset[str], digits: csscc.SNN, threads: int) -> None:
    """With every spike train an output as well, and as the file is, where kernels work in place."""
    feeds = {"image": np.load(digits_data())["x"][:16]}
    trains = with_outputs(copy_of(digits.model), [n.output[0] for n in spike_sources(digits.model)])
    for model in (trains, digits.model):
        assert_same(model, feeds, threads=threads)
        assert_same(define_operators(copy_of(model), write=scanned_function), feeds, threads=threads)


@pytest.mark.parametrize("bound", ["Max", "Min"])
def test_a_parameter_wider_than_the_current(kernels: frozenset[str], bound: str) -> None:
    """One channel comes in, a constant for each of three makes it three."""
    model = parse(
        f"""g (float[N,2,6,6] x) => (float[N,3] y) <float[1,2,3,3] w, float[3,1,1] c, float[108,3] v>
        {{ a = Conv <pads = [1,1,1,1]> (x, w) b = {bound}(a, c) f = Flatten(b) y = MatMul(f, v) }}"""
    )
    assert_same(csscc.compile(model, random_feeds(model, batch=8), T=5).model, random_feeds(model, batch=4))


def test_currents_that_are_read_twice_are_left_alone(kernels: frozenset[str]) -> None:
    """A kernel writes spikes over its currents only where nothing else reads them."""
    model = parse(
        """g (float[N,2,6,6] x) => (float[N,2,6,6] y)
        <float[2,2,3,3] w, float[2,2,3,3] v>
        { a = Conv <pads = [1,1,1,1]> (x, w) b = Relu(a) c = LeakyRelu(a) d = Add(b, c)
          y = Conv <pads = [1,1,1,1]> (d, v) }"""
    )
    snn = csscc.compile(model, random_feeds(model, batch=32), T=6)
    assert {"TSARelu", "TSALeakyRelu"} <= open_session(snn.model).native
    assert_same(snn.model, random_feeds(model, batch=4))


def test_operators_without_a_kernel_keep_their_function(kernels: frozenset[str]) -> None:
    model = parse(
        """g (float[N,4] x) => (float[N,3] y) <float[4,5] w, float[5,6] v, float[6,3] u>
        { a = MatMul(x, w) b = Relu(a) c = MatMul(b, v) d = Tanh(c) y = MatMul(d, u) }"""
    )
    snn = csscc.compile(model, random_feeds(model, batch=32), T=6)
    assert {"TSATanh", "TSARelu"} <= {n.op_type for n in spike_sources(snn.model)}
    assert open_session(snn.model).native == {"Encode", "TSARelu"}
    assert_same(snn.model, random_feeds(model, batch=4))


def test_an_ann_needs_no_kernels(kernels: frozenset[str]) -> None:
    for model in (digits_model(), str(digits_model()), onnx.load(digits_model())):
        assert open_session(model).native == frozenset()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own, with nothing in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "csscc"


def failing(folder: Path) -> str:
    """A compiler that fails."""
    path = folder / "compiler"
    path.write_text("#!/bin/sh\necho 'kernels.cpp:1: error: not today' >&2\nexit 1\n")
    path.chmod(0o755)
    return str(path)


def test_without_a_library_the_functions_run(elsewhere: Path, digits: csscc.SNN) -> None:
    assert not native.available()
    assert "csscc native build" in native.reason()
    assert native.operators() == frozenset()
    session = open_session(digits.model)
    assert session.native == frozenset()
    session.run(session.random_inputs(2))
    with pytest.raises(RefusedError, match="no native kernels: not compiled"):
        native.library()


def test_a_failing_compiler_is_a_reason_and_leaves_nothing(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", failing(tmp_path))
    with pytest.raises(RefusedError, match=r"cannot compile the kernels \(.*not today"):
        native.build()
    assert list(elsewhere.iterdir()) == []
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX")
    with pytest.raises(RefusedError, match=r"no C\+\+ compiler found"):
        native.build()
    result = CliRunner().invoke(cli, ["native", "build"])
    assert "no C++ compiler found" in str(result.exception)
    assert result.exception is not None
    assert getattr(result.exception, "exit_code", None) == 1


def test_a_folder_that_cannot_be_written_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("CXX", failing(tmp_path))
    with pytest.raises(RefusedError, match="cannot be written"):
        native.build()


def test_the_switch(kernels: frozenset[str], digits: csscc.SNN, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSSCC_NATIVE", "0")
    assert native.reason() == "switched off by CSSCC_NATIVE=0"
    assert open_session(digits.model).native == frozenset()


def test_an_onnxruntime_without_the_interface_is_reported(kernels: frozenset[str]) -> None:
    """The library's entry, called as an old onnxruntime would: it knows version 1 of the interface only."""
    reported: list[str] = []
    get_api_type = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)
    status_type = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)
    version_type = ctypes.CFUNCTYPE(ctypes.c_void_p)

    def create_status(code: int, message: bytes) -> int:
        reported.append(message.decode())
        return 42

    status = status_type(create_status)
    table = (ctypes.c_void_p * 276)(ctypes.cast(status, ctypes.c_void_p).value)
    get_api = get_api_type(lambda version: ctypes.addressof(table) if version == 1 else None)
    number = ctypes.create_string_buffer(b"1.2.3")
    version = version_type(lambda: ctypes.addressof(number))
    base = (ctypes.c_void_p * 2)(ctypes.cast(get_api, ctypes.c_void_p), ctypes.cast(version, ctypes.c_void_p))
    entry = ctypes.CDLL(native.library()).RegisterCustomOps
    entry.restype, entry.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_void_p]
    assert entry(None, ctypes.addressof(base)) == 42
    assert reported == ["csscc's kernels need onnxruntime 1.18 or newer, not 1.2.3"]


def test_commands_say_what_ran(kernels: frozenset[str], digits: csscc.SNN, tmp_path: Path) -> None:
    snn, data = tmp_path / "snn.onnx", tmp_path / "test.npz"
    digits.save(snn)
    test = np.load(digits_data())
    np.savez(data, x=test["x"][:32], y=test["y"][:32])
    runs: tuple[tuple[list[Any], Callable[[str], bool]], ...] = (
        (["run", snn, "--data", data], lambda text: "(onnxruntime, native kernels)" in text),
        (["run", snn, "--data", data, "--no-native"], lambda text: "(onnxruntime)" in text),
        (["run", snn, "--data", data, "--json"], lambda text: "TSARelu" in json.loads(text)["native"]),
        (["run", snn, "--data", data, "--json", "--runtime", "numpy"], lambda text: json.loads(text)["native"] == []),
        (["evaluate", digits_model(), snn, "--data", data], lambda text: "native kernels ran Encode, TSARelu" in text),
        (["evaluate", digits_model(), snn, "--data", data, "--no-native"], lambda text: "native" not in text),
        (["native", "status"], lambda text: "TSARelu" in text),
        (["native", "status", "--json"], lambda text: json.loads(text)["available"]),
        (["native", "build"], lambda text: text.strip() == native.library()),
        (["native", "build", "--json"], lambda text: json.loads(text)["library"] == native.library()),
    )
    for arguments, holds in runs:
        result = CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)
        assert result.exit_code == 0
        assert holds(result.stdout), (arguments, result.stdout)


def test_evaluation_is_the_same(kernels: frozenset[str], digits: csscc.SNN) -> None:
    """Counters and residuals read the kernels' outputs too."""
    test = np.load(digits_data())
    data = {"x": test["x"][:64], "y": test["y"][:64]}
    by_kernel = evaluate(digits_model(), digits.model, data).as_dict()
    by_function = evaluate(digits_model(), digits.model, data, native=False).as_dict()
    assert by_kernel.pop("native")
    assert not by_function.pop("native")
    for name in by_kernel:
        if "milliseconds" not in name:
            assert by_kernel[name] == by_function[name], name


def test_a_compilation_is_the_same(kernels: frozenset[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured on calibration data is what the functions would show."""
    data = np.load(digits_data())["x"][:64]
    by_kernel = csscc.compile(digits_model(), data, T=8)
    monkeypatch.setenv(native.SWITCH, "0")
    assert csscc.compile(digits_model(), data, T=8).file == by_kernel.file


FREE_SIZES = """g (float[N,3,H,W] x) => (float[N,4,P,Q] y)
<float[24,3,3,3] w1, float[24,24,3,3] w2, float[24,24,3,3] w3, float[24,24,1,1] w4, float[24,24,1,1] w5, float[4,24,1,1] v>
{ a = Conv <strides = [2,2], pads = [1,1,1,1]> (x, w1) r = Relu(a) b = Conv <strides = [2,2], pads = [1,1,1,1]> (r, w2)
  s = Relu(b) c = Conv <strides = [2,2], pads = [1,1,1,1]> (s, w3) t = Relu(c) d = Conv(t, w4) u = Relu(d)
  e = Conv(u, w5) q = Relu(e) y = Conv(q, v) }"""  # noqa: E501


def test_networks_of_free_sizes_run_as_without_kernels(kernels: frozenset[str]) -> None:
    """Not in blocks: see `csscc.runtime.session`."""
    x = np.random.default_rng(0).normal(size=(4, 3, 40, 24)).astype(np.float32)
    snn = csscc.compile(parse(FREE_SIZES), x, T=8, beta=2, silent=1, check_samples=0)
    names = {d.dim_param for v in snn.file.graph.value_info for d in v.type.tensor_type.shape.dim}
    assert not any(name.startswith("unk__") for name in names)  # which onnxruntime would give to others
    session = open_session(snn.file)
    assert session.native
    for size in ((40, 24), (24, 56)):
        x = np.random.default_rng(1).normal(size=(2, 3, *size)).astype(np.float32)
        np.testing.assert_array_equal(session.run({"x": x})["y"], Session(snn.file).run({"x": x})["y"])
