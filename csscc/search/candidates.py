"""Settings that a search looks at, and what is known of each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from csscc.coding.coding import Coding
from csscc.measure.costs import Outline
from csscc.search.objectives import Quantity

BETAS = (1.5, 1.75, 2.0, 2.2, 2.5, 3.0, 3.5, 4.0, 5.0)
SILENT = (0, 1, 2, 3)
Silent = int | Literal["auto"]
Stage = Literal["predicted", "tried", "confirmed"]


@dataclass(frozen=True)
class Candidate:
    """A setting, and what is known of it.

    Attributes:
        T, beta: the coding.
        silent: silent steps of every layer, or ``auto``.
        changes: other options that differ from the preset.
        stage: where the figures below come from: a quantised ANN predicts them (costs are exact but for ``auto``); the
            spiking network, compiled and run on a part of the calibration samples, or on all of them.
        predicted: expected loss that the quantised ANN predicts.
        expected: loss to expect on other samples, see `csscc.measure.agreement.Agreement.expected_at`.
        cautious: what the loss on other samples should not exceed, see `Agreement.cautious_at`; within the budget.
        error: RMS of the outputs' error relative to the ANN's; percent.
        interval, latency, passes: see `csscc.measure.costs.Costs`.
        spikes_per_neuron: for one sample, both signs.
        synaptic_operations: additions caused by spikes, one sample.
    """

    T: int
    beta: float
    silent: Silent
    changes: dict[str, Any] = field(default_factory=dict)
    stage: Stage = "predicted"
    predicted: float = math.nan
    expected: float = math.inf
    cautious: float = math.inf
    error: float = math.inf
    interval: int = 0
    latency: int = 0
    passes: float = 0.0
    spikes_per_neuron: float = math.nan
    synaptic_operations: float = math.nan

    @property
    def options(self) -> dict[str, Any]:
        """As arguments of `csscc.compile`."""
        return {"T": self.T, "beta": self.beta, "silent": self.silent, **self.changes}

    @property
    def name(self) -> str:
        """Part of a file's name: ``T4-beta2.2-auto``."""
        others = "".join(f"-{key}-{value}" for key, value in self.changes.items())
        silent = "auto" if self.silent == "auto" else f"L{self.silent}"
        return f"T{self.T}-beta{self.beta:g}-{silent}{others}"

    def figure(self, quantity: Quantity) -> float:
        """What is known of a quantity."""
        return {
            "steps": self.T,
            "latency": self.latency,
            "interval": self.interval,
            "time": self.passes,
            "spikes": self.spikes_per_neuron,
            "synops": self.synaptic_operations,
            "loss": self.cautious,
            "error": self.error,
        }[quantity]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Candidate:
        """The candidate that `as_dict` made; JSON has no numbers that are not finite."""
        unknown: dict[str, Any] = {n: math.nan for n in ("predicted", "spikes_per_neuron", "synaptic_operations")}
        return Candidate(**{k: unknown.get(k, math.inf) if v is None else v for k, v in values.items()})


def candidates(steps: Iterable[int], outline: Outline) -> Iterator[Candidate]:
    """Every combination of T, beta and silent steps, with its costs; one fewer than coding steps leaves one pass."""
    for T in sorted(set(steps)):
        silents: list[Silent] = [*sorted({s for s in (*SILENT, T - 1) if s <= T}), "auto"]
        for silent in silents:
            codings = [Coding(T, beta, silent if isinstance(silent, int) else Coding.silent) for beta in BETAS]
            for coding in (c for c in codings if c.is_possible):
                costs = outline.costs(coding)
                yield Candidate(
                    T, coding.beta, silent, interval=costs.interval, latency=costs.latency, passes=costs.passes
                )  # fmt: skip
