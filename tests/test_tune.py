"""The tuner: what it chooses holds when measured again, and costs no more than it must."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from csscc.errors import UsageError
from csscc.models import digits_data, digits_model
from csscc.search.candidates import Candidate
from csscc.search.tune import Tuning, tune


@pytest.fixture(scope="module")
def samples() -> dict[str, np.ndarray]:
    with np.load(digits_data()) as archive:
        return {"image": archive["x_calib"], "y": archive["y_calib"]}


@pytest.fixture(scope="module")
def tuned(samples: dict[str, np.ndarray]) -> Tuning:
    return tune(digits_model(), samples, max_loss=0.4, steps=(2, 3, 4, 5))


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
    assert any(c.confirmed is None for c in tuned.candidates)


def test_the_front_is_not_beaten(tuned: Tuning) -> None:
    figures = [(c.T, c.latency, c.cautious) for c in tuned.candidates if c.confirmed is not None]
    for candidate in tuned.front:
        mine = (candidate.T, candidate.latency, candidate.cautious)
        assert not any(other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in figures)
    assert json.loads(json.dumps(tuned.as_dict()))["chosen"]["T"] == tuned.chosen.T


def test_latency_prefers_no_silent_steps_to_few_steps(samples: dict[str, np.ndarray]) -> None:
    fast = tune(digits_model(), samples, max_loss=2.0, steps=(3, 8), objective="latency")
    few = tune(digits_model(), samples, max_loss=2.0, steps=(3, 8))
    assert fast.holds
    assert few.holds
    assert fast.snn.latency <= few.snn.latency
    assert few.chosen.T == 3


def test_without_labels_other_classes_count(samples: dict[str, np.ndarray]) -> None:
    result = tune(digits_model(), {"image": samples["image"]}, max_loss=1.0, steps=(4,))
    assert result.quantity == "percent of other classes"
    assert result.holds


def test_a_budget_that_cannot_be_kept_gives_the_best_there_is(samples: dict[str, np.ndarray]) -> None:
    result = tune(digits_model(), samples, max_loss=0.0, steps=(2,))
    assert not result.holds
    assert result.chosen.confirmed is not None
    assert isinstance(result.chosen, Candidate)


def test_wrong_usage(samples: dict[str, np.ndarray]) -> None:
    with pytest.raises(UsageError, match="tuning needs samples"):
        tune(digits_model(), None, max_loss=0.1)
    with pytest.raises(UsageError, match="T must be a whole number"):
        tune(digits_model(), samples, max_loss=0.1, steps=(0,))
