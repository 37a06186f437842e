"""How far apart what two networks give out is: numbers by their error, labels by the share that differs.

Numbers that are NaN have no distance, nor has an infinite one from any other than itself: where there are such, nothing
is known, and the difference counts as infinite, so that it keeps no bound.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csscc.coding.activations import ACTIVATIONS
from csscc.errors import RefusedError
from csscc.io.outputs import as_arrays, is_label, is_number

Array = NDArray[Any]
EQUAL = 1e-2  # error up to which a network of csscc's own functions stands for a file, see `refuse_unequal`
COLUMNS = 4096  # values of a sample that are compared one by one, at most
NEARLY = 1e-1  # the same where a spike may flip, and flip others in all layers after it


@dataclass
class Difference:
    """Running difference of one output between the ANN and another network.

    Attributes:
        name: of the output.
        labels: whether its values are right or wrong, and never close.
        lost: sum of squared differences, or how many labels differ.
        total: sum of the ANN's squares, or how many labels there are.
        ann_unknown, snn_unknown: how many values could not be compared, since they are NaN or infinite there.
        columns: of numbers ``[B, n]``, as `lost` and `total` of each of the n; shape [2, n]. Where an exporter stacks
            the n values of a sample, ``[B*n, 1]``, they are taken apart.
    """

    name: str
    labels: bool = False
    lost: float = 0.0
    total: float = 0.0
    ann_unknown: int = 0
    snn_unknown: int = 0
    columns: NDArray[np.float64] | None = None

    def add(self, ann: Array, snn: Array, samples: int | None = None) -> None:
        """Compare the values of a batch of so many samples, or of as many as the first axis has.

        Raises:
            RefusedError: they are of different shapes, or numbers here and text there.
        """
        refuse_unlike(self.name, ann, snn)
        if self.labels or not is_number(ann):
            self.lost += float((ann != snn).sum())
            self.total += ann.size
            return
        a, b = ann.astype(np.float64), snn.astype(np.float64)
        unknown = _unknown(a, b)
        if unknown.any():
            self.ann_unknown += int((unknown & ~np.isfinite(a)).sum())
            self.snn_unknown += int((unknown & ~np.isfinite(b)).sum())
        known = np.isfinite(a) & np.isfinite(b)
        a, b = np.where(known, a, 0.0), np.where(known, b, 0.0)
        lost, total = (b - a) ** 2, a**2
        self.lost += float(lost.sum())
        self.total += float(total.sum())
        number = (samples or len(a)) if a.ndim else 0
        if number and a.ndim <= 2 and a.size % number == 0 and 1 < a.size // number <= COLUMNS:
            self._add_columns(np.stack([v.reshape(number, -1).sum(axis=0) for v in (lost, total)]))

    def merge(self, other: Difference) -> None:
        """Add the difference of other values."""
        self.lost += other.lost
        self.total += other.total
        self.ann_unknown += other.ann_unknown
        self.snn_unknown += other.snn_unknown
        if other.columns is not None:
            self._add_columns(other.columns)

    def _add_columns(self, more: NDArray[np.float64]) -> None:
        self.columns = more if self.columns is None else self.columns + more

    @property
    def worst_column(self) -> tuple[int, float] | None:
        """Which value of a sample, from 0, has the largest error relative to its own RMS, and that; None if unknown."""
        if self.columns is None or not math.isfinite(self.error):
            return None
        lost, total = self.columns
        errors = np.sqrt(np.divide(lost, total, out=np.zeros_like(lost), where=total > 0))
        return int(np.argmax(errors)), float(errors.max())

    @property
    def error(self) -> float:
        """RMS of the difference relative to the ANN's RMS; of labels, the share that differs."""
        if self.ann_unknown or self.snn_unknown:
            return math.inf
        share = self.lost / self.total if self.total else float(self.lost > 0)
        error = share if self.labels else math.sqrt(share)
        return error if math.isfinite(error) else math.inf

    @property
    def fault(self) -> str:
        """Why nothing is known of the output; empty if something is."""
        if not self.ann_unknown and not self.snn_unknown:
            return ""
        return (
            f"output '{self.name}' cannot be compared: {self.ann_unknown} value(s) of the ANN's and "
            f"{self.snn_unknown} of the SNN's are NaN or infinite"
        )


def refuse_unlike(name: str, ann: Array, snn: Array) -> None:
    """Refuse outputs that cannot be the same thing.

    Raises:
        RefusedError: they are of different shapes, or numbers here and text there.
    """
    if ann.shape != snn.shape or is_number(ann) != is_number(snn):
        kinds = [f"{list(a.shape)} of {a.dtype.name}" for a in (ann, snn)]
        raise RefusedError(
            f"the networks do not belong together: output '{name}' is {kinds[0]} and {kinds[1]}; compile this ANN"
        )


def tolerance(kinds: Iterable[str]) -> float:
    """Error up to which two runtimes give the same, for a network with layers of these kinds."""
    exact = all(ACTIVATIONS[kind].exact for kind in kinds if kind in ACTIVATIONS)
    return EQUAL if exact else NEARLY


def refuse_unequal(
    file: Mapping[str, Any], own: Mapping[str, Any], counts: Collection[str] = (), within: float = EQUAL
) -> None:
    """Refuse to look into a network of csscc's own functions, or kernels, for a file that answers otherwise.

    A readout may add its steps in any order, and activations that are not exact flip a spike now and then.

    Args:
        file: outputs of the file as it is, of one batch.
        own: of the network that is to stand for it.
        counts: outputs of whole numbers that count.
        within: the error that rounding may cause, see `tolerance`.

    Raises:
        RefusedError: an output differs.
    """
    others = as_arrays(own)
    for name, value in as_arrays(file).items():
        if not _alike(value, others.get(name), labels=is_label(value) and name not in counts, within=within):
            raise RefusedError(
                f"output '{name}' of the file is not what its spiking operators make by csscc's own functions, in "
                "which spikes are counted: was the file changed? csscc verify names the layers"
            )


def _alike(value: Array, other: Array | None, *, labels: bool, within: float) -> bool:
    """Whether two outputs are the same but for rounding, and a label that this turns; NaN in both is the same."""
    if other is None or value.shape != other.shape or is_number(value) != is_number(other):
        return False
    if is_number(value):
        both = np.isnan(value) & np.isnan(other)
        value, other = np.where(both, 0, value), np.where(both, 0, other)
    difference = Difference("", labels)
    difference.add(value, other)
    return difference.error <= within + (1 / max(value.size, 1) if labels else 0)


def largest_difference(got: Array, expected: Array) -> float:
    """Largest difference relative to the largest value; of text, whether any differs."""
    if got.shape != expected.shape:
        return math.inf
    if not is_number(got):
        return float((got != expected).any())
    a, b = got.astype(np.float64), expected.astype(np.float64)
    if _unknown(a, b).any():
        return math.inf
    known = np.isfinite(a)
    a, b = a[known], b[known]
    return float(np.abs(a - b).max(initial=0.0)) / max(float(np.abs(a).max(initial=0.0)), 1e-12)


def _unknown(a: Array, b: Array) -> NDArray[np.bool_]:
    """Where values have no distance: one is not finite, and the other is not the same infinity."""
    unknown: NDArray[np.bool_] = ~(np.isfinite(a) & np.isfinite(b)) & (a != b)
    return unknown
