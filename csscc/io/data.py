"""Where sample inputs and labels come from: arrays, .npy, .npz, a folder of images, or a user's code and objects."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csscc.errors import RefusedError, UsageError
from csscc.io.arrays import read_arrays
from csscc.io.batches import Arrays, limited, rebatched, skipped
from csscc.io.class_folders import in_turn, labels_of_folders
from csscc.io.finite import not_finite
from csscc.io.generators import Samples, as_arrays, kept, load_function
from csscc.io.images import ImageOptions as ImageOptions
from csscc.io.images import image_files, read_images
from csscc.io.items import LABEL_NAMES, fits, items_of
from csscc.io.items import ONLY_INPUT as ONLY_INPUT
from csscc.io.labels import class_numbers, labels_of_images

IMAGES_AT_ONCE = 16
GIVEN = "the samples given"  # what messages call those that come from no file


@dataclass(frozen=True)
class InputSpec:
    """What the network takes: name, shape (a name or None where free) and dtype."""

    name: str
    shape: tuple[int | str | None, ...]
    dtype: str


@dataclass
class Source:
    """Sample inputs, checked against what the network takes, and labels where there are any.

    Attributes:
        specs: the network's inputs.
        chunks: makes an iterator over dictionaries of arrays, each with any number of samples.
        description: what messages call it.
        size: number of samples, None where unknown.
        classes: names of the folders that are the classes, in the order of their numbers; empty for other labels.
    """

    specs: tuple[InputSpec, ...]
    chunks: Any
    description: str
    size: int | None = None
    synthetic: bool = False
    classes: tuple[str, ...] = ()
    _labels: NDArray[np.int64] | Callable[[], NDArray[np.int64] | None] | None = field(default=None, repr=False)

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """Class numbers, one a sample, or None.

        Raises:
            RefusedError: a user's code makes labels that are no class numbers; it runs where they are first asked for.
        """
        return self._labels() if callable(self._labels) else self._labels

    def first(self, samples: int) -> Source:
        """The same source, cut off after so many samples."""
        chunks = self.chunks
        size = None if self.size is None else min(self.size, samples)

        def labels() -> NDArray[np.int64] | None:
            all_labels = self.labels
            return None if all_labels is None else all_labels[:samples]

        return replace(self, chunks=lambda: limited(chunks(), samples), size=size, _labels=labels)

    def between(self, start: int, stop: int) -> Source:
        """The samples from `start` on, before `stop`."""
        upto = self.first(stop)

        def labels() -> NDArray[np.int64] | None:
            known = upto.labels
            return None if known is None else known[start:]

        size = None if upto.size is None else max(0, upto.size - start)
        return replace(upto, chunks=lambda: skipped(upto.chunks(), start), size=size, _labels=labels)

    @property
    def name(self) -> str:
        """What a file may state of it: the description without the folders of this machine."""
        return self.description.replace("\\", "/").rstrip("/").rpartition("/")[2]

    def batches(self, size: int) -> Iterator[Arrays]:
        """Feeds of `size` samples each, in order, fewer at the end and in front of samples of another size.

        However the data come in pieces, the same samples make the same batches, and so the same sums: statistics are
        taken batch by batch.

        Raises:
            RefusedError: a sample does not fit the network, holds NaN or infinity, or there is none.
        """
        empty = True
        for feeds in rebatched((checked(c, self.specs, self.description) for c in self.chunks()), size):
            empty = False
            yield feeds
        if empty:
            raise RefusedError(
                f"{self.description}: there are no samples in it; pass at least one, better a few hundred"
            )


def checked(chunk: Arrays, specs: tuple[InputSpec, ...], where: str) -> dict[str, NDArray[Any]]:
    """The network's inputs out of `chunk`, in its dtypes.

    Raises:
        RefusedError: an input is missing, or has the wrong shape or type, or is not finite.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for spec in specs:
        key = spec.name if spec.name in chunk else ONLY_INPUT if len(specs) == 1 else None
        if key is None or key not in chunk:
            raise RefusedError(
                f"{where}: no array for the network's input '{spec.name}'; it has {sorted(map(str, chunk))}. "
                f"Name the arrays after the inputs ({', '.join(s.name for s in specs)})"
                + (f" or '{ONLY_INPUT}'" if len(specs) == 1 else "")
            )
        arrays[spec.name] = _fitted(np.asarray(chunk[key]), spec, where)
    lengths = {len(a) for a in arrays.values()}
    if len(lengths) > 1:
        raise RefusedError(
            f"{where}: the inputs have {' and '.join(map(str, sorted(lengths)))} samples; give as many of each"
        )
    return arrays

FLAT = 2  # axes of samples without axes of their own


def _fitted(array: NDArray[Any], spec: InputSpec, where: str) -> NDArray[Any]:
    wanted = ", ".join(str(d) if d is not None else "?" for d in spec.shape)
    if not (array.ndim == len(spec.shape) and fits(spec.shape[1:], array.shape[1:])):
        raise RefusedError(
            f"{where}: input '{spec.name}' takes arrays of shape [{wanted}], but these are {list(array.shape)}; "
            f"{_layout(array.shape, spec) or 'pass model-ready samples, batch first'}"
        )
    target = np.dtype(spec.dtype)
    if target.kind == "O" and _is_text(array):
        return array.astype(target)
    numbers = target.kind != "O" and array.dtype.kind in "biuf"
    if not numbers or (target.kind in "iub" and array.dtype.kind == "f"):
        takes = "text" if target.kind == "O" else target.name
        found = {"U": "text", "O": "objects"}.get(array.dtype.kind, array.dtype.name)
        reason = f"takes {takes}, but these are {found}; convert them"
        raise RefusedError(f"{where}: input '{spec.name}' {reason}")
    if target.kind in "iub" and array.size:  # a cast would wrap around, or take any number for true
        low, high = (0, 1) if target.kind == "b" else (np.iinfo(target).min, np.iinfo(target).max)
        if array.min() < low or array.max() > high:
            takes, found = f"takes {target.name}, {low} to {high}", f"from {array.min()} to {array.max()}"
            raise RefusedError(
                f"{where}: input '{spec.name}' {takes}, but these are {found}; prepare them as for the network"
            )
    with np.errstate(over="ignore"):
        array = array.astype(target, copy=False)
    if bad := not_finite(array):
        raise RefusedError(f"{where}: input '{spec.name}' holds {bad} value(s) that are NaN or infinite; remove them")
    return array


def _is_text(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "U" or (array.dtype.kind == "O" and all(isinstance(v, str) for v in array.flat))


def _layout(sizes: tuple[int, ...], spec: InputSpec) -> str:
    """What to do with images whose channels stand at the wrong end or nowhere; empty for others."""
    for layout, (has, axes) in {"NCHW": ("last", (0, 3, 1, 2)), "NHWC": ("first", (0, 2, 3, 1))}.items():
        if len(sizes) == len(spec.shape) == 4 and fits(spec.shape[1:], [sizes[a] for a in axes[1:]]):
            order = ", ".join(map(str, axes))
            return f"they have channels {has}: pass x.transpose({order}), of image files --layout {layout}"
    if len(sizes) + 1 == len(spec.shape) and fits(spec.shape[1:], sizes):
        return "the axis of the samples is missing: pass x[None]"
    for axis, index in {1: ":, None", 3: "..., None"}.items():
        whole = [*sizes[1:axis], 1, *sizes[axis:]]
        if len(sizes) + 1 == len(spec.shape) == 4 and spec.shape[axis] == 1 and fits(spec.shape[1:], whole):
            return f"the axis of the channel is missing: pass x[{index}]"
    for channel, rows, columns in ((1, 2, 3), (3, 1, 2)) if len(sizes) == len(spec.shape) == 4 else ():
        image = (spec.shape[rows], spec.shape[columns])
        if fits(image, (sizes[rows], sizes[columns])) and (spec.shape[channel], sizes[channel]) == (1, 3):
            return "they have colours: of image files --channel-order GRAY"
        if spec.shape[channel] == sizes[channel] and isinstance(image[0], int) and image[0] == image[1]:
            return f"they have another size: of image files --image-size {image[0]}"
    inner = [size for size in spec.shape[1:] if isinstance(size, int)]
    if len(sizes) == FLAT and len(inner) == len(spec.shape) - 1 and sizes[1] == math.prod(inner):
        return f"they are flat: pass x.reshape({', '.join(map(str, (-1, *inner)))})"
    return ""


def open_source(
    data: Any, specs: tuple[InputSpec, ...], *, images: ImageOptions | None = None, limit: int | None = None
) -> Source:
    """A source from what the user gave: a path, an array, arrays by name or with labels, or what `items_of` can read.

    Objects are read here, as far as `limit`, and kept; a function is called for every use of the data. A source is
    given back as it is.

    Raises:
        RefusedError: the file is missing, cannot be read or holds no samples.
        UsageError: the kind of data is not known.
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, str | Path):
        return _from_path(str(data), specs, images or ImageOptions(), limit)
    if isinstance(data, Mapping):
        return _from_arrays(data, specs, GIVEN, limit)
    if hasattr(data, "__array__") and hasattr(data, "shape"):  # NumPy's, and tensors of any framework
        return _from_arrays({specs[0].name: data}, specs, GIVEN, limit)
    found = data if callable(data) else [data] if _is_with_labels(data, specs) else items_of(data)
    if found is not None:
        plain = callable(data) or isinstance(data, Iterator | Sequence)
        return _from_iterable(found, specs, GIVEN if plain else type(data).__name__, limit)
    raise UsageError(f"samples of type {type(data).__name__}: pass an array, a dict of arrays, an iterable, or a path")


def _is_with_labels(data: Any, specs: tuple[InputSpec, ...]) -> bool:
    """Whether it is ``(x, y)``: the inputs in order and a label for each sample, and not a tuple of samples."""
    if not isinstance(data, tuple) or len(data) != len(specs) + 1:
        return False
    labels = np.shape(data[-1])
    one_hot = len(labels) == 2 and labels[:1] == np.shape(data[0])[:1] and not fits(specs[0].shape[1:], labels[1:])
    if len(labels) != 1 and not one_hot:
        return False
    return all(len(getattr(v, "shape", ())) == len(s.shape) > 1 for v, s in zip(data, specs, strict=False))


def _from_path(path: str, specs: tuple[InputSpec, ...], images: ImageOptions, limit: int | None) -> Source:
    file, _, function = path.rpartition(":")
    if file.endswith(".py"):
        return _from_iterable(load_function(file, function), specs, path, limit)
    location = Path(path)
    if not location.exists():
        raise RefusedError(f"{path}: no such file or folder; pass .npy, .npz, a folder of images, or file.py:function")
    if location.is_dir():
        return _from_images(location, specs, images, limit)
    if location.suffix == ".onnx":
        raise RefusedError(
            f"{path}: this is a network, not samples; pass .npy, .npz, a folder of images, or file.py:function"
        )
    if location.suffix not in (".npy", ".npz"):
        raise RefusedError(
            f"{path}: not a kind of data csscc reads; pass .npy, .npz, a folder of images, or file.py:function"
        )
    arrays = read_arrays(location, ONLY_INPUT, {ONLY_INPUT, *LABEL_NAMES, *(spec.name for spec in specs)})
    return _from_arrays(arrays, specs, path, limit)


def _from_arrays(arrays: Arrays, specs: tuple[InputSpec, ...], where: str, limit: int | None) -> Source:
    names = {s.name for s in specs}
    labels = next((arrays[n] for n in LABEL_NAMES if n in arrays and n not in names), None)
    wanted = names | ({ONLY_INPUT} if len(specs) == 1 else set())
    present = as_arrays({k: v for k, v in arrays.items() if k in wanted}, f"{where}: holds")
    first = checked(present or arrays, specs, where)
    inputs = {k: v[:limit] for k, v in first.items()}
    size = len(next(iter(inputs.values())))
    if size == 0:
        raise RefusedError(f"{where}: there are no samples in it; pass at least one, better a few hundred")
    whole = len(next(iter(first.values())))
    kept = None if labels is None else class_numbers(labels, whole, where)[:size]
    return Source(specs, lambda: iter([inputs]), where, size, _labels=kept)


def _from_iterable(data: Any, specs: tuple[InputSpec, ...], where: str, limit: int | None) -> Source:
    shapes = {spec.name: spec.shape for spec in specs}
    if callable(data):
        samples = Samples(data, shapes, where, limit)
        return Source(specs, samples.chunks, where, _labels=samples.labels)
    batches = kept(data, shapes, where, limit)
    samples = Samples(lambda: batches, shapes, where, limit)
    return Source(specs, samples.chunks, where, _labels=samples.labels)


def _from_images(folder: Path, specs: tuple[InputSpec, ...], options: ImageOptions, limit: int | None) -> Source:
    files, classes = image_files(folder), tuple[str, ...]()
    labels = labels_of_images(folder, files[:limit])
    if labels is None:
        labels, classes = labels_of_folders(folder, files)
    if classes and labels is not None and limit is not None:
        files, labels = in_turn(files, labels, limit)
    files = files[:limit]

    def chunks() -> Iterator[Arrays]:
        for images in read_images(files, options, IMAGES_AT_ONCE):
            yield {specs[0].name: images}

    return Source(specs, chunks, str(folder), len(files), classes=classes, _labels=labels)
