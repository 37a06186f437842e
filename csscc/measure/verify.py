"""Check an emitted file: onnxruntime against the NumPy reference, spike by spike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from csscc.coding.program import EVERY_STEP
from csscc.dialect.macs import samples_at_once
from csscc.dialect.model import copy_of, spike_sources, with_outputs
from csscc.dialect.parts import from_tensors
from csscc.dialect.spiking import spiking_nodes
from csscc.io.data import ImageOptions, open_source
from csscc.io.outputs import as_arrays
from csscc.measure.difference import largest_difference
from csscc.measure.opened import SpikingFile, open_spiking
from csscc.passes.lower.folded import folded, with_trains
from csscc.passes.lower.kernels import open_session
from csscc.passes.lower.targets import by_layer
from csscc.runtime.reference import ReferenceRuntime
from csscc.runtime.session import Session

MAX_DIFFERENT = 1e-4
OUTPUT_TOLERANCE = 1e-3
SAMPLES = 8
BATCH = 8


@dataclass(frozen=True)
class Verification:
    """Spikes compared, how many differ in each layer, and the largest difference of an output relative to its largest.

    It is infinite where outputs cannot be compared, since a value is NaN, or infinite in one runtime only.
    """

    samples: int
    spikes: int
    different: int
    layers: dict[str, int]
    output_difference: float

    @property
    def holds(self) -> bool:
        """At most one spike in 10,000 differs and the decoded outputs agree."""
        return self.different <= MAX_DIFFERENT * self.spikes and self.output_difference <= OUTPUT_TOLERANCE

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "holds": self.holds}


def verify(
    snn: SpikingFile,
    data: Any = None,
    *,
    images: ImageOptions | None = None,
    limit: int | None = SAMPLES,
    optimise: bool = True,
    progress: Callable[[int, int | None], None] | None = None,
) -> Verification:
    """Run `snn` in both runtimes and compare all spike trains of all layers and all outputs.

    In onnxruntime, it runs as it is, by the functions in the file, and time-folded, where every step of every train is
    there: the file may carry the first steps of a train as one sum. What is computed before time starts is ordinary
    ONNX, whose last bits differ between runtimes; the reference takes it from onnxruntime.

    Without `data`, on seeded random inputs.

    Raises:
        RefusedError: the file or the data cannot be used.
    """
    given, facts = open_spiking(snn)
    model = by_layer(given)
    trains = {n.name: n.output[0] for n in spike_sources(model)}
    sends = {view.name: view.sends.merged for _, view in spiking_nodes(folded(given).graph)}
    outputs = [o.name for o in model.graph.output]
    session = open_session(with_trains(copy_of(given), trains.values()), native=False, optimise=optimise)
    known = _known(model)
    every_step = Session(with_outputs(copy_of(model), [*trains.values(), *known]), optimise=optimise)
    reference = ReferenceRuntime(from_tensors(model, known))
    samples = _random(session, limit or SAMPLES) if data is None else data
    source = open_source(samples, session.specs, images=images, limit=limit)
    layers = dict.fromkeys(trains, 0)
    spikes = seen = 0
    worst = 0.0
    for feeds in source.batches(session.fixed_batch or samples_at_once(model, facts.coding.T, BATCH)):
        got, all_steps = session.run(feeds), every_step.run(feeds)
        trace = reference.trace({**feeds, **{name: all_steps[name] for name in known}})
        for name, tensor in trains.items():
            if name not in trace.spikes:
                continue  # nothing that the network gives out depends on it
            expected = trace.spikes[name]
            carried = _carried(expected, sends.get(name, EVERY_STEP.merged))  # a stream merges none
            layers[name] += max(_different(all_steps[tensor], expected), _different(got[tensor], carried))
            spikes += expected.size
        expected_outputs = as_arrays(trace.outputs)
        for name, value in as_arrays({n: got[n] for n in outputs}).items():
            worst = max(worst, largest_difference(value, expected_outputs[name]))
        seen += len(next(iter(feeds.values())))
        if progress is not None:
            progress(seen, source.size)
    return Verification(seen, spikes, sum(layers.values()), layers, worst)


def _known(model: onnx.ModelProto) -> list[str]:
    """What is computed before time starts and read by spiking nodes: values to encode, biases, parameters."""
    made = {name for node in model.graph.node for name in node.output}
    read: dict[str, None] = {}
    for _, view in spiking_nodes(model.graph):
        analog = [view.inputs[0]] if view.is_encoder else [*view.biases, *view.parameters]
        read |= dict.fromkeys(name for name in analog if name in made)
    return list(read)


def _different(train: NDArray[Any], expected: NDArray[Any]) -> int:
    """How many spikes of a folded train are not those of ``[T, B, ...]``: all of them where it has another size."""
    if train.size != expected.size:
        return max(train.size, expected.size)
    return int((train.reshape(expected.shape) != expected).sum())


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
