"""SetAmplitudes: theta = p / sum(q), p by four methods."""

from __future__ import annotations

import numpy as np
import pytest

import csscc
from csscc.coding.coding import Coding
from csscc.errors import PassError
from csscc.io.data import InputSpec, open_source
from csscc.passes.convert.find_regions import FindRegions
from csscc.passes.convert.set_amplitudes import SetAmplitudes, entropy_ranges, mse_ranges
from csscc.statistics import Calibration, Histogram
from tests.helpers import calibrated, network_of, parse, random_feeds, run

TEXT = """
g (float[N,3,8,8] x) => (float[N,2,8,8] y) <float[5,3,3,3] W, float[5] b, float[2,5,1,1] V>
{ h = Conv <pads = [1,1,1,1]> (x, W, b) r = Relu(h) y = Conv(r, V) }
"""
ROOM = 1.25 * 4 ** (1 / 3)  # of 64 samples


def _levels(coding):
    return sum(coding.beta**k for k in range(coding.T))


def _values():
    model = parse(TEXT)
    feeds = random_feeds(model, batch=64, seed=7)
    model.graph.output.add(name="r")
    return np.abs(feeds["x"]), run(model, feeds)["r"]


@pytest.mark.parametrize("coding", [Coding(T=8), Coding(T=5, beta=2.0)])
def test_largest_value_per_channel(coding):
    amplitudes = calibrated(parse(TEXT), coding, method="max").amplitudes
    x, r = _values()
    assert amplitudes["x"].shape == (3, 1, 1)
    assert amplitudes["r"].shape == (5, 1, 1)
    np.testing.assert_allclose(amplitudes["x"].reshape(-1), x.max(axis=(0, 2, 3)) / _levels(coding), rtol=1e-6)
    np.testing.assert_allclose(amplitudes["r"].reshape(-1), r.max(axis=(0, 2, 3)) / _levels(coding), rtol=1e-6)


def test_largest_value_per_layer():
    amplitudes = calibrated(parse(TEXT), Coding(T=8), method="max", per_channel=False).amplitudes
    x, r = _values()
    assert amplitudes["x"].shape == amplitudes["r"].shape == ()
    np.testing.assert_allclose(amplitudes["r"], r.max() / _levels(Coding(T=8)), rtol=1e-6)
    np.testing.assert_allclose(amplitudes["x"], x.max() / _levels(Coding(T=8)), rtol=1e-6)


@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.99])
def test_percentile(percentile):
    network = calibrated(parse(TEXT), Coding(T=8), per_channel=False)
    SetAmplitudes("percentile", percentile).apply(network)
    x, r = _values()
    assert (r == 0).mean() > 0.3
    wanted = np.percentile(r[r > 0], percentile)
    assert float(network.amplitudes["r"]) * _levels(Coding(T=8)) == pytest.approx(wanted, rel=5e-3)
    assert float(network.amplitudes["x"]) * _levels(Coding(T=8)) == pytest.approx(x.max(), rel=1e-6)


@pytest.mark.parametrize("method", ["max", "percentile", "mse", "entropy"])
def test_an_encoder_covers_its_largest_input(method):
    network = calibrated(parse(TEXT), Coding(T=8), method=method)
    x, r = _values()
    np.testing.assert_allclose(
        network.amplitudes["x"].reshape(-1) * _levels(Coding(T=8)), x.max(axis=(0, 2, 3)), rtol=1e-6
    )
    assert (network.amplitudes["r"].reshape(-1) * _levels(Coding(T=8)) <= r.max(axis=(0, 2, 3)) * (1 + 1e-6)).all()
    before = {n: a.copy() for n, a in network.amplitudes.items()}
    assert SetAmplitudes(method).apply(network) == 0
    assert all(np.array_equal(before[n], a) for n, a in network.amplitudes.items())


def _quantised_error(values, limit, levels):
    theta = limit / levels
    return np.mean((np.clip(np.rint(values / theta), 0, np.floor(levels)) * theta - values) ** 2)


@pytest.mark.parametrize("levels", [15.0, 49.3, 257.0])
@pytest.mark.parametrize("kind", ["normal", "exponential", "outlier"])
def test_mse_is_near_the_best_uniform_quantiser(rng, kind, levels):
    values = {
        "normal": np.maximum(rng.standard_normal(40000), 0),
        "exponential": rng.exponential(1.0, 40000),
        "outlier": np.append(rng.uniform(0, 1, 40000), 50.0),
    }[kind]
    histogram = Histogram(1, 8192)
    histogram.add(values[None])
    candidates = values.max() * np.geomspace(0.01, 1, 200)
    best = min(_quantised_error(values, c, levels) for c in candidates)
    (limit,) = mse_ranges(histogram, levels)
    assert _quantised_error(values, limit, levels) <= 1.15 * best


def test_mse_cuts_an_outlier_off_and_max_does_not(rng):
    values = np.append(rng.uniform(0, 1, 100000), 8.0)[None]
    histogram = Histogram(1)
    histogram.add(values)
    assert mse_ranges(histogram, 30.0)[0] < 4
    assert SetAmplitudes("max").ranges(histogram, "max", 30.0)[0] == 8.0


def test_entropy_cuts_a_long_tail(rng):
    histogram = Histogram(2)
    histogram.add(np.stack([rng.uniform(0, 1, 50000), np.append(np.abs(rng.normal(0, 0.3, 49990)), np.full(10, 8.0))]))
    ranges = entropy_ranges(histogram, 50.0)
    assert ranges[0] > 0.9
    assert ranges[1] < 4


def test_rows_are_independent(rng):
    values = rng.exponential(1.0, (3, 5000)) * np.array([[1.0], [10.0], [0.1]])
    together = Histogram(3)
    together.add(values)
    for row in range(3):
        alone = Histogram(1)
        alone.add(values[row : row + 1])
        for f in (mse_ranges, entropy_ranges):
            assert f(together, 40.0)[row] == pytest.approx(f(alone, 40.0)[0], rel=1e-9)


@pytest.mark.parametrize(
    ("coding", "headroom"), [(Coding(T=8), 1.0), (Coding(T=20), ROOM), (Coding(T=8, beta=3.0), ROOM)]
)
def test_where_levels_abound_larger_values_than_those_seen_have_room(coding, headroom):
    """Of 49 levels none is spare; of 3,280 and more half is, where 64 samples are all. A percentile's cut stays."""
    x, r = _values()
    for method, room in (("max", headroom), ("percentile", 1.0)):
        amplitudes = calibrated(parse(TEXT), coding, method=method, per_channel=False).amplitudes
        limit = r.max() if method == "max" else np.percentile(r[r > 0], 99.99)
        assert float(amplitudes["r"]) * _levels(coding) == pytest.approx(room * limit, rel=5e-3)
        assert float(amplitudes["x"]) * _levels(coding) == pytest.approx(room * x.max(), rel=1e-6)


DENSE = """
g (float[N,6] x) => (float[N,2] y) <float[6,8] W, float[8,2] V> { h = MatMul(x, W) r = Relu(h) y = MatMul(r, V) }
"""


@pytest.mark.parametrize("bounded", [True, False])
def test_inputs_that_reach_no_bound_have_room_as_well(bounded, rng):
    x = (rng.integers(0, 16, (200, 6)) / 15 if bounded else rng.standard_normal((16, 6))).astype(np.float32)
    source = open_source(x, (InputSpec("x", (None, 6), "float32"),))
    amplitudes = calibrated(parse(DENSE), Coding(T=8, beta=3.0), source=source).amplitudes
    largest = amplitudes["x"] * _levels(Coding(T=8, beta=3.0))
    np.testing.assert_allclose(largest, (1 if bounded else 2) * np.abs(x).max(), rtol=1e-6)


def test_few_samples_to_calibrate_with_are_enough(rng):
    """Of a thousand inputs some are far larger than the largest of 16."""
    model, x = parse(DENSE), rng.standard_normal((1016, 6)).astype(np.float32)
    snn = csscc.compile(model, calibration=x[:16])
    expected, got = run(model, {"x": x[16:]})["y"], snn.run(x[16:])
    assert np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2)) < 5e-3


@pytest.mark.parametrize("method", ["max", "percentile", "mse", "entropy"])
def test_silent_channels_get_a_positive_amplitude(method):
    network = network_of(parse(TEXT))
    FindRegions().apply(network)
    silent, dead = Histogram(5), Histogram(3)
    silent.add(np.array([[1.0, 2.0, 3.0]] * 2 + [[0.0] * 3] * 3))
    dead.add(np.zeros((3, 4)))
    network.calibration = Calibration({"x": dead, "r": silent}, {"x": 1, "r": 1}, 3)
    SetAmplitudes(method).apply(network)
    assert (network.amplitudes["x"] > 0).all()
    assert (network.amplitudes["r"] > 0).all()
    assert (network.amplitudes["r"][2:] < network.amplitudes["r"][:2].min()).all()


def test_it_counts_the_amplitudes_that_are_new():
    network = calibrated(parse(TEXT), method="max")
    network.amplitudes["r"] = network.amplitudes["r"] * 1.1
    assert SetAmplitudes("max").apply(network) == 1
    assert SetAmplitudes("max").apply(network) == 0
    network.amplitudes.clear()
    assert SetAmplitudes("max").apply(network) == 2


def test_needs_a_calibration():
    network = network_of(parse(TEXT))
    with pytest.raises(PassError, match="not calibrated"):
        SetAmplitudes().requires(network)
