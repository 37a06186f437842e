"""Find the coding that keeps the accuracy at the least cost, whichever of `csscc.search.objectives` is asked for.

Candidates are combinations of T, beta and L, the cheapest first; those that cost the same are looked at together:

1. A fake-quantised ANN (`csscc.passes.convert.fake_quantise`) predicts each at one T-th of the cost. Where even that
   loses far too much, spikes would too.
2. What is left is compiled and run on a part of the calibration samples, with one more silent step a layer as long as
   that pays.
3. The best there, and the one whose outputs err least, are compiled and run on all samples. If one of them keeps the
   budget, the search is over.

For the best, other ways to choose amplitudes are tried, and silent steps only in the layers that need them; first on a
part of the samples as well. Test data plays no part.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx

from csscc import api
from csscc.dialect.sizes import Shapes
from csscc.errors import UsageError
from csscc.io.data import ImageOptions
from csscc.io.finite import finite
from csscc.options import make_options
from csscc.search import Progress
from csscc.search.bench import Bench
from csscc.search.candidates import PAYS, Candidate, beats, best_of, error_of, groups, likely, loss_of
from csscc.search.objectives import OBJECTIVES, Objective
from csscc.snn import SNN

STEPS = (3, 4, 5, 6, 7, 8, 10, 12, 14, 16)
HOPELESS = 2.0
CHANGES: tuple[dict[str, Any], ...] = (
    {"method": "percentile"},
    {"method": "max"},
    {"correct_bias": False},
    {"silent": "auto"},
)


@dataclass(frozen=True)
class Tuning:
    """The outcome of a search.

    Attributes:
        snn: the network of `chosen`.
        chosen: the cheapest candidate whose cautious loss is within the budget, else the one that loses least.
        candidates: all that were looked at, in order.
        holds: whether `chosen` is within the budget.
        quantity: what losses count.
        seconds: the search took.
    """

    snn: SNN
    chosen: Candidate
    candidates: tuple[Candidate, ...]
    holds: bool
    quantity: str
    seconds: float

    @property
    def front(self) -> tuple[Candidate, ...]:
        """The confirmed candidates that no other beats in steps, latency and loss together."""
        confirmed = [c for c in self.candidates if c.confirmed is not None]
        return tuple(c for c in confirmed if not any(beats(other, c) for other in confirmed))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        front = {id(c) for c in self.front}
        rows = [{**c.as_dict(), "front": id(c) in front} for c in self.candidates]
        return {
            "chosen": self.chosen.as_dict(),
            "holds": self.holds,
            "quantity": self.quantity,
            "seconds": round(self.seconds, 1),
            "candidates": rows,
        }


def tune(
    model: str | Path | onnx.ModelProto,
    calibration: Any,
    *,
    max_loss: float,
    objective: Objective = "steps",
    steps: Iterable[int] = STEPS,
    images: ImageOptions | None = None,
    samples: int | None = None,
    input_shape: Shapes | None = None,
    progress: Progress | None = None,
) -> Tuning:
    """Search for the cheapest spiking network whose cautious loss on the calibration samples is at most `max_loss`.

    Args:
        model: an ONNX file or model.
        calibration: samples that choose all settings, with labels under ``y`` if there are any.
        max_loss: points of accuracy; without labels, percent of samples with another class; for networks that do not
            classify, percent of output error.
        objective: what to make small, see `csscc.search.objectives`.
        steps: values of T to consider.
        images: how image files become inputs.
        samples: use at most so many samples.
        input_shape: shapes of inputs whose sizes nodes of the core depend on, see `csscc.compile`.
        progress: told a stage, what is newly done in it, and how much there is.

    Raises:
        UsageError: there is no calibration data, or an option cannot be used.
        RefusedError: the model or the data cannot be used.
    """
    if calibration is None:
        raise UsageError("tuning needs samples to measure on; pass --calibration")
    if objective not in OBJECTIVES:
        raise UsageError(f"objective '{objective}' is not known; choose one of {', '.join(OBJECTIVES)}")
    finite(max_loss, "the loss that is allowed")
    for T in steps:
        make_options(T=T)
    started = time.perf_counter()
    told = None if progress is None else partial(_without_total, progress)
    ann = api.calibrate(
        model, calibration, images=images, calibration_samples=samples, input_shape=input_shape, progress=told
    )
    bench = Bench(model, ann, progress or (lambda stage, new, total: None))
    seen: list[Candidate] = []
    for group in groups(steps, objective, bench.outline()):
        tried = _confirmed(bench, group, max_loss, objective, seen)
        if any(loss_of(c) <= max_loss for c in tried):
            break
    confirmed = [c for c in seen if c.confirmed is not None] or [_run(bench, min(seen, key=likely), seen)]
    best = _improved(bench, best_of(confirmed, max_loss, objective), max_loss, objective, seen)
    snn, seconds = bench.snn_of(best), time.perf_counter() - started
    return Tuning(snn, best, tuple(seen), loss_of(best) <= max_loss, bench.quantity, seconds)


def _without_total(progress: Progress, stage: str, new: int) -> None:
    progress(stage, new, None)


def _confirmed(
    bench: Bench, group: list[Candidate], max_loss: float, objective: Objective, seen: list[Candidate]
) -> list[Candidate]:
    """Predict all of a group, try those that may hold, and run the best of them on all samples."""
    tried: list[Candidate] = []
    errors: dict[tuple[int, float], float] = {}
    for candidate in sorted(group, key=lambda c: c.silent):
        predicted, cautious = bench.predict(candidate)
        known = replace(candidate, predicted=predicted, hopeless=cautious > HOPELESS * max_loss)
        line = (known.T, known.beta)
        if not known.hopeless and errors.get(line) != 0:
            known = bench.trial(known)
            before = errors.get(line, math.inf)
            errors[line] = error_of(known) if error_of(known) < PAYS * before else 0.0
            if loss_of(known) <= HOPELESS * max_loss:
                tried.append(known)
        seen.append(known)
    if not tried:
        return []
    best, accurate = best_of(tried, max_loss, objective), min(tried, key=error_of)
    return [_run(bench, c, seen) for c in ((best,) if best == accurate else (best, accurate))]


def _run(bench: Bench, candidate: Candidate, seen: list[Candidate]) -> Candidate:
    """Run a candidate on all samples; what is known of it takes its place among those seen."""
    result = bench.run(candidate)
    seen[seen.index(candidate)] = result
    return result


def _improved(bench: Bench, best: Candidate, max_loss: float, objective: Objective, seen: list[Candidate]) -> Candidate:
    """The best candidate, or what one of `CHANGES` makes of it."""
    before = bench.trial(best)
    for changes in CHANGES:
        tried = bench.trial(replace(best, changes={**best.changes, **changes}))
        seen.append(tried)
        if best_of([before, tried], max_loss, objective) is tried:
            confirmed = _run(bench, tried, seen)
            if best_of([best, confirmed], max_loss, objective) is confirmed:
                best, before = confirmed, tried
    return best
