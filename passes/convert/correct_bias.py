"""Correct the bias of every layer, so that on average its neurons receive what the ANN's units receive.

Rounding to spikes and cutting off the largest values shift a layer's mean, and the shifts add up from layer to layer.
In order, for every neuron and readout (Nagel et al. 2019, section 4.2, with spikes in place of quantised values):

    bias -= mean over samples and positions of (accumulated input of the SNN - input of the ANN's activation)

per channel. A layer is corrected on the spikes of corrected layers, so each one sees what it will see in use. What is
known before time starts is the same in both networks and is left out: a mask may hold the largest numbers there are.
What sends the whole numbers of a quantised network stays as it is, and so do its readouts if that is all of its
neurons: nothing shifts their means.

A mean of few samples is not that of others: correcting may cost more than it saves. With `if_it_helps`, it is done only
where the fake-quantised ANN's error on samples held out is a tenth smaller with corrected biases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from csscc.dialect.adapter import export_model
from csscc.dialect.biases import constant_part, set_constant_part
from csscc.dialect.network import Network
from csscc.dialect.rewrite import shape_of, values_of
from csscc.dialect.spiking import Spiking, spiking_nodes
from csscc.io.data import Source
from csscc.passes.base import BasePass
from csscc.passes.convert.channels import channel_axis
from csscc.passes.convert.judge import CLEARLY_BETTER, Judge
from csscc.passes.convert.known_amplitudes import known_grids
from csscc.passes.convert.samples import layer_batches
from csscc.passes.linear.factors import Factor, compress, spread
from csscc.runtime.observe import means
from csscc.runtime.segments import LayerRun, LayerRuns

NOISE = 1e-5  # of the largest mean: what float32 sums differ by


@dataclass(frozen=True)
class CorrectBias(BasePass):
    """Shift biases by the mean difference between SNN and ANN, layer by layer.

    Up to `samples` samples are used, fewer where one run would take more than `budget` multiply-accumulates or decide
    more than `spikes` spikes.
    """

    source: Source
    name: ClassVar[str] = "correct-bias"
    samples: int = 512
    budget: float = 1.5e11
    spikes: float = 1.6e9
    if_it_helps: bool = False
    progress: Callable[[int, int | None], None] | None = field(default=None, compare=False)

    def apply(self, network: Network) -> int:
        """Return the number of neuron inputs and readouts corrected."""
        assert network.regions is not None
        assert network.ann is not None
        known, activations = known_grids(network), network.regions.nodes(network.ann, "neuron")
        exact = {n.name for n in activations if n.outputs[0].name in known}
        if exact and len(exact) == len(activations):
            return 0
        if self.if_it_helps and not helps(network, self.source):
            return 0
        received = network.regions.received_names(network.ann)
        received |= {
            view.name: received[n.outputs[0].name] for n, view in spiking_nodes(network.graph) if view.is_readout
        }
        received = {name: names for name, names in received.items() if name not in exact}
        batches = layer_batches(network, self.source, self.samples, self.budget, self.spikes)
        ann = export_model(replace(network, graph=network.ann))
        expected = means(ann, {name for names in received.values() for name in names}, batches)
        views = {view.name: view for _, view in spiking_nodes(network.graph)}
        corrected = 0
        runs = LayerRuns(export_model(network), batches)
        for run in runs:
            name = run.segment.view.name
            if name in received:
                corrected += _correct(network, views[name], run, [expected[n] for n in received[name]])
            if self.progress is not None:
                self.progress(1, len(runs))
        return corrected


def helps(network: Network, source: Source) -> bool:
    """Whether corrected biases make the fake-quantised ANN's error on samples held out a tenth smaller."""
    judge = Judge(network, source)
    return judge.sees_means and judge.error(network, centred=True) < CLEARLY_BETTER * judge.error(network)


def _correct(network: Network, view: Spiking[gs.Tensor], run: LayerRun, expected: list[NDArray[np.float64]]) -> int:
    absorbed = view.is_neuron and view.activation.homogeneous
    unit = np.asarray(values_of(view.theta), np.float64) if absorbed else np.ones(())
    corrected = 0
    for i, (current, wanted) in enumerate(zip(run.mean_currents(), expected, strict=True)):
        bias = np.asarray(constant_part(view, i), np.float64)
        received = (np.tensordot(network.coding.weights, current, axes=1) + bias) * unit
        shift = _per_channel(view.current[i], received - wanted)
        if np.abs(shift).max() <= NOISE * max(float(np.abs(received).max()), float(np.abs(wanted).max())):
            continue
        bias = compress(bias - shift / unit)
        set_constant_part(network.graph, view, i, bias)
        run.biases[run.segment.biases[i]] = bias.astype(np.float32)
        corrected += 1
    return corrected


def _per_channel(tensor: Any, values: NDArray[np.float64]) -> Factor:
    """Mean of ``[...]`` over all axes but the tensor's channels; over those, too, if their number is free."""
    axis = channel_axis(tensor)
    if not isinstance(shape_of(tensor)[axis], int):
        return np.asarray(values.mean())
    others = tuple(i for i in range(values.ndim) if i != axis - 1)
    return spread(values.mean(axis=others), values.ndim + 1, axis)
