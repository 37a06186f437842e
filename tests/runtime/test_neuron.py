"""The neuron against the paper's equations, written out here a second time, in float64."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from csscc.coding import oracle
from csscc.coding.coding import Coding
from csscc.coding.thresholds import just_below

FloatArray = NDArray[np.float64]
SLACK = 1e-9
common = settings(deadline=None, max_examples=60, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
steps = st.integers(1, 14)
silences = st.integers(0, 3)


def relu(x: FloatArray) -> FloatArray:
    return np.maximum(x, 0)


def value(spikes: FloatArray, beta: float) -> FloatArray:
    """Eq. 8 with theta = 1: the sum of beta**(T-t) * S[t]."""
    total = np.zeros(spikes.shape[1:])
    for s in spikes:
        total = total * beta + s
    return total


def algorithm_1(z: FloatArray, beta: float, L: int) -> tuple[FloatArray, FloatArray, float]:
    """Algorithm 1 with theta = 1, its silent loop running L times; also how close a decision was to a tie."""
    T = len(z)
    padded = np.concatenate([z, np.zeros((L, *z.shape[1:]))])
    membrane, threshold = np.zeros(z.shape[1:]), 0.5 * beta**L
    for i in range(L):
        membrane = beta * membrane + padded[i]
    spikes, nearest = np.zeros_like(z), np.inf
    for i in range(T):
        membrane = beta * membrane + padded[i + L]
        nearest = min(nearest, float(np.abs(np.abs(membrane) - threshold).min()))
        spikes[i] = (membrane >= threshold).astype(float) - (membrane <= -threshold).astype(float)
        membrane = membrane - 2 * threshold * spikes[i]
    return spikes, membrane, nearest


def appendix_a6(
    z: FloatArray, beta: float, L: int, start: FloatArray | float = 0.0
) -> tuple[FloatArray, FloatArray, float]:
    """TSA-ReLU by A23 and A24 as recurrences, theta = 1; h holds `start` before the first step."""
    T = len(z)
    h, g = np.zeros(z.shape[1:]) + start, np.zeros(z.shape[1:])
    spikes, nearest = np.zeros_like(z), np.inf
    o = np.zeros(z.shape[1:])
    for t in range(1, T + L + 1):
        h = beta * h + (z[t - 1] if t <= T else 0.0)
        if t <= L:
            continue
        o = np.where(h >= 0, h - beta * g, -beta * g)
        s = np.where(np.abs(o) >= beta**L / 2, np.sign(o), 0.0)
        nearest = min(nearest, float(np.abs(np.abs(o) - beta**L / 2).min()))
        g = beta * g + beta**L * s
        spikes[t - L - 1] = s
    return spikes, o / beta**L - spikes[-1], nearest


def tsa(
    z: Sequence[FloatArray],
    f: Callable[..., FloatArray],
    coding: Coding,
    biases: Sequence[FloatArray | float] | None = None,
    theta: float | None = None,
) -> oracle.Firing:
    """The neuron for currents in units of its theta (or, with `theta`, in the ANN's), as the equations state them."""
    return oracle.tsa(z, f, coding.neuron(), biases, theta)


def currents(seed: int, T: int, n: int = 40, scale: float = 1.0) -> FloatArray:
    return np.random.default_rng(seed).normal(0.2, scale, (T, n))


@common
@given(seeds, steps, st.floats(1.05, 3.0), silences)
def test_tsa_is_algorithm_1(seed: int, T: int, beta: float, L: int) -> None:
    z = currents(seed, T)
    spikes, membrane, nearest = algorithm_1(z, beta, L)
    assume(nearest > SLACK)
    firing = tsa([z], lambda x: x, Coding(T, beta, L, halves=True))
    np.testing.assert_array_equal(firing.spikes, spikes)
    np.testing.assert_allclose(firing.residual, membrane / beta**L, rtol=1e-7, atol=1e-7)


@common
@given(seeds, steps, st.floats(1.05, 3.0), silences)
def test_tsa_relu_is_appendix_a6(seed: int, T: int, beta: float, L: int) -> None:
    z = currents(seed, T)
    spikes, residual, nearest = appendix_a6(z, beta, L)
    assume(nearest > SLACK)
    firing = tsa([z], relu, Coding(T, beta, L, halves=True))
    np.testing.assert_array_equal(firing.spikes, spikes)
    np.testing.assert_allclose(firing.residual, residual, rtol=1e-7, atol=1e-7)


@common
@given(seeds, steps, st.floats(1.05, 3.0), silences)
def test_a_bias_is_what_the_membrane_holds_before_the_first_step(seed: int, T: int, beta: float, L: int) -> None:
    z = currents(seed, T)
    bias = np.random.default_rng(seed + 1).normal(0, 5, z.shape[1])
    spikes, residual, nearest = appendix_a6(z, beta, L, bias / beta**T)
    assume(nearest > SLACK)
    firing = tsa([z], relu, Coding(T, beta, L, halves=True), [bias])
    np.testing.assert_array_equal(firing.spikes, spikes)
    np.testing.assert_allclose(firing.residual, residual, rtol=1e-7, atol=1e-7)


@common
@given(seeds, steps, st.floats(1.05, 3.0), silences)
def test_a_bias_in_parts_and_at_once_make_the_same_sum(seed: int, T: int, beta: float, L: int) -> None:
    z, bias = currents(seed, T), 3.25
    parts = tsa([z + bias / Coding(T, beta).levels], relu, Coding(T, beta, L))
    once = tsa([z], relu, Coding(T, beta, L), [bias])
    total = relu(value(z, beta) + bias)
    for firing in (parts, once):
        np.testing.assert_allclose(value(firing.spikes, beta) + firing.residual, total, rtol=1e-9, atol=1e-7)


def test_the_transcription_notices_a_wrong_neuron() -> None:
    z = currents(3, 10)
    for wrong in (Coding(10, 1.5, 0), Coding(10, 1.6, 1), Coding(10, 1.5, 1, negative=False)):
        assert (tsa([z], relu, wrong).spikes != appendix_a6(z, 1.5, 1)[0]).any()


FUNCTIONS: dict[str, tuple[int, Callable[..., FloatArray]]] = {
    "relu": (1, relu),
    "leaky": (1, lambda x: np.where(x < 0, 0.1 * x, x)),
    "tanh": (1, np.tanh),
    "product": (2, lambda a, b: a * b),
    "maximum": (2, np.maximum),
}


@common
@given(
    st.sampled_from(sorted(FUNCTIONS)),
    seeds,
    steps,
    st.floats(1.05, 3.0),
    silences,
    st.booleans(),
    st.floats(0.01, 4),
)
def test_the_residual_is_what_was_not_sent(
    name: str, seed: int, T: int, beta: float, L: int, negative: bool, theta: float
) -> None:
    """u = f(H)/theta - sum(q*S), with H the whole input: for every f, every coding."""
    number, f = FUNCTIONS[name]
    z = [currents(seed + i, T, scale=0.3) for i in range(number)]
    firing = tsa(z, f, Coding(T, beta, L, negative), theta=theta)
    target = f(*(value(part, beta) for part in z)) / theta
    np.testing.assert_allclose(firing.residual, target - value(firing.spikes, beta), rtol=1e-6, atol=1e-6)


@common
@given(seeds, steps, st.floats(1.05, 3.0), silences, st.floats(0.01, 4))
def test_theta_can_be_absorbed_where_f_is_homogeneous(seed: int, T: int, beta: float, L: int, theta: float) -> None:
    z = currents(seed, T)
    absorbed = tsa([z], relu, Coding(T, beta, L))
    assume(np.abs(np.abs(absorbed.potentials) - 0.5).min() > 1e-6)
    explicit = tsa([z * theta], relu, Coding(T, beta, L), theta=theta)
    np.testing.assert_array_equal(absorbed.spikes, explicit.spikes)
    np.testing.assert_allclose(absorbed.potentials, explicit.potentials, rtol=1e-6, atol=1e-6)


def test_fire_is_symmetric_and_fires_above_the_threshold() -> None:
    potential = 3 * np.array([-7.0, -0.500001, -0.5, -0.2, 0.0, 0.5, 0.500001, 0.999999, 1.0, 7.0])
    np.testing.assert_array_equal(oracle.fire(potential, 1.5), [-1, -1, 0, 0, 0, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(oracle.fire(-potential, 1.5), -oracle.fire(potential, 1.5))
    np.testing.assert_array_equal(oracle.fire(potential, 1.5, negative=False), [0, 0, 0, 0, 0, 0, 1, 1, 1, 1])
    whole = oracle.fire(potential, just_below(3.0), negative=False)
    np.testing.assert_array_equal(whole, [0, 0, 0, 0, 0, 0, 0, 0, 1, 1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fire_is_division_rounding_to_even_and_a_clamp(dtype: type[np.floating]) -> None:
    """What QuantizeLinear computes, one IEEE operation after the other, for numbers next to every threshold."""
    for beta in (1.0, 1.1, 1.3, 1.5, 2.0, 2.7, 3.0):
        for weight in 2 * np.array(Coding(40, beta).neuron().thresholds).astype(dtype):
            near = np.array([weight / 2, weight, weight * 3 / 2, 0.0], dtype)
            for _ in range(3):
                near = np.concatenate([near, np.nextafter(near, dtype(0)), np.nextafter(near, dtype(np.inf))])
            near = np.concatenate([near, np.array([1e30, np.inf], dtype)])
            potential = np.concatenate([near, -near])
            expected = np.clip(np.rint(potential / weight), -1, 1)
            np.testing.assert_array_equal(oracle.fire(potential, weight / 2), expected)
            assert {-1.0, 0.0, 1.0} == set(expected)


def test_temporal_coupling_example_of_section_4_2_1() -> None:
    """Two inputs that fire at t = 2 say 2; the spike of weight 2 was due at t = 1."""
    late = np.array([[0.0], [2.0]])
    for negative in (False, True):
        coupled = tsa([late], relu, Coding(2, 2.0, 0, negative))
        np.testing.assert_array_equal(coupled.spikes[:, 0], [0, 1])
        assert coupled.residual[0] == 1.0
        with_silence = tsa([late], relu, Coding(2, 2.0, 1, negative))
        np.testing.assert_array_equal(with_silence.spikes[:, 0], [1, 0])
        assert with_silence.residual[0] == 0.0


def test_negative_spikes_take_back_what_was_sent_too_early() -> None:
    """The input says 2 at t = 1 and takes 1 back at t = 2."""
    corrected = np.array([[1.0], [-1.0]])
    without = tsa([corrected], relu, Coding(2, 2.0, 0, negative=False))
    assert value(without.spikes, 2.0)[0] == 2
    assert without.residual[0] == -1
    ternary = tsa([corrected], relu, Coding(2, 2.0, 0))
    np.testing.assert_array_equal(ternary.spikes[:, 0], [1, -1])
    assert ternary.residual[0] == 0


@common
@given(seeds, st.integers(1, 60), st.booleans())
def test_rate_coding_is_integrate_and_fire(seed: int, T: int, negative: bool) -> None:
    """Soft reset, an initial potential of half a threshold, and a memory of what was sent, which stays >= 0."""
    z = currents(seed, T, scale=0.7)
    potential, sent = np.full(z.shape[1], 0.5), np.zeros(z.shape[1])
    nearest = np.inf
    firing = tsa([z], relu, Coding(T, 1.0, 0, negative))
    for t in range(T):
        potential = potential + z[t]
        nearest = min(nearest, float(np.abs(potential).min()), float(np.abs(potential - 1).min()))
        assume(nearest > SLACK)
        spike = (potential >= 1).astype(float)
        if negative:
            spike -= (potential <= 0) & (sent > 0)
        np.testing.assert_array_equal(firing.spikes[t], spike)
        potential, sent = potential - spike, sent + spike


@common
@given(seeds, st.integers(1, 12), st.floats(1.05, 2.0))
def test_a_layer_that_waits_for_all_its_input_sends_what_an_encoder_would(seed: int, T: int, beta: float) -> None:
    z = currents(seed, T, scale=0.4)
    coding = Coding(T, beta, T)
    target = relu(value(z, beta))
    firing = tsa([z], relu, coding)
    assume(np.abs(np.abs(firing.potentials) - 0.5).min() > 1e-6)
    np.testing.assert_array_equal(firing.spikes, oracle.encode(target, 1.0, coding.encoder()))
    inside = target <= coding.levels + 0.5
    assert (np.abs(firing.residual[inside]) <= 0.5 + 1e-6).all()


def test_rate_coding_feeds_a_constant_current() -> None:
    a = np.array([[-3.0, 0.25], [8.0, 0.0]])
    sent = oracle.encode(a, 0.5, Coding(16, 1.0, 0).encoder())
    assert sent.shape == (16, 2, 2)
    assert (sent == sent[0]).all()
    np.testing.assert_allclose(0.5 * sent.sum(axis=0), a)


# The encoders. With r the rest behind a step, in units of the spike just decided:
#   ternary   |r| <= 1/2 needs |o| <= 3/2, and o = beta*r keeps that up to beta = 3. The first potentials may
#             be larger: full spikes bring them down as long as |a| <= theta*(sum(q) + 1/2). So
#             |a_hat - a| <= theta/2.
#   positive  0 <= r < 1 needs o < 2, and o = beta*r keeps that up to beta = 2, as Theorem 2 asks. So
#             0 <= a - a_hat < theta for 0 <= a < theta*(sum(q) + 1).
@common
@given(seeds, st.integers(1, 16), st.floats(1, 3, exclude_min=True), st.floats(1e-3, 1e3))
def test_the_ternary_encoder_is_within_half_theta(seed: int, T: int, beta: float, theta: float) -> None:
    coding = Coding(T, beta)
    top = sum(beta**k for k in range(T)) + 0.5
    a = np.random.default_rng(seed).uniform(-top, top, 500) * theta
    a[:4] = np.array([-top, top, 0, top - 0.5]) * theta
    spikes = oracle.encode(a, theta, coding.encoder())
    assert set(np.unique(spikes)) <= {-1.0, 0.0, 1.0}
    error = np.abs(theta * value(spikes, beta) - a)
    assert error.max() <= theta * (0.5 + SLACK * top)


@common
@given(seeds, st.integers(1, 16), st.floats(1, 2, exclude_min=True), st.floats(1e-3, 1e3))
def test_theorem_2_the_positive_encoder_is_within_theta(seed: int, T: int, beta: float, theta: float) -> None:
    coding = Coding(T, beta, signed_input=False)
    top = sum(beta**k for k in range(T))
    a = np.random.default_rng(seed).uniform(0, top, 500) * theta
    spikes = oracle.encode(a, theta, coding.encoder())
    assert set(np.unique(spikes)) <= {0.0, 1.0}
    error = a - theta * value(spikes, beta)
    assert error.min() >= -theta * SLACK * top
    assert error.max() < theta * (1 + SLACK * top)
    saturated = oracle.encode(np.array([top, 2 * top]) * (1 + 1e-9) * theta, theta, coding.encoder())
    np.testing.assert_array_equal(saturated, np.ones_like(saturated))


def test_theorem_2_needs_beta_of_at_most_2() -> None:
    coding, a = Coding(2, 2.5, signed_input=False), np.array([2.4])
    assert a[0] - value(oracle.encode(a, 1.0, coding.encoder()), 2.5)[0] > 1


def test_the_positive_encoder_sends_nothing_for_negative_values() -> None:
    assert not oracle.encode(np.array([-0.1, -50.0]), 0.1, Coding(6, 1.5, signed_input=False).encoder()).any()


@pytest.mark.parametrize("T", [1, 3, 6])
@pytest.mark.parametrize("beta", [2.0, 3.0])
@pytest.mark.parametrize("L", [0, 1, 2])
def test_with_a_small_residual_the_nearest_train_was_sent(T: int, beta: float, L: int) -> None:
    """Brute force over all 3**T trains; for a whole beta the encodable values are the whole numbers."""
    every = np.array(list(itertools.product([-1, 0, 1], repeat=T)), float)
    encodable = value(every.T, beta)
    firing, target = _relu_of_random_trains(T, beta, L)
    sent = value(firing.spikes, beta)
    healthy = np.abs(firing.residual) <= 0.5
    assert healthy.mean() > 0.3
    best = np.abs(encodable[:, None] - target).min(axis=0)
    np.testing.assert_allclose(np.abs(sent - target)[healthy], best[healthy], atol=1e-9)


@pytest.mark.parametrize("T", [1, 3, 6])
@pytest.mark.parametrize("L", [0, 1, 2])
def test_with_a_small_residual_no_train_of_steps_of_theta_is_nearer(T: int, L: int) -> None:
    """A fractional beta has encodable values closer than theta; half a theta is what is promised there."""
    beta = 1.5
    every = np.array(list(itertools.product([-1, 0, 1], repeat=T)), float)
    encodable = value(every.T, beta)
    firing, target = _relu_of_random_trains(T, beta, L)
    healthy = np.abs(firing.residual) <= 0.5
    assert healthy.mean() > 0.3
    best = np.abs(encodable[:, None] - target).min(axis=0)
    error = np.abs(value(firing.spikes, beta) - target)
    assert (best <= error + 1e-9).all()
    assert error[healthy].max() <= 0.5 + 1e-9
    assert best[np.abs(target) <= encodable.max()].max() <= 0.5 + 1e-9


def _relu_of_random_trains(T: int, beta: float, L: int) -> tuple[oracle.Firing, FloatArray]:
    rng = np.random.default_rng(T)
    spikes = rng.integers(-1, 2, (T, 8, 300)).astype(float)
    z = np.einsum("w,twn->tn", rng.normal(0, 0.4, 8), spikes)
    return tsa([z], relu, Coding(T, beta, L)), relu(value(z, beta))


def test_one_silent_step_makes_residuals_healthy() -> None:
    shares = []
    for L in (0, 1, 2):
        firing, target = _relu_of_random_trains(12, 1.5, L)
        inside = target <= Coding(12, 1.5).levels
        shares.append(np.mean(np.abs(firing.residual[inside]) <= 0.5 + 1e-9))
    assert shares[0] < shares[1] <= shares[2]
    assert shares[2] > 0.99


def _softmax(x: FloatArray) -> FloatArray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _gelu(x: FloatArray) -> FloatArray:
    from math import erf

    return x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2)))


# Relative RMS at T = 12 and T = 16, beta = 1.5, L = 1; half as much again as the design measured.
ANALOG: dict[str, tuple[int, Callable[..., FloatArray], float, float]] = {
    "sigmoid": (1, lambda x: 1 / (1 + np.exp(-x)), 0.012, 0.003),
    "gelu": (1, _gelu, 0.018, 0.004),
    "product": (2, lambda a, b: a * b, 0.020, 0.0045),
    "softmax": (1, _softmax, 0.041, 0.0075),
}


def _relative_error(f: Callable[..., FloatArray], number: int, T: int) -> float:
    coding = Coding(T, 1.5, 1)
    rng = np.random.default_rng(11)
    values = [rng.normal(0, 1.5, (400, 10)) for _ in range(number)]
    trains = [
        oracle.encode(v, top / coding.levels, coding.encoder()) * top / coding.levels
        for v in values
        for top in (np.abs(v).max(),)
    ]
    exact = f(*values)
    theta = np.abs(exact).max() / coding.levels
    sent = theta * value(tsa(trains, f, coding, theta=theta).spikes, 1.5)
    return float(np.sqrt(np.mean((sent - exact) ** 2) / np.mean(exact**2)))


@pytest.mark.parametrize("name", sorted(ANALOG))
def test_the_error_of_any_activation_falls_as_beta_to_the_minus_T(name: str) -> None:
    number, f, at_12, at_16 = ANALOG[name]
    errors = [_relative_error(f, number, T) for T in (12, 16, 20)]
    assert errors[0] <= at_12
    assert errors[1] <= at_16
    for coarse, fine in itertools.pairwise(errors):
        assert 0.5 < (fine / coarse) / 1.5**-4 < 2.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtypes_are_kept(dtype: type[np.floating]) -> None:
    coding = Coding(5, 1.5, 1)
    x = np.linspace(-1, 1, 7, dtype=dtype)
    spikes = oracle.encode(x, 0.1, coding.encoder())
    firing = tsa([spikes], relu, coding, [0.5])
    assert {
        spikes.dtype,
        firing.spikes.dtype,
        firing.residual.dtype,
        oracle.decode(firing.spikes, coding.neuron()).dtype,
    } == {np.dtype(dtype)}


@common
@given(seeds, steps, st.floats(1.05, 3.0))
def test_decode_is_equation_8(seed: int, T: int, beta: float) -> None:
    z = currents(seed, T)
    np.testing.assert_allclose(oracle.decode(z, Coding(T, beta).neuron()), value(z, beta), rtol=1e-10, atol=1e-8)


@pytest.mark.parametrize(("T", "beta"), [(1, 1.5), (12, 1.5), (5, 2.0), (4, 3.0)])
def test_weights_and_levels(T: int, beta: float) -> None:
    coding = Coding(T, beta)
    expected: Sequence[float] = [beta ** (T - t) for t in range(1, T + 1)]
    np.testing.assert_allclose(coding.weights, expected, rtol=1e-12)
    assert coding.levels == pytest.approx((beta**T - 1) / (beta - 1), rel=1e-12)
