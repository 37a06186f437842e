"""Compile a network within a loss of accuracy, with layers left analog where it does not hold all spiking.

The loss is the tuner's: a cautious estimate from the calibration samples. Where it is too large, layers are ranked by
what each costs: by how much the error of the fake-quantised ANN's outputs falls if that layer alone is not quantised,
on samples held out (`csscc.passes.convert.judge`). The fewest layers of that ranking with which the loss holds are left
analog, if that is allowed: their number is doubled until it does, and then narrowed down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from csscc import api
from csscc.measure.agreement import Agreement
from csscc.measure.comparison import Comparison
from csscc.options import make_options
from csscc.passes.convert.choose_bursts import ChooseBursts
from csscc.passes.convert.judge import Judge
from csscc.passes.convert.leave_analog import LeaveAnalog
from csscc.passes.convert.set_amplitudes import SetAmplitudes
from csscc.passes.convert.split_inputs import SplitInputs
from csscc.pipeline import run_pipeline
from csscc.search import Progress
from csscc.search.bench import Bench
from csscc.snn import SNN, Report


@dataclass(frozen=True)
class LayerCost:
    """What a layer of neurons costs.

    Attributes:
        layer: node name.
        activation: that it sends.
        error: percent of the outputs (RMS) by which they err less if the layer is not quantised; below 0 where its
            errors cancel those of others.
    """

    layer: str
    activation: str
    error: float


@dataclass(frozen=True)
class Within:
    """The outcome of `compile_within`.

    Attributes:
        snn: the spiking network.
        loss: its cautious loss, in the unit of `quantity`.
        allowed: what it may be.
        quantity: what losses count.
        analog: layers left analog, in the order of their costs.
        costs: of all layers, the largest first; empty where the network holds all spiking.
        warnings: what the user should know of the labels.
    """

    snn: SNN
    loss: float
    allowed: float
    quantity: str
    analog: tuple[str, ...] = ()
    costs: tuple[LayerCost, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the loss is at most what was allowed."""
        return self.loss <= self.allowed


def compile_within(
    ann: api.Calibrated,
    max_drop: float,
    *,
    allow_analog: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Within:
    """Compile a calibrated network so that it loses at most `max_drop`.

    Args:
        ann: the network.
        max_drop: points of accuracy that may be lost; without labels, percent of samples with another class; for
            networks that do not classify, percent of output error.
        allow_analog: whether layers may be left analog; else those that cost most are only named.
        progress: called with a stage, what is newly done in it, and how much there is.
        **options: those of `csscc.compile`, but for `analog`.

    Raises:
        UsageError: an option has a value that cannot be used.
    """
    report: Progress = progress or (lambda stage, new, total: None)
    bench = Bench(ann)

    def tried(analog: tuple[str, ...]) -> Within:
        snn = api.compile(ann, analog=analog, **options)
        compared = bench.answers(snn)
        snn.report = _compared(snn, compared)
        report("compiling and running", 1, None)
        return Within(snn, bench.loss(compared), max_drop, bench.quantity, analog, warnings=bench.warnings)

    found = tried(())
    if found.holds:
        return found
    costs = tuple(sorted(costs_of(ann, report, **options), key=lambda cost: -cost.error))
    if allow_analog and costs:
        fewest = _fewest(tuple(cost.layer for cost in costs), tried)
        found = fewest if fewest.holds else found
    return replace(found, costs=costs)


def _compared(snn: SNN, compared: Agreement) -> Report:
    """The report of a compilation with a comparison on all samples."""
    comparison = Comparison.of(compared, snn.facts.coding)
    return replace(snn.report, comparison=comparison, warnings=(*snn.report.warnings, *comparison.warnings))


def costs_of(ann: api.Calibrated, report: Progress, **options: Any) -> list[LayerCost]:
    """What each layer of neurons costs, in the order of the network."""
    chosen = make_options(**options)
    network = ann.copy_for(chosen)
    network.coding = chosen.coding
    run_pipeline(network, (ChooseBursts(), SetAmplitudes(chosen.method, chosen.percentile), SplitInputs()))
    assert network.regions is not None
    judge, nodes = Judge(network, ann.source), network.regions.nodes(network.graph, "neuron")
    together, found = judge.error(network), list[LayerCost]()
    for node in nodes:
        without = replace(network, events=[])
        LeaveAnalog((node.name,)).apply(without)
        found.append(LayerCost(node.name, node.op, 100 * (together - judge.error(without))))
        report("what each layer costs", 1, len(nodes))
    return found


def _fewest(layers: tuple[str, ...], tried: Callable[[tuple[str, ...]], Within]) -> Within:
    """The network with the fewest of the first `layers` left analog that holds; with all of them, if none does."""
    least, most = 0, min(1, len(layers))
    found = tried(layers[:most])
    while not found.holds and most < len(layers):
        least, most = most, min(2 * most, len(layers))
        found = tried(layers[:most])
    while found.holds and most - least > 1:
        middle = (least + most) // 2
        better = tried(layers[:middle])
        least, most, found = (least, middle, better) if better.holds else (middle, most, found)
    return found
