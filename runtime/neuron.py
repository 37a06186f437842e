"""The Ternary Self-Amplifying neuron, its encoder and its decoder, step by step in NumPy.

These free functions are the numerics that every emitted form must reproduce; they follow the recurrences of the
paper (Algorithm 1, Theorem 2, A.4, A.6) one step at a time and know nothing of ONNX. Arrays have time first:
currents and spikes are ``[T, ...]``. All of them keep the dtype they are given, so that float64 serves as oracle.

A spike is sent when the magnitude of the potential exceeds half a spike. On an exact tie none is sent (the paper
writes >=): rounding half to even is what every runtime offers, and both choices leave a residual of one half.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from csscc.runtime.coding import Coding

FloatArray = NDArray[np.floating]


def fire(potential: FloatArray, *, negative: bool = True) -> FloatArray:
    """Ternary spikes of a membrane potential given in units of one spike.

    Returns +1 above 1/2, -1 below -1/2 (0 there if not `negative`), else 0; same shape and dtype.
    """
    return np.clip(np.rint(potential), -1 if negative else 0, 1)


def encode(values: FloatArray, theta: FloatArray | float, coding: Coding) -> FloatArray:
    """Spike train of an analog value (Theorem 2).

    The membrane starts at ``values / (theta * beta**T)``; each step multiplies it by beta, fires and subtracts.

    Args:
        values: analog values, any shape.
        theta: amplitude, broadcastable to `values`.
        coding: steps and base; `coding.negative` False gives the paper's positive-only encoder.

    Returns:
        Spikes of shape ``[T, *values.shape]``.
    """
    dtype = values.dtype.type
    beta = dtype(coding.beta)
    membrane = values / np.asarray(theta, dtype) / dtype(coding.beta**coding.T)
    spikes = np.empty((coding.T, *values.shape), values.dtype)
    for t in range(coding.T):
        membrane = membrane * beta
        spikes[t] = fire(membrane, negative=coding.negative)
        membrane = membrane - spikes[t]
    return spikes


def tsa(
    currents: Sequence[FloatArray],
    activation: Callable[..., FloatArray],
    theta: FloatArray | float,
    coding: Coding,
    biases: Sequence[FloatArray | float] | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Spikes of a TSA neuron whose activation acts on its accumulated inputs (A.4, A.6 for ReLU).

    With ``H[t] = bias + sum(q[i] * z[i], i <= t)``, spike k is sent when silent more steps have arrived:
    ``S[k] = fire(activation(H[k+L]) / (theta * q[k]) - p[k])`` where ``p[k] = beta * (p[k-1] + S[k-1])`` is what was
    already sent, in units of the spike about to be sent.

    Args:
        currents: one array per input of the activation, each ``[T, B, ...]``.
        activation: function of as many arrays ``[B, ...]``; may change the shape behind the batch axis.
        theta: amplitude of the spikes sent, in units of the activation's value.
        coding: steps, base, silent period, and whether negative spikes are allowed.
        biases: one per input, known from the first step on; broadcastable to ``[B, ...]``.

    Returns:
        The spikes ``[T, B, ...]`` and the residual ``u = activation(H[T])/theta - sum(q*S)``, in units of theta.
    """
    dtype = currents[0].dtype.type
    beta, weights = dtype(coding.beta), coding.weights.astype(dtype)
    theta = np.asarray(theta, dtype)
    totals = [
        np.broadcast_to(np.asarray(b, dtype), z.shape[1:]) for b, z in zip(biases or [0] * len(currents), currents, strict=True)
    ]
    arrived = 0
    spikes: list[FloatArray] = []
    sent: FloatArray | None = None
    for k in range(coding.T):
        while arrived < min(k + 1 + coding.silent, coding.T):
            totals = [h + weights[arrived] * z[arrived] for h, z in zip(totals, currents, strict=True)]
            arrived += 1
        target = activation(*totals) / theta / weights[k]
        potential = target if sent is None else target - sent
        spikes.append(fire(potential, negative=coding.negative).astype(dtype))
        residual = potential - spikes[k]
        sent = beta * (spikes[k] if sent is None else sent + spikes[k])
    return np.stack(spikes), residual


def decode(currents: FloatArray, coding: Coding) -> FloatArray:
    """Readout of a layer that integrates and never fires: ``sum(q[t] * z[t])``; ``[T, B, ...]`` to ``[B, ...]``."""
    return np.tensordot(coding.weights.astype(currents.dtype), currents, axes=1)
