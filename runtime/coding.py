"""The weights of a spike train: how much a spike at each step is worth.

`T` coding steps, amplification `beta`; a spike at step t (1..T) is worth ``q[t] = beta**(T-t)`` units of the
layer's amplitude theta, and a train encodes ``a = theta * sum(q[t] * S[t])`` (paper, Eq. 8).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Coding:
    """Canonic Signed Spike coding: its steps, its base, its silent period and whether spikes may be negative."""

    T: int = 12
    beta: float = 1.5
    silent: int = 1
    negative: bool = True

    @property
    def weights(self) -> NDArray[np.float64]:
        """Worth of a spike at each step, ``beta**(T-t)`` for t = 1..T, in units of theta; shape [T]."""
        return self.beta ** np.arange(self.T - 1, -1, -1, dtype=np.float64)

    @property
    def levels(self) -> float:
        """Largest encodable value in units of theta, ``(beta**T - 1) / (beta - 1)``."""
        return float(self.weights.sum())

    def accumulator(self, *, scaled: bool) -> NDArray[np.float64]:
        """Matrix that turns currents z[1..T] into what the neuron knows when it sends each spike.

        Row k holds ``q[t]`` for every step t that has arrived when spike k is decided, t <= min(k + silent, T).
        With `scaled`, row k is divided by ``q[k]``: the membrane in units of the spike about to be sent.
        Shape [T, T].
        """
        q = self.weights
        arrived = np.arange(self.T)[None, :] <= np.arange(self.T)[:, None] + self.silent
        matrix = np.where(arrived, q[None, :], 0.0)
        return matrix / q[:, None] if scaled else matrix
