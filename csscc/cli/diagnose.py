"""csscc diagnose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from csscc.cli.common import (
    console,
    image_options,
    json_option,
    print_json,
    quiet_option,
    table,
    take_images,
)
from csscc.cli.progress import progress
from csscc.measure.running import running_total
from csscc.tables import percent

if TYPE_CHECKING:
    from csscc.measure.diagnose import Diagnosis

BARS = " ▁▂▃▄▅▆▇█"


@click.command("diagnose", short_help="Find out which layer goes wrong, why, and what to change.")
@click.argument("ann", type=click.Path(dir_okay=False))
@click.argument("snn", type=click.Path(dir_okay=False))
@click.option(
    "--data", required=True, type=click.Path(), metavar="DATA",
    help="Samples: .npy, .npz, a folder of images, file.py:function.",
)  # fmt: skip
@click.option(
    "--samples", "limit", type=click.IntRange(min=1), default=64, show_default=True, help="Use at most so many."
)
@image_options
@json_option
@quiet_option
def diagnose_command(ann: str, snn: str, data: str, limit: int, as_json: bool, quiet: bool, **options: Any) -> None:
    """Find out why the spiking network SNN differs from the ANN it came from, and what to change.

    The activations of each layer are compared: how large an error it adds by itself, and whether that comes from values
    beyond its range, from spikes that arrive too late, or from rounding. The first layer that goes wrong is named.
    """
    from csscc.errors import NotMetError
    from csscc.measure.diagnose import diagnose

    images = take_images(options, data)
    with progress(quiet or as_json) as advance:
        result = diagnose(ann, snn, data, images=images, limit=limit, progress=running_total(advance, "diagnosing"))
    if as_json:
        print_json(result.as_dict())
    elif not quiet:
        show(result)
        if result.samples == limit:
            console().print(f"At most {limit} samples are looked at; --samples changes that.")
    if result.faults:
        raise NotMetError("; ".join(result.faults))


def show(result: Diagnosis) -> None:
    """Two tables for people, and what follows from them."""
    errors = table("errors, % of the layer's signal", "layer", "all", "own", "range", "timing", "rounding", "bias", "")
    errors.columns[7].justify = "left"
    spikes = table("spikes and residuals", "layer", "> range", "|u|>1/2", "|u|>1", "spikes +", "-", "t = 1 .. T")
    spikes.columns[6].justify = "left"
    for layer in result.layers:
        shares = (layer.error, layer.own, layer.range, layer.timing, layer.rounding)
        style = "bold" if layer.name == result.first else ""
        errors.add_row(
            layer.name, *(f"{100 * e:.1f}" for e in shares), f"{100 * layer.bias:+z.1f}", layer.cause, style=style
        )
        by_step = [p + n for p, n in zip(layer.positive_by_step, layer.negative_by_step, strict=True)]
        spikes.add_row(
            layer.name,
            *(percent(s, 2) for s in (layer.saturated, layer.over_half, layer.over_one)),
            f"{layer.positive:.2f}",
            f"{layer.negative:.2f}",
            bars(by_step),
            style=style,
        )
    console().print(*result.sentences[:1], spikes, errors, *result.sentences[1:])


def bars(values: Sequence[float]) -> str:
    """A small picture of values that are not negative, the largest a full block."""
    largest = max(values, default=0.0) or 1.0
    return "".join(BARS[round(v / largest * (len(BARS) - 1))] for v in values)
