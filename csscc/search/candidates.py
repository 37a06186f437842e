"""Settings that a search looks at: which there are, what is known of each, and which is better."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from csscc.coding.coding import Coding
from csscc.measure.costs import Costs, Outline
from csscc.search.objectives import Objective

BETAS = (1.5, 2.0, 2.5, 3.0)
SILENT = (0, 1, 2, 3)
PAYS = 0.9


@dataclass(frozen=True)
class Candidate:
    """A setting, and what is known of it.

    Attributes:
        T, beta, silent: the coding.
        changes: other options that differ from the preset.
        predicted: loss that the fake-quantised ANN predicts, see `Agreement.expected_loss`.
        hopeless: whether the prediction is so bad that spikes were not tried.
        confirmed: loss of the spiking network on all calibration samples; None where it ran on a part of them, which
            the figures below are of, or not at all.
        cautious: what the loss on other samples should not exceed, see `Agreement.cautious_loss`; within the budget.
        interval, latency, passes: of the spiking network, see `csscc.measure.costs.Costs`.
        error: RMS of the outputs' error relative to the ANN's, of the spiking network; percent.
        synaptic_operations: additions caused by spikes, one sample.
        spikes_per_neuron: for one sample, both signs.
    """

    T: int
    beta: float
    silent: int
    predicted: float = math.nan
    hopeless: bool = False
    changes: dict[str, Any] = field(default_factory=dict)
    confirmed: float | None = None
    cautious: float | None = None
    interval: int | None = None
    latency: int | None = None
    passes: float | None = None
    error: float | None = None
    synaptic_operations: float | None = None
    spikes_per_neuron: float | None = None

    @property
    def options(self) -> dict[str, Any]:
        """As arguments of `csscc.compile`."""
        return {"T": self.T, "beta": self.beta, "silent": self.silent, **self.changes}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def groups(steps: Iterable[int], objective: Objective, outline: Outline) -> list[list[Candidate]]:
    """Candidates that cost the same, the cheapest first; of those that make as many passes, the fewest steps first.

    Operations grow with the steps. Without silent steps little holds, and only what counts them gains by it.
    """
    by_cost: dict[tuple[float, int], list[Candidate]] = {}
    for T in sorted(set(steps)):
        for silent in _silent(T, objective):
            for beta in BETAS:
                costs = outline.costs(Coding(T, beta, silent))
                by_cost.setdefault(_rank(costs, objective), []).append(Candidate(T, beta, silent))
    return [by_cost[cost] for cost in sorted(by_cost)]


def _silent(steps: int, objective: Objective) -> list[int]:
    """Silent steps to consider; one fewer than coding steps leaves one pass."""
    least = 0 if objective in ("latency", "interval") else 1
    most = {steps - 1} if objective == "convolutions" else set[int]()
    return sorted(s for s in {*SILENT, *most} if least <= s <= steps)


def _rank(costs: Costs, objective: Objective) -> tuple[float, int]:
    if objective == "convolutions":
        return costs.passes, costs.steps
    return {"latency": costs.latency, "interval": costs.interval}.get(objective, costs.steps), 0


def cost_of(candidate: Candidate, objective: Objective) -> float:
    """What a candidate costs, infinite where it is not known."""
    costs: dict[Objective, float | None] = {
        "steps": candidate.T,
        "latency": candidate.latency,
        "interval": candidate.interval,
        "convolutions": candidate.passes,
        "synops": candidate.synaptic_operations,
    }
    cost = costs[objective]
    return math.inf if cost is None else cost


def best_of(candidates: list[Candidate], max_loss: float, objective: Objective) -> Candidate:
    """The cheapest within the budget; of several, the one of least error; else the one that loses least.

    More latency, or another option, must pay: an error that is less than a tenth smaller is not worth it.
    """
    within = [c for c in candidates if loss_of(c) <= max_loss]
    if not within:
        return min(candidates, key=loss_of)
    least = min(cost_of(c, objective) for c in within)
    best, *others = sorted((c for c in within if cost_of(c, objective) == least), key=lambda c: c.latency or 0)
    for candidate in others:
        if error_of(candidate) < PAYS * error_of(best):
            best = candidate
    return best


def loss_of(candidate: Candidate) -> float:
    """The loss that counts: the cautious one, infinite where nothing is known."""
    return math.inf if candidate.cautious is None else candidate.cautious


def error_of(candidate: Candidate) -> float:
    """The error of the outputs, infinite where nothing is known."""
    return math.inf if candidate.error is None else candidate.error


def likely(candidate: Candidate) -> tuple[float, float]:
    """What to order candidates by that were not run on all samples, the best first."""
    return error_of(candidate), candidate.predicted


def beats(one: Candidate, other: Candidate) -> bool:
    """Whether one is at least as good in steps, latency and loss, and better in one of them."""
    a, b = _figures(one), _figures(other)
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


def _figures(candidate: Candidate) -> tuple[float, float, float]:
    return candidate.T, candidate.latency or 0, loss_of(candidate)
