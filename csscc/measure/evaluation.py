"""Compare a spiking network with the ANN it came from, on data: accuracy, errors, spikes, operations, time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from csscc.dialect.macs import samples_at_once
from csscc.dialect.metadata import Facts
from csscc.errors import RefusedError
from csscc.io.data import ImageOptions, open_source
from csscc.measure.agreement import Agreement
from csscc.measure.comparison import source_session
from csscc.measure.costs import Costs, costs_of
from csscc.measure.counts import counting_outputs
from csscc.measure.difference import refuse_unequal
from csscc.measure.energy import EnergyEstimate, estimate
from csscc.measure.energy_costs import EnergyCosts
from csscc.measure.input_range import InputRange
from csscc.measure.meter import LayerActivity, Meter, joined
from csscc.measure.observer import Batch, Observer
from csscc.measure.opened import SpikingFile, open_spiking
from csscc.measure.plots import bars
from csscc.passes.canonical.load import read_model
from csscc.passes.lower.kernels import open_session
from csscc.passes.lower.targets import by_layer
from csscc.runtime import native as library
from csscc.runtime.session import Session
from csscc.tables import Tabular

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SPIKE_TRAINS = 512 << 20  # bytes of spikes, of all layers and steps, that are held at once


@dataclass(frozen=True)
class Evaluation(Tabular):
    """ANN against SNN on the same samples. Accuracies and losses are percent and percentage points.

    `output_error` is that of `csscc.measure.agreement.Agreement`; so are `labelling` and `faults`, which say what of it
    is a share of labels, and what could not be compared. `steps`, `interval`, `latency` and `passes` are those of
    `csscc.measure.costs.Costs`; `native` names the spiking operators that native kernels ran. `energy` is None
    unless it was asked for. `warnings` say what the user should know of the data.
    """

    samples: int
    ann_accuracy: float | None
    snn_accuracy: float | None
    loss: float | None
    expected_loss: float | None
    cautious_loss: float | None
    agreement: float | None
    output_error: dict[str, float]
    steps: int
    interval: int
    latency: int
    passes: float
    spikes_per_neuron: float
    synaptic_operations: float
    ann_operations: float
    encoded: float
    ann_milliseconds: float
    snn_milliseconds: float
    native: tuple[str, ...] = ()
    layers: tuple[LayerActivity, ...] = field(default=())
    energy: EnergyEstimate | None = None
    labelling: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """Accuracies, else agreement, else an output's error; latency and spikes."""
        found = [f"{n} differs by {error:.2%}" for n, error in self.output_error.items() if math.isfinite(error)][:1]
        if self.agreement is not None:
            found = [f"same class for {self.agreement:.2f} %"]
        if self.ann_accuracy is not None:
            accuracies = f"ANN {self.ann_accuracy:.2f} %, SNN {self.snn_accuracy:.2f} %"
            found = [f"{accuracies}, loss {self.loss:+.2f} points"]
        found += [f"latency {self.latency} time steps, {self.spikes_per_neuron:.2f} spikes a neuron"]
        return f"{self.samples} samples: {'; '.join(found)}"

    def rows(self) -> list[dict[str, Any]]:
        """The layers."""
        return [asdict(layer) for layer in self.layers]

    def plot(self, axes: Axes | None = None) -> Axes:
        """Spikes of each layer, by their sign, as bars in matplotlib; a new figure without `axes`."""
        signs = {name: [getattr(layer, name) for layer in self.layers] for name in ("positive", "negative")}
        return bars([layer.name for layer in self.layers], signs, "spikes per neuron and inference", axes)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def evaluate(
    ann: str | Path | onnx.ModelProto,
    snn: SpikingFile,
    data: Any,
    *,
    images: ImageOptions | None = None,
    limit: int | None = None,
    native: bool = True,
    energy: EnergyCosts | None = None,
    observers: Sequence[Observer] = (),
    progress: Callable[[int, int | None], None] | None = None,
) -> Evaluation:
    """Run both networks on `data` and compare them.

    What is compared is the file as it is, by the functions in it. Spikes are counted, and native kernels timed, only
    where these answer as the file does.

    Args:
        ann: the source network.
        snn: the spiking network made from it, or its file.
        data: samples, with labels under ``y`` for accuracies.
        images: how image files become inputs.
        limit: use at most so many samples.
        native: use native kernels where they are compiled.
        energy: estimate the energy of one inference at these costs of operations.
        observers: shown each batch.
        progress: told the samples done and their total, where it is known.

    Raises:
        RefusedError: a file or the data cannot be used, or the networks do not belong together.
    """
    ann_model = ann if isinstance(ann, onnx.ModelProto) else read_model(ann)
    given, facts = open_spiking(snn)
    snn_model, counts = by_layer(given), counting_outputs(given)
    ann_session, file = source_session(ann_model), _File(given, native, counts)
    _check_pair(ann_session, file.session)
    source = open_source(data, file.session.specs, images=images, limit=limit)
    at_once = max(ann_session.fixed_batch or 1, file.session.fixed_batch or 1)
    meter = Meter(snn_model, native, {name for observer in observers for name in observer.tensors})
    known = source.labels  # a user's code runs where they are asked for
    compared = Agreement(known, counts, source.classes)
    ranges, seconds = InputRange(snn_model, facts.coding), list[tuple[float, float]]()
    for feeds in source.batches(_batch(snn_model, facts, at_once)):
        number = len(next(iter(feeds.values())))
        if number % at_once:
            raise RefusedError(f"the networks take {at_once} samples at a time; give a multiple of that, not {number}")
        ranges.add(feeds)
        expected, ann_seconds = _timed(partial(_run, ann_session, feeds))
        got, snn_seconds = file.run(feeds)
        seconds.append((ann_seconds / number, snn_seconds / number))
        counted, trains = meter.run(feeds, file.session.fixed_batch)
        refuse_unequal(got, counted, counts)
        labels = None if known is None else known[compared.samples :][:number]
        for observer in observers:
            observer.add(Batch(feeds, labels, expected, got, trains, number))
        compared.add(expected, got, number)
        if progress is not None:
            progress(compared.samples, source.size)
    found = _evaluation(compared, meter, costs_of(given), seconds, file.kernels.native)
    spent = None if energy is None else _energy(meter, compared.samples, facts, energy)
    return replace(found, warnings=ranges.warnings, energy=spent)


def _energy(meter: Meter, samples: int, facts: Facts, costs: EnergyCosts) -> EnergyEstimate:
    return estimate(meter.synapses(samples), meter.neurons(samples), facts.coding, costs)


class _File:
    """The spiking network as it is, and native kernels beside it where they are compiled."""

    def __init__(self, model: onnx.ModelProto, native: bool, counts: Collection[str]) -> None:
        self.session = open_session(model, native=False)
        self.kernels = open_session(model) if native and library.operators() else self.session
        self._counts = counts

    def run(self, feeds: Any) -> tuple[dict[str, NDArray[Any]], float]:
        """Outputs of the file, and seconds: those of the kernels, if they give the same."""
        got, seconds = _timed(partial(_run, self.session, feeds))
        if self.kernels.native:
            by_kernels, seconds = _timed(partial(_run, self.kernels, feeds))
            refuse_unequal(got, by_kernels, self._counts)
        return got, seconds


def _batch(snn: onnx.ModelProto, facts: Facts, at_once: int) -> int:
    """Samples at a time: a multiple of `at_once`, so few that the spikes of all layers fit in memory."""
    trains = 4 * facts.coding.T * sum(layer.neurons for layer in facts.layers)  # bytes; counters read them at the end
    size = samples_at_once(snn, facts.coding.T, min(32, SPIKE_TRAINS // max(trains, 1)))
    return max(at_once, size - size % at_once)


def _evaluation(
    compared: Agreement, meter: Meter, costs: Costs, seconds: list[tuple[float, float]], native: Iterable[str]
) -> Evaluation:
    layers = meter.activities(compared.samples)
    ann_seconds, snn_seconds = np.median(seconds, axis=0)
    return Evaluation(
        samples=compared.samples,
        ann_accuracy=compared.ann_accuracy,
        snn_accuracy=compared.snn_accuracy,
        loss=compared.loss,
        expected_loss=compared.expected_loss,
        cautious_loss=compared.cautious_loss,
        agreement=compared.agreement,
        output_error=compared.output_error,
        steps=costs.steps,
        interval=costs.interval,
        latency=costs.latency,
        passes=costs.passes,
        spikes_per_neuron=meter.spikes_per_neuron(compared.samples),
        synaptic_operations=meter.operations / compared.samples,
        ann_operations=meter.ann_operations,
        encoded=min((a.encoded for a in layers), default=1.0),
        ann_milliseconds=1000 * float(ann_seconds),
        snn_milliseconds=1000 * float(snn_seconds),
        native=tuple(sorted(native)),
        layers=layers,
        labelling=compared.labelling,
        faults=compared.faults,
    )


def _check_pair(ann: Session, snn: Session) -> None:
    if sorted(ann.output_names) != sorted(snn.output_names) or sorted(ann.input_names) != sorted(snn.input_names):
        raise RefusedError(
            f"the networks do not belong together: the ANN maps {ann.input_names} to {ann.output_names}, "
            f"the SNN {snn.input_names} to {snn.output_names}"
        )


def _run(session: Session, feeds: Any) -> dict[str, NDArray[Any]]:
    """Outputs for a batch, so many samples at a time as the network takes where it takes no other number."""
    fixed = session.fixed_batch
    number = len(next(iter(feeds.values())))
    if fixed is None or fixed == number:
        return session.run(feeds)
    parts = [session.run({n: a[i : i + fixed] for n, a in feeds.items()}) for i in range(0, number - fixed + 1, fixed)]
    return {n: joined([p[n] for p in parts]) for n in parts[0]}


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    value = call()
    return value, time.perf_counter() - start
