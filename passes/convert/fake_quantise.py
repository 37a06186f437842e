"""The ANN with the resolution of spikes but not their timing: what a spiking network would compute at best.

    before:  h = Conv(x)  y = Relu(h)
    after:   h = Conv(x)  h' = h - mean(h) + mean of the ANN's h  y = Relu(h')  y' = step * clip(round(y / step))

With a silent step or two a layer is as good as a uniform quantiser (`Coding.uniform_levels`), so this network, which
costs one T-th of the spiking one, shows what accuracy to expect. The means, per channel over the batch, stand for the
bias correction; the ANN's means over the same batch are inputs. It may do without, as a spiking network does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from csscc.coding.coding import Coding
from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import constant_tensor, is_output, rank_of, replace_readers, shape_of, unique_name
from csscc.passes.convert.channels import channel_axis
from csscc.passes.convert.insert_neurons import amplitude_names


def received_tensors(network: Network) -> list[str]:
    """What neurons and readouts receive as spikes, by the names in the ANN."""
    assert network.regions is not None
    names = network.regions.received_names(network.ann or network.graph)
    return list(dict.fromkeys(n for received in names.values() for n in received))


def mean_name(tensor: str) -> str:
    """Name of the input that holds the ANN's mean of one of `received_tensors`, ``[...]`` without the batch axis."""
    return f"{tensor}_mean_of_ann"


def fake_quantised(network: Network, *, centred: bool = True) -> gs.Graph:
    """A copy of the network's ANN graph with its amplitudes' resolution; `centred`, with inputs for the ANN's means."""
    assert network.regions is not None
    ann = network.ann or network.graph
    graph = ann.copy()
    tensors = graph.tensors()
    for name in received_tensors(network) if centred else ():
        _centre(graph, tensors[name], mean_name(name))
    for name in amplitude_names(ann, network.regions):
        if name not in network.regions.analog:
            _quantise(graph, tensors[name], network.amplitudes[name], network.coding, burst=name in network.bursts)
    tidy(graph)
    return graph


def _after(graph: gs.Graph, tensor: gs.Tensor) -> gs.Variable:
    """A tensor that takes the place of `tensor` for its readers, and as an output of the graph."""
    value = gs.Variable(unique_name(graph, f"{tensor.name}_quantised"), dtype=np.float32, shape=tensor.shape)
    replace_readers(tensor, value)
    if is_output(graph, tensor):
        name, tensor.name = tensor.name, value.name
        value.name = name
        graph.outputs = [value if t is tensor else t for t in graph.outputs]
    return value


def _add(
    graph: gs.Graph, op: str, inputs: Sequence[gs.Tensor], output: gs.Variable | None = None, **attrs: object
) -> gs.Variable:
    name = unique_name(graph, f"{inputs[0].name}_{op}")
    output = output if output is not None else gs.Variable(unique_name(graph, f"{name}_out"), dtype=np.float32)
    graph.nodes.append(gs.Node(op, name, attrs, inputs, [output]))
    return output


def _centre(graph: gs.Graph, tensor: gs.Tensor, mean: str) -> None:
    """``h - mean(h - mean of the ANN's h)``, the outer mean over all but the channels."""
    axis = channel_axis(tensor)
    value = _after(graph, tensor)
    wanted = gs.Variable(mean, dtype=np.float32, shape=shape_of(tensor)[1:])
    graph.inputs.append(wanted)
    others = [i for i in range(rank_of(tensor)) if i != axis]
    axes = constant_tensor(graph, f"{tensor.name}_axes", np.array(others, np.int64))
    shift = _add(graph, "ReduceMean", [_add(graph, "Sub", [tensor, wanted]), axes], keepdims=1)
    _add(graph, "Sub", [tensor, shift], value)


def _quantise(
    graph: gs.Graph, tensor: gs.Tensor, theta: NDArray[np.float64], coding: Coding, *, burst: bool
) -> None:
    value, levels = _after(graph, tensor), coding.uniform_levels
    unit = constant_tensor(graph, f"{tensor.name}_theta", theta * (coding.levels / levels))
    most = 2 * levels if burst else levels
    bounds = [constant_tensor(graph, f"{tensor.name}_bound", np.float32(b)) for b in (-most, most)]
    steps = _add(graph, "Clip", [_add(graph, "Round", [_add(graph, "Div", [tensor, unit])]), *bounds])
    _add(graph, "Mul", [steps, unit], value)
