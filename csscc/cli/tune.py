"""csscc tune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from csscc.cli.common import (
    budget,
    console,
    image_options,
    input_shape_option,
    json_option,
    model_argument,
    numbers,
    passes_of,
    print_json,
    progress,
    quiet_option,
    refuse_unwritable,
    table,
    take_images,
    warn,
)
from csscc.search.objectives import OBJECTIVES

if TYPE_CHECKING:
    from csscc.search.candidates import Candidate
    from csscc.search.tune import Tuning


_MEANINGS = "\n".join(f"  {name:<14}{meaning}" for name, meaning in OBJECTIVES.items())


@click.command("tune", epilog=f"\b\nWhat --objective makes small:\n{_MEANINGS}")
@model_argument
@click.option("-o", "--output", required=True, type=click.Path(), help="The spiking network to write.")
@click.option(
    "--calibration", required=True, type=click.Path(), metavar="DATA",
    help="Samples that choose everything, best with labels.",
)  # fmt: skip
@click.option("--max-loss", type=budget, metavar="FLOAT", required=True, help="Points of accuracy that may be lost.")
@click.option(
    "--objective", type=click.Choice(list(OBJECTIVES)), default="steps", show_default=True,
    help="What to make small, see below.",
)  # fmt: skip
@click.option("--T", "T", callback=numbers(int), help="Steps to consider.  [default: 3,4,5,6,7,8,10,12,14,16]")
@click.option("--samples", type=click.IntRange(min=1), help="Use at most so many samples.  [default: 512]")
@click.option("--plot", type=click.Path(), help="Draw loss against steps and latency: a .png or .svg.")
@input_shape_option
@image_options
@json_option
@quiet_option
def tune_command(
    model: str,
    output: str,
    calibration: str,
    max_loss: float,
    objective: Any,
    T: tuple[int, ...] | None,  # noqa: N803
    samples: int | None,
    input_shape: dict[str, tuple[int, ...]],
    plot: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Find the coding of MODEL that costs least and keeps its accuracy, and write that spiking network.

    \b
    csscc tune model.onnx --calibration x.npz --max-loss 0.2 -o snn.onnx
    csscc tune model.onnx --calibration x.npz --max-loss 0.5 --objective latency -o snn.onnx

    Settings are predicted with a quantised ANN and confirmed with spikes, on the calibration samples: a few hundred,
    with labels under y. The budget holds for a cautious estimate, as if errors were twice as large. Without labels the
    loss is the percentage of samples that get another class. Exit code 1 if no setting keeps the loss; the best one is
    written all the same.
    """  # noqa: D301 (click wants the character, not its spelling)
    from csscc.search.tune import STEPS, tune

    images = take_images(options)
    refuse_unwritable(output, model, calibration)
    if plot is not None:
        refuse_unwritable(plot, model, calibration)
        if Path(plot).resolve() == Path(output).resolve():
            raise click.BadParameter("the picture would replace the network; give another path", param_hint="--plot")
    with progress(quiet or as_json) as advance:
        result = tune(
            model,
            calibration,
            max_loss=max_loss,
            objective=objective,
            steps=T or STEPS,
            images=images,
            samples=samples,
            input_shape=input_shape,
            progress=advance,
        )
    result.snn.save(output)
    if plot is not None:
        from csscc.search.plots import plot_front

        plot_front(result, plot)
    for text in result.snn.report.warnings:
        warn(text)
    if as_json:
        print_json({"output": output, **result.as_dict()})
    elif not quiet:
        _show(result, output)
    if not result.holds:
        warn(f"no setting keeps the loss within {max_loss:g}; the one that loses least was written")
    return 0 if result.holds else 1


def _show(result: Tuning, output: str) -> None:
    front = {id(c) for c in result.front}
    columns = ("T", "β", "L", "latency", "passes", "predicted", "confirmed", "cautious", "error", "")
    rows = table(f"Settings tried: losses in {result.quantity}, error of the outputs in %", *columns)
    for candidate in result.candidates:
        if candidate.error is not None:
            rows.add_row(*_cells(candidate), style="bold" if id(candidate) in front else None)
    chosen = result.chosen
    steps = f"{chosen.silent} silent step(s) a layer{_flags(chosen.changes)}"
    console().print(
        f"{output}: T={chosen.T}, beta={chosen.beta:g}, {steps}; "
        f"latency {chosen.latency}, {chosen.interval} steps between two inputs, "
        f"{passes_of(chosen.passes or 0.0, chosen.T)} convolution passes, "
        f"{(chosen.synaptic_operations or 0.0) / 1e6:.2f} M synaptic operations; "
        f"expected loss {chosen.confirmed:.2f}; found in {result.seconds:.0f} s",
        rows,
        "Without a confirmed loss: tried on a part of the samples, and others erred less there.",
        "Bold: no other setting is better in steps, latency and loss together (the Pareto front).",
    )


def _cells(candidate: Candidate) -> tuple[str, ...]:
    figures: tuple[tuple[float | None, str], ...] = (
        (candidate.predicted, ".2f"),
        (candidate.confirmed, ".2f"),
        (candidate.cautious, ".2f"),
        (candidate.error, ".1f"),
    )
    told = ["" if value is None else format(value, how) for value, how in figures]
    coding = str(candidate.T), f"{candidate.beta:g}", str(candidate.silent)
    passes = "" if candidate.passes is None else f"{candidate.passes:.1f}"
    return *coding, str(candidate.latency), passes, *told, _words(candidate.changes)


def _words(changes: dict[str, Any]) -> str:
    """In few letters: ``percentile``, ``bias off``, ``silent auto``."""
    words = {False: "{1} off", True: "{0} {1}"}
    return ", ".join(words.get(v, str(v)).format(*k.split("_")) for k, v in changes.items())


def _flags(changes: dict[str, Any]) -> str:
    """As `csscc compile` takes them."""
    flags = {False: ", --no-{0}", True: ", --{0}"}
    return "".join(flags.get(v, f", --{{0}} {v}").format(k.replace("_", "-")) for k, v in changes.items())
