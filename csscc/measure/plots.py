"""Pictures of results by layer, for notebooks: bars in matplotlib, where it is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from csscc.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 0.3  # inches of a layer


def bars(layers: Sequence[str], parts: Mapping[str, Sequence[float]], label: str, axes: Axes | None) -> Axes:
    """A bar for each layer, the first on top, of parts that add up.

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
    for name, numbers in parts.items():
        axes.barh(places, numbers, left=before, label=name)
        before = [a + b for a, b in zip(before, numbers, strict=True)]
    axes.set_yticks(places, [name.replace("$", r"\$") for name in layers])
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.legend()
    return axes
