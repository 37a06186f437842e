"""Factors: constants that multiply a core tensor, as arrays that broadcast after the batch axis.

A factor of a tensor ``[batch, d1, d2, ...]`` has at most as many axes as the tensor has after the batch, aligned to
the right, each of size 1 where the factor does not vary; a factor that varies nowhere has no axes. Multiplying by one
commutes with a linear operator whenever it is constant over everything the operator mixes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Factor = NDArray[np.float64]
ONE: Factor = np.ones((), np.float64)
ZERO: Factor = np.zeros((), np.float64)


def compress(values: NDArray[np.floating]) -> Factor:
    """The same factor with every axis it does not vary along reduced to one."""
    array = np.asarray(values, np.float64)
    for axis in range(array.ndim):
        first = array.take([0], axis=axis)
        if np.array_equal(np.broadcast_to(first, array.shape), array):
            array = first
    return array.reshape(()) if array.size == 1 else array


def after_batch(factor: Factor, rank: int) -> Factor:
    """The factor with all ``rank - 1`` axes of a tensor of that rank written out."""
    return factor.reshape((1,) * (rank - 1 - factor.ndim) + factor.shape)


def along(factor: Factor, rank: int, axis: int) -> Factor | None:
    """The factor as a vector along one axis of a tensor of rank `rank`; None if it varies along another.

    A factor without axes comes back as it is.
    """
    if factor.ndim == 0:
        return factor
    full = after_batch(factor, rank)
    axis = axis % rank - 1
    if any(size > 1 for i, size in enumerate(full.shape) if i != axis):
        return None
    return full.reshape(-1)


def spread(vector: Factor, rank: int, axis: int) -> Factor:
    """The inverse of `along`: a vector placed at one axis of a tensor of rank `rank`."""
    if vector.ndim == 0:
        return vector
    shape = [1] * (rank - 1)
    shape[axis % rank - 1] = vector.size
    return vector.reshape(shape)


def constant_over(factor: Factor, rank: int, axes: Sequence[int]) -> bool:
    """Whether the factor does not vary along any of `axes` of a tensor of rank `rank`."""
    full = after_batch(factor, rank)
    return all(full.shape[a % rank - 1] == 1 for a in axes)
