"""The one reading of labels: a whole class number for each sample, from an array or a table beside images."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csscc.errors import RefusedError
from csscc.io.items import as_array

TABLE = "labels.csv"
_CLASS = re.compile(r"[0-9]{1,18}")
_HOW = {  # to make class numbers of what people have
    "text": ", in the order of the network's classes; scikit-learn sorts them: np.unique(y, return_inverse=True)[1]",
    "floats": ": y.astype(int), or no y if it holds no classes",
}


def class_numbers(labels: Any, samples: int, where: str) -> NDArray[np.int64]:
    """Labels as class numbers from 0, one for each of `samples` samples; a last axis of one is left out.

    Raises:
        RefusedError: they are anything else; nothing is rounded, cast or repeated.
    """
    try:
        array = as_array(labels)
    except Exception as error:  # of unequal lengths, for example, or what an object's own code raises
        raise RefusedError(
            f"{where}: labels (y) are no array ({' '.join(str(error).split())}); give class numbers"
        ) from error
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    wanted = f"{where}: labels (y) must be one whole class number for each of the {samples} samples"
    if array.ndim == 2 and len(array) == samples:
        raise RefusedError(f"{wanted}, not {list(array.shape)}; if they are one-hot, give y.argmax(axis=1), if "
            "they are what a regression should give, no y")
    if array.shape != (samples,):
        raise RefusedError(f"{wanted}, but there are {array.size} of shape {list(array.shape)}; give as many")
    if array.dtype.kind not in "iu":
        kinds = {"f": "floats", "b": "truth values", "U": "text", "S": "text"}
        kind = kinds.get(array.dtype.kind, array.dtype.name)
        how = _HOW.get(kind, "")
        raise RefusedError(f"{wanted}, not {kind}; give whole numbers from 0 of an integer type{how}")
    _refuse_beyond(array, np.iinfo(np.int64).max, f"{where}: ")
    return array.astype(np.int64)


def refuse_other_classes(
    labels: NDArray[np.int64], classes: int, output: str, folders: Sequence[str] = ()
) -> None:
    """Refuse labels of which a network with so many classes, at its output `output`, can name none.

    Raises:
        RefusedError: a label is not below the number of classes, or the labels are the numbers of other `folders`.
    """
    if folders and len(folders) != classes:
        raise RefusedError(
            f"the labels number {len(folders)} folders, {folders[0]} = 0 to {folders[-1]} = {len(folders) - 1}, but "
            f"output '{output}' has {classes} classes; name the class of each image in {TABLE}"
        )
    _refuse_beyond(labels, classes - 1, "", f", but output '{output}' has the classes 0 to {classes - 1}")


def _refuse_beyond(labels: NDArray[Any], last: int, where: str, why: str = "") -> None:
    beyond = np.flatnonzero((labels < 0) | (labels > last))
    if beyond.size:
        first = beyond[0]
        raise RefusedError(
            f"{where}the label of sample {first} is {labels[first]}{why or ', which is no class number'}; "
            f"{beyond.size} label(s) are so; number the classes from 0 as the network does"
        )


def table_of(folder: Path) -> Path | None:
    """The ``labels.csv`` in the folder of images or above it."""
    return next((p for p in (folder / TABLE, folder.parent / TABLE) if p.is_file()), None)


def labels_of_images(folder: Path, files: Sequence[Path]) -> NDArray[np.int64] | None:
    """Class numbers of image files; None where no table names any of them, and none is in the folder itself.

    A line names a file, with as much of its folder as distinguishes it from others of the same name.

    Raises:
        RefusedError: the table cannot be read, names one image twice, or not all of them.
    """
    table = table_of(folder)
    if table is None:
        return None
    lines: dict[str, list[tuple[tuple[str, ...], int]]] = {}
    for name, number in _lines(table):
        parts = Path(name.replace("\\", "/")).parts
        lines.setdefault(parts[-1] if parts else "", []).append((parts, number))
    alike = Counter(f.name for f in files)
    found = [_class_of(f, lines.get(f.name, []), alike[f.name] == 1, table) for f in files]
    missing = [f for f, number in zip(files, found, strict=True) if number is None]
    if len(missing) == len(files) and table.parent != folder:
        return None  # it is about the images of another folder
    if missing:
        raise RefusedError(
            f"{table}: has no class for {len(missing)} of the {len(files)} images, {missing[0].name} for one; "
            "give each a line, or take the table away to go without labels"
        )
    return np.array(found, np.int64)


def _class_of(file: Path, lines: list[tuple[tuple[str, ...], int]], unique: bool, table: Path) -> int | None:
    path = file.absolute().parts
    named = [(parts, number) for parts, number in lines if path[-len(parts) :] == parts]
    longest = max((len(parts) for parts, _ in named), default=0)
    fitting = {number for parts, number in named if len(parts) == longest}
    if not named and unique:
        fitting = {number for _, number in lines}
    if len(fitting) > 1:
        classes = ", ".join(map(str, sorted(fitting)))
        raise RefusedError(f"{table}: names {file.name} with the classes {classes}; keep one of these lines")
    return next(iter(fitting), None)


def _lines(table: Path) -> list[tuple[str, int]]:
    """File names and class numbers; the first line may be a header."""
    try:
        text = table.read_text(encoding="utf-8-sig")
        rows = csv.reader(io.StringIO(text, newline=""))
        found = [(rows.line_num, row) for row in rows if any(field.strip() for field in row)]
    except UnicodeDecodeError as error:
        raise RefusedError(f"{table}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except (OSError, csv.Error) as error:
        raise RefusedError(f"{table}: cannot be read as a table ({error}); write lines as: name.png,3") from error
    lines = []
    for index, (line, row) in enumerate(found):
        if len(row) >= 2 and _CLASS.fullmatch(row[-1].strip()):
            lines.append((row[0].strip(), int(row[-1])))
        elif index > 0:
            raise RefusedError(
                f"{table}, line {line}: {','.join(row)[:80]!r} is not a file name, a comma and a class number from "
                "0; write lines as: name.png,3"
            )
    return lines
