"""What a sweep keeps in its folder: a line a finished setting, tables, and what distinguishes sweeps."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import onnx

from csscc.errors import RefusedError, UsageError
from csscc.io.files import replacing
from csscc.io.finite import strict_json
from csscc.io.generators import Chunk, bounded, chunks_of, load_function
from csscc.io.items import items_of
from csscc.io.labels import table_of
from csscc.io.weights import pieces
from csscc.passes.canonical.load import read_model
from csscc.search.settings import Row

JOURNAL, RESULTS, TABLE = WRITTEN = ("settings.jsonl", "results.json", "results.csv")


class Entry(Protocol):
    """What a journal holds."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""


E = TypeVar("E", bound=Entry)


class Journal(Generic[E]):
    """A file of one line for each finished setting, appended as soon as it is known; `made` reads a line."""

    def __init__(self, path: Path, fingerprint: Mapping[str, str], made: Callable[[dict[str, Any]], E]) -> None:
        self.path, self.fingerprint, self._made = path, dict(fingerprint), made

    def rows(self) -> list[E]:
        """What is there; a line that was torn when its writer was stopped is not.

        Raises:
            RefusedError: the results are those of another model, data or preset.
        """
        rows = list[E]()
        for line in self.path.read_bytes().splitlines() if self.path.exists() else ():
            try:
                entry = json.loads(line)
                row, fingerprint = self._made(entry["row"]), entry["fingerprint"]
            except (ValueError, KeyError, TypeError):
                continue
            if fingerprint != self.fingerprint:
                other = [k for k, v in self.fingerprint.items() if fingerprint.get(k) != v]
                text = f"holds results of another sweep or search, with other {', '.join(other)}"
                raise RefusedError(f"{self.path}: {text}; give a new folder, or a new file to --journal")
            rows.append(row)
        return rows

    def append(self, row: E) -> None:
        """Write one line, in one write, after whatever is there.

        Raises:
            RefusedError: the file cannot be written.
        """
        line = strict_json({"fingerprint": self.fingerprint, "row": row.as_dict()}).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            there = self.path.read_bytes() if self.path.exists() else b""
            torn = not there.endswith(b"\n") and bool(there)
            with self.path.open("ab") as file:
                file.write(b"\n" * torn + line)
        except OSError as error:
            raise RefusedError(f"{self.path}: cannot be written ({error.strerror}); give another folder") from error


def write_results(rows: Sequence[Row], folder: Path) -> None:
    """Write ``results.csv`` and ``results.json``, one row a setting."""
    flat = [row.as_dict() for row in rows]
    with replacing(folder / RESULTS) as temporary:
        temporary.write_text(strict_json(flat, indent=2) + "\n")
    with replacing(folder / TABLE) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(flat[0]) if flat else [])
        writer.writeheader()
        writer.writerows(flat)


def digest_of_model(model: str | Path | onnx.ModelProto) -> str:
    """Short SHA-256 of a model, its external data included.

    Raises:
        RefusedError: the file is missing or is not an ONNX model.
    """
    return _digest(pieces(model if isinstance(model, onnx.ModelProto) else read_model(model)))


def digest(data: Any, samples: int | None = None) -> str:
    """Short SHA-256 of what a path to data, arrays, or code that makes them hold: contents and labels.

    Code is run, up to so many `samples`: what it reads, it alone knows.

    Raises:
        UsageError: the data can be read once only.
    """
    return _digest(_contents(data, samples))


def _digest(parts: Iterable[bytes]) -> str:
    made = hashlib.sha256()
    for part in parts:
        made.update(part)
    return made.hexdigest()[:16]


def runs_code(data: Any) -> bool:
    """Whether `digest` runs a user's function out of a file."""
    return isinstance(data, str | Path) and str(data).rpartition(":")[0].endswith(".py")


def _contents(data: Any, samples: int | None) -> Iterator[bytes]:
    if runs_code(data):
        path, _, function = str(data).rpartition(":")
        yield function.encode()
        yield from _of_file(Path(path)) if Path(path).is_file() else ()
        yield from _yielded(lambda: load_function(path, function)(), samples)
    elif isinstance(data, str | Path):
        yield from _of_folder(Path(data)) if Path(data).is_dir() else _of_file(Path(data))
    elif isinstance(data, np.ndarray):
        yield f"{data.dtype} {data.shape}".encode()
        yield np.ascontiguousarray(data.astype(str) if data.dtype == object else data).tobytes()  # text, no pointers
    elif isinstance(data, Mapping):
        for name in sorted(data):
            yield name.encode()
            yield from _contents(np.asarray(data[name]), samples)
    elif callable(data):
        yield from _yielded(data, samples)
    elif (items := items_of(data)) is not None:
        if iter(items) is data or hasattr(data, "get_next"):
            raise UsageError("a generator can be read once, a sweep reads data often: pass the function that makes it")
        yield from _yielded(lambda: items_of(data), samples)
    else:
        yield repr(data).encode()


def _of_file(path: Path) -> Iterator[bytes]:
    if not path.is_file():
        yield str(path).encode()
        return
    with path.open("rb") as opened:
        yield hashlib.file_digest(opened, "sha256").digest()


def _of_folder(folder: Path) -> Iterator[bytes]:
    """Names of all that is in a folder of images, folders being classes, contents, and labels in it or above it."""
    for inner in sorted(folder.rglob("*")):
        yield f"{inner.relative_to(folder)}\0".encode()
        yield from _of_file(inner) if inner.is_file() else ()
    table = table_of(folder)
    yield from _of_file(table) if table is not None else ()


def _yielded(make: Callable[[], Any], samples: int | None) -> Iterator[bytes]:
    """What a function makes, as samples: how they are split into batches does not matter."""
    try:
        for chunk in bounded(map(_as_batch, chunks_of(make, None, "data")), samples, "data"):
            for row in range(max(map(len, chunk.values()), default=0)):
                for name in sorted(chunk):
                    yield from _contents(chunk[name][row : row + 1], samples)
    except RefusedError as error:  # it is refused again, with its place, when the samples are needed
        yield str(error).encode()


def _as_batch(arrays: Chunk) -> Chunk:
    """A sample by itself, whose label is one number, has a first axis as well."""
    single = any(array.ndim == 0 for array in arrays.values())
    return {name: array[None] for name, array in arrays.items()} if single else arrays
