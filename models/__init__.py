"""A small trained network and its images, shipped so that the compiler can be tried at once."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def digits_model() -> Path:
    """Return the path of the ONNX network: ``image`` [batch, 1, 8, 8] to ``logits`` [batch, 10]."""
    return _HERE / "digits_resnet.onnx"


def digits_data() -> Path:
    """Return the path of the archive: ``x`` and ``y`` to test with, ``x_calib`` and ``y_calib`` to calibrate."""
    return _HERE / "digits.npz"
