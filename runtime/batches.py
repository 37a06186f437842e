"""Run a network on more samples than it takes, or than fit into memory, at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csscc.runtime.session import Session


def run_in_batches(session: Session, feeds: Mapping[str, NDArray[Any]], size: int) -> dict[str, NDArray[Any]]:
    """Outputs for all samples, `size` of them at a time.

    They run at once where they are no more, where inputs differ in their number, or where an input or output has
    another first dimension than the batch.
    """
    firsts = {d.shape[0] if d.shape else None for d in (*session.inputs, *session.outputs)}
    numbers = {len(value) if np.ndim(value) else 0 for value in feeds.values()}
    if len(firsts) > 1 or not isinstance(next(iter(firsts)), str) or len(numbers) > 1 or 0 < max(numbers) <= size:
        return session.run(feeds)
    (number,) = numbers
    if not number:  # of which older releases of onnxruntime cannot split the steps
        one = {name: np.zeros((1, *value.shape[1:]), value.dtype) for name, value in feeds.items()}
        return {name: value[:0] for name, value in session.run(one).items()}
    return in_parts(session, feeds, number, size)


def in_parts(session: Session, feeds: Mapping[str, NDArray[Any]], number: int, size: int) -> dict[str, Any]:
    """Outputs for the first `number` samples, `size` of them at a time."""
    starts = range(0, number, size)
    parts = [session.run({name: value[i : i + size] for name, value in feeds.items()}) for i in starts]
    return {name: joined([part[name] for part in parts]) for name in parts[0]}


def joined(parts: list[Any]) -> Any:
    """An output of several batches as one; outputs without a batch axis are stacked, sequences continued."""
    if isinstance(parts[0], list):
        return [value for part in parts for value in part]
    return np.concatenate(parts) if parts[0].ndim else np.stack(parts)
