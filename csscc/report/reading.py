"""What the answer would be if the output were read before the last spike has arrived.

A readout adds up ``y = bias + sum(q[t] * z[t])``. Step t of the train that it reads arrives at time step
``depth + t``, depth being the silent steps on the way to it; read at time step s, the sum ends with t = s - depth. The
operators after the readouts are run on each of these sums.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray

from csscc.dialect.metadata import Facts
from csscc.dialect.parts import from_tensors
from csscc.dialect.spiking import spiking_nodes
from csscc.io.outputs import as_arrays, is_label
from csscc.measure.agreement import NO_ANSWER, NO_CLASS, classes_named, classes_of
from csscc.measure.difference import Difference
from csscc.measure.observer import Batch
from csscc.runtime.batches import joined
from csscc.runtime.session import Session


@dataclass(frozen=True)
class Reading:
    """Outputs read at each time step.

    Attributes:
        steps: time steps from the first input spike; the last is the latency.
        accuracy: percent right at each of them; None without classes or labels.
        agreement: percent with the ANN's class; None without classes.
        errors: of each output, as `csscc.measure.difference.Difference` has it.
    """

    steps: tuple[int, ...]
    accuracy: tuple[float, ...] | None
    agreement: tuple[float, ...] | None
    errors: Mapping[str, tuple[float, ...]]


class ReadingByStep:
    """An observer that reads the outputs at every time step.

    Args:
        model: the time-folded spiking network.
        facts: its metadata.
        counts: outputs of whole numbers that count, see `csscc.measure.counts`.
    """

    def __init__(self, model: onnx.ModelProto, facts: Facts, counts: Collection[str] = ()) -> None:
        depths = {layer.name: layer.depth for layer in facts.layers}
        readouts = [view for _, view in spiking_nodes(model.graph) if view.is_readout]
        last = facts.latency - facts.coding.T
        self._arrives = {view.current[0]: depths.get(view.name, last) for view in readouts}
        self._steps = tuple(range(min(self._arrives.values(), default=last) + 1, facts.latency + 1))
        self._behind = Session(from_tensors(model, list(self._arrives)))
        self._sums = [_Sums(counts) for _ in self._steps]

    @property
    def tensors(self) -> Sequence[str]:
        """What the readouts read."""
        return list(self._arrives)

    def add(self, batch: Batch) -> None:
        """Read the outputs of a batch at each step; at the last, they are those of the file."""
        expected = as_arrays(batch.expected)
        for step, sums in zip(self._steps[:-1], self._sums, strict=False):
            sums.add(expected, self._outputs(batch, step), batch)
        self._sums[-1].add(expected, as_arrays(batch.got), batch)

    def _outputs(self, batch: Batch, step: int) -> dict[str, NDArray[Any]]:
        size, parts = self._behind.fixed_batch or batch.size, []
        for start in range(0, batch.size - size + 1, size):
            samples = slice(start, start + size)
            feeds = {name: values[samples] for name, values in batch.feeds.items()}
            for name, depth in self._arrives.items():
                arrived = batch.trains[name][:, samples].copy()
                arrived[max(step - depth, 0) :] = 0
                feeds[name] = arrived.reshape(-1, *arrived.shape[2:])
            parts.append(as_arrays(self._behind.run(feeds)))
        return parts[0] if len(parts) == 1 else {n: joined([p[n] for p in parts]) for n in parts[0]}

    @property
    def result(self) -> Reading:
        """The result of all batches."""
        accuracy, agreement = [s.accuracy for s in self._sums], [s.agreement for s in self._sums]
        names = list(self._sums[-1].differences)
        return Reading(
            steps=self._steps,
            accuracy=tuple(a for a in accuracy if a is not None) or None,
            agreement=tuple(a for a in agreement if a is not None) or None,
            errors={n: tuple(s.differences[n].error for s in self._sums) for n in names},
        )


class _Sums:
    """Running sums at one step."""

    def __init__(self, counts: Collection[str]) -> None:
        self.differences: dict[str, Difference] = {}
        self._counts = counts
        self._classified = self._labelled = self._same = self._right = 0

    def add(self, expected: Mapping[str, NDArray[Any]], got: Mapping[str, NDArray[Any]], batch: Batch) -> None:
        wanted = {name: value for name, value in expected.items() if name in got}
        for name, value in wanted.items():
            labels = is_label(value) and name not in self._counts
            self.differences.setdefault(name, Difference(name, labels)).add(value, got[name])
        classes = classes_of(wanted, batch.size)
        if classes is not None:
            named = classes_named([got[classes]], NO_ANSWER)
            self._classified += batch.size
            self._same += int((named == classes_named([wanted[classes]], NO_CLASS)).sum())
            if batch.labels is not None:
                self._labelled += batch.size
                self._right += int((named == batch.labels).sum())

    @property
    def accuracy(self) -> float | None:
        return 100 * self._right / self._labelled if self._labelled else None

    @property
    def agreement(self) -> float | None:
        return 100 * self._same / self._classified if self._classified else None
