"""AdjustAmplitudes: Eq. A18, applied where residuals exceed theta."""

from __future__ import annotations

import numpy as np
import pytest

from csscc.coding.coding import Coding
from csscc.dialect.adapter import export_model
from csscc.passes.base import Repeat, run_passes
from csscc.passes.convert.adjust_amplitudes import AdjustAmplitudes, enlargement
from csscc.passes.convert.bias_on_first_step import BiasOnFirstStep
from csscc.passes.convert.insert_neurons import InsertNeurons
from csscc.passes.convert.rescale import Rescale
from csscc.passes.convert.snap_weights import SnapWeights
from csscc.runtime.reference import ReferenceRuntime
from tests.helpers import calibrated, check, error, names, parse, random_feeds, source_of, texts

CONVERT = (InsertNeurons(), Rescale(), BiasOnFirstStep(), SnapWeights())
TEXT = """
g (float[N,3,8,8] x) => (float[N,2,8,8] y) <float[5,3,3,3] W, float[5] b, float[4,5,3,3] U, float[2,4,1,1] V>
{
  h = Conv <pads = [1,1,1,1]> (x, W, b) r = Relu(h)
  i = Conv <pads = [1,1,1,1]> (r, U) s = Relu(i) y = Conv(s, V)
}
"""
CODING = Coding(T=8)


@pytest.mark.parametrize(
    ("residual", "levels", "factor"),
    [
        # By hand, with sum(q) = 100: beyond 5, beyond 1 and up to it.
        (11.0, 100.0, 1.10),
        (7.0, 100.0, 1.06),
        (6.0, 100.0, 1.08),  # exactly 0.05 sum(q): the second case, (5 - 1)/100 + 0.04
        (4.0, 100.0, 1.06),  # (3 - 1)/100 + 0.04
        (2.0, 100.0, 1.04),  # exactly 0.01 sum(q): the third case, 4/100
        (1.5, 100.0, 1.02),
        (1.0001, 100.0, 1.000004),
        (1.0, 100.0, 1.0),
        (0.4, 100.0, 1.0),
        (0.0, 100.0, 1.0),
        # With sum(q) = 3, as of T = 2, beta = 2.
        (2.0, 3.0, 4 / 3),
        (1.1, 3.0, 1 + (0.1 - 0.03) / 3 + 0.04),
        (1.02, 3.0, 1 + 0.08 / 3),
    ],
)
def test_enlargement_by_hand(residual, levels, factor):
    assert enlargement(residual, levels) == pytest.approx(factor, rel=1e-12)


def _too_small(share, coding=CODING, **options):
    """A converted network whose amplitudes cover only a share of the activations."""
    network = calibrated(parse(TEXT), coding, **options)
    for name in ("r", "s"):
        network.amplitudes[name] = network.amplitudes[name] * share
    for p in CONVERT:
        p.apply(network)
    return network


def _adjust(network, rounds=4, source=None, convert=CONVERT, **options):
    """The adjusted network; returns how many amplitudes were raised in each round."""
    counts = []
    adjust = AdjustAmplitudes(source or source_of(parse(TEXT)), **options)
    run_passes((Repeat(adjust, convert, rounds),), network, lambda p, _, n: counts.append(n) if p is adjust else None)
    check(network)
    assert names(network.graph.outputs) == ["y"]
    return counts


@pytest.mark.parametrize("per_channel", [True, False])
def test_amplitudes_that_are_much_too_small_are_raised(per_channel):
    model = parse(TEXT)
    network = _too_small(0.3, per_channel=per_channel)
    before, error_before = dict(network.amplitudes), error(model, network)["y"]
    assert max(_adjust(network, rounds=8)) == 2
    assert (network.amplitudes["r"] >= before["r"]).all()
    assert network.amplitudes["r"].max() > 1.5 * before["r"].max()
    assert network.amplitudes["r"].shape == before["r"].shape
    assert np.array_equal(network.amplitudes["x"], before["x"])
    assert error(model, network)["y"] < 0.6 * error_before
    assert texts(network, "adjust-amplitudes").count("amplitude raised by") == 2


def test_one_round_multiplies_by_the_factor_of_the_residuals():
    """Eq. A18 on the 99.9th percentile of the NumPy reference's residuals, to a bin of the histogram."""
    network = _too_small(0.5, per_channel=False)
    feeds = random_feeds(parse(TEXT), batch=64, seed=7)
    trace = ReferenceRuntime(export_model(network)).trace(feeds)
    before = {n: float(a) for n, a in network.amplitudes.items()}
    assert _adjust(network, rounds=1, samples=64, percentile=99.9)[0] > 0
    levels = sum(1.5**k for k in range(8))
    checked = 0
    for node, residual in trace.residuals.items():
        sent = next(n.outputs[0].name for n in network.ann.nodes if n.name == node)
        u = np.abs(residual)
        width = 2 * u.max() / 1024
        low = np.percentile(u, 99.9, method="lower") - width
        high = np.percentile(u, 99.9, method="higher") + width
        if high < 1:
            continue
        assert low - 1 > 0.05 * levels, "the case of the formula below"
        factor = float(network.amplitudes[sent]) / before[sent]
        assert 1 + (low - 1) / levels <= factor <= 1 + (high - 1) / levels
        checked += 1
    assert checked


def test_only_channels_that_need_it_are_raised():
    network = calibrated(parse(TEXT), CODING)
    share = np.array([1.0, 0.3, 1.0, 1.0, 1.0]).reshape(5, 1, 1)
    whole = network.amplitudes["r"].copy()
    network.amplitudes["r"] = whole * share
    for p in CONVERT:
        p.apply(network)
    _adjust(network, rounds=1)
    raised = (network.amplitudes["r"] / (whole * share)).reshape(-1)
    assert raised[1] > 1.3
    assert (np.delete(raised, 1) < 1.1).all()


def test_healthy_amplitudes_stay():
    network = calibrated(parse(TEXT), Coding(T=8, silent=2))
    for p in CONVERT:
        p.apply(network)
    feeds = random_feeds(parse(TEXT), batch=64, seed=7)
    residuals = ReferenceRuntime(export_model(network)).trace(feeds).residuals
    assert all((np.percentile(np.abs(u), 99.9, axis=(0, 2, 3)) <= 1).all() for u in residuals.values())
    before, graph = dict(network.amplitudes), network.graph
    assert _adjust(network) == [0]
    assert all(np.array_equal(before[n], a) for n, a in network.amplitudes.items())
    assert network.graph is graph
    assert texts(network, "adjust-amplitudes") == ""


def test_the_number_of_rounds_is_bounded():
    conversions = []

    class Counting(InsertNeurons):
        def apply(self, network):
            conversions.append(1)
            return super().apply(network)

    network = _too_small(0.05)
    assert len(_adjust(network, rounds=3, convert=(Counting(), *CONVERT[1:]))) == 3
    assert len(conversions) == 3


def test_no_more_samples_than_asked_for():
    seen = []
    _adjust(_too_small(0.5), rounds=1, samples=40, progress=lambda done, total: seen.append((done, total)))
    assert sum(done for done, _ in seen) == 40
    assert {total for _, total in seen} == {40}


LATE = """
g (float[N,3,6,6] x) => (float[N,4,6,6] y) <float[4,3,3,3] W, float[4,4,1,1] V, float low = {0}, float high = {0.5}>
{ h = Conv <pads = [1,1,1,1]> (x, W) r = Clip(h, low, high) y = Conv(r, V) }
"""


def test_neurons_that_cannot_catch_up_are_seen_by_the_root_mean_square():
    """A narrow Clip of a wide input turns late: without `rms` its error stays as T grows."""
    model = parse(LATE)
    found = {}
    for rms in (None, 0.5):
        for T in (12, 18):
            network = calibrated(model, Coding(T=T), source=source_of(model, samples=128))
            for p in CONVERT:
                p.apply(network)
            _adjust(network, source=source_of(model, samples=128), rms=rms)
            found[rms, T] = error(model, network)["y"]
    assert found[None, 18] > found[None, 12] / 3
    assert found[0.5, 18] < found[0.5, 12] / 3
    assert found[0.5, 18] < found[None, 18] / 3
