"""Presets, ranges, and what is said about a value out of its range."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from csscc.coding.coding import Coding
from csscc.errors import UsageError
from csscc.options import CODING_FIELDS, PLAIN, PRESETS, Options, make_options
from csscc.passes.base import Repeat
from csscc.passes.convert.adjust_amplitudes import AdjustAmplitudes
from csscc.pipeline import spiking_passes
from tests.helpers import parse, source_of


def test_presets() -> None:
    default, paper = make_options(), make_options("paper")
    assert default == Options() == PRESETS["default"]
    assert default.coding == Coding(T=8, beta=3, silent=1, negative=True, signed_input=True)
    assert (default.per_channel, default.bias_on_first_step, default.adjust) == (True, True, True)
    assert (paper.per_channel, paper.method, paper.percentile, paper.bias_on_first_step) == (
        False,
        "percentile",
        99.99,
        False,
    )
    assert paper.adjust


@pytest.mark.parametrize(("preset", "percentile", "rms"), [("default", 99.95, 0.5), ("paper", 99.9, None)])
def test_the_preset_states_what_residuals_raise_an_amplitude(preset: str, percentile: float, rms: float | None) -> None:
    source = source_of(parse("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"), samples=1)
    repeated = [p.first for p in spiking_passes(make_options(preset), source) if isinstance(p, Repeat)]
    (adjust,) = (p for p in repeated if isinstance(p, AdjustAmplitudes))
    assert (adjust.percentile, adjust.rms) == (percentile, rms)


def test_changes_go_where_they_belong_and_none_changes_nothing() -> None:
    options = make_options("paper", T=14, beta=2.0, silent=0, negative=False, signed_input=False, method="mse", seed=3)
    assert options.coding == Coding(14, 2.0, 0, negative=False, signed_input=False, halves=True, **PLAIN)
    assert (options.method, options.seed, options.per_channel) == ("mse", 3, False)
    assert make_options(T=None, beta=None, method=None, seed=None) == Options()


ABOVE_THREE = {1: (2, 4), 4: (2, 4, 5, 5), 5: (2, 4, 5), 6: (2, 3.5, 3.5), 7: (2, 3, 3)}  # without silent steps, ...


@pytest.mark.parametrize("T", [1, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 19, 20, 24, 32, 64])
def test_beta_is_as_large_as_the_steps_allow(T: int) -> None:
    """By hand in `ABOVE_THREE`; else up to 3, and to 2 where a neuron can take back less; what is stated is obeyed."""

    def levels(beta: float) -> float:
        return sum(beta**t for t in range(T))

    for silent, most in enumerate(ABOVE_THREE.get(T, ())):
        assert make_options(T=T, silent=silent).coding.beta == most
    three = () if T in ABOVE_THREE else ((3, {}),)
    for most, changes in (*three, (2, {"silent": 0}), (2, {"bursts": False}), (2, {"negative": False})):
        beta = make_options(T=T, **changes).coding.beta
        assert levels(beta) < 16384
        assert beta == most or levels(beta + 0.5) > 16384
        assert beta <= most
    assert make_options(T=T, beta=1.75).coding.beta == 1.75
    assert make_options("paper", T=T).coding.beta == 1.5
    assert make_options(coding="fs", T=T).coding.beta == 2


def test_forms() -> None:
    assert (Options().form, make_options(form="scan").form) == ("auto", "scan")
    with pytest.raises(UsageError, match="form 'step' is not known; choose one of auto, stepwise, unrolled, scan"):
        make_options(form="step")


def test_codings() -> None:
    rate, fs = make_options(coding="rate", T=32), make_options("paper", "fs", T=6)
    assert rate.coding == Coding(32, 1.0, 0)
    assert (rate.per_channel, rate.method, rate.percentile) == (True, "percentile", 99.9)
    assert (rate.bias_on_first_step, rate.adjust) == (False, False)
    assert fs.coding == Coding(6, 2.0, 6, halves=True, **PLAIN)
    assert (fs.per_channel, fs.correct_bias) == (False, True)
    assert make_options(coding="fs", correct_bias=False).correct_bias is False
    assert make_options(coding="fs", T=6, silent=2).coding.silent == 2
    assert make_options(coding="rate", percentile=99.99).percentile == 99.99


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_codings_that_hear_everything_first_need_all_steps_unless_a_number_is_stated(preset: str) -> None:
    for coding, steps in (("fs", 6), ("ttfs", 9), ("tsc", 9)):
        for options in (make_options(preset, coding, T=steps), make_options(preset, coding, T=steps, silent="auto")):
            assert options.coding.silent == steps
            assert not options.choose_silence
    assert make_options(preset, "fs", T=6, silent=0).coding.silent == 0
    with pytest.raises(UsageError, match="leave --silent out"):
        make_options(preset, "ttfs", T=6, silent=0)


def test_options_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Options().seed = 4  # type: ignore[misc]
    assert Options().with_(seed=4) != Options()


@pytest.mark.parametrize(
    "values",
    [
        {"T": 1}, {"T": 64}, {"beta": 3.0}, {"beta": 1.0001}, {"silent": 0}, {"silent": 8},
        {"T": 64, "silent": 64}, {"beta": 1.0}, {"coding": "rate", "T": 512},
        {"calibration_samples": 1}, {"percentile": 50}, {"percentile": 100},
    ],
)  # fmt: skip
def test_values_on_the_border_are_taken(values: dict[str, Any]) -> None:
    make_options(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"T": 0}, "T must be a whole number from 1 to 64, not 0"),
        ({"T": 65}, "T must be a whole number from 1 to 64, not 65"),
        ({"T": -3}, "T must be"),
        ({"beta": 0.99}, r"beta must be from 1 \(rate coding\) to 5, not 0.99"),
        ({"T": 4, "beta": 5.001}, r"beta must be from 1 \(rate coding\) to 5, not 5.001"),
        ({"T": 4, "beta": 3.001, "bursts": False}, "beta above 3, such as 3.001, needs bursts and negative spikes"),
        ({"T": 7, "beta": 5}, "needs bursts and negative spikes, and a T of at most 6, not 7"),
        ({"T": 4, "beta": 4, "signed_input": False}, "needs bursts and negative spikes"),
        ({"T": 2000, "beta": 4}, "T must be a whole number from 1 to 64, not 2000"),
        ({"coding": "rate", "T": 513}, "T must be a whole number from 1 to 512, not 513"),
        ({"coding": "rate", "beta": 2.0}, "beta is 1, not 2.0"),
        ({"coding": "morse"}, "coding 'morse' is not known; choose one of css, rate, fs"),
        ({"beta": float("nan")}, "beta must be"),
        ({"silent": -1}, "silent steps must be from 0 to 8"),
        ({"silent": 9}, r"silent steps must be from 0 to 8 \(T\), not 9"),
        ({"calibration_samples": 0}, "calibration samples must be at least 1, not 0"),
        ({"percentile": 49.9}, "the percentile must lie between 50 and 100, not 49.9"),
        ({"percentile": 100.1}, "percentile must lie"),
    ],
)
def test_values_out_of_range_are_wrong_usage(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make_options(**values)
    assert caught.value.exit_code == 2


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="preset 'best' is not known; choose one of default, paper"):
        make_options("best")


def test_what_was_stated_of_the_coding() -> None:
    assert make_options(T=4, silent="auto", method="max").stated == {"T"}
    assert make_options().stated == make_options(silent="auto").stated == set()
    assert make_options(coding="rate").stated == CODING_FIELDS
