"""Segments: layer by layer, the same spikes as the whole network in one onnxruntime session."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import csscc
from csscc.coding.coding import Coding
from csscc.dialect.adapter import export_model
from csscc.passes.convert.bias_on_first_step import BiasOnFirstStep
from csscc.passes.convert.rescale import Rescale
from csscc.passes.convert.snap_weights import SnapWeights
from csscc.runtime.segments import LayerRuns, segments
from tests.helpers import parse, random_feeds, rms, run, spiking

CODING = Coding(T=6, beta=2.0)
TEXT = """
g (float[{batch},3,8,8] x) => (float[{batch},2,8,8] y, float[{batch},4,8,8] s)
<float[4,3,3,3] W, float[4] b, float[4,4,3,3] U, float[4] d, float[2,4,1,1] V>
{{
  h = Conv <pads = [1,1,1,1]> (x, W, b) r = Relu(h)
  i = Conv <pads = [1,1,1,1]> (r, U, d) j = Add(i, r) s = Sigmoid(j) k = Conv(s, V) m = Mul(k, k) y = Relu(m)
}}
"""


def _network(batch: str = "N") -> onnx.ModelProto:
    passes = (Rescale(), BiasOnFirstStep(), SnapWeights())
    return export_model(spiking(parse(TEXT.format(batch=batch)), CODING, *passes))


def _whole(model: onnx.ModelProto, feeds, names):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names)
    return run(copy, feeds)


@pytest.mark.parametrize("batch", ["N", "4"])
def test_spikes_and_mean_currents_are_those_of_the_whole_network(batch):
    model = _network(batch)
    feeds = random_feeds(model, batch=4), random_feeds(model, batch=4, seed=2)
    found = segments(model)
    assert [s.node.op_type for s in found] == ["Encode", "TSARelu", "TSASigmoid", "Decode", "Decode"]
    names = [n for s in found for n in (*s.view.current, s.node.output[0])]
    whole = [_whole(model, f, [n for n in names if n not in ("y", "s")]) for f in feeds]
    for layer in LayerRuns(model, list(feeds)):
        if current := layer.segment.view.current:
            (got,) = layer.mean_currents()
            both = np.concatenate([w[current[0]].reshape(6, 4, *got.shape[1:]) for w in whole], axis=1)
            np.testing.assert_allclose(got, both.mean(axis=1), atol=1e-5)
        output = layer.segment.node.output[0]
        if layer.segment.node.op_type != "Decode":
            layer.complete()
            for kept, expected in zip(layer._runs._spikes[output], whole, strict=True):
                np.testing.assert_array_equal(kept, expected[output])


def test_inputs_that_share_a_bias_get_one_each():
    """Max(h, g): the network holds one zero for both."""
    text = """
    g (float[N,3,4,4] x) => (float[N,2,4,4] y) <float[4,3,1,1] W, float[4,3,1,1] U, float[2,4,1,1] V>
    { h = Conv(x, W) i = Conv(x, U) r = Max(h, i) y = Conv(r, V) }
    """
    model = export_model(spiking(parse(text), CODING, Rescale(), SnapWeights()))
    feeds = random_feeds(model, batch=4)
    for layer in LayerRuns(model, [feeds]):
        if layer.segment.node.op_type == "TSAMax":
            assert len(layer.biases) == 2
            layer.biases = {n: (b - 100 * i).astype(np.float32) for i, (n, b) in enumerate(layer.biases.items())}
            layer.complete()
            (spikes,) = layer._runs._spikes[layer.segment.node.output[0]]
            expected = _whole(model, feeds, [layer.segment.node.output[0]])[layer.segment.node.output[0]]
            assert (spikes != expected).any()


def test_a_changed_bias_reaches_the_next_layer():
    model = _network()
    feeds = [random_feeds(model, batch=4)]
    means = []
    for shift in (0.0, 100.0):
        layers = LayerRuns(model, feeds)
        for layer in layers:
            if layer.segment.node.op_type == "TSARelu":
                layer.biases = {n: (b + shift).astype(np.float32) for n, b in layer.biases.items()}
            if layer.segment.node.op_type == "TSASigmoid":
                means.append(layer.mean_currents()[0])
                break
    assert np.abs(means[1] - means[0]).max() > 0.1


def test_trains_are_dropped_behind_their_last_reader():
    model = _network()
    runs = LayerRuns(model, [random_feeds(model, batch=4)])
    held = [set(runs._spikes) for _ in runs]
    assert max(len(h) for h in held) <= 2
    assert not runs._spikes


def test_a_neuron_may_hear_one_current_twice():
    """Attention whose queries are its values: each membrane has a bias of its own."""
    text = """g (float[N,3,4] x) => (float[N,3,4] y) <float[4,4] w, float[4,4] v, float[4,4] u>
    { q = MatMul(x, w) k = MatMul(x, v) t = Transpose <perm = [0,2,1]> (k) s = MatMul(q, t) m = Softmax <axis = -1> (s)
      o = MatMul(m, q) y = MatMul(o, u) }"""
    model = parse(text)
    feeds = random_feeds(model, batch=32)
    logits = run(model, feeds)["y"]
    assert rms(csscc.compile(model, feeds, T=16).run(feeds["x"]) - logits) < 0.02 * rms(logits)
