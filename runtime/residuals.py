"""Residual membrane potentials of a spiking network, layer by layer, in onnxruntime.

The residual u of a neuron is what its spikes failed to send, in units of theta: with |u| < 1 the layer is encoded
(Theorem 1), and a healthy layer has |u| <= 1/2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import onnx

from csscc.dialect.model import with_outputs, with_residuals
from csscc.runtime.session import by_layer_session
from csscc.statistics import Feeds, Histogram, channel_rows


def residual_histograms(
    model: onnx.ModelProto,
    batches: Iterable[Feeds],
    axes: Mapping[str, int | None],
    *,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Histogram]:
    """Histograms of |u| over `batches`, by the neuron's node name; `model` is changed.

    `axes` names each neuron's channel axis for a histogram a channel, None for one a layer.
    """
    names = with_residuals(model)
    session = by_layer_session(with_outputs(model, names.values()))
    result: dict[str, Histogram] = {}
    for feeds in batches:
        values = session.run(feeds, list(names.values()))
        for node, output in names.items():
            rows = channel_rows(values[output], axes.get(node))
            result.setdefault(node, Histogram(len(rows), 1024)).add(rows)
        if progress is not None:
            progress(len(next(iter(feeds.values()))))
    return result
