"""FuseBatchNorm: BatchNormalization and constant affines fold into weights, within bounds."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import numpy as np
import pytest

from csscc.dialect.adapter import export_model
from csscc.passes.canonical.fuse_batchnorm import FuseBatchNorm
from tests.helpers import assert_same_network, initializer, names, network_of, ops, parse, settles, texts

BN = "float[{c}] gamma, float[{c}] beta, float[{c}] mean, float[{c}] var"
X = "float[N,4,6,6] x"


def _fused(text, left, **weights):
    model = parse(text, **weights)
    network = network_of(model)
    assert settles(FuseBatchNorm(), network)
    assert ops(network) == left
    assert names(network.graph.outputs) == [o.name for o in model.graph.output]
    assert_same_network(model, network)
    return network


def _unfused(text, left, reason="", **weights):
    """The weighted operators keep their weights; a BatchNormalization may become an affine."""
    model = parse(text, **weights)
    network = network_of(model)
    FuseBatchNorm().apply(network)
    assert FuseBatchNorm().apply(network) == 0
    assert ops(network) == left
    assert reason in texts(network, "fuse-batchnorm")
    assert_same_network(model, network)
    return network


BEFORE = {
    "conv": ("Conv <pads = [1,1,1,1]> (x, W)", X, "float[5,4,3,3] W", "float[N,5,6,6]", 5),
    "conv with bias": (
        "Conv <pads = [1,1,1,1]> (x, W, b)",
        X,
        "float[5,4,3,3] W, float[5] b",
        "float[N,5,6,6]",
        5,
    ),
    "grouped conv": ("Conv <group = 2> (x, W)", X, "float[6,2,3,3] W", "float[N,6,4,4]", 6),
    "depthwise conv": ("Conv <group = 4> (x, W)", X, "float[4,1,3,3] W", "float[N,4,4,4]", 4),
    "conv 1d": ("Conv (x, W)", "float[N,4,9] x", "float[5,4,3] W", "float[N,5,7]", 5),
    "transposed conv": (
        "ConvTranspose <strides = [2,2]> (x, W, b)",
        X,
        "float[4,3,2,2] W, float[3] b",
        "float[N,3,12,12]",
        3,
    ),
    "grouped transposed conv": (
        "ConvTranspose <group = 2, strides = [2,2]> (x, W)",
        X,
        "float[4,3,2,2] W",
        "float[N,6,12,12]",
        6,
    ),
    "gemm": (
        "Gemm <alpha = 0.5, beta = 2.0> (x, W, b)",
        "float[N,4] x",
        "float[4,5] W, float[5] b",
        "float[N,5]",
        5,
    ),
    "gemm transposed": ("Gemm <transB = 1> (x, W)", "float[N,4] x", "float[5,4] W", "float[N,5]", 5),
    "gemm with a scalar": ("Gemm (x, W, b)", "float[N,4] x", "float[4,5] W, float[1] b", "float[N,5]", 5),
    "matmul": ("MatMul(x, W)", "float[N,4] x", "float[4,5] W", "float[N,5]", 5),
}


@pytest.mark.parametrize("case", BEFORE)
def test_folds_into_the_operator_before(case):
    call, x, weights, y, c = BEFORE[case]
    op = "Gemm" if case == "matmul" else call.split()[0]
    network = _fused(
        f"g ({x}) => ({y} y) <{weights}, {BN.format(c=c)}> "
        f"{{ h = {call} y = BatchNormalization <epsilon = 0.01> (h, gamma, beta, mean, var) }}",
        [op],
    )
    mean, deviation = network.statistics["y"]
    assert mean.shape == deviation.shape == (c,)


def test_the_algebra_by_hand():
    text = f"g ({X}) => (float[N,5,4,4] y) <float[5,4,3,3] W, float[5] b, {BN.format(c=5)}> {{ h = Conv(x, W, b) y = BatchNormalization(h, gamma, beta, mean, var) }}"
    model = parse(text)
    gamma, beta, mean, var = (initializer(model, n) for n in ("gamma", "beta", "mean", "var"))
    network = network_of(model)
    FuseBatchNorm().apply(network)
    conv = network.graph.nodes[0]
    a = gamma / np.sqrt(var + 1e-5)
    np.testing.assert_allclose(conv.inputs[1].values, initializer(model, "W") * a.reshape(-1, 1, 1, 1), rtol=1e-6)
    np.testing.assert_allclose(conv.inputs[2].values, (initializer(model, "b") - mean) * a + beta, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(network.statistics["y"][0], beta, rtol=1e-6)
    np.testing.assert_allclose(network.statistics["y"][1], np.abs(gamma), rtol=1e-6)


BEHIND = {
    "conv": ("Conv <strides = [2,2]> (h, W)", X, "float[5,4,3,3] W", "float[N,5,2,2]"),
    "grouped conv with bias": (
        "Conv <group = 2> (h, W, b)",
        X,
        "float[6,2,3,3] W, float[6] b",
        "float[N,6,4,4]",
    ),
    "gemm": (
        "Gemm <alpha = 0.5, beta = 3.0> (h, W, b)",
        "float[N,4] x",
        "float[4,5] W, float[5] b",
        "float[N,5]",
    ),
    "gemm transposed": ("Gemm <transB = 1> (h, W)", "float[N,4] x", "float[5,4] W", "float[N,5]"),
    "matmul": ("MatMul(h, W)", "float[N,4] x", "float[4,5] W", "float[N,5]"),
}


@pytest.mark.parametrize("case", BEHIND)
def test_folds_into_the_operator_behind(case):
    call, x, weights, y = BEHIND[case]
    op = "Gemm" if case == "matmul" else call.split()[0]
    _fused(
        f"g ({x}) => ({y} y) <{weights}, {BN.format(c=4)}> "
        f"{{ h = BatchNormalization(x, gamma, beta, mean, var) y = {call} }}",
        [op],
    )


def test_padding_with_a_shift_stays_an_affine():
    text = f"g ({X}) => (float[N,5,6,6] y) <float[5,4,3,3] W, {BN.format(c=4)}> {{ h = BatchNormalization(x, gamma, beta, mean, var) y = Conv <{{}}> (h, W) }}"
    for padding in ("pads = [1,1,1,1]", 'auto_pad = "SAME_UPPER"'):
        _unfused(text.replace("{}", padding), ["Mul", "Add", "Conv"], "pads its input")


def test_padding_without_a_shift_folds():
    text = f"g ({X}) => (float[N,5,6,6] y) <float[5,4,3,3] W, {BN.format(c=4)}> {{ h = BatchNormalization(x, gamma, beta, mean, var) y = Conv <pads = [1,1,1,1]> (h, W) }}"
    _fused(text, ["Conv"], beta=0.0, mean=0.0)


def test_batchnorm_behind_a_transposed_conv_only_before():
    text = f"g ({X}) => (float[N,3,12,12] y) <float[4,3,2,2] W, {BN.format(c=4)}> {{ h = BatchNormalization(x, gamma, beta, mean, var) y = ConvTranspose <strides = [2,2]> (h, W) }}"
    _unfused(text, ["Mul", "Add", "ConvTranspose"])


def test_training_mode_stays():
    text = f"g ({X}) => (float[N,5,4,4] y, float[5] m, float[5] v) <float[5,4,3,3] W, {BN.format(c=5)}> {{ h = Conv(x, W) y, m, v = BatchNormalization <training_mode = 1> (h, gamma, beta, mean, var) }}"
    model = parse(text)
    network = network_of(model)
    assert FuseBatchNorm().apply(network) == 0
    assert ops(network) == ["Conv", "BatchNormalization"]
    assert "training mode" in texts(network, "fuse-batchnorm")


def test_computed_parameters_stay():
    text = f"g ({X}, float[5] gamma) => (float[N,5,4,4] y) <float[5,4,3,3] W, float[5] beta, float[5] mean, float[5] var> {{ h = Conv(x, W) y = BatchNormalization(h, gamma, beta, mean, var) }}"
    _unfused(text, ["Conv", "BatchNormalization"], "computed, not constant")


def test_a_second_reader_of_the_convolution():
    text = f"g ({X}) => (float[N,5,4,4] y) <float[5,4,3,3] W, {BN.format(c=5)}> {{ h = Conv(x, W) r = Relu(h) n = BatchNormalization(h, gamma, beta, mean, var) y = Add(n, r) }}"
    network = _unfused(text, ["Conv", "Relu", "Mul", "Add", "Add"], "second reader")
    conv = network.graph.nodes[0]
    assert np.array_equal(conv.inputs[1].values, initializer(parse(text), "W").astype(np.float32))


def test_a_convolution_whose_result_is_an_output():
    text = f"g ({X}) => (float[N,5,4,4] h, float[N,5,4,4] y) <float[5,4,3,3] W, {BN.format(c=5)}> {{ h = Conv(x, W) y = BatchNormalization(h, gamma, beta, mean, var) }}"
    _unfused(text, ["Conv", "Mul", "Add"], "second reader")


def test_a_batchnorm_whose_result_is_an_output_does_not_fold_behind():
    text = f"g ({X}) => (float[N,4,6,6] h, float[N,5,4,4] y) <float[5,4,3,3] W, {BN.format(c=4)}> {{ h = BatchNormalization(x, gamma, beta, mean, var) y = Conv(h, W) }}"
    _unfused(text, ["Mul", "Add", "Conv"], "something else than one weighted operator")


def test_a_batchnorm_with_two_readers_does_not_fold_behind():
    text = f"g ({X}) => (float[N,5,4,4] y, float[N,4,6,6] z) <float[5,4,3,3] W, {BN.format(c=4)}> {{ h = BatchNormalization(x, gamma, beta, mean, var) y = Conv(h, W) z = Relu(h) }}"
    model = parse(text)
    network = network_of(model)
    FuseBatchNorm().apply(network)
    assert sorted(ops(network)) == ["Add", "Conv", "Mul", "Relu"]
    assert_same_network(model, network)


def test_channels_on_another_axis():
    """A matrix product makes the last axis; BatchNormalization works on axis 1."""
    text = f"g (float[N,4,6] x) => (float[N,4,5] y) <float[6,5] W, {BN.format(c=4)}> {{ h = MatMul(x, W) y = BatchNormalization(h, gamma, beta, mean, var) }}"
    _unfused(text, ["MatMul", "Mul", "Add"], "another axis")


def test_a_product_from_the_left_keeps_an_add():
    text = f"g (float[N,4,6] x) => (float[N,5,6] y) <float[5,4] W, {BN.format(c=5)}> {{ h = MatMul(W, x) y = BatchNormalization(h, gamma, beta, mean, var) }}"
    _fused(text, ["MatMul", "Add"])


def test_without_a_weighted_neighbour_it_is_an_affine():
    text = f"g ({X}) => (float[N,4,6,6] y) <{BN.format(c=4)}> {{ r = Relu(x) y = BatchNormalization(r, gamma, beta, mean, var) }}"
    _fused(text, ["Relu", "Mul", "Add"])


def test_two_in_a_row():
    text = f"g ({X}) => (float[N,5,4,4] y) <float[5,4,3,3] W, {BN.format(c=5)}, float[5] beta2> {{ h = Conv(x, W) n = BatchNormalization(h, gamma, beta, mean, var) y = BatchNormalization(n, gamma, beta2, mean, var) }}"
    _fused(text, ["Conv"])


SHARED = f"""
g ({X}) => (float[N,4,6,6] y, float[N,4,6,6] z, float[N,4,6,6] q) <float[4,4,3,3] W, float[4] b, {BN.format(c=4)}>
{{
  h = Conv <pads = [1,1,1,1]> (x, W, b)
  n = BatchNormalization(h, gamma, beta, mean, var)
  y = Relu(n)
  z = Conv <pads = [1,1,1,1]> (y, W, b)
  k = Conv <pads = [1,1,1,1]> (z, W, b)
  q = BatchNormalization(k, gamma, beta, mean, var)
}}
"""


def test_shared_weights_are_copied():
    network = _fused(SHARED, ["Conv", "Relu", "Conv", "Conv"])
    first, second, third = (n for n in network.graph.nodes if n.op == "Conv")
    original = initializer(parse(SHARED), "W").astype(np.float32)
    assert np.array_equal(second.inputs[1].values, original)
    assert not np.array_equal(first.inputs[1].values, original)
    exported = [t.name for t in export_model(network).graph.initializer]
    assert len(set(exported)) == len(exported)
    assert len({n.inputs[1].name for n in (first, second, third)}) == 3


def test_names_of_new_constants_do_not_meet_names_in_the_graph():
    """PyTorch calls a layer's parameters after the layer: here the constants `bn_scale` and `bn_shift` are taken."""
    text = f"""
    g ({X}) => (float[N,4,6,6] y, float[N,4,6,6] z) <float[4,1,1] bn_scale, float[4,1,1] bn_shift, {BN.format(c=4)}>
    {{
      r = Relu(x)
      [bn] y = BatchNormalization(r, gamma, beta, mean, var)
      s = Mul(r, bn_scale)
      z = Add(s, bn_shift)
    }}
    """
    model = parse(text)
    network = network_of(model)
    FuseBatchNorm().apply(network)
    assert_same_network(model, network)


AFFINE = {
    "scale per channel": ("y = Mul(h, c)", "float[5,1,1] c"),
    "scale on the left": ("y = Mul(c, h)", "float[1,5,1,1] c"),
    "one scale": ("y = Mul(h, c)", "float c"),
    "quotient": ("y = Div(h, c)", "float[5,1,1] c"),
    "shift": ("y = Add(h, c)", "float[5,1,1] c"),
    "shift on the left": ("y = Add(c, h)", "float[1] c"),
    "difference": ("y = Sub(h, c)", "float[5,1,1] c"),
    "difference on the left": ("y = Sub(c, h)", "float[5,1,1] c"),
    "all of them": ("i = Mul(h, c) j = Add(i, c) k = Sub(c, j) y = Div(k, c)", "float[5,1,1] c"),
}


@pytest.mark.parametrize("case", AFFINE)
def test_constant_affines_fold(case):
    body, constant = AFFINE[case]
    _fused(
        f"g ({X}) => (float[N,5,4,4] y) <float[5,4,3,3] W, float[5] b, {constant}> {{ h = Conv(x, W, b) {body} }}",
        ["Conv"],
    )


@pytest.mark.parametrize("body", ["y = Mul(h, c)", "y = Add(h, c)", "y = Sub(c, h)"])
def test_affines_of_a_dense_layer_fold(body):
    text = f"g (float[N,4] x) => (float[N,5] y) <float[4,5] W, float[5] c> {{ h = MatMul(x, W) {body} }}"
    model = parse(text)
    network = network_of(model)
    assert settles(FuseBatchNorm(), network)
    assert len(ops(network)) == 1
    assert_same_network(model, network)


@pytest.mark.parametrize(
    ("body", "constant", "outputs"),
    [
        ("y = Mul(h, c)", "float[4,4] c", "float[N,5,4,4] y"),  # varies over space
        ("y = Add(h, c)", "float[4] c", "float[N,5,4,4] y"),
        ("y = Div(c, h)", "float[5,1,1] c", "float[N,5,4,4] y"),  # not linear
        ("y = Mul(h, c)", "float[1,1,1,1,1] c", "float[A,B,C,D,E] y"),  # one axis more
        ("y = Mul(h, c)", "float[5,1,1] c", "float[N,5,4,4] y, float[N,5,4,4] h"),  # read elsewhere
        ("y = Mul(h, h)", "float[5,1,1] c", "float[N,5,4,4] y"),
    ],
)
def test_other_arithmetic_stays(body, constant, outputs):
    text = f"g ({X}) => ({outputs}) <float[5,4,3,3] W, {constant}> {{ h = Conv(x, W) {body} }}"
    model = parse(text)
    network = network_of(model)
    assert FuseBatchNorm().apply(network) == 0
    assert_same_network(model, network)


def test_a_constant_that_makes_more_channels_stays():
    text = f"g ({X}) => (float[N,5,4,4] y) <float[1,4,3,3] W, float[5,1,1] c> {{ h = Conv(x, W) y = Mul(h, c) }}"
    model = parse(text)
    network = network_of(model)
    assert FuseBatchNorm().apply(network) == 0
    assert_same_network(model, network)
