"""SpikesBetweenLayers: an identity neuron stands wherever a layer with weights would read a current."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import numpy as np
import pytest

from csscc.dialect.adapter import export_model
from csscc.dialect.spiking import neurons
from csscc.passes.convert.bias_on_first_step import BiasOnFirstStep
from csscc.passes.convert.rescale import Rescale
from csscc.passes.convert.snap_weights import SnapWeights
from csscc.passes.convert.spikes_between_layers import SpikesBetweenLayers
from csscc.pipeline import canonical
from csscc.runtime.reference import ReferenceRuntime
from tests.helpers import (
    assert_same_network,
    check,
    error,
    network_of,
    ops,
    parse,
    random_feeds,
    settles,
    source_of,
    spikes,
    spiking,
    texts,
)

WEIGHTS = (
    "<float[5,3,1,1] W, float[5] b, float[5,5,1,1] A, float[5,5,1,1] B, float[5,10,1,1] C, float[2,5,1,1] V, "
    "float[5,1,3,3] D, float[10,5,1,1] E, float[5,1,1] k, float[1,1,8,8] place, float[64,7] M, int64[2] axes = {2, 3}, "
    "int64[2] halves = {5, 5}, float[4] twice = {1, 1, 2, 2}, int64[3] rows = {0, 5, 64}>"
)
HEAD = "g (float[N,3,8,8] x) => (float[a,b,c,d] y)"
END = "z = Relu(g) y = Conv(z, V)"

# What stands in a core, and the activations that are then in it, in order.
CASES = {
    "a neuron is there": ("h = Conv(x, W, b) r = Relu(h) g = Conv(r, A)", ["Relu"]),
    "two in a row": ("h = Conv(x, W, b) g = Conv(h, A)", ["Linear"]),
    "three in a row": ("h = Conv(x, W, b) i = Conv <group = 5, pads = [1,1,1,1]> (h, D) g = Conv(i, A)", ["Linear"] * 2),
    "a sum of currents": ("h = Conv(x, W, b) r = Relu(h) i = Conv(r, A) j = Conv(r, B) s = Add(i, j) g = Conv(s, A)", ["Relu", "Linear"]),
    "a sum of spikes": ("h = Conv(x, W, b) r = Relu(h) i = Conv(r, B) q = Abs(i) s = Sub(r, q) g = Conv(s, A)", ["Relu", "Abs", "Linear"]),
    "a residual block adds to spikes": (
        "h = Conv(x, W, b) i = Conv(h, A) r = Relu(i) j = Conv(r, B) s = Add(h, j) l = Conv(s, A) q = Relu(l) m = Conv(q, B) t = Add(s, m) g = Conv(t, A)",
        ["Linear", "Relu", "Linear", "Relu", "Linear"],
    ),
    "a current that two neurons read": ("h = Conv(x, W, b) r = Relu(h) q = Abs(h) s = Add(r, q) g = Conv(s, A)", ["Linear", "Relu", "Abs", "Linear"]),
    "of which none is exact": ("h = Conv(x, W, b) r = Tanh(h) q = Sigmoid(h) s = Add(r, q) g = Conv(s, A)", ["Tanh", "Sigmoid", "Linear"]),
    "of which none has factors": ("h = Conv(x, W, b) r = Clip(h, , k0) q = ThresholdedRelu(h) s = Add(r, q) g = Conv(s, A)", ["Clip", "ThresholdedRelu", "Linear"]),
    "in front of a layout": ("h = Conv(x, W, b) t = Transpose <perm = [0,1,3,2]> (h) g = Conv(t, A)", ["Linear"]),
    "a concatenation": ("h = Conv(x, W, b) r = Relu(h) i = Conv(r, A) c = Concat <axis = 1> (r, i) g = Conv(c, C)", ["Relu", "Linear"]),
    "parts": ("h = Conv(x, W, b) r = Relu(h) e = Conv(r, E) i, j = Split <axis = 1> (e, halves) g = Conv(i, A) u = Conv(j, B) w = Relu(u)", ["Relu", "Linear", "Relu"]),
    "parts that neurons read": ("h = Conv(x, W, b) r = Relu(h) e = Conv(r, E) i, j = Split <axis = 1> (e, halves) p = Relu(i) q = Abs(j) s = Add(p, q) g = Conv(s, A)", ["Relu", "Linear", "Relu", "Abs", "Linear"]),
    "behind an average": ("h = Conv(x, W, b) m = AveragePool <kernel_shape = [2,2]> (h) g = Conv(m, A)", ["Linear"]),
    "an average of spikes": ("h = Conv(x, W, b) r = Relu(h) m = AveragePool <kernel_shape = [2,2]> (r) g = Conv(m, A)", ["Relu"]),
    "a factor of spikes": ("h = Conv(x, W, b) r = Relu(h) m = Mul(r, k) g = Conv(m, A)", ["Relu"]),
    "a factor that weights cannot absorb": ("h = Conv(x, W, b) r = Relu(h) m = Mul(r, place) g = Conv(m, A)", ["Relu", "Linear"]),
    "such a factor of a current": ("h = Conv(x, W, b) m = Mul(h, place) r = Relu(m) g = Conv(r, A)", ["Linear", "Relu"]),
    "a constant on spikes": ("h = Conv(x, W, b) r = Relu(h) m = Add(r, k) p = Pad(m, pads) g = Conv(p, A)", ["Relu", "Linear"]),
    "spikes enlarged": ('h = Conv(x, W, b) r = Relu(h) m = Resize <mode = "nearest"> (r, , twice) g = Conv(m, A)', ["Relu"]),
    "spikes interpolated": ('h = Conv(x, W, b) r = Relu(h) m = Resize <mode = "linear"> (r, , twice) g = Conv(m, A)', ["Relu"]),
    "a current interpolated": ('h = Conv(x, W, b) m = Resize <mode = "linear"> (h, , twice) r = Relu(m) g = Conv(r, A)', ["Relu"]),
}  # fmt: skip


def _model(case):
    weights = f"{WEIGHTS[:-1]}, float k0 = {{0.7}}, int64[8] pads = {{0,0,1,1,0,0,1,1}}>"
    text = CASES[case][0]
    end = END if "w =" not in text else "z = Relu(g) v = Add(z, w) n = Abs(v) y = Conv(n, V)"
    return parse(f"{HEAD} {weights} {{ {text} {end} }}")


@pytest.mark.parametrize("case", CASES)
def test_where_a_neuron_stands(case):
    model = _model(case)
    network = canonical(model)
    end = ["Relu"] if "w =" not in CASES[case][0] else ["Relu", "Abs"]
    wanted = sorted(CASES[case][1] + end)
    linear = {"Conv", "Add", "Sub", "Mul", "Concat", "Split", "Transpose", "AveragePool", "Pad", "Resize"}
    assert sorted(op for op in ops(network) if op not in linear) == wanted
    assert_same_network(model, network)
    assert SpikesBetweenLayers().apply(network) == 0


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_every_sum_is_exact(case, per_channel):
    model = _model(case)
    source = source_of(model, samples=16, seed=1)
    network = spiking(model, None, Rescale(), BiasOnFirstStep(), SnapWeights(), source=source, per_channel=per_channel)
    check(network)
    assert texts(network, "snap-weights") == ""
    assert error(model, network)["y"] < 0.1
    feeds = random_feeds(model, batch=8)
    sent = spikes(network, feeds)
    trace = ReferenceRuntime(export_model(network)).trace(feeds)
    if case != "of which none is exact":
        assert all(np.array_equal(t, trace.spikes[n].reshape(t.shape)) for n, t in sent.items())


def test_neurons_send_both_signs():
    network = spiking(_model("two in a row"), None, Rescale(), BiasOnFirstStep(), SnapWeights())
    feeds = random_feeds(_model("two in a row"), batch=8)
    name = next(view.name for _, view in neurons(network.graph) if view.kind == "Linear")
    train = ReferenceRuntime(export_model(network)).trace(feeds).spikes[name]
    assert {-1.0, 1.0} <= set(np.unique(train))


def test_an_output_in_between_keeps_its_name():
    model = parse(
        "g (float[N,4] x) => (float[N,4] h, float[N,2] y) <float[4,4] W, float[4,2] V> { h = MatMul(x, W) y = MatMul(h, V) }"
    )
    network = canonical(model)
    assert ops(network) == ["MatMul", "Linear", "MatMul"]
    assert_same_network(model, network)
    assert error(model, spiking(model, None, Rescale(), SnapWeights()))["h"] < 0.02


def test_nothing_becomes_of_a_model_that_is_refused():
    text = "g (float[N,4] x) => (float[N,2] y) <float[4,4] W, float[4,2] V> { h = MatMul(x, W) i = MatMul(h, W) j = CumSum(i, a) y = MatMul(j, V) }"
    network = network_of(parse(text.replace("<float", "<int64 a = {0}, float", 1)))
    assert SpikesBetweenLayers().apply(network) == 0
    assert settles(SpikesBetweenLayers(), network) == 0
