"""Histograms against NumPy on all the values at once, and collection against the ANN's own activations."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csscc.runtime.observe import collect
from csscc.statistics import Histogram, channel_rows

common = settings(deadline=None, max_examples=60, derandomize=True)


@common
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 6), st.floats(1e-3, 1e3))
def test_a_histogram_in_parts_is_the_distribution(seed: int, channels: int, parts: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    values = [rng.standard_normal((channels, int(rng.integers(1, 400)))) * scale * 3**k for k in range(parts)]
    histogram = Histogram(channels)
    for part in values:
        histogram.add(part.astype(np.float32))
    everything = np.concatenate(values, axis=1).astype(np.float32)
    magnitude = np.abs(everything)
    np.testing.assert_array_equal(histogram.counts.sum(axis=1), everything.shape[1])
    assert histogram.seen == everything.shape[1]
    np.testing.assert_array_equal(histogram.largest, magnitude.max(axis=1))
    np.testing.assert_allclose(histogram.sums, everything.sum(axis=1, dtype=np.float64), rtol=1e-5, atol=1e-4 * scale)
    assert (histogram.ends >= histogram.largest).all()
    width = histogram.ends / histogram.bins
    for percent in (50.0, 90.0, 99.9, 100.0):
        position = int(np.ceil(percent / 100 * everything.shape[1])) - 1
        exact = np.sort(magnitude, axis=1)[:, max(position, 0)]
        assert (np.abs(histogram.percentile(percent) - exact) <= 1.01 * width + 1e-12).all()
    mean = (histogram.counts * histogram.centres).sum(axis=1) / histogram.seen
    assert (np.abs(mean - magnitude.mean(axis=1)) <= width).all()


def test_zeros_and_late_values() -> None:
    histogram = Histogram(2, bins=8)
    histogram.add(np.zeros((2, 5)))
    np.testing.assert_array_equal(histogram.percentile(99.9), [0, 0])
    histogram.add(np.array([[0.0], [4.0]]))
    np.testing.assert_array_equal(histogram.largest, [0, 4])
    np.testing.assert_array_equal(histogram.counts.sum(axis=1), [6, 6])
    assert histogram.counts[1, 0] == 5


def test_percentiles_of_what_is_not_zero() -> None:
    rng = np.random.default_rng(5)
    values = np.maximum(rng.standard_normal((3, 4000)) - np.array([[0.0], [1.0], [9.0]]), 0).astype(np.float32)
    histogram = Histogram(3)
    for part in np.split(values, 4, axis=1):
        histogram.add(part)
    got = histogram.percentile(90.0, without_zeros=True)
    wanted = [np.percentile(row[row > 0], 90.0) for row in values[:2]]
    np.testing.assert_allclose(got[:2], wanted, rtol=0.02)
    assert got[2] == 0  # never anything but zero
    everything = histogram.merged().percentile(90.0, without_zeros=True)
    np.testing.assert_allclose(everything, np.percentile(values[values > 0], 90.0), rtol=0.02)


@pytest.mark.parametrize("axis", [None, 1, 2])
def test_channel_rows(axis: int | None) -> None:
    x = np.arange(24).reshape(2, 3, 4)
    rows = channel_rows(x, axis)
    if axis is None:
        np.testing.assert_array_equal(rows, x.reshape(1, 24))
    else:
        for c in range(x.shape[axis]):
            np.testing.assert_array_equal(np.sort(rows[c]), np.sort(x.take(c, axis=axis).ravel()))


def test_collect_sees_every_activation_of_every_batch() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    g (float[N,3,4] x) => (float[N,3,4] y)
    <float[1] two = {-2.0}>
    { a = Relu(x) b = Mul(a, two) y = Neg(b) }
    """
    x = np.random.default_rng(0).standard_normal((10, 3, 4)).astype(np.float32)
    reported: list[int] = []
    batches = [{"x": x[:4]}, {"x": x[4:9]}, {"x": x[9:]}]
    result = collect(onnx.parser.parse_model(text), {"x": None, "a": 1, "b": 2}, batches, progress=reported.append)
    assert (result.samples, reported) == (10, [4, 5, 1])
    a = np.maximum(x, 0)
    np.testing.assert_array_equal(result.histograms["x"].largest, [np.abs(x).max()])
    np.testing.assert_array_equal(result.histograms["a"].largest, a.max(axis=(0, 2)))
    np.testing.assert_array_equal(result.histograms["b"].largest, 2 * a.max(axis=(0, 1)))
    np.testing.assert_allclose(result.histograms["b"].sums, -2 * a.sum(axis=(0, 1)), rtol=1e-5)
    assert {n: h.seen for n, h in result.histograms.items()} == {"x": 120, "a": 40, "b": 30}
