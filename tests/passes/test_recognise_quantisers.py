"""RecogniseQuantisers and FuseQuantisers: pairs, and what is spelled in floats, become one node each."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from csscc.dialect.adapter import export_model
from csscc.dialect.grids import grid_of
from csscc.passes.canonical.fuse_quantisers import FuseQuantisers
from csscc.passes.canonical.recognise_quantisers import RecogniseQuantisers
from csscc.pipeline import canonical
from tests.helpers import assert_equal_outputs, assert_same_network, network_of, ops, parse, random_feeds, run, settles

FRONT = """g (float[N,4] x) => (float[N,3] y)
<float[4,4] w, float[4,3] v, float s = {0.13}, uint8 z = {0}, int8 zi = {-5}, float[4] ss = {0.1, 0.2, 0.3, 0.4},
 float zero = {0.0}, float one = {1.0}, float top = {15.0}, float six = {6.0}, float half = {0.7}, uint8 high = {15},
 float steps = {7.6923075}>
{ a = MatMul(x, w) """
BACK = " y = MatMul(d, v) }"
PAIRS = {
    "uint8": ("q = QuantizeLinear(a, s, z) d = DequantizeLinear(q, s, z)", (0, 255)),
    "int8": ("q = QuantizeLinear(a, s, zi) d = DequantizeLinear(q, s, zi)", (-123, 132)),
    "no zero point": ("q = QuantizeLinear(a, s) d = DequantizeLinear(q, s)", (0, 255)),
    "narrow": ("p = QuantizeLinear(a, s, z) q = Clip(p, z, high) d = DequantizeLinear(q, s, z)", (0, 15)),
    "relu": ("r = Relu(a) q = QuantizeLinear(r, s, zi) d = DequantizeLinear(q, s, zi)", (0, 132)),
    "clip": ("r = Clip(a, zero, six) q = QuantizeLinear(r, s, zi) d = DequantizeLinear(q, s, zi)", (0, 46)),
    "floats": ("e = Div(a, s) r = Round(e) c = Clip(r, zero, top) d = Mul(c, s)", (0, 15)),
    "clipped before": ("r = Clip(a, zero, one) e = Mul(r, top) k = Round(e) d = Div(k, top)", (0, 15)),
    "times": ("e = Mul(a, steps) c = Clip(e, zero, top) k = Round(c) d = Div(k, steps)", (0, 15)),
    "zero in floats": (
        "e = Div(a, s) f = Add(e, six) k = Round(f) c = Clip(k, zero, top) g = Sub(c, six) d = Mul(g, s)", (-6, 9),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_fires(name: str) -> None:
    text, bounds = PAIRS[name]
    model = parse(FRONT + text + BACK)
    network = network_of(model)
    assert settles(RecogniseQuantisers(), network)
    FuseQuantisers().apply(network)
    assert ops(network) == ["MatMul", "Quantise", "MatMul"]
    grid = grid_of(network.graph.nodes[1].outputs[0])
    assert grid is not None
    assert (grid.low, grid.high) == bounds
    if name != "narrow":  # whose Clip onnxruntime's optimiser drops
        assert_same_network(model, network)
    feeds = random_feeds(model)
    assert_equal_outputs(run(model, feeds, optimise=False), run(export_model(network), feeds))


def test_a_scale_for_each_channel() -> None:
    pair = "q = QuantizeLinear <axis = 1> (a, ss, z4) d = DequantizeLinear <axis = 1> (q, ss, z4)"
    model = parse(FRONT.replace("uint8 z =", "uint8[4] z4 = {7, 7, 7, 7}, uint8 z =") + pair + BACK)
    network = network_of(model)
    assert settles(RecogniseQuantisers(), network)
    assert_same_network(model, network)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("m = ReduceMax<keepdims=0>(a) q = QuantizeLinear(a, m, z) d = DequantizeLinear(q, m, z)", "computed"),
        ("q = QuantizeLinear(a, s, z) d = DequantizeLinear(q, half, z)", "another scale"),
        ("p = Cast <to = 2> (a) d = DequantizeLinear(p, s, z)", "no QuantizeLinear"),
    ],
    ids=["computed scale", "unlike scales", "no quantiser"],
)
def test_declines_and_gives_the_reason(text: str, reason: str) -> None:
    network = network_of(parse(FRONT + text + BACK))
    assert RecogniseQuantisers().apply(network) == 0
    assert any(reason in e.text for e in network.events)


@pytest.mark.parametrize(
    "text", ["e = Div(a, s) d = Round(e)", "e = Div(a, s) k = Round(e) d = Mul(k, s)"], ids=["a rounding", "no bounds"]
)
def test_rounding_without_bounds_is_no_quantiser(text: str) -> None:
    network = network_of(parse(FRONT + text + BACK))
    assert RecogniseQuantisers().apply(network) == 0


@pytest.mark.parametrize(
    "text",
    [
        "e = Div(a, s) k = Round(e) c = Clip(k, zero, top) d = Mul(c, half)",
        "e = Div(a, s) h = Add(e, half) k = Round(h) c = Clip(k, zero, top) d = Mul(c, s)",
    ],
    ids=["another scale", "zero is no whole number"],
)
def test_what_does_not_belong_to_a_quantiser_stays_beside_it(text: str) -> None:
    model = parse(FRONT + text + BACK)
    network = network_of(model)
    assert RecogniseQuantisers().apply(network) == 1
    assert "Div" in ops(network)
    assert "Mul" in ops(network)
    assert_same_network(model, network)


def test_pairs_outside_the_core_stay() -> None:
    model = parse(
        """g (float[N,4] x) => (float[N,3] y) <float[4,3] w, float s = {0.1}, uint8 z = {9}>
        { q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) a = MatMul(d, w)
          r = QuantizeLinear(a, s, z) y = DequantizeLinear(r, s, z) }"""
    )
    network = network_of(model)
    assert RecogniseQuantisers().apply(network) == 0


IMAGE = """g (float[N,2,4,4] x) => (float[N,3] y) 
<float[2,2,1,1] w, float[3,8] v, float s = {0.1}, uint8 z = {0}, int64[2] t = {-1, 8}>
{ a = Conv(x, w) q = QuantizeLinear(a, s, z) """


@pytest.mark.parametrize(
    "text",
    [
        "m = MaxPool <kernel_shape = [2,2], strides = [2,2]> (q) r = Reshape(m, t) d = DequantizeLinear(r, s, z)",
        "p = DequantizeLinear(q, s, z) m = MaxPool <kernel_shape = [2,2], strides = [2,2]> (p) "
        "k = QuantizeLinear(m, s, z) e = DequantizeLinear(k, s, z) d = Reshape(e, t)",
    ],
    ids=["moved as whole numbers", "quantised again"],
)
def test_whole_numbers_that_are_moved_stay_on_their_grid(text: str) -> None:
    model = parse(IMAGE + text + " y = Gemm <transB = 1> (d, v) }")
    network = canonical(model)
    assert ops(network) == ["Conv", "Quantise", "MaxPool", "Reshape", "Gemm"]
    assert grid_of(network.graph.nodes[3].outputs[0]) is not None
    assert_same_network(model, network)


def test_a_sum_is_taken_into_the_neuron_and_an_activation_keeps_its_own() -> None:
    text = """p = QuantizeLinear(a, s, z) b = DequantizeLinear(p, s, z) c = MatMul(b, w) m = Add(c, b) r = Relu(m)
    q = QuantizeLinear(r, s, z) d0 = DequantizeLinear(q, s, z) g = MatMul(d0, w) h = Sigmoid(g)
    k = QuantizeLinear(h, s, z) d = DequantizeLinear(k, s, z)"""
    network = canonical(parse(FRONT + text + BACK))
    assert ops(network) == ["MatMul", "Quantise", "MatMul", "QuantiseSum2", "MatMul", "Sigmoid", "MatMul"]
    (grid,) = network.grids.values()
    assert grid.scale == np.float32(0.13)
    assert isinstance(grid.span, float)


def test_a_relu_that_others_read_stays() -> None:
    text = "r = Relu(a) q = QuantizeLinear(r, s, zi) e = DequantizeLinear(q, s, zi) d = Add(e, r)"
    network = canonical(parse(FRONT + text + BACK))
    assert "Relu" in ops(network)
    onnx.checker.check_model(export_model(network))
