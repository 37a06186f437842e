"""The networks that are measured: two trained ones from the folder of real networks, two shapes with random weights.

The folder is the one that the tests use: CSSCC_REAL, by default `shared` beside the checkout.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.graphs import Builder, resnet50, vgg16
from csscc.coding.coding import Coding

Array = NDArray[Any]
DEFAULT = Coding(12, 1.5, 1)
FEW = (Coding(4, 3, 3), DEFAULT)
CODINGS = (Coding(4, 3, 3), Coding(5, 3, 3), Coding(6, 2, 1), Coding(8, 2, 1), DEFAULT)
REAL = Path(os.environ.get("CSSCC_REAL", Path(__file__).resolve().parents[2] / "shared"))
RESNET20 = "cifar10_resnet20_folded.onnx"
SQUEEZENET = "imagenet_squeezenet11.onnx"


@dataclass(frozen=True)
class Workload:
    """A network to measure.

    Attributes:
        name: as the table shows it.
        write: writes the ONNX file into a folder, unless it exists, and returns its path.
        samples: that many inputs for calibration.
        calibration: how many of them a compilation gets.
        codings: at which it is measured.
        numpy: whether the NumPy runtime is measured as well, at the default coding.
    """

    name: str
    write: Callable[[Path], Path]
    samples: Callable[[int], Array]
    calibration: int
    codings: tuple[Coding, ...]
    numpy: bool = False


def workloads() -> tuple[Workload, ...]:
    """All networks; those that need the folder of real networks only where it is there."""
    shapes = (
        Workload("VGG-16 shape", lambda folder: _generated(folder, vgg16), _noise, 8, FEW),
        Workload("ResNet-50 shape", lambda folder: _generated(folder, resnet50), _noise, 64, FEW),
    )
    if not (REAL / "networks.json").is_file():
        return shapes
    return (
        Workload("ResNet-20", lambda folder: REAL / "models" / RESNET20, cifar10_calibration, 256, CODINGS, numpy=True),
        Workload("SqueezeNet 1.1", lambda folder: REAL / "models" / SQUEEZENET, _photographs, 64, CODINGS),
        *shapes,
    )


def label(coding: Coding) -> str:
    """A coding as tables and results name it."""
    return f"T={coding.T} beta={coding.beta:g} L={coding.silent}"


def text_of(coding: Coding) -> str:
    """``T,beta,L``."""
    return f"{coding.T},{coding.beta:g},{coding.silent}"


def coding_from(text: str) -> Coding:
    """The coding of ``T,beta,L``, as the command line takes it."""
    T, beta, silent = text.split(",")
    return Coding(int(T), float(beta), int(silent))


def cifar10_calibration(number: int) -> Array:
    """Training images of CIFAR-10 as the ResNet-20 takes them."""
    return _cifar10("x_calib")[:number]


def cifar10_test(number: int) -> tuple[Array, Array]:
    """Test images of CIFAR-10 as the ResNet-20 takes them, and their classes."""
    with np.load(REAL / "data" / "cifar10.npz") as data:
        return _cifar10("x_test")[:number], data["y_test"][:number]


def _cifar10(key: str) -> Array:
    with np.load(REAL / "data" / "cifar10.npz") as data:
        return preprocessed(entry_of(RESNET20), data[key])


def _photographs(number: int) -> Array:
    return preprocessed(entry_of(SQUEEZENET), photographs("calib", number))


def photographs(part: str, number: int | None = None) -> Array:
    """The first ImageNet images of ``calib`` or ``val``, uint8 ``[N, H, W, 3]``."""
    from PIL import Image

    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in photograph_files(part)[:number]])


def photograph_files(part: str) -> list[Path]:
    """The files of `photographs`, in order."""
    return sorted((REAL / "data" / "imagenet" / part).iterdir())


def entry_of(file: str) -> dict[str, Any]:
    """What networks.json says of a network that must compile."""
    rows: list[dict[str, Any]] = json.loads((REAL / "networks.json").read_text())["must_compile"]
    return next(row for row in rows if row["file"] == file)


def preprocessed(entry: dict[str, Any], images: Array) -> Array:
    """uint8 images ``[N, H, W(, C)]`` as networks.json says that they enter the network."""
    how = entry["preprocess"]
    x = images.astype(np.float32)
    x = x[..., None] if x.ndim == 3 else x
    x = x[..., ::-1] if how.get("channel_order") == "BGR" else x
    x = (x / how["scale"] - np.array(how["mean"], np.float32)) / np.array(how["std"], np.float32)
    if entry["layout"] in ("NCHW", "N1HW"):
        x = x.transpose(0, 3, 1, 2)
    elif entry["layout"] == "N,784,1":
        x = x.reshape(len(x), 784, 1)
    elif entry["layout"] != "NHWC":
        raise ValueError(f"networks.json: layout {entry['layout']} is not known")
    return np.ascontiguousarray(x, np.float32)


def _noise(number: int) -> Array:
    return np.random.default_rng(1).standard_normal((number, 3, 224, 224), dtype=np.float32)


def _generated(folder: Path, make: Callable[[Builder], onnx.ModelProto]) -> Path:
    path = folder / f"{make.__name__}.onnx"
    if not path.is_file():
        onnx.save(make(Builder(224)), path)
    return path
