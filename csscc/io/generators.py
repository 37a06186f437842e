"""Samples that a user's own code makes, item by item, and the messages where that code goes wrong."""

from __future__ import annotations

import contextlib
import importlib.util
import traceback
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csscc import limits
from csscc.errors import RefusedError
from csscc.io import items
from csscc.io.items import LABELS, ONLY_INPUT, NoArrayError, Shapes, array_in, batch_of, flat, items_of
from csscc.io.labels import class_numbers

Chunk = Mapping[str, NDArray[Any]]
EMPTY = 1000  # batches without a sample that a generator may yield in a row
WANTED = "wanted are arrays, samples along the first axis, or dictionaries of them by input name"


def load_function(file: str, function: str) -> Callable[[], Any]:
    """The function of that name in a Python file.

    Raises:
        RefusedError: there is no such file or function, or the file cannot be imported.
    """
    if not Path(file).is_file():
        raise RefusedError(f"{file}: no such file; the form is file.py:function")
    spec = importlib.util.spec_from_file_location("csscc_user_data", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _telling(f"{file}: cannot be imported"):
        spec.loader.exec_module(module)
    made: Callable[[], Any] | None = getattr(module, function, None)
    if not callable(made):
        raise RefusedError(f"{file}: it has no function '{function}'; the form is file.py:function")
    return made


def chunks_of(make: Callable[[], Any], shapes: Shapes | None, where: str) -> Iterator[dict[str, NDArray[Any]]]:
    """The batches that `make` returns or yields, as dictionaries of arrays: see `batch_of`.

    Args:
        make: the user's code.
        shapes: of the network's inputs, by name; None: all arrays, see `flat`.
        where: how messages begin.

    Raises:
        RefusedError: the code raises, or makes something else.
    """
    with _telling(f"{where}: fails"):
        made = make()
        found = items_of([made] if isinstance(made, np.ndarray | Mapping) else made)
        batches, end = None if found is None else iter(found), object()
    if batches is None:
        raise RefusedError(f"{where}: returns {items.kind_of(made)}, no batches; {WANTED}")
    while True:
        with _telling(f"{where}: fails"):
            item = next(batches, end)
        if item is end:
            return
        try:
            batch = flat(item) if shapes is None else batch_of(item, shapes)
        except NoArrayError as error:
            raise RefusedError(f"{where}: yields {error}; {WANTED}") from error
        yield batch


def bounded(
    chunks: Iterable[Chunk], limit: int | None, where: str, counted: Container[str] | None = None
) -> Iterator[Chunk]:
    """The first chunks that make up `limit` samples, the last cut to size; without a limit all, if they end.

    Args:
        chunks: dictionaries of arrays.
        limit: of samples.
        where: what messages begin with.
        counted: names of arrays whose samples count; None for all.

    Raises:
        RefusedError: there are more than `limits.GENERATED`, or `EMPTY` chunks in a row without a sample.
    """
    left, without = limits.GENERATED if limit is None else limit, 0
    for chunk in chunks:
        number = max((len(v) for k, v in chunk.items() if counted is None or k in counted), default=0)
        without = 0 if number else without + 1
        if without == EMPTY:
            raise RefusedError(f"{where}: yields {EMPTY:,} batches in a row without a sample; let it end")
        if limit is None and number > left:
            raise RefusedError(
                f"{where}: yields more than {limits.GENERATED:,} samples; let it end, or state how many to use"
            )
        yield {k: v[:left] for k, v in chunk.items()}
        left -= number
        if left <= 0 and limit is not None:
            return


def as_arrays(given: Mapping[Any, Any], where: str) -> dict[str, NDArray[Any]]:
    """Arrays by name. A message begins with `where`, what is wrong follows.

    Raises:
        RefusedError: a value is no array of numbers.
    """
    try:
        return {str(name): array_in(given, value, str(name)) for name, value in given.items()}
    except NoArrayError as error:
        raise RefusedError(f"{where} {error}; {WANTED}") from error


class Samples:
    """Samples of a user's code, which runs anew for every use of them.

    Labels are read when they are asked for, and compared whenever the code runs again: they must be those of the same
    samples.
    """

    def __init__(self, make: Callable[[], Any], shapes: Shapes, where: str, limit: int | None) -> None:
        self._make, self._shapes, self._where, self._limit = make, shapes, where, limit
        self._labels: NDArray[np.int64] | None = None

    def chunks(self) -> Iterator[Chunk]:
        """Batches as they come, up to the limit.

        Raises:
            RefusedError: the code fails, makes something else, does not end, or other labels than before.
        """
        done = 0
        for chunk in bounded(self._whole(), self._limit, self._where, {ONLY_INPUT, *self._shapes}):
            number = self._number(chunk)
            if self._labels is not None and not np.array_equal(self._numbers(chunk), self._labels[done:][:number]):
                raise RefusedError(f"{self._where}: yields other labels each time; do not shuffle the samples")
            done += number
            yield chunk

    def _whole(self) -> Iterator[Chunk]:
        for chunk in chunks_of(self._make, self._shapes, self._where):
            number = self._number(chunk)
            if LABELS in chunk and len(chunk[LABELS]) != number:
                raise RefusedError(
                    f"{self._where}: yields {len(chunk[LABELS])} label(s) for {number} sample(s); give one for each"
                )
            yield chunk

    def labels(self) -> NDArray[np.int64] | None:
        """Class numbers, one a sample; None where the first batch has none.

        Raises:
            RefusedError: they are no class numbers, or some batches have none.
        """
        if self._labels is None:
            numbers: list[NDArray[np.int64]] = []
            for chunk in self.chunks():
                if LABELS not in chunk and not numbers:
                    return None
                numbers.append(self._numbers(chunk))
            self._labels = np.concatenate(numbers) if numbers else None
        return self._labels

    def _number(self, chunk: Chunk) -> int:
        return max((len(v) for k, v in chunk.items() if k == ONLY_INPUT or k in self._shapes), default=0)

    def _numbers(self, chunk: Chunk) -> NDArray[np.int64]:
        if LABELS not in chunk:
            raise RefusedError(f"{self._where}: some of its batches have labels and others have none; give all or none")
        return class_numbers(chunk[LABELS], self._number(chunk), self._where)


def kept(data: Any, shapes: Shapes, where: str, limit: int | None) -> list[Chunk]:
    """The batches of an object that may be read once only, or in another order each time.

    Raises:
        RefusedError: as `Samples.chunks`, or they are too large to be kept.
    """
    batches, size = list[Chunk](), 0
    for chunk in Samples(lambda: data, shapes, where, limit).chunks():
        batches.append({k: v.copy() for k, v in chunk.items()})  # it may fill the same arrays again
        size += sum(v.nbytes for v in batches[-1].values())
        if size > limits.ARRAY_BYTES:
            raise RefusedError(
                f"{where}: holds more than {limits.ARRAY_BYTES / 2**30:g} GiB, which is kept in memory; use fewer "
                "samples, or pass a function that makes it anew, without shuffling: such data are read bit by bit"
            )
    return batches


@contextlib.contextmanager
def _telling(what: str) -> Iterator[None]:
    """Whatever the user's code raises becomes one line that shows where in that code it was."""
    try:
        yield
    except (Exception, SystemExit) as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise RefusedError(f"{what} ({cause}){_place(error)}") from error


def _place(error: BaseException) -> str:
    """The line of the user's file that was reached last."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f", in {Path(error.filename).name}, line {error.lineno}: {(error.text or '').strip()}"
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if f.filename not in (__file__, items.__file__) and not f.filename.startswith("<")]
    theirs = [f for f in theirs if "site-packages" not in f.filename] or theirs
    if not theirs:
        return ""
    last = [f for f in theirs if f.filename == theirs[0].filename][-1]
    return f", in {Path(last.filename).name}, line {last.lineno}: {(last.line or '').strip()}"
