"""The settings that no other beats in two quantities, and the order in which a search looks at settings.

A search advances the most promising settings, a few at a time, from what a quantised ANN predicts to a trial with
spikes on a part of the samples, and from there to a run on all of them. It leaves a setting where it is once a
confirmed one beats it, even if it were better than it looks: losses may be `HOPE` times what was found so far, spikes
`COUNTING` times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from csscc.search.candidates import Candidate, Stage
from csscc.search.objectives import QUALITIES, Quantity

HOPE: dict[Stage, float] = {"predicted": 0.5, "tried": 0.7, "confirmed": 1.0}
COUNTED: tuple[Quantity, Quantity] = ("spikes", "synops")  # costs that are not known before
COUNTING: dict[Stage, float] = {"predicted": 0.6, "tried": 0.95, "confirmed": 1.0}
TOGETHER = 4  # settings advanced at a time, by one process or several: the search is the same
Place = tuple[float, float, tuple[float, ...]]  # on both axes, and what those at one place differ in


@dataclass(frozen=True)
class Aim:
    """What a search is after.

    Attributes:
        axes: what is to be small: two costs, or a cost and a quality.
        enough: losses (or errors) below it are as good as this.
        most: settings whose cautious loss exceeds it are out of the question.
    """

    axes: tuple[Quantity, Quantity]
    enough: float
    most: float

    def place(self, candidate: Candidate, hope: float = 1.0) -> Place:
        """Where a candidate stands on the axes, its loss and error multiplied by `hope`.

        Settings at one place differ in latency, steps and passes.
        """

        def along(quantity: Quantity) -> float:
            value = candidate.figure(quantity)
            if quantity in QUALITIES:
                return max(hope * value, self.enough)
            return value * (COUNTING[candidate.stage] if quantity in COUNTED and hope < 1 else 1)

        x, y = self.axes
        return along(x), along(y), (candidate.latency, candidate.T, candidate.passes)

    def allows(self, candidate: Candidate, hope: float = 1.0) -> bool:
        """Whether the loss is not out of the question."""
        return hope * candidate.cautious <= self.most

    def front(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Those that no other beats, by the first axis."""
        kept: list[Candidate] = []
        for candidate in sorted(filter(self.allows, candidates), key=lambda c: (self.place(c), c.error)):
            if not kept or not beats(self.place(kept[-1]), self.place(candidate)):
                kept.append(candidate)
        return kept


def beats(one: Place, other: Place) -> bool:
    """Whether one place is at least as good on both axes, and if it is the same place, in what settings differ."""
    return one[0] <= other[0] and one[1] <= other[1] and (one[:2] != other[:2] or one[2] <= other[2])


def search(
    known: Sequence[Candidate],
    aim: Aim,
    advance: Callable[[list[Candidate]], list[Candidate]],
    corrected: Callable[[list[Candidate]], list[Candidate]] = list,
) -> list[Candidate]:
    """Advance what may be on the front until nothing else may; all candidates with what is known of them then.

    Args:
        known: candidates as predicted.
        aim: what is wanted.
        advance: gives candidates back with what trials, or runs on all samples, find.
        corrected: mends the predictions among all candidates by what trials found.
    """
    known = list(known)
    while chosen := _promising(known, aim):
        for index, found in zip(chosen, advance([known[i] for i in chosen]), strict=True):
            known[index] = found
        known = corrected(known)
    return known


def _promising(known: list[Candidate], aim: Aim) -> list[int]:
    """Which to advance next: those that as things look are on the front of all that may be on it."""
    sure = [aim.place(c) for c in known if c.stage == "confirmed" and aim.allows(c)]

    def may(c: Candidate) -> bool:
        hope = HOPE[c.stage]
        place = aim.place(c, hope)
        return aim.allows(c, hope) and not any(beats(s, place) for s in sure)

    waiting = {id(c): i for i, c in enumerate(known) if c.stage != "confirmed" and may(c)}
    chosen: list[int] = []
    while waiting and len(chosen) < TOGETHER:
        left = [known[i] for i in waiting.values()]
        best = aim.front(left) or [min(left, key=lambda c: (c.cautious, aim.place(c)))]
        chosen += [waiting.pop(id(c)) for c in best]
    return chosen[:TOGETHER]
