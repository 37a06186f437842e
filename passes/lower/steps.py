"""A spiking network step by step, and back: the form in which stock onnxruntime is fastest on images.

    by layer:   s [T*B, ...] = Encode(x)          z [T*B, ...] = Conv(s, W)
    in steps:   s@1, ..., s@T = Encode(x)         z@1, ..., z@T = Conv(s@1, ..., s@T, W)

By layer, a tensor of the core holds all steps in its batch axis. That is how passes and tools see a network, and how
the paper draws it. But it makes tensors that no cache holds, a neuron copies each of them apart and together again,
and there onnxruntime leaves the layout of its convolutions.

In steps, each tensor ``[T*B, C, H, W]`` becomes T tensors ``[B, C, H, W]``, and each node one of the domain
``csscc.steps``, a function with T copies of its operator, so a graph has as many nodes as before. Once onnxruntime has
put functions in place, it runs each step as deep into the network as it can, on tensors that fit into caches.

Other tensors stay as they are: the rows of a dense layer are best multiplied all at once. The spikes are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import prod

import onnx
from onnx import AttributeProto, helper

from csscc.coding.activations import ACTIVATIONS
from csscc.dialect.functions import DOMAIN, activation_of
from csscc.dialect.model import (
    TIME_AND_BATCH,
    add_functions,
    attributes_of,
    coding_of,
    copy_of,
    csscc_nodes,
    define_operators,
    neurons,
    opset_of,
    refuse_other_version,
    signature_of,
    with_outputs,
)
from csscc.passes.lower.step_functions import (
    LANES,
    STEPS_DOMAIN,
    Given,
    StepsSignature,
    encoder_in_steps,
    neuron_in_steps,
    operator_in_steps,
    scale_in_steps,
    stack_function,
    unstack_function,
)

IMAGE_RANK = 4
OVERLOADS_IR_VERSION = 10  # the first in which functions may have overloads
_OVER_T = "/T"  # of the size of a first axis that holds all steps
_PLAIN_KINDS = frozenset(
    getattr(AttributeProto, kind) for kind in ("FLOAT", "INT", "STRING", "FLOATS", "INTS", "STRINGS")
)
_STEPPED: dict[Given, int] = {"stepped": 1, "plain": 0, "absent": -1}


def is_in_steps(model: onnx.ModelProto) -> bool:
    """Whether any node of the model is of the domain ``csscc.steps``."""
    return any(n.domain == STEPS_DOMAIN for n in model.graph.node)


def in_steps(model: onnx.ModelProto) -> onnx.ModelProto:
    """The spiking network `model`, given by layer, in steps.

    It is `model` itself where no images are convolved.
    """
    if is_in_steps(model):
        return model
    lowering = _Lowering(model)
    return lowering.run() if lowering.steps else model


def pays(model: onnx.ModelProto) -> bool:
    """Whether onnxruntime runs the spiking network `model`, given by layer, faster in steps.

    So it does where most of its images come from neurons that are written for the layout of convolutions. Where few do,
    there are only more nodes to run.
    """
    lowering = _Lowering(model)
    sizes = {True: 0, False: 0}
    for node in neurons(model):
        if node.output[0] in lowering.steps:
            sizes[lowering.in_blocks(node)] += lowering.size(node.output[0])
    return sizes[True] > sizes[False]


def by_layer(model: onnx.ModelProto) -> onnx.ModelProto:
    """The spiking network `model`, given in steps, by layer; any other model as it is.

    Raises:
        RefusedError: another version of csscc made the model.
    """
    if not is_in_steps(model):
        return model
    refuse_other_version(model)
    made = copy_of(model)
    del made.graph.node[:], made.functions[:], made.graph.value_info[:]
    for node in model.graph.node:
        if node.domain != STEPS_DOMAIN:
            made.graph.node.append(node)
        elif node.op_type not in ("Stack", "Unstack"):
            made.graph.node.append(_whole(node))
    made.functions.extend(f for f in model.functions if f.domain != STEPS_DOMAIN)
    made.opset_import.remove(next(o for o in made.opset_import if o.domain == STEPS_DOMAIN))
    trains = _trains(model)
    steps = {name for names in trains.values() for name in names}
    values = {v.name: v for v in model.graph.value_info}
    made.graph.value_info.extend(v for v in values.values() if v.name not in steps)
    known = {*values, *(o.name for o in model.graph.output)}
    for name, names in trains.items():
        if names[0] in values and name not in known:
            value = values[names[0]]
            first = value.type.tensor_type.shape.dim[0].dim_param.removesuffix(_OVER_T)
            made.graph.value_info.append(_declared(value, name, first))
    return define_operators(made)


def with_trains(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """The model, in steps or by layer, with the tensors `names` of its core as additional outputs (in place)."""
    wanted, trains = list(names), _trains(model)
    written = {name for node in model.graph.node for name in node.output}
    for name in [n for n in wanted if n not in written]:
        model.graph.node.append(helper.make_node("Concat", trains[name], [name], axis=0))
    return with_outputs(model, wanted)


def _trains(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Names of the steps of each tensor in steps, by its name by layer."""
    trains: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.domain == STEPS_DOMAIN and node.op_type != "Stack":
            T, names = attributes_of(node)["T"], list(node.output)
            trains |= {_base(names[i]): names[i : i + T] for i in range(0, len(names), T)}
    return trains


def _base(name: str) -> str:
    return name.rsplit("@", 1)[0]


def _declared(value: onnx.ValueInfoProto, name: str, first: str) -> onnx.ValueInfoProto:
    """`value` under another name, with another size of the first axis."""
    made = onnx.ValueInfoProto()
    made.CopyFrom(value)
    made.name = name
    made.type.tensor_type.shape.dim[0].dim_param = first
    return made


def _whole(node: onnx.NodeProto) -> onnx.NodeProto:
    """The node by layer of a node in steps."""
    made = onnx.NodeProto()
    made.CopyFrom(node)
    attributes = attributes_of(node)
    T = attributes["T"]
    made.output[:] = [_base(name) for name in node.output[::T]]
    made.ClearField("overload")
    dropped = {"channels"}
    if node.op_type == "Encode":
        made.domain = DOMAIN
    elif node.op_type.startswith("TSA"):
        made.domain = DOMAIN
        currents = range(ACTIVATIONS[activation_of(node.op_type)].inputs)
        pairs = [name for i in currents for name in (_base(node.input[i * (T + 1)]), node.input[i * (T + 1) + T])]
        made.input[:] = [*pairs, *node.input[len(currents) * (T + 1) :]]
    else:
        made.ClearField("domain")
        dropped |= {"T", "stepped"}
        made.input[:] = _inputs(node, T, attributes["stepped"])
    kept = [a for a in node.attribute if a.name not in dropped]
    del made.attribute[:]
    made.attribute.extend(kept)
    return made


def _inputs(node: onnx.NodeProto, steps: int, stepped: list[int]) -> Iterator[str]:
    at = 0
    for given in stepped:
        yield "" if given < 0 else _base(node.input[at]) if given else node.input[at]
        at += {1: steps, 0: 1, -1: 0}[given]


@dataclass
class _Lowering:
    model: onnx.ModelProto
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    functions: dict[tuple[object, ...], onnx.FunctionProto] = field(default_factory=dict)
    values: list[onnx.ValueInfoProto] = field(default_factory=list)
    both: set[str] = field(default_factory=set)  # tensors that exist by layer and in steps

    def __post_init__(self) -> None:
        graph = self.model.graph
        self.known = {v.name: v for v in (*graph.input, *graph.output, *graph.value_info)}
        self.shapes = {t.name: list(t.dims) for t in graph.initializer}
        self.opset = opset_of(self.model)
        self.core: set[str] = set()
        for node in graph.node:
            spiking = node.domain == DOMAIN and node.op_type != "Decode"
            if spiking or (node.domain != DOMAIN and any(name in self.core for name in node.input)):
                self.core |= set(filter(None, node.output))
        self.steps = self._images()
        self.T = next((coding_of(n).T for n in csscc_nodes(self.model)), 0)
        self.mark = "@"
        taken = {name for node in graph.node for name in node.output} | set(self.known)
        while any(f"{name}{self.mark}{t}" in taken for name in self.core for t in range(1, self.T + 1)):
            self.mark += "t"

    def _images(self) -> set[str]:
        """Tensors ``[T*B, C, H, W]`` that a convolution reads or writes, or that others of them lead to or come from.

        Not the heads of an attention, which have as many axes.
        """
        images = {n for n in self.core if n in self.known and len(self._dims(n)) == IMAGE_RANK}
        found: set[str] = set()
        groups = []
        for node in self.model.graph.node:
            group = images & {*node.input, *node.output}
            groups.append(group)
            found |= group if node.op_type in ("Conv", "ConvTranspose") else set()
        before = -1
        while len(found) > before:
            before = len(found)
            for group in (*groups, *reversed(groups)):
                if not group.isdisjoint(found):
                    found |= group
        return found

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
        made.ir_version = max(made.ir_version, OVERLOADS_IR_VERSION)
        return add_functions(define_operators(made), self.functions.values())

    def _add(self, node: onnx.NodeProto) -> None:
        outputs = set(filter(None, node.output))
        written = outputs & self.steps
        if written == outputs and all(a.type in _PLAIN_KINDS for a in node.attribute):
            add = self._spiking if node.domain == DOMAIN else self._standard
            return add(node)
        for name in node.input:
            self._stack(name)
        self.nodes.append(node)
        for name in written:
            self._unstack(name)

    def _spiking(self, node: onnx.NodeProto) -> None:
        coding = coding_of(node)
        if node.op_type == "Encode":
            overload = self._function(("Encode", coding), partial(encoder_in_steps, coding, self.opset))
            self._node(node, list(node.input), overload, {})
            return
        activation = ACTIVATIONS[activation_of(node.op_type)]
        pairs = 2 * activation.inputs
        inputs: list[str] = []
        for current, bias in zip(node.input[0:pairs:2], node.input[1:pairs:2], strict=True):
            inputs += [*self._at_steps(current), bias]
        channels, blocks = self._channels(node.input[0]), self.in_blocks(node)
        signature = signature_of([node], residual=False)
        make = partial(neuron_in_steps, signature, coding, self.opset, blocks=blocks)
        overload = self._function((node.op_type, signature, coding, blocks), make)
        self._node(node, [*inputs, *node.input[pairs:]], overload, {"channels": channels} if blocks else {})

    def in_blocks(self, node: onnx.NodeProto) -> bool:
        """Whether a neuron can be written for the layout of onnxruntime's convolutions."""
        channels = self._channels(node.input[0])
        known = ACTIVATIONS[activation_of(node.op_type)].blocks
        return known and channels > 0 and self._one_a_channel(node.input[1], channels)

    def size(self, name: str) -> int:
        """Elements of one sample at one step; an axis whose size is not known counts once."""
        return prod(d.dim_value or 1 for d in self._dims(name)[1:])

    def _standard(self, node: onnx.NodeProto) -> None:
        given: list[Given] = ["stepped" if n in self.core else "plain" if n else "absent" for n in node.input]
        inputs = [n for name in node.input for n in (self._at_steps(name) if name in self.core else [name]) if n]
        more: dict[str, object] = {"T": self.T, "stepped": [_STEPPED[g] for g in given]}
        attributes = tuple((a.name, a.type) for a in node.attribute)
        signature = StepsSignature(node.op_type, tuple(given), len(node.output), attributes)
        key: tuple[object, ...] = (node.op_type, signature)
        make = partial(operator_in_steps, signature, self.T, self.opset)
        if node.op_type == "Mul" and sorted(given) == ["plain", "stepped"]:
            channels = self._channels(node.input[given.index("stepped")])
            if channels and self._one_a_channel(node.input[given.index("plain")], channels):
                key, more["channels"] = (*key, "blocks"), channels
                make = partial(scale_in_steps, given.index("plain"), self.T, self.opset)
        self._node(node, inputs, self._function(key, make), more)

    def _node(
        self,
        node: onnx.NodeProto,
        inputs: list[str],
        overload: str,
        attributes: Mapping[str, object],
    ) -> None:
        made = onnx.NodeProto()
        made.CopyFrom(node)
        made.domain = STEPS_DOMAIN
        made.ClearField("overload")
        if overload:
            made.overload = overload
        made.input[:] = inputs
        made.output[:] = [n for name in node.output for n in self._names(name)]
        made.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        self.nodes.append(made)
        for name in node.output:
            self._declare(name, every=node.op_type == "Encode")

    def _function(self, key: tuple[object, ...], make: Callable[[], onnx.FunctionProto]) -> str:
        """The overload of the function that `key` stands for; it is made when it is first asked for."""
        if key not in self.functions:
            function = self.functions[key] = make()
            alike = sum(f.name == function.name for f in self.functions.values())
            function.overload = str(alike) if alike > 1 else ""
        return self.functions[key].overload

    def _at_steps(self, name: str) -> list[str]:
        if name not in self.steps:
            self._unstack(name)
        return self._names(name)

    def _names(self, name: str) -> list[str]:
        return [f"{name}{self.mark}{t}" for t in range(1, self.T + 1)]

    def _stack(self, name: str) -> None:
        """Let the tensor, if it exists in steps, also exist by layer."""
        if name in self.steps and name not in self.both:
            self._convert("Stack", name, self._names(name), [name], stack_function)
            self.both.add(name)

    def _unstack(self, name: str) -> None:
        """Let the tensor, which exists by layer, also exist in steps."""
        if name not in self.both:
            self._convert("Unstack", name, [name], self._names(name), unstack_function)
            self.both.add(name)
            self._declare(name, every=True)

    def _convert(
        self, op: str, name: str, inputs: list[str], outputs: list[str], make: Callable[[int, int], onnx.FunctionProto]
    ) -> None:
        self._function((op,), partial(make, self.T, self.opset))
        named = f"{name}_{op.lower()}"
        self.nodes.append(helper.make_node(op, inputs, outputs, named, domain=STEPS_DOMAIN, T=self.T))

    def _declare(self, name: str, *, every: bool) -> None:
        """State the shape of a tensor's first step, or of all, where nothing else tells that they have one batch."""
        if name not in self.known or not self._dims(name):
            return
        batch = f"{self._dims(name)[0].dim_param or TIME_AND_BATCH}{_OVER_T}"
        names = self._names(name)
        self.values.extend(_declared(self.known[name], n, batch) for n in (names if every else names[:1]))

    def _dims(self, name: str) -> list[onnx.TensorShapeProto.Dimension]:
        return list(self.known[name].type.tensor_type.shape.dim)

    def _channels(self, name: str) -> int:
        """Channels of an image where they fill whole blocks, else 0."""
        dims = self._dims(name) if name in self.known else []
        channels = dims[1].dim_value if len(dims) == IMAGE_RANK else 0
        return channels if channels % LANES == 0 else 0

    def _one_a_channel(self, name: str, channels: int) -> bool:
        """Whether a constant is one number, or one a channel of an image."""
        shape = self.shapes.get(name)
        return shape is not None and (prod(shape) == 1 or shape in ([channels, 1, 1], [1, channels, 1, 1]))
