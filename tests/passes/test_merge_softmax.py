"""Softmax over the last axis without the reshaping that raising the opset writes out."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

from csscc.dialect.adapter import export_model, infer_shapes
from csscc.passes.canonical.load import load
from csscc.passes.canonical.merge_softmax import MergeSoftmax
from csscc.runtime.session import Session

TEXT = """<ir_version: 8, opset_import: ["": 20]> g (float[2,5,4] x) => (float[2,5,4] y) <int64[3] shape = {{2,5,4}}> {{
    a = Flatten <axis = {axis}> (x)
    b = Softmax <axis = -1> (a)
    y = Reshape(b, shape)
}}"""


@pytest.mark.parametrize(("axis", "merged"), [(2, 1), (-1, 1), (1, 0)])
def test_it_fires_only_where_the_last_axis_stands_alone(axis: int, merged: int) -> None:
    model = onnx.parser.parse_model(TEXT.format(axis=axis))
    network = load(model)
    infer_shapes(network)
    assert MergeSoftmax().apply(network) == merged
    x = np.random.default_rng(0).standard_normal((2, 5, 4)).astype(np.float32)
    got, wanted = Session(export_model(network)).run({"x": x})["y"], Session(model).run({"x": x})["y"]
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-7)
    assert MergeSoftmax().apply(network) == 0
