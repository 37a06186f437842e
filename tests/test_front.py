"""The search by itself: it finds what trying everything finds, as long as predictions are fair."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from csscc.measure.costs import Outline, Shares
from csscc.search.candidates import Candidate, Stage, candidates
from csscc.search.front import HOPE, Aim, search

OUTLINE = Outline(5, *2 * [Shares(spread=0.0, merged=0.9, once=0.1)])
AIMS = [
    Aim(("steps", "loss"), 0.5, 0.5),
    Aim(("latency", "loss"), 0.05, 4.0),
    Aim(("interval", "loss"), 0.05, 4.0),
    Aim(("time", "error"), 0.0, 4.0),
    Aim(("steps", "latency"), 0.0, 0.5),
    Aim(("spikes", "latency"), 0.0, 0.5),
    Aim(("synops", "loss"), 0.05, 4.0),
]


def _drawn(seed: int) -> tuple[list[Candidate], list[Candidate], list[Candidate]]:
    """What is predicted of settings, what trials find, and what is true, as far apart as a search allows for."""
    rng = np.random.default_rng(seed)
    predicted, tried, true = list[Candidate](), list[Candidate](), list[Candidate]()
    stages: tuple[tuple[list[Candidate], Stage, float], ...] = ((tried, "tried", 0.95), (predicted, "predicted", 0.6))
    for c in candidates((3, 4, 6), OUTLINE):
        loss, error = (float(rng.lognormal(3 - c.T - c.latency / 20, 1.0)) for _ in range(2))
        spikes = float(rng.uniform(0.5, 1.0)) * c.T
        exact = replace(
            c, stage="confirmed", cautious=loss, expected=loss / 3, error=error, spikes_per_neuron=spikes,
            synaptic_operations=1e6 * spikes,
        )  # fmt: skip
        true.append(exact)
        for known, stage, least in stages:
            off = float(rng.uniform(0.2, 0.999)) / HOPE[stage]
            fewer = float(rng.uniform(0.5, 0.999)) / least
            known.append(
                replace(
                    exact, stage=stage, cautious=off * loss, error=off * error,
                    spikes_per_neuron=fewer * spikes, synaptic_operations=1e6 * fewer * spikes,
                )
            )  # fmt: skip
    return predicted, tried, true


def _searched(seed: int, aim: Aim) -> tuple[list[Candidate], list[Candidate], int]:
    """What a search confirms, all there is, and how many trials it took."""
    predicted, tried, true = _drawn(seed)
    next_of = {c.name: (t, e) for c, t, e in zip(predicted, tried, true, strict=True)}
    trials: list[Candidate] = []

    def advance(batch: list[Candidate]) -> list[Candidate]:
        assert 0 < len(batch) <= 4
        assert len({c.name for c in batch}) == len(batch)
        trials.extend(batch)
        return [next_of[c.name][c.stage == "tried"] for c in batch]

    known = search(predicted, aim, advance)
    assert [c.name for c in known] == [c.name for c in predicted]
    return [c for c in known if c.stage == "confirmed"], true, len(trials)


@pytest.mark.parametrize("aim", AIMS, ids=lambda aim: ",".join(aim.axes))
def test_it_finds_what_trying_everything_finds(aim: Aim) -> None:
    for seed in range(8):
        found, true, _ = _searched(seed, aim)
        assert {aim.place(c) for c in aim.front(found)} == {aim.place(c) for c in aim.front(true)}


def test_it_tries_far_less_than_everything() -> None:
    tried = [_searched(seed, AIMS[0])[2] / len(_drawn(seed)[0]) for seed in range(8)]
    assert np.mean(tried) < 0.5


def test_a_setting_that_is_better_than_its_prediction_by_more_is_missed() -> None:
    """The other side of the bargain: `HOPE` is what counts."""
    aim = Aim(("steps", "loss"), 0.5, 0.5)
    good, poor = Candidate(3, 2.0, 1, cautious=0.4, latency=9), Candidate(3, 2.0, 1, cautious=1.1, latency=9)
    for predicted, found in ((0.9, [good]), (1.1, [])):
        known = search(
            [replace(poor, cautious=predicted)], aim,
            lambda batch: [replace(good, stage="tried" if c.stage == "predicted" else "confirmed") for c in batch],
        )  # fmt: skip
        assert [(c.T, c.cautious) for c in aim.front(c for c in known if c.stage == "confirmed")] == [
            (c.T, c.cautious) for c in found
        ]


@pytest.mark.parametrize("aim", AIMS, ids=lambda aim: ",".join(aim.axes))
def test_the_front_is_what_nothing_beats(aim: Aim) -> None:
    x, y = aim.axes
    for seed in range(3):
        true = [c for c in _drawn(seed)[2] if c.cautious <= aim.most]
        front = aim.front(true)

        def figures(c: Candidate) -> tuple[float, float]:
            losses = {"loss", "error"}
            return tuple(max(c.figure(q), aim.enough) if q in losses else c.figure(q) for q in (x, y))  # type: ignore[return-value]

        for one in front:
            mine = figures(one)
            assert not any(
                all(a <= b for a, b in zip(figures(o), mine, strict=True)) and figures(o) != mine for o in true
            )
        for one in true:
            assert any(all(a <= b for a, b in zip(figures(o), figures(one), strict=True)) for o in front)
        assert all(figures(a)[0] <= figures(b)[0] for a, b in pairwise(front))


def test_of_equal_cost_the_lower_latency_wins() -> None:
    slow = Candidate(4, 3.0, 3, cautious=0.1, passes=1.0, latency=64)
    fast = Candidate(4, 2.5, 1, cautious=0.1, passes=1.5, latency=50)
    for objective, best in (("time", slow), ("latency", fast), ("steps", fast)):
        aim = Aim((objective, "loss"), 0.2, 0.2)  # type: ignore[arg-type]
        assert aim.front([slow, fast]) == [best]


def test_candidates_know_what_they_cost() -> None:
    found: dict[Any, Candidate] = {(c.T, c.beta, c.silent): c for c in candidates((5, 3), OUTLINE)}
    assert len(found) == 9 * (5 + 6)  # none to three silent steps, T - 1 of them, and auto
    assert {c.beta for c in candidates((6, 7, 8), OUTLINE) if c.beta > 3} == {3.5, 4.0, 5.0}
    assert {(c.T, c.beta) for c in candidates((7, 8, 9), OUTLINE) if c.beta > 3} == {(7, 3.5), (7, 4.0), (8, 3.5)}
    c = found[5, 3.0, 3]
    assert (c.interval, c.latency, c.passes) == (8, 5 + 3 * 5, pytest.approx(0.9 * 2 + 0.1))
    assert found[5, 2.2, 3].passes == pytest.approx(0.9 * 5 + 0.1)  # whose sums of steps are not exact
    assert found[5, 2.0, 4].passes == 1
