"""Quantised operators of ONNX and of onnxruntime's own domain: what is spelled out computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import csscc
from csscc.coding.coding import Coding
from csscc.errors import RefusedModelError
from csscc.measure.inspection import inspect_ann
from csscc.passes.canonical.load import load
from csscc.passes.canonical.quantised_operators import without_quantised_operators
from csscc.pipeline import canonical
from tests.helpers import ops, parse, run

RNG = np.random.default_rng(0)
INT8, UINT8 = np.int8, np.uint8
SCALARS: dict[str, Any] = {
    "s": np.float32(0.03), "z": UINT8(120), "t": np.float32(0.11), "u": UINT8(64), "v": np.float32(0.02), "i": INT8(0),
    "j": INT8([0, 0, 0, 0]), "vs": np.float32([0.01, 0.02, 0.03, 0.04]),
    "w": RNG.integers(-128, 128, (4, 3, 2, 2)).astype(INT8), "b": RNG.integers(-99, 99, 4).astype(np.int32),
    "m": RNG.integers(-128, 128, (3, 4)).astype(INT8), "mt": RNG.integers(-128, 128, (4, 3)).astype(INT8),
    "fb": np.float32([0.1, -0.2, 0.3, 0.4]),
}  # fmt: skip
IMAGE, ROW = ("N", 3, 6, 6), ("N", 3)
CASES = {
    "conv": ("", "QLinearConv", "q s z w vs j t u b", IMAGE, {"strides": [2, 2]}),
    "conv per tensor": ("", "QLinearConv", "q s z w v i t u", IMAGE, {}),
    "matmul": ("", "QLinearMatMul", "q s z m v i t u", ROW, {}),
    "gemm": ("com.microsoft", "QGemm", "q s z mt vs j b t u", ROW, {"transB": 1}),
    "gemm to floats": ("com.microsoft", "QGemm", "q s z m v i", ROW, {"alpha": 1.0}),
    "add": ("com.microsoft", "QLinearAdd", "q s z q s z t u", IMAGE, {}),
    "product": ("com.microsoft", "QLinearMul", "q s z q s z t u", IMAGE, {}),
    "leaky": ("com.microsoft", "QLinearLeakyRelu", "q s z t u", IMAGE, {"alpha": 0.3}),
    "sigmoid": ("com.microsoft", "QLinearSigmoid", "q s z t u", IMAGE, {}),
    "pool": ("com.microsoft", "QLinearAveragePool", "q s z t u", IMAGE, {"kernel_shape": [2, 2], "pads": [1, 1, 0, 0]}),
    "global pool": ("com.microsoft", "QLinearGlobalAveragePool", "q s z t u", IMAGE, {}),
    "concat": ("com.microsoft", "QLinearConcat", "t u q s z q s z", IMAGE, {"axis": 1}),
}


def model_of(name: str) -> onnx.ModelProto:
    """An input, quantised, the operator, and its result as floats."""
    domain, op, inputs, shape, attributes = CASES[name]
    floats = name == "gemm to floats"
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node(op, inputs.split(), ["y" if floats else "r"], "operator", domain=domain, **attributes),
    ]
    nodes += [] if floats else [helper.make_node("DequantizeLinear", ["r", "t", "u"], ["y"])]
    used = {n for node in nodes for n in node.input}
    constants = [numpy_helper.from_array(np.asarray(v), k) for k, v in SCALARS.items() if k in used]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(helper.make_graph(nodes, "g", given, made, constants), opset_imports=imports, ir_version=8)


@pytest.mark.parametrize("name", CASES)
def test_what_is_spelled_out_computes_the_same(name: str) -> None:
    model = model_of(name)
    changed = without_quantised_operators(model, {})
    assert not any(n.op_type.startswith(("QLinear", "QGemm")) for n in changed.graph.node)
    x = (2 * RNG.standard_normal([16, *CASES[name][3][1:]])).astype(np.float32)
    expected, got = run(model, {"x": x})["y"], run(changed, {"x": x}, optimise=False)["y"]
    assert np.unique(expected).size > 8
    step = float(SCALARS["t"])  # a sum that lies next to an edge may be rounded to either side
    assert np.abs(expected - got).max() <= 1.001 * step
    assert np.mean(np.abs(expected - got) > step / 2) < 0.01
    assert load(model).graph.nodes


def test_a_model_without_any_stays_as_it_is() -> None:
    model = parse("g (float[N] x) => (float[N] y) { y = Neg(x) }")
    assert without_quantised_operators(model, {}) is model


def test_what_cannot_be_spelled_out_is_refused_by_name() -> None:
    model = model_of("pool")
    model.graph.node[1].attribute.add(name="channels_last", type=onnx.AttributeProto.INT, i=1)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4))
    with pytest.raises(RefusedModelError, match=r"QLinearAveragePool.*quantised"):
        csscc.compile(model)


def dynamic(op: str, *, bias: bool) -> onnx.ModelProto:
    """Two layers whose input onnxruntime quantises while it runs."""
    if op == "DynamicQuantizeMatMul":
        first = [helper.make_node(op, ["x", "m", "v", "i", *(["fb"] if bias else [])], ["a"], domain="com.microsoft")]
    else:
        first = [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "qs", "qz"], "dynamic")]
        if op == "MatMulIntegerToFloat":
            names = ["q", "m", "qs", "v", "qz", "i", *(["fb"] if bias else [])]
            first.append(helper.make_node(op, names, ["a"], domain="com.microsoft"))
        else:
            first += [
                helper.make_node("MatMulInteger", ["q", "m", "qz", "i"], ["whole"]),
                helper.make_node("Cast", ["whole"], ["c"], to=TensorProto.FLOAT),
                helper.make_node("Mul", ["qs", "v"], ["product"]),
                helper.make_node("Mul", ["c", "product"], ["a"]),
            ]
    nodes = [*first, helper.make_node("Relu", ["a"], ["r"]), helper.make_node("MatMul", ["r", "last"], ["y"])]
    used = {n for node in nodes for n in node.input}
    constants = [numpy_helper.from_array(np.asarray(v), k) for k, v in SCALARS.items() if k in used]
    constants.append(numpy_helper.from_array(RNG.standard_normal((4, 2)).astype(np.float32), "last"))
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(helper.make_graph(nodes, "g", given, made, constants), opset_imports=imports, ir_version=8)


def with_sum(nodes: list[onnx.NodeProto], **constants: np.ndarray) -> onnx.ModelProto:
    """Dynamic quantisation whose whole products `nodes` make a ``sum`` of, before they become floats."""
    model = dynamic("MatMulInteger", bias=False)
    next(n for n in model.graph.node if n.op_type == "Cast").input[0] = "sum"
    for index, node in enumerate(nodes):
        model.graph.node.insert(2 + index, node)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return model


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("op", ["MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"])
def test_dynamic_quantisation_leaves_weights_of_few_bits(op: str, bias: bool) -> None:
    model = dynamic(op, bias=bias)
    network = canonical(model)
    assert set(ops(network)) <= {"MatMul", "Gemm", "Add", "Relu"}
    x = RNG.standard_normal((32, 3)).astype(np.float32)
    expected = run(model, {"x": x})["y"]
    got = csscc.compile(model, calibration=x, T=16).run(x)
    assert np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2)) < 0.02


def test_a_bias_of_whole_numbers_leaves_dynamic_quantisation_in_place() -> None:
    """What it counts in is known only while the network runs; the layer computes values, all others send spikes."""
    model = with_sum([helper.make_node("Add", ["whole", "b"], ["sum"])], b=SCALARS["b"])
    x = RNG.standard_normal((32, 3)).astype(np.float32)
    snn = csscc.compile(model, calibration=x, T=16)
    assert "MatMulInteger" in [n.op_type for n in snn.file.graph.node]
    expected = run(model, {"x": x})["y"]
    assert np.sqrt(np.mean((snn.run(x) - expected) ** 2) / np.mean(expected**2)) < 0.02


@pytest.mark.parametrize("rounding", ["Floor", "Round"])
def test_a_bias_that_the_scale_makes_whole_is_a_float_again(rounding: str) -> None:
    """As older quantisers of onnxruntime write it. With the exact bias, sums differ from theirs by rounding only."""
    nodes = [
        helper.make_node("Mul", ["qs", "v"], ["unit"]),
        helper.make_node("Div", ["fb", "unit"], ["units"]),
        helper.make_node(rounding, ["units"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["integers"], to=TensorProto.INT32),
        helper.make_node("Reshape", ["integers", "row"], ["added"]),
        helper.make_node("Add", ["whole", "added"], ["sum"]),
    ]
    model = with_sum(nodes, fb=SCALARS["fb"], row=np.array([1, -1]))
    onnx.checker.check_model(model, full_check=True)
    network = canonical(model)
    assert set(ops(network)) <= {"MatMul", "Gemm", "Add", "Relu"}
    x = RNG.standard_normal((32, 3)).astype(np.float32)
    expected = run(model, {"x": x})["y"]
    got = csscc.compile(model, calibration=x, T=16).run(x)
    assert np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2)) < 0.02


def test_products_of_whole_numbers_that_stay_count_as_work_that_does_not_spike() -> None:
    model = with_sum([helper.make_node("Add", ["whole", "b"], ["sum"])], b=SCALARS["b"])
    result = inspect_ann(model, Coding())
    assert result.operations == 3 * 4 + 4 * 2
    assert result.spiking_share == 8 / 20
