"""Pictures of a sweep: accuracy, loss and error against coding steps, loss against latency (paper, figures 1 and 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csscc.errors import UsageError
from csscc.io.files import replacing
from csscc.measure.plots import COLOURS
from csscc.search.objectives import QUALITIES, Quantity

if TYPE_CHECKING:
    from csscc.search.candidates import Candidate
    from csscc.search.settings import Row
    from csscc.search.tune import Tuning

DASHES: dict[tuple[bool, bool], Any] = {  # by negative spikes, amplitude adjustment; dashes are the ANN's
    (True, True): "-",
    (False, True): ":",
    (True, False): "-.",
    (False, False): (0, (1, 4)),
}
MARKERS = "osD^vP*X"
LABEL = (95, 13)  # pixels that a label of a setting takes
SMALLEST, LARGER = 4, 8  # size of markers, and how much larger those of the first line are
LOSS_TICKS = (-5, -2, -1, -0.5, 0, 0.5, 1, 2, 5, 10, 20, 50, 100)  # linear up to 1, logarithmic from there
KINDS = (".png", ".svg")
AXES: dict[Quantity, str] = {
    "steps": "coding steps T",
    "latency": "latency (time steps)",
    "interval": "time steps between two inputs",
    "time": "convolution passes for one input",
    "spikes": "spikes per neuron and inference",
    "synops": "synaptic operations",
}


@dataclass(frozen=True)
class Axis:
    """Something on an axis: its name in file names, its label, its value in a row, and how the axis is divided."""

    name: str
    label: str
    of: Callable[[Row], float | None]
    scale: str = "linear"


STEPS = Axis("T", "coding steps T", lambda row: row.setting.T)
LATENCY = Axis("latency", "latency (time steps)", lambda row: row.latency)
ACCURACY = Axis("accuracy", "accuracy (%)", lambda row: row.snn_accuracy)
LOSS = Axis("loss", "loss of accuracy (percentage points)", lambda row: row.loss, "symlog")
AGREEMENT = Axis("agreement", "same class as the ANN (%)", lambda row: row.agreement)
DISAGREEMENT = Axis(
    "disagreement",
    "other class than the ANN (%)",
    lambda row: None if row.agreement is None else 100 - row.agreement,
    "symlog",
)
ERROR = Axis("error", "error of the outputs (RMS, % of the ANN's)", lambda row: row.output_error, "log")


def pictures(rows: Sequence[Row]) -> list[tuple[Axis, Axis]]:
    """The axes of each picture, for what the rows have: accuracies, else agreement; and the error of the outputs."""
    errors = [(STEPS, ERROR), (LATENCY, ERROR)]
    if any(row.snn_accuracy is not None for row in rows):
        return [(STEPS, ACCURACY), (STEPS, LOSS), (LATENCY, LOSS), *errors]
    if any(row.agreement is not None for row in rows):
        return [(STEPS, AGREEMENT), (STEPS, DISAGREEMENT), (LATENCY, DISAGREEMENT), *errors]
    return errors


def plot(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write every picture as PNG and SVG; return their paths. Where nothing was measured there is none.

    Raises:
        UsageError: matplotlib is not installed.
        RefusedError: a file cannot be written.
    """
    measured = [row for row in rows if not row.error]
    written = []
    for x, y in pictures(measured) if measured else ():
        figure = _figure(7.5, 4.5)
        _draw(figure.add_subplot(), measured, x, y)
        for kind in KINDS:
            path = folder / f"{y.name}_{x.name}{kind}"
            with replacing(path) as temporary:
                figure.savefig(temporary, dpi=150)
            written.append(path)
    return written


def _draw(axes: Any, rows: Sequence[Row], x: Axis, y: Axis) -> None:
    betas = sorted({row.setting.beta for row in rows})
    settings = sorted(row.setting for row in rows)
    codings = list(dict.fromkeys((setting.beta, setting.silent) for setting in settings))
    lines = _lines(rows)
    for i, (line, members) in enumerate(lines.items()):
        first = members[0].setting
        points = sorted((a, b) for row in members if (a := x.of(row)) is not None and (b := y.of(row)) is not None)
        axes.plot(
            *zip(*points, strict=True) if points else ((), ()),
            label=line,
            color=COLOURS[codings.index((first.beta, first.silent)) % len(COLOURS)],
            linestyle=DASHES[first.negative, first.adjust],
            marker=MARKERS[betas.index(first.beta) % len(MARKERS)],
            markersize=SMALLEST + LARGER * (1 - i / len(lines)),  # so that those of equal results show
            markerfacecolor="white" if not (first.negative and first.adjust) else None,
        )
    ann = _ann(rows, y)
    if ann is not None:
        axes.axhline(ann, color="black", linestyle="--", linewidth=1, label="ANN", zorder=1)
    _divide(axes, x.label, y.label, y.scale, [value for row in rows if (value := y.of(row)) is not None])
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def _divide(axes: Any, x: str, y: str, scale: str, values: Sequence[float]) -> None:
    """Labels, grid and ticks: whole steps along x; along y, on any scale, plain numbers that cover `values`."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    if scale == "symlog":
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(min(0.0, min(values, default=0.0)) - 0.3, max(1.0, max(values, default=0.0)) * 1.5)
        axes.yaxis.set_major_locator(FixedLocator(LOSS_TICKS))
    elif scale == "log":
        axes.set_yscale("log")
    if scale != "linear":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, alpha=0.3)


def _lines(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows that differ in T only, by what they have in common."""
    lines: dict[str, list[Row]] = {}
    for row in rows:
        lines.setdefault(row.setting.line, []).append(row)
    return lines


def _ann(rows: Sequence[Row], y: Axis) -> float | None:
    """Where the ANN is on the axis of `y`."""
    if y is ACCURACY:
        return next((row.ann_accuracy for row in rows if row.ann_accuracy is not None), None)
    return {AGREEMENT: 100.0, LOSS: 0.0, DISAGREEMENT: 0.0}.get(y)


def refuse_undrawable(path: str | Path) -> None:
    """Find out before the work starts that a picture could not be drawn.

    Raises:
        UsageError: matplotlib is not installed, or the path is neither .png nor .svg.
    """
    if Path(path).suffix not in KINDS:
        raise UsageError(f"{path}: plots are {' or '.join(KINDS)}; give such a name")
    if find_spec("matplotlib") is None:
        raise UsageError(f"{path}: plots need matplotlib: pip install 'csscc[plots]'")


def plot_front(result: Tuning, path: str | Path) -> None:
    """Draw what a search tried on the axes of its front, the chosen setting marked.

    Raises:
        UsageError: matplotlib is not installed, or the path is neither .png nor .svg.
        RefusedError: the file cannot be written.
    """
    refuse_undrawable(path)
    figure = _figure(7.5, 4.5)
    axes, tried = figure.add_subplot(), [c for c in result.candidates if c.stage != "predicted"]
    shown = [*result.front, result.chosen]

    def draw(candidates: Sequence[Candidate], marker: str, **style: Any) -> None:
        axes.plot(*([c.figure(q) for c in candidates] for q in result.axes), marker, **style)

    draw(tried, "o", color="gray", markerfacecolor="none", label="tried")
    draw(result.front, "o-", color=COLOURS[0], label="Pareto front")
    draw([result.chosen], "*", markersize=14, color=COLOURS[1], label="chosen")
    labels = {"loss": f"cautious loss ({result.quantity})", "error": ERROR.label, **AXES}
    x, y = result.axes
    scale = "symlog" if y in QUALITIES else "linear"
    _divide(axes, labels[x], labels[y], scale, [c.figure(y) for c in shown])
    for candidate in _apart(axes, [result.chosen, *result.front], result.axes):
        text = f"T={candidate.T}, β={candidate.beta:g}, L={candidate.silent}"
        at, right = (candidate.figure(x), candidate.figure(y)), candidate.figure(x) > sum(axes.get_xlim()) / 2
        axes.annotate(
            text, at, textcoords="offset points", xytext=(-8, -8) if right else (8, 6),
            ha="right" if right else "left", va="top" if right else "bottom",
            fontsize="x-small", bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        )  # fmt: skip
    axes.legend(fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _apart(axes: Any, candidates: Sequence[Candidate], of: tuple[Quantity, Quantity]) -> list[Candidate]:
    """Those whose labels do not lie on one another, the first of those that would."""
    kept: list[tuple[Candidate, Any]] = []
    for candidate in candidates:
        at = axes.transData.transform([candidate.figure(q) for q in of])
        if all((abs(at - other) > LABEL).any() for _, other in kept):
            kept.append((candidate, at))
    return [candidate for candidate, _ in kept]


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            "plots need matplotlib: pip install 'csscc[plots]', then run the same command again; nothing that is done "
            "is done twice"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")
