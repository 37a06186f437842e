"""Where a search measures: predictions by a quantised ANN, trials on a part of the samples, runs on all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csscc import api
from csscc.coding.coding import Coding
from csscc.dialect.adapter import export_model, sized_shapes
from csscc.dialect.macs import affordable_samples, samples_at_once
from csscc.dialect.model import with_outputs
from csscc.measure.agreement import Agreement, quantity_of
from csscc.measure.costs import Outline, outline_of
from csscc.measure.counts import counting_outputs
from csscc.measure.meter import Meter
from csscc.options import make_options
from csscc.passes.base import run_passes
from csscc.passes.convert.fake_quantise import fake_quantised, mean_name, received_tensors
from csscc.passes.convert.set_amplitudes import SetAmplitudes
from csscc.passes.convert.split_inputs import SplitInputs
from csscc.passes.lower.kernels import open_session
from csscc.runtime.session import Session
from csscc.search import Progress
from csscc.search.candidates import Candidate
from csscc.search.timing import outlook
from csscc.snn import SNN
from csscc.statistics import Feeds

BATCH = 64
QUANTISED = 128  # samples of a prediction
OCTAVES = range(2, 12)  # bits of the uniform quantisers that predict
PART = 32  # samples of a trial, fewer where they would take more than so many multiply-accumulates
PART_BUDGET = 5e10
STEPS = 8  # for which batches fit in memory
LEAST = 1e-9
LEARNT = 99.9  # percent of samples that an ANN is right for, as it is of those that it was trained on
Case = tuple[Feeds, dict[str, NDArray[Any]]]


class Bench:
    """One calibrated ANN, what it answers on the calibration samples, and candidates measured against that."""

    def __init__(self, ann: api.Calibrated) -> None:
        self._ann, self._samples = ann, ann.options.calibration_samples
        model = export_model(ann.network)
        self._outputs, self._counts = [t.name for t in ann.network.graph.outputs], counting_outputs(model)
        self._snns: dict[str, SNN] = {}
        self._predictions: dict[str, tuple[float, float]] = {}
        session = Session(model)
        at_once = session.fixed_batch or samples_at_once(model, STEPS)
        self._cases: list[Case] = [(f, session.run(f, self._outputs)) for f in ann.source.batches(at_once)]
        self._plain = self._compared(outputs for _, outputs in self._cases)
        self._shapes = sized_shapes(ann.network)
        self.quantity = quantity_of(labels=ann.source.labels is not None, classes=self._plain.classes)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know of the samples and their labels, see `csscc.measure.agreement.Agreement`."""
        right = self._plain.ann_accuracy
        learnt = () if right is None or right < LEARNT else (
            f"the ANN is right for {right:.4g} % of these samples: if it was trained on them, a spiking network loses "
            "more on others; give samples that it has not seen",
        )
        return (*self._plain.warnings, *learnt)

    def outline(self) -> Outline:
        """What the network's costs depend on besides the coding."""
        network = self._ann.network
        assert network.regions is not None
        return outline_of(network, network.regions)

    def predicted(self, candidates: Iterable[Candidate], progress: Progress) -> Iterator[Candidate]:
        """The candidates with what uniform quantisers, as fine as they are, make of the ANN's answers."""
        bits, known = np.array(OCTAVES), np.log(list(self._quantised(progress)))
        for candidate in candidates:
            silent = candidate.silent if isinstance(candidate.silent, int) else candidate.T  # as many as it needs
            levels, spikes = outlook(Coding(candidate.T, candidate.beta, silent))
            deviation, error = (float(np.exp(np.interp(math.log2(levels + 1), bits, column))) for column in known.T)
            self._predictions[candidate.name] = deviation, error
            found = self._judged(candidate, deviation, error)
            yield replace(found, predicted=found.expected, spikes_per_neuron=spikes)

    def corrected(self, known: list[Candidate]) -> list[Candidate]:
        """Predictions that are too good, as trials of like settings show.

        What errs k times as much as predicted does so with more steps, or a larger beta, as well: it is timing that is
        underrated, and either leaves more to it. Where each layer has as many silent steps as it needs, it is not.
        """
        seen = [(c, c.error / (100 * self._predictions[c.name][1])) for c in known if c.stage != "predicted"]

        def factor(c: Candidate) -> float:
            like = (k for t, k in seen if t.silent == c.silent != "auto" and t.T <= c.T and t.beta <= c.beta)
            return max((1.0, *like))

        return [
            self._judged(c, *(factor(c) * p for p in self._predictions[c.name])) if c.stage == "predicted" else c
            for c in known
        ]

    def measured(self, candidate: Candidate, *, counting: bool = False) -> Candidate:
        """The candidate one stage further: run on a part of the samples, or on all of them.

        Spikes are counted where it is the last stage, or with `counting`; on a part of the samples.
        """
        complete = candidate.stage == "tried"
        part = affordable_samples(self._ann.network.graph, candidate.T, PART, PART_BUDGET, shapes=self._shapes)
        ann = self._ann if complete else replace(self._ann, source=self._ann.source.first(part))
        snn = api.compile(ann, calibration_samples=self._samples, **candidate.options)
        session, cases = open_session(snn.file, native=False), list(self._first(math.inf if complete else part))
        compared = self._compared(session.run(feeds, self._outputs) for feeds, _ in cases)
        found = self._judged(candidate, compared.deviation, _error(compared))
        if complete and compared.cautious_loss is not None:
            found = replace(found, cautious=compared.cautious_loss)
        counted = complete or counting
        batches = [feeds for feeds, _ in self._first(part)] if counted else []
        spikes, operations = _counted(snn, batches) if counted else (math.nan, math.nan)
        costs = snn.costs
        if complete:
            self._snns[candidate.name] = snn
        return replace(
            found,
            stage="confirmed" if complete else "tried",
            interval=costs.interval,
            latency=costs.latency,
            passes=costs.passes,
            spikes_per_neuron=spikes,
            synaptic_operations=operations,
        )

    def answers(self, snn: SNN) -> Agreement:
        """What a network answers on all samples, against the ANN."""
        session = open_session(snn.file, native=False)
        return self._compared(session.run(feeds, self._outputs) for feeds, _ in self._cases)

    @staticmethod
    def loss(compared: Agreement) -> float:
        """The cautious loss; without classes, percent of output error."""
        return 100 * _error(compared) if compared.cautious_loss is None else compared.cautious_loss

    def snn_of(self, candidate: Candidate) -> SNN:
        """The spiking network of a candidate, compiled again if another process measured it."""
        if candidate.name not in self._snns:
            self._snns[candidate.name] = api.compile(
                self._ann, calibration_samples=self._samples, **candidate.options
            )  # fmt: skip
        return self._snns[candidate.name]

    def _judged(self, candidate: Candidate, deviation: float, error: float) -> Candidate:
        """The candidate with the losses that errors of the margins cause; without classes, they are the error."""
        expected = cautious = 100 * error
        if self._plain.classes:
            expected, cautious = self._plain.expected_at(deviation), self._plain.cautious_at(deviation)
        return replace(candidate, expected=expected, cautious=cautious, error=100 * error)

    def _quantised(self, progress: Progress) -> Iterator[tuple[float, float]]:
        """Deviation of the margins and error of the outputs, of uniform quantisers of more and more bits."""
        outputs, received, source = (
            self._outputs,
            received_tensors(self._ann.network),
            self._ann.source.first(QUANTISED),
        )
        session = Session(with_outputs(export_model(self._ann.network), received))
        answers = list[Case]()
        for feeds in source.batches(session.fixed_batch or BATCH):
            values = session.run(feeds)
            means = {mean_name(n): values[n].mean(axis=0, dtype=np.float64).astype(np.float32) for n in received}
            answers.append(({**feeds, **means}, {n: values[n] for n in outputs}))
        for bits in OCTAVES:
            options = make_options(T=bits, beta=2.0, calibration_samples=self._samples)
            network = self._ann.copy_for(options)
            network.coding = options.coding
            run_passes((SetAmplitudes(options.method, options.percentile), SplitInputs()), network)
            session = Session(export_model(replace(network, graph=fake_quantised(network))))
            compared = Agreement(self._ann.source.labels, self._counts, self._ann.source.classes)
            for feeds, expected in answers:
                given = {n: feeds[n] for n in session.input_names}
                compared.add(expected, session.run(given, outputs), _number(feeds))
            progress("predicting losses", 1, len(OCTAVES))
            yield max(compared.deviation, LEAST), max(_error(compared), LEAST)

    def _first(self, samples: float) -> Iterator[Case]:
        """Whole batches that hold so many samples, or all there are."""
        for feeds, outputs in self._cases:
            if samples <= 0:
                return
            samples -= _number(feeds)
            yield feeds, outputs

    def _compared(self, answers: Iterable[dict[str, NDArray[Any]]]) -> Agreement:
        """What a network answers on the first of the cases, against the ANN."""
        compared = Agreement(self._ann.source.labels, self._counts, self._ann.source.classes)
        for (feeds, expected), got in zip(self._cases, answers, strict=False):
            compared.add(expected, got, _number(feeds))
        return compared


def _counted(snn: SNN, batches: list[Feeds]) -> tuple[float, float]:
    """Spikes per neuron and synaptic operations of one sample."""
    meter, samples = Meter(snn.model, native=False), sum(map(_number, batches))
    for feeds in batches:
        meter.run(feeds, None)
    return meter.spikes_per_neuron(samples), meter.operations / samples


def _error(compared: Agreement) -> float:
    return max(compared.output_error.values(), default=0.0)


def _number(feeds: Feeds) -> int:
    return len(next(iter(feeds.values())))
