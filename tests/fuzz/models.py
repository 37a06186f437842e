"""Networks that are wrong: bytes changed, fields changed, constants and attributes of every operator at the edge."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import defs, helper, numpy_helper

from tests.fuzz.case import Case
from tests.fuzz.ground import ground

INTEGERS = (
    0, 1, -1, 2, 3, -2, 7, 255, 65536, 10**6, 2**31, 2**31 - 1, -(2**31), 2**32, 2**40, -(2**40), 2**62, -(2**62),
    2**63 - 1, -(2**63),
)  # fmt: skip
FLOATS = (0.0, 1.0, -1.0, float("nan"), float("inf"), float("-inf"), 1e30, -1e30, 1e9, 0.5, 1e-40)
WORDS = (
    "", "x", "y", "w", "linear", "constant", "reflect", "edge", "wrap", "cubic", "...ij,jk", "ij,jk->ik", "NOTSET",
    "VALID",
    "SAME_UPPER", "floor", "half_pixel", "x" * 5000, "a\nb", "\x1b[2J", "block[relu]", "[/]", "../../etc",
    "/dev/zero", "\u202e",
)  # fmt: skip
Bytes = tuple[str, bytes]


def _start(rng: random.Random) -> Bytes:
    name = rng.choice(sorted(ground().networks))
    return name, ground().networks[name]


def commanded(rng: random.Random, model: bytes, samples: np.ndarray) -> Case:
    """A command on a model and its samples."""
    open("m.onnx", "wb").write(model)  # noqa: SIM115 (a case is short)
    np.save("x.npy", samples)
    commands = (
        ("compile", "m.onnx", "--calibration", "x.npy", "--T", "3", "-q", "-o", "out.onnx"),
        (
            "compile",
            "m.onnx",
            "--T",
            "3",
            "-q",
            "--form",
            rng.choice(("stepwise", "unrolled", "scan", "stream")),
            "-o",
            "out.onnx",
        ),
        ("inspect", "m.onnx"),
        ("inspect", "m.onnx", "--json"),
        ("run", "m.onnx", "--data", "x.npy", "-q", "-o", "out.npz"),
        ("verify", "m.onnx", "--samples", "2", "-q"),
    )
    return Case(rng.choices(commands, (4, 2, 2, 1, 2, 1))[0])


def changed_bytes(rng: random.Random, content: bytes) -> bytes:
    """A few bytes changed, removed, doubled, moved or put in."""
    b = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at, length = rng.randrange(len(b) + 1), rng.choice((1, 1, 2, 8, 64, 500))
        how = rng.randrange(7)
        if how == 0:
            b[at : at + length] = b""
        elif how == 1:
            b[at : at + length] = rng.randbytes(len(b[at : at + length]))
        elif how == 2:
            b[at:at] = b[at : at + length]
        elif how == 3:
            b[at:at] = rng.randbytes(length)
        elif how == 4 and at < len(b):
            b[at] ^= 1 << rng.randrange(8)
        elif how == 5 and at < len(b):
            b[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif how == 6 and rng.random() < 0.2:
            del b[at:]
    return bytes(b)


def of_bytes(rng: random.Random) -> Case:
    """The bytes of a network's file."""
    name, content = _start(rng)
    return commanded(rng, changed_bytes(rng, content), ground().data[name])


def _messages(message: Message) -> Iterator[Message]:
    yield message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for each in value if field.is_repeated else [value]:
                yield from _messages(each)


def _scalar(rng: random.Random, field: FieldDescriptor) -> Any:
    F = FieldDescriptor
    if field.type == F.TYPE_STRING:
        return rng.choice(WORDS)
    if field.type == F.TYPE_BYTES:
        return rng.randbytes(rng.choice((0, 1, 4, 16, 64)))
    if field.type in (F.TYPE_FLOAT, F.TYPE_DOUBLE):
        return rng.choice(FLOATS)
    if field.type == F.TYPE_ENUM:
        return rng.choice([v.number for v in field.enum_type.values])  # lists take no other
    if field.type in (F.TYPE_INT32,):
        return rng.choice([*range(28), -1, 99, 2**31 - 1, -(2**31)])
    if field.type in (F.TYPE_UINT64, F.TYPE_UINT32):
        return rng.choice((0, 1, 2**31, 2**32 - 1))
    return rng.choice(INTEGERS)


def change_field(rng: random.Random, model: Message) -> None:
    """Change one field somewhere in a message: a value, an element, or all of it (in place)."""
    message = rng.choice(list(_messages(model)))
    present = [field for field, _ in message.ListFields()]
    field = rng.choice(present if present and rng.random() < 0.7 else list(message.DESCRIPTOR.fields))
    how, inner = rng.randrange(5), field.type == FieldDescriptor.TYPE_MESSAGE
    if how == 0:
        message.ClearField(field.name)
    elif field.is_repeated:
        values = getattr(message, field.name)
        at = rng.randrange(len(values)) if len(values) else None
        if at is not None and how == 1:
            del values[at]
        elif at is not None and how == 2:
            other = values[rng.randrange(len(values))]
            values.add().CopyFrom(other) if inner else values.append(other)
        elif at is not None and how == 3 and not inner:
            values[at] = _scalar(rng, field)
        elif inner:
            values.add()
        else:
            values.extend(_scalar(rng, field) for _ in range(rng.choice((1, 1, 3))))
    elif inner:
        getattr(message, field.name).SetInParent()
    else:
        setattr(message, field.name, _scalar(rng, field))


def of_fields(rng: random.Random) -> Case:
    """The fields of a network's protobuf: names, types, sizes, edges, attributes."""
    name, content = _start(rng)
    model = onnx.ModelProto.FromString(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        change_field(rng, model)
    return commanded(rng, model.SerializeToString(), ground().data[name])


def _edge_of_network(rng: random.Random, model: onnx.ModelProto) -> None:
    """Attributes and constants of a network at the edge of what they may be (in place)."""
    attributes = [a for n in model.graph.node for a in n.attribute]
    integers = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT64]
    for _ in range(rng.choice((1, 1, 2))):
        if integers and rng.random() < 0.2:
            tensor = rng.choice(integers)
            array = numpy_helper.to_array(tensor).copy()
            array.flat[rng.randrange(array.size)] = rng.choice(INTEGERS)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        elif rng.random() < 0.2:
            node = rng.choice(model.graph.node)
            node.attribute.append(
                _attribute(rng, rng.choice(("axis", "pads", "strides", "group", "alpha", "to", "mode")))
            )
        elif attributes:
            attribute = rng.choice(attributes)
            if attribute.ints:
                attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(INTEGERS)
            elif attribute.type == onnx.AttributeProto.FLOAT:
                attribute.f = rng.choice(FLOATS)
            else:
                attribute.i = rng.choice(INTEGERS)


def _attribute(rng: random.Random, name: str) -> onnx.AttributeProto:
    value = rng.choice(
        (rng.choice(INTEGERS), rng.choice(FLOATS), rng.choice(WORDS), [rng.choice(INTEGERS) for _ in range(4)])
    )
    return helper.make_attribute(name, value)


def _operator(rng: random.Random) -> tuple[onnx.NodeProto, defs.OpSchema] | None:
    """Any operator of ONNX, with attributes at the edge; None where it holds a graph."""
    schema = rng.choice([s for s in defs.get_all_schemas() if s.domain == "" and s.max_input])
    node = helper.make_node(schema.name, [], [f"o{i}" for i in range(max(1, schema.min_output))], "odd")
    kinds = defs.OpSchema.AttrType
    for name, attribute in schema.attributes.items():
        if not attribute.required and rng.random() < 0.6:
            continue
        made: Any = {
            kinds.INT: lambda: rng.choice(INTEGERS),
            kinds.INTS: lambda: [rng.choice((*INTEGERS, 1, 1, 1, 2, 2)) for _ in range(rng.choice((1, 2, 2, 4, 4, 6)))],
            kinds.FLOAT: lambda: rng.choice(FLOATS),
            kinds.FLOATS: lambda: [rng.choice(FLOATS) for _ in range(2)],
            kinds.STRING: lambda: rng.choice(WORDS),
            kinds.STRINGS: lambda: ["Relu", "Tanh"],
            kinds.TENSOR: lambda: numpy_helper.from_array(np.array([rng.choice(INTEGERS)], np.int64)),
        }.get(attribute.type, lambda: None)()
        if made is None:
            return None
        node.attribute.append(helper.make_attribute(name, made))
    return node, schema


def _inserted(rng: random.Random, model: onnx.ModelProto) -> None:
    """Put an operator with constants at the edge in front of one of a network's nodes (in place)."""
    while (drawn := _operator(rng)) is None:
        pass
    node, schema = drawn
    number = min(rng.randint(min(schema.min_input, 6), 6), schema.max_input)
    at = rng.choice([i for i, n in enumerate(model.graph.node) if n.input])
    taken = model.graph.node[at].input[0]
    for i in range(max(1, number)):
        if i == 0 and rng.random() < 0.8:
            node.input.append(taken)
            continue
        dims = rng.choice(([], [1], [2], [4], [8], [2, 2], [2, 2, 1, 1], [2, 2, 3, 3], [0], [3]))
        size = int(np.prod(dims))
        integers = rng.random() < 0.6
        values = [rng.choice(INTEGERS) if integers else rng.choice(FLOATS) for _ in range(size)]
        array = np.array(values, np.int64 if integers else np.float32).reshape(dims)
        model.graph.initializer.append(numpy_helper.from_array(array, f"edge{i}"))
        node.input.append(f"edge{i}")
    model.graph.node[at].input[0] = node.output[0]
    model.graph.node.insert(at, node)
    model.opset_import[0].version = rng.choice((9, 11, 13, 17, 18, 19, 20, 20, 20, 21, 22, 23))


def of_constants(rng: random.Random) -> Case:
    """Attributes and constants at the edge, of a network's own operators and of any other."""
    name, content = _start(rng)
    model = onnx.ModelProto.FromString(content)
    rng.choice((_edge_of_network, _inserted))(rng, model)
    return commanded(rng, model.SerializeToString(), ground().data[name])
