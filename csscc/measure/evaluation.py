"""Compare a spiking network with the ANN it came from, on data: accuracy, errors, spikes, operations, time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from csscc.io.data import ImageOptions
from csscc.measure.agreement import Agreement
from csscc.measure.comparison import far_outputs
from csscc.measure.costs import Costs
from csscc.measure.energy import EnergyEstimate, estimate
from csscc.measure.energy_costs import EnergyCosts
from csscc.measure.meter import LayerActivity, Meter
from csscc.measure.observer import Observer
from csscc.measure.opened import SpikingFile
from csscc.measure.pair import Measured, Pair
from csscc.measure.plots import bars
from csscc.tables import Tabular, number_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Evaluation(Tabular):
    """ANN against SNN on the same samples. Accuracies and losses are percent and percentage points.

    `output_error` and `column_error` are those of `csscc.measure.agreement.Agreement`; so are `labelling` and `faults`:
    which errors are shares of labels, and what could not be compared. `steps`, `interval`, `latency` and `passes` are
    those of `csscc.measure.costs.Costs`; `native` names the spiking operators that native kernels ran. `energy` is None
    unless it was asked for. `warnings` state what the user should know of the data.
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
    column_error: dict[str, tuple[int, float]] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """Accuracies, else agreement, else an output's error; latency and spikes."""
        found = [f"{n} differs by {error:.2%}" for n, error in self.output_error.items() if math.isfinite(error)][:1]
        if self.agreement is not None:
            found.append(f"same class for {self.agreement:.2f} %")
        if self.ann_accuracy is not None:
            accuracies = f"ANN {self.ann_accuracy:.2f} %, SNN {self.snn_accuracy:.2f} %"
            found = [f"{accuracies}, loss {self.loss:+z.2f} points"]
        found += [f"latency {self.latency} time steps, {self.spikes_per_neuron:.2f} spikes a neuron"]
        return f"{number_of(self.samples, 'sample')}: {'; '.join(found)}"

    @property
    def unlabelled(self) -> bool:
        """Whether only labels are missing for accuracies: the networks name classes."""
        return self.ann_accuracy is None and self.agreement is not None

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
        progress: called with the samples done and their total, where it is known.

    Raises:
        RefusedError: a file or the data cannot be used, or the networks do not belong together.
    """
    pair = Pair(ann, snn, native=native, observers=observers)
    return evaluation_of(pair, pair.measured(pair.source(data, images, limit), progress), energy)


def evaluation_of(pair: Pair, found: Measured, energy: EnergyCosts | None = None) -> Evaluation:
    """What the figures of all samples come to."""
    pair.meter.sums = found.counts
    samples, meter, spent = found.compared.samples, pair.meter, None
    made = _evaluation(found.compared, pair.meter, pair.costs, found.seconds, pair.native)
    if energy is not None:
        spent = estimate(meter.synapses(samples), meter.neurons(samples), pair.facts.coding, energy)
    known = (*found.compared.warnings, *found.ranges.warnings)
    far = far_outputs(made.output_error, made.labelling, number_of(samples, "sample"), pair.facts.coding)
    return replace(made, warnings=known or far, energy=spent)


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
        column_error=compared.column_error,
    )
