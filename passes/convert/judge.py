"""Judge amplitudes by the fake-quantised ANN on calibration samples held out: no spikes, a T-th of the cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from csscc.dialect.adapter import export_model
from csscc.dialect.macs import affordable_samples
from csscc.dialect.model import with_outputs
from csscc.dialect.network import Network
from csscc.io.batches import limited
from csscc.io.data import Source
from csscc.passes.convert.calibrate import HELD_OUT
from csscc.passes.convert.fake_quantise import fake_quantised, mean_name, received_tensors
from csscc.passes.convert.samples import batch_size, in_whole_batches
from csscc.runtime.observe import held_out
from csscc.runtime.session import Session
from csscc.statistics import Feeds

SAMPLES = 32
CLEARLY_BETTER = 0.9  # what must be better than something simpler, is so by a tenth
BUDGET = 1e10  # multiply-accumulates of a judgement


class Judge:
    """The ANN's answers on up to `SAMPLES` samples held out, and how far amplitudes take it from them."""

    def __init__(self, network: Network, source: Source) -> None:
        assert network.regions is not None
        ann, decoded = network.ann or network.graph, network.regions.decoded
        self._decoded, received = decoded, received_tensors(network)
        session = Session(with_outputs(_model(network, ann), dict.fromkeys([*decoded, *received])))
        wanted: list[dict[str, NDArray[np.floating]]] = []
        totals: dict[str, NDArray[np.float64]] = {}
        found = _samples(network, ann, source)
        for feeds in found:
            values = session.run(feeds, list(dict.fromkeys([*decoded, *received])))
            wanted.append({n: values[n] for n in decoded})
            totals = {n: totals.get(n, 0.0) + values[n].sum(axis=0, dtype=np.float64) for n in received}
        samples = max(1, sum(len(next(iter(feeds.values()))) for feeds in found))
        self._means = {mean_name(n): (total / samples).astype(np.float32) for n, total in totals.items()}
        if network.batch is not None and found:
            found, wanted = [_joined(found)], [_joined(wanted)]
        self._cases = list(zip(found, wanted, strict=True))

    @property
    def sees_means(self) -> bool:
        """Whether all samples run together, so that means over a batch are of all samples."""
        return len(self._cases) == 1

    def error(self, network: Network, *, centred: bool = False) -> float:
        """RMS of the difference to the ANN relative to the ANN's, of the last layers' values where it is largest.

        Infinite where they are not finite, or there are no samples. With `centred`, biases are corrected.
        """
        lost, power = dict.fromkeys(self._decoded, 0.0), dict.fromkeys(self._decoded, 0.0)
        session = Session(with_outputs(_model(network, fake_quantised(network, centred=centred)), self._decoded))
        for feeds, wanted in self._cases:
            given = {**feeds, **self._means} if centred else feeds
            for name, values in session.run(given, self._decoded).items():
                lost[name] += float(np.square(values - wanted[name], dtype=np.float64).sum())
                power[name] += float(np.square(wanted[name], dtype=np.float64).sum())
        if not all(map(math.isfinite, (*lost.values(), *power.values()))):
            return math.inf
        return max((math.sqrt(lost[n] / power[n]) for n in self._decoded if power[n] > 0), default=math.inf)


def _joined(batches: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Batches as one."""
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _model(network: Network, graph: gs.Graph) -> onnx.ModelProto:
    return export_model(replace(network, graph=graph))


def _samples(network: Network, ann: gs.Graph, source: Source) -> list[Feeds]:
    """The samples held out, in batches; of networks that fix the batch, every so many-th batch.

    Where sizes are free, those of the first sample's size: means are taken place by place.
    """
    plain = replace(network, graph=ann)
    number = affordable_samples(ann, 1, SAMPLES, BUDGET)
    size = batch_size(plain, received_tensors(network))
    found: list[Feeds] = []
    seen = 0
    for feeds in limited(source.batches(size), in_whole_batches(network, HELD_OUT * number, size)):
        if network.batch is None:
            if held_out(1, seen // size, HELD_OUT).any() and len(next(iter(feeds.values()))) == size:
                found.append(feeds)
        else:
            which = held_out(len(next(iter(feeds.values()))), seen, HELD_OUT)
            if which.any():
                found.append({name: values[which] for name, values in feeds.items()})
        seen += len(next(iter(feeds.values())))
    return [f for f in found if all(v.shape[1:] == found[0][name].shape[1:] for name, v in f.items())]
