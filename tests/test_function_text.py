"""Functions from the lines of their bodies."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from csscc.dialect.text import Body, parse


def _run(function: onnx.FunctionProto, x: float) -> list[float]:
    inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [])]
    outputs = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, []) for n in ("a", "b")]
    node = helper.make_node(function.name, ["x"], ["a", "b"], domain="d")
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("d", 1)]
    graph = helper.make_graph([node], "g", inputs, outputs)
    model = helper.make_model(graph, functions=[function], opset_imports=imports, ir_version=10)
    onnx.checker.check_model(model)
    return [float(v) for v in ReferenceEvaluator(model).run(None, {"x": np.float32(x)})]


def _identities(function: onnx.FunctionProto) -> int:
    return sum(n.op_type == "Identity" for n in function.node)


def test_an_output_is_named_where_it_is_made() -> None:
    body = Body()
    first = body.add("v", f"Add(x, {body.number(1)})")
    second = body.add("v", f"Mul({first}, {first})")
    body.let("y", first)
    body.let("z", second)
    function = parse("F", ["x"], ["y", "z"], [], body.lines, 20, "d")
    assert _identities(function) == 0
    assert _run(function, 2) == [3, 9]


@pytest.mark.parametrize("again", [True, False])
def test_a_value_with_two_names_and_an_input_keep_an_identity(again: bool) -> None:
    body = Body()
    made = body.add("v", f"Add(x, {body.number(1)})")
    body.let("y", made)
    body.let("z", made if again else "x")
    function = parse("F", ["x"], ["y", "z"], [], body.lines, 20, "d")
    assert _identities(function) == 1
    assert _run(function, 2) == [3, 3 if again else 2]


def test_what_a_subgraph_reads_keeps_its_name() -> None:
    body = Body()
    made = body.add("v", f"Add(x, {body.number(1)})")
    body.let("y", made)
    yes = body.add("c", f"Greater(x, {body.number(0)})")
    branches = ", ".join(f"{k}_branch = g{k} () => (float o) {{ o = {op}({made}) }}" for k, op in BRANCHES.items())
    body.let("z", body.add("i", f"If <{branches}> ({yes})"))
    function = parse("F", ["x"], ["y", "z"], [], body.lines, 20, "d")
    assert _identities(function) == 1
    assert _run(function, 2) == [3, -3]
    assert _run(function, -4) == [-3, 3]


BRANCHES = {"then": "Neg", "else": "Abs"}
