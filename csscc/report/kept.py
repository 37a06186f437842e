"""A few samples that are looked at neuron by neuron: the first, and some on which the two networks differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from csscc.io.batches import Arrays
from csscc.io.outputs import as_arrays
from csscc.measure.agreement import NO_ANSWER, NO_CLASS, classes_named, classes_of
from csscc.measure.observer import Batch


@dataclass(frozen=True)
class Sample:
    """One sample.

    Attributes:
        number: its place in the data, from 0.
        feeds: its inputs by name, each a batch of one.
        label: its class, or None.
        ann, snn: the classes that the networks name, or None.
    """

    number: int
    feeds: Arrays
    label: int | None
    ann: int | None
    snn: int | None

    @property
    def title(self) -> str:
        """Its number, and what is known of its class."""
        classes = [f"class {self.label}"] if self.label is not None else []
        classes += [f"ANN {self.ann}", f"SNN {self.snn}"] if self.ann is not None else []
        return f"sample {self.number}" + (f" ({', '.join(classes)})" if classes else "")


class KeptSamples:
    """An observer that keeps the first samples, and the first on which the networks differ.

    Args:
        first: how many of the first.
        different: at most so many others whose classes differ.
    """

    tensors: Sequence[str] = ()

    def __init__(self, first: int, different: int) -> None:
        self._first, self._different = first, different
        self._seen = 0
        self.samples: list[Sample] = []

    def add(self, batch: Batch) -> None:
        """Look at a batch."""
        expected, got = as_arrays(batch.expected), as_arrays(batch.got)
        name = classes_of(expected, batch.size)
        ann = snn = None
        if name is not None:
            ann, snn = classes_named([expected[name]], NO_CLASS), classes_named([got[name]], NO_ANSWER)
        for row in range(batch.size):
            number = self._seen + row
            differs = ann is not None and snn is not None and ann[row] != snn[row]
            if number >= self._first and not (differs and len(self.samples) < self._first + self._different):
                continue
            self.samples.append(
                Sample(
                    number,
                    {n: np.array(v[row : row + 1]) for n, v in batch.feeds.items()},
                    None if batch.labels is None else int(batch.labels[row]),
                    None if ann is None else int(ann[row]),
                    None if snn is None else int(snn[row]),
                )
            )
        self._seen += batch.size
