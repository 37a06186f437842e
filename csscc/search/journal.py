"""What a sweep keeps in its folder: a line a finished setting, tables, and what tells one sweep from another."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from csscc.errors import RefusedError
from csscc.io.files import replacing
from csscc.io.weights import pieces
from csscc.search.settings import Row

JOURNAL, RESULTS, TABLE = WRITTEN = ("settings.jsonl", "results.json", "results.csv")


class Journal:
    """``settings.jsonl``: one line for each finished setting, appended as soon as it is known."""

    def __init__(self, path: Path, fingerprint: Mapping[str, str]) -> None:
        self.path, self.fingerprint = path, dict(fingerprint)

    def rows(self) -> list[Row]:
        """What is there; a line that was torn when its writer was stopped is not.

        Raises:
            RefusedError: the results are those of another model, data or preset.
        """
        rows = []
        for line in self.path.read_bytes().splitlines() if self.path.exists() else ():
            try:
                entry = json.loads(line)
                row, fingerprint = Row.from_dict(entry["row"]), entry["fingerprint"]
            except (ValueError, KeyError, TypeError):
                continue
            if fingerprint != self.fingerprint:
                other = [k for k, v in self.fingerprint.items() if fingerprint.get(k) != v]
                raise RefusedError(
                    f"{self.path}: holds results of another sweep, with other {', '.join(other)}; give another folder"
                )
            rows.append(row)
        return rows

    def append(self, row: Row) -> None:
        """Write one line, in one write, behind whatever is there.

        Raises:
            RefusedError: the file cannot be written.
        """
        line = json.dumps({"fingerprint": self.fingerprint, "row": row.as_dict()}).encode() + b"\n"
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
        temporary.write_text(json.dumps(flat, indent=2) + "\n")
    with replacing(folder / TABLE) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(flat[0]) if flat else [])
        writer.writeheader()
        writer.writerows(flat)


def digest(data: Any) -> str:
    """Short SHA-256 of what a model, a path to data, or arrays hold."""
    made = hashlib.sha256()
    for part in _contents(data):
        made.update(part)
    return made.hexdigest()[:16]


def _contents(data: Any) -> Iterator[bytes]:
    if isinstance(data, str | Path):
        path, _, function = str(data).rpartition(":")
        file = Path(path) if path.endswith(".py") else Path(data)
        if file.is_dir():
            for inner in sorted(p for p in file.rglob("*") if p.is_file()):
                yield f"{inner.relative_to(file)} {inner.stat().st_size}".encode()
        elif file.is_file():
            yield function.encode() if file.suffix == ".py" else b""
            with file.open("rb") as opened:
                yield hashlib.file_digest(opened, "sha256").digest()
        else:
            yield str(data).encode()
    elif isinstance(data, onnx.ModelProto):
        yield from pieces(data)
    elif isinstance(data, np.ndarray):
        yield f"{data.dtype} {data.shape}".encode()
        yield np.ascontiguousarray(data).tobytes()
    elif isinstance(data, Mapping):
        for name in sorted(data):
            yield name.encode()
            yield from _contents(np.asarray(data[name]))
    else:
        yield getattr(data, "__qualname__", type(data).__name__).encode()
