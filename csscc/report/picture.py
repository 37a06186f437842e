"""What a picture is: data and layout for plotly, and what a reader may choose."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go

HEIGHT = 380  # pixels
SOLID, DASHED, DOTTED = "solid", "dash", "dot"
MARKS: tuple[tuple[int, str, Mapping[str, Any]], ...] = (  # spikes at one step, their name, and how they are drawn
    (1, "spike of +1", {"symbol": "triangle-up", "size": 9}),
    (-1, "spike of -1", {"symbol": "triangle-down-open", "size": 9}),  # second, as in all pictures: its colour
    (2, "burst of +2", {"symbol": "hexagram", "size": 12}),
    (-2, "burst of -2", {"symbol": "hexagram-open", "size": 12}),
)
TIMES = 12  # of an axis of time steps, at most
LAYERS = 20  # ticks of an axis of layers, at most


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        name: unique in the page.
        title: above it.
        caption: what it shows and how to read it.
        figure: data and layout, as plotly's script takes them.
        choosers: what a reader may choose, in the order in which it stands in the keys of `variants`.
        variants: by choice, with ``|`` between, what to write into each trace and axis, and a note below the picture.
        click: the chooser that a click on a point sets to the point's customdata.
    """

    name: str
    title: str
    caption: str
    figure: Mapping[str, Any]
    choosers: tuple[str, ...] = ()
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    click: str = ""


def variant(*traces: Mapping[str, Any], note: str, axes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a choice writes into the traces of a picture, into its axes, and below it."""
    return {"traces": list(traces), "note": note, "axes": axes or {}}


def time_ticks(steps: int) -> int:
    """How many time steps lie between two ticks of an axis of so many: 1, 2 or 5 times a power of ten."""
    spaces = (factor * int(10**power) for power in range(9) for factor in (1, 2, 5))
    return next(space for space in spaces if space * TIMES >= steps)


def layer_axis(layers: int) -> dict[str, Any]:
    """Layout of a horizontal axis of so many layers or nodes: ticks at whole numbers only."""
    space = math.ceil(layers / LAYERS)
    return {"xaxis_tick0": 1, "xaxis_dtick": space, "xaxis_range": [0.5, layers + 0.5]}


def figure(traces: Sequence[Any], x: str, y: str, height: int = HEIGHT, **layout: Any) -> dict[str, Any]:
    """A figure as plain values, in the look of all; the page has its themes."""
    made = go.Figure(traces)
    made.update_layout(
        height=height,
        margin={"l": 64, "r": 16, "t": 36, "b": 56},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        xaxis_title_text=x,
        yaxis_title_text=y,
        hovermode="closest",
        **layout,
    )
    plainly: dict[str, Any] = made.to_plotly_json()
    plainly["layout"].pop("template", None)
    return plainly


def line(x: Sequence[float], y: Sequence[float], name: str, symbol: str, dash: str, **more: Any) -> Any:
    """A line with a mark at each point."""
    look: dict[str, Any] = {"line": {"dash": dash}, "marker": {"symbol": symbol, "size": 8}}
    return go.Scatter(x=list(x), y=shorts(y), name=name, mode="lines+markers", **look, **more)


def plain(text: str) -> str:
    """Text that plotly shows as it is, though it takes some HTML."""
    return html.escape(text, quote=False)


def short(value: float) -> float | None:
    """A number of five digits, which is more than a picture can show; None, a gap, for one that is not finite."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def shorts(values: Any) -> list[float | None]:
    """Numbers of five digits, and gaps."""
    return [short(float(v)) for v in values]
