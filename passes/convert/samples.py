"""How many samples a run of the network takes at a time, and at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain

import numpy as np

from csscc.dialect.adapter import sized_shapes
from csscc.dialect.macs import affordable_samples
from csscc.dialect.network import Network
from csscc.dialect.rewrite import Shape
from csscc.io.batches import limited
from csscc.io.data import Source
from csscc.statistics import Feeds

BATCH_BYTES = 192 << 20


def batch_size(network: Network, names: Iterable[str], share: int = 1, limit: int = 32) -> int:
    """Samples a batch may hold so that the named tensors fit in `BATCH_BYTES`; the exported size if it is fixed.

    With `share`, they get only so large a part of it, and of `limit`: half for 2, a quarter for 4.
    """
    if network.batch is None:
        first = next((t.shape[0] for t in network.graph.inputs if t.shape), None)
        return first if isinstance(first, int) else 1
    return max(1, min(limit, BATCH_BYTES // max(4 * _values(network, names), 1)) // share)


def layer_batches(
    network: Network, source: Source, samples: int, budget: float, spikes: float = math.inf
) -> list[Feeds]:
    """Up to `samples` samples for a run of the spiking network layer by layer.

    Fewer where one run would take more than `budget` multiply-accumulates or decide more than `spikes` spikes, in
    batches of which a layer's tensors fit in memory T times. Where sizes are free, those of the first sample's size: a
    layer's means are taken place by place.
    """
    assert network.ann is not None
    ann, T = replace(network, graph=network.ann), network.coding.T
    few = samples if math.isinf(spikes) else max(1, int(spikes // max(T * _values(ann, network.amplitudes), 1)))
    affordable = affordable_samples(network.ann, T, min(samples, few), budget, shapes=sized_shapes(ann))
    size = batch_size(ann, network.amplitudes, share=4)
    batches = source.batches(size)
    first = next(batches)
    alike = (b for b in batches if all(b[name].shape[1:] == array.shape[1:] for name, array in first.items()))
    return list(limited(chain([first], alike), in_whole_batches(network, affordable, size)))


def in_whole_batches(network: Network, samples: int, size: int) -> int:
    """As many of the samples as fill batches of `size`, where the network takes no others; one batch at least."""
    return samples if network.batch is not None else max(1, samples // size) * size


def counting(progress: Callable[[int, int | None], None] | None, total: int | None) -> Callable[[int], None] | None:
    """A progress function that states the total as well, where there is one to call."""
    return None if progress is None else lambda done: progress(done, total)


def _values(network: Network, names: Iterable[str]) -> int:
    """Values of the named tensors together, one sample."""
    tensors, shapes = network.graph.tensors(), sized_shapes(network)
    return sum(_size(shapes.get(name, tensors[name].shape)) for name in names)


def _size(shape: Shape | None) -> int:
    return int(np.prod([d if isinstance(d, int) else 1 for d in (shape or [])[1:]], dtype=np.int64))
