"""Trees of images: a folder is a class, numbered as torchvision and Hugging Face number them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import csscc
from csscc import cli
from csscc.cli.common import PREPROCESS
from csscc.errors import RefusedError, UsageError
from csscc.io.class_folders import SPLITS, labels_of_folders
from csscc.io.data import InputSpec, open_source
from csscc.io.images import PRESETS, ImageOptions
from csscc.measure.evaluation import evaluate
from tests.helpers import small_classifier

IMAGE = (InputSpec("x", (None, 3, 4, 4), "float32"),)


def tree(root: Path, *names: str) -> Path:
    """Images whose pixels are all the number of the image."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (number,) * 3).save(path)
    return root


def read(root: Path, limit: int | None = None) -> tuple[list[int], list[int] | None, tuple[str, ...]]:
    """Numbers of the images in their order, labels and classes."""
    source = open_source(root, IMAGE, images=ImageOptions(scale=1.0), limit=limit)
    images = np.concatenate([b["x"] for b in source.batches(2)])
    labels = None if source.labels is None else source.labels.tolist()
    return images[:, 0, 0, 0].astype(int).tolist(), labels, source.classes


def test_folders_are_numbered_by_their_sorted_names(tmp_path: Path) -> None:
    tree(tmp_path, "dog/a.png", "Zebra/a.png", "cat/b.png", "cat/a.png", "10/deep/er/a.png", "9/a.png")
    (tmp_path / "eel").mkdir()  # keeps its number, as in torchvision with allow_empty
    (tmp_path / ".cache").mkdir()
    images, labels, classes = read(tmp_path)
    assert classes == ("10", "9", "Zebra", "cat", "dog", "eel")
    assert images == [4, 5, 1, 3, 2, 0]
    assert labels == [0, 1, 2, 3, 3, 4]


def test_a_few_images_are_of_all_classes(tmp_path: Path) -> None:
    tree(tmp_path, "a/0.png", "a/1.png", "a/2.png", "b/0.png", "c/0.png", "c/1.png")
    assert read(tmp_path, 4) == ([0, 3, 4, 1], [0, 1, 2, 0], ("a", "b", "c"))
    assert read(tmp_path, 100)[0] == [0, 3, 4, 1, 5, 2]
    assert read(tmp_path)[0] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "names",
    [
        ["a.png", "b.png"],
        ["a.png", "cat/a.png", "dog/a.png"],
        ["images/a.png", "images/b.png"],
        ["train/a.png", "val/a.png"],
    ],
)
def test_folders_that_are_no_classes(names: list[str], tmp_path: Path) -> None:
    assert read(tree(tmp_path, *names))[1:] == (None, ())


def test_splits_are_not_classes(tmp_path: Path) -> None:
    tree(tmp_path, "train/cat/a.png", "train/dog/a.png", "Val/cat/a.png")
    with pytest.raises(RefusedError, match=r"holds the splits Val, train; pass one of them, as .*Val$"):
        read(tmp_path)
    assert read(tmp_path / "train")[1] == [0, 1]
    assert all(split == split.lower() for split in SPLITS)


def test_a_table_goes_before_names(tmp_path: Path) -> None:
    tree(tmp_path, "cat/a.png", "dog/b.png")
    (tmp_path / "labels.csv").write_text("a.png,7\nb.png,3\n")
    assert read(tmp_path) == ([0, 1], [7, 3], ())


def test_folders_must_be_the_networks_classes(tmp_path: Path) -> None:
    model, data = small_classifier(8)
    snn = csscc.compile(model, {"x": data["x"]}, T=3, check_samples=0).file
    for i in range(6):
        (tmp_path / f"class{i}").mkdir()
    files = [tmp_path / f"class{y}" / f"{i}.png" for i, y in enumerate(data["y"])]
    labels, names = labels_of_folders(tmp_path, files)
    source = open_source(data, (InputSpec("x", (None, 4, 8, 8), "float32"),))
    np.testing.assert_array_equal(labels, data["y"])
    source.classes = names
    reported = r"number 6 folders, class0 = 0 to class5 = 5, but output 'y' has 5 classes; .* labels\.csv"
    with pytest.raises(RefusedError, match=reported):
        evaluate(model, snn, source)
    source.classes = names[:5]
    assert evaluate(model, snn, source).ann_accuracy == 100


def test_presets_say_what_networks_were_trained_with(tmp_path: Path) -> None:
    assert set(PREPROCESS) == set(PRESETS)
    Image.new("RGB", (4, 4), (51, 102, 204)).save(tmp_path / "a.png")

    def pixel(name: str, **changes: object) -> np.ndarray:
        images = ImageOptions.preset(name, **changes)
        return next(open_source(tmp_path, IMAGE, images=images).batches(1))["x"][0, :, 0, 0]

    by_hand = {
        "none": [0.2, 0.4, 0.8],
        "imagenet": [(0.2 - 0.485) / 0.229, (0.4 - 0.456) / 0.224, (0.8 - 0.406) / 0.225],
        "caffe": [204 - 103.939, 102 - 116.779, 51 - 123.68],
        "inception": [-0.6, -0.2, 0.6],
    }
    for name, expected in by_hand.items():
        np.testing.assert_allclose(pixel(name), expected, rtol=1e-5)
    np.testing.assert_allclose(pixel("imagenet", scale=51.0, mean=None, std=(1.0,)), [0.515, 1.544, 3.594], rtol=1e-5)
    with pytest.raises(UsageError, match="'imagnet' is not known; choose one of none, imagenet, caffe, inception"):
        ImageOptions.preset("imagnet")


def test_the_command_line_takes_trees_and_presets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, _ = small_classifier(1)
    import onnx

    onnx.save(model, tmp_path / "m.onnx")
    tree(tmp_path / "images", *(f"{c}/{i}.png" for c in "abcde" for i in range(2)))
    for preset, code in (("imagenet", 3), ("vgg", 2)):
        reported = [str(tmp_path / n) for n in ("m.onnx", "snn.onnx", "images")]
        arguments = ["compile", reported[0], "--calibration", reported[2], "--preprocess", preset, "-o", reported[1]]
        monkeypatch.setattr(sys, "argv", ["csscc", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == code, capsys.readouterr().err
        assert ("takes arrays of shape" if code == 3 else "is not one of 'none', 'imagenet'") in capsys.readouterr().err
