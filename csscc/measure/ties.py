"""Spikes that rounding decides: two runtimes may differ there, and both be right.

Where an activation is not computed exactly, or a sum of spikes is not, two runtimes get targets that differ by a few
roundings. If the potential is that close to a threshold, one of them sends a spike and the other does not; the spikes
that the neuron sends after that one make up for it, and so differ as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from csscc.coding.schedule import Schedule
from csscc.dialect.adapter import import_model
from csscc.dialect.model import copy_of
from csscc.dialect.order import toposort
from csscc.dialect.spiking import Spiking, neurons, spiking_nodes
from csscc.passes.convert.snap_weights import sums_are_exact

TIE = 2.0**-20  # of the largest value that a train can send: sixteen roundings of it to float32


class Ties:
    """Counts the spikes of a layer that rounding decides.

    Args:
        model: the time-folded network.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model

    def count(self, view: Spiking[str], differ: NDArray[np.bool_], potentials: NDArray[Any] | None) -> int:
        """How many of the spikes that differ are those of neurons whose first one that differs is a tie.

        Args:
            view: of the layer.
            differ: which slabs of the train do, ``[slabs, B, ...]``: the first one may be a sum of several steps.
            potentials: of each step ``[T, B, ...]``, in units of the spike about to be sent; None
                of an encoder, which no rounding concerns.
        """
        if potentials is None or not differ.any() or (view.activation.exact and self._sums_are_exact[view.name]):
            return 0
        near = _near_threshold(potentials, view.schedule)
        merged = len(near) + 1 - len(differ)
        near = np.concatenate([near[:merged].any(axis=0, keepdims=True), near[merged:]])
        first = np.take_along_axis(near, differ.argmax(axis=0)[None], axis=0)
        return int((differ & first).sum())

    @cached_property
    def _sums_are_exact(self) -> Mapping[str, bool]:
        model = copy_of(self._model)
        for node, view in spiking_nodes(model.graph):
            node.op_type = view.op  # without the number of its function
        graph = toposort(import_model(model).graph)
        return {view.name: sums_are_exact(view) for _, view in neurons(graph)}


def _near_threshold(potentials: NDArray[Any], schedule: Schedule) -> NDArray[np.bool_]:
    """Where a potential is so close to what decides between two numbers of spikes that rounding may turn it."""
    least, most = map(int, schedule.counts)
    near = np.zeros(potentials.shape, bool)
    for step, (weight, threshold) in enumerate(zip(schedule.weights, schedule.thresholds, strict=True)):
        potential = potentials[step].astype(np.float64) * weight
        for number in range(least, most):
            near[step] |= np.abs(potential - (2 * number + 1) * threshold) <= TIE * schedule.levels
    return near
