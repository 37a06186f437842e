"""Quantised constants become floats; quantisers of few bits get 8 and a Clip."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from csscc.io.weights import without_weights
from csscc.passes.canonical.dequantise import dequantised
from csscc.passes.canonical.load import load
from tests.helpers import ops, parse, run

SCALES = np.array([0.5, 0.25, 0.1], np.float32)


def model_of(kind: str, values: Any, zero: Any, scale: Any = SCALES, **attributes: Any) -> onnx.ModelProto:
    """``y = x + DequantizeLinear(values)``, all of it written without numpy's types."""
    values, zero = np.asarray(values), np.asarray(zero)
    number = getattr(TensorProto, kind)
    whole = [
        helper.make_tensor("w", number, values.shape, values.reshape(-1).tolist()),
        helper.make_tensor("z", number, zero.shape, zero.reshape(-1).tolist()),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], **attributes),
        helper.make_node("Add", ["x", "d"], ["y"]),
    ]
    shape = ["N", *values.shape[1:]]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [*whole, numpy_helper.from_array(np.asarray(scale), "s")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("kind", ["INT8", "UINT8", "INT16", "INT4", "UINT4", "INT32"])
def test_a_constant_is_its_scale_times_what_lies_behind_its_zero_point(kind: str) -> None:
    low = 0 if kind.startswith("U") else -4
    values = np.arange(low, low + 6).reshape(1, 2, 3)
    zero = np.zeros(3, int) if kind == "INT32" else np.array([1, 0, 2])
    model, _ = dequantised(model_of(kind, values, zero, axis=2), {})
    assert [n.op_type for n in model.graph.node] == ["Add"]
    (made,) = (numpy_helper.to_array(t) for t in model.graph.initializer)
    np.testing.assert_array_equal(made, (values - zero).astype(np.float32) * SCALES)


def test_a_scale_for_each_block() -> None:
    values = np.arange(8).reshape(1, 8)
    scale = np.array([[0.5, 0.25]], np.float32)
    model, _ = dequantised(model_of("INT8", values, np.zeros((1, 2), int), scale, axis=1, block_size=4), {})
    (made,) = (numpy_helper.to_array(t) for t in model.graph.initializer)
    np.testing.assert_array_equal(made, values * np.repeat(scale, 4, 1))


def test_large_constants_travel_beside_the_model() -> None:
    values = np.arange(-100, 100).repeat(20).reshape(1, 4000)
    light, weights = without_weights(model_of("INT8", values, 0, np.float32(0.5)))
    assert set(weights) == {"w"}
    model, weights = dequantised(light, weights)
    assert [t.name for t in model.graph.initializer] == ["d"]
    np.testing.assert_array_equal(numpy_helper.to_array(weights["d"]), values * np.float32(0.5))


def test_weights_with_a_pair_behind_them_become_what_the_pair_makes_of_them() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]>
    g (float[N,4] x) => (float[N,4] y) <float s = {0.5}, int8 z = {0}, int8 low = {-2}, int8 high = {2},
      float[4] w = {0.3, 0.75, -9.0, 1.2}>
    { q = QuantizeLinear(w, s, z) c = Clip(q, low, high) d = DequantizeLinear(c, s, z) y = Add(x, d) }"""
    network = load(onnx.parser.parse_model(text))
    assert ops(network) == ["Add"]
    np.testing.assert_array_equal(network.graph.nodes[0].inputs[1].values, np.float32([0.5, 1.0, -1.0, 1.0]))


def test_quantisers_of_four_bits_get_eight_and_a_clip() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]>
    g (float[N,4] x) => (float[N,4] y) <float s = {0.5}>
    { q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = Neg(d) }"""
    for kind, (low, high) in {"INT4": (-8, 7), "UINT4": (0, 15)}.items():
        model = onnx.parser.parse_model(text)
        model.graph.initializer.append(helper.make_tensor("z", getattr(TensorProto, kind), [], [3]))
        changed, _ = dequantised(model, {})
        onnx.checker.check_model(changed, full_check=True)
        assert [n.op_type for n in changed.graph.node] == ["QuantizeLinear", "Clip", "DequantizeLinear", "Neg"]
        x = np.linspace(-9, 9, 40, dtype=np.float32).reshape(10, 4)
        expected = -(np.clip(np.rint(x / 0.5) + 3, low, high) - 3) * 0.5
        np.testing.assert_array_equal(run(changed, {"x": x}, optimise=False)["y"], expected.astype(np.float32))


def test_a_model_that_is_not_quantised_stays_as_it_is() -> None:
    model = parse("g (float[N] x) => (float[N] y) { y = Neg(x) }")
    assert dequantised(model, {})[0] is model
