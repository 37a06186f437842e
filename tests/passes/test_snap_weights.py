"""SnapWeights: sums of spikes that float32 adds without rounding, so that all runtimes send the same spikes."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import numpy as np
import pytest

from csscc.coding.coding import Coding
from csscc.coding.schedule import resolution
from csscc.dialect.adapter import export_model
from csscc.dialect.spiking import neurons
from csscc.passes.convert.bias_on_first_step import BiasOnFirstStep
from csscc.passes.convert.rescale import Rescale
from csscc.passes.convert.snap_weights import SnapWeights, rounded, spike_parts
from csscc.runtime.reference import ReferenceRuntime
from tests.helpers import check, error, node_of, parse, random_feeds, run, source_of, spikes, spiking, texts

HEAD = "g (float[N,3,8,8] x) => (float[A,B,C,D] y)"
RESIDUAL = """
g (float[N,3,8,8] x) => (float[N,4] y)
<float[8,3,3,3] W0, float[8] b0, float[8,8,3,3] W1, float[8] b1, float[8,8,3,3] W2, float[8] b2, float[8,4] V, float[4] c>
{
  h0 = Conv <pads = [1,1,1,1]> (x, W0, b0)
  r0 = Relu(h0)
  h1 = Conv <pads = [1,1,1,1]> (r0, W1, b1)
  r1 = Relu(h1)
  h2 = Conv <pads = [1,1,1,1]> (r1, W2, b2)
  s = Add(h2, r0)
  r2 = Relu(s)
  m = GlobalAveragePool(r2)
  f = Flatten(m)
  y = Gemm(f, V, c)
}
"""


def _step(values):
    """The largest power of two that all values are multiples of."""
    values = np.abs(np.asarray(values, np.float64))
    values = values[values > 0]
    k = int(np.floor(np.log2(values.min())))
    while not np.array_equal(values / 2.0**k, np.rint(values / 2.0**k)):
        k -= 1
    return 2.0**k


def _sums_in_any_order(weights, rng):
    """Each row of weights with random spikes, summed one by one in float32 in random orders."""
    sent = rng.integers(-1, 2, (weights.shape[1], 16)).astype(np.float32)
    products = weights[:, :, None].astype(np.float32) * sent[None]
    return [
        np.add.accumulate(products[:, rng.permutation(weights.shape[1])], axis=1, dtype=np.float32)[:, -1]
        for _ in range(5)
    ]


def _differ(sums):
    return any(not np.array_equal(sums[0], s) for s in sums[1:])


@pytest.mark.parametrize("bias_first", [True, False])
def test_every_order_of_summation_gives_the_same(rng, bias_first):
    between = (BiasOnFirstStep(),) if bias_first else ()
    loose = spiking(parse(RESIDUAL), None, Rescale(), *between)
    tight = spiking(parse(RESIDUAL), None, Rescale(), *between, SnapWeights())
    rounding = 0
    for before, after in zip(loose.graph.nodes, tight.graph.nodes, strict=True):
        if after.op != "Conv":
            continue
        rows = after.inputs[1].values.reshape(8, -1)
        if len(after.inputs) > 2:
            rows = np.hstack([rows, after.inputs[2].values.reshape(-1, 1)])
        for row in rows:
            assert np.abs(row.astype(np.float64)).sum() < 2**24 * _step(row)
        assert not _differ(_sums_in_any_order(rows, rng))
        rounding += _differ(_sums_in_any_order(before.inputs[1].values.reshape(8, -1), rng))
    assert rounding > 0, "the weights before would have done as well: the test shows nothing"


def test_what_meets_in_one_neuron_shares_a_step(rng):
    """A convolution and a shortcut factor: their multiples and their sum of magnitudes count together."""
    network = spiking(parse(RESIDUAL), None, Rescale(), BiasOnFirstStep(), SnapWeights())
    add = node_of(network, "Add")
    conv, factor = (t.inputs[0] for t in add.inputs)
    assert [conv.op, factor.op] == ["Conv", "Mul"]
    scales = next(t.values for t in factor.inputs if hasattr(t, "values"))
    rows = np.hstack([conv.inputs[1].values.reshape(8, -1), np.broadcast_to(scales.reshape(-1, 1), (8, 1))])
    for row in rows:
        assert np.abs(row.astype(np.float64)).sum() < 2**24 * _step(row)
    assert not _differ(_sums_in_any_order(rows, rng))


@pytest.mark.parametrize("coding", [Coding(), Coding(8, 2.0, 3), Coding(6, 1.3, 1)], ids=str)
@pytest.mark.parametrize(("size", "parts"), [(1, 1), (2, 4), (4, 16)])
def test_weights_leave_room_for_averages_and_merged_steps(coding, size, parts):
    """Parts of spikes, and sums of steps, take bits of their own from the grid, no more and no less."""
    between = f"m = AveragePool <kernel_shape = [{size},{size}]> (r) g = Conv(m, F)"
    model = parse(f"{HEAD} {WEIGHTS} {{ h = Conv(x, W, b) r = Relu(h) {between} s = Relu(g) y = Conv(s, V) }}")
    network = spiking(model, coding, Rescale(), BiasOnFirstStep(), SnapWeights())
    merged = list(neurons(network.graph))[-1][1].schedule.merged
    conv = next(n for n in network.graph.nodes if n.op == "Conv" and n.inputs[1].values.shape == (5, 5, 1, 1))
    for row in np.asarray(conv.inputs[1].values, np.float64).reshape(5, -1):
        largest = np.abs(row).sum() * sum(merged)
        finest = _step(row) * resolution(merged) / parts
        assert 2**21 < largest / finest <= 2**24


@pytest.mark.parametrize(("size", "merged"), [(8, 2), (16, 1)])
def test_merged_steps_take_all_the_bits_that_averages_leave_them(size, merged):
    """At beta = 3 the sum of two steps takes 2 bits of 8, an average of 64 spikes the other 6."""
    between = f"m = AveragePool <kernel_shape = [{size},{size}]> (r) g = Conv(m, F)"
    body = f"h = Conv(x, W, b) r = Relu(h) {between} s = Relu(g) y = Conv(s, V)"
    model = parse(f"g (float[N,3,20,20] x) => (float[A,B,C,D] y) {WEIGHTS} {{ {body} }}")
    network = spiking(model, Coding(8, 3.0, 1, bursts=False), Rescale(), BiasOnFirstStep(), SnapWeights())
    assert len(list(neurons(network.graph))[-1][1].schedule.merged) == merged


@pytest.mark.parametrize(
    "coding", [Coding(), Coding(T=8, beta=2.0, silent=0), Coding(T=6, beta=1.3, silent=2, negative=False)]
)
def test_onnxruntime_and_numpy_send_the_same_spikes(coding):
    model = parse(RESIDUAL)
    network = spiking(model, coding, Rescale(), BiasOnFirstStep(), SnapWeights())
    feeds = random_feeds(model, batch=16)
    sent = spikes(network, feeds)
    trace = ReferenceRuntime(export_model(network)).trace(feeds)
    assert set(sent) == set(trace.spikes)
    for name, train in sent.items():
        assert np.array_equal(train, trace.spikes[name].reshape(train.shape)), name
        assert train.any()


def test_the_float64_oracle_agrees_on_the_currents():
    """With exact sums float64 differs only where one neuron's own arithmetic rounds."""
    model = parse(RESIDUAL)
    network = spiking(model, None, Rescale(), BiasOnFirstStep(), SnapWeights())
    feeds = random_feeds(model, batch=16)
    sent = spikes(network, feeds)
    oracle = ReferenceRuntime(export_model(network), np.float64).trace(feeds)
    for name, train in sent.items():
        assert np.mean(train != oracle.spikes[name].reshape(train.shape)) < 1e-3


BODIES = {
    "chain": "h = Conv(x, W, b) r = Relu(h) y = Conv(r, V)",
    "dense": "h = Conv(x, W, b) r = Relu(h) f = Flatten(r) d = Gemm <alpha = 0.7, beta = 0.3> (f, D, b) e = Relu(d) y = MatMul(e, E)",
    "concat": "h = Conv(x, W, b) r = Relu(h) c = Concat <axis = 1> (r, r) g = Conv(c, C) s = Relu(g) y = Conv(s, V)",
    "average of four": "h = Conv(x, W, b) r = Relu(h) m = AveragePool <kernel_shape = [2,2], strides = [2,2]> (r) g = Conv(m, F) s = Relu(g) y = Conv(s, V)",
    "sigmoid": "h = Conv(x, W, b) r = Sigmoid(h) g = Conv(r, F) s = Relu(g) y = Conv(s, V)",
    "layout": "h = Conv(x, W, b) t = Transpose <perm = [0,1,3,2]> (h) r = Relu(t) g = Conv(r, F) s = Relu(g) y = Conv(s, V)",
    "factor in front": "h = Conv(x, W, b) r = Relu(h) g = Mul(K, r) c = Conv(r, F) a = Add(c, g) s = Relu(a) y = Conv(s, V)",
    "identity": "h = Conv(x, W, b) r = Relu(h) s = LeakyRelu(r) g = Add(s, r) t = Relu(g) y = Conv(t, V)",
}
WEIGHTS = "<float[5,3,3,3] W, float[5] b, float[5,10,1,1] C, float[5,5,1,1] F, float[2,5,1,1] V, float[180,5] D, float[5,2] E, float[5,1,1] K>"


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("case", BODIES)
def test_all_neurons_are_exact(case, per_channel):
    head = HEAD.replace("A,B,C,D", "N,2") if case == "dense" else HEAD
    model = parse(f"{head} {WEIGHTS} {{ {BODIES[case]} }}")
    source = source_of(model, samples=16, seed=1)
    network = spiking(model, None, Rescale(), BiasOnFirstStep(), source=source, per_channel=per_channel)
    before = error(model, network)["y"]
    assert SnapWeights().apply(network) > 0
    assert texts(network, "snap-weights") == ""
    assert SnapWeights().apply(network) == 0
    check(network)
    assert error(model, network)["y"] < max(1.05 * before, before + 1e-4)
    feeds = random_feeds(model, batch=8)
    sent = spikes(network, feeds)
    trace = ReferenceRuntime(export_model(network)).trace(feeds)
    if case != "sigmoid":  # runtimes differ in the last bits of exp
        assert all(np.array_equal(t, trace.spikes[n].reshape(t.shape)) for n, t in sent.items())


def test_the_rounding_is_relative_to_the_current():
    """Small weights, as those of a neuron in the ANN's units are, keep their precision."""
    model = parse(f"{HEAD} {WEIGHTS} {{ {BODIES['sigmoid']} }}")
    before = spiking(model, None, Rescale())
    after = spiking(model, None, Rescale(), SnapWeights())
    for old, new in zip(before.graph.nodes, after.graph.nodes, strict=True):
        if old.op == "Conv" and old.outputs[0].name.startswith(("h", "g")):
            rows, snapped = (np.asarray(n.inputs[1].values, np.float64).reshape(5, -1) for n in (old, new))
            room = 2.5 / 0.5  # what a silent step takes of the grid at beta = 1.5
            assert (np.abs(rows - snapped).max(axis=1) <= 2.0**-23 * room * np.abs(rows).sum(axis=1) * 2).all()


def test_gemm_folds_alpha_and_beta():
    model = parse("""
    g (float[N,4] x) => (float[N,2] y) <float[4,5] W, float[5] b, float[5,2] V>
    { h = Gemm <alpha = 0.3, beta = 0.7> (x, W, b) r = Relu(h) y = MatMul(r, V) }
    """)
    network = spiking(model, None, Rescale(), SnapWeights())
    gemm = node_of(network, "Gemm")
    assert gemm.attrs.get("alpha", 1.0) == gemm.attrs.get("beta", 1.0) == 1.0
    rows = np.hstack([gemm.inputs[1].values.T, gemm.inputs[2].values.reshape(-1, 1)])
    for row in rows:
        assert np.abs(row.astype(np.float64)).sum() < 2**24 * _step(row)


def test_a_channel_without_weights():
    model = parse(
        f"{HEAD} {WEIGHTS} {{ {BODIES['chain']} }}",
        W=np.concatenate([np.zeros((1, 3, 3, 3)), np.random.default_rng(0).standard_normal((4, 3, 3, 3))]),
    )
    network = spiking(model, None, Rescale(), BiasOnFirstStep(), SnapWeights())
    conv = next(n for n in network.graph.nodes if n.op == "Conv")
    assert np.isfinite(conv.inputs[1].values).all()
    assert not conv.inputs[1].values[0].any()


@pytest.mark.parametrize(
    "body",
    [
        "h = Conv(x, W, b) r = Relu(h) m = AveragePool <kernel_shape = [3,3], pads = [1,1,1,1]> (r) g = Conv(m, F) s = Relu(g) y = Conv(s, V)",
        'h = Conv(x, W, b) g = Resize <mode = "linear"> (h, , scales) s = Relu(g) y = Conv(s, V)',
    ],
)
def test_a_current_that_is_no_sum_of_spikes_is_left(body):
    text = f"{HEAD} {WEIGHTS[:-1]}, float[4] scales = {{1,1,3,3}}> {{ {body} }}"
    network = spiking(parse(text), None, Rescale())
    SnapWeights().apply(network)
    assert texts(network, "snap-weights").count("cannot be made exact") == 1


def test_the_second_run_changes_no_weight():
    network = spiking(parse(RESIDUAL), None, Rescale(), BiasOnFirstStep(), SnapWeights())
    first = [n.inputs[1].values.copy() for n in network.graph.nodes if n.op == "Conv"]
    SnapWeights().apply(network)
    assert all(
        np.array_equal(a, n.inputs[1].values)
        for a, n in zip(first, (n for n in network.graph.nodes if n.op == "Conv"), strict=True)
    )


def test_resolution_of_spikes():
    text = f"{HEAD} {WEIGHTS} {{ h = Conv(x, W, b) r = Relu(h) m = AveragePool <kernel_shape = [2,2]> (r) n = Transpose <perm = [0,1,3,2]> (m) c = Concat <axis = 1> (n, n) g = Conv(c, C) s = Relu(g) y = Conv(s, V) }}"
    network = spiking(parse(text), None, Rescale())
    by_op = {n.op: n.outputs[0] for n in network.graph.nodes}
    assert spike_parts(by_op["Encode"]) == (1.0, 1.0)
    assert spike_parts(by_op["AveragePool"]) == (0.25, 1.0)
    assert spike_parts(by_op["Concat"]) == (0.25, 1.0)
    assert spike_parts(by_op["Conv"]) is None
    assert spike_parts(network.graph.inputs[0]) is None


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ("", 1.0),
        ('mode = "linear"', 1 / 16),
        ('mode = "linear", coordinate_transformation_mode = "asymmetric"', 1 / 4),
        ('mode = "linear", coordinate_transformation_mode = "align_corners"', None),
        ('mode = "cubic"', None),
        ('mode = "linear", exclude_outside = 1', None),
        ('mode = "linear", SCALES = 4', 1 / 64),
        ('mode = "linear", SCALES = 0.25', 1 / 4),
        ('mode = "linear", SCALES = 1', 1.0),
        ('mode = "linear", SCALES = 1.5', None),
        ('mode = "linear", antialias = 1, SCALES = 0.5', None),
    ],
)
def test_resolution_of_what_is_interpolated(how, wanted):
    """All weights that onnxruntime interpolates with are multiples of it, and of nothing larger."""
    how, _, scale = how.partition("SCALES = ")
    how, scales = how.strip(", "), f"{{1, 1, {scale or 2}, {scale or 2}}}"
    text = f"{HEAD} {WEIGHTS[:-1]}, float[4] s = {scales}> {{ h = Conv(x, W, b) r = Relu(h) g = Resize <{how}> (r, , s) y = Conv(g, V2) }}"
    text = text.replace("V2", "W2").replace("float[4] s", "float[2,5,1,1] W2, float[4] s").replace(" <>", "")
    network = spiking(parse(text), None, Rescale())
    found = spike_parts(node_of(network, "Resize").outputs[0])
    assert found == (None if wanted is None else (wanted, 1.0))
    if wanted is not None:
        one = parse(f"r (float[1,1,16,16] x) => (float[1,1,H,V] y) <float[4] s = {scales}> {{ y = Resize <{how}> (x, , s) }}".replace(" <>", ""))
        spike = np.zeros((1, 1, 16, 16), np.float32)
        weights = []
        for place in ((5, 5), (7, 7), (7, 8), (0, 0)):
            spike[:] = 0
            spike[0, 0][place] = 1
            weights.append(run(one, {"x": spike})["y"])
        steps = np.concatenate([w.ravel() for w in weights]) / wanted
        assert np.array_equal(steps, np.rint(steps))
        assert (steps % 2).any()


def test_rounding():
    assert np.array_equal(rounded(np.array([0.3, -0.3, 0.625]), np.asarray(0.25)), [0.25, -0.25, 0.5])
