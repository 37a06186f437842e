"""MasksAsSums: Where with a condition that is known before time starts becomes a sum or a product; guards go."""

from __future__ import annotations

import numpy as np
import pytest

from csscc.dialect.adapter import export_model
from csscc.passes.canonical.masks_as_sums import MasksAsSums
from tests.helpers import assert_equal_outputs, network_of, node_of, ops, parse, run, settles

HEAD = "g (float[N,4,5] x, bool[N,1,5] c) => (float[N,4,3] y) <float[5,5] W, float[5,3] V"
CASES = {
    "scores that are not there": (
        f"{HEAD}, float k = {{-3.4e38}}> {{ h = MatMul(x, W) s = Where(c, k, h) p = Softmax(s) y = MatMul(p, V) }}",
        ["Where", "MatMul", "Add", "Softmax", "MatMul"],
    ),
    "those that are there are named": (
        f"{HEAD}, float k = {{-10000.0}}> {{ h = MatMul(x, W) s = Where(c, h, k) p = Softmax(s) y = MatMul(p, V) }}",
        ["Where", "MatMul", "Add", "Softmax", "MatMul"],
    ),
    "something lies between": (
        f"{HEAD}, float k = {{-3.4e38}}, float[5] b> "
        "{ h = MatMul(x, W) s = Where(c, k, h) t = Add(s, b) p = Softmax(t) y = MatMul(p, V) }",
        ["Where", "MatMul", "Add", "Add", "Softmax", "MatMul"],
    ),
    "zeros": (
        f"{HEAD}, float k = {{0.0}}> {{ h = MatMul(x, W) s = Where(c, k, h) p = Relu(s) y = MatMul(p, V) }}",
        ["Where", "MatMul", "Mul", "Relu", "MatMul"],
    ),
    "other numbers": (
        f"{HEAD}, float k = {{2.5}}> {{ h = MatMul(x, W) s = Where(c, h, k) p = Relu(s) y = MatMul(p, V) }}",
        ["Where", "Where", "MatMul", "Mul", "Add", "Relu", "MatMul"],
    ),
    "a low number that is no score": (
        f"{HEAD}, float k = {{-20000.0}}> {{ h = MatMul(x, W) s = Where(c, h, k) p = Relu(s) y = MatMul(p, V) }}",
        ["Where", "Where", "MatMul", "Mul", "Add", "Relu", "MatMul"],
    ),
    "a constant condition": (
        "g (float[N,2,5] x) => (float[N,2,3] y) <float[5,5] W, float[5,3] V, bool[2,5] c = {0,1,0,0,1,1,1,0,0,0}, "
        "float k = {-3.4e38}> { h = MatMul(x, W) s = Where(c, k, h) p = Softmax(s) y = MatMul(p, V) }",
        ["MatMul", "Add", "Softmax", "MatMul"],
    ),
    "a guard against NaN": (
        f"{HEAD}, float k = {{0.0}}> "
        "{ h = MatMul(x, W) p = Sigmoid(h) n = IsNaN(p) s = Where(n, k, p) y = MatMul(s, V) }",
        ["MatMul", "Sigmoid", "MatMul"],
    ),
}


def feeds_for(model):
    rng = np.random.default_rng(3)
    feeds = {"x": rng.standard_normal((6, model.graph.input[0].type.tensor_type.shape.dim[1].dim_value, 5))}
    feeds = {"x": feeds["x"].astype(np.float32)}
    if len(model.graph.input) > 1:
        feeds["c"] = rng.random((6, 1, 5)) < 0.4
        feeds["c"][4], feeds["c"][5] = True, False
    return feeds


@pytest.mark.parametrize("case", CASES)
def test_fires(case):
    text, expected = CASES[case]
    model = parse(text)
    network = network_of(model)
    assert settles(MasksAsSums(), network)
    assert sorted(ops(network)) == sorted(expected)
    feeds = feeds_for(model)
    for optimise in (False, True):
        assert_equal_outputs(run(model, feeds), run(export_model(network), feeds, optimise=optimise))


def test_a_guarded_softmax_is_one_activation():
    """Rows of which nothing is there are zero."""
    model = parse(
        f"{HEAD}, float k, float zero = {{0.0}}> {{ h = MatMul(x, W) s = Where(c, k, h) p = Softmax(s) n = IsNaN(p) "
        "r = Where(n, zero, p) y = MatMul(r, V) }",
        k=-np.inf,
    )
    network = network_of(model)
    assert settles(MasksAsSums(), network)
    assert sorted(ops(network)) == sorted(["Where", "MatMul", "Add", "SoftmaxOrZero", "MatMul"])
    feeds = feeds_for(model)
    feeds["c"][2] = True
    expected = run(model, feeds)
    assert not expected["y"][2].any()
    assert expected["y"][3].any()
    assert_equal_outputs(expected, run(export_model(network), feeds))


@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD}, float k = {{1.0}}> {{ s = Where(c, k, x) p = Softmax(s) y = MatMul(p, V) }}",
        f"{HEAD}, float k = {{0.0}}> {{ h = MatMul(x, W) b = Greater(h, k) s = Where(b, k, h) y = MatMul(s, V) }}",
        f"{HEAD}> {{ h = MatMul(x, W) m = ReduceMax <keepdims = 1> (h) s = Where(c, m, h) y = MatMul(s, V) }}",
        f"{HEAD}, float k = {{1.0}}> {{ h = MatMul(x, W) p = Relu(h) n = IsNaN(p) s = Where(n, k, p) "
        "y = MatMul(s, V) }",
        f"{HEAD}, float k = {{0.0}}> {{ h = MatMul(x, W) p = Softmax <axis = 1> (h) n = IsNaN(p) s = Where(n, k, p) "
        "y = MatMul(s, V) }",
    ],
    ids=["in the prologue", "a condition on a core tensor", "both computed", "a guard that gives 1", "along columns"],
)
def test_declines(text):
    model = parse(text)
    network = network_of(model)
    before = ops(network)
    assert MasksAsSums().apply(network) == 0
    assert ops(network) == before


def test_a_mask_that_repeats_the_scores_stays():
    model = parse(
        "g (float[N,1,5] x, bool[N,4,5] c) => (float[N,4,3] y) <float[5,5] W, float[5,3] V, float k = {0.0}> "
        "{ h = MatMul(x, W) s = Where(c, k, h) p = Relu(s) y = MatMul(p, V) }"
    )
    network = network_of(model)
    assert MasksAsSums().apply(network) == 0
    assert node_of(network, "Where")
