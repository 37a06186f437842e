"""Rescale: w' = theta_in / theta_out * w, b' = b / (theta_out * sum(q)) (Algorithm 2)."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import numpy as np
import pytest

from csscc.coding.coding import Coding
from csscc.dialect.adapter import export_model
from csscc.passes.convert.insert_neurons import InsertNeurons
from csscc.passes.convert.rescale import Rescale, is_factor
from tests.helpers import (
    assert_equal_outputs,
    calibrated,
    check,
    initializer,
    ops,
    parse,
    random_feeds,
    run,
    settles,
    spikes,
    spiking,
)

CODING = Coding(T=6)
LEVELS = sum(1.5**k for k in range(6))
CHAIN = """
g (float[N,3,8,8] x) => (float[N,2,8,8] y) <float[5,3,3,3] W, float[5] b, float[2,5,3,3] V, float[2] c>
{ h = Conv <pads = [1,1,1,1]> (x, W, b) r = Relu(h) y = Conv <pads = [1,1,1,1]> (r, V, c) }
"""


def _rescaled(text, **options):
    """The network before and after, which must send the same spikes but for rounding and give the same outputs."""
    model = parse(text)
    before = spiking(model, CODING, **options)
    after = calibrated(model, CODING, **options)
    InsertNeurons().apply(after)
    assert settles(Rescale(), after)
    check(after)
    feeds = random_feeds(model)
    sent, resent = spikes(before, feeds), spikes(after, feeds)
    assert all(np.mean(sent[n] != resent[n]) < 1e-3 for n in sent)
    assert_equal_outputs(run(export_model(before), feeds), run(export_model(after), feeds), rtol=1e-4, atol=1e-4)
    return after


def _factors(network):
    return [n for n in network.graph.nodes if is_factor(n)]


@pytest.mark.parametrize("per_channel", [True, False])
def test_the_formula_of_the_paper(per_channel):
    network = _rescaled(CHAIN, per_channel=per_channel)
    assert ops(network) == ["Encode", "Conv", "TSARelu", "Conv", "Decode"]
    model = parse(CHAIN)
    theta_x, theta_r = (np.broadcast_to(network.amplitudes[n].reshape(-1), s) for n, s in (("x", 3), ("r", 5)))
    first, second = (n for n in network.graph.nodes if n.op == "Conv")
    per_theta = 1 / theta_r
    w = initializer(model, "W") * theta_x.reshape(1, -1, 1, 1) * per_theta.reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(first.inputs[1].values, w, rtol=1e-6)
    np.testing.assert_allclose(first.inputs[2].values, initializer(model, "b") * per_theta / LEVELS, rtol=1e-6)
    np.testing.assert_allclose(
        second.inputs[1].values, initializer(model, "V") * theta_r.reshape(1, -1, 1, 1), rtol=1e-6
    )
    np.testing.assert_allclose(second.inputs[2].values, initializer(model, "c") / LEVELS, rtol=1e-6)


def test_an_identity_shortcut_keeps_one_factor():
    network = _rescaled("""
    g (float[N,3,8,8] x) => (float[N,2,8,8] y) <float[4,3,1,1] U, float[4,4,3,3] W, float[4] b, float[2,4,1,1] V>
    {
      g = Conv(x, U) a = Relu(g)
      h = Conv <pads = [1,1,1,1]> (a, W, b) s = Add(h, a) r = Relu(s) y = Conv(r, V)
    }
    """)
    (shortcut,) = _factors(network)
    assert ops(network).count("Mul") == 1
    values = next(t.values for t in shortcut.inputs if hasattr(t, "values"))
    theta_a, theta_r = network.amplitudes["a"], network.amplitudes["r"]
    np.testing.assert_allclose(np.broadcast_to(values, theta_r.shape), theta_a / theta_r, rtol=1e-6)


@pytest.mark.parametrize("per_channel", [True, False])
def test_concatenated_factors_reach_the_weights_behind(per_channel):
    network = _rescaled(
        """
        g (float[N,3,8,8] x) => (float[N,2,8,8] y) <float[4,3,3,3] A, float[6,3,1,1] B, float[2,10,1,1] V>
        {
          p = Conv <pads = [1,1,1,1]> (x, A) q = Conv(x, B) a = Relu(p) b = Relu(q)
          c = Concat <axis = 1> (a, b) y = Conv(c, V)
        }
        """,
        per_channel=per_channel,
    )
    assert _factors(network) == []


@pytest.mark.parametrize("per_channel", [True, False])
def test_both_parts_of_a_split_keep_their_factor(per_channel):
    """A Split hands a factor on to each of its outputs."""
    _rescaled(
        """
        g (float[N,3,8,8] x) => (float[N,2,8,8] y) <float[4,3,1,1] W, float[2,2,1,1] V, float[2,2,3,3] U>
        {
          h = Conv(x, W) r = Relu(h) a, b = Split <axis = 1, num_outputs = 2> (r)
          p = Conv(a, V) q = Conv <pads = [1,1,1,1]> (b, U) s = Add(p, q) t = Relu(s) y = Conv(t, V)
        }
        """,
        per_channel=per_channel,
    )


@pytest.mark.parametrize(
    "between",
    [
        "m = AveragePool <kernel_shape = [2,2], strides = [2,2]> (r)",
        "t = Transpose <perm = [0,2,3,1]> (r) m = Transpose <perm = [0,3,1,2]> (t)",
        "m = Pad(r, pads)",
        "n = Neg(r) m = Mul(n, half)",
        "m = Resize(r, , scales)",
        "m = Concat <axis = 1> (r, r)",
    ],
)
def test_factors_pass_what_has_no_weights(between):
    width = 8 if "Concat" in between else 4
    network = _rescaled(f"""
    g (float[N,3,8,8] x) => (float[A,B,C,D] y)
    <float[4,3,1,1] W, float[4] b, float[2,{width},1,1] V, int64[8] pads = {{0,0,1,1,0,0,1,1}},
     float half = {{0.5}}, float[4] scales = {{1,1,2,2}}>
    {{ h = Conv(x, W, b) r = Relu(h) {between} y = Conv(m, V) }}
    """)
    assert _factors(network) == []


def test_factors_of_a_dense_head():
    network = _rescaled("""
    g (float[N,3,8,8] x) => (float[N,5] y) <float[4,3,3,3] W, float[256,7] V, float[7] c, float[7,5] U, int64[2] s = {-1, 256}>
    { h = Conv <pads = [1,1,1,1]> (x, W) r = Relu(h) f = Reshape(r, s) d = Gemm(f, V, c) e = Relu(d) y = MatMul(e, U) }
    """)
    assert _factors(network) == []


def test_a_neuron_that_is_not_homogeneous_keeps_its_units():
    network = _rescaled(CHAIN.replace("Relu", "Sigmoid"))
    model = parse(CHAIN)
    first, second = (n for n in network.graph.nodes if n.op == "Conv")
    w = initializer(model, "W") * network.amplitudes["x"].reshape(1, -1, 1, 1)
    np.testing.assert_allclose(first.inputs[1].values, w, rtol=1e-6)
    v = initializer(model, "V") * network.amplitudes["r"].reshape(1, -1, 1, 1)
    np.testing.assert_allclose(second.inputs[1].values, v, rtol=1e-6)


def test_shared_weights_are_scaled_each_for_itself():
    network = _rescaled("""
    g (float[N,4,8,8] x) => (float[N,4,8,8] y) <float[4,4,3,3] W, float[4] b>
    {
      h = Conv <pads = [1,1,1,1]> (x, W, b) r = Relu(h)
      i = Conv <pads = [1,1,1,1]> (r, W, b) s = Relu(i)
      y = Conv <pads = [1,1,1,1]> (s, W, b)
    }
    """)
    weights = [n.inputs[1] for n in network.graph.nodes if n.op == "Conv"]
    assert len({w.name for w in weights}) == 3


def test_a_factor_meets_a_sum_of_three():
    _rescaled("""
    g (float[N,3,8,8] x) => (float[N,2,8,8] y) <float[4,3,1,1] A, float[4,4,1,1] B, float[4,1,1] c, float[2,4,1,1] V>
    { p = Conv(x, A) a = Relu(p) q = Conv(a, B) b = Relu(q) s = Sum(c, a, b) t = Relu(s) y = Conv(t, V) }
    """)


def test_nothing_to_do():
    network = spiking(parse(CHAIN), CODING, Rescale())
    assert Rescale().apply(network) == 0
