"""Which class each network names for samples of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from csscc.io.outputs import as_arrays
from csscc.measure.agreement import NO_CLASS, classes_named, classes_of
from csscc.measure.observer import Batch


@dataclass(frozen=True)
class Mistake:
    """Samples of one class that a network calls another; how many by the ANN, how many by the SNN."""

    label: int
    named: int
    ann: int
    snn: int


@dataclass(frozen=True)
class Confusion:
    """Counts ``[label, class named]`` of both networks; samples that they give NaN for are not counted."""

    ann: NDArray[np.int64]
    snn: NDArray[np.int64]

    def mistakes(self, most: int) -> list[Mistake]:
        """The pairs of classes that are mistaken most often by either network, at most so many."""
        larger = np.maximum(self.ann, self.snn)
        np.fill_diagonal(larger, 0)
        order = np.argsort(larger, axis=None, kind="stable")[::-1][:most]
        pairs = [tuple(map(int, np.unravel_index(i, larger.shape))) for i in order]
        return [Mistake(a, b, int(self.ann[a, b]), int(self.snn[a, b])) for a, b in pairs if larger[a, b]]


class ConfusionCounter:
    """An observer that counts classes named, where there are labels."""

    tensors: Sequence[str] = ()

    def __init__(self) -> None:
        self._counts: list[NDArray[np.int64]] | None = None

    def add(self, batch: Batch) -> None:
        """Count a batch."""
        expected, got = as_arrays(batch.expected), as_arrays(batch.got)
        name = classes_of(expected, batch.size)
        if name is None or batch.labels is None:
            return
        classes = expected[name].shape[1]
        if self._counts is None:
            self._counts = [np.zeros((classes, classes), np.int64) for _ in range(2)]
        for counts, outputs in zip(self._counts, (expected, got), strict=True):
            named = classes_named([outputs[name]], NO_CLASS)
            np.add.at(counts, (batch.labels[named != NO_CLASS], named[named != NO_CLASS]), 1)

    @property
    def result(self) -> Confusion | None:
        """The counts; None without classes or labels."""
        return None if self._counts is None else Confusion(*self._counts)
