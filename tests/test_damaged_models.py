"""Damaged and odd models at the command line: each ends in success, or in one clear message and an exit code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from csscc.models import digits_data, digits_model

Run = Callable[..., tuple[int, str]]
Change = Callable[[onnx.ModelProto], None]
ANN_COMMANDS = (("compile", "m.onnx", "--T", 3, "--no-adjust", "-q", "-o", "o.onnx"), ("inspect", "m.onnx"))
COMMANDS = (*ANN_COMMANDS, ("run", "m.onnx", "--data", "x.npy", "-q"), ("verify", "m.onnx", "--samples", 1, "-q"))


@pytest.fixture
def run(command: Run) -> Run:
    return command


def weights(*shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.random.default_rng(0).normal(0, 0.5, shape).astype(np.float32), "w")


def plain() -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "middle"),
        helper.make_node("MatMul", ["b", "w"], ["y"], "last"),
    ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 4]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [weights(4, 4)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def rewired(node: int, index: int, name: str) -> Change:
    def change(m: onnx.ModelProto) -> None:
        m.graph.node[node].input[index] = name

    return change


def weight(values: np.ndarray) -> Change:
    return lambda m: m.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "w"))


def recursive(m: onnx.ModelProto) -> None:
    body = [helper.make_node("F", ["a"], ["b"], domain="own")]
    m.functions.append(
        helper.make_function(
            "own", "F", ["a"], ["b"], body, [helper.make_opsetid("own", 1), helper.make_opsetid("", 17)]
        )
    )
    m.opset_import.append(helper.make_opsetid("own", 1))
    m.graph.node[1].op_type, m.graph.node[1].domain = "F", "own"


def external(m: onnx.ModelProto) -> None:
    tensor = m.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="absent.bin")


def dims(*sizes: int) -> Change:
    def change(m: onnx.ModelProto) -> None:
        for dim, size in zip(m.graph.input[0].type.tensor_type.shape.dim, sizes, strict=True):
            dim.dim_value = size

    return change


REFUSED: dict[str, tuple[Change, str]] = {
    "a cycle": (rewired(0, 0, "b"), "reads what is computed from it"),
    "a cycle of one": (rewired(1, 0, "b"), "reads what is computed from it"),
    "a tensor nobody makes": (rewired(1, 0, "nowhere"), "nowhere"),
    "no weights": (lambda m: m.graph.ClearField("initializer"), "w"),
    "no nodes": (lambda m: m.graph.ClearField("node"), "no graph"),
    "no opset": (lambda m: m.ClearField("opset_import"), "no opset"),
    "an unknown operator": (lambda m: setattr(m.graph.node[1], "op_type", "Frobnicate"), "Frobnicate"),
    "a foreign operator": (lambda m: setattr(m.graph.node[1], "domain", "com.microsoft"), "com.microsoft::Relu"),
    "an opset of the future": (lambda m: setattr(m.opset_import[0], "version", 99), "opset|99"),
    "too many inputs": (lambda m: m.graph.node[1].input.append("a"), "Relu"),
    "two tensors of one name": (lambda m: m.graph.node[0].output.__setitem__(0, "b"), "b"),
    "an input without a type": (lambda m: m.graph.input[0].ClearField("type"), "x"),
    "no samples to take": (dims(0, 4), "takes no data"),
    "no features to take": (dims(4, 0), "takes no data"),
    "weights of another shape": (weight(np.ones((3, 5), np.float32)), "contradict each other"),
    "weights of no size": (weight(np.ones((4, 0), np.float32)), "shape|empty"),
    "weights of text": (weight(np.array([["a"] * 4] * 4, object)), "type|String|string"),
    "weights that are NaN": (weight(np.full((4, 4), np.nan, np.float32)), "not finite"),
    "weights that overflow": (weight(np.full((4, 4), 3e38, np.float32)), "too large"),
    "weights cut off": (lambda m: setattr(m.graph.initializer[0], "raw_data", b"1234567"), "w"),
    "weights elsewhere": (external, "weights in other files cannot be read"),
    "a function of itself": (recursive, "or by itself"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_damaged_model_is_refused_in_one_message(run: Run, name: str) -> None:
    change, reported = REFUSED[name]
    model = plain()
    change(model)
    Path("m.onnx").write_bytes(model.SerializeToString())
    code, err = run(*ANN_COMMANDS[0])
    assert code == 3, err
    assert any(part in err for part in reported.split("|")), err
    assert not Path("o.onnx").exists()
    for command in COMMANDS[1:]:
        assert run(*command)[0] in (0, 1, 2, 3)


ACCEPTED: dict[str, Change] = {
    "plain": lambda m: None,
    "nodes out of order": lambda m: m.graph.node.reverse(),
    "no names": lambda m: [n.ClearField("name") for n in m.graph.node].clear(),
    "one name for all": lambda m: [setattr(n, "name", "n") for n in m.graph.node].clear(),
    "weights of zero": weight(np.zeros((4, 4), np.float32)),
    "weights as good as zero": weight(np.full((4, 4), 1e-42, np.float32)),
    "another output shape": lambda m: m.graph.output[0].type.tensor_type.ClearField("shape"),
    "a weight as an output": lambda m: m.graph.output.append(
        helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 4])
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_odd_model_compiles(run: Run, name: str) -> None:
    model = plain()
    ACCEPTED[name](model)
    Path("m.onnx").write_bytes(model.SerializeToString())
    code, err = run(*ANN_COMMANDS[0], "--calibration", "x.npy")
    assert code == 0, err
    assert run("verify", "o.onnx", "-q")[0] == 0


def test_indices_of_a_pool_that_are_an_output_are_refused(run: Run) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("MaxPool", ["a"], ["b", "i"], "pool", kernel_shape=[2, 2]),
        helper.make_node("Conv", ["b", "w"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 2, "H", "W"]) for n in "xy"]
    indices = helper.make_tensor_value_info("i", TensorProto.INT64, None)
    graph = helper.make_graph(nodes, "g", values[:1], [values[1], indices], [weights(2, 2, 1, 1)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "m.onnx")
    code, err = run(*ANN_COMMANDS[0])
    assert code == 3
    assert "MaxPool 'pool'" in err


@pytest.mark.parametrize("seed", range(8))
def test_random_damage_is_never_a_traceback(run: Run, seed: int) -> None:
    """Bytes cut off, changed and left out, of an ANN and of an SNN; `main` gives 70 where csscc itself fails."""
    rng = np.random.default_rng(seed)
    with np.load(digits_data()) as archive:
        np.save("x.npy", archive["x"][:4])
    source = digits_model()
    if seed % 2:
        assert run("compile", source, "--T", 2, "--no-adjust", "-q", "-o", "snn.onnx")[0] == 0
        source = Path("snn.onnx")
    content = bytearray(source.read_bytes())
    for position in rng.integers(len(content) if seed % 3 == 0 else 3000, size=3):
        content[position] = rng.integers(256)
    start = int(rng.integers(len(content)))
    left_out = content[:start] + content[start + int(rng.integers(1, 40)) :]
    for damaged in (content, content[:start], left_out):
        Path("m.onnx").write_bytes(damaged)
        for command in COMMANDS:
            assert run(*command)[0] in (0, 1, 2, 3), command
