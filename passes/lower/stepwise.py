"""A spiking network step by step: the layout in which stock onnxruntime is fastest on images.

    folded:     s [slabs*B, ...] = Encode(x)      z [slabs*B, ...] = Conv(s, W)
    in steps:   s@1, ..., s@n = Encode(x)         z@1, ..., z@n = Conv(s@1, ..., s@n, W)

Folded, a tensor of the core holds all slabs of a train in its batch axis. But that makes tensors that no cache holds, a
neuron copies each of them apart and together again, and there onnxruntime leaves the layout of its convolutions.

In steps, each tensor ``[n*B, C, H, W]`` becomes n tensors ``[B, C, H, W]``, and each node one of the domain
``csscc.steps``, a function with n copies of its operator, so a graph has as many nodes as before. Once onnxruntime has
put functions in place, it runs each step as deep into the network as it can, on tensors that fit into caches.

Other tensors stay as they are: the rows of a dense layer are best multiplied all at once. The spikes are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import prod

import onnx
from onnx import AttributeProto, helper

from csscc.dialect.model import (
    TIME_AND_BATCH,
    add_functions,
    copy_of,
    define_operators,
    opset_of,
    signature_of,
    slabs_of,
)
from csscc.dialect.spiking import STEPS_DOMAIN, Spiking, neuron_inputs, neurons, spiking
from csscc.passes.lower.convolved import Images
from csscc.passes.lower.folded import PER_SLAB, declared, folded
from csscc.passes.lower.step_functions import (
    convolution,
    convolved_in_steps,
    encoder_in_steps,
    merge_in_steps,
    neuron_in_steps,
    operator_in_steps,
    signature_in_steps,
    stack_function,
    unstack_function,
)

_PLAIN_KINDS = frozenset(
    getattr(AttributeProto, kind) for kind in ("FLOAT", "INT", "STRING", "FLOATS", "INTS", "STRINGS")
)


def down(model: onnx.ModelProto) -> onnx.ModelProto:
    """The folded spiking network `model` in steps; `model` itself where no images are convolved."""
    lowering = _Lowering(model)
    return lowering.run() if lowering.steps else model


def back(model: onnx.ModelProto) -> onnx.ModelProto:
    """The way back, see `csscc.passes.lower.folded`."""
    return folded(model)


def is_fastest(model: onnx.ModelProto) -> bool:
    """Whether onnxruntime runs the folded spiking network `model` faster in steps.

    So it does where most of its images come from neurons that are written for the layout of convolutions. Where few do,
    there are only more nodes to run.
    """
    lowering = _Lowering(model)
    sizes = {True: 0, False: 0}
    for node, view in neurons(model.graph):
        if node.output[0] in lowering.steps:
            sizes[lowering.in_blocks(view)] += lowering.size(node.output[0])
    return sizes[True] > sizes[False]


@dataclass
class _Lowering:
    model: onnx.ModelProto
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    functions: dict[tuple[object, ...], onnx.FunctionProto] = field(default_factory=dict)
    values: list[onnx.ValueInfoProto] = field(default_factory=list)
    both: set[str] = field(default_factory=set)  # tensors that exist folded and in steps

    def __post_init__(self) -> None:
        graph = self.model.graph
        self.known = {v.name: v for v in (*graph.input, *graph.output, *graph.value_info)}
        self.opset = opset_of(self.model)
        self.slabs = slabs_of(graph)
        self.images = Images.of(self.model)
        self.steps = self.images.trains
        self.mark = "@"
        taken = {name for node in graph.node for name in node.output} | set(self.known)
        while any(f"{name}{self.mark}{t}" in taken for name, n in self.slabs.items() for t in range(1, n + 1)):
            self.mark += "t"

    def run(self) -> onnx.ModelProto:
        for node in self.model.graph.node:
            self._add(node)
        for output in self.model.graph.output:
            self._stack(output.name)
        made = copy_of(self.model)
        del made.graph.node[:]
        made.graph.node.extend(self.nodes)
        values = [v for v in made.graph.value_info if v.name not in self.steps or v.name in self.both]
        del made.graph.value_info[:]
        made.graph.value_info.extend([*values, *self.values])
        return add_functions(define_operators(made), self.functions.values())

    def _add(self, node: onnx.NodeProto) -> None:
        outputs = set(filter(None, node.output))
        written = outputs & self.steps
        if written == outputs and all(a.type in _PLAIN_KINDS for a in node.attribute):
            view = spiking(node)
            return self._standard(node) if view is None else self._spiking(node, view)
        for name in node.input:
            self._stack(name)
        self.nodes.append(node)
        for name in written:
            self._unstack(name)

    def _spiking(self, node: onnx.NodeProto, view: Spiking[str]) -> None:
        key: tuple[object, ...] = (view.op, view.schedule, view.reads, view.sends)
        signature = signature_of([(node, view)])
        if signature is None:
            make = encoder_in_steps if view.is_encoder else merge_in_steps
            inputs = list(node.input) if view.is_encoder else self._at_steps(node.input[0])
            self._node(node, inputs, self._function(key, partial(make, view, self.opset)), {})
            return
        trains = [self._at_steps(current) for current in view.current]
        inputs = neuron_inputs(trains, view.biases, view.theta, view.parameters)
        channels, blocks = self.images.channels(view.current[0]), self.in_blocks(view)
        make = partial(neuron_in_steps, view, signature, self.opset, blocks=blocks)
        name = self._function((*key, signature, blocks), make)
        self._node(node, inputs, name, {"channels": channels} if blocks else {})

    def in_blocks(self, view: Spiking[str]) -> bool:
        """Whether a neuron can be written for the layout of onnxruntime's convolutions."""
        channels = self.images.channels(view.current[0])
        return view.activation.blocks and channels > 0 and self.images.one_a_channel(view.biases[0], channels)

    def size(self, name: str) -> int:
        """Elements of one sample at one step; an axis whose size is not known counts once."""
        return prod(d.dim_value or 1 for d in self._dims(name)[1:])

    def _standard(self, node: onnx.NodeProto) -> None:
        inputs = [n for name in node.input for n in (self._at_steps(name) if name in self.slabs else [name]) if n]
        slabs = self.slabs[node.output[0]]
        signature = signature_in_steps(node, self.slabs)
        more: dict[str, object] = {"slabs": slabs, "stepped": signature.stepped}
        key: tuple[object, ...] = (node.op_type, signature, slabs)
        make = partial(operator_in_steps, signature, slabs, self.opset)
        convolved, channels = convolution(signature, self.images, node)
        if convolved is not None:
            key, more["channels"] = (*key, convolved), channels
            make = partial(convolved_in_steps, signature, slabs, self.opset, convolved)
        self._node(node, inputs, self._function(key, make), more)

    def _node(
        self,
        node: onnx.NodeProto,
        inputs: list[str],
        function: str,
        attributes: Mapping[str, object],
    ) -> None:
        made = onnx.NodeProto()
        made.CopyFrom(node)
        made.op_type, made.domain = function, STEPS_DOMAIN
        made.input[:] = inputs
        made.output[:] = [n for name in node.output for n in self._names(name)]
        made.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        self.nodes.append(made)
        for name in node.output:
            self._declare(name)

    def _function(self, key: tuple[object, ...], make: Callable[[], onnx.FunctionProto]) -> str:
        """The name of the function that `key` stands for, its operator first; it is made when it is first asked for."""
        if key not in self.functions:
            alike = sum(key[0] == other[0] for other in self.functions)
            function = self.functions[key] = make()
            function.name += f"_{alike + 1}" if alike else ""
        return self.functions[key].name

    def _at_steps(self, name: str) -> list[str]:
        if name not in self.steps:
            self._unstack(name)
        return self._names(name)

    def _names(self, name: str) -> list[str]:
        return [f"{name}{self.mark}{t}" for t in range(1, self.slabs[name] + 1)]

    def _stack(self, name: str) -> None:
        """Let the tensor, if it exists in steps, also exist folded."""
        if name in self.steps and name not in self.both:
            self._convert("Stack", name, self._names(name), [name], stack_function)
            self.both.add(name)

    def _unstack(self, name: str) -> None:
        """Let the tensor, which exists folded, also exist in steps."""
        if name not in self.both:
            self._convert("Unstack", name, [name], self._names(name), unstack_function)
            self.both.add(name)
            self._declare(name)

    def _convert(
        self, op: str, name: str, inputs: list[str], outputs: list[str], make: Callable[[int, int], onnx.FunctionProto]
    ) -> None:
        slabs = self.slabs[name]
        function = self._function((op, slabs), partial(make, slabs, self.opset))
        named = f"{name}_{op.lower()}"
        node = helper.make_node(function, inputs, outputs, named, domain=STEPS_DOMAIN, slabs=slabs)
        self.nodes.append(node)

    def _declare(self, name: str) -> None:
        """State the shape of each slab: functions may hide it, and onnxruntime adds in place where shapes are equal."""
        if name not in self.known or not self._dims(name):
            return
        batch = f"{self._dims(name)[0].dim_param or TIME_AND_BATCH}{PER_SLAB}"
        self.values.extend(declared(self.known[name], n, batch) for n in self._names(name))

    def _dims(self, name: str) -> list[onnx.TensorShapeProto.Dimension]:
        return list(self.known[name].type.tensor_type.shape.dim)
