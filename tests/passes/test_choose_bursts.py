"""Which neurons send bursts, what it does to amplitudes and grids, and that the outputs err half as much."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

import csscc
from csscc.dialect.metadata import Layer
from csscc.dialect.spiking import neurons
from csscc.measure.verify import verify
from tests.helpers import parse, run

NETWORK = """g (float[N,8] x) => (float[N,3] y)
<float[8,24] w1, float[24,24] w2, float[24,24] w3, float[24,24] w4, float[24,3] w5,
 float zero = {0.0}, float six = {6.0}> {
    h1 = MatMul(x, w1) [relu] r1 = Relu(h1)
    h2 = MatMul(r1, w2) [clip] r2 = Clip(h2, zero, six)
    h3 = MatMul(r2, w3) [tanh] r3 = Tanh(h3)
    h4 = MatMul(r3, w4) [leaky] r4 = LeakyRelu(h4)
    y = MatMul(r4, w5)
}"""
RELUS = """g (float[N,8] x) => (float[N,3] y) <float[8,24] w1, float[24,24] w2, float[24,3] w3> {
    h1 = MatMul(x, w1) r1 = Relu(h1) h2 = MatMul(r1, w2) r2 = Relu(h2) y = MatMul(r2, w3) }"""
SIGNED = RELUS.replace("Relu", "LeakyRelu <alpha = 0.5>")
SETTINGS: dict[str, Any] = {"T": 4, "beta": 3.0, "silent": 3, "split": False}


def samples(seed: int, number: int = 128) -> Any:
    return np.random.default_rng(seed).normal(size=(number, 8)).astype(np.float32)


def compiled(text: str, **options: Any) -> csscc.SNN:
    return csscc.compile(parse(text), samples(0), **{**SETTINGS, **options})


def in_bursts(snn: csscc.SNN) -> list[str]:
    return [view.name for _, view in neurons(snn.model.graph) if view.schedule.burst]


def test_all_neurons_and_encoders() -> None:
    snn = compiled(NETWORK)
    assert in_bursts(snn) == ["relu", "clip", "tanh", "leaky"]
    assert snn.bursts == ("x_encode", "relu", "clip", "tanh", "leaky")


def test_no_encoder_of_positive_values() -> None:
    neurons = ("relu", "clip", "tanh", "leaky")
    assert compiled(NETWORK, signed_input=False).bursts == neurons
    assert compiled(NETWORK, split=True).bursts == ("x_digits_out_encode", *neurons)


def test_an_encoder_in_bursts_errs_by_half_as_much() -> None:
    """By hand: the nearest of 2 * 80 + 1 values, of 81 without bursts, from minus the largest input to the largest."""
    text = "g (float[N,8] x) => (float[N,8] y) <float[8,8] eye> { y = MatMul(x, eye) }"
    ann, x = parse(text, eye=np.eye(8)), samples(0)
    top = np.abs(x).max()
    for bursts, levels in ((True, 80), (False, 40)):
        got = csscc.compile(ann, x, bursts=bursts, **SETTINGS).run(x)
        theta = top / levels
        np.testing.assert_allclose(got, theta * np.rint(x / theta), atol=1e-3 * theta)


ELSEWHERE: list[dict[str, Any]] = [{"bursts": False}, {"T": 10, "silent": 9}, {"preset": "paper"}]


@pytest.mark.parametrize("options", ELSEWHERE, ids=str)
def test_elsewhere_nobody(options: dict[str, Any]) -> None:
    assert not in_bursts(compiled(NETWORK, **options))


def test_theta_halves_and_the_range_stays() -> None:
    def layers(**options: Any) -> dict[str, Layer]:
        return {layer.name: layer for layer in compiled(NETWORK, method="max", adjust=False, **options).layers}

    bursts, signed = layers(), layers(bursts=False)
    for name in ("relu", "clip", "tanh", "leaky"):
        assert bursts[name].amplitude == pytest.approx(signed[name].amplitude / 2)
        assert bursts[name].clipping_range == pytest.approx(signed[name].clipping_range)


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu"])
def test_neurons_whose_values_are_outputs_too_keep_their_range(activation: str) -> None:
    """What decodes them takes the name of their tensor, by which amplitudes and bursts are known."""
    head, weights = "g (float[N,8] x) => (float[N,24] r, float[N,3] y)", "<float[8,24] w1, float[24,3] w2>"
    ann = parse(f"{head} {weights} {{ h = MatMul(x, w1) [it] r = {activation}(h) y = MatMul(r, w2) }}")
    snn = csscc.compile(ann, samples(0), T=8, beta=2.0, silent=7, method="max")
    assert in_bursts(snn) == ["it"]
    wanted, got = run(ann, {"x": samples(1)}), run(snn.model, {"x": samples(1)})
    for name, values in wanted.items():
        assert np.abs(got[name] - values).max() < 0.01 * np.abs(values).max()


@pytest.mark.parametrize("text", [RELUS, SIGNED], ids=["positive", "signed"])
def test_outputs_err_half_as_much(text: str) -> None:
    x = samples(1)
    wanted = run(parse(text), {"x": x})["y"]

    def error(**options: Any) -> float:
        return float(np.square(compiled(text, **options).run(x) - wanted).mean() ** 0.5)

    exact_input = {"T": 5, "beta": 3.0, "silent": 4}
    assert error(**exact_input) < 0.75 * error(bursts=False, **exact_input)


def test_sums_of_bursts_are_exact() -> None:
    """Weights are multiples of a power of two so small that 2 spikes a step, merged, need 24 bits at most."""
    snn = compiled(RELUS)
    constants = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in snn.model.graph.initializer}
    weights = constants[[n for n in snn.model.graph.node if n.op_type == "MatMul"][1].input[1]]
    for column in weights.T:
        k = next(k for k in range(40) if np.array_equal(column * 2.0**k, np.rint(column * 2.0**k)))
        assert 2 * 40 * np.abs(column).sum() * 2.0**k <= 2**24


@pytest.mark.parametrize("form", ["unrolled", "scan", "stream"])
def test_onnxruntime_sends_them_as_numpy_does(form: str) -> None:
    snn = compiled(RELUS, form=form)
    assert len(in_bursts(snn)) == 2
    assert verify(snn.file, samples(1, 32)).different == 0


def test_where_all_is_received_zero_costs_no_spike() -> None:
    snn = compiled(RELUS)
    trace, x = snn.trace(samples(1, 32)), samples(1, 32)
    first = next(view.name for _, view in neurons(snn.model.graph))
    hidden = np.maximum(x @ numpy_helper.to_array(parse(RELUS).graph.initializer[0]), 0)
    spikes = trace.spikes[first]
    assert set(np.unique(spikes)) == {-1.0, 0.0, 1.0, 2.0}
    assert not spikes[:, hidden == 0].any() or (spikes[:, hidden == 0].sum() < 0.02 * spikes.sum())
