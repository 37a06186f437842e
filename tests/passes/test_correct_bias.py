"""CorrectBias: what neurons receive is on average what the ANN's units receive, measured in onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from csscc.coding.coding import Coding
from csscc.dialect.adapter import export_model
from csscc.passes.convert.bias_on_first_step import BiasOnFirstStep
from csscc.passes.convert.correct_bias import CorrectBias
from csscc.passes.convert.rescale import Rescale
from csscc.passes.convert.snap_weights import SnapWeights
from tests.helpers import check, parse, random_feeds, run, source_of, spiking

CODING = Coding(T=4, beta=2.0)
TEXT = """
g (float[N,3,8,8] x) => (float[N,3] y)
<float[5,3,3,3] W, float[5] b, float[4,5,3,3] U, float[4] d, int64[2] shape = {0, -1}, float[256,3] V, float[3] e>
{
  h = Conv <pads = [1,1,1,1]> (x, W, b) r = Relu(h)
  i = Conv <pads = [1,1,1,1]> (r, U, d) s = ACTIVATION(i) f = Reshape(s, shape) y = Gemm(f, V, e)
}
"""


def _pair(activation="Relu", *passes, coding=CODING, samples=64):
    model = parse(TEXT.replace("ACTIVATION", activation))
    source = source_of(model, samples=samples)
    network = spiking(model, coding, Rescale(), *passes, SnapWeights(), source=source)
    return model, network, source


def _mean_shift(model, network, feeds) -> np.ndarray:
    """Mean output of the SNN less that of the ANN, per class, relative to the ANN's spread."""
    expected, got = run(model, feeds)["y"], run(export_model(network), feeds)["y"]
    return (got - expected).mean(axis=0) / expected.std()


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "Sigmoid"])
@pytest.mark.parametrize("passes", [(), (BiasOnFirstStep(),)], ids=["spread", "first step"])
def test_the_mean_output_is_that_of_the_ann(activation, passes):
    model, network, source = _pair(activation, *passes)
    feeds = next(iter(source.batches(64)))
    before = np.abs(_mean_shift(model, network, feeds)).max()
    assert CorrectBias(source).apply(network) == 3
    check(network)
    assert CorrectBias(source).apply(network) == 0
    after = np.abs(_mean_shift(model, network, feeds)).max()
    assert before > 1e-3
    assert after < before / 100


def test_other_samples_gain_too():
    """Positive spikes are sent at all of their weight, so every layer says less than the ANN."""
    model, network, source = _pair(coding=Coding(T=6, beta=2.0, negative=False), samples=256)
    others = random_feeds(model, batch=512, seed=77)
    before = np.abs(_mean_shift(model, network, others)).max()
    CorrectBias(source).apply(network)
    assert np.abs(_mean_shift(model, network, others)).max() < before / 2


def test_every_layer_receives_what_the_ann_receives():
    """Per channel of each convolution; the measure notices a shifted layer."""
    model, network, source = _pair("Relu", BiasOnFirstStep())
    CorrectBias(source).apply(network)
    feeds = next(iter(source.batches(64)))
    shifts = _heard(model, network, feeds)
    assert max(np.abs(s).max() for s in shifts) < 1e-4
    neuron = next(n for n in network.graph.nodes if n.op == "TSARelu")
    neuron.inputs[1].values = neuron.inputs[1].values + 0.5
    assert np.abs(_heard(model, network, feeds)[0]).max() > 1e-2


def _heard(model, network, feeds):
    ann = onnx.ModelProto()
    ann.CopyFrom(model)
    ann.graph.output.extend(onnx.ValueInfoProto(name=n) for n in ("h", "i"))
    wanted = run(ann, feeds)
    snn = export_model(network)
    neurons = [n for n in snn.graph.node if n.op_type == "TSARelu"]
    snn.graph.output.extend(onnx.ValueInfoProto(name=n.input[0]) for n in neurons)
    got = run(snn, feeds)
    values = {t.name: onnx.numpy_helper.to_array(t) for t in snn.graph.initializer}
    shifts = []
    for node, name in zip(neurons, ("h", "i"), strict=True):
        z = got[node.input[0]].astype(np.float64)
        z = z.reshape(CODING.T, -1, *z.shape[1:])
        total = (np.tensordot(CODING.weights, z, axes=1) + values[node.input[1]]) * values[node.input[2]]
        shifts.append((total - wanted[name]).mean(axis=(0, 2, 3)))
    return shifts


def test_spikes_stay_exact():
    """The reference sends the same spikes after the correction."""
    from csscc.runtime.reference import ReferenceRuntime

    model, network, source = _pair("Relu", BiasOnFirstStep())
    CorrectBias(source).apply(network)
    snn = export_model(network)
    feeds = random_feeds(model, batch=5, seed=9)
    trains = ReferenceRuntime(snn).trace(feeds).spikes
    outputs = {n.name: n.output[0] for n in snn.graph.node if n.name in trains}
    snn.graph.output.extend(onnx.ValueInfoProto(name=n) for n in outputs.values())
    got = run(snn, feeds)
    for name, train in trains.items():
        np.testing.assert_array_equal(got[outputs[name]], train.reshape(-1, *train.shape[2:]))
