"""Folders of images, and the labels beside them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csscc import limits
from csscc.errors import RefusedError, UsageError
from csscc.io.finite import finite

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
PRESETS: dict[str, dict[str, Any]] = {
    "none": {},
    # torchvision's models, and most that are trained on ImageNet in PyTorch
    "imagenet": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    # networks of Caffe, and those of Keras that come from there (mode "caffe")
    "caffe": {"scale": 1.0, "channel_order": "BGR", "mean": (103.939, 116.779, 123.68)},
    # -1 to 1: Inception and MobileNet of TensorFlow and Keras (mode "tf"), timm's of that origin
    "inception": {"mean": (0.5,), "std": (0.5,)},
}


@dataclass(frozen=True)
class ImageOptions:
    """How image files become inputs: ``(pixel / scale - mean) / std``.

    Raises:
        UsageError: a value cannot be used.
    """

    size: int | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 255.0
    layout: str = "NCHW"
    channel_order: str = "RGB"

    @classmethod
    def preset(cls, name: str, **changes: Any) -> ImageOptions:
        """What networks of a kind take, a key of `PRESETS`; `changes` that are not None go first.

        Raises:
            UsageError: the preset is not known, or a value cannot be used.
        """
        if name not in PRESETS:
            raise UsageError(f"preprocessing '{name}' is not known; choose one of {', '.join(PRESETS)}")
        return cls(**PRESETS[name] | {k: v for k, v in changes.items() if v is not None})

    def __post_init__(self) -> None:
        """Check what would make no pixels of an image."""
        channels = 1 if self.channel_order == "GRAY" else 3
        for what, values in (("mean", self.mean), ("std", self.std), ("scale", (self.scale,))):
            for value in values:
                finite(value, f"the images' {what}")
            if len(values) not in (1, channels):
                several = f" or {channels}" if channels > 1 else ""
                raise UsageError(f"the images' {what} has {len(values)} numbers, but must have 1{several}")
            if what != "mean" and 0 in values:
                raise UsageError(f"the images' {what} divides the pixels, so it must not be 0")
        if self.size is not None and self.size < 1:
            raise UsageError(f"the size of images must be at least 1, not {self.size}")


def image_files(folder: Path) -> list[Path]:
    """All images in a folder and below it, in order.

    Raises:
        RefusedError: there is none.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise RefusedError(f"{folder}: no images in it ({', '.join(sorted(SUFFIXES))}); give another folder")
    return files


def read_images(files: Sequence[Path], options: ImageOptions, at_once: int) -> Iterator[NDArray[np.float32]]:
    """Images in batches of so many, all of the same size.

    Raises:
        RefusedError: a file is no image, or they are not all of the same size.
        UsageError: Pillow is not installed.
    """
    shape: tuple[int, ...] | None = None
    for start in range(0, len(files), at_once):
        images = []
        for file in files[start : start + at_once]:
            images.append(_read_image(file, options))
            shape = shape or images[0].shape
            if images[-1].shape != shape:
                sizes = f"{files[0].name} has the shape {list(shape)}, {file.name} has {list(images[-1].shape)}"
                raise RefusedError(f"{file.parent}: images are of different sizes: {sizes}; pass --image-size")
        yield np.stack(images)


def _read_image(file: Path, options: ImageOptions) -> NDArray[np.float32]:
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError("reading images needs Pillow: pip install 'csscc[images]'") from error
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file) as opened:
            if opened.width * opened.height > limits.PIXELS:
                size = f"{opened.width} x {opened.height}"
                raise RefusedError(f"{file}: an image of {size} pixels, more than {limits.PIXELS:,}; make it smaller")
            image = opened.convert("L" if options.channel_order == "GRAY" else "RGB")
            if options.size is not None:
                image = image.resize((options.size, options.size), Image.Resampling.BILINEAR)
            pixels = np.asarray(image, np.float32)
    except RefusedError:
        raise
    except Exception as error:  # Pillow's plugins raise anything on damaged files
        raise RefusedError(f"{file}: not a readable image ({error}); remove it or save it again") from error
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if options.channel_order == "BGR":
        pixels = pixels[:, :, ::-1]
    ready = (pixels / options.scale - np.asarray(options.mean, np.float32)) / np.asarray(options.std, np.float32)
    return np.ascontiguousarray(ready.transpose(2, 0, 1) if options.layout == "NCHW" else ready, np.float32)
