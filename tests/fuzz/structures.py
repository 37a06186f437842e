"""Networks whose structure is hostile: depth, width, names, types, sizes, what lies beside them."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.fuzz.case import Case
from tests.fuzz.models import FLOATS, INTEGERS, commanded

SIZES = (0, 1, 2, 3, 4, 5, 8, -1, -4, 2**20, 2**31, 2**40, 2**62)
KINDS = tuple(TensorProto.DataType.values())
UNARY = ("Relu", "Identity", "Sigmoid", "Neg", "Abs", "Tanh", "Softmax", "Dropout", "Exp", "Not", "Shape")
Model = onnx.ModelProto


def _value(name: str, sizes: Any = ("N", 4), kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, sizes)


def _weights(name: str = "w", shape: tuple[int, ...] = (4, 4), kind: str = "f4") -> TensorProto:
    values = np.random.default_rng(0).normal(0, 0.5, shape)
    return numpy_helper.from_array(values.astype(kind), name)


def _model(nodes: list[onnx.NodeProto], initializers: list[TensorProto], opset: int = 20) -> Model:
    graph = helper.make_graph(nodes, "g", [_value("x")], [_value("y")], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def _between(nodes: list[onnx.NodeProto]) -> Model:
    """A network with `nodes` between two layers, from `h` to `k`."""
    layers = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["h"])]
    return _model([*layers, *nodes, helper.make_node("MatMul", ["k", "w"], ["y"])], [_weights()])


def _dense() -> Model:
    return _between([helper.make_node("Relu", ["h"], ["k"])])


def _tensors(rng: random.Random, number: int) -> list[str]:
    return ["h", *(f"t{i}" for i in range(1, number)), "k"]


def of_chains(rng: random.Random) -> Model:
    """Many nodes in a row."""
    names = _tensors(rng, rng.choice((2, 20, 50)))
    op = rng.choice((*UNARY[:6], "Add", "Mul", "MatMul", "Sum", "Concat", "Mixed"))
    nodes = []
    for a, b in itertools.pairwise(names):
        each = rng.choice(("Relu", "Add", "MatMul", "Identity")) if op == "Mixed" else op
        inputs = [a] if each in UNARY else [a, "w"] if each == "MatMul" else [a, rng.choice(("h", a))]
        attributes = {"axis": 0} if each == "Concat" and len(names) < 10 else {}
        nodes.append(helper.make_node(each if each != "Concat" or attributes else "Sum", inputs, [b], **attributes))
    return _between(nodes)


def of_width(rng: random.Random) -> Model:
    """Many nodes side by side, many inputs or outputs of one."""
    number = rng.choice((2, 20, 50))
    parts = [f"p{i}" for i in range(number)]
    how = rng.randrange(3)
    if how == 0:
        nodes = [helper.make_node(rng.choice(UNARY), ["h"], [p]) for p in parts]
    elif how == 1:
        nodes = [helper.make_node("Split", ["h"], parts, axis=rng.choice((0, 1)), num_outputs=number)]
    else:
        nodes = [helper.make_node("Relu", ["h"], [p]) for p in parts]
    end = rng.choice((helper.make_node("Sum", parts, ["k"]), helper.make_node("Concat", parts, ["k"], axis=1)))
    return _between([*nodes, end])


def _graph(rng: random.Random, depth: int, name: str) -> onnx.GraphProto:
    """A branch that yields `k`, or a name of its own, with other branches in it."""
    end = rng.choice(("k", "h", f"k{depth}"))  # names that shadow those outside
    if depth == 0:
        return helper.make_graph([helper.make_node("Relu", ["h"], [end])], name, [], [_value(end)])
    return helper.make_graph(_control(rng, depth - 1, end), name, [], [_value(end)])


def _control(rng: random.Random, depth: int, end: str) -> list[onnx.NodeProto]:
    truth = helper.make_node("Constant", [], [f"c{depth}"], value=helper.make_tensor("", TensorProto.BOOL, [], [True]))
    branches = {"then_branch": _graph(rng, depth, "t"), "else_branch": _graph(rng, 0, "e")}
    return [truth, helper.make_node("If", [f"c{depth}"], [end], **branches)]


def of_control(rng: random.Random) -> Model:
    """Branches within branches; names inside that shadow those outside."""
    return _between(_control(rng, rng.choice((0, 1, 2, 5, 10, 20)), "k"))


def of_loops(rng: random.Random) -> Model:
    """Loops within loops, of many or of no turns."""
    depth = rng.choice((1, 1, 2, 3, 8))
    inner = [helper.make_node("Relu", ["u0"], ["v0"])]
    for i in range(depth):
        body = helper.make_graph(
            [*inner, helper.make_node("Identity", [f"b{i}"], [f"d{i}"])], f"l{i}",
            [_value(f"i{i}", [], TensorProto.INT64), _value(f"b{i}", [], TensorProto.BOOL), _value(f"u{i}", None)],
            [_value(f"d{i}", [], TensorProto.BOOL), _value(f"v{i}", None)],
        )  # fmt: skip
        after = (f"u{i + 1}", f"v{i + 1}") if i + 1 < depth else ("h", "k")
        inner = [
            helper.make_node("Constant", [], [f"m{i}"], value_int=rng.choice((0, 1, 2, 5, -1, 2**31, 2**62))),
            helper.make_node("Loop", [rng.choice((f"m{i}", f"m{i}", "")), "", after[0]], [after[1]], body=body),
        ]
    return _between(inner)


def of_functions(rng: random.Random) -> Model:
    """Functions that call others, themselves, or one of a name that is taken."""
    number, model = rng.choice((1, 3, 10, 17, 40, 65, 80)), _dense()
    opsets = [helper.make_opsetid("", rng.choice((20, 20, 20, 17, 99))), helper.make_opsetid("own", 1)]
    times = rng.choice((1, 1, 2, 3))
    for i in range(number + 1):
        target = f"F{rng.choice((i - 1, i - 1, i - 1, i - 1, i - 1, i, i + 1, rng.randrange(i + 1)))}"
        op, domain = (target, "own") if i else ("Relu", "")
        names = ["a", *(f"b{j}" for j in range(1, times)), "b"]
        body = [helper.make_node(op, [p], [q], domain=domain) for p, q in itertools.pairwise(names)]
        inputs, outputs = rng.choice(((["a"], ["b"]),) * 8 + ((["a", "a"], ["b"]), ([], ["b"]), (["a"], ["z"])))
        model.functions.append(helper.make_function("own", f"F{i}", inputs, outputs, body, opsets))
    model.opset_import.append(opsets[1])
    called = model.graph.node[2]
    called.op_type, called.domain = f"F{number}", "own"
    if rng.random() < 0.1:
        model.functions.append(model.functions[0])
    if rng.random() < 0.2:
        model.functions[rng.randrange(len(model.functions))].domain = rng.choice(("", "ai.onnx", "csscc", "own2"))
    return model


def of_sizes(rng: random.Random) -> Model:
    """Declared sizes that nothing has."""
    model = _dense()
    values = [*model.graph.input, *model.graph.output]
    if rng.random() < 0.4:
        values.append(model.graph.value_info.add(name=rng.choice(("a", "h", "k", "unused"))))
    for value in values:
        if rng.random() < 0.6:
            sizes = [rng.choice((*SIZES, "N", "", "?", None)) for _ in range(rng.choice((0, 1, 2, 2, 2, 3, 9)))]
            value.type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, sizes))
    if rng.random() < 0.3:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(rng.choice(SIZES) for _ in range(rng.choice((1, 2, 2, 3))))
    return model


def of_types(rng: random.Random) -> Model:
    """Every type of data, in inputs, weights, casts."""
    kind, model = rng.choice(KINDS), _dense()
    how = rng.randrange(5)
    if how == 0:
        model.graph.initializer[0].data_type = kind
    elif how == 1:
        small = rng.choice(("f2", "f8", "i1", "u1", "i4", "i8", "?", "c8", "u8"))
        model.graph.initializer[0].CopyFrom(_weights(kind=small))
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(small))
    elif how == 2:
        size = rng.choice((0, 1, 2, 8, 16, 32, 64))
        model.graph.initializer[0].CopyFrom(TensorProto(name="w", data_type=kind, dims=[4, 4], raw_data=bytes(size)))
    else:
        back = rng.choice((TensorProto.FLOAT, TensorProto.FLOAT, kind))
        casts = [helper.make_node("Cast", ["h"], ["q"], to=kind), helper.make_node("Cast", ["q"], ["k"], to=back)]
        model = _between(casts)
    for value in (*model.graph.input, *model.graph.output) if rng.random() < 0.3 else ():
        value.type.tensor_type.elem_type = kind
    return model


def of_numbers(rng: random.Random) -> Model:
    """Weights at the edge of floats: all of them, or one."""
    model, value = _dense(), np.float32(rng.choice((*FLOATS, 3e38, -3e38, 1e-45, 1e-38, 1e20, 1e-20, -0.0)))
    values = numpy_helper.to_array(model.graph.initializer[0]).copy()
    how = rng.randrange(3)
    with np.errstate(all="ignore"):
        if how == 0:
            values[...] = value
        elif how == 1:
            values.flat[rng.randrange(16)] = value
        else:
            values = values * value
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "w"))
    return model


def of_names(rng: random.Random) -> Model:
    """Names twice, empty, foreign, of nobody; cycles."""
    model = _dense()
    known = ("x", "w", "a", "h", "k", "y", "", "nowhere")
    for _ in range(rng.choice((1, 1, 2, 3))):
        node, how = rng.choice(model.graph.node), rng.randrange(8)
        if how == 0:
            node.input[rng.randrange(len(node.input))] = rng.choice(known)
        elif how == 1:
            node.output[0] = rng.choice(known)
        elif how == 2:
            model.graph.initializer.append(_weights(rng.choice(known)))
        elif how == 3:
            model.graph.input.append(_value(rng.choice(known)))
        elif how == 4:
            model.graph.output.append(_value(rng.choice(known)))
        elif how == 5:
            node.output.append(rng.choice(known))
        elif how == 6:
            model.graph.node.append(node)
        else:
            model.graph.value_info.append(_value(rng.choice(known), (4,)))
    return model


def of_opsets(rng: random.Random) -> Model:
    """Versions that do not exist, twice, of nobody; versions of the format."""
    model = _dense()
    del model.opset_import[:]
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        domain = rng.choice(("", "", "", "ai.onnx", "ai.onnx.ml", "com.microsoft", "csscc", "csscc.steps", "unused"))
        version = rng.choice((*range(1, 27), *INTEGERS))
        model.opset_import.append(onnx.OperatorSetIdProto(domain=domain, version=version))
    model.ir_version = rng.choice((*range(14), 2**31, -1))
    return model


def of_nothing(rng: random.Random) -> Model:
    """Graphs without nodes, inputs, outputs or layers."""
    model = rng.choice((_dense(), _model([helper.make_node("Identity", ["x"], ["y"])], [])))
    for field in rng.sample(("node", "input", "output", "initializer", "name"), rng.choice((1, 1, 2, 3))):
        model.graph.ClearField(field)
    return model


def of_sparse(rng: random.Random) -> Model:
    """Sparse weights, in the graph or in a node."""
    model = _dense()
    dims = [rng.choice((4, 4, 4, 0, -4, 2**40)) for _ in range(rng.choice((1, 2, 2, 2)))]
    indices = numpy_helper.from_array(np.array([rng.choice((0, 5, 99, -1)) for _ in range(2)], np.int64), "i")
    sparse = onnx.SparseTensorProto(values=_weights("s", (2,)), indices=indices, dims=dims)
    if rng.random() < 0.5:
        model.graph.sparse_initializer.append(sparse)
    else:
        model.graph.node.insert(0, helper.make_node("Constant", [], ["s"], sparse_value=sparse))
    model.graph.node[-1].input[1] = rng.choice(("s", "w"))
    return model


def of_external(rng: random.Random) -> Model:
    """Weights in other files, or in none, overlapping, behind their end."""
    model = _dense()
    Path("w.bin").write_bytes(numpy_helper.to_array(model.graph.initializer[0]).tobytes() * 2)
    os.mkfifo("fifo")
    Path("link").symlink_to("/etc/hostname")
    model.graph.initializer.append(_weights("v"))
    model.graph.node[-1].input[1] = "v"
    for tensor in model.graph.initializer if rng.random() < 0.5 else model.graph.initializer[:1]:
        if rng.random() < 0.9:
            tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        places = ("w.bin",) * 9 + ("m.onnx", "fifo", "link", "/etc/passwd", "../x", "absent", "", ".", "a\nb")
        numbers = ("0", "4", "32", "64", "128", "1000", "-1", "1e9", "x", "", str(2**62), str(2**70), "\u0663")
        entries = [("location", rng.choice(places))]
        entries += [(key, rng.choice(numbers)) for key in ("offset", "length", "checksum", "odd") if rng.random() < 0.5]
        for key, value in entries if rng.random() < 0.9 else entries * 2:
            tensor.external_data.add(key=key, value=value)
    if rng.random() < 0.2:
        model.graph.initializer[0].dims[0] = rng.choice(SIZES)
    return model


MAKERS: tuple[Callable[[random.Random], Model], ...] = (
    of_chains, of_width, of_control, of_loops, of_functions, of_sizes, of_types, of_numbers, of_names, of_opsets,
    of_nothing, of_sparse, of_external,
)  # fmt: skip


def of_structures(rng: random.Random) -> Case:
    """One of the above; sometimes with a name that is no text."""
    content = rng.choice(MAKERS)(rng).SerializeToString()
    if rng.random() < 0.05:
        name = rng.choice((b"Relu", b"MatMul", b"x"))
        content = content.replace(name, name[:-1] + rng.choice((b"\xff", b"\x80")))
    samples = np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4)
    return commanded(rng, content, samples)
