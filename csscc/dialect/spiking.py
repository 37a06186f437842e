"""The operators of a spiking network, and typed views of its nodes: the one place that knows where an input stands.

    spikes = Encode <weights, negative, burst, thresholds, constant, most, trains, sends> (x, theta)
    spikes = TSA<Op> <weights, silent, merged, rounded, negative, burst, thresholds, reads, sends>
                     (z1, bias1, ..., theta, ...)
    y      = Decode <weights, reads> (z, bias)
    spikes = Merge <weights, merged, reads> (spikes)

A view serves the graph library, where tensors are objects, and ONNX messages, where they are names. In steps (see
`csscc.passes.lower.stepwise`) each current is not one tensor but one for each of its slabs: the view's `width`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, MutableSequence, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import helper

from csscc import limits
from csscc.coding.activations import ACTIVATIONS, Activation
from csscc.coding.program import EVERY_STEP, Train
from csscc.coding.schedule import Schedule
from csscc.dialect.possible import possible
from csscc.errors import RefusedError

DOMAIN = "csscc"
DOMAIN_VERSION = 9  # of files: encoders of 8 sent no bursts, 6 and 7 knew others, 5 neither bursts nor several trains
STEPS_DOMAIN = "csscc.steps"
STEPS_DOMAIN_VERSION = 8
STREAM_DOMAIN = "csscc.stream"  # of nodes that do one step a run, see `csscc.passes.lower.stream`
STREAM_DOMAIN_VERSION = 7
STEP, NEXT = "csscc.step", ".next"  # in a stream: the input that counts runs from 1; what a state is called afterwards
ACTIVATION_DOMAIN = "csscc.activation"  # activations that are several nodes in ONNX, before they become neurons
ENCODE, DECODE, MERGE, NEURON, DELAY = "Encode", "Decode", "Merge", "TSA", "Delay"

Tensor = TypeVar("Tensor")
_NUMBER = re.compile(r"_\d+$")


def tsa_op(activation: str) -> str:
    """Operator name of the neuron that sends `activation`."""
    return f"{NEURON}{activation}"


def activation_of(op: str) -> str:
    """Activation sent by the neuron operator named `op`."""
    return op.removeprefix(NEURON)


def operator_of(node: onnx.NodeProto) -> str:
    """The operator of a node; where nodes of one do different things, its type has a number: ``TSARelu_2``."""
    return _NUMBER.sub("", node.op_type)


@dataclass(frozen=True)
class Spiking(Generic[Tensor]):
    """A node of the domain ``csscc``, or its like in steps.

    Attributes:
        name: of the node.
        op: its operator.
        inputs: the node's own list of inputs: what is written there is written to the node.
        schedule: what it does at each step.
        reads: how many first steps of the train it reads come as one slab.
        sends: how the train it sends is carried.
        trains: of an encoder: how many trains side by side, along the channels, send one value.
        stepped: whether each slab of a train is a tensor of its own.
    """

    name: str
    op: str
    inputs: MutableSequence[Tensor]
    schedule: Schedule
    reads: int = 1
    sends: Train = EVERY_STEP
    trains: int = 1
    stepped: bool = False

    @property
    def is_encoder(self) -> bool:
        """Whether it makes spikes of values."""
        return self.op == ENCODE

    @property
    def is_readout(self) -> bool:
        """Whether it makes values of spikes."""
        return self.op == DECODE

    @property
    def is_neuron(self) -> bool:
        """Whether it is a layer of TSA neurons."""
        return self.op.startswith(NEURON)

    @property
    def is_merge(self) -> bool:
        """Whether it makes a train of fewer slabs of one."""
        return self.op == MERGE

    @property
    def makes_spikes(self) -> bool:
        """Whether what it sends are spikes: not a value, and not the constant current of a rate-coded encoder."""
        return self.is_neuron or (self.is_encoder and not self.schedule.constant)

    @property
    def kind(self) -> str:
        """``encoder``, ``readout``, ``merge``, or the activation that the neurons send."""
        kinds = {ENCODE: "encoder", DECODE: "readout", MERGE: "merge"}
        return kinds.get(self.op) or activation_of(self.op)

    @property
    def activation(self) -> Activation:
        """What the neurons send."""
        return ACTIVATIONS[self.kind]

    @property
    def width(self) -> int:
        """Tensors of each train that it reads."""
        return self.schedule.T - self.reads + 1 if self.stepped else 1

    @property
    def currents(self) -> list[list[Tensor]]:
        """The trains it reads, each as its tensors; none for an encoder."""
        width = self.width
        return [list(self.inputs[at : at + width]) for at in self._starts]

    @property
    def current(self) -> list[Tensor]:
        """Time-folded: the tensor of each train it reads."""
        return [tensors[0] for tensors in self.currents]

    @property
    def biases(self) -> list[Tensor]:
        """What the membrane of each current holds from the start."""
        return [self.inputs[at + self.width] for at in self._starts]

    def set_bias(self, index: int, tensor: Tensor) -> None:
        """Give the membrane of one current another bias."""
        self.inputs[self._starts[index] + self.width] = tensor

    def set_parameter(self, index: int, tensor: Tensor) -> None:
        """Give the activation another constant input."""
        self.inputs[self._after + 1 + index] = tensor

    @property
    def theta(self) -> Tensor:
        """Amplitude of the spikes it sends."""
        return self.inputs[1] if self.is_encoder else self.inputs[self._after]

    @property
    def parameters(self) -> list[Tensor]:
        """Constant inputs of the activation."""
        return list(self.inputs[self._after + 1 :]) if self.is_neuron else []

    @property
    def _starts(self) -> list[int]:
        """Where each current begins; its bias follows it."""
        number = self.activation.inputs if self.is_neuron else int(self.is_readout)
        return [i * (self.width + 1) for i in range(number)]

    @property
    def _after(self) -> int:
        """Where the pairs of current and bias end."""
        return len(self._starts) * (self.width + 1)


def neuron_inputs(
    currents: Sequence[Sequence[Tensor]], biases: Sequence[Tensor], theta: Tensor, parameters: Iterable[Tensor]
) -> list[Tensor]:
    """The inputs of a neuron, in order."""
    pairs = zip(currents, biases, strict=True)
    return [*(t for tensors, bias in pairs for t in (*tensors, bias)), theta, *parameters]


def spiking(node: Any) -> Spiking[Any] | None:
    """The view of a node of either representation; None for one that is not spiking."""
    if isinstance(node, onnx.NodeProto):
        op = operator_of(node)
        if node.domain not in (DOMAIN, STEPS_DOMAIN) or not _is_spiking(op):
            return None
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name in ATTRIBUTES}
        return possible(_view(node.name, op, node.input, attributes, stepped=node.domain == STEPS_DOMAIN))
    if node.domain != DOMAIN or not _is_spiking(node.op):
        return None
    return _view(node.name, node.op, node.inputs, node.attrs, stepped=False)


def view_of(node: Any) -> Spiking[Any]:
    """The view of a node that is spiking."""
    view = spiking(node)
    assert view is not None, "not a spiking node"
    return view


def spiking_nodes(graph: Any) -> list[tuple[Any, Spiking[Any]]]:
    """The spiking nodes of a graph of either representation, in order, with their views."""
    nodes = graph.node if isinstance(graph, onnx.GraphProto) else graph.nodes
    return [(n, view) for n in nodes if (view := spiking(n)) is not None]


def neurons(graph: Any) -> list[tuple[Any, Spiking[Any]]]:
    """The TSA nodes of a graph of either representation, in order, with their views."""
    return [(n, view) for n, view in spiking_nodes(graph) if view.is_neuron]


def attributes(
    schedule: Schedule, op: str, reads: int = 1, sends: Train = EVERY_STEP, trains: int = 1
) -> dict[str, Any]:
    """The attributes of a spiking node, by name."""
    every: dict[str, Any] = {
        "weights": list(schedule.weights),
        "silent": schedule.silent,
        "merged": list(schedule.merged),
        "rounded": int(schedule.rounded),
        "negative": int(schedule.negative),
        "burst": int(schedule.burst),
        "thresholds": list(schedule.thresholds),
        "constant": int(schedule.constant),
        "most": schedule.most,
        "trains": trains,
        "reads": reads,
        "sends": list(sends.merged),
    }
    return {name: every[name] for name in _STATED.get(op, _STATED[NEURON])}


def set_schedule(node: onnx.NodeProto | gs.Node, schedule: Schedule) -> None:
    """State what a neuron does at each step."""
    for name, value in attributes(schedule, NEURON).items():
        if name not in ("reads", "sends"):
            _set(node, name, value)


def set_reads(node: onnx.NodeProto | gs.Node, reads: int) -> None:
    """State how many first steps of the train that a node reads come as one slab."""
    _set(node, "reads", reads)


def set_sends(node: onnx.NodeProto | gs.Node, sends: Train) -> None:
    """State how the train that a node sends is carried."""
    _set(node, "sends", list(sends.merged))


_STATED = {
    ENCODE: ("weights", "negative", "burst", "thresholds", "constant", "most", "trains", "sends"),
    NEURON: ("weights", "silent", "merged", "rounded", "negative", "burst", "thresholds", "most", "reads", "sends"),
    DECODE: ("weights", "reads"),
    MERGE: ("weights", "merged", "reads"),
}
ATTRIBUTES = frozenset(name for names in _STATED.values() for name in names)


def _set(node: onnx.NodeProto | gs.Node, name: str, value: Any) -> None:
    if isinstance(node, onnx.NodeProto):
        stated = next((a for a in node.attribute if a.name == name), None) or node.attribute.add()
        stated.CopyFrom(helper.make_attribute(name, value))
    else:
        node.attrs[name] = value


def _is_spiking(op: str) -> bool:
    return op in (ENCODE, DECODE, MERGE) or op.startswith(NEURON)


def _view(name: str, op: str, inputs: MutableSequence[Any], given: dict[str, Any], *, stepped: bool) -> Spiking[Any]:
    if "weights" not in given:
        raise RefusedError(f"node '{name}' ({op}) does not state the weights of its spikes; compile the network again")
    try:
        schedule = Schedule(
            weights=numbers(given["weights"]),
            silent=int(given.get("silent", 0)),
            merged=(merged := numbers(given.get("merged", [1.0]))),
            rounded=bool(given.get("rounded", 0)),
            negative=bool(given.get("negative", 1)),
            burst=bool(given.get("burst", 0)),
            thresholds=numbers(given.get("thresholds", ())),
            constant=bool(given.get("constant", 0)),
            most=float(given.get("most", float("inf"))),
        )
        trains = int(given.get("trains", 1))
        sends, reads = Train(merged if op == MERGE else numbers(given.get("sends", [1.0]))), int(given.get("reads", 1))
    except (TypeError, ValueError, OverflowError) as error:
        raise RefusedError(f"node '{name}' ({op}) states no coding: {error}; compile the network again") from error
    stated, most = (len(merged), sends.steps, abs(schedule.silent), abs(reads)), limits.STEPS_OF_EQUAL_WEIGHT
    if trains < 1:
        raise RefusedError(f"node '{name}' ({op}) states {trains} trains for a value; compile the network again")
    if not 1 <= schedule.T <= most or max(stated) > most:
        raise RefusedError(f"node '{name}' ({op}) states more steps than {most}, or none; compile the network again")
    return Spiking(name, op, inputs, schedule, reads, sends, trains, stepped)


def numbers(values: Iterable[float]) -> tuple[float, ...]:
    """As the float32 numbers that an attribute holds."""
    return tuple(np.asarray(list(values), np.float32).tolist())
