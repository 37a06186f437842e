"""Pictures of the coding, drawn from `csscc.coding`: what they show is what the neurons do.

``python -m docs.pictures FOLDER`` writes them as files.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from csscc.coding.coding import Coding
from csscc.coding.oracle import encode, tsa

INK = {"light": "#333333", "dark": "#dddddd"}
POSITIVE, NEGATIVE, THIRD = "#3f7fd0", "#e07b39", "#5aa469"
MARKS = {1: ("^", POSITIVE, "spike of +1"), -1: ("v", NEGATIVE, "spike of -1")}
FloatArray = NDArray[np.float64]


def drawings() -> dict[str, str]:
    """Each picture for light and for dark pages, as SVG: ``train-light``, ``train-dark``, ..."""
    return {f"{name}-{theme}": _svg(draw, INK[theme]) for name, draw in PICTURES.items() for theme in INK}


def _svg(draw: Callable[[Figure], None], ink: str) -> str:
    colours = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    settings = dict.fromkeys(colours, ink) | {"svg.hashsalt": "csscc", "font.size": 10, "lines.linewidth": 1.8}
    with matplotlib.rc_context(settings), io.StringIO() as text:
        figure = Figure(figsize=(7, 3.6), layout="constrained")
        draw(figure)
        for axes in figure.axes:
            axes.set_facecolor("none")
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
        return text.getvalue()


def train(figure: Figure) -> None:
    """One value, the spikes that send it, and the sum that they build up."""
    coding = Coding(T=8, beta=1.5)
    value = 0.62 * coding.levels
    spikes = encode(np.array(value), 1.0, coding.encoder())
    steps, sent = np.arange(1, 9), np.cumsum(coding.weights * spikes)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.6))
    above.bar(steps, coding.weights * spikes, color=[POSITIVE if s > 0 else NEGATIVE for s in spikes], width=0.5)
    above.axhline(0, color=matplotlib.rcParams["text.color"], linewidth=0.8)
    above.set_ylabel("S[t] * q[t]")
    below.step(np.arange(9), [0.0, *sent], where="post", color=POSITIVE, label="sum of the spikes so far")
    below.axhline(value, linestyle="--", color=NEGATIVE, label="value, in units of theta")
    below.set(xlabel="step t", ylabel="units of theta", ylim=(0, 1.15 * max(value, sent.max())))
    below.legend(frameon=False, loc="lower right")


def silent(figure: Figure) -> None:
    """The error at the end of a chain of ReLU layers against T, for several numbers of silent steps."""
    axes = figure.subplots()
    steps = range(4, 17, 2)
    for marker, colour, L in zip("osD", (NEGATIVE, POSITIVE, THIRD), (0, 1, 2), strict=True):
        errors = [_error(Coding(T=T, beta=1.5, silent=L)) for T in steps]
        axes.semilogy(steps, errors, marker=marker, color=colour, label=f"L = {L}")
    axes.set(xlabel="coding steps T", ylabel="error after 8 layers, %")
    axes.legend(frameon=False, title="silent steps")


def _error(coding: Coding, layers: int = 8, width: int = 128, samples: int = 16) -> float:
    """Error of what the last layer sends, as root mean square, in percent of that of the values wanted."""
    rng = np.random.default_rng(0)
    wanted = rng.random((samples, width))
    theta = 1 / coding.levels
    spikes = encode(wanted, theta, coding.encoder())
    for _ in range(layers):
        weights = rng.standard_normal((width, width)) * np.sqrt(2 / width)
        wanted = _relu(wanted @ weights)
        currents, theta = theta * spikes @ weights, wanted.max() / coding.levels
        spikes = tsa([currents / theta], _relu, coding.neuron()).spikes
    sent = theta * np.tensordot(coding.weights, spikes, 1)
    return float(100 * np.sqrt(np.mean((sent - wanted) ** 2) / np.mean(wanted**2)))


def _relu(potentials: FloatArray) -> FloatArray:
    return np.maximum(potentials, 0)


def coupling(figure: Figure) -> None:
    """One neuron over time: what has arrived, and what it sent, with negative spikes and without."""
    panels = figure.subplots(1, 2, sharey=True)
    currents, value = _misled(Coding(T=8, beta=1.5, negative=False))
    for axes, negative in zip(panels, (True, False), strict=True):
        coding = Coding(T=8, beta=1.5, negative=negative)
        spikes = tsa([currents], _relu, coding.neuron()).spikes
        _history(axes, np.cumsum(coding.weights * currents), spikes, coding)
        axes.axhline(value, linestyle=":", color=THIRD, label="the ANN's activation")
        axes.set(title="with negative spikes" if negative else "without", xlabel="time step")
    panels[0].set_ylabel("units of theta")
    panels[0].legend(frameon=False, fontsize=8)


def _misled(coding: Coding, neurons: int = 2000, inputs: int = 64) -> tuple[FloatArray, float]:
    """Of a layer with random weights, the neuron that sends most beyond its value: its currents, and the value."""
    rng = np.random.default_rng(0)
    x, weights = rng.random(inputs), rng.standard_normal((inputs, neurons)) / np.sqrt(inputs)
    values, theta_in = x @ weights, 1 / coding.levels
    theta = np.abs(values).max() / coding.levels
    currents = theta_in * encode(x, theta_in, coding.encoder()) @ weights / theta
    sent = np.tensordot(coding.weights, tsa([currents], _relu, coding.neuron()).spikes, 1)
    worst = int(np.argmax(np.where(values > 0, sent - values / theta, 0)))
    return currents[:, worst], values[worst] / theta


def _history(axes: Any, arrived: FloatArray, spikes: FloatArray, coding: Coding) -> None:
    """Steps of input 1..T, and spikes, which are sent L steps later."""
    T, L = coding.T, coding.silent
    sent = np.cumsum(coding.weights * spikes)
    axes.step(range(T + 1), [0, *arrived], where="post", linestyle="--", color=NEGATIVE, label="input so far")
    axes.step([0, *range(L + 1, T + L + 1)], [0, *sent], where="post", color=POSITIVE, label="sent so far")
    for sign, (marker, colour, label) in MARKS.items():
        at = np.flatnonzero(spikes == sign)
        axes.plot(at + L + 1, sent[at], marker, color=colour, label=label, linestyle="none")


PICTURES: dict[str, Callable[[Figure], None]] = {"train": train, "silent": silent, "coupling": coupling}


if __name__ == "__main__":
    for name, drawing in drawings().items():
        (Path(sys.argv[1]) / f"{name}.svg").write_text(drawing)
