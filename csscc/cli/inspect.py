"""csscc inspect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from csscc.cli.common import (
    console,
    input_shape_option,
    json_option,
    model_argument,
    number,
    passes_of,
    print_json,
    steps_text,
    table,
)
from csscc.cli.progress import progress
from csscc.errors import RefusedError

if TYPE_CHECKING:
    from csscc.measure.inspection import NodeFate

_STYLES = {"converted": "green", "passed": "", "analog": "cyan", "folded": "dim", "refused": "bold red"}


@click.command("inspect", short_help="Show what would become of every node, or what a file holds.")
@model_argument
@click.option("--T", "T", type=int, help="Coding steps, for the costs.  [default: as compile; quantised: its bits]")
@click.option(
    "--beta", type=number, metavar="FLOAT",
    help="The weight of a spike divided by that of the next one, for the costs.  [default: as compile; quantised 2]",
)  # fmt: skip
@click.option("--silent", type=int, help="Silent steps a layer, for the costs.  [default: 1; quantised T-1]")
@input_shape_option
@json_option
@click.option("-v", "--verbose", is_flag=True, help="List the nodes that are folded too.")
def inspect_command(
    model: str, input_shape: dict[str, tuple[int, ...]], as_json: bool, verbose: bool, **coding: Any
) -> None:
    """Show what would become of every node of MODEL, or what a spiking network holds.

    Exit code 3 if the model cannot be compiled; every node in the way is listed with its reason.
    """
    with progress(as_json):
        from csscc.dialect.metadata import PREFIX
        from csscc.passes.canonical.load import read_model

        proto = read_model(model)
    if any(p.key == f"{PREFIX}T" for p in proto.metadata_props):
        given = next((f"--{name}" for name, value in coding.items() if value is not None), None)
        if given:
            raise click.UsageError(f"{model}: is a spiking network, which has settings of its own; leave {given} out")
        _show_snn(model, as_json)
    else:
        _show_ann(model, as_json, coding, input_shape, verbose)


def _show_ann(
    model: str, as_json: bool, coding: dict[str, Any], input_shape: dict[str, tuple[int, ...]], verbose: bool
) -> None:
    from csscc.dialect.sizes import of_samples
    from csscc.measure.inspection import inspect_ann
    from csscc.options import make_options

    stated = {name: value for name, value in coding.items() if value is not None}
    chosen = make_options(**stated).coding
    with progress(as_json):
        result = inspect_ann(model, chosen, input_shape, stated=tuple(stated))
    chosen = result.coding
    sample = f"sample{of_samples(result.sizes)}"
    if as_json:
        print_json(result.as_dict())
    else:
        rows = table("what becomes of each node", "node", "operator", "class", "becomes", "why")
        for column in rows.columns[1:]:
            column.justify = "left"
        listed = [node for node in result.nodes if verbose or node.fate != "folded"]
        for node in listed:
            rows.add_row(node.name, node.op, node.role, node.fate, node.reason, style=_STYLES[node.fate])
        out = console()
        share = f"{result.spiking_share:.1%} of {result.operations:,} multiply-accumulates a {sample} become spiking"
        if result.refusal:
            out.print(f"{model}: {result.refusal.splitlines()[0]}", rows, *result.refusal.splitlines()[1:])
            raise click.exceptions.Exit(RefusedError.exit_code)
        out.print(f"{model}: {share}; latency {result.latency} time steps", rows)
        if result.quantised:
            out.print(result.quantised)
        chosen_by = "" if "silent" in stated or result.quantised else ", unless compile gives some more or fewer"
        out.print(
            *_folded(result.nodes if len(listed) < len(result.nodes) else ()),
            share,
            f"{result.neurons:,} neurons, those of encoders included; {result.depth} layers on the longest path, the "
            f"readout included; {result.state_bytes / 1e6:.2f} MB of state a {sample}",
            f"latency {result.latency} time steps at T={chosen.T}, beta={chosen.beta:g}, "
            f"{steps_text((chosen.silent,))} a layer{chosen_by}",
            _costs(result.interval, result.passes or 0.0, chosen.T),
            f"batch size: {'any' if result.batch else 'as exported'}",
        )
    if result.refusal:
        raise click.exceptions.Exit(RefusedError.exit_code)


def _folded(nodes: Sequence[NodeFate]) -> tuple[str, ...]:
    """A line that counts the nodes that are folded, by operator, where there are any: exporters write many."""
    found = Counter(node.op for node in nodes if node.fate == "folded")
    counts = ", ".join(f"{number} {op}" for op, number in found.most_common())
    gone = f"{found.total()} node(s) are folded, since they compute constants, pass their input on, or are not read"
    return (f"{gone}: {counts}; -v lists them",) if found else ()


def _show_snn(model: str, as_json: bool) -> None:
    from dataclasses import asdict

    from csscc.dialect.sizes import of_samples
    from csscc.snn import load

    snn = load(model)
    costs = snn.costs
    if as_json:
        print_json(asdict(snn.facts) | {"interval": costs.interval, "passes": costs.passes})
        return
    coding = snn.facts.coding
    counted = f", for one sample{of_samples(snn.facts.sizes)}" if snn.facts.sizes else ""
    columns = ("layer", "sends", "neurons", "depth", "theta (mean)", "largest value")
    rows = table(f"layers{counted}", *columns)
    for layer in snn.layers:
        theta = f"{layer.amplitude:.4g}" if layer.amplitude else ""
        largest = f"{layer.clipping_range:.4g}" if layer.clipping_range else ""
        sends = f"{layer.kind}, bursts" if layer.name in snn.bursts else layer.kind
        rows.add_row(layer.name, sends, f"{layer.neurons:,}", str(layer.depth), theta, largest)
    source = snn.facts.source
    more = [f"left analog, with values in place of spikes: {', '.join(snn.analog)}"] if snn.analog else []
    if snn.bursts:
        more.append(f"bursts, in {len(snn.bursts)} layer(s): up to 2 spikes a step")
    if snn.trains > 1:
        more.append(f"the input is sent as {snn.trains} trains, its high digits and its low ones")
    steps = f"T={coding.T}, beta={coding.beta:g}, {steps_text(snn.silent)} a layer; latency {snn.latency} steps"
    console().print(
        f"{model}: a spiking network, {steps}",
        rows,
        _costs(costs.interval, costs.passes, coding.T),
        *more,
        f"made by csscc {snn.facts.version} from {source.get('name')} (sha256 {source.get('sha256', '')[:16]}), "
        f"calibrated with {snn.facts.calibration}",
    )


def _costs(interval: int, passes: float, steps: int) -> str:
    made = passes_of(passes, steps)
    return f"{interval} time steps between two inputs; {made} convolution passes for one input, the ANN makes 1"
