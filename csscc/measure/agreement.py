"""How far two networks answer alike on the same samples: classes, accuracies, output errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csscc.io.labels import refuse_other_classes
from csscc.io.outputs import as_arrays, is_label, is_number
from csscc.measure.difference import Difference

Margins = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]
FEW = 20  # samples, of which fewer may all be wrong by chance
TRUST = 1 / 3  # in a loss that is seen, beside what margins lead to expect
NO_CLASS, NO_ANSWER = -1, -2  # of samples whose values are NaN, in the ANN and in the other network


class Agreement:
    """Running comparison of an ANN and a spiking (or quantised) network, batch by batch.

    Classes are those of the first output of shape ``[B, classes]``; a sample for which a network gives out NaN has none
    there. Percentages are None where there are no classes, or no labels. Outputs that are no arrays are left out.

    Args:
        labels: class numbers, for accuracies.
        counts: outputs of whole numbers that count, so that they may be close; others are labels.
        folders: names of the classes, where labels number folders.
    """

    def __init__(
        self, labels: NDArray[np.int64] | None = None, counts: Collection[str] = (), folders: Sequence[str] = ()
    ) -> None:
        self.samples = 0
        self._folders = folders
        self._labels = labels
        self._counts = counts
        self.left_out: set[str] = set()
        self._differences: dict[str, Difference] = {}
        self._ann: list[NDArray[np.float64]] = []
        self._snn: list[NDArray[np.float64]] = []
        self._leads: Margins | None = None

    def add(self, expected: Mapping[str, Any], got: Mapping[str, Any], number: int) -> None:
        """Compare the outputs of both, as onnxruntime gives them, for a batch of `number` samples.

        Raises:
            RefusedError: outputs of one name cannot be the same thing, or a label is no class of the network.
        """
        wanted, given = as_arrays(expected), as_arrays(got)
        self.left_out |= set(expected) - (set(wanted) & set(given))
        for name in [n for n in wanted if n in given]:
            labels = is_label(wanted[name]) and name not in self._counts
            self._differences.setdefault(name, Difference(name, labels)).add(wanted[name], given[name], number)
        classes = classes_of({name: wanted[name] for name in wanted if name in given}, number)
        if classes is not None:
            if self._labels is not None and not self._ann:
                refuse_other_classes(self._labels, wanted[classes].shape[1], classes, self._folders)
            self._ann.append(wanted[classes].astype(np.float64))
            self._snn.append(given[classes].astype(np.float64))
        self.samples += number
        self._leads = None

    def merge(self, later: Agreement) -> None:
        """Add the comparison of the samples after these."""
        if self._labels is not None and later._labels is not None:
            self._labels = np.concatenate([self._labels[: self.samples], later._labels])
        self.samples += later.samples
        self.left_out |= later.left_out
        for name, difference in later._differences.items():
            self._differences.setdefault(name, Difference(name, difference.labels)).merge(difference)
        self._ann, self._snn, self._leads = [*self._ann, *later._ann], [*self._snn, *later._snn], None

    @property
    def classes(self) -> bool:
        """Whether the networks are classifiers."""
        return bool(self._ann)

    @property
    def output_error(self) -> dict[str, float]:
        """RMS of the difference relative to the ANN's RMS, of each output; of `labelling`, the share that differs.

        Infinite where a value is NaN, or infinite and not so in the other network: see `faults`.
        """
        return {name: difference.error for name, difference in self._differences.items()}

    @property
    def column_error(self) -> dict[str, tuple[int, float]]:
        """Of outputs of n values a sample, which of them has the largest error, and that, relative to its own RMS."""
        worst = {name: difference.worst_column for name, difference in self._differences.items()}
        return {name: column for name, column in worst.items() if column is not None}

    @property
    def labelling(self) -> tuple[str, ...]:
        """Outputs that name or number classes, or are truth values: right or wrong, but never close."""
        return tuple(name for name, difference in self._differences.items() if difference.labels)

    @property
    def faults(self) -> tuple[str, ...]:
        """What could not be compared, and why; one text for each output."""
        return tuple(d.fault for d in self._differences.values() if d.fault)

    @property
    def agreement(self) -> float | None:
        """Percent of samples with the same class."""
        if not self.classes:
            return None
        return 100 * float(np.mean(classes_named(self._ann, NO_CLASS) == classes_named(self._snn, NO_ANSWER)))

    @property
    def ann_accuracy(self) -> float | None:
        """Percent of samples the ANN gets right."""
        return self._accuracy(self._ann, NO_CLASS)

    @property
    def warnings(self) -> tuple[str, ...]:
        """A text where labels go unused, or the ANN is right no more often than guesses are, to two deviations."""
        if self._labels is not None and self.samples and not self.classes:
            return ("the data has labels (y), but no output has a value for each class: they are not used",)
        accuracy = self.ann_accuracy
        if accuracy is None or self.samples < FEW:
            return ()
        classes = self._ann[0].shape[1]
        guess = 1 / classes
        if accuracy / 100 > guess + 2 * math.sqrt(guess * (1 - guess) / self.samples):
            return ()
        return (
            f"the ANN itself is right for {accuracy:.2f} % of the samples, no more than guesses among {classes} "
            "classes are: the labels number the classes in another order, the samples are not prepared as in "
            "training, or the network is no better",
        )

    @property
    def snn_accuracy(self) -> float | None:
        """Percent of samples the other network gets right."""
        return self._accuracy(self._snn, NO_ANSWER)

    @property
    def loss(self) -> float | None:
        """Percentage points of accuracy lost."""
        ann, snn = self.ann_accuracy, self.snn_accuracy
        return None if ann is None or snn is None else ann - snn

    def _accuracy(self, outputs: list[NDArray[np.float64]], none: int) -> float | None:
        if self._labels is None or not self.classes:
            return None
        right = classes_named(outputs, none) == self._labels[: self.samples]
        return 100 * float(right.mean())

    @property
    def expected_loss(self) -> float | None:
        """Loss to expect on other samples, see `expected_at`; None where there are no classes."""
        return self.expected_at(self.deviation) if self.classes else None

    @property
    def cautious_loss(self) -> float | None:
        """What the loss on other samples should not exceed; None where there are no classes.

        That of `cautious_at`, but moved by a third to the loss seen, if that is larger: errors of single samples can be
        larger than their distribution has it, and the loss seen is that of few samples that change.
        """
        if self.agreement is None:
            return None
        seen = 100 - self.agreement if self.loss is None else self.loss
        likely = self.cautious_at(self.deviation)
        likely = max(likely, self.expected_at(self.deviation))
        return likely + max(0.0, seen - likely) * TRUST if math.isfinite(likely) else likely

    @property
    def deviation(self) -> float:
        """RMS error of the margins, a sample's margin being the ANN's lead of its first class over its second.

        Infinite where outputs cannot be compared, 0 where there are no classes.
        """
        if self.faults:
            return math.inf
        if not self.classes:
            return 0.0
        margin, first, second = self._margins
        rows, snn = np.arange(len(first)), np.concatenate(self._snn)
        with np.errstate(invalid="ignore"):  # both may rule a class out with an infinite value
            error = snn[rows, first] - snn[rows, second] - margin
        error = error[np.isfinite(margin)]
        return math.sqrt(float(np.mean(error**2))) if error.size else 0.0

    def expected_at(self, deviation: float) -> float:
        """Loss that errors of the margins cause: percentage points with labels, percent of other classes without.

        Few samples change their class, and none at all in a small set. But a sample of margin m changes with the
        probability that a normal error of this deviation exceeds m. The sum over all samples counts in fractions what
        `loss` counts in whole samples.
        """
        changed, (_, first, second) = self._changed(deviation, _beyond_normal), self._margins
        if self._labels is None or math.isinf(deviation):
            return 100 * float(changed.mean())
        truth = self._labels[: self.samples]
        return 100 * float(np.mean(changed * ((first == truth).astype(float) - (second == truth))))

    def cautious_at(self, deviation: float) -> float:
        """The share of samples, in percent, that errors of the margins turn from right to wrong.

        What wrong answers gain by chance is no merit: this bounds the loss on new samples where `expected_at` may be
        too hopeful. Nor need errors be normal: a few samples err much more than others, as where values are cut off. So
        the error is of Student's distribution with four degrees of freedom, of the same deviation.
        """
        changed, (_, first, _) = self._changed(deviation, _beyond_student), self._margins
        if self._labels is None or math.isinf(deviation):
            return 100 * float(changed.mean())
        return 100 * float(np.mean(changed * (first == self._labels[: self.samples])))

    @property
    def _margins(self) -> Margins:
        """For each sample the ANN's lead of its first class over its second, and the two."""
        if self._leads is None:
            ann = np.concatenate(self._ann)
            rows, (second, first) = np.arange(len(ann)), np.argsort(ann, axis=1)[:, -2:].T
            self._leads = ann[rows, first] - ann[rows, second], first, second
        return self._leads

    def _changed(self, deviation: float, beyond: Callable[[float], float]) -> NDArray[np.float64]:
        """For each sample the probability that its class changes; infinite where nothing is known."""
        margin = self._margins[0]
        if math.isinf(deviation):
            return np.full(len(margin), math.inf)
        if deviation == 0:
            return np.zeros(len(margin))
        return np.array([beyond(float(m) / deviation) for m in margin])


def _beyond_normal(deviations: float) -> float:
    """The probability that a normal number is above so many deviations."""
    return 0.5 * math.erfc(deviations / math.sqrt(2))


def _beyond_student(deviations: float) -> float:
    """That of Student's distribution with four degrees of freedom, whose deviation is sqrt(2), in closed form."""
    square = 1 / (1 + 2 / deviations**2) if deviations else 0.0  # t**2 / (4 + t**2)
    return max(0.0, 0.5 - 0.75 * math.sqrt(square) * (1 - square / 3))


def quantity_of(*, labels: bool, classes: bool) -> str:
    """What a loss counts, of networks that classify or do not, on samples with labels or without."""
    if not classes:
        return "percent of output error"
    return "points of accuracy" if labels else "percent of samples that change class"


def classes_of(outputs: Mapping[str, NDArray[Any]], number: int) -> str | None:
    """Name of the first output of `number` samples that holds a value for each class; None if there is none."""
    return next((n for n, v in outputs.items() if _holds_classes(v) and len(v) == number), None)


def _holds_classes(values: NDArray[Any]) -> bool:
    return values.ndim == 2 and values.shape[1] > 1 and is_number(values)


def classes_named(outputs: Sequence[NDArray[Any]], none: int) -> NDArray[np.int64]:
    """The class of each sample of all batches, `none` where a value is NaN."""
    values = np.concatenate(outputs)
    return np.where(np.isnan(values).any(axis=1), none, values.argmax(axis=1))
