"""Samples that a user's own code makes, batch by batch, and what is said where that code goes wrong."""

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


def chunks_of(make: Callable[[], Any], only: str, where: str) -> Iterator[dict[str, NDArray[Any]]]:
    """The batches that `make` returns or yields, as dictionaries of arrays; a bare array is that of the input `only`.

    Raises:
        RefusedError: the code raises, or makes something else.
    """
    with _telling(f"{where}: fails"):
        made = make()
    if isinstance(made, np.ndarray | Mapping):
        made = [made]
    if not isinstance(made, Iterable) or isinstance(made, str | bytes):
        raise RefusedError(f"{where}: returns {_kind(made)}, no batches; {WANTED}")
    with _telling(f"{where}: fails"):
        batches, end = iter(made), object()
    while True:
        with _telling(f"{where}: fails"):
            item = next(batches, end)
        if item is end:
            return
        yield as_arrays(item, only, f"{where}: yields")


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
            raise RefusedError(f"{where}: yields {EMPTY:,} batches in a row without a sample")
        if limit is None and number > left:
            raise RefusedError(
                f"{where}: yields more than {limits.GENERATED:,} samples; let it end, or state how many to use"
            )
        yield {k: v[:left] for k, v in chunk.items()}
        left -= number
        if left <= 0 and limit is not None:
            return


def as_arrays(item: Any, only: str, where: str) -> dict[str, NDArray[Any]]:
    """Arrays by name; a bare one is that of the input `only`. A message begins with `where`, what is wrong follows.

    Raises:
        RefusedError: a value is no array of numbers.
    """
    given = item if isinstance(item, Mapping) else {only: item}
    arrays = {}
    for name, value in given.items():
        try:
            array = np.asarray(value)
        except Exception as error:
            raise RefusedError(f"{where} {_kind(item)} that is no array; {WANTED}") from error
        if array.ndim == 0 or (not isinstance(value, np.ndarray) and array.dtype.kind not in "biufc"):
            what = f"{_kind(value)} for '{name}'" if given is item else _kind(item)
            raise RefusedError(f"{where} {what}; {WANTED}")
        arrays[str(name)] = array
    return arrays


def _kind(value: Any) -> str:
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


@contextlib.contextmanager
def _telling(what: str) -> Iterator[None]:
    """Whatever the user's code raises becomes one line that shows where in that code it was."""
    try:
        yield
    except (Exception, SystemExit) as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise RefusedError(f"{what} ({told}){_place(error)}") from error


def _place(error: BaseException) -> str:
    """The line of the user's file that was reached last."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f", in {Path(error.filename).name}, line {error.lineno}: {(error.text or '').strip()}"
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if f.filename != __file__ and not f.filename.startswith("<")]
    theirs = [f for f in theirs if "site-packages" not in f.filename] or theirs
    if not theirs:
        return ""
    last = [f for f in theirs if f.filename == theirs[0].filename][-1]
    return f", in {Path(last.filename).name}, line {last.lineno}: {(last.line or '').strip()}"
