"""Pictures of results for each layer, for notebooks: bars in matplotlib, where it is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from csscc.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 0.3  # inches of a layer
# Okabe and Ito's, which people with any colour vision can distinguish, and hatches for print without colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
HATCHES = ("", "///", "xxx")


def bars(layers: Sequence[str], parts: Mapping[str, Sequence[float]], label: str, axes: Axes | None) -> Axes:
    """A bar for each layer, the first one uppermost, of parts that add up.

    Args:
        layers: their names.
        parts: numbers of each part, one a layer.
        label: of the axis of numbers.
        axes: draw here; a new figure if None.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise UsageError("plot() needs matplotlib: pip install 'csscc[plots]'") from error
    if axes is None:
        axes = pyplot.subplots(figsize=(7, 1 + HEIGHT * len(layers)), layout="constrained")[1]
    places = range(len(layers))
    before = [0.0] * len(layers)
    for index, (name, numbers) in enumerate(parts.items()):
        colour, hatch = COLOURS[index % len(COLOURS)], HATCHES[index % len(HATCHES)]
        axes.barh(places, numbers, left=before, label=name, linewidth=0, color=colour, hatch=hatch, edgecolor="white")
        before = [a + b for a, b in zip(before, numbers, strict=True)]
    axes.set_yticks(places, [name.replace("$", r"\$") for name in layers])
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.grid(visible=True, axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(parts), frameon=False)
    return axes
