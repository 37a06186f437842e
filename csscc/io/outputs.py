"""What a network gives out, as arrays: onnxruntime hands out sequences and maps as Python lists and dictionaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def as_arrays(outputs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Outputs by name, those left out that cannot be an array.

    Maps from classes to probabilities, one a sample, as scikit-learn's classifiers give them out, become
    ``[B, classes]`` in the order of the classes; a sequence of tensors of one shape ``S`` becomes ``[length, *S]``.
    Text stays text.
    """
    arrays = {}
    for name, value in outputs.items():
        array = _from_list(value) if isinstance(value, list) else value
        if isinstance(array, np.ndarray | np.generic):
            arrays[name] = np.asarray(array)
    return arrays


def is_number(array: NDArray[Any]) -> bool:
    """Whether the values can be subtracted: numbers and truth values, no text."""
    return array.dtype.kind in "fiub"


def is_label(array: NDArray[Any]) -> bool:
    """Whether the values are names or numbers of classes, or truth values: either right or wrong, but never close."""
    return array.dtype.kind not in "fu" and array.dtype != np.int8


def _from_list(values: list[Any]) -> NDArray[Any] | None:
    if values and all(isinstance(v, dict) for v in values):
        keys = sorted(values[0])
        values = [np.array([v[k] for k in keys]) if sorted(v) == keys else None for v in values]
    alike = len({np.shape(v) for v in values}) == 1 and not any(v is None for v in values)
    return np.stack(values) if alike else None
