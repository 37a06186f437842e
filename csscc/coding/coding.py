"""The weights of a spike train: how much a spike at each step is worth.

Three codings are one neuron with different numbers. Canonic signed spikes: beta > 1, a silent step or two. Layer by
layer, as in few-spikes coding: a silent period of all T steps, so that a layer hears everything before it speaks. Rate
coding: beta = 1, no silent period; every spike is worth the same, and the neuron is the signed integrate-and-fire
neuron with soft reset and an initial potential of half a threshold.

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
        beta: amplification, the base of the spikes' weights; 1 is rate coding.
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
    def whole(self) -> bool:
        """Whether neurons send a spike only once all of its worth is there, not at half of it.

        Half halves the error, but without negative spikes nothing could take back what was sent too early. In rate
        coding that is no loss, and half is the initial potential of half a threshold (Bu et al. 2022).
        """
        return not self.negative and self.beta != 1

    @property
    def constant_input(self) -> bool:
        """Whether the encoder sends the value itself, as the same current at each step.

        Spikes of equal worth have no order in which to say a value, and rate-coded networks are fed so.
        """
        return self.beta == 1

    @property
    def levels(self) -> float:
        """Largest encodable value in units of theta, ``(beta**T - 1) / (beta - 1)``; T for a beta of 1."""
        return float(self.weights.sum())
