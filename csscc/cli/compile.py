"""csscc compile."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from csscc.cli.common import (
    auto_or_number,
    budget,
    console,
    image_options,
    input_shape_option,
    json_option,
    model_argument,
    number,
    passes_of,
    print_json,
    quiet_option,
    refuse_dumps,
    refuse_unwritable,
    steps_text,
    table,
    take_images,
    verbose_option,
    warn,
)
from csscc.cli.progress import progress
from csscc.coding.coding import LARGEST, Coding
from csscc.options import CODINGS, USUAL
from csscc.passes.lower.targets import AUTO, NAMES, TARGETS

if TYPE_CHECKING:
    from csscc.dialect.network import Event
    from csscc.measure.comparison import Comparison
    from csscc.snn import SNN, Report

NOT_COMPARED = "not compared"
BETAS = ", ".join(f"{Coding(T).usual_beta:g} at T={T}" for T in (4, 6, USUAL.T, 12, 16))
USUALLY = {
    "T": f"{USUAL.T}; paper 12",
    "beta": f"as large as T allows, {BETAS}; without bursts or silent steps at most {LARGEST[0]:g}; paper 1.5",
    "silent": "auto; paper 1",
}
SHOWN = 3  # nodes that a note names


def _defaults(name: str) -> str:
    """What a field of the coding is, for each coding that has a default of its own."""
    own = {c: f"{s.settings[name]:g}" for c, s in CODINGS.items() if name in s.settings}
    own |= {c: "T" for c, s in CODINGS.items() if s.waits and name == "silent"}
    others = "".join(f"; {coding} {value}" for coding, value in own.items())
    return f"[default: {USUALLY[name]}{others}]"


FORMS = f"{AUTO}: the fastest; " + "; ".join(f"{target.name}: {target.use}" for target in TARGETS) + "."


@click.command("compile", short_help="Compile an ONNX network into a spiking network.")
@model_argument
@click.option("-o", "--output", required=True, type=click.Path(), help="The spiking network to write.")
@click.option(
    "--calibration", type=click.Path(), metavar="DATA",
    help="A few hundred sample inputs: .npy, .npz, a folder of images, file.py:function.",
)  # fmt: skip
@click.option(
    "--coding", type=click.Choice(list(CODINGS)), default="css", show_default=True,
    help=f"{'; '.join(f'{name}: {scheme.use}' for name, scheme in CODINGS.items())}.",
)  # fmt: skip
@click.option("--T", "T", type=int, help=f"Coding steps.  {_defaults('T')}")
@click.option(
    "--beta", type=number, metavar="FLOAT",
    help=f"The weight of a spike divided by that of the next one.  {_defaults('beta')}",
)  # fmt: skip
@click.option(
    "--silent", type=auto_or_number, metavar="auto|N",
    help="Silent steps: how long each layer receives input before it may fire; auto: as long as it needs.  "
    f"{_defaults('silent')}",
)  # fmt: skip
@click.option(
    "--preset", type=click.Choice(["default", "paper"]), default="default", show_default=True,
    help="default: the settings that measured best; paper: exactly the paper's method.",
)  # fmt: skip
@click.option(
    "--method", type=click.Choice(["auto", "percentile", "max", "mse", "entropy"]),
    help="How amplitudes are chosen; auto: by their effect on a part of the calibration samples.  [default: auto]",
)  # fmt: skip
@click.option("--percentile", type=number, metavar="FLOAT", help="For --method percentile.  [default: 99.99]")
@click.option("--per-channel/--per-layer", default=None, help="One amplitude a channel, or one a layer.")
@click.option("--equalise/--no-equalise", default=None, help="Bring layers to similar ranges, for --per-layer.")
@click.option("--bias-on-first-step/--bias-spread", default=None, help="Add biases on the first step, or in T parts.")
@click.option("--negative/--no-negative", default=None, help="Negative spikes; off only for the paper's ablation.")
@click.option("--signed-input/--positive-input", default=None, help="Encoder for any inputs, or for inputs >= 0.")
@click.option("--bursts/--no-bursts", default=None, help="Allow two spikes a step where that halves rounding errors.")
@click.option(
    "--split/--no-split", default=None,
    help="Send inputs as two spike trains where one has few levels.  [default: if the first layer is a small part of "
    "the work]",
)  # fmt: skip
@click.option("--adjust/--no-adjust", default=None, help="Raise amplitudes where residuals are large (paper, A.3).")
@click.option("--correct-bias/--no-correct-bias", default=None, help="Bring mean pre-activations to those of the ANN.")
@click.option(
    "--max-drop", type=budget, metavar="FLOAT",
    help="Points of accuracy that may be lost, by a cautious estimate from the calibration samples. If more is lost: "
    "exit code 1, and a list of the layers that cost most.",
)  # fmt: skip
@click.option("--allow-analog", is_flag=True, help="With --max-drop: leave layers analog, as few as needed.")
@click.option("--form", type=click.Choice(NAMES), default=AUTO, show_default=True, help=f"Form of the file. {FORMS}")
@click.option("--samples", "calibration_samples", type=int, help="Use at most so many samples.  [default: 512]")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of synthetic inputs (no --calibration).  [default: 0]")
@input_shape_option
@image_options
@click.option("--dump-ir", type=click.Path(file_okay=False), help="Write the network after every pass to this folder.")
@json_option
@quiet_option
@verbose_option
def compile_command(
    model: str,
    output: str,
    calibration: str | None,
    preset: str,
    coding: str,
    dump_ir: str | None,
    max_drop: float | None,
    allow_analog: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> int:
    """Compile the ONNX network MODEL into a spiking network, written as one ONNX file.

    \b
    csscc compile model.onnx --T 14 --beta 1.5 -o snn.onnx
    csscc compile model.onnx --calibration x.npy -o snn.onnx
    csscc compile model.onnx --calibration images/ --image-size 224 --preprocess imagenet -o snn.onnx

    A few hundred sample inputs, prepared as the network expects them, set the amplitudes. Without them csscc makes up
    inputs, to the statistics of BatchNormalization layers if there are any, and warns.
    """  # noqa: D301 (click wants the character itself)
    from csscc import api
    from csscc.cli.within import compiled_within, facts, loss_text, show_costs, warn_of_loss

    if allow_analog and max_drop is None:
        raise click.UsageError("--allow-analog needs a loss to stay below; give one with --max-drop")
    images = take_images(options, calibration)
    refuse_unwritable(output, model, calibration)
    if dump_ir is not None:
        refuse_dumps(dump_ir, model)
    common = {"preset": preset, "coding": coding, "images": images, "dump_ir": dump_ir, **options}
    found = None
    with progress(quiet or as_json) as advance:
        if max_drop is None:
            snn = api.compile(model, calibration, progress=advance, **common)
        else:
            found = compiled_within(model, calibration, max_drop, advance, allow_analog=allow_analog, **common)
            snn = found.snn
    files = snn.save(output)
    for text in dict.fromkeys((*snn.report.warnings, *(found.warnings if found else ()))):
        warn(text)
    if as_json:
        print_json(summary(snn, files) | (facts(found) if found else {}))
    elif not quiet:
        if verbose:
            show_passes(snn.report)
        show(snn, files, notes=not verbose, loss=loss_text(found) if found else None)
        if found:
            show_costs(found)
        console().print(f"Next: {shlex.join(['csscc', 'evaluate', model, str(files[0])])} --data DATA")
    if found:
        warn_of_loss(found, allow_analog=allow_analog)
    return 0 if found is None or found.holds else 1


def summary(snn: SNN, files: list[Path]) -> dict[str, Any]:
    """What `--json` prints."""
    coding = snn.facts.coding
    return {
        "output": str(files[0]),
        "bytes": sum(file.stat().st_size for file in files),
        "T": coding.T,
        "beta": coding.beta,
        "silent": coding.silent,
        "silent_by_layer": list(snn.silent),
        "analog": list(snn.analog),
        "bursts": list(snn.bursts),
        "trains": snn.trains,
        "latency": snn.latency,
        "interval": snn.costs.interval,
        "passes": snn.costs.passes,
        "neurons": sum(layer.neurons for layer in snn.layers if layer.kind != "readout"),
        "layers": sum(layer.kind not in ("encoder", "readout") for layer in snn.layers),
        "sizes": dict(snn.facts.sizes),
        "calibration": snn.facts.calibration,
        "output_error": dict(snn.report.comparison.errors),
        "samples_compared": snn.report.comparison.samples,
        "warnings": list(snn.report.warnings),
        "events": [{"pass": e.source, "node": e.node, "text": e.text} for e in snn.report.events],
        "changed": dict(snn.report.changed),
        "seconds": {k: round(v, 3) for k, v in snn.report.seconds.items()},
    }


def show_passes(report: Report) -> None:
    """What each pass did, in order, and all that it noted."""
    rows = table("passes, in order", "pass", "changed", "seconds")
    for name, seconds in report.seconds.items():
        changed = report.changed.get(name)
        rows.add_row(name, "" if changed is None else f"{changed:,}", f"{seconds:.2f}")
    out = console()
    out.print(rows)
    for event in report.events:
        out.print(f"{event.source}: {event.node}: {event.text}")


def show(snn: SNN, files: list[Path], *, notes: bool = True, loss: str | None = None) -> None:
    """A few lines for people; without `notes`, what passes noted is left out; `loss` is stated if it is known."""
    from csscc.dialect.sizes import of_samples

    facts = summary(snn, files)
    far = _difference(snn.report.comparison)
    rows = table("", "", "")
    rows.show_header = False
    coding = f"T={facts['T']}, beta={facts['beta']:g}, {steps_text(snn.silent)} a layer"
    rows.add_row("coding", coding)
    rows.add_row("latency", f"{facts['latency']} time steps")
    rows.add_row("between two inputs", f"{facts['interval']} time steps")
    rows.add_row("convolution passes", f"{passes_of(facts['passes'], facts['T'])} for one input; the ANN makes 1")
    kinds = [layer.kind for layer in snn.layers]
    spiking = [k for k in kinds if k not in ("encoder", "readout")]
    counts = ", ".join(f"{spiking.count(k)} {k}" for k in dict.fromkeys(spiking))
    rows.add_row("layers", f"{len(spiking)} of neurons ({counts})" if counts else "0 of neurons")
    if snn.analog:
        rows.add_row("left analog", ", ".join(snn.analog))
    if snn.bursts:
        senders = len(kinds) - kinds.count("readout")
        rows.add_row("bursts", f"{len(snn.bursts)} of {senders} layers and encoders send up to 2 spikes a step")
    if snn.trains > 1:
        rows.add_row("input", f"{snn.trains} trains, of its high digits and its low ones")
    rows.add_row("neurons", f"{facts['neurons']:,} with those of encoders, for one sample{of_samples(snn.facts.sizes)}")
    rows.add_row("calibrated with", facts["calibration"])
    rows.add_row("differs from the ANN", far)
    if loss is not None:
        rows.add_row("accuracy", loss)
    beside = f", the weights in {files[1].name}" if len(files) > 1 else ""
    rows.add_row("size", f"{facts['bytes'] / 1e6:.2f} MB{beside}")
    rows.add_row("compiled in", f"{sum(facts['seconds'].values()):.1f} s")
    out = console()
    out.print(
        f"{files[0]}: a spiking network of {facts['T']} coding steps, latency {facts['latency']} time steps; "
        + (loss or (far if far == NOT_COMPARED else f"differs from the ANN {far}")),
        rows,
    )
    if notes:
        _show_notes(snn.report.events)


def _show_notes(events: Sequence[Event]) -> None:
    raised, out = sum(e.source == "adjust-amplitudes" for e in events), console()
    notes = [e for e in events if e.source not in ("adjust-amplitudes", "split-inputs")]  # a row states the latter
    if raised:
        out.print(f"Amplitudes of {raised} layer(s) were raised, since their residuals were too large.")
    for note in grouped(notes):
        out.print(f"Note on {note}")


def grouped(events: Iterable[Event]) -> list[str]:
    """One line for all nodes with the same note."""
    nodes: dict[str, list[str]] = {}
    for event in events:
        nodes.setdefault(event.text, []).append(event.node)
    return [
        f"{', '.join(names[:SHOWN])}{f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''}: {text}"
        for text, names in nodes.items()
    ]


def _difference(comparison: Comparison) -> str:
    if not comparison.errors:
        return NOT_COMPARED
    name, error = max(comparison.errors.items(), key=lambda pair: pair[1])
    which = f"'{name}', the worst of {len(comparison.errors)} outputs" if len(comparison.errors) > 1 else "its output"
    if not math.isfinite(error):
        return f"cannot be compared, NaN or infinite values in {which}"
    if name in comparison.labelling:
        return f"in {100 * error:.2g} % of the labels of {which} ({comparison.compared})"
    return f"by {100 * error:.2g} % in {which} (RMS, {comparison.compared})"
