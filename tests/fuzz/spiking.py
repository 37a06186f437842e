"""Spiking networks that were tampered with: refused, or measured as they are."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from csscc.dialect.metadata import layers_in, read, write
from csscc.dialect.model import copy_of, define_operators
from tests.fuzz.case import Case
from tests.fuzz.ground import FORMS, ground
from tests.fuzz.models import FLOATS, INTEGERS, change_field, changed_bytes

if TYPE_CHECKING:
    import onnxruntime as ort

SWAPPED = {
    "Add": "Sub",
    "Sub": "Add",
    "Mul": "Add",
    "Relu": "Neg",
    "Greater": "Less",
    "Max": "Min",
    "Sign": "Identity",
    "Sum": "Max",
}
JUNK = (
    "nan",
    "inf",
    "-1",
    "1e999",
    "null",
    "true",
    "{}",
    "[]",
    "[null]",
    '"x"',
    "[[1]]",
    '{"a":1}',
    "9" * 30,
    "0",
    "1_0",
    " 4 ",
    "",
)


KINDS: tuple[Any, ...] = (1, 0.5, "x", [1, 2], [0.5, 1.0], ["a"], helper.make_tensor("t", 1, [1], [1.0]))


def _function_number(rng: random.Random, model: onnx.ModelProto) -> None:
    found = [
        a for f in model.functions for n in f.node for a in n.attribute if a.name in ("value_float", "value_floats")
    ]
    if not found:
        return
    attribute = rng.choice(found)
    value = rng.choice((0.0, -1.0, 1e9, float("nan"), 3.7, 0.5))
    if attribute.floats:
        attribute.floats[rng.randrange(len(attribute.floats))] = value
    else:
        attribute.f = value


def _function_operator(rng: random.Random, model: onnx.ModelProto) -> None:
    nodes = [n for f in model.functions for n in f.node if n.op_type in SWAPPED]
    if nodes:
        node = rng.choice(nodes)
        node.op_type = SWAPPED[node.op_type]


def _function_inputs(rng: random.Random, model: onnx.ModelProto) -> None:
    nodes = [n for f in model.functions for n in f.node if len(n.input) > 1]
    if nodes:
        node = rng.choice(nodes)
        node.input[0], node.input[1] = node.input[1], node.input[0]


def _weights(rng: random.Random, model: onnx.ModelProto) -> None:
    tensors = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    tensor = rng.choice(tensors)
    values = numpy_helper.to_array(tensor)
    factor = rng.choice((-1.0, 0.5, 2.0, 1.1, 0.0, math.nan))
    changed = np.roll(values, 1) if rng.random() < 0.2 else values * np.float32(factor)
    tensor.CopyFrom(numpy_helper.from_array(changed.astype(np.float32), tensor.name))


def _metadata(rng: random.Random, model: onnx.ModelProto) -> None:
    at = rng.randrange(len(model.metadata_props))
    entry = model.metadata_props[at]
    how, value = rng.randrange(6), entry.value
    if how == 0:
        del model.metadata_props[at]
    elif how == 1:
        entry.value = rng.choice(JUNK)
    elif how == 2:
        entry.value = value.replace("1", "2")
    elif how == 3:
        entry.value = value[: rng.randrange(len(value) + 1)]
    elif how == 4:
        entry.value = value * 2
    elif value:
        i = rng.randrange(len(value))
        entry.value = value[:i] + chr(rng.randrange(32, 127)) + value[i + 1 :]


def _attributes(rng: random.Random, model: onnx.ModelProto) -> None:
    found = [a for n in model.graph.node if n.domain.startswith("csscc") for a in n.attribute]
    if not found:
        return
    attribute = rng.choice(found)
    if attribute.floats:
        attribute.floats[rng.randrange(len(attribute.floats))] *= 2
    elif attribute.type == onnx.AttributeProto.INT:
        attribute.i = rng.choice((attribute.i + 1, attribute.i - 1, *INTEGERS))
    else:
        attribute.f = rng.choice((attribute.f + 1, *FLOATS))


def _schedules(rng: random.Random, model: onnx.ModelProto) -> None:
    """What a node states of its spikes: gone, of another type, at the edge, of another length."""
    nodes = [n for n in model.graph.node if any(a.name == "weights" for a in n.attribute)]
    if not nodes:
        return
    node = rng.choice(nodes)
    every = [a for n in nodes for a in n.attribute]
    attribute, how = rng.choice(node.attribute), rng.randrange(6)
    if how == 0:
        node.attribute.remove(attribute)
    elif how == 1:
        attribute.CopyFrom(helper.make_attribute(attribute.name, rng.choice(KINDS)))
    elif how == 2:
        other = rng.choice([a for a in every if a.name != attribute.name])
        name = attribute.name
        attribute.CopyFrom(other)
        attribute.name = name
    elif attribute.floats and how == 3:
        attribute.floats.append(rng.choice(FLOATS))
    elif attribute.floats and how == 4:
        del attribute.floats[rng.randrange(len(attribute.floats))]
    elif attribute.floats:
        attribute.floats[rng.randrange(len(attribute.floats))] = rng.choice(FLOATS)
    elif attribute.type == onnx.AttributeProto.INT:
        attribute.i = rng.choice((0, 1, 2, attribute.i + 1, 1 - attribute.i, *INTEGERS))
    else:
        attribute.f = rng.choice(FLOATS)


def _flags(rng: random.Random, model: onnx.ModelProto) -> None:
    """What nodes state as 0 or 1, in all of them, and in the metadata too or not."""
    name, value = rng.choice(("burst", "negative", "rounded", "constant", "trains")), rng.choice((0, 1, 2, -1))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == name:
                attribute.i = value
    stated = {"burst": "bursts", "negative": "negative", "trains": "split"}.get(name)
    for entry in model.metadata_props:
        if entry.key == f"csscc.{stated}" and rng.random() < 0.5:
            entry.value = str(min(max(value, 0), 1))


def _consistent(rng: random.Random, model: onnx.ModelProto) -> None:
    """Functions and metadata that are true of changed nodes: a file that contradicts itself nowhere, and is another."""
    rng.choice((_schedules, _flags, _attributes))(rng, model)
    try:
        made = copy_of(model)
        if any(n.domain in ("csscc.steps", "csscc.stream") for n in made.graph.node):
            return
        define_operators(made)
        facts = read({p.key: p.value for p in made.metadata_props})
        layers, latency = layers_in(made, facts.coding, {})
        helper.set_model_props(
            made,
            {p.key: p.value for p in made.metadata_props} | write(replace(facts, layers=layers, latency=latency)),
        )
    except Exception:  # what csscc itself refuses to write stays as it is
        return
    model.CopyFrom(made)


def _nodes(rng: random.Random, model: onnx.ModelProto) -> None:
    node, how = rng.choice(model.graph.node), rng.randrange(5)
    if how == 0 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(("", "nowhere", model.graph.node[0].output[0]))
    elif how == 1 and node.input:
        del node.input[rng.randrange(len(node.input))]
    elif how == 2 and node.attribute:
        del node.attribute[rng.randrange(len(node.attribute))]
    elif how == 3:
        node.op_type = rng.choice(
            ("TSARelu", "TSAMaxPool", "TSAFoo", "Encode", "Decode", "Merge", "Delay", "Stack", "Relu")
        )
    else:
        node.domain = rng.choice(("", "csscc", "csscc.steps", "csscc.stream"))


def _versions(rng: random.Random, model: onnx.ModelProto) -> None:
    rng.choice(model.opset_import).version += rng.choice((1, -1, 2**31))


def _anything(rng: random.Random, model: onnx.ModelProto) -> None:
    change_field(rng, model)


EDITS: tuple[Callable[[random.Random, onnx.ModelProto], None], ...] = (
    _function_number, _function_operator, _function_inputs, _weights, _metadata, _metadata, _attributes, _nodes,
    _versions, _schedules, _schedules, _flags, _consistent, _consistent,
    _anything,
)  # fmt: skip


def of_spiking(rng: random.Random) -> Case:
    """Functions, weights, metadata, nodes and bytes; what `evaluate` says is compared with onnxruntime."""
    g = ground()
    classifies, form = rng.random() < 0.7, rng.choice(FORMS)
    content = (rng.choice((g.spiking, g.bursts)) if classifies else g.others)[form]
    if rng.random() < 0.1:
        content = changed_bytes(rng, content)
    else:
        model = onnx.ModelProto.FromString(content)
        for _ in range(rng.choice((1, 1, 1, 2))):
            rng.choice(EDITS)(rng, model)
        content = model.SerializeToString()
    with open("s.onnx", "wb") as file, open("m.onnx", "wb") as ann:
        file.write(content)
        ann.write(g.classifier if classifies else g.networks["attention"])
    if classifies:
        np.savez("d.npz", x=g.samples, y=g.labels)
    else:
        np.savez("d.npz", x=g.data["attention"])

    def reported(*arguments: str, number: Callable[[str], float | None]) -> Case:
        def check(out: str) -> str:
            said, true = number(out), accuracy(content, g.samples, g.labels)
            return "" if said is not None and abs(true - said) < 1e-9 else f"says {said} %, and it is {true} %"

        return Case(arguments, check=check if classifies else lambda out: "")

    both = ("m.onnx", "s.onnx", "--data", "d.npz", "--json")
    evaluated = reported("evaluate", *both, number=lambda out: json.loads(out)["snn_accuracy"])
    others = (
        Case(("inspect", "s.onnx")),
        Case(("verify", "s.onnx", "--samples", "2", "-q")),
        reported("diagnose", *both, number=lambda out: json.loads(out)["agreement"]),  # labels are what the ANN answers
        reported("report", *both, "-o", "out.html", number=lambda out: json.loads(out)["evaluation"]["snn_accuracy"]),
        reported("run", "s.onnx", "--data", "d.npz", "-q", "-o", "out.npz", number=lambda _: _right(_ran(), g.labels)),
    )
    return evaluated if rng.random() < 0.5 else rng.choice(others)


def _ran() -> np.ndarray:
    """The first output that `run` wrote."""
    with np.load("out.npz") as outputs:
        return outputs[outputs.files[0]]


def accuracy(content: bytes, samples: np.ndarray, labels: np.ndarray) -> float:
    """What stock onnxruntime makes of a file: percent of samples whose class is right; NaN is no class."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return _right(_answer(session, samples), labels)


def _right(logits: np.ndarray, labels: np.ndarray) -> float:
    """Percent of rows whose largest value is at the label; NaN is no class; -1 for another number of rows."""
    if len(logits) != len(labels):
        return -1.0
    classes = np.where(np.isnan(logits).any(axis=1), -1, logits.argmax(axis=1))
    return 100 * float((classes == labels).mean())


def _answer(session: ort.InferenceSession, samples: np.ndarray) -> np.ndarray:
    """The first output; of a file of the form `stream` after as many runs as it states, as docs/format.md has it."""
    own, *others = session.get_inputs()
    if not others:
        return session.run(None, {own.name: samples})[0]
    names = [o.name for o in session.get_outputs()]
    shapes = {i.name: [d if isinstance(d, int) else 1 for d in i.shape] for i in others if i.name != "csscc.step"}
    state = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    outputs: dict[str, np.ndarray] = {}
    for step in range(1, int(session.get_modelmeta().custom_metadata_map["csscc.latency"]) + 1):
        feeds = {own.name: samples, "csscc.step": np.array(step, np.int64), **state}
        outputs = dict(zip(names, session.run(None, feeds), strict=True))
        state = {name: outputs[f"{name}.next"] for name in state}
    return outputs[names[0]]
