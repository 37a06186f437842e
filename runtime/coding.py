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
    """Canonic Signed Spike coding.

    Attributes:
        T: coding steps.
        beta: amplification, the base of the spikes' weights.
        silent: steps each layer listens before it may fire (L).
        negative: whether neurons may send negative spikes; without them they fire at a whole spike, not at half
            of one, since nothing could take back what was sent too early.
        signed_input: whether the encoder sends negative spikes; False is the paper's encoder for inputs >= 0.
    """

    T: int = 12
    beta: float = 1.5
    silent: int = 1
    negative: bool = True
    signed_input: bool = True

    @property
    def weights(self) -> NDArray[np.float64]:
        """Worth of a spike at each step, ``beta**(T-t)`` for t = 1..T, in units of theta; shape [T]."""
        return self.beta ** np.arange(self.T - 1, -1, -1, dtype=np.float64)

    @property
    def reset(self) -> float:
        """What a spike takes from a neuron's potential, in units of the threshold it fires at.

        2 for ternary spikes, which are sent at half of what they are worth: that halves the error. 1 without negative
        spikes: nothing could take back what was sent too early, so a spike is sent at all of its worth.
        """
        return 2.0 if self.negative else 1.0

    @property
    def input_reset(self) -> float:
        """The same for the encoder."""
        return 2.0 if self.signed_input else 1.0

    @property
    def gain(self) -> float:
        """Thresholds a potential gains by a current of one theta: a spike is worth `reset` of them L steps later."""
        return self.reset * self.beta**-self.silent

    @property
    def levels(self) -> float:
        """Largest encodable value in units of theta, ``(beta**T - 1) / (beta - 1)``."""
        return float(self.weights.sum())
