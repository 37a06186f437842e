"""How fine a coding is once its timing counts: what neurons do not send of random input.

A neuron that may fire before it has received everything leaves more than rounding does. How much more, T, beta and the
silent steps determine, so one layer of random ReLUs serves for all networks:

    effective levels = levels * sqrt(1/12) / rms(u)

is the uniform quantiser that errs as much, u being residuals in units of theta (Theorem 1). Deep networks lose more.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from csscc.coding.coding import Coding
from csscc.coding.oracle import encode, tsa
from csscc.coding.thresholds import UNIFORM

NEURONS, SAMPLES = 48, 96
ROOM = 1.2  # the largest value that a train can send, of those of the ANN: nothing is to be cut off
LEAST = 1e-9


@cache
def outlook(coding: Coding) -> tuple[float, float]:
    """Levels of the uniform quantiser whose error is that of `coding`, and how many spikes a neuron sends."""
    rng = np.random.default_rng(0)
    values, weights = rng.standard_normal((SAMPLES, NEURONS)), rng.standard_normal((NEURONS, NEURONS))
    wanted, burst = np.maximum(values @ weights, 0), coding.sends_bursts
    encoder, schedule = coding.encoder(burst=burst), coding.neuron(burst=burst)
    theta_in, theta = float(np.abs(values).max()) / encoder.levels, ROOM * float(wanted.max()) / schedule.levels
    currents = encode(values, theta_in, encoder) @ weights * (theta_in / theta)
    spikes, _, residual = tsa([currents], lambda h: np.maximum(h, 0), schedule)
    left = float(np.sqrt(np.mean(np.square(residual[wanted > 0]))))  # what sends nothing has nothing left
    return schedule.levels * UNIFORM / max(left, LEAST), float(np.abs(spikes).mean()) * coding.T
