"""Pictures of layers: errors, residuals, activations, spikes over time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import plotly.graph_objects as go

from csscc.measure.causes import parts_of
from csscc.measure.layers import Cause, LayerDiagnosis
from csscc.report.findings import Findings
from csscc.report.picture import (
    DASHED,
    DOTTED,
    SOLID,
    Picture,
    figure,
    layer_axis,
    line,
    plain,
    short,
    shorts,
    time_ticks,
    variant,
)
from csscc.report.trains import EDGES
from csscc.tables import number_of

CAUSES: tuple[tuple[Cause, str, str], ...] = (
    ("range", "range: values too large to send", "/"),
    ("timing", "timing: spikes came too late", "x"),
    ("rounding", "rounding to theta", ""),
)


def _axis(findings: Findings) -> tuple[list[int], list[str]]:
    """Numbers of the layers, from 1, and their names, as pictures show them."""
    layers = findings.diagnosis.layers
    return list(range(1, len(layers) + 1)), [plain(f"{layer.name} ({layer.kind})") for layer in layers]


def errors(findings: Findings) -> Iterator[Picture]:
    """Errors of each layer, and what they consist of."""
    layers = findings.diagnosis.layers
    numbers, names = _axis(findings)
    traces: list[Any] = [
        go.Bar(
            x=numbers,
            y=[short(100 * _share(layer, cause)) for layer in layers],
            name=label,
            marker_pattern_shape=pattern,
            customdata=[[n, short(100 * parts_of(layer)[cause])] for n, layer in zip(names, layers, strict=True)],
            hovertemplate="%{customdata[0]}<br>" + label + ": %{customdata[1]} % (RMS)<extra></extra>",
        )
        for cause, label, pattern in CAUSES
    ]
    for label, symbol, dash, values in (
        ("whole error of the layer", "circle", SOLID, [layer.error for layer in layers]),
        ("error passed on by earlier layers", "diamond-open", DOTTED, [layer.inherited for layer in layers]),
    ):
        hover = "%{text}<br>" + label + ": %{y} %<extra></extra>"
        traces.append(line(numbers, [100 * v for v in values], label, symbol, dash, text=names, hovertemplate=hover))
    yield Picture(
        "errors",
        "Error of each layer, and its causes",
        "RMS, in percent of the layer's signal. A bar is the error that the layer adds by itself, divided among its "
        "causes by their squares. The solid line is the layer's whole error, what earlier layers pass on included.",
        figure(traces, "layer", "error, % of the signal", barmode="stack", **layer_axis(len(numbers))),
    )


def _share(layer: LayerDiagnosis, cause: Cause) -> float:
    """The part of a layer's own error that goes to one cause: squares add up."""
    return parts_of(layer)[cause] ** 2 / layer.own if layer.own else 0.0


def residuals(findings: Findings) -> Iterator[Picture]:
    """Residuals and saturation of each layer."""
    layers = findings.diagnosis.layers
    numbers, names = _axis(findings)
    rows = (
        ("|u| > 1/2", "/", [layer.over_half for layer in layers]),
        ("|u| > 1: not encoded", "x", [layer.over_one for layer in layers]),
        ("ANN's values beyond the range", "", [layer.saturated for layer in layers]),
    )
    traces = [
        go.Bar(
            x=numbers,
            y=[short(100 * v) for v in values],
            name=plain(label),
            marker_pattern_shape=pattern,
            text=names,
            textposition="none",
            hovertemplate="%{text}<br>" + plain(label) + ": %{y} %<extra></extra>",
        )
        for label, pattern, values in rows
    ]
    samples = number_of(findings.diagnosis.samples, "sample")
    none = f" In the {samples} that were diagnosed, no residual is above 1/2, and no value is saturated."
    yield Picture(
        "residuals",
        "Residuals and saturation",
        "The residual u is what a neuron had left to send after its last step, in units of theta, its smallest spike. "
        "Rounding leaves up to 1/2. Saturated values are larger than the largest value that a layer can send."
        + ("" if any(map(any, (values for *_, values in rows))) else none),
        figure(
            traces,
            "layer",
            "% of the neurons",
            barmode="group",
            yaxis_rangemode="nonnegative",
            **layer_axis(len(numbers)),
        ),
    )


def residual_histogram(findings: Findings) -> Iterator[Picture]:
    """How residuals of one layer are distributed."""
    variants = {}
    for number, layer in enumerate(findings.trains):
        if layer.residuals is None or not layer.residuals.sum():
            continue
        total, beyond = int(layer.residuals.sum()), int(layer.residuals[0] + layer.residuals[-1])
        note = f"{total:,} residuals of {len(findings.samples)} samples; {beyond:,} are in the outermost bars, which "
        variants[str(number)] = variant(
            {"y": shorts(100 * layer.residuals / total)}, note=f"{note}hold all that lie beyond."
        )
    if variants:
        middle = shorts((EDGES[:-1] + EDGES[1:]) / 2)
        yield Picture(
            "residual-histogram",
            "Residuals of one layer",
            "From -1/2 to 1/2 it is rounding; beyond that, spikes came too late, or the value is out of range.",
            figure(
                [go.Bar(x=middle)],
                "residual u, in units of theta",
                "% of the neurons",
                300,
                bargap=0,
                xaxis_range=[1.05 * EDGES[0], 1.05 * EDGES[-1]],  # labels of both axes stay apart
            ),
            ("layer",),
            variants,
        )


def activations(findings: Findings) -> Iterator[Picture]:
    """The values that a layer sends against the ANN's."""
    variants, samples = {}, number_of(findings.diagnosis.samples, "sample")
    for number, (layer, diagnosis) in enumerate(zip(findings.trains, findings.diagnosis.layers, strict=True)):
        low = short(min(layer.ann.min(initial=0.0), layer.snn.min(initial=0.0)))
        high = short(max(layer.ann.max(initial=0.0), layer.snn.max(initial=0.0)))
        variants[str(number)] = variant(
            {"x": shorts(layer.ann), "y": shorts(layer.snn)},
            {"x": [low, high], "y": [low, high]},
            note=f"Correlation over all neurons of {samples}: {diagnosis.correlation:.6f}.",
        )
    points = go.Scatter(mode="markers", name="a neuron for a sample", marker={"size": 5, "symbol": "circle-open"})
    equal = go.Scatter(mode="lines", name="equal", line={"dash": DASHED})
    yield Picture(
        "activations",
        "Values sent against the ANN's activations",
        f"A point is one neuron of the layer, chosen at random, for one of {len(findings.samples)} samples. On the "
        "dashed line, its spikes send exactly the ANN's activation.",
        figure([points, equal], "ANN's activation", "value sent", 420),
        ("layer",),
        variants,
    )


def wave(findings: Findings) -> Iterator[Picture]:
    """Spikes of all layers over time."""
    numbers, names = _axis(findings)
    rows = list[list[float | None]]()
    for layer, trains in zip(findings.diagnosis.layers, findings.trains, strict=True):
        by_step = zip(layer.positive_by_step, layer.negative_by_step, strict=True)
        rows.append([*[None] * trains.depth, *(short(p + n) for p, n in by_step)])
    last = max(map(len, rows), default=0)
    bursts = "; a burst counts as two" if any(layer.bursts for layer in findings.trains) else ""
    heat = go.Heatmap(
        x=list(range(1, last + 1)),
        y=numbers,
        z=[row + [None] * (last - len(row)) for row in rows],
        customdata=[[name] * last for name in names],
        colorbar={"title": {"text": "spikes per neuron", "side": "right"}},
        hovertemplate="%{customdata}<br>time step %{x}: %{z} spikes per neuron<extra></extra>",
        xgap=1,
        ygap=1,
    )
    yield Picture(
        "wave",
        "Spikes of all layers over time",
        "All layers work at once, each a few steps later than the one before. "
        f"Spikes per neuron, of both signs{bursts}.",
        figure(
            [heat],
            "time step",
            "layer",
            min(900, 180 + 18 * len(rows)),
            xaxis_dtick=time_ticks(last),
            yaxis_autorange="reversed",
        ),
    )


def signed(findings: Findings) -> Iterator[Picture]:
    """Positive and negative spikes of one layer over time."""
    variants = {}
    for number, (layer, trains) in enumerate(zip(findings.diagnosis.layers, findings.trains, strict=True)):
        steps = [trains.depth + t for t in range(1, len(layer.positive_by_step) + 1)]
        variants[str(number)] = variant(
            {"x": steps, "y": shorts(layer.positive_by_step)},
            {"x": steps, "y": shorts([-v for v in layer.negative_by_step])},
            note=f"{layer.positive:.3f} positive and {layer.negative:.3f} negative spikes per neuron and inference.",
        )
    bars = [go.Bar(name="positive"), go.Bar(name="negative", marker_pattern_shape="/")]
    yield Picture(
        "signed",
        "Positive and negative spikes over time",
        "Upwards positive, downwards negative spikes of one layer, per neuron.",
        figure(
            bars,
            "time step",
            "spikes per neuron",
            320,
            barmode="relative",
            xaxis_dtick=time_ticks(findings.facts.coding.T),
        ),
        ("layer",),
        variants,
    )
