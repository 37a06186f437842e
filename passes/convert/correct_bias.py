"""Correct the bias of every layer, so that on average its neurons hear what the ANN's units hear.

Rounding to spikes and cutting off the largest values shift a layer's mean, and the shifts add up from layer to layer.
In order, for every neuron and readout (Nagel et al. 2019, section 4.2, with spikes in place of quantised values):

    bias -= mean over samples and positions of (accumulated input of the SNN - input of the ANN's activation)

per channel. A layer is corrected on the spikes of corrected layers, so each one sees what it will see in use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from csscc.coding.activations import ACTIVATIONS
from csscc.dialect.adapter import export_model
from csscc.dialect.functions import activation_of
from csscc.dialect.network import Network
from csscc.dialect.rewrite import constant, constant_tensor, only_reader, producer
from csscc.io.data import Source
from csscc.passes.base import BasePass
from csscc.passes.convert.channels import channel_axis
from csscc.passes.convert.samples import layer_batches
from csscc.passes.linear import LINEAR
from csscc.passes.linear.factors import Factor, along, compress, spread
from csscc.passes.linear.weighted import WeightedOp
from csscc.runtime.observe import means
from csscc.runtime.segments import LayerRun, LayerRuns


@dataclass(frozen=True)
class CorrectBias(BasePass):
    """Shift biases by the mean difference between SNN and ANN, layer by layer.

    Up to `samples` samples are used, fewer where one run would take more than `budget` multiply-accumulates.
    """

    source: Source
    name: ClassVar[str] = "correct-bias"
    samples: int = 512
    budget: float = 4e11
    progress: Callable[[int], None] | None = field(default=None, compare=False)

    def apply(self, network: Network) -> int:
        """Return the number of neuron inputs and readouts corrected."""
        assert network.regions is not None
        assert network.ann is not None
        originals = {n.name: n for n in network.ann.nodes}
        activations = [n for n in network.ann.nodes if network.regions.roles[n.name] == "neuron"]
        heard = {t.name for n in activations for t in n.inputs[: ACTIVATIONS[n.op].inputs]}
        batches = layer_batches(network, self.source, self.samples, self.budget)
        ann = replace(network, graph=network.ann)
        expected = means(export_model(ann), heard.union(network.regions.decoded), batches)
        nodes = {n.name: n for n in network.graph.nodes}
        corrected = 0
        for run in LayerRuns(export_model(network), batches):
            node = nodes[run.segment.node.name]
            if node.op == "Decode":
                corrected += _correct_readout(network, node, run, expected[node.outputs[0].name])
            elif run.segment.currents:
                names = [t.name for t in originals[node.name].inputs]
                corrected += _correct_neuron(network, node, run, [expected[n] for n in names[: len(run.biases)]])
            if self.progress is not None:
                self.progress(1)
        return corrected


def _correct_neuron(network: Network, node: Any, run: LayerRun, expected: list[NDArray[np.float64]]) -> int:
    activation = ACTIVATIONS[activation_of(node.op)]
    theta = np.asarray(constant(node, 2 * activation.inputs), np.float64)
    unit = theta if activation.homogeneous else np.ones(())
    for i, (current, wanted) in enumerate(zip(run.mean_currents(), expected, strict=True)):
        bias = np.asarray(constant(node, 2 * i + 1), np.float64)
        heard = (np.tensordot(network.coding.weights, current, axes=1) + bias) * unit
        shift = _per_channel(node.inputs[2 * i], heard - wanted) / unit
        bias = compress(bias - shift)
        node.inputs[2 * i + 1] = constant_tensor(network.graph, f"{node.name}_bias", bias)
        run.biases[run.segment.biases[i]] = bias.astype(np.float32)
    return activation.inputs


def _correct_readout(network: Network, node: Any, run: LayerRun, wanted: NDArray[np.float64]) -> int:
    """A readout has no bias of its own; what makes its current takes the correction in T parts."""
    maker = producer(node.inputs[0])
    rule = LINEAR.get(maker.op) if maker is not None else None
    if maker is None or not isinstance(rule, WeightedOp) or only_reader(network.graph, node.inputs[0]) is None:
        return 0
    heard = np.tensordot(network.coding.weights, run.mean_currents()[0], axes=1)
    shift = along(_per_channel(node.inputs[0], heard - wanted), wanted.ndim + 1, rule.output_axis(maker))
    return int(shift is not None and rule.add_bias(network.graph, maker, -shift / network.coding.levels))


def _per_channel(tensor: Any, values: NDArray[np.float64]) -> Factor:
    """Mean of ``[...]`` over all axes but the tensor's channels."""
    axis = channel_axis(tensor)
    others = tuple(i for i in range(values.ndim) if i != axis - 1)
    return spread(values.mean(axis=others), values.ndim + 1, axis)
