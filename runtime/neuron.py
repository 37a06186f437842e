"""The Ternary Self-Amplifying neuron, its encoder and its decoder, step by step in NumPy.

These free functions are the numerics that every emitted form must reproduce; they follow the recurrences of the
paper (Algorithm 1, Theorem 2, A.4, A.6) one step at a time and know nothing of ONNX. Arrays have time first:
currents and spikes are ``[T, ...]``. All of them keep the dtype they are given, so that float64 serves as oracle.

Potentials are in units of the threshold, which is half of what a ternary spike is worth (all of it without negative
spikes): a spike is sent when the potential reaches 1 or -1 and takes `Coding.reset` thresholds from it.

The order of operations is part of the definition. Every operation here is one IEEE operation on one element, so any
runtime that performs the same ones in the same order, without contracting a product and a sum into one, gives the
same spikes bit for bit. What remains are the sums inside convolutions, which `csscc.passes.snap_weights` makes exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from csscc.runtime.coding import Coding

FloatArray = NDArray[np.floating]


class Firing(NamedTuple):
    """What a neuron did: spikes and potentials before firing ``[T, B, ...]``, and the residual ``[B, ...]``.

    Potentials are in units of the threshold, ``theta * q[k] / reset`` at spike k; the residual in units of theta.
    """

    spikes: FloatArray
    potentials: FloatArray
    residual: FloatArray


def fire(potential: FloatArray, *, negative: bool = True) -> FloatArray:
    """Spikes of a potential given in units of the threshold; same shape and dtype.

    +1 from 1 on, -1 (with negative spikes) from -1 down, else 0.
    """
    return np.trunc(np.clip(potential, -1 if negative else 0, 1))


def encode(values: FloatArray, theta: FloatArray | float, coding: Coding) -> FloatArray:
    """Spike train of an analog value (Theorem 2); in rate coding, the T-th part of ``values / theta`` at each step.

    The membrane starts at ``values / (theta * beta**T)``; each step multiplies it by beta, fires and subtracts.

    Args:
        values: analog values, any shape.
        theta: amplitude, broadcastable to `values`.
        coding: steps and base; `coding.signed_input` False gives the paper's positive-only encoder.

    Returns:
        Spikes of shape ``[T, *values.shape]``.
    """
    dtype = values.dtype.type
    beta, reset = dtype(coding.beta), dtype(coding.input_reset)
    if coding.constant_input:
        part = values / np.asarray(theta, dtype) * dtype(1 / coding.T)
        return np.repeat(part[None], coding.T, axis=0)
    potential = values / np.asarray(theta, dtype) * dtype(coding.input_reset * coding.beta ** (1 - coding.T))
    spikes = np.empty((coding.T, *values.shape), values.dtype)
    for t in range(coding.T):
        spikes[t] = fire(potential, negative=coding.signed_input)
        potential = (potential - reset * spikes[t]) * beta
    return spikes


def tsa(
    currents: Sequence[FloatArray],
    activation: Callable[..., FloatArray],
    coding: Coding,
    biases: Sequence[FloatArray | float] | None = None,
    theta: FloatArray | float | None = None,
) -> Firing:
    """Spikes of a TSA neuron whose activation f acts on its accumulated inputs (A.4, A.6 for ReLU).

    The membrane ``h[t] = beta * h[t-1] + z[t]`` (no input after T) holds what has arrived; a bias is what it holds
    before the first step, ``h[0] = bias * beta**-T``. Spike k is sent at t = k + L::

        o = f(h[k+L]) - p[k]      S[k] = fire(o)      p[k+1] = beta * (p[k] + reset * S[k])

    where p is what was already sent. All are in thresholds of the spike about to be sent, so a current of one theta
    comes in as `Coding.gain` (the paper's beta**-L among it). An f that is not positively homogeneous needs the value
    itself: there ``o = f(h[t] * q[t]) / (theta * q[k] / reset) - p[k]`` with ``q[t] = beta**(T-t)``, and h stays as it
    is behind T. Where that f is not finite for what has arrived so far, nothing is sent.

    Args:
        currents: one array per input of the activation, each ``[T, B, ...]``; in units of ``theta / coding.gain`` if
            `theta` is None, else in the units of f.
        activation: function of as many arrays ``[B, ...]``; may change the shape behind the batch axis.
        coding: steps, base, silent period, and whether negative spikes are allowed.
        biases: one per input, broadcastable to ``[B, ...]``, in units of the currents' sum.
        theta: amplitude of the spikes sent, for an activation that is not positively homogeneous; else None.

    Returns:
        Spikes, potentials, and the residual ``u = f(H)/theta - sum(q*S)``, H being the whole input.
    """
    dtype = currents[0].dtype.type
    beta, reset, T, L = dtype(coding.beta), dtype(coding.reset), coding.T, coding.silent
    first = dtype(coding.beta ** (1 - T))
    membranes = [
        z[0] + np.asarray(b, dtype) * first for b, z in zip(biases or [0.0] * len(currents), currents, strict=True)
    ]
    spikes: list[FloatArray] = []
    potentials: list[FloatArray] = []
    sent: FloatArray | None = None
    said: FloatArray | None = None
    for t in range(1, T + L + 1):
        if 1 < t <= T:
            membranes = [h * beta + z[t - 1] for h, z in zip(membranes, currents, strict=True)]
        elif t > T and theta is None:
            membranes = [h * beta for h in membranes]
        if t <= L:
            continue
        if theta is None:
            target = activation(*membranes)
        else:
            if t <= T or said is None:
                said = activation(*(h * dtype(coding.beta ** max(T - t, 0)) for h in membranes))
            target = said / (np.asarray(theta, dtype) * dtype(coding.beta ** (T + L - t) / coding.reset))
        potential = target if sent is None else target - sent
        if theta is not None:
            potential = np.where(np.isfinite(potential), potential, dtype(0))
        potentials.append(potential)
        spikes.append(fire(potential, negative=coding.negative).astype(dtype))
        paid = reset * spikes[-1]
        sent = (paid if sent is None else sent + paid) * beta
    left = potentials[-1] - reset * spikes[-1]
    return Firing(np.stack(spikes), np.stack(potentials), left * dtype(1 / coding.reset))


def decode(currents: FloatArray, coding: Coding) -> FloatArray:
    """Readout of a layer that integrates and never fires: ``sum(q[t] * z[t])``; ``[T, B, ...]`` to ``[B, ...]``."""
    return np.tensordot(coding.weights.astype(currents.dtype), currents, axes=1)
