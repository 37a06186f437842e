"""AveragesAsSums: what is averaged over no power of two is added up, and the weights next to it divide."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import numpy as np
import pytest

from csscc.dialect.adapter import export_model
from csscc.passes.convert.averages_as_sums import AveragesAsSums
from csscc.passes.convert.bias_on_first_step import BiasOnFirstStep
from csscc.passes.convert.rescale import Rescale
from csscc.passes.convert.snap_weights import SnapWeights
from csscc.pipeline import canonical
from csscc.runtime.reference import ReferenceRuntime
from tests.helpers import assert_same_network, error, ops, parse, random_feeds, source_of, spikes, spiking, texts

HEAD = "g (float[N,3,7,7] x) => (float[a,b,c,d] y)"
WEIGHTS = (
    "<float[4,3,1,1] W, float[4] b, float[4,4,1,1] A, float[4,4,1,1] V, int64[2] axes = {2, 3}, int64[1] one = {-1}>"
)
AVERAGES = {
    "global": ("m = GlobalAveragePool({})", "ReduceSum"),
    "mean": ("m = ReduceMean({}, axes)", "ReduceSum"),
    "mean of rows": ("m = ReduceMean({}, one)", "ReduceSum"),
    "windows": ("m = AveragePool <kernel_shape = [3,2], strides = [2,1]> ({})", "Conv"),
    "counted padding": ("m = AveragePool <kernel_shape = [3,3], pads = [1,1,1,1], count_include_pad = 1> ({})", "Conv"),
    "whole windows": ("m = AveragePool <kernel_shape = [3,3], strides = [2,2], ceil_mode = 1> ({})", "Conv"),
}


def _model(average, source="r"):
    return parse(
        f"{HEAD} {WEIGHTS} {{ h = Conv(x, W, b) r = Relu(h) {average.format(source)} k = Conv(m, A) q = Relu(k) y = Conv(q, V) }}"
    )


@pytest.mark.parametrize("source", ["r", "h"], ids=["of spikes", "of currents"])
@pytest.mark.parametrize("case", AVERAGES)
def test_fires(case, source):
    average, op = AVERAGES[case]
    model = _model(average, source)
    network = canonical(model)
    assert op in ops(network)
    assert not {"GlobalAveragePool", "ReduceMean", "AveragePool"} & set(ops(network))
    assert_same_network(model, network)
    assert AveragesAsSums().apply(network) == 0


@pytest.mark.parametrize("case", AVERAGES)
def test_every_sum_is_exact(case):
    model = _model(AVERAGES[case][0])
    source = source_of(model, samples=16, seed=1)
    network = spiking(model, None, Rescale(), BiasOnFirstStep(), SnapWeights(), source=source)
    assert texts(network, "snap-weights") == ""
    assert error(model, network)["y"] < 0.05
    feeds = random_feeds(model, batch=8)
    trace = ReferenceRuntime(export_model(network)).trace(feeds)
    assert all(np.array_equal(t, trace.spikes[n].reshape(t.shape)) for n, t in spikes(network, feeds).items())


@pytest.mark.parametrize(
    "average",
    [
        "m = AveragePool <kernel_shape = [2,2]> ({})",
        "m = AveragePool <kernel_shape = [3,3], pads = [1,1,1,1]> ({})",
        "m = AveragePool <kernel_shape = [3,3], strides = [3,3], ceil_mode = 1> ({})",
        "m = ReduceSum({}, axes)",
    ],
    ids=["a power of two", "windows of different sizes", "parts of windows", "a sum"],
)
def test_declines(average):
    network = canonical(_model(average))
    assert ops(network).count("Conv") == 3
    assert average.split(" ")[2].split("(")[0] in ops(network)


def test_declines_where_no_neuron_listens():
    text = "{ h = Conv(x, W, b) r = Relu(h) m = GlobalAveragePool(r) y = Conv(m, V) }"
    assert "GlobalAveragePool" in ops(canonical(parse(f"{HEAD} {WEIGHTS} {text}")))
    text = "{ h = Conv(x, W, b) r = Relu(h) m = GlobalAveragePool(r) k = Conv(m, A) q = Tanh(k) y = Conv(q, V) }"
    assert "ReduceSum" in ops(canonical(parse(f"{HEAD} {WEIGHTS} {text}")))
