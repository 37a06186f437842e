"""Calibrate: histograms of what spikes will carry, against NumPy on the same samples."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import numpy as np
import pytest

from csscc.errors import PassError
from csscc.passes.convert.calibrate import Calibrate
from csscc.passes.convert.find_regions import FindRegions
from tests.helpers import assert_same_network, network_of, parse, random_feeds, run, source_of

TEXT = """
g (float[N,3,8,8] x) => (float[N,2] y) <float[5,3,3,3] W, float[5] b, float[320,6] V, float[6,2] U, int64[2] s = {-1, 320}>
{
  h = Conv <pads = [1,1,1,1]> (x, W, b)
  r = LeakyRelu <alpha = 0.1> (h)
  f = Reshape(r, s)
  d = MatMul(f, V)
  e = Relu(d)
  y = MatMul(e, U)
}
"""
SAMPLES = 70


def _calibrated(model, **options):
    network = network_of(model)
    network.batch = "N"
    FindRegions().apply(network)
    Calibrate(source_of(model, samples=SAMPLES), **options).apply(network)
    assert network.calibration.samples == SAMPLES
    return network


def _activations(model):
    inner = type(model)()
    inner.CopyFrom(model)
    for name in ("r", "e"):
        inner.graph.output.add(name=name)
    feeds = random_feeds(model, batch=SAMPLES, seed=7)
    return feeds | run(inner, feeds)


def test_a_row_for_each_channel_of_a_convolution():
    model = parse(TEXT)
    calibration = _calibrated(model).calibration
    assert calibration.axes == {"x": 1, "r": 1, "e": None}
    assert calibration.samples == SAMPLES
    values = _activations(model)
    for name, axis in calibration.axes.items():
        histogram = calibration.histograms[name]
        rows = (
            values[name].reshape(1, -1)
            if axis is None
            else np.moveaxis(values[name], 1, 0).reshape(values[name].shape[1], -1)
        )
        assert histogram.seen == rows.shape[1]
        np.testing.assert_allclose(histogram.largest, np.abs(rows).max(axis=1), rtol=1e-6)
        np.testing.assert_allclose(histogram.sums, rows.sum(axis=1, dtype=np.float64), rtol=1e-4, atol=1e-3)
        assert np.array_equal(histogram.counts.sum(axis=1), np.full(len(rows), rows.shape[1]))
        bins = 2 * np.abs(rows).max(axis=1) / histogram.bins
        for percent in (50, 90, 99.9):
            wanted = np.percentile(np.abs(rows), percent, axis=1)
            spread = np.abs(np.percentile(np.abs(rows), min(100, percent + 0.2), axis=1) - wanted)
            assert (np.abs(histogram.percentile(percent) - wanted) <= 2 * bins + spread).all()


def test_one_row_for_a_layer():
    model = parse(TEXT)
    calibration = _calibrated(model, per_channel=False).calibration
    assert calibration.axes == {"x": None, "r": None, "e": None}
    values = _activations(model)
    for name in calibration.axes:
        assert calibration.histograms[name].channels == 1
        np.testing.assert_allclose(calibration.histograms[name].largest, [np.abs(values[name]).max()], rtol=1e-6)


def test_few_positions_share_a_histogram():
    model = parse("""
    g (float[N,3,4,4] x) => (float[N,2,1,1] y) <float[5,3,2,2] W, float[2,5,3,3] V>
    { h = Conv(x, W) r = Relu(h) y = Conv(r, V) }
    """)
    assert _calibrated(model).calibration.axes == {"x": 1, "r": None}


def test_channels_of_a_matrix_product_are_last():
    model = parse("""
    g (float[N,16,6] x) => (float[N,16,2] y) <float[6,16] W, float[16,2] V>
    { h = MatMul(x, W) r = Relu(h) y = MatMul(r, V) }
    """)
    calibration = _calibrated(model).calibration
    assert calibration.axes["r"] == 2
    assert calibration.histograms["r"].channels == 16


def test_channels_follow_a_transposition():
    model = parse("""
    g (float[N,3,8,8] x) => (float[N,8,8,2] y) <float[5,3,3,3] W, float[5,2] V>
    { h = Conv <pads = [1,1,1,1]> (x, W) t = Transpose <perm = [0, 2, 3, 1]> (h) r = Relu(t) y = MatMul(r, V) }
    """)
    assert _calibrated(model).calibration.axes["r"] == 3


def test_softmax_rows_share_an_amplitude():
    model = parse("""
    g (float[N,16,6] x) => (float[N,16,2] y) <float[6,16] W, float[16,2] V>
    { h = MatMul(x, W) r = Softmax(h) y = MatMul(r, V) }
    """)
    assert _calibrated(model).calibration.axes["r"] is None


def test_progress_counts_all_samples():
    seen = []
    _calibrated(parse(TEXT), progress=lambda done, total: seen.append((done, total)))
    assert sum(done for done, _ in seen) == SAMPLES
    assert {total for _, total in seen} == {SAMPLES}


def test_a_second_run_gives_the_same_and_the_network_stays():
    model = parse(TEXT)
    network = _calibrated(model)
    first = network.calibration
    assert Calibrate(source_of(model, samples=SAMPLES)).apply(network) == 0
    for name, histogram in first.histograms.items():
        assert np.array_equal(histogram.counts, network.calibration.histograms[name].counts)
    assert_same_network(model, network)


def test_it_counts_the_tensors_whose_statistics_are_new():
    network = _calibrated(parse(TEXT))
    assert Calibrate(source_of(parse(TEXT), samples=SAMPLES, seed=8)).apply(network) == len("xre")
    assert Calibrate(source_of(parse(TEXT), samples=SAMPLES, seed=8), per_channel=False).apply(network) == len("xr")


def test_needs_regions():
    network = network_of(parse(TEXT))
    with pytest.raises(PassError, match="regions"):
        Calibrate(source_of(parse(TEXT))).requires(network)
