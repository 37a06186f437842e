"""Thresholds that leave least: judged by the paper's recurrence in float64, written out here."""

from __future__ import annotations

import math

import numpy as np
import pytest

from csscc.coding.coding import Coding
from csscc.coding.thresholds import just_below, least_residual
from csscc.options import make_options


def weights_of(T: int, beta: float) -> tuple[float, ...]:
    return tuple(beta**k for k in range(T - 1, -1, -1))


def residuals(weights: tuple[float, ...], thresholds: tuple[float, ...]) -> tuple[float, float, float]:
    """RMS and largest magnitude of what trains leave of values that they can say, and spikes a value."""
    values = np.random.default_rng(0).uniform(-0.95, 0.95, 100_000) * sum(weights)
    rest, spikes = values, 0.0
    for q, c in zip(weights, thresholds, strict=True):
        spike = np.where(rest > c, 1.0, np.where(rest < -c, -1.0, 0.0))
        rest, spikes = rest - q * spike, spikes + np.abs(spike).mean()
    return math.sqrt(np.square(rest).mean()), float(np.abs(rest).max()), spikes


@pytest.mark.parametrize(("T", "beta", "share"), [(12, 1.5, 0.45), (8, 1.5, 0.55), (16, 1.5, 0.45), (8, 1.75, 0.75)])
def test_less_is_left_with_fewer_spikes(T: int, beta: float, share: float) -> None:
    weights = weights_of(T, beta)
    least, half = residuals(weights, least_residual(weights)), residuals(weights, tuple(w / 2 for w in weights))
    assert least[0] < share * half[0]
    assert least[1] <= 0.5 + 1e-9
    assert least[2] < half[2]


@pytest.mark.parametrize("beta", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("T", [1, 2, 4, 8])
def test_half_is_best_where_trains_say_whole_numbers(T: int, beta: float) -> None:
    weights = weights_of(T, beta)
    assert least_residual(weights) == tuple(w / 2 for w in weights)


@pytest.mark.parametrize("beta", [1.1, 1.3, 1.5, 1.75, 2.2, 2.5])
def test_never_more_is_left_than_by_halves(beta: float) -> None:
    for T in (1, 2, 3, 5, 9):
        weights = weights_of(T, beta)
        assert (
            residuals(weights, least_residual(weights))[0]
            <= 1.001 * residuals(weights, tuple(w / 2 for w in weights))[0]
        )


def test_uniform_levels_are_those_of_a_quantiser_of_the_same_error() -> None:
    for coding in (Coding(12, 1.5), Coding(12, 1.5, halves=True), Coding(9, 1.75)):
        rms, _, _ = residuals(weights_of(coding.T, coding.beta), coding.neuron().thresholds)
        assert coding.uniform_levels == pytest.approx(coding.levels / (rms * math.sqrt(12)), rel=0.1)
    assert Coding(8, 2.0).uniform_levels == Coding(8, 2.0).levels == 255


def test_what_is_sent_only_whole_is_sent_from_all_of_its_weight_on() -> None:
    threshold = np.float32(just_below(3.375))
    assert threshold < np.float32(3.375)
    assert np.nextafter(threshold, np.float32(np.inf)) == np.float32(3.375)


def test_the_paper_fires_above_half() -> None:
    coding = make_options("paper", T=12).coding
    assert coding.neuron().thresholds == tuple(q / 2 for q in coding.weights)
    assert make_options("default", T=12, beta=1.5).coding.neuron().thresholds != coding.neuron().thresholds
