"""FreeBatch: a network exported for one batch size takes any, where its results allow it."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import numpy as np
import pytest

from csscc.dialect.adapter import export_model
from csscc.passes.canonical.free_batch import FreeBatch
from tests.helpers import (
    assert_equal_outputs,
    assert_same_network,
    network_of,
    parse,
    random_feeds,
    run,
    settles,
    texts,
)

FIXED = """
g (float[{n},1,4,4] x) => (float[{n},3] y) <float[16,3] W>
{{ flat = Reshape(x, target) y = MatMul(flat, W) }}
"""


def fixed(n: int, target: str):
    head = FIXED.format(n=n).replace("<float[16,3] W>", f"<float[16,3] W, int64[2] target = {{{target}}}>")
    return parse(head)


@pytest.mark.parametrize(("n", "target"), [(1, "1, 16"), (2, "2, 16"), (2, "2, -1"), (1, "-1, 16"), (1, "0, -1")])
def test_frees_the_batch(n, target):
    model = fixed(n, target)
    network = network_of(model)
    assert settles(FreeBatch(), network)
    assert network.batch == "batch"
    assert network.graph.inputs[0].shape == ["batch", 1, 4, 4]
    assert_same_network(model, network)
    feeds = random_feeds(model)
    many = np.concatenate([feeds["x"]] * 5)
    expected = {"y": np.concatenate([run(model, feeds)["y"]] * 5)}
    assert_equal_outputs(expected, run(export_model(network), {"x": many}))


def test_flatten_of_a_batch_of_one():
    model = parse("g (float[1,2,4] x) => (float[1,8] y) { y = Flatten <axis = 0> (x) }")
    network = network_of(model)
    assert settles(FreeBatch(), network)
    x = np.arange(24, dtype=np.float32).reshape(3, 2, 4)
    assert np.array_equal(run(export_model(network), {"x": x})["y"], x.reshape(3, 8))


def test_two_inputs_and_two_outputs():
    model = parse("""
    g (float[1,4] a, float[1,4] b) => (float[1,4] s, float[1,1] m)
    <int64[1] one = {1}> { s = Add(a, b) m = ReduceMean <keepdims = 1> (s, one) }
    """)
    network = network_of(model)
    assert FreeBatch().apply(network) == 1
    assert network.batch == "batch"
    assert_same_network(model, network)


def test_a_free_batch_keeps_its_name():
    model = parse("g (float[samples,4] x) => (float[samples,4] y) { y = Relu(x) }")
    network = network_of(model)
    assert FreeBatch().apply(network) == 0
    assert network.batch == "samples"


@pytest.mark.parametrize(
    "text",
    [
        "g (float[1,4] x) => (float[4] y) <int64[1] zero = {0}> { y = ReduceSum <keepdims = 0> (x, zero) }",
        "g (float[2,4] x) => (float[2,4] y) { y = Softmax <axis = 0> (x) }",
        "g (float[2,4] x) => (float[4,2] y) { y = Transpose <perm = [1, 0]> (x) }",
        "g (float[2,4] x) => (float y) { y = ReduceMean <keepdims = 0> (x) }",
        "g (float[1,4] x) => (float y) { y = ReduceMean <keepdims = 0> (x) }",
        "g (float[2,4] x) => (float[2,4] y) <float[2,4] c> { y = Mul(x, c) }",
        "g (float[2,4] x) => (float[2,2] y) <float[2,2] c> { a = Gemm <transB = 1> (x, x) y = Add(a, c) }",
        "g (float[2,4] x) => (float[4,2] y) <int64[2] shape = {4, 2}> { y = Reshape(x, shape) }",
        "g (float[2,4] x) => (float[2,4] y) <int64 zero = {0}> { y = CumSum(x, zero) }",  # the first sample is right
        "g (float[2,4] x) => (float[2,4] y) <int64[3] pairs = {-1, 2, 4}, int64[2] all = {-1, 4}, int64[1] one = {1}>"
        "{ a = Reshape(x, pairs) m = ReduceMean <keepdims = 1> (a, one) d = Sub(a, m) y = Reshape(d, all) }",
    ],
)
def test_leaves_the_batch_where_samples_mix(text):
    model = parse(text)
    network = network_of(model)
    assert FreeBatch().apply(network) == 0
    assert network.batch is None
    assert isinstance(network.graph.inputs[0].shape[0], int)
    assert "batch left fixed" in texts(network, "free-batch")
    assert_same_network(model, network)
    assert FreeBatch().apply(network) == 0


def test_leaves_inputs_whose_first_dimensions_differ():
    model = parse("""
    g (float[1,4] a, float[3,4] b) => (float[3,4] y) { y = Add(a, b) }
    """)
    network = network_of(model)
    assert FreeBatch().apply(network) == 0
    assert "differ" in texts(network, "free-batch")
    assert_same_network(model, network)


def test_leaves_an_input_without_shape_axes():
    model = parse("g (float x, float[1,4] z) => (float[1,4] y) { y = Mul(x, z) }")
    network = network_of(model)
    FreeBatch().apply(network)
    assert network.batch is None
    assert_same_network(model, network)


def test_a_reshape_that_folds_the_batch_away_is_not_rewritten():
    text = "g (float[2,3,4] x) => (float[2,3,4] y) <int64[2] a = {6, 4}, int64[3] b = {2, 3, 4}> { h = Reshape(x, a) r = Relu(h) y = Reshape(r, b) }"
    model = parse(text)
    network = network_of(model)
    FreeBatch().apply(network)
    assert_same_network(model, network)
    targets = [n.inputs[1].values.tolist() for n in network.graph.nodes if n.op == "Reshape"]
    assert targets[0] == [6, 4]
