"""IntegerWeights, FineWeights and SplitInputs: quantisers read sums that are exact."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import csscc
from csscc.coding.coding import Coding
from csscc.dialect.rewrite import values_of
from csscc.dialect.spiking import neurons
from csscc.passes.convert.integer_weights import step_of, steps_of, theta_of
from tests.helpers import node_of, parse, run, spiking


@pytest.mark.parametrize("count", [3, 9, 600])
@pytest.mark.parametrize("scale", [0.0123, 3.7e-5, 12.5])
def test_the_step_of_quantised_weights_is_their_scale(count: int, scale: float) -> None:
    """Found back from float32 numbers to the last bit, as long as their largest common divisor is 1."""
    numbers = np.random.default_rng(count).integers(-127, 128, count)
    numbers[:2] = 7, 9
    weights = numbers.astype(np.float32) * np.float32(scale)
    assert step_of(weights.astype(np.float64)) == np.float32(scale)


def test_weights_that_were_never_quantised_have_no_step() -> None:
    assert step_of(np.random.default_rng(0).standard_normal(50)) is None


def test_the_smallest_weight_is_at_most_so_many_steps() -> None:
    scale = float(np.float32(0.0125))
    assert step_of(scale * np.array([256.0, -257.0, 511.0])) == np.float32(scale)
    assert step_of(scale * np.array([257.0, -258.0, 513.0])) is None


def test_a_layer_has_one_step_or_one_for_each_channel() -> None:
    numbers = np.array([[3.0, 5, -7, 0], [8, 9, 1, -2], [0, 0, 0, 0]])
    np.testing.assert_array_equal(steps_of(0.5 * numbers), 0.5)
    scales = np.array([[0.1], [0.0373], [1.0]])
    np.testing.assert_allclose(np.asarray(steps_of(scales * numbers)), [0.1, 0.0373, 1.0], rtol=1e-7)
    assert steps_of(np.random.default_rng(0).standard_normal((2, 40))) is None


def test_the_amplitude_of_what_weights_read_is_known_through_what_moves_it() -> None:
    text = """g (float[N,2,4,4] x) => (float[N,3] y) <float[2,2,1,1] w, float[32,3] v>
    { a = Conv(x, w) r = Relu(a) t = Transpose <perm = [0,2,3,1]> (r) f = Flatten(t) y = MatMul(f, v) }"""
    network = spiking(parse(text), per_channel=False)
    (_, view), = neurons(network.graph)
    assert theta_of(node_of(network, "MatMul").inputs[0]) == values_of(view.theta).item()
    assert theta_of(network.graph.inputs[0]) is None


def test_integer_weights_stay_whole_and_biases_too() -> None:
    rng = np.random.default_rng(1)
    numbers, bias = rng.integers(-127, 128, (5, 8)), rng.integers(-500, 500, 8)
    text = """g (float[N,5] x) => (float[N,3] y)
    <float xs = {0.021}, uint8 xz = {100}, float s = {0.033}, uint8 z = {0}, float[5,8] w, float[8] b, float[8,3] v>
    { q = QuantizeLinear(x, xs, xz) d = DequantizeLinear(q, xs, xz) a = Gemm(d, w, b)
      k = QuantizeLinear(a, s, z) e = DequantizeLinear(k, s, z) y = MatMul(e, v) }"""
    scale = np.float32(0.0107)
    model = parse(text, w=numbers * scale, b=bias * (scale * np.float32(0.021)))
    snn = csscc.compile(model)
    kept = [onnx.numpy_helper.to_array(t) for t in snn.model.graph.initializer]
    assert any(np.array_equal(v, numbers) for v in kept)
    assert any(np.array_equal(v.reshape(-1), bias) for v in kept)


def four_bits(seed: int = 0, width: int = 24) -> onnx.ModelProto:
    """Activations of 4 bits between weights that nothing quantises; three layers and a shortcut."""
    pair = "d{0} = Div(r{0}, s) k{0} = Round(d{0}) c{0} = Clip(k{0}, low, high) e{0} = Mul(c{0}, s) "
    text = f"""g (float[N,{width}] x) => (float[N,5] y) <float s = {{0.19}}, float low = {{0.0}}, float high = {{15.0}},
    float[{width},{width}] w1, float[{width},{width}] w2, float[{width},{width}] w3,
    float[{width}] b, float[{width},5] v>
    {{ a1 = Gemm(x, w1, b) r1 = Relu(a1) {pair.format(1)} a2 = Gemm(e1, w2, b) r2 = Relu(a2) {pair.format(2)}
       a3 = MatMul(e2, w3) m = Add(a3, e1) r3 = Relu(m) {pair.format(3)} y = MatMul(e3, v) }}"""
    return parse(text, seed=seed)


def test_four_steps_say_activations_of_four_bits_whatever_the_weights() -> None:
    model = four_bits()
    x = np.random.default_rng(5).standard_normal((500, 24)).astype(np.float32)
    snn = csscc.compile(model, calibration=x)
    assert snn.facts.coding == Coding(4, 2, 3)
    expected, got = run(model, {"x": x}, optimise=False)["y"], snn.run(x)
    different = np.abs(got - expected).max(axis=1) > 1e-3 * np.abs(expected).max()
    assert different.mean() <= 0.01  # float32 sums of the ANN next to an edge
    assert {"QuantiseSum2", "QuantiseSum3"} <= {layer.kind for layer in snn.layers}
    texts = [e.text for e in snn.report.events]
    assert any("two parts" in t for t in texts)
    assert any("sent as 5 trains" in t for t in texts)  # of 24 bits, in digits of up to 2 * 15: 31**5 > 2**24


def test_a_layer_that_reads_an_input_twice_or_in_groups_gets_no_second_train() -> None:
    text = """g (float[N,4,3,3] x) => (float[N,5] y) <float s = {0.19}, float low = {0.0}, float high = {15.0},
    float[4,2,3,3] w, float[4,5] v, int64[2] t = {-1, 4}>
    { a = Conv <group = 2> (x, w) d = Div(a, s) k = Round(d) c = Clip(k, low, high) e = Mul(c, s)
      f = Reshape(e, t) y = MatMul(f, v) }"""
    snn = csscc.compile(parse(text))
    assert not any("trains" in e.text for e in snn.report.events)
    assert snn.facts.coding == Coding(4, 2, 3)


def test_what_is_known_before_time_starts_is_in_steps_of_the_sum() -> None:
    """A second input without a layer behind it, added in front of a quantiser."""
    model = parse(
        """g (float[N,6] x, float[N,4] m) => (float[N,3] y)
        <float xs = {0.021}, uint8 xz = {100}, float hs = {0.0173}, uint8 z = {3}, float[6,4] w, float[4,3] v>
        { xq = QuantizeLinear(x, xs, xz) xd = DequantizeLinear(xq, xs, xz) a = MatMul(xd, w) b = Add(a, m)
          hq = QuantizeLinear(b, hs, z) hd = DequantizeLinear(hq, hs, z) y = MatMul(hd, v) }"""
    )
    rng = np.random.default_rng(4)
    numbers, x = rng.integers(-20, 21, (6, 4)), rng.standard_normal((64, 6)).astype(np.float32)
    known = rng.standard_normal((64, 4)).astype(np.float32)
    for tensor in model.graph.initializer:
        if tensor.name == "w":
            tensor.CopyFrom(onnx.numpy_helper.from_array(numbers.astype(np.float32) * np.float32(0.013), "w"))
    snn = csscc.compile(model)
    assert [layer.kind for layer in snn.layers] == ["encoder", "Quantise", "readout"]
    current = np.clip(np.rint(x / np.float32(0.021)), -100, 155) @ numbers * 0.021 * 0.013
    wanted = np.clip(np.rint((current + known) / 0.0173), -3, 252)
    train = snn.trace({"x": x, "m": known}).spikes[snn.layers[1].name]
    assert np.unique(wanted).size > 20
    np.testing.assert_array_equal(np.tensordot(snn.facts.coding.weights, train.reshape(8, 64, 4), 1), wanted)
