"""Labels are one class number a sample, from an array or a table beside images; everything else is refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import csscc
from csscc.errors import RefusedError
from csscc.io.data import InputSpec, open_source
from csscc.io.labels import class_numbers, labels_of_images, refuse_other_classes
from csscc.measure.evaluation import evaluate
from tests.helpers import small_classifier

Y = np.array([2, 0, 1, 2])


@pytest.mark.parametrize("kind", ["uint8", "int8", "int32", "int64", "uint64"])
def test_whole_numbers_of_any_type_are_taken_as_they_are(kind: str) -> None:
    for labels in (Y.astype(kind), Y.astype(kind)[:, None], Y.tolist()):
        made = class_numbers(labels, 4, "here")
        assert made.dtype == np.int64
        np.testing.assert_array_equal(made, Y)


REFUSED: dict[str, tuple[Any, str]] = {
    "one-hot": (np.eye(3, dtype=int)[Y], r"not \[4, 3\]; if they are one-hot, give y.argmax"),
    "one-hot of floats": (np.eye(3)[Y], "one-hot"),
    "one-hot of as many classes as samples": (np.eye(4, dtype=int), "one-hot"),
    "text": (Y.astype(str), "not text; give whole numbers"),
    "bytes": (Y.astype("S"), "not text"),
    "floats": (Y.astype(np.float32), "not floats"),
    "nan": (np.where(Y == 1, np.nan, Y), "not floats"),
    "truth": (Y > 0, "not truth values"),
    "objects": (Y.astype(object), "not object"),
    "complex": (Y.astype(complex), "not complex128"),
    "too few": (Y[:3], r"there are 3 of shape \[3\]"),
    "too many": (np.append(Y, 1), r"there are 5 of shape \[5\]"),
    "one": (Y[:1], r"there are 1 of shape \[1\]"),
    "scalar": (3, r"there are 1 of shape \[\]"),
    "none": ([], "there are 0"),
    "a row": (Y[None], r"there are 4 of shape \[1, 4\]"),
    "images": (np.zeros((4, 2, 2), int), r"there are 16 of shape \[4, 2, 2\]"),
    "negative": (Y - 1, "label of sample 1 is -1, which is no class number; 1 label"),
    "huge": (np.array([0, 1, 2, 2**63], np.uint64), "is 9223372036854775808"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_no_class_number_a_sample_is_refused(name: str) -> None:
    labels, reported = REFUSED[name]
    with pytest.raises(RefusedError, match=f"^data.npz: .*{reported}"):
        class_numbers(labels, 4, "data.npz")


def test_labels_that_the_network_does_not_know() -> None:
    refuse_other_classes(Y, 3, "y")
    with pytest.raises(RefusedError, match="label of sample 0 is 2, but output 'y' has the classes 0 to 1; 2 label"):
        refuse_other_classes(Y, 2, "y")


@pytest.mark.parametrize("kind", ["array", "npz"])
def test_evaluate_refuses_them_before_it_states_an_accuracy(kind: str, tmp_path: Path) -> None:
    model, data = small_classifier(8)
    snn = csscc.compile(model, {"x": data["x"]}, T=3, check_samples=0).file
    assert evaluate(model, snn, data).ann_accuracy == 100
    for y, reported in ((data["y"] + 5, "has the classes 0 to 4"), (data["y"][:1], "for each of the 8 samples")):
        given: Any = {"x": data["x"], "y": y}
        if kind == "npz":
            np.savez(tmp_path / "d.npz", **given)
            given = str(tmp_path / "d.npz")
        with pytest.raises(RefusedError, match=reported):
            evaluate(model, snn, given)


def table(folder: Path, text: str | bytes) -> Path:
    path = folder / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


NAMES = ["a.png", "b.png", "c.png"]
READ: dict[str, str | bytes] = {
    "plain": "a.png,1\nb.png,2\nc.png,3\n",
    "header, order, blanks": "file,class\n\nc.png, 3\n a.png ,1\n,\nb.png,2",
    "other columns": "a.png,x,1\nb.png,y,2\nc.png,z,3\n",
    "byte order mark": "\ufeffa.png,1\nb.png,2\nc.png,3\n",
    "windows": "file,class\r\nval\\a.png,1\r\nval\\b.png,2\r\nval\\c.png,3\r\n",
    "others as well": "a.png,1\nb.png,2\nc.png,3\nz.png,9\n",
    "quotes": '"a.png","1"\n"b.png","2"\n"c.png","3"\n',
    "named twice alike": "a.png,1\nb.png,2\nc.png,3\na.png,1\n",
}


@pytest.mark.parametrize("name", sorted(READ))
@pytest.mark.parametrize("where", ["in", "above"])
def test_tables_that_are_read(name: str, where: str, tmp_path: Path) -> None:
    folder = tmp_path / "val"
    folder.mkdir()
    table(folder if where == "in" else tmp_path, READ[name])
    np.testing.assert_array_equal(labels_of_images(folder, [folder / n for n in NAMES]), [1, 2, 3])


BROKEN: dict[str, tuple[str | bytes, str]] = {
    "another encoding": ("a.png,1\nb\xe9.png,2\n".encode("latin-1"), "is not UTF-8 text.*save it as UTF-8"),
    "utf-16": ("a.png,1\nb.png,2\n".encode("utf-16"), "is not UTF-8 text"),
    "zeros": (b"a\x00.png,1\nb\x00.png,2\nc\x00.png,3\n", "has no class for 3 of the 3 images"),
    "float": ("a.png,1\nb.png,2.0\nc.png,3\n", r"line 2: 'b.png,2.0' is not a file name, a comma and a class number"),
    "power": ("a.png,1\nb.png,2\nc.png,1e3\n", "line 3"),
    "superscript": ("a.png,1\nb.png,\u00b2\nc.png,3\n", "line 2"),
    "other digits": ("a.png,1\nb.png,\u0663\nc.png,3\n", "line 2"),
    "negative": ("a.png,1\nb.png,-2\nc.png,3\n", "line 2"),
    "huge": (f"a.png,1\nb.png,{10**30}\nc.png,3\n", "line 2"),
    "text": ("a.png,1\nb.png,cat\nc.png,3\n", "line 2"),
    "semicolons": ("file;class\na.png;1\nb.png;2\nc.png;3\n", "line 2: 'a.png;1' is not"),
    "empty": ("", "has no class for 3 of the 3 images"),
    "some": ("a.png,1\n", "has no class for 2 of the 3 images, b.png for one"),
    "float in the first line": ("a.png,1.5\nb.png,2\nc.png,3\n", "has no class for 1 of the 3 images, a.png"),
    "named twice": ("a.png,1\nb.png,2\nc.png,3\na.png,4\n", "names a.png with the classes 1, 4"),
    "endless field": ('"' + "a" * 200_000, "cannot be read as a table"),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_tables_that_are_refused(name: str, tmp_path: Path) -> None:
    text, reported = BROKEN[name]
    path = table(tmp_path, text)
    with pytest.raises(RefusedError, match=f"^{path}.*{reported}"):
        labels_of_images(tmp_path, [tmp_path / n for n in NAMES])


def test_images_of_one_name_in_two_folders_are_distinguished(tmp_path: Path) -> None:
    files = [tmp_path / folder / "a.png" for folder in ("cats", "dogs")]
    for file in files:
        file.parent.mkdir()
        file.touch()
    table(tmp_path, "cats/a.png,0\ndogs/a.png,1\n")
    np.testing.assert_array_equal(labels_of_images(tmp_path, files), [0, 1])
    table(tmp_path, "cats/a.png,0\n")
    with pytest.raises(RefusedError, match="has no class for 1 of the 2 images"):
        labels_of_images(tmp_path, files)
    table(tmp_path, "a.png,4\n")
    np.testing.assert_array_equal(labels_of_images(tmp_path, files), [4, 4])


def test_labels_of_a_limit_are_checked_as_a_whole() -> None:
    spec = (InputSpec("x", (None, 2), "float32"),)
    x = np.ones((4, 2), np.float32)
    np.testing.assert_array_equal(open_source({"x": x, "y": Y}, spec, limit=2).labels, Y[:2])
    with pytest.raises(RefusedError, match="each of the 4 samples"):
        open_source({"x": x, "y": Y[:2]}, spec, limit=2)
