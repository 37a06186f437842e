"""ChooseAmplitudes, the ranges of layers, and what judges them: samples that set no range decide how they are set."""

from __future__ import annotations

import math

import numpy as np
import pytest

import csscc
from csscc.coding.coding import Coding
from csscc.passes.convert.bounds import bound_of
from csscc.passes.convert.choose_amplitudes import ChooseAmplitudes
from csscc.passes.convert.choose_ranges import choose_ranges, growth, headroom_for, reaches_a_bound
from csscc.passes.convert.coding_error import CodingError
from csscc.passes.convert.correct_bias import helps
from csscc.passes.convert.judge import Judge
from csscc.passes.convert.set_amplitudes import SetAmplitudes
from csscc.runtime.observe import held_out
from csscc.statistics import Histogram
from tests.helpers import calibrated, network_of, parse, random_feeds, run, source_of

LEVELS = 255.0
TEXT = """
g (float[N,3,8,8] x) => (float[N,2,8,8] y) <float[5,3,3,3] W, float[5] b, float six = {6.0}, float zero = {0.0}, float[2,5,1,1] V>
{ h = Conv <pads = [1,1,1,1]> (x, W, b) r = Clip(h, zero, six) y = Conv(r, V) }
"""  # noqa: E501


def _counted(values):
    histogram = Histogram(len(values))
    histogram.add(values)
    return histogram


def _chosen(fitted, apart, bound=math.inf):
    a, b = _counted(fitted), _counted(apart)
    return choose_ranges(a, b, a.plus(b), LEVELS, bound)


def test_channels_that_are_seen_alike_get_tops_of_their_own(rng):
    sizes = np.array([[1.0], [4.0], [0.2]])
    ranges = _chosen(rng.uniform(0, sizes, (3, 4000)), rng.uniform(0, sizes, (3, 1000)))
    np.testing.assert_allclose(ranges, [1.0, 4.0, 0.25], rtol=0.05)  # a sixteenth of the layer's at least


def test_where_levels_abound_a_channel_has_room_above_its_own_values(rng):
    """One channel is 40 times as large as the others; they need not be as coarse, nor end at what was seen."""
    sizes = np.array([[40.0], *[[1.0]] * 7])
    a, b = (_counted(rng.uniform(0, sizes, (8, n))) for n in (4000, 1000))
    ranges = choose_ranges(a, b, a.plus(b), 1311.0, math.inf, 1.25)
    np.testing.assert_allclose(ranges, [50.0, *[1.25 * 40 / 16] * 7], rtol=0.01)


def test_fewer_samples_get_more_room_where_levels_are_many():
    """A quarter where samples are many; at most twice the largest value, and never fewer levels than are ample."""
    assert [headroom_for(n, 6560) for n in (10**6, 256, 32, 1, 0)] == [1.25, 1.25, 2.0, 2.0, 2.0]
    assert headroom_for(128, 6560) == pytest.approx(1.25 * 2 ** (1 / 3))
    assert headroom_for(16, 512) == 1.25
    assert 1.25 < headroom_for(16, 700) < 2


@pytest.mark.parametrize(("rare", "margin"), [(0.0, 1.25), (30.0, 2.0)])
def test_inputs_with_a_long_tail_give_all_layers_room(rng, rare, margin):
    """A feature that is rare is large once it is there, and makes what follows large: as StandardScaler leaves it."""
    model = """g (float[N,8] x) => (float[N,4] y) <float[8,8] W, float[8,4] V>
{ a = MatMul(x, W) r = Relu(a) y = MatMul(r, V) }"""
    weights = {"W": np.eye(8), "V": np.ones((8, 4))}
    x = rng.standard_normal((500, 8)).astype(np.float32)
    x[0, 0] += rare  # in one part of the samples only
    snn = csscc.compile(parse(model, **weights), x, T=8, adjust=False, check_samples=0)
    encoder, relu, _ = snn.layers
    assert encoder.clipping_range == pytest.approx(margin * np.abs(x).max(), rel=0.02)
    assert relu.clipping_range == pytest.approx(margin * x.max(), rel=0.02)


def test_many_samples_do_not_help_where_inputs_have_a_long_tail():
    assert [headroom_for(n, 6560, long_tail=True) for n in (10**6, 256, 1)] == [2.0, 2.0, 2.0]
    assert headroom_for(10**6, 512, long_tail=True) == 1.25


def test_what_differs_little_between_samples_is_not_expected_to_grow(rng):
    """One channel of a LayerNormalization is nearly constant, and the largest; the others do not set the range."""
    large, small = (lambda n: rng.normal(40, 1e-3, n)), (lambda n: rng.exponential(1, n))
    a, b = (_counted(np.stack([large(n), small(n)])) for n in (400, 100))
    assert growth(a, b) < 1.01
    assert growth(b, a) == pytest.approx(growth(a, b))
    a, b = (_counted(np.stack([small(n), small(n)])) for n in (400, 100))
    assert growth(a, b) > 2


def test_what_one_half_has_not_seen_at_all_may_grow_without_bound():
    silent, seen = _counted(np.zeros((2, 10))), _counted(np.ones((2, 10)))
    assert growth(silent, seen) == growth(seen, silent) == growth(silent, silent) == math.inf


@pytest.mark.parametrize("draw", ["pixels", "ones", "normal", "exponential"])
def test_what_reaches_a_bound(draw, rng):
    values = {
        "pixels": rng.integers(0, 256, (3, 2000)) / 255,
        "ones": np.ones((1, 5)),
        "normal": rng.standard_normal((2, 50000)),
        "exponential": rng.exponential(1.0, (1, 100)),
    }[draw]
    assert reaches_a_bound(_counted(values)) == (draw in ("pixels", "ones"))


def test_what_reaches_a_bound_is_counted_by_row(rng):
    """A scaler leaves one value of 1 in each feature; pixels reach white often, but few at the border do."""
    scaled = rng.random((20, 300))
    scaled /= scaled.max(axis=1, keepdims=True)
    pixels = rng.integers(0, 16, (20, 300)) / 15
    pixels[:4] = 0.0
    pixels[4:8] *= 0.4
    assert not reaches_a_bound(_counted(scaled))
    assert reaches_a_bound(_counted(pixels))
    assert reaches_a_bound(_counted(np.zeros((3, 5))))


def test_channels_that_surprise_get_the_largest_of_the_layer(rng):
    """Each channel answers to one sample in two hundred; half of what comes later is larger than anything seen."""
    fitted, apart = (rng.exponential(1.0, (64, n)) * (rng.random((64, n)) < 0.02) for n in (6000, 2000))
    ranges = _chosen(fitted, apart)
    assert ranges.min() >= 0.99 * max(fitted.max(), apart.max())


def test_a_channel_that_was_hardly_seen_is_not_trusted(rng):
    values = rng.uniform(0, 4.0, (2, 4000))
    values[1] = 0
    values[1, :10] = 0.5
    ranges = _chosen(values, values[:, :1000])
    assert ranges[1] >= values[0].max()


def test_a_bound_is_the_top_where_values_come_near_it(rng):
    fitted, apart = rng.exponential(1.5, (8, 3000)), rng.exponential(1.5, (8, 1000))
    ranges = _chosen(np.minimum(fitted, 6.0), np.minimum(apart, 6.0), bound=6.0)
    assert ranges.max() <= 6.0
    few = _chosen(rng.uniform(0, 0.1, (1, 3000)), rng.uniform(0, 0.1, (1, 1000)), bound=1.0)
    assert few.max() < 0.2


@pytest.mark.parametrize(
    ("node", "bound"),
    [
        ("r = Clip(h, zero, six)", 6.0),
        ("r = Clip(h, zero)", math.inf),
        ("r = Sigmoid(h)", 1.0),
        ("r = HardSigmoid(h)", 1.0),
        ("r = Softmax(h)", 1.0),
        ("r = Relu(h)", math.inf),
    ],
)
def test_known_bounds(node, bound):
    graph = network_of(parse(TEXT.replace("r = Clip(h, zero, six)", node))).graph
    assert bound_of(next(n for n in graph.nodes if n.outputs[0].name == "r")) == bound
    assert bound_of(None) == math.inf


def test_zeros_cost_nothing_and_what_is_cut_off_does():
    values = np.array([[0.0] * 100 + [1.0, 3.0]])
    error = CodingError(_counted(values))
    assert error.of(np.array([2.0]), LEVELS)[0] == pytest.approx(1.0, rel=0.02)
    assert error.of(np.array([4.0]), LEVELS)[0] == pytest.approx(2 * (4 / LEVELS) ** 2 / 12, rel=1e-6)


def test_two_histograms_are_one(rng):
    a, b = rng.exponential(1.0, (3, 500)), rng.exponential(2.0, (3, 200))
    both, wanted = _counted(a).plus(_counted(b)), np.concatenate([a, b], axis=1)
    assert both.seen == 700
    np.testing.assert_allclose(both.largest, wanted.max(axis=1))
    np.testing.assert_allclose(both.sums, wanted.sum(axis=1))
    bins = both.ends / both.bins
    for percent in (50, 99):
        assert (np.abs(both.percentile(percent) - np.percentile(wanted, percent, axis=1)) < 4 * bins + 0.05).all()


def test_every_fourth_sample_is_held_out_whatever_the_batches():
    numbers = [held_out(size, before, 4) for size, before in ((3, 0), (1, 3), (6, 4))]
    assert np.flatnonzero(np.concatenate(numbers)).tolist() == [3, 7]
    assert not held_out(5, 0, 0).any()


def test_the_judge_sees_samples_that_set_no_range():
    model, coding = parse(TEXT), Coding(T=8, beta=2.0)
    source = source_of(model, samples=64)
    network = calibrated(model, coding, source=source)
    judge = Judge(network, source)
    fine = judge.error(network)
    network.amplitudes["r"] = network.amplitudes["r"] * 16
    assert judge.error(network) > 4 * fine
    network.amplitudes["r"] = network.amplitudes["r"] / 1024
    assert judge.error(network) > 0.5


def test_it_takes_what_errs_least():
    model, coding = parse(TEXT), Coding(T=8, beta=2.0)
    source = source_of(model, samples=64)
    network = calibrated(model, coding, source=source, hold_out=True)
    ChooseAmplitudes(source).apply(network)
    assert ChooseAmplitudes(source).apply(network) == 0
    judge = Judge(network, source)
    chosen = judge.error(network)
    for method in ("mse", "max"):
        SetAmplitudes(method).apply(network)
        assert chosen < 1.15 * judge.error(network)


def test_biases_are_corrected_only_where_it_pays():
    """A coarse code of small values shifts means; a fine one does not."""
    model = parse(TEXT)
    source = source_of(model, samples=64)
    assert not helps(calibrated(model, Coding(T=12, beta=2.0), source=source), source)
    coarse = calibrated(model, Coding(T=12, beta=2.0), source=source)
    coarse.amplitudes["r"] = np.asarray(run(model, random_feeds(model, batch=8))["y"].std() * 2.0)
    judge = Judge(coarse, source)
    assert helps(coarse, source) == (judge.error(coarse, centred=True) < 0.9 * judge.error(coarse))
