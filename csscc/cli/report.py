"""csscc report."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import click

from csscc.cli.common import (
    energy_costs_option,
    image_options,
    json_option,
    native_option,
    print_json,
    quiet_option,
    refuse_ending,
    refuse_unwritable,
    take_images,
    warn,
)
from csscc.cli.progress import progress
from csscc.cli.streams import echo


@click.command("report", short_help="Write all that can be measured as one HTML page.")
@click.argument("ann", type=click.Path(dir_okay=False))
@click.argument("snn", type=click.Path(dir_okay=False))
@click.option(
    "--data", required=True, type=click.Path(), metavar="DATA",
    help="Samples and labels: .npz (x, y), folders of images named after their classes, images with labels.csv, ...",
)  # fmt: skip
@click.option("-o", "--output", required=True, type=click.Path(), help="File to write, .html.")
@click.option("--samples", "limit", type=click.IntRange(min=1), help="Use at most so many samples.")
@energy_costs_option
@native_option
@image_options
@json_option
@quiet_option
def report_command(
    ann: str,
    snn: str,
    data: str,
    output: str,
    limit: int | None,
    energy_costs: str | None,
    native: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Write a report on the spiking network SNN beside the ANN it came from: one HTML file, for a browser.

    It shows what evaluate, diagnose and inspect print, and more: the output at each time step, spikes of single neurons
    and the values that they build up, values sent against the ANN's activations, the confusion matrix, and an estimate
    of energy. The file is self-contained. It needs: pip install 'csscc[report]'
    """
    from csscc.errors import NotMetError
    from csscc.measure.energy_costs import EnergyCosts, read_costs
    from csscc.report import require_drawing

    require_drawing()
    for model in (ann, snn):
        refuse_unwritable(output, model, data, energy_costs)
    refuse_ending(output, ".html", "a report is an HTML page, which a browser prints as PDF")
    images = take_images(options, data)
    costs = read_costs(energy_costs) if energy_costs else EnergyCosts()
    from csscc.report.findings import gather
    from csscc.report.page import write

    with progress(quiet or as_json) as advance:
        found = gather(ann, snn, data, images=images, limit=limit, native=native, costs=costs, progress=advance)
        write(found, output, shlex.join(["csscc", *sys.argv[1:]]))
    for text in found.evaluation.warnings:
        warn(text)
    if as_json:
        print_json({"report": output, **found.as_dict()})
    elif not quiet:
        echo(f"wrote {output}; open it in a browser")
    if found.evaluation.faults:
        raise NotMetError("; ".join(found.evaluation.faults))
