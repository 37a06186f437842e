"""Find the coding with the fewest steps, the least latency or the fewest operations that keeps the accuracy.

Candidates are combinations of T, beta and L, the cheapest first; those that cost the same are looked at together:

1. A fake-quantised ANN (`csscc.passes.convert.fake_quantise`)
   predicts each at one T-th of the cost. Where even that loses far
   too much, spikes would too.
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
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from csscc import api
from csscc.dialect.adapter import export_model
from csscc.dialect.macs import affordable_samples
from csscc.dialect.model import with_outputs
from csscc.errors import UsageError
from csscc.io.data import ImageOptions
from csscc.measure.agreement import Agreement
from csscc.measure.evaluation import Evaluation, evaluate
from csscc.options import make_options
from csscc.passes.convert.fake_quantise import fake_quantised, heard_tensors, mean_name
from csscc.passes.convert.set_amplitudes import SetAmplitudes
from csscc.runtime.session import Session
from csscc.statistics import Feeds

Objective = Literal["steps", "latency", "synops"]
Progress = Callable[[str, int, int | None], None]
STEPS = (3, 4, 5, 6, 7, 8, 10, 12, 14, 16)
BETAS = (1.5, 2.0, 2.5, 3.0)
SILENT = (0, 1, 2, 3)
BATCH = 64
PAYS = 0.9
HOPELESS = 2.0
PART = 128  # samples of a first trial, fewer where they would take more than so many multiply-accumulates
PART_BUDGET = 1e11
CHANGES: tuple[dict[str, Any], ...] = (
    {"method": "percentile"},
    {"method": "max"},
    {"correct_bias": False},
    {"trim_silence": True},
)


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
        latency: time steps from the first input spike to the answer.
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
    latency: int | None = None
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

    snn: api.SNN
    chosen: Candidate
    candidates: tuple[Candidate, ...]
    holds: bool
    quantity: str
    seconds: float

    @property
    def front(self) -> tuple[Candidate, ...]:
        """The confirmed candidates that no other beats in steps, latency and loss together."""
        confirmed = [c for c in self.candidates if c.confirmed is not None]
        return tuple(c for c in confirmed if not any(_beats(other, c) for other in confirmed))

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


def _beats(one: Candidate, other: Candidate) -> bool:
    a, b = _figures(one), _figures(other)
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


def _figures(candidate: Candidate) -> tuple[float, float, float]:
    return candidate.T, candidate.latency or 0, _loss(candidate)


def tune(
    model: str | Path | onnx.ModelProto,
    calibration: Any,
    *,
    max_loss: float,
    objective: Objective = "steps",
    steps: Iterable[int] = STEPS,
    images: ImageOptions | None = None,
    samples: int | None = None,
    progress: Progress | None = None,
) -> Tuning:
    """Search for the cheapest spiking network whose cautious loss on the calibration samples is at most `max_loss`.

    Args:
        model: an ONNX file or model.
        calibration: samples that choose all settings, with labels under ``y`` if there are any.
        max_loss: points of accuracy; without labels, percent of samples with another class; for networks that do not
            classify, percent of output error.
        objective: what to make small: coding steps, latency, or synaptic operations.
        steps: values of T to consider.
        images: how image files become inputs.
        samples: use at most so many samples.
        progress: told a stage, what is newly done in it, and how much there is.

    Raises:
        UsageError: there is no calibration data, or an option cannot be used.
        RefusedError: the model or the data cannot be used.
    """
    if calibration is None:
        raise UsageError("tuning needs samples to measure on; pass --calibration")
    for T in steps:
        make_options(T=T)
    started = time.perf_counter()
    told = None if progress is None else partial(_without_total, progress)
    ann = api.calibrate(model, calibration, images=images, calibration_samples=samples, progress=told)
    bench = _Bench(model, ann, progress or (lambda stage, new, total: None))
    seen: list[Candidate] = []
    depth = bench.depth() if objective == "latency" else 0  # layers cost nothing in steps
    for group in _groups(sorted(set(steps)), objective, depth):
        tried = _confirmed(bench, group, max_loss, objective, seen)
        if any(_loss(c) <= max_loss for c in tried):
            break
    confirmed = [c for c in seen if c.confirmed is not None] or [_run(bench, min(seen, key=_likely), seen)]
    best = _improved(bench, _best(confirmed, max_loss, objective), max_loss, objective, seen)
    snn, seconds = bench.snn_of(best), time.perf_counter() - started
    return Tuning(snn, best, tuple(seen), _loss(best) <= max_loss, bench.quantity, seconds)


def _without_total(progress: Progress, stage: str, new: int) -> None:
    progress(stage, new, None)


def _groups(steps: Iterable[int], objective: Objective, depth: int) -> list[list[Candidate]]:
    """Candidates that cost the same, the cheapest first: T and, over `depth` layers, the silent steps.

    Operations grow with the steps. Without silent steps little holds, and only latency gains by it.
    """
    groups: dict[int, list[Candidate]] = {}
    for T in steps:
        for silent in (s for s in SILENT if s <= T and (s or objective == "latency")):
            groups.setdefault(T + silent * depth, []).extend(Candidate(T, beta, silent) for beta in BETAS)
    return [groups[cost] for cost in sorted(groups)]


def _confirmed(
    bench: _Bench, group: list[Candidate], max_loss: float, objective: Objective, seen: list[Candidate]
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
            errors[line] = _error(known) if _error(known) < PAYS * before else 0.0
            if _loss(known) <= HOPELESS * max_loss:
                tried.append(known)
        seen.append(known)
    if not tried:
        return []
    best, accurate = _best(tried, max_loss, objective), min(tried, key=_error)
    return [_run(bench, c, seen) for c in ((best,) if best == accurate else (best, accurate))]


def _run(bench: _Bench, candidate: Candidate, seen: list[Candidate]) -> Candidate:
    """Run a candidate on all samples; what is known of it takes its place among those seen."""
    result = bench.run(candidate)
    seen[seen.index(candidate)] = result
    return result


def _improved(
    bench: _Bench, best: Candidate, max_loss: float, objective: Objective, seen: list[Candidate]
) -> Candidate:
    """The best candidate, or what one of `CHANGES` makes of it."""
    before = bench.trial(best)
    for changes in CHANGES:
        tried = bench.trial(replace(best, changes={**best.changes, **changes}))
        seen.append(tried)
        if _best([before, tried], max_loss, objective) is tried:
            confirmed = _run(bench, tried, seen)
            if _best([best, confirmed], max_loss, objective) is confirmed:
                best, before = confirmed, tried
    return best


def _best(candidates: list[Candidate], max_loss: float, objective: Objective) -> Candidate:
    """The one within the budget that has the fewest operations, or the least error; else the one that loses least.

    More latency, or another option, must pay: an error that is less than a tenth smaller is not worth it.
    """
    within = [c for c in candidates if _loss(c) <= max_loss]
    if not within:
        return min(candidates, key=_loss)
    if objective == "synops":
        return min(within, key=lambda c: c.synaptic_operations or math.inf)
    best, *others = sorted(within, key=lambda c: c.latency or 0)
    for candidate in others:
        if _error(candidate) < PAYS * _error(best):
            best = candidate
    return best


def _loss(candidate: Candidate) -> float:
    return math.inf if candidate.cautious is None else candidate.cautious


def _error(candidate: Candidate) -> float:
    return math.inf if candidate.error is None else candidate.error


def _likely(candidate: Candidate) -> tuple[float, float]:
    """What to order candidates by that were not run on all samples, the best first."""
    return _error(candidate), candidate.predicted


def _losses(compared: Agreement | Evaluation) -> tuple[float, float]:
    """Expected and cautious loss; for networks that do not classify, both are the worst output's error in percent."""
    error = 100 * max(compared.output_error.values(), default=0.0)
    expected, cautious = compared.expected_loss, compared.cautious_loss
    return error if expected is None else expected, error if cautious is None else cautious


class _Bench:
    """One calibrated ANN, what it answers on the calibration samples, and candidates measured against that."""

    def __init__(self, model: str | Path | onnx.ModelProto, ann: api.Calibrated, progress: Progress) -> None:
        self._model, self._ann, self._progress = model, ann, progress
        self._samples = ann.options.calibration_samples
        self._predicted: dict[int, tuple[float, float]] = {}
        self._outputs = [t.name for t in ann.network.graph.outputs]
        self._trials: dict[str, Candidate] = {}
        self._snns: list[tuple[Candidate, api.SNN]] = []
        self._answers: list[tuple[Feeds, dict[str, NDArray[Any]]]] = []
        heard = heard_tensors(ann.network)
        session = Session(with_outputs(export_model(ann.network), heard), native=False)
        compared = Agreement(ann.source.labels)
        for feeds in ann.source.batches(BATCH if ann.network.batch is not None else session.fixed_batch or 1):
            values = session.run(feeds)
            means = {mean_name(n): values[n].mean(axis=0, dtype=np.float64).astype(np.float32) for n in heard}
            outputs = {n: values[n] for n in self._outputs}
            compared.add(outputs, outputs, _number(feeds))
            self._answers.append(({**feeds, **means}, outputs))
        classes = "points of accuracy" if ann.source.labels is not None else "percent of other classes"
        self.quantity = classes if compared.classes else "percent of output error"

    def depth(self) -> int:
        """Layers on the longest path, the readout being one."""
        plain: dict[str, Any] = {"T": 1, "adjust": False, "correct_bias": False}
        return api.compile(self._ann, calibration_samples=self._samples, **plain).latency - 1

    def snn_of(self, candidate: Candidate) -> api.SNN:
        """The spiking network of a candidate that `run` has returned."""
        return next(snn for known, snn in self._snns if known == candidate)

    def predict(self, candidate: Candidate) -> tuple[float, float]:
        """Expected and cautious loss of the fake-quantised ANN: of T and beta it knows only the number of levels."""
        options = make_options(calibration_samples=self._samples, **candidate.options)
        key = round(3 * math.log2(options.coding.levels))
        if key not in self._predicted:
            network = self._ann.copy_for(options)
            network.coding = options.coding
            SetAmplitudes(options.method, options.percentile).apply(network)
            session = Session(export_model(replace(network, graph=fake_quantised(network))), native=False)
            compared = Agreement(self._ann.source.labels)
            for feeds, outputs in self._answers:
                given = {n: feeds[n] for n in session.input_names}
                compared.add(outputs, session.run(given, self._outputs), _number(feeds))
            self._predicted[key] = _losses(compared)
        return self._predicted[key]

    def trial(self, candidate: Candidate) -> Candidate:
        """The candidate with what is found by running it on a part of the samples; its loss is not confirmed."""
        key = repr(candidate.options)
        if key not in self._trials:
            samples = affordable_samples(self._ann.network.graph, candidate.T, PART, PART_BUDGET)
            part = replace(self._ann, source=self._ann.source.first(samples))
            self._trials[key] = replace(self._evaluated(part, candidate)[0], confirmed=None)
        return self._trials[key]

    def run(self, candidate: Candidate) -> Candidate:
        """The candidate with what is found by running it on all samples."""
        found, snn = self._evaluated(self._ann, candidate)
        self._snns.append((found, snn))
        return found

    def _evaluated(self, ann: api.Calibrated, candidate: Candidate) -> tuple[Candidate, api.SNN]:
        snn = api.compile(ann, calibration_samples=self._samples, **candidate.options)
        result = evaluate(self._model, snn.emitted(), ann.source)
        confirmed, cautious = _losses(result)
        self._progress("trying settings", 1, None)
        found = replace(
            candidate,
            confirmed=confirmed,
            cautious=cautious,
            latency=snn.latency,
            error=100 * max(result.output_error.values(), default=0.0),
            synaptic_operations=result.synaptic_operations,
            spikes_per_neuron=result.spikes_per_neuron,
        )
        return found, snn


def _number(feeds: Feeds) -> int:
    return len(next(iter(feeds.values())))
