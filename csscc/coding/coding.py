"""The weights of a spike train: how much a spike at each step counts.

Five codings are one neuron with different numbers. Canonic signed spikes: beta > 1, a silent step or two. Layer by
layer, as in few-spikes coding: a silent period of all T steps, so that a layer receives all of its input before it
fires. Rate coding: beta = 1, no silent period; every spike has the same weight, and the neuron is the signed
integrate-and-fire neuron with soft reset and an initial potential of half a threshold. Time to first spike: the weight
of a spike falls from T to 1, one step at a time, and a neuron that has received everything sends one spike or none.
Temporal switch coding (Han and Roy 2020): the same weights, but two spikes whose distance in time is the value, the
first one at once and the second of the other sign.

`T` coding steps, amplification `beta`; a spike at step t (1..T) has the weight ``q[t] = beta**(T-t)`` units of the
layer's amplitude theta, and a train encodes ``a = theta * sum(q[t] * S[t])`` (paper, Eq. 8).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from csscc.coding.schedule import PRECISION, ROOM, Head, Schedule
from csscc.coding.thresholds import UNIFORM, at_nearest, halves, just_below, least_residual, residual_rms

if TYPE_CHECKING:  # the command line's help reads defaults from here and must not wait for NumPy
    import numpy as np
    from numpy.typing import NDArray


EXACT_BETAS = (2, 3)  # with which a train sends every whole number up to its levels
EXACT_IN_BURSTS = (2, 3, 4, 5)  # and with which bursts do
SINGLE = 3.0  # the largest beta with which trains of single spikes leave no gaps
NEARLY = 0.01  # as good as a uniform quantiser of theta
FEW = 128  # levels: with the sign, fewer than those of 8 bits
AMPLE = 512  # levels, where twice as many make little difference
FINEST = 16384  # levels, where twice as many would make none
# Short fractions, of which sums of merged steps are exact.
USUAL_BETAS = (5.0, 4.0, 3.5, 3.0, 2.5, 2.0, 1.875, 1.75, 1.6875, 1.625, 1.5625, 1.5, 1.375, 1.25, 1.125)
LARGEST = (2.0, 4.0, 5.0)  # beta without a silent step or bursts, with one silent step, with more
MANY = 1024  # levels, where a larger beta than 3 costs more by what cannot be sent later than it rounds less


@dataclass(frozen=True)
class Coding:
    """Canonic Signed Spike coding. T, beta and L are the paper's where they are left out.

    Attributes:
        T: coding steps.
        beta: amplification, the base of the spikes' weights; 1 is rate coding.
        silent: steps for which each layer only receives before it may fire (L).
        negative: whether neurons may send negative spikes; without them they fire at a full spike, not at half
            of one, since nothing could take back what was sent too early.
        halves: whether spikes are sent from half of their weight on, as in the paper; else at the thresholds that leave
            the least, see `csscc.coding.thresholds`.
        signed_input: whether the encoder sends negative spikes; False is the paper's encoder for inputs >= 0.
        linear: time to first spike: the weight of step t is ``T + 1 - t`` whatever beta is; one spike is sent at most.
        switched: with `linear`, temporal switch coding: two spikes, at the first step and when the value is reached.
        bursts: whether neurons may send up to two spikes at a step, see `sends_bursts`.
        split: whether an input may be sent as two trains, see `splits_inputs`.
    """

    T: int = 12
    beta: float = 1.5
    silent: int = 1
    negative: bool = True
    signed_input: bool = True
    linear: bool = False
    halves: bool = False
    switched: bool = False
    bursts: bool = True
    split: bool = True

    @property
    def weights(self) -> NDArray[np.float64]:
        """Weight of a spike at each step, ``beta**(T-t)`` for t = 1..T, in units of theta; shape [T]."""
        import numpy as np

        return np.array(self._weights)

    @property
    def levels(self) -> float:
        """Largest encodable value in units of theta, ``(beta**T - 1) / (beta - 1)``; T for a beta of 1."""
        return min(sum(self._weights), self._most)

    def encoder(self, *, burst: bool = False) -> Schedule:
        """What an encoder does at each step; with `burst`, in bursts.

        Spikes of equal weight have no order that could code a value: rate-coded networks are fed a constant current.
        """
        signed = self.signed_input or self.switched
        constant = self.beta == 1 and not self.linear
        thresholds = self._thresholds(negative=signed, full=not signed)
        return Schedule(
            self._weights, negative=signed, burst=burst, thresholds=thresholds, constant=constant, most=self._most
        )

    @property
    def sends_bursts(self) -> bool:
        """Whether neurons and encoders send bursts: up to two spikes of either sign a step.

        With two spikes at a step, a train sends twice as much, so theta halves. And twice as much can be added later,
        or taken back, of what was not known when a spike was decided: larger betas and fewer silent steps do.
        """
        falls = self.beta > 1 and not self.linear
        return self.bursts and self.negative and falls and self.levels < FINEST

    @property
    def needs_bursts(self) -> bool:
        """Whether trains of single spikes leave gaps between the values that they send."""
        return self.beta > SINGLE

    @property
    def is_possible(self) -> bool:
        """Whether all of its trains send bursts where they need to."""
        return not self.needs_bursts or (self.sends_bursts and self.signed_input)

    @property
    def usual_beta(self) -> float:
        """The beta that leaves least at this T: the largest with which a train has few enough levels.

        The larger beta is, the more levels a train has, and the less of a value that changes can be sent later. Up to 3
        the levels matter more while there are less than 16384 of them, above 3 while there are less than 1024; above 2
        only where neurons send bursts and wait for a silent step, above 4 where they wait for two.
        """
        silent = min(self.silent, len(LARGEST) - 1) if self.bursts and self.negative else 0
        betas = [b for b in USUAL_BETAS if b <= LARGEST[silent]]
        few = (b for b in betas if replace(self, beta=b).levels < (FINEST if b <= SINGLE else MANY))
        return next(few, betas[-1])

    @property
    def grows_fast(self) -> bool:
        """Whether beta is larger than the usual one, so that little of a value that changes can be sent later."""
        return self.T > 1 and self.beta > self.usual_beta and not self.linear

    @property
    def splits_inputs(self) -> bool:
        """Whether an input is sent as two trains, its high digits and its low ones, since one has few levels.

        A spike of the low digits counts a part of the last one of the high digits, which must be whole numbers of it.
        """
        return self.split and self.is_exact(burst=self.sends_bursts) and self.levels < FEW

    def is_exact(self, *, burst: bool) -> bool:
        """Whether a train, or with `burst` one of bursts, sends every whole number up to its levels."""
        return self.beta in (EXACT_IN_BURSTS if burst else EXACT_BETAS)

    def neuron(self, silent: int | None = None, *, burst: bool = False) -> Schedule:
        """What a neuron does at each step, with `silent` silent steps or those of the coding; with `burst`, in bursts.

        Without negative spikes, neurons fire only at a full spike; in rate coding, half of one is the initial
        potential of half a threshold (Bu et al. 2022), and no loss. Where most spikes share a target and beta is
        an integer, they are the digits of one rounding.
        """
        L = self.T if self.linear else self.silent if silent is None else silent
        full = not self.negative and self.beta != 1
        return Schedule(
            self._weights,
            silent=L,
            merged=self._merged(L + 1),
            rounded=self.negative and self.is_exact(burst=burst) and 2 * L + 1 >= self.T,
            negative=self.negative,
            burst=burst,
            thresholds=self._thresholds(negative=self.negative, full=full),
            most=self._most,
        )

    @property
    def uniform_levels(self) -> float:
        """Levels of the uniform quantiser that rounds as well as a neuron that receives all before it fires."""
        schedule = self.neuron(burst=self.sends_bursts)
        finer = UNIFORM / residual_rms(schedule.weights, schedule.thresholds, schedule.counts[1])
        return self.levels if math.isclose(finer, 1, rel_tol=NEARLY) else self.levels * finer

    def _thresholds(self, *, negative: bool, full: bool) -> tuple[float, ...]:
        if self.linear:
            return at_nearest(self._weights, at_once=self.switched)
        if full:
            return tuple(just_below(w) for w in self._weights)
        best = negative and not self.halves and not self.needs_bursts
        return least_residual(self._weights) if best else halves(self._weights)

    @property
    def _most(self) -> float:
        """A value of up to T needs one spike, or two of a sign each; a larger one would be sent another."""
        return float(self.T) if self.linear else math.inf

    @property
    def _weights(self) -> tuple[float, ...]:
        return self._falling(self.T)

    def _falling(self, steps: int) -> tuple[float, ...]:
        """The weights of the spikes of so many steps, in units of the last one."""
        return tuple(float(t) if self.linear else float(self.beta) ** (t - 1) for t in range(steps, 0, -1))

    def _merged(self, most: int) -> tuple[float, ...]:
        """The longest head of a train, of up to `most` steps, for which one tensor can stand without rounding.

        A sum takes bits from the grid of the weights, which the levels of a value need the more the finer they are: at
        T = 10 and beta = 2.5, merging four steps in place of two triples the error of a ResNet-20.
        """
        room = min(ROOM, PRECISION - math.log2(self.levels))
        least = self.T if self.linear else 2  # a shorter head does not fall to 1
        lengths = range(min(most, self.T), least - 1, -1) if self.beta > 1 or self.linear else ()
        return next((w for w in map(self._falling, lengths) if Head(w, self._most).bits <= room), (1.0,))
