"""Codings whose value is a time: the first spike's, or from one spike to the next; by brute force, in every form."""

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
VALUES = np.array([0.0, 0.2, 0.49, 0.51, 1.0, 1.49, 1.51, 4.3, 4.6, 8.49, 8.51, 9.0, 9.5, 14.0, 1e9])
SPIKES = {"ttfs": 1, "tsc": 2}


def first_spike(value: float) -> list[float]:
    """The train of a value that is nearest to a whole number n: a spike n steps before time T + 1 is over."""
    train, nearest = [0.0] * T, min(round(abs(value)), T)
    if nearest:
        train[T - nearest] = float(np.sign(value))
    return train


def switched(value: float) -> list[float]:
    """A spike at once, and one of the other sign n steps later; none where time is over before."""
    train, nearest = [0.0] * T, min(round(abs(value)), T)
    if nearest:
        train[0] = float(np.sign(value))
        if nearest < T:
            train[nearest] = -float(np.sign(value))
    return train


def coding(name: str, steps: int, **changes: bool) -> Coding:
    return Coding(steps, 1.0, steps, linear=True, switched=name == "tsc", **changes)


@pytest.mark.parametrize(("name", "negative"), [("ttfs", True), ("ttfs", False), ("tsc", True)])
def test_spikes_are_where_the_value_is(name: str, negative: bool) -> None:
    css = coding(name, T, negative=negative, signed_input=negative)
    values = np.concatenate([VALUES, -VALUES])
    sent = values if negative else np.maximum(values, 0)
    expected = np.array([(first_spike if name == "ttfs" else switched)(v) for v in sent]).T
    np.testing.assert_array_equal(encode(values, 1.0, css.encoder()), expected)
    z = np.repeat(values[None] / css.weights.sum(), T, axis=0)
    np.testing.assert_array_equal(tsa([z], lambda h: h, css.neuron()).spikes, expected)
    assert np.abs(expected).sum(axis=0).max() == SPIKES[name]
    assert css.levels == T
    decoded = css.weights @ expected
    np.testing.assert_array_less(np.abs(decoded - np.clip(sent, -T, T)), 0.5)


@pytest.mark.parametrize("steps", [16, 256])
@pytest.mark.parametrize("name", ["ttfs", "tsc"])
def test_all_steps_are_one_convolution(name: str, steps: int) -> None:
    """Their sum is never larger than T, however much spikes count together."""
    assert len(coding(name, steps).neuron().merged) == steps
    assert coding(name, 512).neuron().merged == (1.0,)


@pytest.mark.parametrize("form", [target.name for target in TARGETS])
@pytest.mark.parametrize("name", ["ttfs", "tsc"])
def test_a_network(name: str, form: str, tmp_path: Path) -> None:
    model, data = small_classifier(64)
    snn = csscc.compile(model, data["x"], coding=name, form=form)
    checked = verify(snn.file, data["x"])
    assert checked.spikes > 0
    assert checked.different == 0
    logits = run(model, {"x": data["x"]})["y"]
    assert rms(snn.run(data["x"]) - logits) < 0.1 * rms(logits)
    snn.save(tmp_path / "snn.onnx")
    assert csscc.load(tmp_path / "snn.onnx").facts.coding == coding(name, 32)


@pytest.mark.parametrize("scale", [1, 5])
@pytest.mark.parametrize("name", ["ttfs", "tsc"])
def test_neurons_send_no_more_spikes(name: str, scale: float) -> None:
    """On inputs that saturate them too."""
    model, data = small_classifier(64)
    snn = csscc.compile(model, data["x"], coding=name, T=16, form="unrolled")
    trains = [n.output[0] for n in spike_sources(snn.model)]
    found = Session(with_outputs(snn.model, trains)).run({"x": scale * data["x"]})
    for train in trains:
        spikes = found[train].reshape(16, len(data["x"]), -1)
        assert set(np.unique(spikes)) <= {-1.0, 0.0, 1.0}
        assert np.abs(spikes).sum(axis=0).max() == SPIKES[name]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("ttfs", {"silent": 3}, "a layer waits for all T=32 steps"),
        ("ttfs", {"beta": 2.0}, "one spike at most"),
        ("tsc", {"beta": 2.0}, "two spikes at most"),
        ("tsc", {"negative": False}, "a spike of the other sign; leave --no-negative out"),
    ],
)
def test_what_contradicts_the_coding_is_refused(name: str, change: dict[str, float], message: str) -> None:
    with pytest.raises(csscc.UsageError, match=message):
        csscc.compile("no.onnx", coding=name, **change)
