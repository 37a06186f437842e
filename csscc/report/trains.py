"""Spike trains of a few samples, neuron by neuron, beside the ANN's activations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from csscc.dialect.metadata import Facts
from csscc.measure.both import BothNetworks
from csscc.measure.layers import Pair
from csscc.report.kept import Sample

NEURONS = 24  # of a layer that are shown spike by spike, at most
NUMBERS = 200_000  # spikes that a report shows of all layers and samples
POINTS = 300  # of a layer, activation against activation
EDGES = np.linspace(-1.5, 1.5, 61)  # of the bins of residuals, in units of theta; the outer ones hold what lies beyond


@dataclass(frozen=True)
class LayerTrains:
    """What neurons of one layer did for a few samples.

    Attributes:
        name: of its node.
        kind: ``encoder`` or the activation the neurons send.
        depth: silent steps on the way to it: its spike k is sent at time step ``depth + k``.
        neurons: the neurons shown, K of them, as places after the batch axis: half of them send the most spikes for
            the first sample, the others are drawn.
        spikes: ``[samples, K, T]``.
        values: ``[samples, K, T]``, the value that the spikes have sent so far, ``theta * sum(q * S)``.
        activations: ``[samples, K]``, the ANN's.
        ann, snn: activations of neurons drawn from all samples, and the values that the SNN sent for them.
        residuals: how many residuals of all neurons and samples lie between `EDGES`; None for encoders.
        bursts: whether up to two spikes may be sent at a step.
        trains: how many trains, along the channels from high digits to low ones, send one value.
    """

    name: str
    kind: str
    depth: int
    neurons: tuple[tuple[int, ...], ...]
    spikes: NDArray[np.int8]
    values: NDArray[np.float64]
    activations: NDArray[np.float64]
    ann: NDArray[np.float64]
    snn: NDArray[np.float64]
    residuals: NDArray[np.int64] | None
    bursts: bool
    trains: int

    @property
    def title(self) -> str:
        """Its name, and what it sends."""
        trains = f", {self.trains} trains" if self.trains > 1 else ""
        return f"{self.name} ({self.kind}{', bursts' if self.bursts else ''}{trains})"


def trains_of(both: BothNetworks, samples: Sequence[Sample]) -> tuple[LayerTrains, ...]:
    """Run both networks on each sample and keep what a few neurons of each layer did, in order of the layers."""
    shown = NUMBERS // max(1, len(both.pairs) * both.facts.coding.T * len(samples))
    layers = [_Layer(pair, both.facts, min(NEURONS, max(2, shown)), POINTS // len(samples)) for pair in both.pairs]
    for sample in samples:
        fixed = both.fixed_batch or 1
        feeds = {name: np.repeat(values, fixed, axis=0) for name, values in sample.feeds.items()}
        expected, got = both.run(feeds)
        for layer in layers:
            layer.add(expected, got)
    return tuple(layer.result() for layer in layers)


class _Layer:
    """Collects one layer's trains, sample by sample."""

    def __init__(self, pair: Pair, facts: Facts, neurons: int, points: int) -> None:
        self._pair, self._most, self._points = pair, neurons, points
        self._depth = next((layer.depth for layer in facts.layers if layer.name == pair.name), 0)
        self._rng = np.random.default_rng(0)
        self._shape: tuple[int, ...] = ()
        self._shown: NDArray[np.int64] | None = None
        self._parts: list[tuple[NDArray[np.floating], ...]] = []
        self._residuals = np.zeros(len(EDGES) - 1, np.int64) if pair.residual else None

    def add(self, expected: dict[str, NDArray[np.float32]], got: dict[str, NDArray[np.float32]]) -> None:
        pair, steps = self._pair, self._pair.schedule.T
        a = np.asarray(expected[pair.activation], np.float64)
        spikes = got[pair.spikes].reshape(steps, *a.shape)[:, 0].reshape(steps, -1)
        theta = np.broadcast_to(pair.theta, a.shape)[0].ravel()
        self._shape, a = a.shape[1:], a[0].ravel()
        if self._shown is None:
            self._shown = self._choose(np.abs(spikes).sum(axis=0))
        sent = theta * np.cumsum(spikes * np.array(pair.schedule.weights)[:, None], axis=0)
        drawn = self._rng.choice(a.size, min(self._points, a.size), replace=False)
        shown = self._shown
        self._parts.append((spikes[:, shown].T, sent[:, shown].T, a[shown], a[drawn], sent[-1, drawn]))
        if pair.residual and self._residuals is not None:
            u = np.clip(got[pair.residual][:1].ravel(), EDGES[0], EDGES[-1])
            self._residuals += np.histogram(u, EDGES)[0]

    def _choose(self, sent: NDArray[np.float32]) -> NDArray[np.int64]:
        """Neurons to show, in order: half of them the busiest, the others drawn."""
        order = np.argsort(-sent, kind="stable")
        busiest, others = np.split(order, [min((self._most + 1) // 2, len(order))])
        drawn = self._rng.permutation(others)[: self._most - len(busiest)]
        return np.sort(np.concatenate([busiest, drawn]))

    def result(self) -> LayerTrains:
        assert self._shown is not None
        spikes, values, activations, ann, snn = zip(*self._parts, strict=True)
        places: Iterable[tuple[np.intp, ...]] = zip(*np.unravel_index(self._shown, self._shape or (1,)), strict=True)
        return LayerTrains(
            name=self._pair.name,
            kind=self._pair.kind,
            depth=self._depth,
            neurons=tuple(tuple(int(i) for i in place) for place in places),
            spikes=np.stack(spikes).astype(np.int8),
            values=np.stack(values),
            activations=np.stack(activations),
            ann=np.concatenate(ann),
            snn=np.concatenate(snn),
            residuals=self._residuals,
            bursts=self._pair.schedule.burst,
            trains=self._pair.trains,
        )
