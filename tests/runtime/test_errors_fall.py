"""The error of every neuron whose f is not positively homogeneous falls as beta to the minus T."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper

from csscc.coding import oracle
from csscc.coding.activations import ACTIVATIONS
from csscc.coding.coding import Coding
from csscc.dialect.grids import QUANTISERS
from csscc.runtime.reference import activation_function
from tests.runtime.test_functions import CASES, Case

# Not continuous: an input near a threshold, or an edge of a quantiser, falls on the other side of it at any T.
LEAPS = {"ThresholdedRelu", *QUANTISERS}
ANALOG = [c for c in CASES if not ACTIVATIONS[c.op].homogeneous and c.op not in LEAPS]
STEPS = (12, 20)
BETA = 1.5
Array = NDArray[Any]


def function_of(case: Case) -> Callable[..., Array]:
    names = [f"p{i}" if p is not None else "" for i, p in enumerate(case.parameters)]
    node = helper.make_node(f"TSA{case.op}", ["z", "b", "theta", *names], ["s"], domain="csscc", **case.attributes)
    return activation_function(node, case.parameters, np.dtype(np.float32), case.opset)


def relative_error(case: Case, T: int) -> float:
    """Of what is sent, against f of what was encoded, for inputs on which f is defined and not steep."""
    coding = Coding(T, BETA, 2)
    rng = np.random.default_rng(3)
    values = [rng.uniform(0.8, 2.2, (24, *s)) if case.positive else rng.normal(0, 1.0, (24, *s)) for s in case.shapes]
    trains = []
    for k, v in enumerate(values):
        theta = float(np.abs(v).max()) / coding.levels
        trains.append((oracle.encode(v, theta, coding.encoder()) * theta).astype(np.float64))
        values[k] = np.tensordot(coding.weights, trains[k], axes=1)
    f = function_of(case)
    exact = f(*(v.astype(np.float32) for v in values)).astype(np.float64)
    theta = 2 * float(np.abs(exact).max()) / coding.levels
    with np.errstate(all="ignore"):
        firing = oracle.tsa(trains, lambda *x: f(*(v.astype(np.float32) for v in x)), coding.neuron(), theta=theta)
    sent = theta * np.tensordot(coding.weights, firing.spikes, axes=1)
    return float(np.sqrt(np.mean((sent - exact) ** 2) / np.mean(exact**2)))


def test_every_such_activation_is_here() -> None:
    assert {c.op for c in ANALOG} | LEAPS == {a.op for a in ACTIVATIONS.values() if not a.homogeneous}


@pytest.mark.parametrize("case", ANALOG, ids=lambda c: c.op)
def test_the_error_falls_as_beta_to_the_minus_T(case: Case) -> None:
    coarse, fine = (relative_error(case, T) for T in STEPS)
    fall = BETA ** (STEPS[1] - STEPS[0])
    assert coarse < 0.1
    assert fall / 3 < coarse / fine < 3 * fall
