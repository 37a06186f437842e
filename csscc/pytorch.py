"""From a PyTorch module to a spiking network in one call; torch is only imported here.

snn = csscc.pytorch.compile(module, images, T=8, beta=2)
print(csscc.evaluate(csscc.pytorch.export(module, images), snn, {"x": test_images, "y": labels}))
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from csscc.api import compile as compile_onnx
from csscc.errors import RefusedError, UsageError
from csscc.io.files import temporary_folder
from csscc.snn import SNN

if TYPE_CHECKING:
    import torch

OPSET = 18


def compile(module: torch.nn.Module, calibration: Any, **options: Any) -> SNN:
    """Export a module to ONNX and compile it.

    Args:
        module: for example a trained classifier. It is exported as in evaluation, and left as it was.
        calibration: sample inputs: a tensor or array ``[B, ...]``, or a tuple of them for several inputs; or a loader,
            whose batches are a tensor, or start with one, as those of ``DataLoader`` with inputs and labels do.
        **options: of `csscc.compile`.

    Raises:
        UsageError: an option has a value that cannot be used, or the sample inputs are no tensors.
        RefusedError: PyTorch cannot export the module, or csscc cannot compile what it exports.
    """
    first = _first_batch(calibration)
    if first is not None:
        return compile_onnx(export(module, first), calibration, **options)
    inputs = _inputs(calibration)
    model = export(module, inputs)
    names = [value.name for value in model.graph.input]
    samples = {name: value.detach().cpu().numpy() for name, value in zip(names, inputs, strict=True)}
    return compile_onnx(model, samples, **options)


def export(module: torch.nn.Module, example: Any) -> onnx.ModelProto:
    """The module as ONNX, for any number of samples.

    It is the exporter of ``torch.onnx.export(dynamo=True)`` where onnxscript is installed, else the older one.

    Args:
        module: it is exported as in evaluation, and left as it was.
        example: sample inputs, a tensor or array ``[B, ...]`` or a tuple of them; two samples are enough.

    Raises:
        UsageError: the sample inputs are no tensors.
        RefusedError: PyTorch cannot export it; the message is PyTorch's.
    """
    import torch

    # A batch of one would be taken for a size that never changes.
    few = tuple(t[:2] if len(t) > 1 else t.expand(2, *t.shape[1:]) for t in _inputs(example))
    with temporary_folder() as folder, _evaluating(module), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own making
        path = folder / "model.onnx"
        try:
            _export(torch, module, few, path)
        except Exception as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise RefusedError(f"PyTorch cannot export the module: {first}; try torch.onnx.export yourself") from error
        return onnx.load(path)


def _export(torch: Any, module: torch.nn.Module, example: tuple[torch.Tensor, ...], path: Path) -> None:
    names = [f"input{i}" if i else "input" for i in range(len(example))]
    common = {"input_names": names, "opset_version": OPSET}
    if find_spec("onnxscript") is None:
        axes = {name: {0: "batch"} for name in names}
        torch.onnx.export(module, example, str(path), dynamo=False, dynamic_axes=axes, **common)
        return
    batch = torch.export.Dim("batch", min=1)
    shapes = tuple({0: batch} for _ in example)
    program = torch.export.export(module, example, dynamic_shapes=shapes)
    torch.onnx.export(program, example, str(path), dynamo=True, verbose=False, external_data=False, **common)


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Dropout and normalisation as in use, and afterwards as they were, in every part of the module."""
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, was in training.items():
            part.training = was


def _first_batch(loader: Any) -> Any:
    """The inputs of a loader's first batch; None if it is no loader, which starts anew each time it is read."""
    arrays = isinstance(loader, tuple | list | np.ndarray) or callable(getattr(loader, "detach", None))
    if arrays or not isinstance(loader, Iterable) or isinstance(loader, Iterator | Mapping | str):
        return None
    batch = next(iter(loader), None)
    return batch[0] if isinstance(batch, tuple | list) else batch


def _inputs(given: Any) -> tuple[torch.Tensor, ...]:
    import torch

    parts = tuple(given) if isinstance(given, tuple | list) else (given,)
    for part in parts:
        if not isinstance(part, np.ndarray) and not callable(getattr(part, "detach", None)):
            raise UsageError(
                f"sample inputs are a tensor [B, ...], an array, a tuple of them, or a loader, not "
                f"{type(part).__name__}"
            )
    return tuple(torch.as_tensor(part) if isinstance(part, np.ndarray) else part for part in parts)
