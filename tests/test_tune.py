"""The tuner: what it chooses holds when measured again, and costs no more than it must."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from csscc.coding.coding import Coding
from csscc.errors import UsageError
from csscc.measure.costs import Outline
from csscc.models import digits_data, digits_model
from csscc.search.candidates import Candidate, best_of, groups
from csscc.search.tune import Tuning, tune
from tests.helpers import small_classifier

Small = tuple[onnx.ModelProto, dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def samples() -> dict[str, np.ndarray]:
    with np.load(digits_data()) as archive:
        return {"image": archive["x_calib"], "y": archive["y_calib"]}


@pytest.fixture(scope="module")
def tuned(samples: dict[str, np.ndarray]) -> Tuning:
    return tune(digits_model(), samples, max_loss=0.4, steps=(2, 3, 4, 5))


@pytest.fixture(scope="module")
def small() -> Small:
    return small_classifier(256)


def _accuracy(model: Any, x: np.ndarray, y: np.ndarray) -> float:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return 100 * float(np.mean(session.run(None, {session.get_inputs()[0].name: x})[0].argmax(axis=1) == y))


def test_the_choice_keeps_the_budget_and_is_the_cheapest(tuned: Tuning) -> None:
    assert tuned.holds
    within = [c for c in tuned.candidates if c.cautious is not None and c.cautious <= 0.4]
    assert min(c.T for c in within) == tuned.chosen.T
    assert tuned.quantity == "points of accuracy"


def test_samples_that_chose_nothing_agree(tuned: Tuning) -> None:
    with np.load(digits_data()) as archive:
        x, y = archive["x"], archive["y"]
    loss = _accuracy(str(digits_model()), x, y) - _accuracy(tuned.snn.model.SerializeToString(), x, y)
    assert loss <= 1.0
    coding = tuned.snn.facts.coding
    assert (coding.T, coding.beta, coding.silent) == (tuned.chosen.T, tuned.chosen.beta, tuned.chosen.silent)


def test_what_is_predicted_to_lose_too_much_is_not_run(tuned: Tuning) -> None:
    for candidate in tuned.candidates:
        assert candidate.confirmed is None or not candidate.hopeless
    assert any(c.hopeless for c in tuned.candidates)


def test_the_front_is_not_beaten(tuned: Tuning) -> None:
    figures = [(c.T, c.latency, c.cautious) for c in tuned.candidates if c.confirmed is not None]
    for candidate in tuned.front:
        mine = (candidate.T, candidate.latency, candidate.cautious)
        assert not any(other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in figures)
    assert json.loads(json.dumps(tuned.as_dict()))["chosen"]["T"] == tuned.chosen.T


def test_latency_prefers_no_silent_steps_to_few_steps(small: Small) -> None:
    fast = tune(*small, max_loss=2.0, steps=(3, 5), objective="latency")
    few = tune(*small, max_loss=2.0, steps=(3, 5))
    assert fast.holds
    assert few.holds
    assert fast.snn.latency < few.snn.latency
    assert (fast.chosen.silent, few.chosen.T) == (0, 3)


@pytest.mark.parametrize(
    ("objective", "figure"),
    [
        ("steps", "T"),
        ("latency", "latency"),
        ("interval", "interval"),
        ("convolutions", "passes"),
        ("synops", "synaptic_operations"),
    ],
)
def test_the_choice_is_the_cheapest_within_the_budget(small: Small, objective: Any, figure: str) -> None:
    result = tune(*small, max_loss=2.0, steps=(3, 4), objective=objective)
    assert result.holds
    confirmed = [c for c in result.candidates if c.confirmed is not None and c.cautious is not None]
    assert getattr(result.chosen, figure) == min(getattr(c, figure) for c in confirmed if c.cautious <= 2.0)
    costs = result.snn.costs
    told = (result.chosen.T, result.chosen.passes, result.chosen.interval, result.chosen.latency)
    assert told == (costs.steps, costs.passes, costs.interval, costs.latency)


OUTLINE = Outline(depth=3, spread=0.0, merged=0.9, once=0.1)


@pytest.mark.parametrize(
    ("objective", "cheapest"),
    [
        ("steps", [(3, 1), (3, 2), (3, 3)]),
        ("synops", [(3, 1), (3, 2), (3, 3)]),
        ("latency", [(3, 0)]),
        ("interval", [(3, 0)]),
        ("convolutions", [(3, 2), (3, 3)]),
    ],
)
def test_settings_of_one_cost_are_looked_at_together(objective: Any, cheapest: list[tuple[int, int]]) -> None:
    first, *others = groups((6, 3, 4), objective, OUTLINE)
    assert sorted({(c.T, c.silent) for c in first}) == cheapest
    assert others


def test_costs_of_groups_rise() -> None:
    figures: dict[Any, Any] = {
        "steps": lambda c: c.steps,
        "latency": lambda c: c.latency,
        "interval": lambda c: c.interval,
        "convolutions": lambda c: (c.passes, c.steps),
    }
    for objective, figure in figures.items():
        found = [
            {figure(OUTLINE.costs(Coding(c.T, c.beta, c.silent))) for c in group}
            for group in groups((3, 4, 5, 8), objective, OUTLINE)
        ]
        assert all(len(costs) == 1 for costs in found)
        assert found == sorted(found, key=min)
        assert len(found) > 3


def test_one_pass_may_take_more_silent_steps_than_other_objectives_try() -> None:
    found = groups((5,), "convolutions", OUTLINE)
    assert {(c.beta, c.silent) for c in found[0]} == {(1.5, 4), (2.0, 4), (3.0, 4)}  # 2.5: no exact sum of five steps


def test_a_cheaper_setting_is_not_given_up_for_a_smaller_error() -> None:
    cheap = Candidate(4, 3.0, 3, cautious=0.1, passes=1.0, latency=64, error=5.0)
    accurate = Candidate(4, 3.0, 3, cautious=0.1, passes=1.5, latency=50, error=1.0, changes={"silent": "auto"})
    assert best_of([accurate, cheap], 0.2, "convolutions") is cheap
    assert best_of([accurate, cheap], 0.2, "latency") is accurate
    assert best_of([accurate, cheap], 0.2, "steps") is accurate


def test_without_labels_other_classes_count(small: Small) -> None:
    model, samples = small
    result = tune(model, {"x": samples["x"]}, max_loss=1.0, steps=(4,))
    assert result.quantity == "percent of other classes"
    assert result.holds


def test_a_budget_that_cannot_be_kept_gives_the_best_there_is(small: Small) -> None:
    result = tune(*small, max_loss=0.0, steps=(2,))
    assert not result.holds
    assert result.chosen.confirmed is not None
    assert isinstance(result.chosen, Candidate)


def test_wrong_usage(samples: dict[str, np.ndarray]) -> None:
    with pytest.raises(UsageError, match="tuning needs samples"):
        tune(digits_model(), None, max_loss=0.1)
    with pytest.raises(UsageError, match="T must be a whole number"):
        tune(digits_model(), samples, max_loss=0.1, steps=(0,))
    with pytest.raises(UsageError, match="choose one of steps, latency, interval, convolutions, synops"):
        tune(digits_model(), samples, max_loss=0.1, objective="speed")  # type: ignore[arg-type]
