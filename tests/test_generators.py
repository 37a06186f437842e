"""A user's own code that makes samples: what it may make, what is said when it fails, that its split is no matter."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import csscc
from csscc import cli
from csscc.errors import RefusedError, UsageError
from csscc.io.batches import rebatched
from csscc.io.data import ImageOptions, InputSpec, open_source
from tests.helpers import parse, small_classifier

ONE = (InputSpec("x", (None, 4), "float32"),)
X = np.arange(40, dtype=np.float32).reshape(10, 4)


def read(make: Any, size: int = 3) -> np.ndarray:
    return np.concatenate([b["x"] for b in open_source(make, ONE).batches(size)])


def fails() -> Iterator[Any]:
    yield X[:2]
    broken = {}
    yield broken["nothing"]  # here


MADE: dict[str, Callable[[], Any]] = {
    "arrays": lambda: iter([X[:3], X[3:]]),
    "a list": lambda: [X],
    "one array": lambda: X,
    "one dictionary": lambda: {"x": X},
    "dictionaries": lambda: ({"x": row[None], "more": 1 + row} for row in X),
    "lists of numbers": lambda: iter([X[:5].tolist(), {"x": X[5:].tolist()}]),
    "with none of it": lambda: iter([X[:0], X[:4], X[:0], X[4:]]),
}


@pytest.mark.parametrize("kind", sorted(MADE))
def test_what_a_function_may_make(kind: str) -> None:
    np.testing.assert_array_equal(read(MADE[kind]), X)


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "none": (lambda: None, "returns None, no batches; wanted are arrays"),
    "a number": (lambda: 3, "returns an int"),
    "text": (lambda: "x.npy", "returns a str"),
    "yields none": (lambda: iter([X, None]), "yields None; wanted are arrays"),
    "yields text": (lambda: iter(["a"]), "yields a str"),
    "yields a number": (lambda: iter([3.5]), "yields a float"),
    "yields a scalar": (lambda: iter([np.float32(3)]), "yields a float32"),
    "yields pairs": (lambda: iter([(X, np.arange(3))]), "yields 3 label(s) for 10 sample(s)"),
    "yields triples": (lambda: iter([(X, np.arange(3), X)]), "yields a tuple that is no array"),
    "yields objects": (lambda: iter([object()]), "yields an object"),
    "yields objects by name": (lambda: iter([{"x": object()}]), "yields an object for 'x'"),
    "yields no names": (lambda: iter([{3: X}]), "no array for the network's input 'x'; it has ['3']"),
    "nothing": (lambda: iter([]), "there are no samples in it"),
    "raises": (
        fails,
        f"fails (KeyError: 'nothing'), in test_generators.py, line {fails.__code__.co_firstlineno + 3}: "
        'yield broken["nothing"]  # here',
    ),
    "exits": (lambda: sys.exit("bye"), "fails (SystemExit: bye), in test_generators.py"),
}


@pytest.mark.parametrize("kind", sorted(WRONG))
def test_what_is_stated_of_what_it_may_not_make(kind: str) -> None:
    make, reported = WRONG[kind]
    with pytest.raises(RefusedError) as caught:
        read(make)
    assert str(caught.value).startswith("the samples given: ")
    assert reported in str(caught.value)
    assert "\n" not in str(caught.value)


class Odd:
    """What raises wherever it is looked into."""

    def __iter__(self) -> Iterator[Any]:
        raise OSError("gone")

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise OSError("gone")


@pytest.mark.parametrize(
    ("data", "reported"),
    [
        (Odd(), "Odd: fails (OSError: gone), in test_generators.py"),
        (lambda: Odd(), "given: fails (OSError: gone), in test_generators.py"),
        ({"x": Odd()}, "given: holds a dict that is no array"),
        ({"x": [[1.0], [1.0, 2.0]]}, "given: holds a dict that is no array; wanted are arrays"),
        ({"x": "text"}, "given: holds a str for 'x'; wanted are arrays"),
        ({3: X, None: X}, "no array for the network's input 'x'; it has ['3', 'None']"),
        ({"x": X, "y": Odd()}, "labels (y) are no array (gone)"),
        ({"x": X, "y": [1, [2]]}, "labels (y) are no array"),
    ],
)
def test_objects_that_are_no_data_are_refused_in_one_line(data: Any, reported: str) -> None:
    with pytest.raises(RefusedError) as caught:
        read(data)
    assert reported in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_iterable_that_never_ends_is_read_as_far_as_it_is_needed() -> None:
    source = open_source((X[i % 10][None] for i in itertools.count()), ONE, limit=12)
    for _ in range(2):
        np.testing.assert_array_equal(
            np.concatenate([b["x"] for b in source.batches(5)]), np.concatenate([X, X[:2]])
        )


CODE = """import numpy as np

def helper(values):
    return values["missing"]

def batches():
    yield {"x": np.ones((2, 4), np.float32)}
    helper({})
"""


def test_the_users_own_line_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(CODE)
    (tmp_path / "torn.py").write_text("def batches(:\n    pass\n")
    (tmp_path / "deep.py").write_text("import numpy as np\n\ndef batches():\n    return np.zeros(3).reshape(7)\n")
    for file, reported in (
        ("mine.py", "fails (KeyError: 'missing'), in mine.py, line 4: return values[\"missing\"]"),
        ("torn.py", "torn.py: cannot be imported (SyntaxError: invalid syntax (torn.py, line 1)), in torn.py, line 1"),
        ("deep.py", "in deep.py, line 4: return np.zeros(3).reshape(7)"),
    ):
        monkeypatch.setattr(
            sys, "argv", ["csscc", "run", str(model_file(tmp_path)), "--data", f"{tmp_path / file}:batches"]
        )
        with pytest.raises(SystemExit) as stop:
            cli.main()
        err = capsys.readouterr().err
        assert stop.value.code == RefusedError.exit_code
        assert reported in err
        assert "Traceback" not in err


def model_file(folder: Path) -> Path:
    import onnx

    onnx.save(parse("g (float[N,4] x) => (float[N,2] y) <float[4,2] w> { y = MatMul(x, w) }"), folder / "m.onnx")
    return folder / "m.onnx"


def pieces(x: np.ndarray, cuts: list[int]) -> Callable[[], Iterator[np.ndarray]]:
    return lambda: iter(np.split(x, cuts))


@pytest.mark.parametrize("cuts", [[], [1], [3, 4, 5], [9], list(range(1, 10)), [0, 0, 5, 10]])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 10, 32])
def test_batches_have_their_size_however_the_samples_come(cuts: list[int], size: int) -> None:
    found = [b["x"] for b in open_source(pieces(X, cuts), ONE).batches(size)]
    assert [len(b) for b in found[:-1]] == [size] * (len(found) - 1)
    assert 1 <= len(found[-1]) <= size
    np.testing.assert_array_equal(np.concatenate(found), X)


def test_samples_of_other_sizes_begin_a_new_batch_and_arrays_that_are_filled_again_are_copied() -> None:
    shapes = [(2, 3), (2, 3), (1, 5), (3, 5)]
    found = list(rebatched(({"x": np.ones(s)} for s in shapes), 3))
    assert [f["x"].shape for f in found] == [(3, 3), (1, 3), (3, 5), (1, 5)]

    def reused() -> Iterator[dict[str, np.ndarray]]:
        buffer = np.empty((1, 4), np.float32)
        for row in X:
            buffer[:] = row
            yield {"x": buffer}

    np.testing.assert_array_equal(read(reused), X)


def test_the_same_samples_give_the_same_bytes_however_they_are_split() -> None:
    model, data = small_classifier(20)
    x = np.concatenate([(i + 1) * data["x"] for i in range(3)])  # so that the first batch says nothing of the last

    def written(samples: np.ndarray, cuts: list[int]) -> bytes:
        snn = csscc.compile(model, pieces(samples, cuts), T=4, correct_bias=True, check_samples=0)
        return snn.file.SerializeToString(deterministic=True)

    assert len({written(x, cuts) for cuts in ([], list(range(1, 60)), [7, 40, 41])}) == 1
    assert written(x[::-1], []) != written(x, [])


def test_images_of_different_sizes_are_refused_with_the_option_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i, size in enumerate([(6, 5), (6, 5), (7, 5)]):
        Image.new("RGB", size).save(tmp_path / f"{i}.png")
    spec = (InputSpec("x", (None, 3, None, None), "float32"),)
    reported = r"different sizes: 0.png .*\[3, 5, 6\], 2.png .*\[3, 5, 7\]; pass --image-size"
    for at_once in (1, 2, 16):
        monkeypatch.setattr("csscc.io.data.IMAGES_AT_ONCE", at_once)
        with pytest.raises(RefusedError, match=reported):
            list(open_source(tmp_path, spec).batches(8))
    (batch,) = open_source(tmp_path, spec, images=ImageOptions(size=4)).batches(8)
    assert batch["x"].shape == (3, 3, 4, 4)


@pytest.mark.parametrize(
    "options",
    [{"std": (0.0,)}, {"scale": 0.0}, {"scale": float("nan")}, {"mean": (0.0, 1.0)}, {"std": (1.0,) * 4}, {"size": 0},
     {"mean": (float("inf"),)}, {"channel_order": "GRAY", "mean": (0.1, 0.2, 0.3)}],
)  # fmt: skip
def test_options_that_make_no_pixels_are_wrong_usage(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="images"):
        ImageOptions(**options)
