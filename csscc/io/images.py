"""Folders of images, and the labels beside them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from csscc.errors import RefusedError, UsageError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


@dataclass(frozen=True)
class ImageOptions:
    """How image files become inputs: ``(pixel / scale - mean) / std``."""

    size: int | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 255.0
    layout: str = "NCHW"
    channel_order: str = "RGB"


def image_files(folder: Path) -> list[Path]:
    """All images in a folder and below it, in order.

    Raises:
        RefusedError: there is none.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise RefusedError(f"{folder}: no images in it ({', '.join(sorted(SUFFIXES))})")
    return files


def labels_for(folder: Path, files: Sequence[Path]) -> NDArray[np.int64] | None:
    """Class numbers from a ``labels.csv`` of file and class, in the folder or above it."""
    table = next((p for p in (folder / "labels.csv", folder.parent / "labels.csv") if p.is_file()), None)
    if table is None:
        return None
    classes: dict[str, int] = {}
    with table.open(newline="") as handle:
        for row in csv.reader(handle):
            if len(row) >= 2 and row[-1].strip().lstrip("-").isdigit():
                classes[Path(row[0].strip()).name] = int(row[-1])
    if not all(f.name in classes for f in files):
        return None
    return np.array([classes[f.name] for f in files], np.int64)


def read_images(files: Sequence[Path], options: ImageOptions) -> NDArray[np.float32]:
    """Images as one batch, all of the same size.

    Raises:
        RefusedError: a file is no image.
        UsageError: Pillow is not installed.
    """
    return np.stack([_read_image(file, options) for file in files])


def _read_image(file: Path, options: ImageOptions) -> NDArray[np.float32]:
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError("reading images needs Pillow: pip install 'csscc[images]'") from error
    try:
        with Image.open(file) as opened:
            image = opened.convert("L" if options.channel_order == "GRAY" else "RGB")
            if options.size is not None:
                image = image.resize((options.size, options.size), Image.Resampling.BILINEAR)
            pixels = np.asarray(image, np.float32)
    except OSError as error:
        raise RefusedError(f"{file}: not a readable image ({error})") from error
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if options.channel_order == "BGR":
        pixels = pixels[:, :, ::-1]
    ready = (pixels / options.scale - np.asarray(options.mean, np.float32)) / np.asarray(options.std, np.float32)
    return np.ascontiguousarray(ready.transpose(2, 0, 1) if options.layout == "NCHW" else ready, np.float32)
