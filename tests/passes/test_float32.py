"""Networks of 16-bit and 64-bit floats compute in 32 bits and keep the types of their inputs and outputs."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

from csscc.passes.canonical.float32 import in_float32
from csscc.runtime.session import Session

TEXT = """<ir_version: 8, opset_import: ["": 20]> g ({kind}[N,2] x) => ({kind}[N,2] y) <{kind}[2,2] w = {{1,2,3,4}}> {{
    a = MatMul(x, w)
    y = Relu(a)
}}"""


@pytest.mark.parametrize(("kind", "dtype"), [("float16", np.float16), ("double", np.float64)])
def test_types_at_the_borders_stay_and_values_agree(kind: str, dtype: type) -> None:
    model = onnx.parser.parse_model(TEXT.format(kind=kind))
    weights = onnx.numpy_helper.from_array(np.array([[1, 2], [3, 4]], dtype), "w")  # the text form has no 16-bit values
    model.graph.initializer[0].CopyFrom(weights)
    changed = in_float32(model)
    onnx.checker.check_model(changed, full_check=True)
    assert changed.graph.initializer[0].data_type == onnx.TensorProto.FLOAT
    x = np.array([[0.5, -1.0], [2.0, 0.25]], dtype)
    got = Session(changed).run({"x": x})["y"]
    assert got.dtype == dtype
    np.testing.assert_allclose(got, np.maximum(x.astype(np.float64) @ [[1, 2], [3, 4]], 0), rtol=1e-3)


def test_a_float32_model_is_left_alone() -> None:
    model = onnx.parser.parse_model(TEXT.format(kind="float"))
    assert in_float32(model) is model
