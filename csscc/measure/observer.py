"""What may look at each batch that an evaluation runs, so that nothing is run twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from csscc.io.batches import Arrays


@dataclass(frozen=True)
class Batch:
    """A batch of samples and what both networks made of it.

    Attributes:
        feeds: inputs by name.
        labels: class numbers, one a sample, or None.
        expected: outputs of the ANN, as onnxruntime gives them.
        got: outputs of the SNN.
        trains: the tensors that the observer asked for, ``[T, B, ...]``.
        size: number of samples.
    """

    feeds: Arrays
    labels: NDArray[np.int64] | None
    expected: Mapping[str, Any]
    got: Mapping[str, Any]
    trains: Mapping[str, NDArray[Any]]
    size: int


class Observer(Protocol):
    """Looks at each batch."""

    @property
    def tensors(self) -> Sequence[str]:
        """Trains and currents of the time-folded network that it wants to see."""

    def add(self, batch: Batch) -> None:
        """Take a batch."""
