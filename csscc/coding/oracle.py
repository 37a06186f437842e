"""The Ternary Self-Amplifying neuron, its encoder and its decoder, step by step in NumPy.

These free functions are the numerics that every emitted form must reproduce; they follow the recurrences of the
paper (Algorithm 1, Theorem 2, A.4, A.6) one step at a time and know nothing of ONNX. Arrays have time first:
currents and spikes are ``[T, ...]``. All of them keep the dtype they are given, so that float64 serves as oracle.

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

from csscc.coding.coding import Coding

FloatArray = NDArray[np.floating]


class Firing(NamedTuple):
    """What a neuron did: spikes and potentials before firing ``[T, B, ...]``, and the residual ``[B, ...]``.

    Potentials are in units of the spike about to be sent, ``theta * q[k]`` for spike k; the residual in units of theta.
    """

    spikes: FloatArray
    potentials: FloatArray
    residual: FloatArray


def fire(potential: FloatArray, worth: float, *, negative: bool = True, whole: bool = False) -> FloatArray:
    """The spike that a potential causes where a spike is worth `worth`, in the same units; same shape and dtype.

    +1 above half of `worth`, with negative spikes -1 below minus half of it, else 0. A `whole` neuron sends 0 or 1: +1
    from `worth` on.
    """
    if whole:
        return (potential >= worth).astype(potential.dtype)
    half = potential.dtype.type(worth / 2)
    spikes = (potential > half).astype(potential.dtype)
    return spikes - (potential < -half) if negative else spikes


def encode(values: FloatArray, theta: FloatArray | float, coding: Coding) -> FloatArray:
    """Spike train of an analog value (Theorem 2); in rate coding, the T-th part of ``values / theta`` at each step.

    The membrane starts at ``values / theta``; each step fires and subtracts what the spike is worth, ``q[t]``.

    Args:
        values: analog values, any shape.
        theta: amplitude, broadcastable to `values`.
        coding: steps and base; `coding.signed_input` False gives the paper's positive-only encoder.

    Returns:
        Spikes of shape ``[T, *values.shape]``.
    """
    dtype = values.dtype.type
    potential = values / np.asarray(theta, dtype)
    if coding.constant_input:
        return np.repeat((potential * dtype(1 / coding.T))[None], coding.T, axis=0)
    spikes = np.empty((coding.T, *values.shape), values.dtype)
    for t, worth in enumerate(coding.weights.astype(dtype)):
        spikes[t] = fire(potential, worth, negative=coding.signed_input, whole=not coding.signed_input)
        potential = potential - worth * spikes[t]
    return spikes


def tsa(
    currents: Sequence[FloatArray],
    activation: Callable[..., FloatArray],
    coding: Coding,
    biases: Sequence[FloatArray | float] | None = None,
    theta: FloatArray | float | None = None,
) -> Firing:
    """Spikes of a TSA neuron whose activation f acts on its accumulated inputs (A.4, A.6 for ReLU).

    The membrane ``h[t] = h[t-1] + q[t] * z[t]`` (no input after T) holds what has arrived, from the start its bias:
    ``h[0] = bias``. Spike k is sent at t = k + L, of what is still to be sent::

        o = f(h[k+L]) - p[k-1]      S[k] = fire(o, q[k])      p[k] = p[k-1] + q[k] * S[k]

    where p is what was already sent, ``p[0] = 0``. An f that is not positively homogeneous needs the source's units:
    there ``o = f(h[k+L]) / theta - p[k-1]``. Where that f is not finite for what has arrived so far, nothing is sent.

    Args:
        currents: one array per input of the activation, each ``[T, B, ...]``; in units of theta if `theta` is None,
            else in the units of f.
        activation: function of as many arrays ``[B, ...]``; may change the shape behind the batch axis.
        coding: steps, base, silent period, and whether negative spikes are allowed.
        biases: one per input, broadcastable to ``[B, ...]``, in units of the currents' weighted sum.
        theta: amplitude of the spikes sent, for an activation that is not positively homogeneous; else None.

    Returns:
        Spikes, potentials, and the residual ``u = f(H)/theta - sum(q*S)``, H being the whole input.
    """
    dtype = currents[0].dtype.type
    q, T, L = coding.weights.astype(dtype), coding.T, coding.silent
    membranes = [np.asarray(b, dtype) for b in biases or [0.0] * len(currents)]
    spikes: list[FloatArray] = []
    potentials: list[FloatArray] = []
    target: FloatArray = np.zeros((), dtype)
    sent: FloatArray = np.zeros((), dtype)
    potential = target
    for t in range(1, T + L + 1):
        if t <= T:
            membranes = [h + z[t - 1] * q[t - 1] for h, z in zip(membranes, currents, strict=True)]
        k = t - L
        if k < 1:
            continue
        if t <= T or k == 1:
            target = activation(*membranes)
            if theta is not None:
                target = target / np.asarray(theta, dtype)
        potential = target - sent
        if theta is not None:
            potential = np.where(np.isfinite(potential), potential, dtype(0))
        potentials.append(potential / q[k - 1])
        spikes.append(fire(potential, q[k - 1], negative=coding.negative, whole=coding.whole))
        sent = sent + q[k - 1] * spikes[-1]
    return Firing(np.stack(spikes), np.stack(potentials), potential - spikes[-1])


def decode(currents: FloatArray, coding: Coding) -> FloatArray:
    """Readout of a layer that integrates and never fires: ``sum(q[t] * z[t])``; ``[T, B, ...]`` to ``[B, ...]``."""
    return np.tensordot(coding.weights.astype(currents.dtype), currents, axes=1)
