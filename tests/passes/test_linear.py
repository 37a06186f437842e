"""The factor algebra of every linear operator, against onnxruntime.

`push`: what the operator makes of ``x * f`` is what the changed operator makes of x, times the factor returned.
`pull`: what it makes of x, times f, is what the changed operator makes of inputs times the factors returned.
"""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import numpy as np
import onnx
import pytest

from csscc.dialect.adapter import export_model
from csscc.dialect.rewrite import constant
from csscc.passes.linear import LINEAR
from csscc.passes.linear.factors import ONE, after_batch, along, compress, constant_over, spread
from tests.helpers import assert_equal_outputs, initializer, network_of, node_of, parse, random_feeds, run
from tests.passes.linear_cases import ALL, MANY, PLAIN, WEIGHTED

RNG = np.random.default_rng(3)

# What no factor of the output passes, and no constant of an input: all other cases must let something pass.
PULLS_NOTHING = {"split"}
CARRIES_NOTHING = {
    *("average pool", "average pool counting padding", "mean over space", "sum over channels", "sum over nothing"),
    *("pad", "pad with axes", "pad by reflection", "concat of channels", "concat from the end", "concat over space"),
    *("blocks side by side", "blocks that overlap"),
}
# What cannot add a bias to itself: products of matrices with more axes than a Gemm takes.
NO_BIAS = {"stacked matmul", "matmul of rows", "matmul from the left"}


def _setup(case):
    op, text = ALL[case]
    model = parse(text)
    network = network_of(model)
    node = node_of(network, op)
    return model, network, node, LINEAR[op]


def _factors(shape):
    """None that varies, one that varies along each axis alone, and one that varies everywhere."""
    yield np.asarray(0.37)
    for axis, size in enumerate(shape):
        if size > 1:
            vary = [1] * len(shape)
            vary[axis] = size
            yield compress(RNG.uniform(0.3, 2.0, vary))
    yield RNG.uniform(0.3, 2.0, shape)


def _same(expected, got):
    assert_equal_outputs(
        {n: v.astype(np.float32) for n, v in expected.items()},
        {n: v.astype(np.float32) for n, v in got.items()},
    )


@pytest.mark.parametrize("case", ALL)
def test_push(case):
    taken = 0
    for k in range(6):
        model, network, node, rule = _setup(case)
        feeds = random_feeds(model)
        for index, tensor in enumerate(node.inputs):
            if tensor.name not in feeds:
                continue
            options = list(_factors(tensor.shape[1:]))
            if k >= len(options):
                continue
            model, network, node, rule = _setup(case)
            passed = rule.push(network.graph, node, index, options[k])
            if passed is None:
                assert_equal_outputs(run(model, feeds), run(export_model(network), feeds), rtol=0, atol=0)
                continue
            taken += 1
            scaled = feeds | {tensor.name: (feeds[tensor.name] * options[k]).astype(np.float32)}
            got = run(export_model(network), feeds)
            _same(run(model, scaled), {n: v * passed for n, v in got.items()})
            assert passed.ndim == 0 or passed.ndim < len(node.outputs[0].shape)
    assert (taken > 0) == (case not in MANY)


@pytest.mark.parametrize("case", ALL)
def test_pull(case):
    taken = 0
    for k in range(6):
        model, network, node, rule = _setup(case)
        options = list(_factors(node.outputs[0].shape[1:]))
        if k >= len(options):
            continue
        feeds = random_feeds(model)
        names = [t.name for t in node.inputs]
        remaining = rule.pull(network.graph, node, options[k])
        got_model = export_model(network)
        if remaining is None:
            assert_equal_outputs(run(model, feeds), run(got_model, feeds), rtol=0, atol=0)
            continue
        taken += 1
        scaled = dict(feeds)
        for index, part in remaining.items():
            scaled[names[index]] = (scaled[names[index]] * part).astype(np.float32)
        _same({n: v * options[k] for n, v in run(model, feeds).items()}, run(got_model, scaled))
    assert (taken > 0) == (case not in PULLS_NOTHING)


@pytest.mark.parametrize("case", ALL)
def test_a_factor_without_axes_passes_every_operator_one_way(case):
    model, network, node, rule = _setup(case)
    feeds = random_feeds(model)
    index = next(i for i, t in enumerate(node.inputs) if t.name in feeds)
    pushed = rule.push(network.graph, node, index, np.asarray(2.0))
    _, network, node, _ = _setup(case)
    pulled = rule.pull(network.graph, node, np.asarray(2.0))
    assert pushed is not None or pulled is not None


@pytest.mark.parametrize("case", WEIGHTED)
def test_weights_absorb_channels_on_both_sides(case):
    _, network, node, rule = _setup(case)
    data = rule.data_index(node)
    shape = node.inputs[data].shape
    vector = RNG.uniform(0.5, 2, shape[rule.input_axis(node)])
    passed = rule.push(network.graph, node, data, spread(vector, len(shape), rule.input_axis(node)))
    assert np.array_equal(passed, ONE)
    out = node.outputs[0].shape
    vector = RNG.uniform(0.5, 2, out[rule.output_axis(node)])
    assert rule.pull(network.graph, node, spread(vector, len(out), rule.output_axis(node))) == {}


@pytest.mark.parametrize("case", PLAIN | MANY)
def test_carried_constants(case):
    """``op(x + c) - op(x)`` is the constant carried."""
    taken = 0
    _, _, node, rule = _setup(case)
    for index, tensor in enumerate(node.inputs):
        if constant(node, index) is not None or not tensor.name:
            continue
        for value in _factors(tensor.shape[1:]):
            model, _, node, rule = _setup(case)
            carried = rule.carry_constant(node, index, value)
            if carried is None:
                continue
            taken += 1
            feeds = random_feeds(model)
            moved = feeds | {tensor.name: (feeds[tensor.name] + value).astype(np.float32)}
            expected = run(model, moved)
            _same(expected, {n: v + carried for n, v in run(model, feeds).items()})
    assert (taken > 0) == (case not in CARRIES_NOTHING)


def test_padding_carries_no_constant():
    for case in ("pad", "average pool counting padding"):
        _, _, node, rule = _setup(case)
        assert rule.carry_constant(node, 0, np.asarray(1.0)) is None


@pytest.mark.parametrize("case", ALL)
def test_taken_constants(case):
    """The operator without its constant, plus the constant, is the operator."""
    model, network, node, rule = _setup(case)
    taken = rule.take_constant(network.graph, node)
    feeds = random_feeds(model)
    _same(run(model, feeds), {n: v + taken for n, v in run(export_model(network), feeds).items()})
    has_bias = any(t.name == "b" for t in model.graph.initializer)
    if case in WEIGHTED:
        assert bool(np.any(taken != 0)) == has_bias
        assert rule.additive(node) == []


@pytest.mark.parametrize("case", WEIGHTED)
def test_additive_inputs_are_all_that_is_added(case):
    """With the additive inputs zero, the operator gives zero for zero."""
    model, network, node, rule = _setup(case)
    zero = {n: np.zeros_like(v) for n, v in random_feeds(model).items()}
    for index in rule.additive(node):
        node.inputs[index].values = np.zeros_like(node.inputs[index].values)
    assert not run(export_model(network), zero)["y"].any()


@pytest.mark.parametrize("case", WEIGHTED)
def test_magnitude_is_the_largest_sum(case):
    """Reached by inputs of one, with weights and constants of positive sign."""
    model, _, node, rule = _setup(case)
    magnitude = rule.output_magnitude(node)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.abs(onnx.numpy_helper.to_array(tensor)), tensor.name))
    ones = {n: np.ones((1, *v.shape[1:]), np.float32) for n, v in random_feeds(model).items()}
    y = np.moveaxis(run(model, ones)["y"], rule.output_axis(node), 0).reshape(len(magnitude), -1)
    if "transposed" in case or case == "stacked matmul":
        assert (magnitude >= y.max(axis=1) * (1 - 1e-6)).all()
    else:
        np.testing.assert_allclose(magnitude, y.max(axis=1), rtol=1e-6)


@pytest.mark.parametrize("case", WEIGHTED)
def test_snapped_weights_are_multiples(case):
    model, network, node, rule = _setup(case)
    size = node.outputs[0].shape[rule.output_axis(node)]
    step = 2.0 ** -RNG.integers(4, 9, size)
    rule.snap(network.graph, node, step)
    rows = rule.outputs_first(node) / step[:, None] if case != "stacked matmul" else np.zeros(1)
    assert np.array_equal(rows, np.rint(rows))
    assert node.attrs.get("alpha", 1.0) == 1.0
    assert node.attrs.get("beta", 1.0) == 1.0
    bias = constant(node, 2)
    if bias is not None:
        assert np.array_equal(bias / step, np.rint(bias / step))
    feeds = random_feeds(model)
    expected, got = run(model, feeds)["y"], run(export_model(network), feeds)["y"]
    assert not np.array_equal(expected, got)
    assert np.abs(expected - got).max() < 200 * step.max()


@pytest.mark.parametrize("case", [c for c in WEIGHTED if c not in NO_BIAS])
def test_added_bias(case):
    model, network, node, rule = _setup(case)
    size = node.outputs[0].shape[1]
    vector = RNG.standard_normal(size)
    assert rule.add_bias(network.graph, node, vector)
    feeds = random_feeds(model)
    y = run(model, feeds)["y"]
    _same({"y": y + spread(vector, y.ndim, 1)}, run(export_model(network), feeds))


@pytest.mark.parametrize("case", sorted(NO_BIAS))
def test_a_matmul_of_more_axes_has_no_bias(case):
    _, network, node, rule = _setup(case)
    assert not rule.add_bias(network.graph, node, np.ones(5))


def test_shared_weights_are_copied():
    model = parse("g (float[N,4] x) => (float[N,4] y) <float[4,4] W> { h = MatMul(x, W) y = MatMul(h, W) }")
    network = network_of(model)
    first, second = network.graph.nodes
    before = second.inputs[1].values.copy()
    LINEAR["MatMul"].pull(network.graph, first, np.asarray(2.0))
    assert np.array_equal(second.inputs[1].values, before)
    feeds = random_feeds(model)
    _same({"y": 2 * run(model, feeds)["y"]}, run(export_model(network), feeds))


def test_joined_factors_of_a_concatenation():
    model, _, node, rule = _setup("concat of channels")
    factors = [np.asarray(2.0), RNG.uniform(0.5, 2, (2, 1, 1))]
    joined = rule.join(node, factors)
    feeds = random_feeds(model)
    scaled = {n: (v * f).astype(np.float32) for (n, v), f in zip(feeds.items(), factors, strict=True)}
    _same(run(model, scaled), {"y": run(model, feeds)["y"] * joined})
    assert rule.join(node, [RNG.uniform(0.5, 2, (1, 6, 1)), np.asarray(1.0)]) is None


@pytest.mark.parametrize("case", ALL)
def test_accepts(case):
    model, _, node, rule = _setup(case)
    core = [i for i, t in enumerate(node.inputs) if t.name in random_feeds(model)]
    assert rule.refuse(node, core) == ""


def test_a_factor_through_padding_stays_per_channel():
    """Anything may multiply padded zeros: what keeps the factor absorbable by the convolution behind."""
    factor = RNG.uniform(0.5, 2, (4, 1, 1))
    for case in ("pad", "pad with axes", "pad by reflection"):
        _, network, node, rule = _setup(case)
        assert np.array_equal(rule.push(network.graph, node, 0, factor), factor)
        assert [n.op for n in network.graph.inputs[0].outputs] == ["Pad"]


FREE = {
    "heads": ("Reshape", "g (float[N,S,8] x) => (float[N,S,2,4] y) <int64[4] t = {0,0,2,4}> { y = Reshape(x, t) }", (2, 4)),
    "no heads": ("Reshape", "g (float[N,S,2,4] x) => (float[N,S,8] y) <int64[3] t = {0,-1,8}> { y = Reshape(x, t) }", (8,)),
    "transposed": ("Transpose", "g (float[N,S,8] x) => (float[N,8,S] y) { y = Transpose <perm = [0,2,1]> (x) }", (8, 1)),
    "cut": ("Slice", "g (float[N,S,8] x) => (float[N,K,8] y) <int64[1] a = {1}, int64[1] b = {9999}> { y = Slice(x, a, b, a) }", (8,)),
    "dropped": ("Slice", "g (float[N,S,8] x) => (float[N,K,8] y) <int64[1] a = {30}, int64[1] b = {9999}, int64[1] c = {1}> { y = Slice(x, a, b, c) }", None),
    "mixed with the free axis": ("Reshape", "g (float[N,S,8] x) => (float[N,K] y) <int64[2] t = {0,-1}> { y = Reshape(x, t) }", None),
}  # fmt: skip


@pytest.mark.parametrize("case", FREE)
def test_a_factor_beside_a_free_axis(case):
    op, text, shape = FREE[case]
    network = network_of(parse(text))
    node, rule = node_of(network, op), LINEAR[op]
    assert rule.refuse(node, [0]) == ""
    before = (2, 4) if case == "no heads" else (8,)
    factor = np.arange(1.0, 9).reshape(before)
    pushed = rule.push(network.graph, node, 0, factor)
    if shape is None:
        assert pushed is None
    else:
        assert pushed.size == 8
        assert np.array_equal(np.squeeze(pushed), np.squeeze(factor.reshape(shape)))
    assert rule.push(network.graph, node, 0, np.asarray(2.0)) == 2.0


def test_a_free_axis_that_meets_the_batch_is_refused():
    network = network_of(parse("g (float[N,S,8] x) => (float[S,N,8] y) { y = Transpose <perm = [1,0,2]> (x) }"))
    assert "mixes" in LINEAR["Transpose"].refuse(node_of(network, "Transpose"), [0])


def test_factors_as_arrays():
    vector = np.arange(1.0, 5)
    assert spread(vector, 4, 1).shape == (4, 1, 1)
    assert spread(vector, 4, -1).shape == (1, 1, 4)
    for axis in (1, 2, 3, -1):
        assert np.array_equal(along(spread(vector, 4, axis), 4, axis), vector)
    assert along(spread(vector, 4, 2), 4, 1) is None
    assert along(np.asarray(2.0), 4, 1) == 2.0
    assert after_batch(vector, 4).shape == (1, 1, 4)
    assert compress(np.full((2, 3), 7.0)).shape == ()
    assert compress(np.broadcast_to(vector.reshape(4, 1), (4, 3))).shape == (4, 1)
    assert constant_over(spread(vector, 4, 1), 4, [2, 3])
    assert not constant_over(spread(vector, 4, 1), 4, [1])
    assert initializer(
        parse("g (float[N,4] x) => (float[N,4] y) <float[4] c> { y = Mul(x, c) }", c=vector), "c"
    ).tolist() == [1, 2, 3, 4]
