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

from csscc.coding.schedule import ROOM, Schedule, bits_of


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
        return np.array(self._worth)

    @property
    def levels(self) -> float:
        """Largest encodable value in units of theta, ``(beta**T - 1) / (beta - 1)``; T for a beta of 1."""
        return self.encoder.levels

    @property
    def encoder(self) -> Schedule:
        """What an encoder does at each step.

        Spikes of equal worth have no order in which to say a value: rate-coded networks are fed a constant current.
        """
        signed = self.signed_input
        return Schedule(self._worth, negative=signed, whole=not signed, constant=self.beta == 1)

    def neuron(self, silent: int | None = None) -> Schedule:
        """What a neuron does at each step, with `silent` silent steps or those of the coding.

        Without negative spikes, neurons fire only at a whole spike; in rate coding, half of one is the initial
        potential of half a threshold (Bu et al. 2022), and no loss. Where most spikes share a target and beta is
        whole, they are the digits of one rounding.
        """
        L = self.silent if silent is None else silent
        return Schedule(
            self._worth,
            silent=L,
            merged=self._merged(L + 1),
            rounded=self.negative and self.beta in (2, 3) and 2 * L + 1 >= self.T,
            negative=self.negative,
            whole=not self.negative and self.beta != 1,
        )

    @property
    def _worth(self) -> tuple[float, ...]:
        return self._powers(self.T)

    def _powers(self, steps: int) -> tuple[float, ...]:
        return tuple(float(self.beta) ** (steps - t) for t in range(1, steps + 1))

    def _merged(self, most: int) -> tuple[float, ...]:
        """The longest head of a train, of up to `most` steps, for which one tensor can stand without rounding."""
        lengths = range(min(most, self.T), 1, -1) if self.beta > 1 else ()
        return next((w for w in map(self._powers, lengths) if bits_of(w) <= ROOM), (1.0,))
