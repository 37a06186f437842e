"""Samples in batches: of another size, only the first of them, or all but the first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


def rebatched(chunks: Iterable[Arrays], size: int) -> Iterator[Arrays]:
    """Batches of `size` samples out of chunks of any; fewer at the end, and where the next are of another shape."""
    waiting: list[Arrays] = []
    number = 0
    for chunk in chunks:
        if waiting and any(a.shape[1:] != waiting[0][n].shape[1:] for n, a in chunk.items()):
            yield _joined(waiting)
            waiting, number = [], 0
        start, end = 0, len(next(iter(chunk.values())))
        while start < end:
            taken = min(size - number, end - start)
            waiting.append({n: a[start : start + taken] for n, a in chunk.items()})
            start, number = start + taken, number + taken
            if number == size:
                yield _joined(waiting)
                waiting, number = [], 0
        if waiting:  # whoever made the chunk may fill the same arrays again
            waiting[-1] = {n: a.copy() for n, a in waiting[-1].items()}
    if waiting:
        yield _joined(waiting)


def _joined(parts: list[Arrays]) -> Arrays:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def limited(batches: Iterable[Arrays], samples: int) -> Iterator[Arrays]:
    """The first batches that make up `samples` samples; the last is cut to size."""
    left = samples
    for feeds in batches:
        size = len(next(iter(feeds.values())))
        yield feeds if size <= left else {n: a[:left] for n, a in feeds.items()}
        left -= size
        if left <= 0:
            return


def skipped(batches: Iterable[Arrays], samples: int) -> Iterator[Arrays]:
    """What comes after the first `samples` samples."""
    for feeds in batches:
        size = len(next(iter(feeds.values())))
        if samples < size:
            yield {n: a[samples:] for n, a in feeds.items()} if samples else feeds
        samples = max(0, samples - size)
