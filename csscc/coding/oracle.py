"""The Ternary Self-Amplifying neuron, its encoder and its decoder, step by step in NumPy, written by hand.

These free functions are the independent side: what `csscc.coding.program` makes of a neuron must send their spikes.
They follow the recurrences of the paper (Algorithm 1, Theorem 2, A.4, A.6) one step at a time and know nothing of
ONNX. Arrays have time first: currents and spikes are ``[T, ...]``. All of them keep the dtype they are given, so that
float64 serves as oracle.

Everything is in one unit that does not change over time, the value that a spike of the last step sends: the membrane
holds the value that has arrived so far. The paper's membranes are these divided by ``q[t]``.

The order of operations is part of the definition. Every operation here is one IEEE operation on one element, so any
runtime that performs the same ones in the same order, without contracting a product and a sum into one, gives the
same spikes bit for bit. What remains are the sums inside convolutions, which the pass `SnapWeights` makes exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from csscc.coding.schedule import Schedule

FloatArray = NDArray[np.floating]
_overflowing = np.errstate(over="ignore", invalid="ignore")  # what float32 cannot hold is infinite


class Firing(NamedTuple):
    """What a neuron did: spikes and potentials before firing ``[T, B, ...]``, and the residual ``[B, ...]``.

    Potentials are in units of the spike about to be sent, ``theta * q[k]`` for spike k; the residual in units of theta.
    """

    spikes: FloatArray
    potentials: FloatArray
    residual: FloatArray


def fire(potential: FloatArray, threshold: float | np.floating, *, negative: bool = True) -> FloatArray:
    """The spike that a potential causes: +1 above the threshold, with negative spikes -1 below minus that, else 0.

    The result has the shape and dtype of the potential; the threshold is in its units.
    """
    least = potential.dtype.type(threshold)
    spikes = (potential > least).astype(potential.dtype)
    return spikes - (potential < -least) if negative else spikes


def decided(potential: FloatArray, schedule: Schedule, k: int) -> FloatArray:
    """Spike number k, from 1, that a potential in units of theta causes: ``fire(o, c[k])``.

    A burst is the whole number nearest to ``o * (1 / 2c[k])``, halves to even, from -2 to 2.
    """
    dtype, threshold = potential.dtype.type, schedule.thresholds[k - 1]
    if schedule.burst:
        return np.clip(np.rint(potential * (dtype(1) / dtype(2 * threshold))), -2, 2)
    return fire(potential, threshold, negative=schedule.negative)


def cut(values: FloatArray, schedule: Schedule) -> FloatArray:
    """Values in units of theta, cut to what a train can send, see `Schedule.most`."""
    most = values.dtype.type(schedule.most)
    return np.clip(values, -most, most)


@_overflowing
def encode(values: FloatArray, theta: FloatArray | float, schedule: Schedule) -> FloatArray:
    """Spike train of an analog value (Theorem 2); or the same part of the values at each step.

    The membrane starts at ``values / theta``, cut to what a train can send (`Schedule.most`); each step fires above its
    threshold and subtracts the weight of the spike, ``q[t]``.

    Args:
        values: analog values, any shape.
        theta: amplitude, broadcastable to `values`.
        schedule: of the encoder.

    Returns:
        Spikes of shape ``[T, *values.shape]``.
    """
    dtype = values.dtype.type
    potential = cut(values / np.asarray(theta, dtype), schedule)
    if schedule.constant:
        return np.repeat((potential * dtype(1 / schedule.levels))[None], schedule.T, axis=0)
    spikes = np.empty((schedule.T, *values.shape), values.dtype)
    for t, weight in enumerate(map(dtype, schedule.weights)):
        spikes[t] = decided(potential, schedule, t + 1)
        potential = potential - weight * spikes[t]
    return spikes


@_overflowing
def tsa(
    currents: Sequence[FloatArray],
    activation: Callable[..., FloatArray],
    schedule: Schedule,
    biases: Sequence[FloatArray | float] | None = None,
    theta: FloatArray | float | None = None,
    *,
    partial: bool = False,
) -> Firing:
    """Spikes of a TSA neuron whose activation f acts on its accumulated inputs (A.4, A.6 for ReLU).

    The membrane holds its bias and what has arrived: the first m steps of input as one sum, the others one by one::

        h[m] = bias + q[m] * (w_1 * z[1] + ... + w_m * z[m])        h[t] = h[t-1] + q[t] * z[t]

    Spike k is sent at t = k + L, of what is still to be sent::

        o = f(h[k+L]) - p[k-1]      S[k] = fire(o, c[k])      p[k] = p[k-1] + q[k] * S[k]

    where p is what was already sent, ``p[0] = 0``, c are thresholds, and f is positively homogeneous. If the schedule
    is `rounded`, the spikes that share the last target are decided by what is left of ``v = (o + rint(o)) / 2``, which
    is above a threshold where o is and never on the last: ``S[k] = fire(v, c[k])``, then ``v - q[k] * S[k]`` is left.

    Bursts: see `decided`. Any other f needs the source's units, ``o = f(h[k+L]) / theta - p[k-1]``. Where an f that is
    not defined everywhere is not finite for what has arrived so far, nothing is sent.

    Args:
        currents: one per input of f, each ``[T, B, ...]``; in units of theta if `theta` is None, else in those of f.
        activation: function of as many arrays ``[B, ...]``; may change the shape after the batch axis.
        schedule: of the neuron.
        biases: one per input, broadcastable to ``[B, ...]``, in units of the currents' weighted sum.
        theta: amplitude of the spikes sent, for an activation that is not positively homogeneous; else None.
        partial: f is not defined everywhere.

    Returns:
        Spikes, potentials, and the residual ``u = f(H)/theta - sum(q*S)``, H being the whole input.
    """
    dtype = currents[0].dtype.type
    q, T, L, received = [dtype(w) for w in schedule.weights], schedule.T, schedule.silent, len(schedule.merged)
    given = zip(currents, biases or [0.0] * len(currents), strict=True)
    membranes = [np.asarray(b, dtype) + _together(z[:received], schedule.merged) * q[received - 1] for z, b in given]
    spikes, potentials = list[FloatArray](), list[FloatArray]()
    sent: FloatArray = np.zeros((), dtype)
    left: FloatArray | None = None
    for k in range(1, T + 1):
        while received < min(k + L, T):
            membranes = [h + z[received] * q[received] for h, z in zip(membranes, currents, strict=True)]
            received += 1
        target = activation(*membranes)
        target = cut(target if theta is None else target / np.asarray(theta, dtype), schedule)
        potential = _unsent(target, sent, partial=partial)
        potentials.append(potential / q[k - 1])
        if schedule.rounded and k == schedule.shared:
            left = np.rint(potential) * dtype(0.5) + potential * dtype(0.5)
        decides = potential if left is None else left
        spikes.append(decided(decides, schedule, k))
        left = None if left is None else left - q[k - 1] * spikes[-1]
        sent = sent + q[k - 1] * spikes[-1]
    return Firing(np.stack(spikes), np.stack(potentials), _unsent(target, sent, partial=partial))


def _unsent(target: FloatArray, sent: FloatArray, *, partial: bool) -> FloatArray:
    """What is still to be sent; with `partial`, nothing where that is not finite."""
    rest = target - sent
    return np.where(np.isfinite(rest), rest, rest.dtype.type(0)) if partial else rest


def _together(currents: FloatArray, weights: Sequence[float]) -> FloatArray:
    """The weighted sum of the first steps of an input, in order; exact where the weights of synapses leave room."""
    dtype = currents.dtype.type
    total: FloatArray = currents[0] * dtype(weights[0])
    for weight, current in zip(weights[1:], currents[1:], strict=True):
        total = total + current * dtype(weight)
    return total


@_overflowing
def decode(currents: FloatArray, schedule: Schedule, bias: FloatArray | float = 0.0) -> FloatArray:
    """Readout of a layer that never fires: ``bias + sum(q[t] * z[t])``; ``[T, B, ...]`` to ``[B, ...]``."""
    weights = np.asarray(schedule.weights, currents.dtype)
    return np.tensordot(weights, currents, axes=1) + np.asarray(bias, currents.dtype)
