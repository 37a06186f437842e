"""csscc tune."""

from __future__ import annotations

import io
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
    quiet_option,
    refuse_unwritable,
    table,
    take_images,
    warn,
    workers_options,
)
from csscc.cli.progress import progress
from csscc.search.objectives import OBJECTIVES, QUANTITIES, Quantity
from csscc.tables import count_of, figures

if TYPE_CHECKING:
    from csscc.search.candidates import Candidate
    from csscc.search.tune import Tuning


BEGIN = b'{"fingerprint":'
_MEANINGS = "\n".join(f"  {name:<9}{meaning}" for name, meaning in QUANTITIES.items())


def _axes(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[Quantity, Quantity] | None:
    names = [] if text is None else [name for part in text.split(",") for name in QUANTITIES if name == part.strip()]
    if text is not None and (len(names) != 2 or text.count(",") != 1):
        raise click.BadParameter(f"'{text}' is not two of {', '.join(QUANTITIES)}, as in latency,loss")
    return (names[0], names[1]) if names else None


@click.command(
    "tune",
    short_help="Find the cheapest settings that keep the accuracy.",
    epilog=f"\b\nWhat --objective and --front make small:\n{_MEANINGS}",
)
@model_argument
@click.option("-o", "--output", required=True, type=click.Path(), help="The spiking network to write.")
@click.option(
    "--calibration", required=True, type=click.Path(), metavar="DATA",
    help="Samples on which settings are chosen, best with labels.",
)  # fmt: skip
@click.option("--max-loss", type=budget, metavar="FLOAT", required=True, help="Points of accuracy that may be lost.")
@click.option(
    "--objective", type=click.Choice(list(OBJECTIVES)),
    help="What to make small, see below.  [default: what --front names first, or steps]",
)  # fmt: skip
@click.option(
    "--front", metavar="X,Y", callback=_axes,
    help="Find all settings that no other beats in these two, as in latency,loss.",
)  # fmt: skip
@click.option("--T", "T", callback=numbers(int), help="Steps to consider.  [default: 3,4,5,6,7,8,10,12,14,16]")
@click.option("--samples", type=click.IntRange(min=1), help="Use at most so many samples.  [default: 512]")
@click.option("--plot", type=click.Path(), help="Draw the front: a .png or .svg.")
@click.option(
    "--all", "folder", type=click.Path(file_okay=False), metavar="DIR", help="Write every network of the front."
)
@click.option(
    "--journal", type=click.Path(dir_okay=False), metavar="FILE",
    help="Keep what was tried in this file; searches of the same network and data do not try it again.",
)  # fmt: skip
@workers_options
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
    front: tuple[Quantity, Quantity] | None,
    T: tuple[int, ...] | None,  # noqa: N803
    samples: int | None,
    input_shape: dict[str, tuple[int, ...]],
    plot: str | None,
    folder: str | None,
    journal: str | None,
    jobs: int,
    scheduler: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Find the coding of MODEL that costs least and keeps its accuracy, and write that spiking network.

    \b
    csscc tune model.onnx --calibration x.npz --max-loss 0.2 -o snn.onnx
    csscc tune model.onnx --calibration x.npz --max-loss 0.5 --front latency,loss --plot front.png -o snn.onnx

    Settings are predicted with a quantised ANN and confirmed with spikes, on the calibration samples: a few hundred,
    with labels under y. The budget holds for a cautious estimate of the loss on other samples. Without labels the
    loss is the percentage of samples that get another class. Exit code 1 if no setting keeps the loss; the best one is
    written all the same.
    """  # noqa: D301 (click wants the character itself)
    from csscc.search.tune import STEPS, tune

    _refuse_outputs(output, plot, folder, journal, (model, calibration))
    with progress(quiet or as_json) as advance:
        result = tune(
            model,
            calibration,
            max_loss=max_loss,
            objective=objective,
            front=front,
            steps=T or STEPS,
            images=take_images(options, calibration),
            samples=samples,
            input_shape=input_shape,
            jobs=jobs,
            scheduler=scheduler,
            journal_file=journal,
            progress=advance,
        )
        written = _written(result, output, folder)
    _draw(result, plot)
    for text in result.warnings:
        warn(text)
    if as_json:
        print_json({"output": output, "written": written, **result.as_dict()})
    elif not quiet:
        _show(result, output)
    if not result.holds:
        text = f"no setting keeps the loss within {max_loss:g}; the one that loses least was written"
        warn(f"{text}; allow a larger --max-loss, or larger --T")
    return 0 if result.holds else 1


def _draw(result: Tuning, plot: str | None) -> None:
    if plot is not None:
        from csscc.search.plots import plot_front

        plot_front(result, plot)


def _refuse_outputs(
    output: str, plot: str | None, folder: str | None, journal: str | None, inputs: tuple[str, str]
) -> None:
    """Find out before the work starts that something could not be written, or would replace another file."""
    refuse_unwritable(output, *inputs)
    if plot is not None:
        from csscc.search.plots import refuse_undrawable

        refuse_unwritable(plot, *inputs)
        refuse_undrawable(plot)
        if Path(plot).resolve() == Path(output).resolve():
            raise click.BadParameter("the picture would replace the network; give another path", param_hint="--plot")
    if folder is not None:
        _refuse_folder(folder)
    if journal is not None:
        _refuse_journal(journal, *inputs, output, plot)


def _refuse_folder(folder: str) -> None:
    """Find out before the work starts that networks could not be written there."""
    from csscc.errors import UsageError
    from csscc.io.files import may_be_made

    may_be_made(folder)
    if Path(folder).exists() and any(Path(folder).iterdir()):
        raise UsageError(f"{folder}: is not empty; give a new folder for the networks of the front")


def _refuse_journal(journal: str, *others: str | None) -> None:
    """A journal is appended to what is there, which must be one."""
    from csscc.errors import UsageError

    refuse_unwritable(journal, *filter(None, others[:2]))
    file = Path(journal)
    if any(file.resolve() == Path(other).resolve() for other in others if other):
        raise UsageError(f"{journal}: is another file of this command; give another path to --journal")
    with file.open("rb") if file.exists() else io.BytesIO() as opened:
        begin = opened.read(len(BEGIN))
    if begin and begin != BEGIN:
        raise UsageError(f"{journal}: is no journal of a search; give another path to --journal")


def _written(result: Tuning, output: str, folder: str | None) -> list[str]:
    """Write the chosen network, and those of the front to `folder` if there is one; returns the paths of these."""
    from csscc.io.files import made_folder

    result.snn.save(output)
    if folder is None:
        return []
    made_folder(folder)
    return [str(path) for c in result.front for path in result.bench.snn_of(c).save(Path(folder) / f"{c.name}.onnx")]


def _show(result: Tuning, output: str) -> None:
    """The chosen setting, and a line for each of the front."""
    chosen, (x, y) = result.chosen, result.axes
    columns = ("T", "β", "L", "latency", "interval", "passes", "spikes", "loss", "error", "")
    title = f"Settings that no other beats in {x} and {y}" if len(result.front) > 1 else "The setting"
    rows = table(title, *columns)
    rows.padding = (0, 1, 0, 0)  # many columns, one terminal
    mark = "chosen" if result.holds else "loses least"
    for candidate in result.front or (chosen,):
        rows.add_row(*_cells(candidate), mark if candidate == chosen else "")
    console().print(
        f"{output}: T={chosen.T}, beta={chosen.beta:g}, silent steps {chosen.silent}{_flags(chosen.changes)}; "
        f"latency {chosen.latency}, {chosen.interval} steps between two inputs, "
        f"{passes_of(chosen.passes, chosen.T)} convolution passes, "
        f"{count_of(chosen.synaptic_operations)} synaptic operations; "
        f"loss {chosen.expected:z.2f} expected, {chosen.cautious:.2f} cautious; found in {result.seconds:.0f} s",
        rows,
        f"loss: cautious, in {result.quantity}; error: % of the ANN's output (RMS)",
        f"Looked at {len(result.candidates)} settings, "
        f"tried {sum(c.stage != 'predicted' for c in result.candidates)} with spikes, "
        f"{sum(c.stage == 'confirmed' for c in result.candidates)} of them on all samples.",
    )


def _cells(candidate: Candidate) -> tuple[str, ...]:
    return (
        str(candidate.T),
        f"{candidate.beta:g}",
        str(candidate.silent),
        str(candidate.latency),
        str(candidate.interval),
        f"{candidate.passes:.1f}",
        f"{candidate.spikes_per_neuron:.2f}",
        f"{candidate.cautious:.2f}",
        figures(candidate.error),
    )


def _flags(changes: dict[str, Any]) -> str:
    """As `csscc compile` takes them."""
    flags = {False: ", --no-{0}", True: ", --{0}"}
    return "".join(flags.get(v, f", --{{0}} {v}").format(k.replace("_", "-")) for k, v in changes.items())
