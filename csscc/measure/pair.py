"""An ANN and its spiking network side by side: what is seen of a batch, and of parts of the samples together."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from csscc.dialect.macs import samples_at_once
from csscc.dialect.metadata import Facts
from csscc.errors import RefusedError
from csscc.io.data import ImageOptions, Source, open_source
from csscc.measure.agreement import Agreement
from csscc.measure.comparison import source_session
from csscc.measure.costs import costs_of
from csscc.measure.counts import counting_outputs
from csscc.measure.difference import refuse_unequal, tolerance
from csscc.measure.input_range import InputRange
from csscc.measure.meter import Meter, merged
from csscc.measure.observer import Batch, Observer
from csscc.measure.opened import SpikingFile, open_after
from csscc.passes.canonical.load import read_model
from csscc.passes.lower.kernels import open_session
from csscc.passes.lower.targets import by_layer
from csscc.runtime import native as library
from csscc.runtime.batches import in_parts
from csscc.runtime.session import Session

SPIKE_TRAINS = 512 << 20  # bytes of spikes, of all layers and steps, that are held at once


@dataclass
class Measured:
    """What was seen of some samples: of all, or of a part that `merge` adds to the part before it."""

    compared: Agreement
    ranges: InputRange
    counts: dict[str, float]
    seconds: list[tuple[float, float]]

    def merge(self, later: Measured) -> None:
        """Add what was seen of the samples after these."""
        self.compared.merge(later.compared)
        self.ranges.merge(later.ranges)
        self.counts = merged(self.counts, later.counts)
        self.seconds += later.seconds


class Pair:
    """An ANN and its spiking network, opened to run side by side; arguments and errors are those of `evaluate`.

    Attributes:
        facts, costs: of the spiking network.
        meter: counts its spikes.
        native: the operators that native kernels run.
    """

    def __init__(
        self,
        ann: str | Path | onnx.ModelProto,
        snn: SpikingFile,
        *,
        native: bool = True,
        observers: Sequence[Observer] = (),
    ) -> None:
        ann_model = ann if isinstance(ann, onnx.ModelProto) else read_model(ann)
        given, self.facts = open_after(ann_model, snn)
        self._model, self._counts = by_layer(given), counting_outputs(given)
        self._within = tolerance(layer.kind for layer in self.facts.layers)
        self._ann, self._file = source_session(ann_model), _File(given, native, self._counts, self._within)
        _check_pair(self._ann, self._file.session)
        self._at_once = max(self._ann.fixed_batch or 1, self._file.session.fixed_batch or 1)
        self.meter = Meter(self._model, native, {name for observer in observers for name in observer.tensors})
        self._observers, self.costs, self.native = observers, costs_of(given), self._file.kernels.native

    @property
    def batch(self) -> int:
        """Samples that run together."""
        return _batch(self._model, self.facts, self._at_once)

    def source(self, data: Any, images: ImageOptions | None, limit: int | None) -> Source:
        """The samples of `data`."""
        return open_source(data, self._file.session.specs, images=images, limit=limit)

    def measured(self, source: Source, progress: Callable[[int, int | None], None] | None = None) -> Measured:
        """Run both networks on all of a source."""
        known = source.labels  # a user's code runs where they are asked for
        compared, ranges = Agreement(known, self._counts, source.classes), InputRange(self._model)
        seconds, at_once = list[tuple[float, float]](), self._at_once
        self.meter.sums = {}
        for feeds in source.batches(self.batch):
            number = len(next(iter(feeds.values())))
            if number % at_once:
                message = f"the networks take {at_once} samples at a time; give a multiple of that, not {number}"
                raise RefusedError(message)
            ranges.add(feeds)
            expected, ann_seconds = _timed(partial(_run, self._ann, feeds))
            got, snn_seconds = self._file.run(feeds)
            seconds.append((ann_seconds / number, snn_seconds / number))
            counted, trains = self.meter.run(feeds, self._file.session.fixed_batch)
            refuse_unequal(got, counted, self._counts, self._within)
            labels = None if known is None else known[compared.samples :][:number]
            for observer in self._observers:
                observer.add(Batch(feeds, labels, expected, got, trains, number))
            compared.add(expected, got, number)
            if progress is not None:
                progress(compared.samples, source.size)
        return Measured(compared, ranges, self.meter.sums, seconds)


class _File:
    """The spiking network as it is, and native kernels beside it where they are compiled."""

    def __init__(self, model: onnx.ModelProto, native: bool, counts: Collection[str], within: float) -> None:
        self.session = open_session(model, native=False)
        self.kernels = open_session(model) if native and library.operators() else self.session
        self._counts, self._within = counts, within

    def run(self, feeds: Any) -> tuple[dict[str, NDArray[Any]], float]:
        """Outputs of the file, and seconds: those of the kernels, if they give the same."""
        got, seconds = _timed(partial(_run, self.session, feeds))
        if self.kernels.native:
            by_kernels, seconds = _timed(partial(_run, self.kernels, feeds))
            refuse_unequal(got, by_kernels, self._counts, self._within)
        return got, seconds


def _batch(snn: onnx.ModelProto, facts: Facts, at_once: int) -> int:
    """Samples at a time: a multiple of `at_once`, so few that the spikes of all layers fit in memory."""
    trains = 4 * facts.coding.T * sum(layer.neurons for layer in facts.layers)  # bytes; counters read them at the end
    size = samples_at_once(snn, facts.coding.T, min(32, SPIKE_TRAINS // max(trains, 1)))
    return max(at_once, size - size % at_once)


def _check_pair(ann: Session, snn: Session) -> None:
    if sorted(ann.output_names) != sorted(snn.output_names) or sorted(ann.input_names) != sorted(snn.input_names):
        raise RefusedError(
            f"the networks do not belong together: the ANN maps {ann.input_names} to {ann.output_names}, "
            f"the SNN {snn.input_names} to {snn.output_names}; compile this ANN"
        )


def _run(session: Session, feeds: Any) -> dict[str, NDArray[Any]]:
    """Outputs for a batch, so many samples at a time as the network takes where it takes no other number."""
    fixed = session.fixed_batch
    number = len(next(iter(feeds.values())))
    if fixed is None or fixed == number:
        return session.run(feeds)
    return in_parts(session, feeds, number - number % fixed, fixed)


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    value = call()
    return value, time.perf_counter() - start
