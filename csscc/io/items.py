"""One item of a user's data, as frameworks make them, as arrays by name: a batch or a sample, with labels or without.

Nothing here imports a framework; objects are known by what they can do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LABELS = "y"
ONLY_INPUT = "x"
LABEL_NAMES = (LABELS, "label", "labels")  # of a Mapping: csscc's own, datasets of Hugging Face, their collators
Shapes = Mapping[str, Sequence[int | str | None]]


class NoArrayError(Exception):
    """Something in an item is no array of numbers; the message names what it is."""


def items_of(data: Any) -> Iterable[Any] | None:
    """What an object with samples holds, one after the other; None if it is no such object.

    It is iterated, or asked for the next until there is none (onnxruntime's CalibrationDataReader), or for item 0, 1
    and so on (datasets of PyTorch, polygraphy's loaders).
    """
    if isinstance(data, str | bytes | type):
        return None
    if isinstance(data, Iterable):
        return data
    if callable(getattr(data, "get_next", None)):
        return _until_none(data.get_next)
    return _by_index(data) if hasattr(data, "__getitem__") else None


def _until_none(get_next: Callable[[], Any]) -> Iterator[Any]:
    while (item := get_next()) is not None:
        yield item


def _by_index(data: Any) -> Iterator[Any]:
    """All of what states its length; else until an index is refused."""
    for index in range(len(data) if hasattr(data, "__len__") else sys.maxsize):
        try:
            item = data[index]
        except IndexError:
            return
        yield item


def as_array(value: Any) -> NDArray[Any]:
    """An array of anything that NumPy takes, and of PyTorch's tensors wherever they are."""
    if callable(getattr(value, "detach", None)):
        value = value.detach().cpu()
    return np.asarray(value)


def fits(shape: Sequence[int | str | None], sizes: Sequence[int]) -> bool:
    """Whether sizes are those of a shape, which is free where it has no number."""
    return len(shape) == len(sizes) and all(
        not isinstance(wanted, int) or wanted == size for wanted, size in zip(shape, sizes, strict=True)
    )


def batch_of(item: Any, shapes: Shapes) -> dict[str, NDArray[Any]]:
    """Arrays by the names of the network's inputs, labels as ``y``; what else the item names is an empty array.

    A bare array is that of the first input; a tuple or list is the inputs in order, with labels after them or not. A
    sample by itself, which lacks the first axis of all inputs, is a batch of one.

    Args:
        item: what the user's code made.
        shapes: of the network's inputs, by name.

    Raises:
        NoArrayError: something is no array.
    """
    given, labels = _parts(item, shapes)
    wanted = {*shapes, ONLY_INPUT}
    arrays = {}
    for name, value in given.items():
        if name in LABEL_NAMES and name not in shapes:
            labels = value
        else:
            label = name if isinstance(item, Mapping) else None
            arrays[str(name)] = array_in(item, value, label) if name in wanted else np.empty(0)
    if labels is not None:
        arrays[LABELS] = array_in(item, labels, LABELS)
    inputs = [(n, shapes[n] if n in shapes else next(iter(shapes.values()))) for n in arrays if n in wanted]
    single = labels is not None and arrays[LABELS].ndim == 0
    if inputs and all(
        arrays[name].ndim == len(shape) - 1 if single else fits(shape[1:], arrays[name].shape) for name, shape in inputs
    ):
        taken = [name for name, _ in inputs] + ([LABELS] if labels is not None else [])
        return {name: a[None] if name in taken else a for name, a in arrays.items()}
    for name, array in arrays.items():
        if array.ndim == 0:
            value = given.get(name, labels)
            raise NoArrayError(f"{kind_of(value)} for '{name}'" if value is not item else kind_of(item))
    return arrays


def _parts(item: Any, shapes: Shapes) -> tuple[Mapping[Any, Any], Any]:
    """The inputs in an item by name, and its labels, None where there are none beside the names."""
    names = list(shapes)
    if isinstance(item, Mapping):
        return item, None
    if isinstance(item, tuple | list) and len(item) == 2:
        if isinstance(item[0], Mapping):
            return item[0], item[1]
        if isinstance(item[0], tuple | list) and len(item[0]) == len(names) > 1:
            return dict(zip(names, item[0], strict=True)), item[1]
    if isinstance(item, tuple | list) and len(item) - len(names) in (0, 1) and _in_order(item, shapes):
        return dict(zip(names, item, strict=False)), item[-1] if len(item) > len(names) else None
    return {names[0]: item}, None


def _in_order(item: Sequence[Any], shapes: Shapes) -> bool:
    """Whether a sequence is the inputs, or those and labels: not a batch as a list of samples."""
    if not all(hasattr(value, "shape") for value in item[: len(shapes)]):
        return False
    if len(shapes) > 1:
        return True
    axes = len(item[0].shape) - len(next(iter(shapes.values())))
    return axes == 0 or (axes == -1 and all(np.ndim(label) == 0 for label in item[1:]))


def flat(item: Any) -> dict[str, NDArray[Any]]:
    """All arrays in an item, by their place in it: what it holds, whatever the network takes."""
    if isinstance(item, Mapping):
        inner = {str(name): value for name, value in item.items()}
    elif isinstance(item, tuple | list) and any(hasattr(v, "shape") or isinstance(v, Mapping) for v in item):
        inner = {str(place): value for place, value in enumerate(item)}
    else:
        return {"": array_in(item, item)}
    return {f"{name}/{place}": array for name, value in inner.items() for place, array in flat(value).items()}


def array_in(item: Any, value: Any, name: str | None = None) -> NDArray[Any]:
    """The array of a value in an item, or of the item itself.

    Raises:
        NoArrayError: it is none of numbers.
    """
    try:
        array = as_array(value)
    except Exception as error:
        raise NoArrayError(f"{kind_of(item)} that is no array") from error
    if not isinstance(value, np.ndarray) and array.dtype.kind not in "biufc":
        raise NoArrayError(kind_of(item) if name is None else f"{kind_of(value)} for '{name}'")
    return array


def kind_of(value: Any) -> str:
    """What messages call a value."""
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
