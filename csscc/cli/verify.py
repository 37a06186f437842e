"""csscc verify."""

from __future__ import annotations

import math
from typing import Any

import click

from csscc.cli.common import (
    console,
    image_options,
    json_option,
    model_argument,
    print_json,
    quiet_option,
    take_images,
)
from csscc.cli.progress import progress
from csscc.measure.running import running_total
from csscc.tables import number_of


@click.command("verify", short_help="Check onnxruntime against NumPy, spike by spike.")
@model_argument
@click.option("--data", type=click.Path(), metavar="DATA", help="Sample inputs.  [default: random, from a fixed seed]")
@click.option(
    "--samples", "limit", type=click.IntRange(min=1), default=8, show_default=True, help="Use at most so many."
)
@image_options
@json_option
@quiet_option
def verify_command(model: str, data: str | None, limit: int, as_json: bool, quiet: bool, **options: Any) -> None:
    """Check the spiking network MODEL: onnxruntime against the NumPy reference, spike by spike.

    The exit code is 0 if spikes differ only where rounding decides them and the decoded outputs agree; else it is 1.
    """
    from csscc.errors import NotMetError
    from csscc.measure.verify import verify

    images = take_images(options, data)
    with progress(quiet or as_json) as advance:
        result = verify(model, data, images=images, limit=limit, progress=running_total(advance, "verifying"))
    outputs = f"outputs differ by {result.output_difference:.2e} of the largest"
    if not math.isfinite(result.output_difference):
        outputs = "outputs cannot be compared, since values are NaN or infinite, or their shapes differ"
    rounded = f", {result.ties:,} of them where rounding decides" if result.ties else ""
    text = (
        f"{result.different:,} of {result.spikes:,} spikes differ between onnxruntime and NumPy{rounded} "
        f"({number_of(result.samples, 'sample')}, {len(result.layers)} layers and encoders); {outputs}"
    )
    if as_json:
        print_json(result.as_dict())
    elif not quiet:
        console().print(text)
    if not result.holds:
        first = next((f"; the first layer that differs otherwise is {n}" for n, d in result.faults.items() if d), "")
        raise NotMetError(f"{text}{first}")
