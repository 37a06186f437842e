"""What `compile` says of its own result: the error it reports is that of onnxruntime on both files."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import csscc
from csscc import api
from csscc.measure.agreement import Agreement
from csscc.measure.comparison import LIMIT, SAMPLES
from csscc.models import digits_data, digits_model
from tests.helpers import parse, run


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    with np.load(digits_data()) as archive:
        return archive["x_calib"][:64]


def error_by_hand(ann: onnx.ModelProto, snn: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, float]:
    expected, got = run(ann, feeds), run(snn, feeds)
    return {n: float(np.linalg.norm(got[n] - v) / np.linalg.norm(v)) for n, v in expected.items()}


@pytest.mark.parametrize("T", [2, 8])
def test_the_report_has_the_error_on_the_first_samples_and_warns_where_it_is_large(x: np.ndarray, T: int) -> None:
    snn = csscc.compile(digits_model(), calibration=x, T=T, adjust=False)
    comparison = snn.report.comparison
    by_hand = error_by_hand(onnx.load(digits_model()), snn.model, {"image": x[:SAMPLES]})
    assert comparison.samples == SAMPLES
    assert comparison.errors == pytest.approx(by_hand, rel=1e-4)
    assert bool(snn.report.warnings) == (by_hand["logits"] > LIMIT) == (T == 2)
    assert all("'logits'" in text and "csscc diagnose" in text for text in snn.report.warnings)


def test_a_part_that_goes_wrong_is_reported(x: np.ndarray) -> None:
    """A quotient whose denominator comes near zero has no error bound."""
    ann = parse(
        """
        quotient (float[N,4] x) => (float[N,3] y, float[N,3] z)
        <float[4,3] W, float[3,3] V>
        {
            a = MatMul(x, W)
            y = Tanh(a)
            p = Relu(a)
            b = MatMul(p, V)
            q = Div(b, a)
            c = MatMul(q, V)
            z = Identity(c)
        }
        """
    )
    feeds = {"x": np.random.default_rng(0).standard_normal((16, 4)).astype(np.float32)}
    snn = csscc.compile(ann, calibration=feeds, T=7, beta=1.5, silent=1, method="mse", correct_bias=True, adjust=False)
    by_hand = error_by_hand(ann, snn.model, feeds)
    assert by_hand["z"] > LIMIT > by_hand["y"]
    [warning] = snn.report.warnings
    assert "'z'" in warning


def test_networks_that_insist_on_a_batch_are_compared_in_its_multiples() -> None:
    ann = parse("fixed (float[3,4] x) => (float[3,2] y) <float[4,2] W> {a = Relu(x) y = MatMul(a, W)}")
    feeds = np.random.default_rng(0).standard_normal((3 * 9, 4)).astype(np.float32)
    assert csscc.compile(ann, calibration=feeds, T=10).report.comparison.samples == 15


def test_outputs_need_no_batch_axis() -> None:
    ann = parse(
        "turned (float[N,4] x) => (float[2,N] y, float s) <float[4,2] W>"
        "{a = Relu(x) b = MatMul(a, W) y = Transpose <perm = [1, 0]> (b) s = ReduceSum <keepdims = 0> (y)}"
    )
    feeds = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    comparison = csscc.compile(ann, calibration=feeds, T=16).report.comparison
    assert comparison.samples == 5
    assert set(comparison.errors) == {"y", "s"}
    assert max(comparison.errors.values()) < LIMIT


def test_none_are_compared_where_none_are_asked_for(x: np.ndarray) -> None:
    calibrated = api.calibrate(digits_model(), x)
    for snn in (
        csscc.compile(digits_model(), calibration=x, T=2, adjust=False, check_samples=0),
        csscc.compile(calibrated, T=2, adjust=False),
    ):
        assert (snn.report.comparison.samples, snn.report.comparison.errors) == (0, {})
        assert snn.report.warnings == ()


@pytest.mark.parametrize(("ann", "snn"), [(np.nan, 1.0), (1.0, np.nan), (np.nan, np.nan), (np.inf, 1.0)])
def test_values_that_are_not_finite_in_either_network_leave_no_error_that_is_small(ann: float, snn: float) -> None:
    compared = Agreement()
    compared.add({"y": np.array([2.0])}, {"y": np.array([2.0])}, 1)
    assert compared.output_error["y"] == 0
    compared.add({"y": np.array([ann, 2.0])}, {"y": np.array([snn, 2.0])}, 2)
    compared.add({"y": np.array([2.0])}, {"y": np.array([2.0])}, 1)
    assert compared.output_error["y"] == np.inf
    assert "NaN or infinite" in compared.faults[0]
