"""Trees of images in which each folder is a class, as in torchvision's ImageFolder and Hugging Face's imagefolder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from csscc.errors import RefusedError

T = TypeVar("T")
SPLITS = frozenset(["train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval", "evaluation"])


def labels_of_folders(root: Path, files: Sequence[Path]) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Class numbers of images, and the names of the classes: the folders in `root`, numbered in sorted order from 0.

    A folder without images keeps its number. There are no labels where images lie in `root` itself, or all of them in
    one folder.

    Raises:
        RefusedError: the folders are splits (train, test, ...) that hold the classes.
    """
    parts = [file.relative_to(root).parts for file in files]
    used = {p[0] for p in parts}
    if any(len(p) == 1 for p in parts):
        return None, ()
    if {name.lower() for name in used} <= SPLITS:
        if any(len(p) > 2 for p in parts):
            splits = ", ".join(sorted(used))
            raise RefusedError(f"{root}: holds the splits {splits}; pass one of them, as {root / min(used)}")
        return None, ()
    if len(used) == 1:
        return None, ()
    names = sorted({p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")} | used)
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers[p[0]] for p in parts], np.int64), tuple(names)


def in_turn(files: Sequence[T], labels: NDArray[np.int64], limit: int) -> tuple[list[T], NDArray[np.int64]]:
    """`limit` of the files, one of each class in turn, and their labels: the first ones would all be of one class."""
    by_class = [np.flatnonzero(labels == number) for number in np.unique(labels)]
    chosen = [int(i) for i in chain.from_iterable(zip_longest(*by_class)) if i is not None][:limit]
    return [files[i] for i in chosen], labels[chosen]
