"""Equalise: neighbouring layers get like ranges, and the network computes what it did."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import itertools

import numpy as np
import pytest

import csscc
from csscc.dialect.adapter import export_model
from csscc.passes.convert.equalise import Equalise
from csscc.passes.linear import LINEAR
from tests.helpers import assert_same_network, initializer, network_of, parse, random_feeds, rms, run, settles

CONVS = "g (float[N,3,6,6] x) => (float[N,4,2,2] y) <float[5,3,3,3] W1, float[5] b1, float[4,5,3,3] W2> { h = Conv(x, W1, b1) r = Relu(h) y = Conv(r, W2) }"
PAIRS = {
    "convolutions": CONVS,
    "leaky": CONVS.replace("Relu(h)", "LeakyRelu <alpha = 0.2> (h)"),
    "pool": "g (float[N,3,8,8] x) => (float[N,4,1,1] y) <float[5,3,3,3] W1, float[4,5,3,3] W2> { h = Conv(x, W1) r = MaxPool <kernel_shape = [2,2], strides = [2,2]> (h) y = Conv(r, W2) }",
    "depthwise": "g (float[N,3,6,6] x) => (float[N,6,4,4] y) <float[6,3,1,1] W1, float[6,1,3,3] W2> { h = Conv(x, W1) r = Relu(h) y = Conv <group = 6> (r, W2) }",
    "grouped": "g (float[N,4,6,6] x) => (float[N,4,4,4] y) <float[6,2,1,1] W1, float[4,3,3,3] W2> { h = Conv <group = 2> (x, W1) r = Relu(h) y = Conv <group = 2> (r, W2) }",
    "transposed": "g (float[N,3,6,6] x) => (float[N,4,8,8] y) <float[5,3,1,1] W1, float[5,2,3,3] W2, float[2,4,1,1] W3> { h = Conv(x, W1) r = Relu(h) t = ConvTranspose(r, W2) s = Relu(t) y = ConvTranspose(s, W3) }",
    "dense": "g (float[N,4] x) => (float[N,3] y) <float[6,4] W1, float[6] b1, float[6,3] W2> { h = Gemm <transB = 1, alpha = 0.5> (x, W1, b1) r = Relu(h) y = MatMul(r, W2) }",
    "rows": "g (float[N,2,4] x) => (float[N,2,3] y) <float[4,6] W1, float[6,3] W2> { h = MatMul(x, W1) r = Relu(h) y = MatMul(r, W2) }",
}


def _uneven(text: str):
    """The text's network with channels of very different size."""
    model = parse(text)
    network = network_of(model)
    node = next(n for n in network.graph.nodes if n.op in ("Conv", "Gemm", "MatMul"))
    rule = LINEAR[node.op]
    rule.scale_outputs(network.graph, node, 10.0 ** np.linspace(-2, 2, len(rule.outputs_first(node))))
    return export_model(network)


@pytest.mark.parametrize("text", PAIRS.values(), ids=PAIRS)
def test_fires(text):
    model = _uneven(text)
    network = network_of(model)
    assert settles(Equalise(rounds=100), network)
    assert_same_network(model, network)
    weighted = [n for n in network.graph.nodes if n.op in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    for before, behind in itertools.pairwise(weighted):
        made = np.abs(LINEAR[before.op].outputs_first(before)).max(axis=1)
        read = np.abs(LINEAR[behind.op].inputs_first(behind)).max(axis=1)
        np.testing.assert_allclose(made, read, rtol=0.01)


@pytest.mark.parametrize(
    "text",
    [
        CONVS.replace("Relu(h)", "Sigmoid(h)"),
        CONVS.replace("float[N,4,2,2] y", "float[N,4,2,2] y, float[N,5,4,4] r"),
        CONVS.replace("float[N,4,2,2] y", "float[N,4,2,2] y, float[N,5,4,4] h"),
        CONVS.replace("r = Relu(h)", "r = Relu(h) n = Neg(r)").replace("y = ", "z = ").replace(" }", " m = ReduceSum(n) y = Add(z, m) }"),
        CONVS.replace("Conv(r, W2)", "Conv(h, W2)"),
    ],
    ids=["not homogeneous", "the result is an output", "the middle is an output", "another reader", "no activation"],
)  # fmt: skip
def test_declines(text):
    model = parse(text)
    network = network_of(model)
    assert Equalise().apply(network) == 0
    assert_same_network(model, network)


def test_dead_channels_stay():
    weights = np.ones((5, 3, 3, 3), np.float32)
    weights[2] = 0
    model = parse(CONVS, W1=weights)
    network = network_of(model)
    Equalise().apply(network)
    after = export_model(network)
    assert_same_network(model, after)
    assert np.isfinite(initializer(after, "W1")).all()
    np.testing.assert_array_equal(initializer(after, "W2")[:, 2], initializer(model, "W2")[:, 2])


def test_one_amplitude_a_layer_loses_less():
    network = network_of(parse(CONVS))
    first, second = (n for n in network.graph.nodes if n.op == "Conv")
    scale = 10.0 ** np.linspace(-1, 1, 5)
    LINEAR["Conv"].scale_outputs(network.graph, first, scale)
    LINEAR["Conv"].scale_inputs(network.graph, second, 1 / scale)
    model = export_model(network)
    feeds = random_feeds(model, batch=64)
    wanted = run(model, feeds)["y"]
    errors = {}
    for equalise in (False, True):
        snn = csscc.compile(model, feeds["x"], T=8, per_channel=False, equalise=equalise)
        errors[equalise] = rms(snn.run(feeds["x"]) - wanted) / rms(wanted)
    assert errors[True] < 0.5 * errors[False]
