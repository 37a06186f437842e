"""Time to first spike: a neuron sends one spike or none, whose time says the value; by brute force, in every form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import csscc
from csscc.coding.coding import Coding
from csscc.coding.oracle import encode, tsa
from csscc.dialect.model import spike_sources, with_outputs
from csscc.measure.verify import verify
from csscc.passes.lower.targets import TARGETS
from csscc.runtime.session import Session
from tests.helpers import rms, run, small_classifier

T = 9
VALUES = np.array([0.0, 0.99, 1.0, 1.01, 4.5, 8.99, 9.0, 9.5, 14.0, 1e9])


def first_spike(target: float) -> list[float]:
    """The train of one value: the first step that is worth no more than it, if there is one."""
    for step in range(T):
        if abs(target) >= T - step:
            return [float(np.sign(target)) * (other == step) for other in range(T)]
    return [0.0] * T


@pytest.mark.parametrize("negative", [True, False])
def test_the_spike_is_the_first_that_fits(negative: bool) -> None:
    coding = Coding(T, 1.0, T, negative=negative, signed_input=negative, linear=True)
    values = np.concatenate([VALUES, -VALUES])
    said = values if negative else np.maximum(values, 0)
    expected = np.array([first_spike(v) for v in said]).T
    np.testing.assert_array_equal(encode(values, 1.0, coding.encoder), expected)
    z = np.repeat(values[None] / coding.weights.sum(), T, axis=0)
    rounding = 1 + 1e-12  # of what arrives in parts
    np.testing.assert_array_equal(tsa([z * rounding], lambda h: h, coding.neuron()).spikes, expected)
    assert np.abs(expected).sum(axis=0).max() == 1
    assert coding.levels == T


@pytest.mark.parametrize("form", [target.name for target in TARGETS])
def test_a_network(form: str, tmp_path: Path) -> None:
    model, data = small_classifier(64)
    snn = csscc.compile(model, data["x"], coding="ttfs", form=form)
    checked = verify(snn.file, data["x"])
    assert checked.spikes > 0
    assert checked.different == 0
    logits = run(model, {"x": data["x"]})["y"]
    assert rms(snn.run(data["x"]) - logits) < 0.25 * rms(logits)
    snn.save(tmp_path / "snn.onnx")
    assert csscc.load(tmp_path / "snn.onnx").facts.coding == Coding(32, 1.0, 32, linear=True)


@pytest.mark.parametrize("scale", [1, 5])
def test_neurons_send_one_spike_at_most(scale: float) -> None:
    """On inputs that saturate them too."""
    model, data = small_classifier(64)
    snn = csscc.compile(model, data["x"], coding="ttfs", T=16, form="unrolled")
    trains = [n.output[0] for n in spike_sources(snn.model) ]
    found = Session(with_outputs(snn.model, trains)).run({"x": scale * data["x"]})
    for name in trains:
        spikes = found[name].reshape(16, len(data["x"]), -1)
        assert set(np.unique(spikes)) <= {-1.0, 0.0, 1.0}
        assert np.abs(spikes).sum(axis=0).max() == 1


@pytest.mark.parametrize("change", [{"silent": 3}, {"beta": 2.0}])
def test_what_contradicts_one_spike_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(csscc.UsageError, match="one spike at most"):
        csscc.compile("no.onnx", coding="ttfs", **change)
