"""Schedules: which steps merge without rounding, and what a train says, counted by hand and by brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from csscc.coding.coding import Coding
from csscc.coding.schedule import PRECISION, ROOM, Head, resolution


@pytest.mark.parametrize(
    ("weights", "finest"),
    [((1.0,), 1.0), ((1.5, 1.0), 0.5), ((2.25, 1.5, 1.0), 0.25), ((27.0, 9.0, 3.0, 1.0), 1.0), ((6.0, 2.0), 2.0),
    ((15.625, 1.0), 0.125)], ids=str,
)  # fmt: skip
def test_resolution_by_hand(weights: tuple[float, ...], finest: float) -> None:
    assert resolution(weights) == finest


@pytest.mark.parametrize("beta", [1.25, 1.5, 2.0, 2.5, 3.0])
@pytest.mark.parametrize("silent", [1, 2, 3, 5])
def test_a_merged_sum_fits_into_the_bits_it_is_given(beta: float, silent: int) -> None:
    """Every sum of ternary spikes is a whole number of resolutions, of no more bits than are left for it."""
    merged = Coding(8, beta, silent).neuron().merged
    assert 1 < len(merged) <= silent + 1
    assert merged[-1] == 1
    every = itertools.product((-1, 0, 1), repeat=len(merged))
    levels = [sum(w * s for w, s in zip(merged, spikes, strict=True)) / resolution(merged) for spikes in every]
    assert all(level == round(level) for level in levels)
    assert max(levels) == pytest.approx(2 ** Head(merged).bits)
    assert max(levels) <= 2**ROOM


def test_what_does_not_fit_is_not_merged() -> None:
    assert Coding(12, 1.7, 3).neuron().merged == (1.0,)
    assert Coding(12, 1.0, 3).neuron().merged == (1.0,)
    assert len(Coding(8, 2.0, 15).neuron().merged) == ROOM
    assert len(Coding(12, 2.0, 11).neuron().merged) == PRECISION - 12
    assert len(Coding(10, 2.5, 3).neuron().merged) == 2
    assert Coding(16, 2.0, 1).neuron().merged == (1.0,)
    assert len(Coding(12, 1.5, 0).neuron().merged) == 1


def test_the_usual_beta_is_the_largest_with_few_enough_levels() -> None:
    """With one silent step; levels in closed form: two spikes a step at most."""
    betas = [4, 3.5, 3, 2.5, 2, 1.875, 1.75, 1.6875, 1.625, 1.5625, 1.5, 1.375, 1.25, 1.125]
    for T in range(1, 40):
        few = [b for b in betas if (b**T - 1) / (b - 1) < (1024 if b > 3 else 16384)]
        assert Coding(T, silent=1).usual_beta == few[0]
    assert [Coding(T, silent=0).usual_beta for T in (4, 8, 12)] == [2, 2, 2]
    assert [Coding(T, silent=2).usual_beta for T in (3, 4, 6)] == [5, 5, 3.5]


@pytest.mark.parametrize("beta", np.arange(1.0, 3.01, 0.05).round(2).tolist())
def test_every_coding_that_can_be_asked_for_has_a_schedule(beta: float) -> None:
    for T in (1, 12, 64):
        for silent in (0, 1, T - 1, T):
            schedule = Coding(T, beta, silent).neuron()
            assert len(schedule.merged) <= min(silent + 1, T)
            assert schedule.rounded == (beta in (2, 3) and 2 * silent + 1 >= T)
