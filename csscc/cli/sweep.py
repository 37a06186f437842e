"""csscc sweep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from csscc.cli.common import (
    auto_or_number,
    console,
    image_options,
    input_shape_option,
    json_option,
    model_argument,
    numbers,
    print_json,
    quiet_option,
    refuse_unwritable,
    table,
    take_images,
    warn,
    workers_options,
)
from csscc.cli.progress import progress
from csscc.cli.streams import echo
from csscc.interrupts import INTERRUPTED, message_at_end
from csscc.tables import figures

if TYPE_CHECKING:
    from csscc.search import Progress
    from csscc.search.settings import Row, Setting

SWITCH = {"on": (True,), "off": (False,), "both": (True, False)}


@click.command("sweep", short_help="Compile and evaluate every combination of settings.")
@model_argument
@click.option(
    "--data", required=True, type=click.Path(), metavar="DATA",
    help="Samples and labels: .npz (x, y), images, ...",
)  # fmt: skip
@click.option("--calibration", type=click.Path(), metavar="DATA", help="Sample inputs that set the amplitudes.")
@click.option("-o", "--output", required=True, type=click.Path(), help="The folder for results and plots.")
@click.option("--T", "T", default="4,6,8,12", show_default=True, callback=numbers(int), help="Coding steps.")
@click.option(
    "--beta", default="2,3", show_default=True, callback=numbers(float),
    help="The weight of a spike divided by that of the next one.",
)  # fmt: skip
@click.option(
    "--silent", default="0,1,2,auto", show_default=True, callback=numbers(auto_or_number),
    help="Silent steps a layer; auto: as many as each needs, the default of compile.",
)  # fmt: skip
@click.option("--negative", type=click.Choice(list(SWITCH)), default="on", show_default=True, help="Negative spikes.")
@click.option(
    "--adjust", type=click.Choice(list(SWITCH)), default="on", show_default=True, help="Amplitude adjustment."
)
@click.option("--preset", type=click.Choice(["default", "paper"]), default="default", show_default=True)
@click.option("--samples", type=click.IntRange(min=1), help="Calibrate with at most so many.  [default: 512]")
@click.option("--limit", type=click.IntRange(min=1), help="Evaluate at most so many samples of the data.")
@workers_options
@input_shape_option
@image_options
@json_option
@quiet_option
def sweep_command(
    model: str,
    data: str,
    calibration: str | None,
    output: str,
    T: tuple[int, ...],  # noqa: N803
    beta: tuple[float, ...],
    silent: tuple[int | str, ...],
    negative: str,
    adjust: str,
    preset: str,
    samples: int | None,
    limit: int | None,
    input_shape: dict[str, tuple[int, ...]],
    jobs: int,
    scheduler: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Compile and evaluate MODEL in every combination of the settings, and plot what comes out.

    \b
    csscc sweep model.onnx --data test.npz --calibration x.npy -o sweep/
    csscc sweep model.onnx --data test.npz --T 4,6,8 --beta 1.5,2 --silent 0,1 --negative both -o sweep/

    The folder gets results.csv, results.json and the plots. A sweep that was stopped goes on when the same command is
    given again; other settings of the same network and data are added.
    """  # noqa: D301 (click wants the character itself)
    from csscc.errors import RefusedError
    from csscc.search.settings import grid
    from csscc.search.sweep import Job, sweep

    images = take_images(options, data, calibration)
    _refuse_written(Path(output), model, data, calibration)
    job = Job(model, data, calibration, preset, samples, limit, images, input_shape)
    settings = grid(T, beta, silent, SWITCH[negative], SWITCH[adjust])
    finished = _Finished(len(settings))
    try:
        with message_at_end(finished.kept), progress(quiet or as_json) as advance:
            rows = sweep(job, settings, output, jobs=jobs, scheduler=scheduler, progress=finished.counted(advance))
    except KeyboardInterrupt:  # as on Windows, where no thread waits for signals
        echo(finished.kept(), err=True)
        return INTERRUPTED
    plots = _plotted(rows, Path(output))
    for text in rows.warnings:
        warn(text)
    if calibration is None:
        warn("no calibration data: accuracy may suffer; pass --calibration with a few hundred sample inputs")
    if as_json:
        print_json([row.as_dict() for row in rows])
    elif not quiet:
        show(rows, plots, output)
    if rows and all(row.error for row in rows):
        raise RefusedError(f"no setting could be measured: {rows[0].error}")
    return 0


class _Finished:
    """How many of so many settings are finished when a sweep is interrupted."""

    def __init__(self, settings: int) -> None:
        self._settings, self._finished = settings, 0

    def counted(self, advance: Progress) -> Progress:
        """Progress that goes on to `advance`, with what is finished counted."""

        def report(stage: str, new: int, total: int | None) -> None:
            self._finished += new if stage == "settings" else 0
            advance(stage, new, total)

        return report

    def kept(self) -> str:
        """What an interrupted sweep leaves."""
        return f"interrupted; {self._finished} of {self._settings} settings are kept: the same command goes on"


def _refuse_written(folder: Path, model: str, *data: str | None) -> None:
    """Refuse a folder whose files are inputs of the command, or cannot be replaced."""
    from csscc.search.journal import WRITTEN

    for path in (folder / name for name in WRITTEN):
        if path.exists():
            refuse_unwritable(path, model, *data)


def _plotted(rows: list[Row], folder: Path) -> list[Path]:
    """Draw what can be drawn, and warn of what is missing for it."""
    from csscc.errors import UsageError
    from csscc.search.plots import plot

    try:
        return plot(rows, folder)
    except UsageError as error:
        warn(str(error))
        return []


def show(rows: list[Row], plots: list[Path], output: str) -> None:
    """A table for people: one line a setting, and what was refused."""
    ablations = any(not (row.setting.negative and row.setting.adjust) for row in rows)
    quality = ("SNN", "loss") if any(row.loss is not None for row in rows) else ()
    columns = ("latency", *quality, "same", "error", "spikes", "SynOps")
    shown = table(f"{output}: {len(rows)} settings", "T", "β", "L", *(("off",) if ablations else ()), *columns)
    shown.padding = (0, 1, 0, 0)  # many columns, one terminal
    for row in rows:
        if not row.error:
            shown.add_row(*_cells(row.setting, ablations), *_measures(row, bool(quality)))
    out = console()
    out.print(shown)
    ann = next((row.ann_accuracy for row in rows if row.ann_accuracy is not None), None)
    if ann is not None:
        out.print(f"accuracy of the ANN: {ann:.2f} %")
    refused: dict[str, list[Setting]] = {}
    for row in rows:
        if row.error:
            refused.setdefault(row.error, []).append(row.setting)
    for error, settings in refused.items():
        more = f" and {len(settings) - 1} more" if len(settings) > 1 else ""
        out.print(f"refused, {settings[0]}{more}: {error}")
    out.print("β: a spike's weight divided by that of the next, L: silent steps; SNN, same, error: %; SynOps: millions")
    if ablations:
        out.print("off: without negative spikes (neg), without amplitude adjustment (adj)")
    names = ["results.csv", "results.json", *(p.name for p in plots if p.suffix == ".png")]
    out.print(f"In {output}: {', '.join(names)}")


def _cells(setting: Setting, ablations: bool) -> tuple[str, ...]:
    off = " ".join(n for n, on in (("neg", setting.negative), ("adj", setting.adjust)) if not on)
    return (str(setting.T), f"{setting.beta:g}", str(setting.silent), *((off,) if ablations else ()))


def _measures(row: Row, quality: bool) -> tuple[str, ...]:
    accuracy = (_with("{:.2f}", row.snn_accuracy), _with("{:+.2f}", row.loss)) if quality else ()
    return (
        str(row.latency),
        *accuracy,
        _with("{:.1f}", row.agreement),
        "" if row.output_error is None else figures(row.output_error),
        _with("{:.2f}", row.spikes_per_neuron),
        _with("{:.2f}", (row.synaptic_operations or 0.0) / 1e6),
    )


def _with(form: str, value: float | None) -> str:
    return "" if value is None else form.format(value)
