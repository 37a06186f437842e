"""Where a search measures: predictions by a quantised ANN, trials on a part of the samples, runs on all of them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from csscc import api
from csscc.dialect.adapter import export_model, sized_shapes
from csscc.dialect.macs import affordable_samples
from csscc.dialect.model import with_outputs
from csscc.measure.agreement import Agreement
from csscc.measure.costs import Outline, outline_of
from csscc.measure.counts import counting_outputs
from csscc.measure.evaluation import Evaluation, evaluate
from csscc.options import make_options
from csscc.passes.convert.fake_quantise import fake_quantised, heard_tensors, mean_name
from csscc.passes.convert.set_amplitudes import SetAmplitudes
from csscc.runtime.session import Session
from csscc.search import Progress
from csscc.search.candidates import Candidate
from csscc.snn import SNN
from csscc.statistics import Feeds

BATCH = 64
PART = 128  # samples of a first trial, fewer where they would take more than so many multiply-accumulates
PART_BUDGET = 1e11


class Bench:
    """One calibrated ANN, what it answers on the calibration samples, and candidates measured against that."""

    def __init__(self, model: str | Path | onnx.ModelProto, ann: api.Calibrated, progress: Progress) -> None:
        self._model, self._ann, self._progress = model, ann, progress
        self._samples = ann.options.calibration_samples
        self._predicted: dict[int, tuple[float, float]] = {}
        self._outputs = [t.name for t in ann.network.graph.outputs]
        self._trials: dict[str, Candidate] = {}
        self._snns: list[tuple[Candidate, SNN]] = []
        self._answers: list[tuple[Feeds, dict[str, NDArray[Any]]]] = []
        heard = heard_tensors(ann.network)
        session = Session(with_outputs(export_model(ann.network), heard))
        self._counts = counting_outputs(export_model(ann.network))
        compared = Agreement(ann.source.labels, self._counts, ann.source.classes)
        for feeds in ann.source.batches(BATCH if ann.network.batch is not None else session.fixed_batch or 1):
            values = session.run(feeds)
            means = {mean_name(n): values[n].mean(axis=0, dtype=np.float64).astype(np.float32) for n in heard}
            outputs = {n: values[n] for n in self._outputs}
            compared.add(outputs, outputs, _number(feeds))
            self._answers.append(({**feeds, **means}, outputs))
        classes = "points of accuracy" if ann.source.labels is not None else "percent of other classes"
        self.quantity = classes if compared.classes else "percent of output error"

    def outline(self) -> Outline:
        """What the network's costs depend on besides the coding."""
        network = self._ann.network
        assert network.regions is not None
        return outline_of(network, network.regions)

    def snn_of(self, candidate: Candidate) -> SNN:
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
            session = Session(export_model(replace(network, graph=fake_quantised(network))))
            compared = Agreement(self._ann.source.labels, self._counts, self._ann.source.classes)
            for feeds, outputs in self._answers:
                given = {n: feeds[n] for n in session.input_names}
                compared.add(outputs, session.run(given, self._outputs), _number(feeds))
            self._predicted[key] = _losses(compared)
        return self._predicted[key]

    def trial(self, candidate: Candidate) -> Candidate:
        """The candidate with what is found by running it on a part of the samples; its loss is not confirmed."""
        key = repr(candidate.options)
        if key not in self._trials:
            network = self._ann.network
            shapes = sized_shapes(network)
            samples = affordable_samples(network.graph, candidate.T, PART, PART_BUDGET, shapes=shapes)
            part = replace(self._ann, source=self._ann.source.first(samples))
            self._trials[key] = replace(self._evaluated(part, candidate)[0], confirmed=None)
        return self._trials[key]

    def run(self, candidate: Candidate) -> Candidate:
        """The candidate with what is found by running it on all samples."""
        found, snn = self._evaluated(self._ann, candidate)
        self._snns.append((found, snn))
        return found

    def _evaluated(self, ann: api.Calibrated, candidate: Candidate) -> tuple[Candidate, SNN]:
        snn = api.compile(ann, calibration_samples=self._samples, **candidate.options)
        result = evaluate(self._model, snn.file, ann.source)
        confirmed, cautious = _losses(result)
        self._progress("trying settings", 1, None)
        found = replace(
            candidate,
            confirmed=confirmed,
            cautious=cautious,
            interval=result.interval,
            latency=result.latency,
            passes=result.passes,
            error=100 * max(result.output_error.values(), default=0.0),
            synaptic_operations=result.synaptic_operations,
            spikes_per_neuron=result.spikes_per_neuron,
        )
        return found, snn


def _losses(compared: Agreement | Evaluation) -> tuple[float, float]:
    """Expected and cautious loss; for networks that do not classify, both are the worst output's error in percent."""
    error = 100 * max(compared.output_error.values(), default=0.0)
    expected, cautious = compared.expected_loss, compared.cautious_loss
    return error if expected is None else expected, error if cautious is None else cautious


def _number(feeds: Feeds) -> int:
    return len(next(iter(feeds.values())))
