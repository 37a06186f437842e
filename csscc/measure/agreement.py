"""How far two networks answer alike on the same samples: classes, accuracies, output errors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csscc.io.outputs import as_arrays, is_label, is_number

CAUTION = 2.0


class Agreement:
    """Running comparison of an ANN and a spiking (or quantised) network, batch by batch.

    Classes are those of the first output of shape ``[B, classes]``. Percentages are None where there are no classes, or
    no labels. Outputs that are no arrays are left out.
    """

    def __init__(self, labels: NDArray[np.int64] | None = None) -> None:
        self.samples = 0
        self._labels = labels
        self.left_out: set[str] = set()
        self._sums: dict[str, list[float]] = {}
        self._labelling: set[str] = set()
        self._ann: list[NDArray[np.float64]] = []
        self._snn: list[NDArray[np.float64]] = []

    def add(self, expected: Mapping[str, Any], got: Mapping[str, Any], number: int) -> None:
        """Compare the outputs of both, as onnxruntime gives them, for a batch of `number` samples."""
        wanted, given = as_arrays(expected), as_arrays(got)
        self.left_out |= set(expected) - set(wanted)
        for name, value in wanted.items():
            sums = self._sums.setdefault(name, [0.0, 0.0])
            if not is_label(value):
                known = np.isfinite(value)
                ann, snn = value[known].astype(np.float64), given[name][known].astype(np.float64)
                sums[0] += float(((snn - ann) ** 2).sum())
                sums[1] += float((ann**2).sum())
            else:
                self._labelling.add(name)
                sums[0] += float((value != given[name]).sum())
                sums[1] += value.size
        classes = classes_of(wanted, number)
        if classes is not None:
            self._ann.append(wanted[classes].astype(np.float64))
            self._snn.append(given[classes].astype(np.float64))
        self.samples += number

    @property
    def classes(self) -> bool:
        """Whether the networks are classifiers."""
        return bool(self._ann)

    @property
    def output_error(self) -> dict[str, float]:
        """RMS of the difference relative to the ANN's RMS, of each output, where the ANN's values are finite.

        Of labels, the share that differs.
        """
        shares = {n: d / v if v else float(d > 0) for n, (d, v) in self._sums.items()}
        return {n: share if n in self._labelling else math.sqrt(share) for n, share in shares.items()}

    @property
    def agreement(self) -> float | None:
        """Percent of samples with the same class."""
        if not self.classes:
            return None
        return 100 * float(np.mean(np.concatenate(self._ann).argmax(1) == np.concatenate(self._snn).argmax(1)))

    @property
    def ann_accuracy(self) -> float | None:
        """Percent of samples the ANN gets right."""
        return self._accuracy(self._ann)

    @property
    def snn_accuracy(self) -> float | None:
        """Percent of samples the other network gets right."""
        return self._accuracy(self._snn)

    @property
    def loss(self) -> float | None:
        """Percentage points of accuracy lost."""
        ann, snn = self.ann_accuracy, self.snn_accuracy
        return None if ann is None or snn is None else ann - snn

    def _accuracy(self, outputs: list[NDArray[np.float64]]) -> float | None:
        if self._labels is None or not self.classes:
            return None
        right = np.concatenate(outputs).argmax(1) == self._labels[: self.samples]
        return 100 * float(right.mean())

    @property
    def expected_loss(self) -> float | None:
        """Loss to expect on other samples: percentage points with labels, percent of other classes without.

        Few samples change their class, and none at all in a small set. But each has a margin, the ANN's lead of its
        first class over its second, and the margins' errors have a root mean square s: a sample of margin m changes
        with the probability that a normal error of deviation s exceeds m. The sum over all samples counts in
        fractions what `loss` counts in whole samples.
        """
        if not self.classes:
            return None
        changed, first, second = self._changes(1.0)
        if self._labels is None:
            return 100 * float(changed.mean())
        truth = self._labels[: self.samples]
        return 100 * float(np.mean(changed * ((first == truth).astype(float) - (second == truth))))

    @property
    def cautious_loss(self) -> float | None:
        """The share of samples, in percent, that errors twice as large would turn from right to wrong.

        A network leads by more on samples it was trained on than on others, and what wrong answers gain by chance is
        no merit: this bounds the loss on new samples where `expected_loss` may be too hopeful.
        """
        if not self.classes:
            return None
        changed, first, _ = self._changes(CAUTION)
        right = np.ones_like(first) if self._labels is None else first == self._labels[: self.samples]
        return 100 * float(np.mean(changed * right))

    def _changes(self, factor: float) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """For each sample the probability that its class changes, its first and its second class."""
        ann, snn = np.concatenate(self._ann), np.concatenate(self._snn)
        rows = np.arange(len(ann))
        second, first = np.argsort(ann, axis=1)[:, -2:].T
        margin = ann[rows, first] - ann[rows, second]
        error = snn[rows, first] - snn[rows, second] - margin
        deviation = factor * math.sqrt(float(np.mean(error**2)))
        if deviation == 0:
            return np.zeros(len(ann)), first, second
        return np.array([0.5 * math.erfc(m / (deviation * math.sqrt(2))) for m in margin]), first, second


def classes_of(outputs: Mapping[str, NDArray[Any]], number: int) -> str | None:
    """Name of the first output of `number` samples that holds a value for each class; None if there is none."""
    return next((n for n, v in outputs.items() if _holds_classes(v) and len(v) == number), None)


def _holds_classes(values: NDArray[Any]) -> bool:
    return values.ndim == 2 and values.shape[1] > 1 and is_number(values)
