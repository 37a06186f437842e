"""Pictures of single samples and neurons: inputs, spikes, and the values that they build up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from csscc.report.findings import Findings
from csscc.report.picture import DASHED, MARKS, Picture, figure, short, shorts, time_ticks, variant
from csscc.report.trains import LayerTrains

PIXELS = 64  # of a sample, in height and width


def sample(findings: Findings) -> Iterator[Picture]:
    """The samples themselves, where the input is an image."""
    images = [_image(next(iter(one.feeds.values()))[0]) for one in findings.samples]
    if images and all(image is not None for image in images):
        variants = {
            str(j): variant({"z": image.tolist()}, note=f"{findings.samples[j].title}.")
            for j, image in enumerate(images)
            if image is not None
        }
        yield Picture(
            "sample",
            "The sample",
            "The network's input, from its smallest value (black) to its largest (white).",
            figure([go.Image(hoverinfo="skip")], "", "", 300, xaxis_visible=False, yaxis_visible=False),
            ("sample",),
            variants,
        )


def _image(values: NDArray[Any]) -> NDArray[np.uint8] | None:
    """An input as ``[height, width, 3]`` from 0 to 255, of every k-th pixel where it is large; None for no image."""
    channels = next((axis for axis in (0, -1) if values.ndim == 3 and values.shape[axis] in (1, 3)), None)
    if channels is None:
        return None
    image = np.moveaxis(values, channels, -1).astype(np.float64)
    image = image[:: -(-image.shape[0] // PIXELS), :: -(-image.shape[1] // PIXELS)]
    spread = np.ptp(image) or 1.0
    return np.broadcast_to((image - image.min()) / spread * 255, (*image.shape[:2], 3)).round().astype(np.uint8)


def raster(findings: Findings) -> Iterator[Picture]:
    """Spikes of some neurons of a layer for one sample."""
    variants = {
        f"{i}|{j}": _spikes(layer, j)
        for i, layer in enumerate(findings.trains)
        for j in range(len(findings.samples))
    }  # fmt: skip
    hover = "time step %{x}, row %{y}<extra></extra>"
    marks = [
        go.Scatter(mode="markers", name=name, marker=mark, hovertemplate=name + ", " + hover) for _, name, mark in MARKS
    ]
    bursts = ", a star stands for a burst of two spikes" if any(layer.bursts for layer in findings.trains) else ""
    yield Picture(
        "raster",
        "Spikes of single neurons",
        f"A row is a neuron. Filled triangles upwards are positive spikes, open ones downwards negative{bursts}. "
        "Half of the neurons are those that send most for the first sample, the others are chosen at random. A click "
        "on a spike shows its neuron below.",
        figure(marks, "time step", "row", 420, xaxis_dtick=_ticks(findings), showlegend=True),
        ("layer", "sample"),
        variants,
        click="neuron",
    )


def _ticks(findings: Findings) -> int:
    return time_ticks(findings.facts.coding.T)


def _spikes(layer: LayerTrains, sample: int) -> dict[str, Any]:
    traces, spikes = [], layer.spikes[sample]
    for number, _, _ in MARKS:
        rows, steps = (spikes == number).nonzero()
        traces.append(
            {
                "x": (layer.depth + 1 + steps).tolist(),
                "y": (rows + 1).tolist(),
                "customdata": rows.tolist(),
            }
        )
    up, down = (int(abs(spikes[spikes * sign > 0]).sum()) for sign in (1, -1))
    two = f", {np.count_nonzero(np.abs(spikes) == 2)} times two at once" if layer.bursts else ""
    steps, neurons = spikes.shape[1], len(layer.neurons)
    return variant(
        *traces,
        note=f"{neurons} neurons: {up} positive and {down} negative spikes{two}.{_digits(layer)}",
        axes={
            "xaxis": {"range": [layer.depth + 0.5, layer.depth + steps + 0.5]},
            "yaxis": {"range": [neurons + 0.5, 0.5]},
        },
    )


def _digits(layer: LayerTrains) -> str:
    """Which trains are which, where several send one value."""
    several = f" {layer.trains} trains send one value: the first channels its high digits, the last its low ones."
    return several if layer.trains > 1 else ""


def value(findings: Findings) -> Iterator[Picture]:
    """The value that the spikes of one neuron have sent so far, and the ANN's activation."""
    variants = {
        f"{i}|{j}|{k}": _built_up(layer, j, k)
        for i, layer in enumerate(findings.trains)
        for j in range(len(findings.samples))
        for k in range(len(layer.neurons))
    }
    traces = [  # spikes first, so that they have the colours of the raster
        *(go.Scatter(mode="markers", name=name, marker=mark, zorder=1) for _, name, mark in MARKS),
        go.Scatter(mode="lines", name="sent so far", line={"shape": "hv"}),
        go.Scatter(mode="lines", name="ANN's activation", line={"dash": DASHED}),
    ]
    twice = ", a burst twice as much" if any(layer.bursts for layer in findings.trains) else ""
    yield Picture(
        "value",
        "The value that one neuron's spikes build up",
        f"A positive spike at step t adds theta * q[t], a negative one subtracts it{twice}.",
        figure(traces, "time step", "value", 340, xaxis_dtick=_ticks(findings)),
        ("layer", "sample", "neuron"),
        variants,
    )


def _built_up(layer: LayerTrains, sample: int, neuron: int) -> dict[str, Any]:
    values, wanted = layer.values[sample, neuron], float(layer.activations[sample, neuron])
    sent, activation = shorts(values), short(wanted)
    spikes, first, last = layer.spikes[sample, neuron], layer.depth, layer.depth + len(sent)
    marks = [np.flatnonzero(spikes == number).tolist() for number, _, _ in MARKS]
    place = ", ".join(map(str, layer.neurons[neuron]))
    aim = "its digits are" if layer.trains > 1 else "the ANN's activation is"
    return variant(
        *({"x": [first + t + 1 for t in steps], "y": [sent[t] for t in steps]} for steps in marks),
        {"x": list(range(first, last + 1)), "y": [0.0, *sent]},
        {"x": [first, last], "y": [activation, activation]},
        note=f"Row {neuron + 1}, neuron ({place}), sends {values[-1]:.5g}; {aim} {wanted:.5g}.{_digits(layer)}",
        axes={"xaxis": {"range": [first, last + 0.25]}},
    )
