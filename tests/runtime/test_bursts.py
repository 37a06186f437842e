"""Bursts: up to two spikes of either sign a step, of values that are never negative."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from csscc.coding import oracle
from csscc.coding.coding import Coding

Array = NDArray[Any]


def sent(coding: Coding, inputs: Array, *, burst: bool = True) -> Array:
    """Spikes ``[T, N]`` of ReLUs whose whole input is a bias."""
    silence = np.zeros((coding.T, *inputs.shape))
    return oracle.tsa([silence], lambda h: np.maximum(h, 0), coding.neuron(burst=burst), [inputs]).spikes


def value(spikes: Array, beta: float) -> Array:
    total = np.zeros(spikes.shape[1:])
    for s in spikes:
        total = total * beta + s
    return total


def near_everything(most: float) -> Array:
    """Whole numbers, halves and the numbers beside them, from below 0 to above `most`."""
    whole = np.arange(-4, 2 * most + 9) / 2
    return np.concatenate([whole, whole + 1e-6, whole - 1e-6, np.random.default_rng(0).uniform(-2, most + 2, 400)])


@pytest.mark.parametrize("beta", [2, 3, 4, 5])
@pytest.mark.parametrize("T", [1, 2, 3, 4])
def test_a_neuron_that_waits_sends_the_nearest_whole_number(T: int, beta: int) -> None:
    coding, most = Coding(T, beta, T), 2 * (beta**T - 1) // (beta - 1)
    assert coding.sends_bursts
    x = near_everything(most)
    spikes = sent(coding, x)
    assert {0.0, 1.0, 2.0} <= set(np.unique(spikes)) <= {-2.0, -1.0, 0.0, 1.0, 2.0}
    np.testing.assert_array_equal(value(spikes, beta), np.clip(np.rint(x), 0, most))
    assert not sent(coding, np.array([0.0, -5.0])).any()


def test_two_are_sent_from_one_and_a_half_on() -> None:
    """By hand, weights of 4, 2 and 1: 7 is 2 * 4 - 1, 6 is 2 * 4 - 2, 5 is 1 * 4 + 1."""
    train = sent(Coding(3, 2, 3, bursts=True), np.array([5.0, 6.0, 7.0, 14.0, 99.0]))
    np.testing.assert_array_equal(train.T, [[1, 0, 1], [2, -1, 0], [2, 0, -1], [2, 2, 2], [2, 2, 2]])


@pytest.mark.parametrize("beta", [1.5, 2.2, 2.5, 3.5, 4.5])
@pytest.mark.parametrize("L", [2, 4])
def test_no_train_of_bursts_is_nearer_by_more_than_rounding_may_leave(beta: float, L: int) -> None:
    """Brute force over all 5**T trains: half a theta is promised where the neuron has received everything."""
    T = 4
    every = value(np.array(list(itertools.product([-2, -1, 0, 1, 2], repeat=T)), float).T, beta)
    x = np.random.default_rng(1).uniform(0, every.max(), 300)
    coding = Coding(T, beta, T)
    got, signed = value(sent(coding, x), beta), 2 * value(sent(coding, x / 2, burst=False), beta)
    best = np.abs(every[:, None] - x).min(axis=0)
    assert (np.abs(got - x) <= np.maximum(best, 0.5 * beta) + 1e-9).all()
    assert np.square(got - x).mean() < 0.6**2 * np.square(signed - x).mean()  # of the same range


@pytest.mark.parametrize(("T", "beta", "L"), [(8, 2.0, 2), (6, 2.0, 2), (6, 2.2, 2), (4, 3.0, 2)])
def test_what_was_sent_too_early_is_taken_back(T: int, beta: float, L: int) -> None:
    """The last steps of inputs come after the first spikes; bursts of half of theta err about half as much."""
    rng = np.random.default_rng(2)
    coding = Coding(T, beta, L)
    levels = coding.levels
    trains = oracle.encode(rng.normal(0, 0.2, (16, 4000)), 1 / levels, coding.encoder())
    weights = rng.normal(0, 0.2, (16, 16))
    wanted = np.maximum(weights @ value(trains, beta), 0) / levels
    currents, most = np.einsum("oi,tib->tob", weights, trains) / levels, wanted.max()

    def error(theta: float, *, burst: bool) -> float:
        made = oracle.tsa([currents / theta], lambda h: np.maximum(h, 0), coding.neuron(burst=burst)).spikes
        return float(np.square(value(made, beta) * theta - wanted).mean() ** 0.5)

    assert error(most / (2 * levels), burst=True) < 0.72 * error(most / levels, burst=False)


def test_where_they_are_sent() -> None:
    assert Coding(4, 3, 3).sends_bursts
    assert Coding(8, 2, 1).sends_bursts
    assert Coding(1, 2, 0).sends_bursts
    assert Coding(8, 2, 0).sends_bursts
    assert Coding(14, 2, 1).sends_bursts
    assert not Coding(15, 2, 1).sends_bursts  # has levels enough
    assert not Coding(4, 3, 3, bursts=False).sends_bursts
    assert not Coding(4, 3, 3, negative=False).sends_bursts
    assert not Coding(9, 1, 9).sends_bursts
    assert not Coding(9, 1, 9, linear=True).sends_bursts


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("huge", [3e38, 1e20])
def test_what_float32_cannot_hold_is_sent_as_the_largest_value(huge: float) -> None:
    """A value over its amplitude that is infinite: every step sends all it may."""
    coding, values = Coding(4, 3, 3), np.array([huge, -huge], np.float32)
    theta = np.float32(1e-30)
    spikes = oracle.tsa(
        [np.zeros((4, 2), np.float32)], lambda h: h, coding.neuron(burst=True), [values], theta
    ).spikes
    assert spikes.T.tolist() == [[2, 2, 2, 2], [-2, -2, -2, -2]]
    assert oracle.encode(values, theta, coding.encoder()).T.tolist() == [[1, 1, 1, 1], [-1, -1, -1, -1]]
    unknown = oracle.tsa([np.zeros((4, 2), np.float32)], lambda h: h, coding.neuron(), [values], theta, partial=True)
    assert not unknown.spikes.any()
