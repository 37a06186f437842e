"""The fake-quantised ANN: by hand in NumPy, and near the spiking network it stands for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from csscc.coding.coding import Coding
from csscc.dialect.adapter import export_model
from csscc.passes.convert.bias_on_first_step import BiasOnFirstStep
from csscc.passes.convert.correct_bias import CorrectBias
from csscc.passes.convert.fake_quantise import fake_quantised, mean_name, received_tensors
from csscc.passes.convert.rescale import Rescale
from csscc.passes.convert.snap_weights import SnapWeights
from tests.helpers import calibrated, parse, random_feeds, run, source_of, spiking

TEXT = """
g (float[N,3,8,8] x) => (float[N,2,8,8] y) <float[5,3,3,3] W, float[5] b, float[4,5,3,3] U, float[2,4,1,1] V>
{
  h = Conv <pads = [1,1,1,1]> (x, W, b) r = Relu(h)
  i = Conv <pads = [1,1,1,1]> (r, U) s = Sigmoid(i) y = Conv(s, V)
}
"""


def _answers(model: onnx.ModelProto, network, feeds):
    ann = onnx.ModelProto()
    ann.CopyFrom(model)
    received = [n for n in received_tensors(network) if n != "y"]
    ann.graph.output.extend(onnx.ValueInfoProto(name=n) for n in received)
    values = run(ann, feeds)
    means = {mean_name(n): values[n].mean(axis=0) for n in (*received, "y")}
    return run(export_model(replace(network, graph=fake_quantised(network))), {**feeds, **means})["y"], values["y"]


def test_one_layer_by_hand():
    text = "g (float[N,4] x) => (float[N,3] y) <float[4,5] W, float[5,3] V>"
    model = parse(text + "{ h = MatMul(x, W) r = Relu(h) y = MatMul(r, V) }")
    network = calibrated(model, Coding(T=4, beta=2.0))
    feeds = random_feeds(model, batch=16)
    W, V = (onnx.numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer)

    def quantised(values, name):
        theta = network.amplitudes[name].reshape(-1)
        return theta * np.clip(np.rint(values / theta), -15, 15)

    def centred(values, exact):
        return values - (values - exact).mean(axis=0)

    x = feeds["x"].astype(np.float64)
    h = centred(quantised(x, "x") @ W, x @ W)
    y = centred(quantised(np.maximum(h, 0), "r") @ V, np.maximum(x @ W, 0) @ V)
    got, exact = _answers(model, network, feeds)
    np.testing.assert_allclose(got, y, atol=1e-4)
    assert np.abs(got - exact).max() > 1e-2


@pytest.mark.parametrize("T", [4, 5, 6])
def test_its_error_is_that_of_spikes(T):
    """With two silent steps and corrected biases, within a third."""
    model, coding = parse(TEXT), Coding(T=T, beta=2.0, silent=2)
    source = source_of(model, samples=64)
    feeds = next(iter(source.batches(64)))
    got, exact = _answers(model, calibrated(model, coding, source=source), feeds)
    network = spiking(model, coding, Rescale(), BiasOnFirstStep(), SnapWeights(), source=source)
    CorrectBias(source).apply(network)
    spikes = run(export_model(network), feeds)["y"]
    errors = [np.sqrt(np.mean((v - exact) ** 2)) for v in (got, spikes)]
    assert errors[0] == pytest.approx(errors[1], rel=1 / 3)


def test_the_ann_stays_as_it_was():
    network = calibrated(parse(TEXT), Coding(T=4))
    before = export_model(network).SerializeToString()
    fake_quantised(network)
    assert export_model(network).SerializeToString() == before
