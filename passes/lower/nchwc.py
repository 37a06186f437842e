"""Keep spikes in the layout in which onnxruntime convolves.

On a CPU, onnxruntime convolves in a layout of its own: channels in blocks of `lanes` (8 or 16) that lie side by side,
``[N, C/lanes, H, W, lanes]`` in memory, under the shape ``[N, C, H, W]``. It knows no such form of a neuron, so its
optimiser surrounds every one with two passes over memory:

    Conv -> ReorderOutput -> TSARelu -> ReorderInput -> Conv

A neuron does not care where its elements lie. This module rewrites what the optimiser made: operators whose inputs all
exist in blocks work on blocks, and a tensor is brought back to rows only where something else reads it.

    Conv -> TSARelu <lanes> -> Conv

The file on disk stays as it is. Elements undergo the same operations, so the spikes are the same, bit for bit.
Channels that fill up the last block hold numbers that no weight reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from csscc.dialect.spiking import DOMAIN, spiking

LAYOUT_DOMAIN = "com.microsoft.nchwc"


def in_blocks(model: onnx.ModelProto, lanes: int, kernels: Iterable[str]) -> int:
    """Let the operators of an optimised model work on blocks (in place); returns how many now do.

    Args:
        model: what onnxruntime's optimiser made of a spiking network at its highest level.
        lanes: channels of a block, see `lanes_of_blocks`.
        kernels: the csscc operators that have a native kernel.
    """
    rewriter = _Rewriter(model.graph, lanes, frozenset(kernels))
    nodes = rewriter.run()
    if rewriter.converted:
        del model.graph.node[:]
        model.graph.node.extend(nodes)
    return rewriter.converted


def uses_blocks(model: onnx.ModelProto) -> bool:
    """Whether the optimiser brought anything into blocks."""
    return any(n.domain == LAYOUT_DOMAIN for n in model.graph.node)


@cache
def lanes_of_blocks() -> int:
    """Channels of a block on this processor: found by reordering a tensor whose values are its channels' numbers."""
    import onnxruntime as ort

    channels = 64
    node = helper.make_node("ReorderInput", ["x"], ["y"], domain=LAYOUT_DOMAIN)
    shape = [1, channels, 1, 2]
    values = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in "xy"]
    graph = helper.make_graph([node], "probe", values[:1], values[1:])
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(LAYOUT_DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = np.broadcast_to(np.arange(channels, dtype=np.float32).reshape(1, channels, 1, 1), shape)
    (y,) = session.run(None, {"x": np.ascontiguousarray(x)})
    return int(np.argmax(np.diff(y.ravel()) < 0)) + 1


@dataclass
class _Rewriter:
    graph: onnx.GraphProto
    lanes: int
    kernels: frozenset[str]
    converted: int = 0
    blocks: dict[str, str] = field(default_factory=dict)  # tensors that exist in blocks, and under which name
    tokens: dict[str, str] = field(default_factory=dict)  # names of the blocks that a ReorderInput would have made
    rows: set[str] = field(default_factory=set)  # tensors that exist in rows
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        graph = self.graph
        self.constants = {t.name: t for t in graph.initializer}
        values = (*graph.value_info, *graph.input, *graph.output)
        self.shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
        self.rows |= {i.name for i in graph.input} | set(self.constants)

    def run(self) -> list[onnx.NodeProto]:
        for node in self.graph.node:
            if node.op_type == "ReorderOutput" and node.domain == LAYOUT_DOMAIN and not _channels_last(node):
                self.blocks[node.output[0]] = node.input[0]
            elif node.op_type == "ReorderInput" and node.input[0] in self.blocks and not _channels_last(node):
                self.tokens[node.output[0]] = self.blocks[node.input[0]]
            elif (made := self._converted(node)) is not None:
                self.converted += 1
                self.blocks[node.output[0]] = made.output[0]
                self.nodes.append(made)
            else:
                self._kept(node)
        for output in self.graph.output:
            self._bring_back(output.name)
        return self.nodes

    def _kept(self, node: onnx.NodeProto) -> None:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for i, name in enumerate(node.input):
            copy.input[i] = self.tokens.get(name, name)
            self._bring_back(name)
        self.rows |= set(node.output)
        self.nodes.append(copy)

    def _bring_back(self, name: str) -> None:
        """Make a tensor in rows of one in blocks, once."""
        if name in self.rows or name not in self.blocks:
            return
        channels = self.shapes[name][1]
        self.nodes.append(
            helper.make_node(
                "ReorderOutput", [self.blocks[name]], [name], domain=LAYOUT_DOMAIN, channels=channels, channels_last=0
            )
        )
        self.rows.add(name)

    def _converted(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """The node on blocks, or None if it cannot be."""
        inputs = list(node.input)
        view = spiking(node)
        if view is not None and node.op_type in self.kernels and (view.is_neuron or view.is_merge):
            carried = list(view.current) if view.is_neuron else inputs
            data: Sequence[int] = [i for i, name in enumerate(inputs) if name in carried]
            operands = [i for i in range(len(inputs)) if i not in data]
        elif node.domain in ("", "ai.onnx") and node.op_type in ("Add", "Concat"):
            data, operands = range(len(inputs)), []
        elif node.domain in ("", "ai.onnx") and node.op_type == "Mul":
            constant = [i for i, name in enumerate(inputs) if name in self.constants]
            if len(constant) != 1:
                return None
            data, operands = range(1 - constant[0], 2 - constant[0]), constant
        else:
            return None
        shapes = [self.shapes.get(inputs[i], []) for i in data]
        if len(node.output) != 1 or any(inputs[i] not in self.blocks for i in data) or not all(shapes):
            return None
        if node.op_type == "Concat":
            if node.attribute[0].i != 1 or any(shape[1] % self.lanes for shape in shapes):
                return None
        elif any(shape != shapes[0] for shape in shapes):
            return None
        made = onnx.NodeProto()
        made.CopyFrom(node)
        for i in data:
            made.input[i] = self.blocks[inputs[i]]
        for i in operands:
            if inputs[i]:
                name = self._operand(inputs[i], shapes[0])
                if name is None:
                    return None
                made.input[i] = name
        if node.op_type == "Mul":
            made.op_type, made.domain = "Scale", DOMAIN
            made.input[:] = [made.input[data[0]], made.input[operands[0]]]
        if made.domain == DOMAIN:
            made.attribute.append(helper.make_attribute("lanes", self.lanes))
        made.output[0] = f"{node.output[0]}_in_blocks"
        self._declare(node.output[0], made.output[0])
        return made

    def _declare(self, rows: str, blocks: str) -> None:
        """State the shape of a tensor in blocks, where it is known: channels fill up the last block."""
        known = next((v for v in self.graph.value_info if v.name == rows), None)
        if known is None:
            return
        value = self.graph.value_info.add()
        value.CopyFrom(known)
        value.name = blocks
        channels = value.type.tensor_type.shape.dim[1]
        channels.dim_value += -channels.dim_value % self.lanes

    def _operand(self, name: str, shape: list[int]) -> str | None:
        """A constant that is one number, or one a channel with the last block filled up; else None."""
        if name not in self.constants:
            return None
        values: NDArray[np.float32] = numpy_helper.to_array(self.constants[name])
        if values.size == 1:
            return name
        after = [1] * (len(shape) - 2)
        if list(values.shape) not in ([shape[1], *after], [1, shape[1], *after]):
            return None
        missing = -shape[1] % self.lanes
        if not missing:
            return name
        filled = f"{name}_in_blocks"
        if filled not in self.constants:
            padded = np.pad(values.reshape(shape[1], *after), [(0, missing), *([(0, 0)] * len(after))], mode="edge")
            self.constants[filled] = numpy_helper.from_array(padded, filled)
            self.graph.initializer.append(self.constants[filled])
        return filled


def _channels_last(node: onnx.NodeProto) -> bool:
    return any(a.name == "channels_last" and a.i for a in node.attribute)
