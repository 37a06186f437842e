"""Pictures of single samples and neurons: inputs, spikes, and the values that they build up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from csscc.report.findings import Findings
from csscc.report.picture import DASHED, DOWN, UP, Picture, figure, short, shorts, variant
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
            "The network's input, stretched to its own smallest and largest value.",
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
        go.Scatter(mode="markers", name=name, marker=mark, hovertemplate=hover)
        for name, mark in (("spike of +1", UP), ("spike of -1", DOWN))
    ]
    yield Picture(
        "raster",
        "Spikes of single neurons",
        "A row is a neuron. Filled triangles upwards are positive spikes, open ones downwards negative. Half of the "
        "neurons are those that send most for the first sample, the others are drawn. A click on a spike shows its "
        "neuron below.",
        figure(marks, "time step", "row", 420, yaxis_autorange="reversed"),
        ("layer", "sample"),
        variants,
        click="neuron",
    )


def _spikes(layer: LayerTrains, sample: int) -> dict[str, Any]:
    traces = []
    for sign in (1, -1):
        rows, steps = (np.sign(layer.spikes[sample]) == sign).nonzero()
        traces.append(
            {
                "x": (layer.depth + 1 + steps).tolist(),
                "y": (rows + 1).tolist(),
                "customdata": rows.tolist(),
            }
        )
    up, down = (len(t["x"]) for t in traces)
    return variant(*traces, note=f"{len(layer.neurons)} neurons: {up} positive and {down} negative spikes.")


def value(findings: Findings) -> Iterator[Picture]:
    """The value that the spikes of one neuron have sent so far, and the ANN's activation."""
    variants = {
        f"{i}|{j}|{k}": _built_up(layer, j, k)
        for i, layer in enumerate(findings.trains)
        for j in range(len(findings.samples))
        for k in range(len(layer.neurons))
    }
    traces = [
        go.Scatter(mode="lines", name="sent so far", line={"shape": "hv"}),
        go.Scatter(mode="lines", name="ANN's activation", line={"dash": DASHED}),
        go.Scatter(mode="markers", name="spike of +1", marker=UP),
        go.Scatter(mode="markers", name="spike of -1", marker=DOWN),
    ]
    yield Picture(
        "value",
        "The value that one neuron's spikes build up",
        "Each spike adds its weight, theta * q[t], or takes it away.",
        figure(traces, "time step", "value", 340),
        ("layer", "sample", "neuron"),
        variants,
    )


def _built_up(layer: LayerTrains, sample: int, neuron: int) -> dict[str, Any]:
    values, wanted = layer.values[sample, neuron], float(layer.activations[sample, neuron])
    sent, activation = shorts(values), short(wanted)
    spikes, first, last = layer.spikes[sample, neuron], layer.depth, layer.depth + len(sent)
    marks = [np.flatnonzero(np.sign(spikes) == sign).tolist() for sign in (1, -1)]
    place = ", ".join(map(str, layer.neurons[neuron]))
    return variant(
        {"x": list(range(first, last + 1)), "y": [0.0, *sent]},
        {"x": [first, last], "y": [activation, activation]},
        *({"x": [first + t + 1 for t in steps], "y": [sent[t] for t in steps]} for steps in marks),
        note=f"Neuron ({place}) sends {values[-1]:.5g}; the ANN's activation is {wanted:.5g}.",
    )
