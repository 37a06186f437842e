"""InsertNeurons: encoders, neurons and decoders, with every amplitude still a factor."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import numpy as np
import pytest

from csscc.coding.coding import Coding
from csscc.dialect.adapter import export_model
from csscc.dialect.spiking import spiking_nodes
from csscc.errors import PassError
from csscc.passes.convert.bias_on_first_step import BiasOnFirstStep
from csscc.passes.convert.insert_neurons import InsertNeurons, amplitude_names
from csscc.passes.convert.rescale import Rescale
from csscc.passes.convert.snap_weights import SnapWeights
from tests.helpers import (
    assert_equal_outputs,
    calibrated,
    check,
    error,
    initializer,
    names,
    ops,
    parse,
    random_feeds,
    run,
    source_of,
    spikes,
    spiking,
)

CHAIN = """
g (float[N,3,8,8] x) => (float[N,2,4,4] y) <float[5,3,3,3] W, float[5] b, float[2,5,3,3] V, float[2] c>
{ h = Conv <pads = [1,1,1,1]> (x, W, b) r = Relu(h) y = Conv <pads = [1,1,1,1], strides = [2,2]> (r, V, c) }
"""
RESIDUAL = """
g (float[N,3,8,8] x) => (float[N,4] y, float[N,4,8,8] q)
<float[4,3,3,3] W0, float[4] b0, float[4,4,3,3] W1, float[4] b1, float[4,4,3,3] W2, float[4] b2, float[4,4] V, float[4] c>
{
  h0 = Conv <pads = [1,1,1,1]> (x, W0, b0)
  r0 = Relu(h0)
  h1 = Conv <pads = [1,1,1,1]> (r0, W1, b1)
  r1 = Relu(h1)
  h2 = Conv <pads = [1,1,1,1]> (r1, W2, b2)
  s = Add(h2, r0)
  q = Relu(s)
  m = GlobalAveragePool(q)
  f = Flatten(m)
  y = Gemm(f, V, c)
}
"""
NOT_HOMOGENEOUS = """
g (float[N,3,8,8] x) => (float[N,2,8,8] y) <float[5,3,3,3] W, float[5] b, float[2,5,1,1] V>
{ h = Conv <pads = [1,1,1,1]> (x, W, b) r = Sigmoid(h) y = Conv(r, V) }
"""
POOLED = """
g (float[N,3,8,8] x) => (float[N,2,2,2] y) <float[5,3,3,3] W, float[5] b, float[2,5,1,1] V, float[5,1,1] slope>
{
  h = Conv <pads = [1,1,1,1]> (x, W, b)
  r = PRelu(h, slope)
  p = AveragePool <kernel_shape = [2,2], strides = [2,2]> (r)
  v = Conv(p, V)
  y = AveragePool <kernel_shape = [2,2], strides = [2,2]> (v)
}
"""
SPLIT = """
g (float[N,4,6,6] x) => (float[N,4,6,6] y) <float[4,4,3,3] W, float[4] b, float[4,4,1,1] V>
{
  h = Conv <pads = [1,1,1,1]> (x, W, b)
  r = Relu(h)
  a, c = Split <axis = 1, num_outputs = 2> (r)
  n = Neg(c)
  j = Concat <axis = 1> (n, a)
  k = Add(j, r)
  l = LeakyRelu(k)
  y = Conv(l, V)
}
"""
PADDED = """
g (float[N,3,6,6] x) => (float[N,2,6,6] y) <float[4,3,1,1] W, float[4] b, float[2,4,3,3] V, int64[8] p = {0,0,1,1,0,0,1,1}>
{ h = Conv(x, W, b) r = Relu(h) q = Pad(r, p) y = Conv(q, V) }
"""
TWO_INPUTS = """
g (float[N,4] a, float[N,6] z) => (float[N,3] y, float[N,3] p) <float[4,5] A, float[6,5] Z, float[5] b, float[5,3] V, float[5] d>
{ u = Gemm(a, A, b) v = MatMul(z, Z) s = Sub(v, u) t = Mul(s, d) r = Relu(t) y = MatMul(r, V) p = Softmax(y) }
"""
NETWORKS = {
    "chain": CHAIN,
    "residual": RESIDUAL,
    "sigmoid": NOT_HOMOGENEOUS,
    "pooled": POOLED,
    "split": SPLIT,
    "padded": PADDED,
    "two inputs": TWO_INPUTS,
}


def test_the_graph_as_documented():
    network = spiking(parse(CHAIN), Coding(T=4))
    assert ops(network) == ["Encode", "Mul", "Conv", "Mul", "TSARelu", "Mul", "Conv", "Decode"]
    assert names(network.graph.outputs) == ["y"]
    check(network)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("case", NETWORKS)
def test_outputs_near_the_ann_and_nearer_with_more_steps(case, per_channel):
    """Eight more steps leave 1.5**-8 of the error, where calibration has seen the largest activations."""
    model = parse(NETWORKS[case])
    source = source_of(model, samples=16, seed=1)
    errors = [error(model, spiking(model, Coding(T=t), per_channel=per_channel, source=source)) for t in (8, 16)]
    for name in errors[0]:
        assert errors[0][name] < 0.1
        assert errors[1][name] < 0.01
        assert errors[1][name] < errors[0][name] / 7


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("case", NETWORKS)
def test_every_later_pass_keeps_the_snn_near_the_ann(case, per_channel):
    """Rescaling and snapping move no value; with the bias on the first step other spikes say the same.

    At T = 18 the resolution is a 3000th of a layer's range.
    """
    model = parse(NETWORKS[case])
    source = source_of(model, samples=16, seed=1)
    network = spiking(model, Coding(T=18), source=source, per_channel=per_channel)
    for p in (None, Rescale(), BiasOnFirstStep(), SnapWeights()):
        if p is not None:
            p.apply(network)
            check(network)
            assert names(network.graph.outputs) == [o.name for o in model.graph.output]
        assert max(error(model, network).values()) < 4e-3


@pytest.mark.parametrize("case", NETWORKS)
def test_rescaling_and_snapping_move_hardly_any_value(case):
    """What rounding flips is a spike near its threshold, which the next spikes make good."""
    model = parse(NETWORKS[case])
    feeds = random_feeds(model, batch=64)
    inserted = spikes(spiking(model), feeds)
    rescaled = spikes(spiking(model, None, Rescale()), feeds)
    snapped = spikes(spiking(model, None, Rescale(), SnapWeights()), feeds)
    for name, train in inserted.items():
        assert (rescaled[name] != train).mean() <= 1e-3
        assert (snapped[name] != train).mean() <= 2e-3


def test_the_ann_stays_as_it_was():
    model = parse(RESIDUAL)
    network = calibrated(model, Coding(T=4))
    before = export_model(network).SerializeToString()
    InsertNeurons().apply(network)
    assert network.graph is not network.ann
    network.graph = network.ann
    assert export_model(network).SerializeToString() == before


def test_it_can_be_done_again_from_the_ann():
    network = spiking(parse(RESIDUAL), Coding(T=4))
    first = export_model(network)
    network.graph = network.ann
    InsertNeurons().apply(network)
    feeds = random_feeds(first)
    assert_equal_outputs(run(first, feeds), run(export_model(network), feeds), rtol=0, atol=0)


def test_a_neuron_that_is_an_output_too():
    """`q` of the residual network is read by the core and by the outside."""
    model = parse(RESIDUAL)
    network = spiking(model, Coding(T=8, beta=2.0))
    assert names(network.graph.outputs) == ["y", "q"]
    assert error(model, network)["q"] < 0.1


def test_an_input_that_is_read_outside_too():
    model = parse("""
    g (float[N,4] x) => (float[N,2] y, float[N,4] z) <float[4,3] W, float[3,2] V>
    { h = MatMul(x, W) r = Relu(h) y = MatMul(r, V) z = Neg(x) }
    """)
    network = spiking(model, Coding(T=8, beta=2.0), Rescale())
    feeds = random_feeds(model)
    assert np.array_equal(run(export_model(network), feeds)["z"], -feeds["x"])


def test_the_count_and_the_coding():
    network = calibrated(parse(RESIDUAL), Coding(T=5, beta=1.25, silent=2, negative=False, signed_input=False))
    assert amplitude_names(network.graph, network.regions) == ["x", "r0", "r1", "q"]
    assert InsertNeurons().apply(network) == 4
    whole = tuple(float(np.nextafter(np.float32(1.25**k), np.float32(0))) for k in range(4, -1, -1))
    for _, view in spiking_nodes(network.graph):
        np.testing.assert_array_equal(view.schedule.weights, np.float32(1.25) ** np.arange(4, -1, -1))
        if view.is_neuron:
            assert (view.schedule.silent, view.schedule.negative) == (2, False)
            assert view.schedule.thresholds == whole
        if view.is_encoder:
            assert (view.schedule.negative, view.schedule.thresholds) == (False, whole)


def test_what_is_added_comes_in_parts():
    network = spiking(parse(CHAIN), Coding(T=3, beta=2.0))
    bias = next(n for n in network.graph.nodes if n.op == "Conv").inputs[2].values
    np.testing.assert_allclose(bias, initializer(parse(CHAIN), "b") / (1 + 2 + 4), rtol=1e-6)


def test_needs_amplitudes_and_regions():
    network = calibrated(parse(CHAIN))
    del network.amplitudes["r"]
    with pytest.raises(PassError, match="no amplitude for r"):
        InsertNeurons().requires(network)
    network.regions = None
    with pytest.raises(PassError, match="regions"):
        InsertNeurons().requires(network)
