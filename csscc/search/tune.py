"""Find the settings that cost least and keep the accuracy, or all that no other beats in two quantities.

The network is calibrated once. A quantised ANN predicts what every combination of T, beta and silent steps loses
(`csscc.search.bench`); what looks best is compiled and tried with spikes on a part of the calibration samples, and what
still does runs on all of them (`csscc.search.front`). Test data plays no part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
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
from csscc.search.candidates import Candidate, Stage, candidates
from csscc.search.front import COUNTED, TOGETHER, Aim, search
from csscc.search.journal import Journal, digest, digest_of_model
from csscc.search.objectives import OBJECTIVES, QUANTITIES, Quantity
from csscc.search.workers import workers
from csscc.snn import SNN
from csscc.tables import Tabular

STEPS = (3, 4, 5, 6, 7, 8, 10, 12, 14, 16)
BEFORE: dict[Stage, Stage] = {"tried": "predicted", "confirmed": "tried"}
LESS, MORE = 0.1, 8.0  # losses of interest on a front, as shares of the one that is allowed


@dataclass(frozen=True)
class Study:
    """What all trials of a search share, see `csscc.search.workers.Work`; `counting`: trials count spikes."""

    model: str | Path | onnx.ModelProto
    calibration: Any
    samples: int | None = None
    images: ImageOptions | None = None
    input_shape: Shapes | None = None
    counting: bool = False

    def fingerprint(self) -> dict[str, str]:
        """What is found depends on it."""
        return {
            "csscc": version("csscc"),
            "model": digest_of_model(self.model),
            "calibration": digest(self.calibration, self.samples or make_options().calibration_samples),
            "options": f"samples={self.samples} images={self.images} input_shape={self.input_shape} "
            f"spikes counted={self.counting}",
        }

    def begin(self, progress: Progress | None = None) -> Bench:
        """Calibrate the network, and ask it for its answers."""
        ann = api.calibrate(
            self.model,
            self.calibration,
            images=self.images,
            calibration_samples=self.samples,
            input_shape=self.input_shape,
            progress=progress,
        )
        return Bench(ann)

    def do(self, bench: Bench, candidate: Candidate) -> Candidate:
        """The candidate one stage further."""
        return bench.measured(candidate, counting=self.counting)


@dataclass(frozen=True)
class Tuning(Tabular):
    """The outcome of a search.

    Attributes:
        chosen: the cheapest candidate whose cautious loss is within the budget, else the one that loses least.
        front: confirmed candidates that no other beats in `axes`, by the first.
        candidates: all that were looked at, in order.
        axes: what the front is of.
        holds: whether `chosen` is within the budget.
        quantity: what losses count.
        seconds: the search took.
        bench: compiles the networks of candidates.
    """

    chosen: Candidate
    front: tuple[Candidate, ...]
    candidates: tuple[Candidate, ...]
    axes: tuple[Quantity, Quantity]
    holds: bool
    quantity: str
    seconds: float
    bench: Bench

    @property
    def snn(self) -> SNN:
        """The network of `chosen`."""
        return self.bench.snn_of(self.chosen)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Texts about the network of `chosen` and the samples."""
        return (*self.snn.report.warnings, *self.bench.warnings)

    @property
    def headline(self) -> str:
        """The chosen setting and what it costs."""
        c = self.chosen
        setting = f"T={c.T} beta={c.beta:g}, {c.silent} silent step(s), latency {c.latency} time steps"
        kept = "" if self.holds else "; no setting keeps the loss within the budget"
        return f"{setting}, loss {c.expected:z.2f} expected, {c.cautious:.2f} cautious ({self.quantity}){kept}"

    def rows(self) -> list[dict[str, Any]]:
        """The settings that were tried with spikes, and whether each is on the front."""
        front = {id(c) for c in self.front}
        return [{**c.as_dict(), "front": id(c) in front} for c in self.candidates if c.stage != "predicted"]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "chosen": self.chosen.as_dict(),
            "holds": self.holds,
            "axes": self.axes,
            "quantity": self.quantity,
            "seconds": round(self.seconds, 1),
            "candidates": self.rows(),
        }


def tune(
    model: str | Path | onnx.ModelProto,
    calibration: Any,
    *,
    max_loss: float,
    objective: Quantity | None = None,
    front: tuple[Quantity, Quantity] | None = None,
    steps: Iterable[int] = STEPS,
    images: ImageOptions | None = None,
    samples: int | None = None,
    input_shape: Shapes | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
    journal_file: str | Path | None = None,
    progress: Progress | None = None,
) -> Tuning:
    """Search for the cheapest spiking network whose cautious loss on the calibration samples is at most `max_loss`.

    Args:
        model: an ONNX file or model.
        calibration: samples that choose all settings, with labels under ``y`` if there are any.
        max_loss: points of accuracy; without labels, percent of samples with another class; for networks that do not
            classify, percent of output error.
        objective: what to make small, see `csscc.search.objectives`; what `front` names first, or ``steps``.
        front: find all settings that no other beats in these two quantities. Between two costs, those within the
            budget; against loss or error, those that lose at most `MORE` times as much.
        steps: values of T to consider.
        images: how image files become inputs.
        samples: use at most so many samples.
        input_shape: shapes of inputs whose sizes nodes of the core depend on, see `csscc.compile`.
        jobs: processes that share the cores; with more than one, the model and the data must be paths or arrays.
        scheduler: address of a Dask scheduler whose workers do the work instead.
        journal_file: gets a line for each setting that was tried; another search of the same network and data, with any
            aim, does not try it again.
        progress: called with a stage, what is newly done in it, and how much there is.

    Raises:
        UsageError: there is no calibration data, or an option cannot be used.
        RefusedError: the model or the data cannot be used.
    """
    if calibration is None:
        raise UsageError("tuning needs samples to measure on; pass --calibration")
    chosen_by, axes = _asked(objective, front)
    finite(max_loss, "the loss that is allowed")
    steps = [make_options(T=T).coding.T for T in steps]
    started = time.perf_counter()
    report: Progress = progress or (lambda stage, new, total: None)
    counting = bool(set(COUNTED) & {chosen_by, *axes})
    study = Study(model, calibration, samples, images, input_shape, counting)
    bench, cheapest = study.begin(report), Aim((chosen_by, "loss"), max_loss, max_loss)
    wanted = cheapest if front is None else _aim(axes, max_loss)
    known = list(bench.predicted(candidates(steps, bench.outline()), report))
    journal = Journal(Path(journal_file), study.fingerprint(), Candidate.from_dict) if journal_file else None
    with workers(study, min(jobs, TOGETHER), scheduler) if jobs > 1 or scheduler else nullcontext() as others:
        do = partial(map, partial(study.do, bench)) if others is None else others.all
        advance = Trials(do, journal, report)
        known = _scaled(known, cheapest, advance) if counting else known
        for aim in dict.fromkeys((wanted, cheapest)):
            known = search(known, aim, advance, bench.corrected)
        known = _one_at_least(known, advance)
    return _tuning(known, cheapest, wanted, axes, bench, time.perf_counter() - started)


def _tuning(
    known: list[Candidate], cheapest: Aim, wanted: Aim, axes: tuple[Quantity, Quantity], bench: Bench, seconds: float
) -> Tuning:
    """What follows from all that was tried."""
    confirmed = [c for c in known if c.stage == "confirmed"]
    within = cheapest.front(confirmed)
    chosen = within[0] if within else min(confirmed, key=lambda c: c.cautious)
    front = tuple(wanted.front(confirmed))
    return Tuning(chosen, front, tuple(known), axes, bool(within), bench.quantity, seconds, bench)


class Trials:
    """Takes candidates one stage further: those of the journal as they stand there, the others by `do`."""

    def __init__(
        self,
        do: Callable[[list[Candidate]], Iterable[Candidate]],
        journal: Journal[Candidate] | None,
        report: Progress,
    ) -> None:
        self._do, self._journal, self._report = do, journal, report
        rows = journal.rows() if journal is not None else ()
        self._kept = {(c.name, BEFORE[c.stage]): c for c in rows}

    def __call__(self, batch: list[Candidate]) -> list[Candidate]:
        """The candidates of `batch`, in order."""
        missing = [c for c in batch if (c.name, c.stage) not in self._kept]
        self._report("trying settings", 0, None)
        for c, found in zip(missing, self._do(missing), strict=True):
            self._kept[c.name, c.stage] = found
            if self._journal is not None:
                self._journal.append(found)
            self._report("trying settings", 1, None)
        return [self._kept[c.name, c.stage] for c in batch]


def _asked(
    objective: Quantity | None, front: tuple[Quantity, Quantity] | None
) -> tuple[Quantity, tuple[Quantity, Quantity]]:
    """What the choice makes small, and the axes of the front.

    Raises:
        UsageError: one of them is not known, or is no cost.
    """
    for names, allowed in (((objective or "steps",), OBJECTIVES), (front or (), QUANTITIES)):
        for name in names:
            if name not in allowed:
                raise UsageError(f"'{name}' is not known here; choose one of {', '.join(allowed)}")
    costs = [name for name in front or () if name in OBJECTIVES]
    if front is not None and (len(set(front)) != 2 or not costs):
        raise UsageError("a front is of two quantities, one of them a cost: latency,loss or steps,latency")
    chosen = objective or (costs[0] if costs else "steps")
    return chosen, front or (chosen, "loss")


def _aim(axes: tuple[Quantity, Quantity], max_loss: float) -> Aim:
    if set(axes) <= set(OBJECTIVES):
        return Aim(axes, 0.0, max_loss)
    return Aim(axes, LESS * max_loss if "loss" in axes else 0.0, MORE * max_loss)


def _scaled(
    known: list[Candidate], aim: Aim, advance: Callable[[list[Candidate]], list[Candidate]]
) -> list[Candidate]:
    """Spikes are predicted but for a factor, which a trial of one candidate shows."""
    first = next(iter(aim.front(known)), min(known, key=lambda c: c.cautious))
    (found,) = advance([first])
    spikes, synops = (found.figure(q) / max(first.spikes_per_neuron, 1e-9) for q in COUNTED)

    def scaled(c: Candidate) -> Candidate:
        sent = c.spikes_per_neuron
        return replace(c, spikes_per_neuron=sent * spikes, synaptic_operations=sent * synops)

    return [found if c is first else scaled(c) for c in known]


def _one_at_least(known: list[Candidate], advance: Callable[[list[Candidate]], list[Candidate]]) -> list[Candidate]:
    """Where nothing was good enough to run on all samples, what loses least is."""
    stages: tuple[Stage, ...] = ("predicted", "tried")
    for stage in stages if all(c.stage != "confirmed" for c in known) else ():
        order = sorted(range(len(known)), key=lambda i: (known[i].cautious, known[i].latency))
        chosen = [i for i in order if known[i].stage == stage][:TOGETHER]
        for i, found in zip(chosen, advance([known[i] for i in chosen]), strict=True):
            known[i] = found
    return known
