"""Make the core spiking: encoders, neurons and decoders, with every amplitude still visible as a factor.

    before:  x -> Conv -> Relu -> y
    after:   x -> Encode -> Mul(theta_x) -> Conv -> Mul(1/theta_y) -> TSARelu -> Mul(theta_y) -> y

Between the factors all tensors are in the ANN's units, so the network is exact at this stage; the pass `Rescale`
then moves the factors into the weights (w' = theta_in/theta_out * w, Algorithm 2). What a linear operator adds is
divided by ``sum(q)``, since it now arrives on each of the T steps.

A neuron whose activation is not positively homogeneous keeps the ANN's units at its input; its function divides by
theta.

What is known before time starts, as a mask computed from an input is, enters the neuron as its bias:

    before:  m, z -> Add(z, m) -> Relu -> y
    after:   z -> Mul(1/theta_y) -> TSARelu <- Mul(m, 1/theta_y)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from csscc.coding.activations import ACTIVATIONS
from csscc.coding.coding import Coding
from csscc.coding.schedule import Schedule
from csscc.dialect.biases import NO_BIAS, computed_bias
from csscc.dialect.core import core_parts
from csscc.dialect.model import TIME_AND_BATCH
from csscc.dialect.network import Network
from csscc.dialect.regions import Regions
from csscc.dialect.rewrite import constant, constant_tensor, insert_node, replace_input, set_constant, unique_name
from csscc.dialect.spiking import DECODE, DOMAIN, ENCODE, attributes, neuron_inputs, tsa_op
from csscc.errors import PassError
from csscc.passes.base import BasePass
from csscc.passes.linear import LINEAR


@dataclass(frozen=True)
class InsertNeurons(BasePass):
    """Replace the core's activations by neurons, and put encoders and decoders at its borders."""

    name: ClassVar[str] = "insert-neurons"

    def requires(self, network: Network) -> None:
        """Regions found and an amplitude for every encoder and neuron."""
        if network.regions is None:
            raise PassError("the regions are not known")
        wanted = amplitude_names(network.ann or network.graph, network.regions)
        missing = [t for t in wanted if t not in network.amplitudes]
        if missing:
            raise PassError(f"no amplitude for {', '.join(missing)}")

    def apply(self, network: Network) -> int:
        """Return the number of encoders and neurons inserted, always into the ANN."""
        assert network.regions is not None
        network.ann = network.ann or network.graph
        graph = network.graph = network.ann.copy()
        regions, coding = network.regions, network.coding
        neurons = {n.outputs[0].name: n for n in regions.nodes(graph, "neuron")}  # before decoders take these names
        linear = regions.nodes(graph, "linear", "weighted")
        for node in linear:
            for index in LINEAR[node.op].additive(node) if node.name not in regions.known else ():
                values = constant(node, index)
                assert values is not None
                set_constant(graph, node, index, np.asarray(values, np.float64) / coding.levels)
        decoders = {name: graph.tensors()[name] for name in regions.decoded}
        for tensor in decoders.values():
            _decode(graph, tensor, regions, coding)
        tensors = graph.tensors()
        for name in regions.encoded:
            schedule = coding.encoder(burst=name in network.bursts)
            _encode(graph, tensors[name], network.amplitudes[name], regions, schedule, network.trains.get(name, 1))
        for name, node in neurons.items():
            schedule = coding.neuron(network.silent.get(node.name), burst=name in network.bursts)
            _neuron(graph, node, network.amplitudes[name], regions, schedule)
        graph.cleanup()
        for number, part in enumerate(core_parts(graph), 1):
            first = TIME_AND_BATCH if number == 1 else f"{TIME_AND_BATCH}_{number}"
            for tensor in part:
                tensor.shape = [first, *tensor.shape[1:]]
        return len(neurons) + len(regions.encoded)


def amplitude_names(graph: Any, regions: Regions) -> list[str]:
    """Names of the ANN tensors that spike trains will carry: what encoders read and what neurons send."""
    return [*regions.encoded, *(n.outputs[0].name for n in regions.nodes(graph, "neuron"))]


def _encode(
    graph: Any, tensor: Any, theta: NDArray[np.float64], regions: Regions, schedule: Schedule, trains: int
) -> None:
    readers = [r for r in tensor.outputs if r.name in regions.core_inputs]
    if tensor.name in regions.analog:
        schedule = replace(schedule, constant=True, burst=False)
    theta_tensor = constant_tensor(graph, f"{tensor.name}_theta", theta)
    spikes = insert_node(
        graph,
        ENCODE,
        f"{tensor.name}_encode",
        [tensor, theta_tensor],
        domain=DOMAIN,
        **attributes(schedule, ENCODE, trains=trains),
    )
    value = insert_node(graph, "Mul", f"{tensor.name}_amplitude", [spikes, theta_tensor])
    for reader in readers:
        for index in regions.core_inputs[reader.name]:
            if reader.inputs[index] is tensor:
                reader.inputs[index] = value


def _decode(graph: Any, tensor: Any, regions: Regions, coding: Coding) -> None:
    """The decoder takes the tensor's name, so that epilogue and outputs stay as they are."""
    core = gs.Variable(unique_name(graph, f"{tensor.name}_spiking"), dtype=np.float32, shape=tensor.shape)
    node = tensor.inputs[0]
    position = next(i for i, t in enumerate(node.outputs) if t is tensor)
    node.outputs[position] = core
    for reader in list(tensor.outputs):
        if reader.name in regions.core_inputs:
            replace_input(reader, tensor, core)
    name = unique_name(graph, f"{tensor.name}_decode")
    current, known = regions.received(core)
    inputs = [current, _bias(graph, f"{tensor.name}_bias", known, None)]
    attrs = attributes(coding.neuron(), DECODE)
    graph.nodes.append(gs.Node(DECODE, name, attrs, inputs=inputs, outputs=[tensor], domain=DOMAIN))


def _bias(graph: gs.Graph, name: str, known: gs.Tensor | None, factor: gs.Constant | None) -> gs.Tensor:
    """A bias of zero, or what is known before time starts, in units of the current."""
    return constant_tensor(graph, name, NO_BIAS) if known is None else computed_bias(graph, name, known, factor)


def _neuron(graph: Any, node: Any, theta: NDArray[np.float64], regions: Regions, schedule: Schedule) -> None:
    activation = ACTIVATIONS[node.op]
    value = node.outputs[0]
    received = [regions.received(t) for t in node.inputs[: activation.inputs]]
    currents = [z for z, _ in received]
    parameters = list(node.inputs)[activation.inputs :]
    inverse = constant_tensor(graph, f"{node.name}_per_theta", 1 / theta) if activation.homogeneous else None
    if inverse is not None:
        currents = [insert_node(graph, "Mul", f"{node.name}_current", [z, inverse]) for z in currents]
    theta_tensor = constant_tensor(graph, f"{node.name}_theta", theta)
    biases = [_bias(graph, f"{node.name}_bias", known, inverse) for _, known in received]
    inputs = neuron_inputs([[z] for z in currents], biases, theta_tensor, parameters)
    spikes = gs.Variable(unique_name(graph, f"{node.name}_spikes"), dtype=np.float32, shape=value.shape)
    node.op, node.domain = tsa_op(node.op), DOMAIN
    node.attrs = {**node.attrs, **attributes(schedule, node.op)}
    node.inputs.clear()
    node.outputs.clear()
    node.inputs.extend(inputs)
    node.outputs.append(spikes)
    graph.nodes.append(
        gs.Node("Mul", unique_name(graph, f"{node.name}_amplitude"), inputs=[spikes, theta_tensor], outputs=[value])
    )
