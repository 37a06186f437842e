"""Residual membrane potentials of a spiking network, layer by layer, in onnxruntime.

The residual u of a neuron is what its spikes failed to send, in units of theta: with |u| < 1 the layer is encoded
(Theorem 1), and a healthy layer has |u| <= 1/2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import onnx_graphsurgeon as gs

from csscc.calibration import Feeds, Histogram
from csscc.passes.adapter import export_model
from csscc.passes.core import neuron_nodes
from csscc.passes.network import Network
from csscc.runtime.session import Session


def residual_histograms(
    network: Network, batches: Iterable[Feeds], *, threads: int = 0, progress: Callable[[int], None] | None = None
) -> dict[str, Histogram]:
    """Histogram of |u| of every neuron, by the neuron's node name, over `batches`."""
    graph = network.graph
    network.graph = probed = graph.copy()
    try:
        names = {}
        for node in neuron_nodes(probed):
            residual = gs.Variable(f"{node.name}_residual", dtype=np.float32)
            node.outputs.append(residual)
            probed.outputs.append(residual)
            names[node.name] = residual.name
        session = Session(export_model(network), threads=threads)
    finally:
        network.graph = graph
    result = {name: Histogram(1, 8192) for name in names}
    for feeds in batches:
        values = session.run(feeds, list(names.values()))
        for node_name, output in names.items():
            result[node_name].add(values[output].reshape(1, -1))
        if progress is not None:
            progress(len(next(iter(feeds.values()))))
    return result
