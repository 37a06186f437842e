"""Residual histograms against residuals computed by hand."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

from csscc.dialect.model import define_operators
from csscc.runtime.residuals import residual_histograms

WEIGHTS = [4.0, 2.0, 1.0]
TEXT = f"""
<ir_version: 10, opset_import: ["" : 20, "csscc" : 9]>
g (float[N,2,4] x) => (float[N,2,4] y)
<float tx = {{0.25}}, float ty = {{1}}, float zero = {{0}}, float[1,2,1] gain = {{1.0, 3.0}}>
{{
    s = csscc.Encode <weights = {WEIGHTS}> (x, tx)
    z = Mul(s, gain)
    [n] r = csscc.TSARelu <weights = {WEIGHTS}, silent = 1> (z, zero, ty)
    y = csscc.Decode <weights = {WEIGHTS}> (r, zero)
}}
"""


def model() -> onnx.ModelProto:
    return define_operators(onnx.parser.parse_model(TEXT))


def by_hand(x: np.ndarray) -> np.ndarray:
    """|u| of every neuron: whole inputs are whole numbers here, so what the 7 levels cannot hold is left."""
    whole = np.maximum(np.clip(np.rint(x / 0.25), -7, 7) * np.array([1, 3]).reshape(1, 2, 1), 0)
    return np.abs(whole - np.minimum(whole, 7))


@pytest.mark.parametrize("axis", [None, 1])
def test_histograms_are_those_of_the_residuals(axis: int | None) -> None:
    x = (np.random.default_rng(0).integers(-7, 8, (12, 2, 4)) * 0.25).astype(np.float32)
    reported: list[int] = []
    batches = [{"x": x[:5]}, {"x": x[5:]}]
    result = residual_histograms(model(), batches, {"n": axis}, progress=reported.append)
    expected = by_hand(x)
    rows = expected.reshape(1, -1) if axis is None else expected.transpose(1, 0, 2).reshape(2, -1)
    assert list(result) == ["n"]
    assert reported == [5, 7]
    np.testing.assert_allclose(result["n"].largest, rows.max(axis=1), atol=1e-6)
    np.testing.assert_allclose(result["n"].counts.sum(axis=1), rows.shape[1])
    assert result["n"].seen == rows.shape[1]


def test_the_first_channel_is_healthy_and_the_second_is_not() -> None:
    """With a gain of 3 the neuron is asked for up to 21 and can send 7."""
    x = np.full((1, 2, 4), 7 * 0.25, np.float32)
    largest = residual_histograms(model(), [{"x": x}], {"n": 1})["n"].largest
    np.testing.assert_allclose(largest, [0, 14])
