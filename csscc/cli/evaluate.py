"""csscc evaluate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from csscc.cli.common import (
    budget,
    console,
    energy_costs_option,
    image_options,
    json_option,
    native_option,
    passes_of,
    print_json,
    quiet_option,
    table,
    take_images,
    warn,
    workers_options,
)
from csscc.cli.progress import progress
from csscc.errors import NotMetError
from csscc.measure.running import running_total
from csscc.tables import count_of, figures, number_of, percent

HIDDEN = 2.0  # times the error of all values of an output: what is shown of one of them
MANY = 1e6  # a residual that is shown with its exponent

if TYPE_CHECKING:
    from csscc.measure.energy import EnergyEstimate
    from csscc.measure.evaluation import Evaluation


@click.command("evaluate", short_help="Compare a spiking network with the ANN it came from.")
@click.argument("ann", type=click.Path(dir_okay=False))
@click.argument("snn", type=click.Path(dir_okay=False))
@click.option(
    "--data", required=True, type=click.Path(), metavar="DATA",
    help="Samples and labels: .npz (x, y), folders of images named after their classes, images with labels.csv, ...",
)  # fmt: skip
@click.option("--samples", "limit", type=click.IntRange(min=1), help="Use at most so many samples.")
@click.option(
    "--max-loss", type=budget, metavar="FLOAT",
    help="Exit with 1 if more points of accuracy are lost; without labels, percent of samples that change class; "
    "without classes, percent of output error.",
)
@click.option("--energy", is_flag=True, help="Estimate the energy of an inference; of the ANN in float32 and int8.")
@energy_costs_option
@native_option
@workers_options
@image_options
@json_option
@quiet_option
def evaluate_command(
    ann: str,
    snn: str,
    data: str,
    limit: int | None,
    max_loss: float | None,
    energy: bool,
    energy_costs: str | None,
    native: bool,
    jobs: int,
    scheduler: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Compare the spiking network SNN with the ANN it came from.

    Accuracy of both, agreement, output error, spikes, synaptic operations, time steps, passes through the weights,
    time, and for each layer the spikes sent and the share of residuals |u| <= 1 (in units of theta): of
    these neurons the value is encoded.
    """
    from csscc.measure.energy_costs import EnergyCosts, read_costs
    from csscc.measure.evaluation import evaluate
    from csscc.search.shared import Shared, evaluate_shared

    images = take_images(options, data)
    costs = read_costs(energy_costs) if energy_costs else EnergyCosts() if energy else None
    with progress(quiet or as_json) as advance:
        evaluating = running_total(advance, "evaluating")
        if jobs == 1 and scheduler is None:
            result = evaluate(
                ann, snn, data, images=images, limit=limit, native=native, energy=costs, progress=evaluating
            )  # fmt: skip
        else:
            work = Shared(ann, snn, data, images, limit, native)
            result = evaluate_shared(work, jobs=jobs, scheduler=scheduler, energy=costs, progress=evaluating)
    for text in result.warnings:
        warn(text)
    if as_json:
        print_json(result.as_dict())
    elif not quiet:
        show(result)
    if result.faults:
        raise NotMetError("; ".join(result.faults))
    if max_loss is not None:
        lost, unit = _lost(result)
        if lost > max_loss:
            raise NotMetError(
                f"the loss of {figures(lost)} {unit} exceeds the budget of {max_loss:g}; csscc diagnose names its cause"
            )


def _lost(result: Evaluation) -> tuple[float, str]:
    """What is lost, and what it counts: without labels, or without classes, what `csscc tune` counts there.

    Raises:
        NotMetError: nothing can be compared.
    """
    from csscc.measure.agreement import quantity_of

    unit = quantity_of(labels=result.loss is not None, classes=result.agreement is not None)
    if result.loss is not None:
        return result.loss, unit
    if result.agreement is not None:
        return 100 - result.agreement, unit
    if not result.output_error:
        raise NotMetError("no loss can be stated: no output can be compared; leave --max-loss out")
    return 100 * max(result.output_error.values()), unit


def show(result: Evaluation) -> None:
    """Tables for people."""
    rows = table(f"ANN and SNN on {number_of(result.samples, 'sample')}", "", "ANN", "SNN")
    if result.ann_accuracy is not None:
        rows.add_row("accuracy", f"{result.ann_accuracy:.2f} %", f"{result.snn_accuracy:.2f} %")
        rows.add_row("loss", "", f"{result.loss:+z.2f} points")
    if result.agreement is not None:
        rows.add_row("same class as the ANN", "", f"{result.agreement:.2f} %")
    for name, error in result.output_error.items():
        shown = f"{error:.2%}" if math.isfinite(error) else "not finite"
        what = f"labels of '{name}' that differ" if name in result.labelling else f"relative error of '{name}' (RMS)"
        rows.add_row(what, "", shown)
        column, worst = result.column_error.get(name, (0, 0.0))
        if worst > HIDDEN * error:
            rows.add_row(f"relative error of '{name}'[:, {column}] alone", "", f"{worst:.2%}")
    rows.add_row("time steps: coding / latency", "", f"{result.steps} / {result.latency}")
    rows.add_row("time steps between two inputs", "", f"{result.interval}")
    rows.add_row("convolution passes for one input", "1", passes_of(result.passes, result.steps))
    rows.add_row("spikes per neuron and inference", "", f"{result.spikes_per_neuron:.2f}")
    operations = count_of(result.ann_operations), count_of(result.synaptic_operations)
    rows.add_row("multiply-accumulates / synaptic operations", *operations)
    rows.add_row("time of one sample", _milliseconds(result.ann_milliseconds), _milliseconds(result.snn_milliseconds))
    layers = table("layers", "layer", "sends", "spikes +", "spikes -", "|u| <= 1", "largest |u|")
    for layer in result.layers:
        layers.add_row(
            layer.name,
            layer.kind,
            f"{layer.positive:.2f}",
            f"{layer.negative:.2f}",
            "" if layer.kind == "encoder" else percent(layer.encoded, 3),
            "" if layer.kind == "encoder" else _residual(layer.largest),
        )
    out = console()
    out.print(result.headline, layers, rows)
    if result.unlabelled:
        out.print("The data has no labels (y), so there is no accuracy.")
    if result.energy is not None:
        _show_energy(result.energy)
    if result.native:
        out.print("native kernels ran " + ", ".join(result.native))


def _residual(value: float) -> str:
    """A residual; of a network that goes wrong it may be of any size."""
    return f"{value:.2f}" if value < MANY else f"{value:.1e}"


def _milliseconds(time: float) -> str:
    """A time of small networks too, which take microseconds."""
    return f"{time:.2f} ms" if time >= 0.1 else f"{time:.2g} ms"


def _show_energy(made: EnergyEstimate) -> None:
    """What one inference takes, and what follows."""
    out = console()
    for when, designs in (("once a step", made.per_step), ("for each spike", made.per_spike)):
        rows = table(f"microjoules an inference, weights read {when}", "", *(e.design for e in designs))
        for part in ("synapses", "neurons", "weights", "state", "total"):
            rows.add_row(part, *(f"{getattr(e, part) / 1e6:.4g}" for e in designs))
        out.print(rows)
    for sentence in made.sentences:
        out.print(sentence)
    out.print(
        f"An estimate at the prices of {made.costs.source}. What it assumes and leaves out: --json, or csscc report."
    )
