"""Quantised networks, compiled without data: spikes say the whole numbers that integer arithmetic makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import csscc
from csscc.api import calibrate
from csscc.coding.coding import Coding
from csscc.errors import RefusedModelError
from csscc.measure.inspection import inspect_ann
from csscc.measure.verify import verify
from csscc.pipeline import canonical
from tests.helpers import ops, parse

Whole = NDArray[np.int64]
BATCH = 64


@dataclass(frozen=True)
class Layer:
    """A quantised tensor or its weights: ``scale * (q - zero)``, q from `low` to `high`."""

    scale: float
    zero: int
    low: int
    high: int

    def of(self, values: NDArray[np.float64]) -> Whole:
        """Numbers behind the zero point, of values in the ANN's units."""
        steps = np.rint(values / np.float32(self.scale))
        return np.clip(steps, self.low - self.zero, self.high - self.zero).astype(int)


KINDS = {"uint8": (0, 255), "int8": (-128, 127), "uint4": (0, 15), "int4": (-8, 7)}
X, H, S = (0.0213, 11), (0.03719, 0), (0.05077, 3)


def layer(pair: tuple[float, int], kind: str) -> Layer:
    low, high = KINDS[kind]
    return Layer(pair[0] * 255 / (high - low), max(low, min(high, pair[1] + low)), low, high)


def network(kind: str, *, opset: int = 21, relu: bool = True, weights: str = "int8", seed: int = 0) -> onnx.ModelProto:
    """Two layers with a shortcut around the second, quantised as onnxruntime's static quantiser does it."""
    x, h, s = (layer(p, kind) for p in (X, H, S))
    rng = np.random.default_rng(seed)
    low, high = KINDS[weights]
    act = "Relu" if relu else "Identity"
    text = f"""g (float[N,6] x) => (float[N,4] y)
<float xs = {{{x.scale}}}, {kind} xz = {{{x.zero}}}, float hs = {{{h.scale}}}, {kind} hz = {{{h.zero}}},
 float ss = {{{s.scale}}}, {kind} sz = {{{s.zero}}}, float[6] ws, {weights}[6,6] w1,
 {weights}[6,6] w2,
 float[6] bs1, int32[6] b1, float[6] bs2, int32[6] b2, float[6,4] w3>
{{ xq = QuantizeLinear(x, xs, xz)  xd = DequantizeLinear(xq, xs, xz)
   v1 = DequantizeLinear <axis = 1> (w1, ws)  c1 = DequantizeLinear <axis = 0> (b1, bs1)
   a = Gemm(xd, v1, c1)  r = {act}(a)  hq = QuantizeLinear(r, hs, hz)  hd = DequantizeLinear(hq, hs, hz)
   v2 = DequantizeLinear <axis = 1> (w2, ws)  c2 = DequantizeLinear <axis = 0> (b2, bs2)
   b = Gemm(hd, v2, c2)  bq = QuantizeLinear(b, ss, sz)  bd = DequantizeLinear(bq, ss, sz)
   m = Add(bd, hd)  mq = QuantizeLinear(m, ss, sz)  md = DequantizeLinear(mq, ss, sz)
   y = MatMul(md, w3) }}"""
    scales = (rng.uniform(0.5, 1.5, 6) * 4 / (high - low)).astype(np.float32)  # sums of order 3, as the ranges
    values = {
        "ws": scales,
        "w1": rng.integers(low, high + 1, (6, 6)),
        "w2": rng.integers(low, high + 1, (6, 6)),
        "bs1": scales * np.float32(x.scale),
        "bs2": scales * np.float32(h.scale),
        "b1": rng.integers(-200, 200, 6),
        "b2": rng.integers(-200, 200, 6),
        "w3": rng.standard_normal((6, 4)),
    }
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]>\n{text}')
    del model.graph.value_info[:]
    for name, value in values.items():
        kinds = {"w1": weights, "w2": weights, "b1": "int32", "b2": "int32"}
        element = getattr(onnx.TensorProto, kinds.get(name, "float").upper())
        flat = [v.item() for v in np.asarray(value).reshape(-1)]
        model.graph.initializer.append(onnx.helper.make_tensor(name, element, np.shape(value), flat))
    onnx.checker.check_model(model, full_check=True)
    return model


def whole_numbers(model: onnx.ModelProto, kind: str, x: NDArray[Any], *, relu: bool = True) -> dict[str, Whole]:
    """What every quantiser makes, by integer sums and float64 products: no line of csscc in it."""
    w = {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    lx, lh, ls = (layer(p, kind) for p in (X, H, S))
    q = lx.of(x.astype(np.float32))
    first = (q @ w["w1"] + w["b1"]) * w["bs1"]
    h = lh.of(np.maximum(first, 0) if relu else first)
    b = ls.of((h @ w["w2"] + w["b2"]) * w["bs2"])
    return {"x": q, "h": h, "b": b, "m": ls.of(b * ls.scale + h * lh.scale)}


def inputs(seed: int = 3) -> NDArray[np.float32]:
    return (2 * np.random.default_rng(seed).standard_normal((BATCH, 6))).astype(np.float32)


def sent(snn: csscc.SNN, x: NDArray[Any]) -> list[Whole]:
    """Decoded trains of encoder and neurons in units of theta, in order, by the NumPy reference."""
    trace, T = snn.trace(x), snn.facts.coding.T
    weights = snn.facts.coding.weights
    trains = [trace.spikes[v.name] for v in snn.layers if v.kind != "readout"]
    return [np.tensordot(weights, t.reshape(T, len(x), -1).astype(np.float64), 1).astype(int) for t in trains]


@pytest.mark.parametrize("relu", [True, False], ids=["relu", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_spikes_say_the_whole_numbers_of_integer_arithmetic(kind: str, relu: bool) -> None:
    model, x = network(kind, relu=relu), inputs()
    snn = csscc.compile(model)
    expected = whole_numbers(model, kind, x, relu=relu)
    bits = int(np.ceil(np.log2(1 + max(np.abs([*KINDS[kind], 255 if kind == "uint8" else 0])))))
    assert snn.facts.coding == Coding(T=snn.facts.coding.T, beta=2, silent=snn.facts.coding.T - 1)
    assert max(8 if "8" in kind else 4, bits) >= snn.facts.coding.T
    assert not snn.report.warnings
    assert "quantisers" in snn.facts.calibration
    got = sent(snn, x)
    assert len(got) == 4
    for name, train in zip(expected, got, strict=True):
        assert np.unique(expected[name]).size > 3, name
        np.testing.assert_array_equal(train, expected[name], err_msg=name)


@pytest.mark.parametrize("weights", ["uint8", "int4"])
def test_weights_of_other_types(weights: str) -> None:
    model, x = network("uint8", weights=weights), inputs()
    for train, wanted in zip(sent(csscc.compile(model), x), whole_numbers(model, "uint8", x).values(), strict=True):
        np.testing.assert_array_equal(train, wanted)


IN_BURSTS = ({"T": 5, "beta": 4}, {"T": 4, "beta": 5}, {"T": 6, "beta": 4})  # 2 * 341 and 2 * 156 are 255 or more


@pytest.mark.parametrize("options", [{"T": 8}, {"T": 10}, {"T": 6, "beta": 3}, {"silent": 8}, *IN_BURSTS], ids=str)
def test_as_many_steps_as_needed_or_more_say_the_same(options: dict[str, Any]) -> None:
    model, x = network("uint8"), inputs()
    snn = csscc.compile(model, **options)
    assert options.get("T", 8) == snn.facts.coding.T
    assert any(" exactly:" in e.text for e in snn.report.events)
    for train, wanted in zip(sent(snn, x), whole_numbers(model, "uint8", x).values(), strict=True):
        np.testing.assert_array_equal(train, wanted)


def test_fewer_steps_than_bits_say_part_of_them() -> None:
    model, x = network("uint8"), inputs()
    expected = whole_numbers(model, "uint8", x)["m"] * layer(S, "uint8").scale
    errors = []
    for T in (4, 6, 8):
        snn = csscc.compile(model, T=T)
        theta = [v.amplitude for v in snn.layers if v.kind != "readout"]
        errors.append(np.abs(sent(snn, x)[-1] * theta[-1] - expected).max())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-5
    assert any("not exactly" in e.text for e in csscc.compile(model, T=4).report.events)


def test_what_is_stated_is_kept() -> None:
    snn = csscc.compile(network("uint8"), T=12, beta=1.5, silent=2)
    assert snn.facts.coding == Coding(12, 1.5, 2)


def test_spikes_are_the_same_in_onnxruntime_and_numpy() -> None:
    for kind in KINDS:
        snn = csscc.compile(network(kind))
        result = verify(snn.file, {"x": inputs()})
        assert result.different == 0


def test_inspect_names_quantisation() -> None:
    result = inspect_ann(network("uint8"), Coding(), stated=())
    assert "8-bit" in result.quantised
    assert result.operations == 6 * 6 + 6 * 6 + 6 * 4
    assert result.coding == Coding(8, 2, 7)
    assert not result.offenders
    assert inspect_ann(network("uint8"), Coding()).coding == Coding()
    plain = parse("g (float[N,4] x) => (float[N,2] y) <float[4,2] w> { y = MatMul(x, w) }")
    assert inspect_ann(plain, Coding(), stated=()).quantised == ""


def test_an_input_of_more_bits_gets_more_trains() -> None:
    """Four steps say the activations; the input, of 8 bits, is sent as two trains of four steps."""
    model, x = network("uint4"), inputs()
    scale = np.float32(0.015)
    for tensor in model.graph.initializer:
        if tensor.name in ("xs", "xz"):
            value = np.asarray(scale if tensor.name == "xs" else np.uint8(100))
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
        if tensor.name == "bs1":
            ws = next(onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "ws")
            tensor.CopyFrom(onnx.numpy_helper.from_array(ws * scale, "bs1"))
    w = {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    q = np.clip(np.rint(x / scale), -100, 155)
    h = layer(H, "uint4").of(np.maximum((q @ w["w1"] + w["b1"]) * w["bs1"], 0))
    snn = csscc.compile(model)
    assert snn.facts.coding == Coding(4, 2, 3)
    high_and_low, hidden, *_ = sent(snn, x)
    assert np.unique(hidden).size > 3
    np.testing.assert_array_equal(16 * high_and_low[:, :6] + high_and_low[:, 6:], q)
    np.testing.assert_array_equal(hidden, h)


def test_no_quantiser_is_left_in_the_core() -> None:
    operators = ops(canonical(network("int8")))
    assert operators.count("Quantise") == 2
    assert operators.count("QuantiseSum2") == 1
    assert operators.count("QuantizeLinear") == 1  # of the input, in front of the encoder


def test_what_chooses_itself_leaves_a_quantised_network_as_it_is() -> None:
    """No identity neurons, no other silent steps, no other amplitudes or biases."""
    model, x = network("uint8"), inputs()
    expected = whole_numbers(model, "uint8", x)
    for snn in (csscc.compile(model, calibration=x, silent="auto"), csscc.compile(calibrate(model, x))):
        assert [v.kind for v in snn.layers] == ["encoder", "Quantise", "Quantise", "QuantiseSum2", "readout"]
        assert snn.silent == (7, 7, 7)
        assert snn.facts.coding == Coding(8, 2, 7)
        for train, wanted in zip(sent(snn, x), expected.values(), strict=True):
            np.testing.assert_array_equal(train, wanted)


def test_too_few_steps_are_all_waited_for() -> None:
    assert csscc.compile(network("uint8"), T=5).silent == (4, 4, 4)


def test_an_average_over_no_power_of_two_is_rounded_once() -> None:
    model = parse(
        """g (float[N,2,3,3] x) => (float[N,2] y)
        <float xs = {0.021}, uint8 xz = {100}, float hs = {0.0173}, float ps = {0.0101}, uint8 z = {0},
         float[4,2,1,1] k, float[4,2] v>
        { xq = QuantizeLinear(x, xs, xz) xd = DequantizeLinear(xq, xs, xz)
          a = Conv(xd, k) r = Relu(a) hq = QuantizeLinear(r, hs, z) hd = DequantizeLinear(hq, hs, z)
          p = GlobalAveragePool(hd) pq = QuantizeLinear(p, ps, z) pd = DequantizeLinear(pq, ps, z)
          f = Flatten(pd) y = MatMul(f, v) }"""
    )
    rng = np.random.default_rng(1)
    weights, x = rng.integers(-20, 21, (4, 2, 1, 1)), (2 * rng.standard_normal((BATCH, 2, 3, 3))).astype(np.float32)
    for tensor in model.graph.initializer:
        if tensor.name == "k":
            tensor.CopyFrom(onnx.numpy_helper.from_array((weights * np.float32(0.013)).astype(np.float32), "k"))
    snn = csscc.compile(model)
    assert [v.kind for v in snn.layers] == ["encoder", "Quantise", "Quantise", "readout"]
    q = np.clip(np.rint(x / np.float32(0.021)), -100, 155)
    h = np.clip(np.rint(np.einsum("oc,bcij->boij", weights[..., 0, 0], q) * 0.021 * 0.013 / 0.0173), 0, 255)
    p = np.clip(np.rint(h.sum((2, 3)) / 9 * 0.0173 / 0.0101), 0, 255)
    for train, wanted in zip(sent(snn, x), (q, h, p), strict=True):
        assert np.unique(wanted).size > 20
        np.testing.assert_array_equal(train, wanted.reshape(BATCH, -1))


def test_a_quantiser_whose_scale_is_computed_is_refused_by_name() -> None:
    model = parse(
        """g (float[N,4] x) => (float[N,2] y) <float[4,4] w, float[4,2] v, uint8 z = {0}>
        { a = MatMul(x, w) m = ReduceMax <keepdims = 0> (a) q = QuantizeLinear(a, m, z)
          d = DequantizeLinear(q, m, z) y = MatMul(d, v) }"""
    )
    with pytest.raises(RefusedModelError, match="computed while the network runs"):
        csscc.compile(model)
