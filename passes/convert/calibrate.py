"""Observe the ANN's activations on sample inputs, through one onnxruntime session.

Per-channel statistics are taken where a channel is seen often enough (a convolution sees it at every position), and of
the features of a network's inputs, which may differ in scale; the units of a dense layer, seen once a sample, share one
histogram, as so few values have no tail. What quantisers set the amplitude of is not observed; if that is all, nothing
is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

from csscc.coding.activations import ACTIVATIONS
from csscc.dialect.adapter import export_model
from csscc.dialect.network import Network
from csscc.errors import PassError
from csscc.io.data import Source
from csscc.memory import release
from csscc.passes.base import BasePass
from csscc.passes.convert.channels import amplitude_axis, input_channel_axis, is_features, many_positions
from csscc.passes.convert.known_amplitudes import known_grids
from csscc.passes.convert.samples import batch_size, counting
from csscc.passes.convert.synthetic import standardised
from csscc.runtime.observe import collect
from csscc.statistics import Calibration

HELD_OUT = 4  # every so many-th sample judges what the others choose


@dataclass(frozen=True)
class Calibrate(BasePass):
    """Fill `Network.calibration`; with `hold_out`, a fourth of the samples is counted by itself."""

    source: Source
    name: ClassVar[str] = "calibrate"
    per_channel: bool = True
    hold_out: bool = False
    progress: Callable[[int, int | None], None] | None = field(default=None, compare=False)

    def requires(self, network: Network) -> None:
        """The regions are known."""
        if network.regions is None:
            raise PassError("the regions are not known")

    def apply(self, network: Network) -> int:
        """Return the number of tensors whose statistics are new."""
        known = known_grids(network)
        axes = {n: a for n, a in statistics_axes(network, per_channel=self.per_channel).items() if n not in known}
        if not axes:
            network.calibration = Calibration(source="the scales of its own quantisers")
            return 0
        size = batch_size(network, axes)
        model = export_model(replace(network, graph=standardised(network)) if self.source.synthetic else network)
        before = network.calibration.histograms if network.calibration is not None else {}
        every = HELD_OUT if self.hold_out else 0
        batches = self.source.batches(size)
        advance = counting(self.progress, self.source.size)
        network.calibration = collect(model, axes, batches, hold_out=every, progress=advance)
        release()
        remembered = " and BatchNormalization statistics" if self.source.synthetic and network.statistics else ""
        network.calibration.source = self.source.name + remembered
        return sum(histogram != before.get(name) for name, histogram in network.calibration.histograms.items())


def statistics_axes(network: Network, *, per_channel: bool) -> dict[str, int | None]:
    """For each tensor that spikes will carry, the axis of its channels, or None for one statistic a layer."""
    assert network.regions is not None
    graph, regions = network.graph, network.regions
    tensors = graph.tensors()
    axes: dict[str, int | None] = {}
    for name in regions.encoded:
        tensor = tensors[name]
        readers = [r for r in tensor.outputs if r.name in regions.core_inputs]
        own = per_channel and (many_positions(tensor) or is_features(tensor))
        axes[name] = input_channel_axis(readers, tensor) if own else None
    for node in regions.nodes(graph, "neuron"):
        tensor = node.outputs[0]
        axes[tensor.name] = amplitude_axis(tensor, ACTIVATIONS[node.op].scope) if per_channel else None
    return axes
