"""Sample data of every kind, and every reason to refuse it: the message says what, where and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from csscc.errors import RefusedError, UsageError
from csscc.io.batches import limited
from csscc.io.data import ImageOptions, InputSpec, Source, checked, open_source

ONE = (InputSpec("image", (None, 3, 4), "float32"),)
TWO = (InputSpec("a", (None, 2), "float32"), InputSpec("b", (None, 3), "int64"))


def samples(n: int = 5) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, 3, 4)).astype(np.float32)


def collected(source: Source, size: int = 3) -> dict[str, np.ndarray]:
    parts = list(source.batches(size))
    assert all(len(a) <= size for p in parts for a in p.values())
    return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}


def file_of(tmp_path: Path, kind: str, x: np.ndarray) -> Any:
    if kind == "array":
        return x
    if kind == "dict":
        return {"image": x}
    if kind == "dict-x":
        return {"x": x}
    if kind == "npy":
        np.save(tmp_path / "x.npy", x)
        return tmp_path / "x.npy"
    if kind == "npz":
        np.savez(tmp_path / "x.npz", x=x, y=np.arange(len(x)))
        return str(tmp_path / "x.npz")
    if kind == "iterable":
        return [{"image": x[:2]}, x[2:]]
    if kind == "callable":
        return lambda: iter([{"image": x[:2]}, {"image": x[2:]}])
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "reader.py").write_text(
        "import numpy as np\ndef feeds():\n"
        f"    for a in np.load({str(tmp_path / 'x.npy')!r}):\n        yield {{'image': a[None]}}\n"
    )
    return f"{tmp_path / 'reader.py'}:feeds"


KINDS = ("array", "dict", "dict-x", "npy", "npz", "iterable", "callable", "function")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_gives_the_same_samples_twice(tmp_path: Path, kind: str) -> None:
    source = open_source(file_of(tmp_path, kind, samples()), ONE)
    for _ in range(2):
        np.testing.assert_array_equal(collected(source)["image"], samples())
    assert source.size in (5, None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_the_limit_holds_for_every_kind(tmp_path: Path, kind: str, limit: int) -> None:
    source = open_source(file_of(tmp_path, kind, samples()), ONE, limit=limit)
    np.testing.assert_array_equal(collected(source)["image"], samples()[:limit])


def test_labels_come_with_npz(tmp_path: Path) -> None:
    source = open_source(file_of(tmp_path, "npz", samples()), ONE, limit=3)
    assert source.labels is not None
    np.testing.assert_array_equal(source.labels, [0, 1, 2])
    assert open_source(samples(), ONE).labels is None


def test_y_may_be_an_input() -> None:
    specs = (InputSpec("y", (None, 2), "float32"),)
    source = open_source({"y": np.ones((4, 2), np.float32)}, specs)
    assert source.labels is None
    assert collected(source)["y"].shape == (4, 2)


def test_several_inputs() -> None:
    arrays = {"a": np.ones((4, 2)), "b": np.ones((4, 3), np.int32), "y": np.arange(4)}
    source = open_source(arrays, TWO)
    result = collected(source)
    assert {k: (v.shape, v.dtype.name) for k, v in result.items()} == {
        "a": ((4, 2), "float32"),
        "b": ((4, 3), "int64"),
    }
    np.testing.assert_array_equal(source.labels, np.arange(4))


def test_integers_become_floats_but_not_the_other_way() -> None:
    assert collected(open_source(np.ones((2, 3, 4), np.uint8), ONE))["image"].dtype == np.float32
    with pytest.raises(RefusedError, match="'b' takes int64, but these are float32"):
        open_source({"a": np.ones((4, 2)), "b": np.ones((4, 3), np.float32)}, TWO)


@pytest.mark.parametrize(
    ("kind", "values", "reported"),
    [
        ("uint8", [-1, 3], "takes uint8, 0 to 255, but these are from -1 to 3"),
        ("uint8", [0, 256], "from 0 to 256"),
        ("int32", [0, 2**31], "from 0 to 2147483648"),
        ("int64", np.array([0, 2**63], np.uint64), "from 0 to 9223372036854775808"),
        ("bool", [0, 2], "takes bool, 0 to 1, but these are from 0 to 2"),
        ("bool", [0.0, 1.0], "takes bool, but these are float64"),
        ("float32", [0.0, 1e300], "NaN or infinite"),
        ("float16", [0.0, 1e6], "NaN or infinite"),
    ],
)
def test_numbers_that_the_inputs_type_does_not_hold_are_refused_not_wrapped(
    kind: str, values: Any, reported: str
) -> None:
    spec = (InputSpec("x", (None,), kind),)
    with pytest.raises(RefusedError, match=reported):
        list(open_source(np.array(values), spec).batches(2))
    np.testing.assert_array_equal(collected(open_source(np.array([0, 1]), spec))["x"], [0, 1])


def read_all(data: Any, specs: tuple[InputSpec, ...] = ONE, **options: Any) -> None:
    list(open_source(data, specs, **options).batches(4))


BAD_ARRAYS: dict[str, tuple[Callable[[], np.ndarray], str]] = {
    "rank": (
        lambda: np.ones((5, 12), np.float32),
        r"'image' takes arrays of shape \[\?, 3, 4\], but these are \[\d, 12\]; they are flat: "
        r"pass x.reshape\(-1, 3, 4\)$",
    ),
    "shape": (
        lambda: np.ones((5, 3, 5), np.float32),
        r"takes arrays of shape \[\?, 3, 4\], but these are \[\d, 3, 5\]",
    ),
    "type": (lambda: np.ones((5, 3, 4), np.complex64), "'image' takes float32, but these are complex64"),
    "text": (lambda: np.full((5, 3, 4), "a"), "'image' takes float32, but these are text"),
    "nan": (
        lambda: np.where(np.arange(12).reshape(3, 4) < 2, np.nan, samples()),
        r"holds \d+ value\(s\) that are NaN or infinite; remove",
    ),
    "late infinity": (
        lambda: samples() * np.array([1, 1, 1, 1, np.inf], np.float32).reshape(5, 1, 1),
        "NaN or infinite; remove",
    ),
    "none": (lambda: samples(0), "there are no samples in it; pass at least one"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", sorted(BAD_ARRAYS))
@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_bad_samples_are_refused_in_every_kind(tmp_path: Path, kind: str, fault: str) -> None:
    make, message = BAD_ARRAYS[fault]
    data = file_of(tmp_path, kind, make())
    with pytest.raises(RefusedError, match=message) as caught:
        read_all(data)
    where = str(data) if isinstance(data, str | Path) else "the samples given"
    assert str(caught.value).startswith(where)


def test_a_sample_that_does_not_fit_behind_good_ones_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"these are \[2, 3, 5\]"):
        read_all([samples(), np.ones((2, 3, 5), np.float32)])


def test_an_input_without_an_array() -> None:
    with pytest.raises(
        RefusedError,
        match=r"no array for the network's input 'image'; it has \['picture'\].*\(image\) or 'x'",
    ):
        open_source({"picture": samples()}, ONE)
    with pytest.raises(RefusedError, match=r"input 'b'; it has \['a'\].*\(a, b\)"):
        open_source({"a": np.ones((1, 2))}, TWO)
    with pytest.raises(RefusedError, match="input 'a'; it has"):
        open_source({"x": np.ones((1, 2)), "b": np.ones((1, 3), int)}, TWO)


def test_inputs_of_different_length() -> None:
    with pytest.raises(RefusedError, match=r"have 3 and 4 samples; give as many of each"):
        read_all({"a": np.ones((4, 2)), "b": np.ones((3, 3), int)}, TWO)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.npy", "missing.npy: no such file or folder; pass .npy, .npz"),
        ("notes.txt", "notes.txt: not a kind of data csscc reads; pass"),
        ("bad.npy", "bad.npy: cannot be read as NumPy data"),
        ("bad.npz", "bad.npz: cannot be read as NumPy data"),
        ("objects.npy", "objects.npy: cannot be read as NumPy data"),
        ("folder", "folder: no images in it"),
        ("missing.py:f", "missing.py: no such file; the form is file.py:function"),
        ("reader.py:nothing", "reader.py: it has no function 'nothing'; the form is"),
        ("reader.py:number", "reader.py: it has no function 'number'"),
        ("broken.py:f", r"broken.py: cannot be imported \(ZeroDivisionError"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "bad.npy").write_text("hello")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 broken")
    np.save(tmp_path / "objects.npy", np.array([None, 1], object), allow_pickle=True)
    (tmp_path / "folder").mkdir()
    (tmp_path / "reader.py").write_text("number = 3\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(RefusedError, match=message):
        read_all(str(tmp_path / name))


@pytest.mark.parametrize("data", [3, 2.5, object()])
def test_other_objects_are_wrong_usage(data: Any) -> None:
    with pytest.raises(UsageError, match="pass an array, a dict of arrays, an iterable, or a path"):
        open_source(data, ONE)


def write_images(folder: Path, number: int = 3, size: tuple[int, int] = (6, 5)) -> np.ndarray:
    """Images without loss; returns their pixels ``[N, H, W, 3]``."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (number, size[1], size[0], 3)).astype(np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"im{i}.png")
    return pixels


IMAGE = (InputSpec("image", (None, 3, 5, 6), "float32"),)


def test_images_with_labels(tmp_path: Path) -> None:
    pixels = write_images(tmp_path / "val")
    (tmp_path / "labels.csv").write_text("file,class\nval/im2.png,7\nval/im0.png,3\nval/im1.png,9\n")
    options = ImageOptions(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), scale=200.0, channel_order="BGR")
    source = open_source(tmp_path / "val", IMAGE, images=options)
    assert source.size == 3
    np.testing.assert_array_equal(source.labels, [3, 9, 7])
    expected = (pixels[..., ::-1] / 200.0 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]
    np.testing.assert_allclose(collected(source)["image"], expected.transpose(0, 3, 1, 2), rtol=0, atol=1e-5)


def test_images_channels_last_resized_or_grey(tmp_path: Path) -> None:
    pixels = write_images(tmp_path)
    last = (InputSpec("image", (None, 5, 6, 3), "float32"),)
    result = collected(open_source(tmp_path, last, images=ImageOptions(layout="NHWC", scale=1.0)))
    np.testing.assert_array_equal(result["image"], pixels.astype(np.float32))
    small = (InputSpec("image", (None, 3, 4, 4), "float32"),)
    assert collected(open_source(tmp_path, small, images=ImageOptions(size=4)))["image"].shape == (3, 3, 4, 4)
    grey = (InputSpec("image", (None, 1, 5, 6), "float32"),)
    result = collected(open_source(tmp_path, grey, images=ImageOptions(channel_order="GRAY", scale=1.0)))
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(result["image"][:, 0], luma, rtol=0, atol=1.0)


def test_labels_that_do_not_cover_all_images_are_refused_and_those_of_other_images_not_used(tmp_path: Path) -> None:
    write_images(tmp_path / "val")
    assert open_source(tmp_path / "val", IMAGE).labels is None
    (tmp_path / "labels.csv").write_text("calib/other.png,1\n")
    assert open_source(tmp_path / "val", IMAGE).labels is None
    (tmp_path / "labels.csv").write_text("im0.png,1\n")
    with pytest.raises(RefusedError, match=r"labels\.csv: has no class for 2 of the 3 images, im1\.png for one"):
        open_source(tmp_path / "val", IMAGE)


def test_an_image_that_cannot_be_read_or_does_not_fit(tmp_path: Path) -> None:
    write_images(tmp_path)
    with pytest.raises(RefusedError, match=r"takes arrays of shape \[\?, 3, 4, 4\], but these are \[3, 3, 5, 6\]"):
        read_all(tmp_path, (InputSpec("image", (None, 3, 4, 4), "float32"),))
    (tmp_path / "im9.png").write_text("no image")
    with pytest.raises(RefusedError, match=r"im9\.png: not a readable image"):
        read_all(tmp_path, IMAGE)


def test_limited_cuts_the_last_batch() -> None:
    batches = [{"x": np.arange(4)}, {"x": np.arange(4, 8)}, {"x": np.arange(8, 12)}]
    for samples_ in (1, 4, 6, 8, 12, 50):
        seen = np.concatenate([b["x"] for b in limited(iter(batches), samples_)])
        np.testing.assert_array_equal(seen, np.arange(min(samples_, 12)))


def test_checked_picks_the_inputs_only() -> None:
    chunk = {"image": samples(), "other": np.ones(3)}
    assert list(checked(chunk, ONE, "here")) == ["image"]


@pytest.mark.parametrize(("start", "stop"), [(0, 10), (0, 4), (3, 4), (3, 9), (5, 99), (9, 10)])
def test_a_part_of_a_source_is_what_stands_there(start: int, stop: int) -> None:
    x, y = np.arange(20.0, dtype=np.float32).reshape(10, 2), np.arange(10)
    specs = (InputSpec("x", (None, 2), "float32"),)
    for data in ({"x": x, "y": y}, lambda: iter([(x[:3], y[:3]), (x[3:8], y[3:8]), (x[8:], y[8:])])):
        part = open_source(data, specs).between(start, stop)
        np.testing.assert_array_equal(np.concatenate([feeds["x"] for feeds in part.batches(4)]), x[start:stop])
        np.testing.assert_array_equal(part.labels, y[start:stop])
        assert part.size in (None, len(x[start:stop]))


def test_one_sample_without_its_axis_is_told_where_it_goes() -> None:
    specs = (InputSpec("x", (None, 3, 4, 4), "float32"),)
    with pytest.raises(RefusedError, match=r"the axis of the samples is missing: pass x\[None\]"):
        open_source(np.zeros((3, 4, 4), np.float32), specs)


@pytest.mark.parametrize("name", ["y", "label", "labels"])
def test_labels_of_a_file_have_their_usual_names(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 2), np.float32), **{name: np.array([0, 1, 1])})
    source = open_source(str(tmp_path / "d.npz"), (InputSpec("x", (None, 2), "float32"),))
    assert source.labels is not None
    assert source.labels.tolist() == [0, 1, 1]
