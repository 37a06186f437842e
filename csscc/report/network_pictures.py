"""Pictures of the whole network: the output read early, classes, energy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import plotly.graph_objects as go

from csscc.measure.energy import against_ann
from csscc.report.findings import Findings
from csscc.report.picture import (
    DASHED,
    DOTTED,
    HEIGHT,
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

MOST_CLASSES = 64  # that a confusion matrix is drawn for
RATIOS = [factor * 10.0**power for power in range(-4, 4) for factor in (1, 2, 5)]  # at which ticks stand
MOST_NUMBERS = 20  # classes up to which its counts are written into it


def reading(findings: Findings) -> Iterator[Picture]:
    """Accuracy, or else the error of the outputs, against the step at which they are read."""
    read, steps = findings.reading, list(findings.reading.steps)
    traces, unit, axis = list[Any](), "percent of the samples", dict[str, Any]()
    if read.accuracy is not None:
        traces.append(line(steps, read.accuracy, "accuracy of the SNN", "circle", SOLID))
        ann = [findings.evaluation.ann_accuracy] * len(steps)
        traces.append(go.Scatter(x=steps, y=ann, name="accuracy of the ANN", mode="lines", line={"dash": DASHED}))
    if read.agreement is not None:
        traces.append(line(steps, read.agreement, "same class as the ANN", "square", DOTTED))
    if not traces:
        unit, axis = "error (RMS), % of the ANN's", {"yaxis_type": "log", "yaxis_tickvals": RATIOS}
        for name, errors in read.errors.items():
            traces.append(line(steps, [100 * e for e in errors], plain(name), "circle", SOLID))
    yield Picture(
        "reading",
        "If the output is read early",
        "The output if it is read before all spikes have arrived. "
        f"The last point, at time step {steps[-1]}, is the answer itself.",
        figure(
            traces,
            "time step at which the output is read",
            unit,
            xaxis_dtick=time_ticks(len(steps)),
            **axis,
        ),
    )


def confusion(findings: Findings) -> Iterator[Picture]:
    """Classes named by either network for samples of each class."""
    counted = findings.confusion
    if counted is None or len(counted.ann) > MOST_CLASSES:
        return
    number = len(counted.ann)
    heat = go.Heatmap(
        x=list(range(number)),
        y=list(range(number)),
        texttemplate="%{z}" if number <= MOST_NUMBERS else None,
        hovertemplate="class %{y} named %{x}: %{z} samples<extra></extra>",
        showscale=False,
        xgap=1,
        ygap=1,
    )
    ticks = 1 if number <= MOST_NUMBERS else 5
    yield Picture(
        "confusion",
        "Confusion matrix",
        "Rows are the labels, columns the classes that the network names. Right answers are on the diagonal.",
        figure(
            [heat],
            "class named",
            "label",
            max(HEIGHT, min(900, 140 + 32 * number)),
            yaxis_autorange="reversed",
            yaxis_dtick=ticks,
            xaxis_dtick=ticks,
        ),
        ("network",),
        {
            name: variant(
                {"z": counts.tolist()}, note=f"{counts.trace():,} of {counts.sum():,} samples are on the diagonal."
            )
            for name, counts in (("SNN", counted.snn), ("ANN", counted.ann))
        },
    )


def energy(findings: Findings) -> Iterator[Picture]:
    """What the energy is spent on."""
    made = findings.evaluation.energy
    if made is None:
        return
    parts = (("synapses", ""), ("neurons", "/"), ("weights", "x"), ("state", "."))
    designs = [e.design for e in made.per_step]
    bars = [go.Bar(x=designs, name=part, marker_pattern_shape=pattern) for part, pattern in parts]
    yield Picture(
        "energy",
        "What the energy is spent on",
        "An estimate from counted operations and published prices. Synapses and neurons compute; weights and state are "
        "memory: activations in the ANN, membrane potentials and spikes in the SNN.",
        figure(bars, "", "microjoules an inference", barmode="stack"),
        ("memory",),
        {
            name: variant(
                *({"y": [short(getattr(e, part) / 1e6) for e in rows]} for part, _ in parts),
                note=", ".join(f"{e.design}: {e.total / 1e6:.4g}" for e in rows) + " microjoules.",
            )
            for name, rows in (("step", made.per_step), ("spike", made.per_spike))
        },
    )


def synapses(findings: Findings) -> Iterator[Picture]:
    """Where synapses cost less than the ANN's, and where more."""
    made = findings.evaluation.energy
    if made is None or not made.synapses:
        return
    numbers = list(range(1, len(made.synapses) + 1))
    names = [plain(node.name) for node in made.synapses]
    kinds = (
        ("float32", made.costs.float32_multiply, made.costs.float32_add, "circle"),
        ("int8", made.costs.int8_multiply, made.costs.int32_add, "diamond-open"),
    )
    traces: list[Any] = [
        go.Scatter(
            x=numbers,
            y=shorts([against_ann(node, multiply, add) for node in made.synapses]),
            name=kind,
            mode="markers",
            marker={"symbol": symbol, "size": 9},
            text=names,
            hovertemplate="%{text}<br>" + kind + ": %{y} times the ANN's<extra></extra>",
        )
        for kind, multiply, add, symbol in kinds
    ]
    ends = {"x": [0.5, len(numbers) + 0.5], "y": [1, 1]}
    traces.append(go.Scatter(**ends, name="as much as the ANN", mode="lines", line={"dash": DASHED}))
    yield Picture(
        "synapses",
        "Energy of synapses against the ANN's",
        "Energy of synaptic operations of each node with weights, in units of that of the ANN's multiply-accumulates "
        "in the same precision. Below the dashed line the SNN needs less. Memory is not included.",
        figure(
            traces,
            "node with weights",
            "times the ANN's",
            yaxis_type="log",
            yaxis_tickvals=RATIOS,
            **layer_axis(len(numbers)),
        ),
    )
