"""Features of very different scale have clipping ranges of their own, as far as samples held out bear them out."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest

import csscc
from csscc.passes.convert.feature_ranges import feature_ranges, gain_of, not_too_small
from csscc.statistics import Histogram
from tests.helpers import parse, run

LEVELS, ROOM = 1000.0, 1.25
DENSE = """g (float[N,6] x) => (float[N,2] y) <float[6,16] W, float[16] b, float[16,2] V>
{ a = Gemm(x, W, b) r = Relu(a) y = MatMul(r, V) }"""
SCALES = np.array([1e-3, 0.1, 1.0, 30.0, 2000.0, 1e4])


CONVOLUTION = """g (float[N,6,40] x) => (float[N,2,38] y) <float[16,6,3] W, float[16] b, float[2,16,1] V>
{ a = Conv(x, W, b) r = Relu(a) y = Conv(r, V) }"""


def _counted(values):
    histogram = Histogram(len(values))
    histogram.add(values)
    return histogram


def _chosen(fitted, apart, gain, **options):
    a, b = _counted(fitted), _counted(apart)
    return feature_ranges(a, b, a.plus(b), LEVELS, ROOM, np.asarray(gain), **options)


def test_equal_parts_in_the_pre_activation_get_ranges_of_their_own(rng):
    """As where a scaler is multiplied into the weights: what is large meets small ones."""
    parts = [SCALES[:, None] * rng.uniform(-1, 1, (6, n)) for n in (600, 200)]
    np.testing.assert_allclose(_chosen(*parts, 1 / SCALES), ROOM * SCALES, rtol=0.02)


def test_a_small_feature_has_at_least_a_share_of_the_largest_part(rng):
    sizes = np.array([[1000.0], *[[1.0]] * 9])
    parts = [sizes * rng.uniform(0, 1, (10, n)) for n in (600, 200)]
    assert _chosen(*parts, np.ones(10))[1] == pytest.approx(ROOM * 1000 / 64, rel=0.02)  # the least of the shares
    assert _chosen(*parts, np.ones(10), shares=(1.0,)) is None


@pytest.mark.parametrize("unlike", ["alike", "hardly seen"])
def test_one_range_stays_where_others_are_no_better(rng, unlike):
    """For features of one scale, and where the samples held out are larger than what a feature's own range covers."""
    fitted, apart = (rng.uniform(0, 1, (4, n)) for n in (600, 200))
    if unlike == "hardly seen":
        fitted[0] *= 1e-3
    assert _chosen(fitted, apart, np.ones(4)) is None


def test_a_feature_that_is_never_there_has_the_range_of_the_largest(rng):
    fitted, apart = (np.array([[100.0], [1.0], [0.0]]) * rng.uniform(0, 1, (3, n)) for n in (600, 200))
    large, small, never = _chosen(fitted, apart, [0.01, 1.0, 1.0])
    assert never == large == pytest.approx(ROOM * 100, rel=0.02)
    assert small < 2
    np.testing.assert_array_equal(not_too_small(np.zeros(2), LEVELS, ROOM), [1.0, 1.0])


def test_the_weights_that_a_feature_meets(rng):
    weights = rng.standard_normal((6, 4))
    x = gs.Variable("x", np.float32, [None, 6])

    def reader(op, values, **attrs):
        return gs.Node(op, inputs=[x, gs.Constant("W", values)], attrs=attrs)

    expected = np.linalg.norm(weights, axis=1)
    np.testing.assert_allclose(gain_of([reader("MatMul", weights)]), expected)
    np.testing.assert_allclose(gain_of([reader("Gemm", weights)]), expected)
    np.testing.assert_allclose(gain_of([reader("Gemm", weights.T.copy(), transB=1)]), expected)
    both = gain_of([reader("MatMul", weights), reader("MatMul", 2 * weights)])
    np.testing.assert_allclose(both, np.sqrt(5) * expected)
    assert gain_of([reader("MatMul", weights), reader("Sub", weights)]) is None
    assert gain_of([reader("MatMul", weights), reader("MatMul", weights.T.copy())]) is None
    assert gain_of([]) is None


@pytest.mark.parametrize("groups", [1, 3])
def test_the_weights_that_a_channel_meets(rng, groups):
    weights = rng.standard_normal((12, 6 // groups, 3))
    x = gs.Variable("x", np.float32, [None, 6, 40])
    node = gs.Node("Conv", inputs=[x, gs.Constant("W", weights)], attrs={"group": groups})
    met = [weights[g * 12 // groups : (g + 1) * 12 // groups, c] for g in range(groups) for c in range(6 // groups)]
    np.testing.assert_allclose(gain_of([node]), [np.sqrt(np.sum(w**2)) for w in met])


def test_channels_of_unlike_sensors_keep_the_outputs(rng):
    x = (SCALES[:, None] * rng.standard_normal((200, 6, 40))).astype(np.float32)
    weights = {
        "W": (rng.standard_normal((16, 6, 3)) / SCALES[:, None]).astype(np.float32),
        "b": rng.standard_normal(16).astype(np.float32),
        "V": rng.standard_normal((2, 16, 1)).astype(np.float32),
    }
    model = parse(CONVOLUTION, **weights)
    snn = csscc.compile(model, x[:100], T=8)
    expected, got = run(model, {"x": x[100:]})["y"], run(snn.file, {"x": x[100:]})["y"]
    assert np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2)) < 5e-3


@pytest.mark.parametrize("rare", [False, True])
def test_a_network_of_unscaled_features_keeps_its_outputs(rng, rare):
    """One range for all features errs by tens of percent here. `rare`: and some values are far larger than most."""
    x = rng.standard_normal((600, 6))
    x = (SCALES * (np.exp(x) if rare else x)).astype(np.float32)
    weights = {
        "W": (rng.standard_normal((6, 16)) / SCALES[:, None]).astype(np.float32),
        "b": rng.standard_normal(16).astype(np.float32),
        "V": rng.standard_normal((16, 2)).astype(np.float32),
    }
    model = parse(DENSE, **weights)
    snn = csscc.compile(model, x[:300], T=8)
    expected, got = run(model, {"x": x[300:]})["y"], run(snn.file, {"x": x[300:]})["y"]
    assert np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2)) < 5e-3
