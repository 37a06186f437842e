"""Check an emitted file: onnxruntime against the NumPy reference, spike by spike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from csscc.coding.program import EVERY_STEP
from csscc.dialect.macs import samples_at_once
from csscc.dialect.model import copy_of
from csscc.dialect.parts import from_tensors
from csscc.dialect.spiking import spiking_nodes
from csscc.io.data import ImageOptions, open_source
from csscc.io.outputs import as_arrays
from csscc.measure.difference import largest_difference
from csscc.measure.opened import SpikingFile, open_spiking
from csscc.measure.ties import Ties
from csscc.passes.lower.folded import folded, with_trains
from csscc.passes.lower.kernels import open_session
from csscc.passes.lower.targets import by_layer
from csscc.runtime.reference import ReferenceRuntime
from csscc.runtime.session import Session

MAX_FAULTS = 1e-6
OUTPUT_TOLERANCE = 1e-3
SAMPLES = 8
BATCH = 8


@dataclass(frozen=True)
class Verification:
    """How the spikes and outputs of a file compare with the reference's.

    Attributes:
        samples: how many it ran on.
        spikes: compared.
        different: how many differ.
        layers: how many differ in each layer.
        faults: how many of these differ where rounding does not decide, see `csscc.measure.ties`.
        output_difference: the largest of an output, relative to its largest value. It is infinite where outputs cannot
            be compared, since a value is NaN, or infinite in one runtime only.
    """

    samples: int
    spikes: int
    different: int
    layers: dict[str, int]
    faults: dict[str, int]
    output_difference: float

    @property
    def ties(self) -> int:
        """How many of those that differ rounding decides."""
        return self.different - sum(self.faults.values())

    @property
    def holds(self) -> bool:
        """At most one spike in a million differs where rounding does not decide, and the decoded outputs agree."""
        return sum(self.faults.values()) <= MAX_FAULTS * self.spikes and self.output_difference <= OUTPUT_TOLERANCE

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "ties": self.ties, "holds": self.holds}


def verify(
    snn: SpikingFile,
    data: Any = None,
    *,
    images: ImageOptions | None = None,
    limit: int | None = SAMPLES,
    optimise: bool = True,
    progress: Callable[[int, int | None], None] | None = None,
) -> Verification:
    """Run the file `snn` in onnxruntime, and compare all its spike trains and outputs with the reference's.

    Each layer of the reference reads the spikes that the file sent, so that what differs in a layer is its own. Where
    the file carries the first steps of a train as one sum, these sums are compared. What is computed before time starts
    is ordinary ONNX, whose last bits differ between runtimes; the reference takes it from the file.

    Without `data`, on seeded random inputs.

    Raises:
        RefusedError: the file or the data cannot be used.
    """
    given, facts = open_spiking(snn)
    model = by_layer(given)
    trains = {view.name: node.output[0] for node, view in spiking_nodes(model.graph) if view.makes_spikes}
    merged = {view.name: view.sends.merged for _, view in spiking_nodes(folded(given).graph)}
    views = {view.name: view for _, view in spiking_nodes(model.graph)}
    outputs, known = [o.name for o in model.graph.output], _known(model)
    session = open_session(with_trains(copy_of(given), [*trains.values(), *known]), native=False, optimise=optimise)
    reference, rounding = ReferenceRuntime(from_tensors(model, known)), Ties(model)
    samples = _random(session, limit or SAMPLES) if data is None else data
    source = open_source(samples, session.specs, images=images, limit=limit)
    layers, faults = dict.fromkeys(trains, 0), dict.fromkeys(trains, 0)
    spikes = seen = 0
    worst = 0.0
    for feeds in source.batches(session.fixed_batch or samples_at_once(model, facts.coding.T, BATCH)):
        got = session.run(feeds)
        sent = _Sent({name: got[tensor] for name, tensor in trains.items()}, merged)
        trace = reference.trace({**feeds, **{name: got[name] for name in known}}, sent.steps)
        for name, own in trace.spikes.items():  # not of layers on which nothing depends that the network gives out
            if name in layers:
                differ = sent.differ(name, own)
                number = int(differ.sum())
                layers[name] += number
                faults[name] += number - rounding.count(views[name], differ, trace.potentials.get(name))
                spikes += own.size
        expected = as_arrays(trace.outputs)
        for name, value in as_arrays({n: got[n] for n in outputs}).items():
            worst = max(worst, largest_difference(value, expected[name]))
        seen += len(next(iter(feeds.values())))
        if progress is not None:
            progress(seen, source.size)
    return Verification(seen, spikes, sum(layers.values()), layers, faults, worst)


@dataclass(frozen=True)
class _Sent:
    """The trains that a file sent on one batch.

    Attributes:
        slabs: of each train, by the name of the node, folded.
        merged: the weights of the steps of which the first slab is the sum, where it is one.
    """

    slabs: Mapping[str, NDArray[Any]]
    merged: Mapping[str, tuple[float, ...]]

    def differ(self, name: str, own: NDArray[Any]) -> NDArray[np.bool_]:
        """Which slabs ``[slabs, B, ...]`` are not those of spikes ``[T, B, ...]``: all where sizes differ."""
        expected = _carried(own, self._weights(name))
        got = self.slabs[name]
        return got.reshape(expected.shape) != expected if got.size == expected.size else np.ones_like(expected, bool)

    def steps(self, name: str, own: NDArray[Any]) -> NDArray[Any]:
        """The spikes ``[T, B, ...]`` that readers receive: the file's in place of `own`.

        A sum of steps that is not that of `own` counts at the last of these steps, whose weight is one.
        """
        differ = self.differ(name, own) if name in self.slabs else np.zeros(0, bool)
        if not differ.any() or self.slabs[name].size != differ.size:
            return own
        got, steps, made = self.slabs[name].reshape(differ.shape), len(self._weights(name)), own.copy()
        made[steps:] = got[1:]
        made[: steps - 1, differ[0]] = 0
        made[steps - 1, differ[0]] = got[0, differ[0]]
        return made

    def _weights(self, name: str) -> tuple[float, ...]:
        return self.merged.get(name, EVERY_STEP.merged)  # a stream merges none


def _known(model: onnx.ModelProto) -> list[str]:
    """What is computed before time starts and read by spiking nodes: values to encode, biases, parameters."""
    made = {name for node in model.graph.node for name in node.output}
    read: dict[str, None] = {}
    for _, view in spiking_nodes(model.graph):
        analog = [view.inputs[0]] if view.is_encoder else [*view.biases, *view.parameters]
        read |= dict.fromkeys(name for name in analog if name in made)
    return list(read)


def _carried(spikes: NDArray[Any], merged: tuple[float, ...]) -> NDArray[Any]:
    """What a file carries of spikes ``[T, B, ...]``: the first steps as one sum, where it merges them.

    It adds them in their order, since a sum of all steps, as a readout takes it, may be rounded.
    """
    head = np.zeros_like(spikes[0])
    for weight, spike in zip(merged, spikes, strict=False):
        head = head + spikes.dtype.type(weight) * spike
    return np.concatenate([head[None], spikes[len(merged) :]])


def _random(session: Session, number: int) -> dict[str, Any]:
    return session.random_inputs(session.fixed_batch or number)
