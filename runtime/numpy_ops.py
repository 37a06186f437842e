"""Convolution and pooling in NumPy, through windows and BLAS.

onnx's reference implementations are written to be read and take minutes on a real network; these are the operators
that a spiking network spends its time in. They plug into onnx's `ReferenceEvaluator`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_average_pool import AveragePool_19
from onnx.reference.ops.op_max_pool import MaxPool as ReferenceMaxPool

FloatArray = NDArray[np.floating]
CHUNK_BYTES = 32 << 20


def paddings(
    auto_pad: str,
    pads: Sequence[int] | None,
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[tuple[int, int]]:
    """Padding before and behind each spatial axis, with ``auto_pad`` resolved (Conv-11, MaxPool-12)."""
    n = len(size)
    if auto_pad in ("NOTSET", ""):
        given = list(pads or [0] * 2 * n)
        return [(given[i], given[n + i]) for i in range(n)]
    if auto_pad == "VALID":
        return [(0, 0)] * n
    result = []
    for length, k, s, d in zip(size, kernel, strides, dilations, strict=True):
        total = max(0, (-(-length // s) - 1) * s + (k - 1) * d + 1 - length)
        small = total // 2
        result.append((small, total - small) if auto_pad == "SAME_UPPER" else (total - small, small))
    return result


def windows(
    x: FloatArray, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> FloatArray:
    """Views of every window of a padded ``[N, C, spatial...]``: ``[N, C, positions..., kernel...]``."""
    axes = tuple(range(2, x.ndim))
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    view = sliding_window_view(x, reach, axis=axes)
    steps = (slice(None), slice(None), *(slice(None, None, s) for s in strides))
    return view[(*steps, *(slice(None, None, d) for d in dilations))]


def convolve(
    x: FloatArray,
    weights: FloatArray,
    bias: FloatArray | None,
    *,
    pads: Sequence[tuple[int, int]],
    strides: Sequence[int],
    dilations: Sequence[int],
    group: int,
) -> FloatArray:
    """Convolution of ``[N, C, spatial...]`` with ``[M, C/group, kernel...]``, a few samples at a time."""
    kernel = weights.shape[2:]
    matrix = weights.reshape(group, weights.shape[0] // group, -1)
    padded = np.pad(x, [(0, 0), (0, 0), *pads]) if any(any(p) for p in pads) else x
    view = windows(padded, kernel, strides, dilations)
    positions = view.shape[2 : 2 + len(kernel)]
    order = (0, 1, *range(2 + len(kernel), 2 + 2 * len(kernel)), *range(2, 2 + len(kernel)))
    view = view.transpose(order)
    out = np.empty((x.shape[0], weights.shape[0], *positions), x.dtype)
    per_sample = int(np.prod(view.shape[1:])) * x.itemsize
    chunk = max(1, CHUNK_BYTES // max(per_sample, 1))
    for start in range(0, len(x), chunk):
        part = view[start : start + chunk]
        columns = part.reshape(len(part), group, -1, int(np.prod(positions)))
        out[start : start + chunk] = np.matmul(matrix, columns).reshape(len(part), -1, *positions)
    if bias is not None:
        out += bias.reshape(1, -1, *(1,) * len(kernel))
    return out


class Conv(OpRun):
    """``Conv`` (opset 11 and newer)."""

    op_domain = ""

    def _run(
        self,
        x: FloatArray,
        w: FloatArray,
        b: FloatArray | None = None,
        auto_pad: str | None = None,
        dilations: Sequence[int] | None = None,
        group: int | None = None,
        kernel_shape: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
    ) -> tuple[FloatArray]:
        n = x.ndim - 2
        strides, dilations = strides or [1] * n, dilations or [1] * n
        around = paddings(auto_pad or "NOTSET", pads, x.shape[2:], w.shape[2:], strides, dilations)
        result = convolve(x, w, b, pads=around, strides=strides, dilations=dilations, group=group or 1)
        return (result,)


def _pool_view(
    x: FloatArray, fill: float, attributes: dict[str, Any]
) -> tuple[FloatArray, list[tuple[int, int]], int]:
    """Windows of a pooling operator, the padding they see, and the number of kernel axes."""
    kernel = attributes["kernel_shape"]
    n = len(kernel)
    strides, dilations = attributes.get("strides") or [1] * n, attributes.get("dilations") or [1] * n
    around = paddings(attributes.get("auto_pad") or "NOTSET", attributes.get("pads"), x.shape[2:], kernel, strides, dilations)
    extended = []
    for (before, behind), length, k, s, d in zip(around, x.shape[2:], kernel, strides, dilations, strict=True):
        reach = (k - 1) * d + 1
        total = length + before + behind
        count = (total - reach) // s + 1
        if attributes.get("ceil_mode"):
            count = -(-(total - reach) // s) + 1
            if (count - 1) * s >= length + before:
                count -= 1
        extended.append((before, max(behind, (count - 1) * s + reach - length - before)))
    padded = np.pad(x, [(0, 0), (0, 0), *extended], constant_values=fill)
    return windows(padded, kernel, strides, dilations), around, n


class MaxPool(OpRun):
    """``MaxPool`` with one output; with indices, onnx's own."""

    op_domain = ""

    def _run(self, x: FloatArray, **attributes: Any) -> tuple[Any, ...]:
        if self.n_outputs > 1:
            return tuple(ReferenceMaxPool(self.onnx_node, self.run_params)._run(x, **attributes))
        view, _, n = _pool_view(x, -np.inf, attributes)
        return (view.max(axis=tuple(range(2 + n, 2 + 2 * n))),)

    @property
    def n_outputs(self) -> int:
        """Outputs the node asks for."""
        return sum(bool(name) for name in self.onnx_node.output)


class AveragePool(OpRun):
    """``AveragePool``; where padding counts in part (ceil mode with counted padding), onnx's own."""

    op_domain = ""

    def _run(self, x: FloatArray, **attributes: Any) -> tuple[Any, ...]:
        counted = bool(attributes.get("count_include_pad"))
        if counted and attributes.get("ceil_mode"):
            return tuple(AveragePool_19(self.onnx_node, self.run_params)._run(x, **attributes))
        view, around, n = _pool_view(x, 0.0, attributes)
        axes = tuple(range(2 + n, 2 + 2 * n))
        if counted or not any(any(p) for p in around) and not attributes.get("ceil_mode"):
            return (view.mean(axis=axes, dtype=x.dtype),)
        ones, _, _ = _pool_view(np.ones((1, 1, *x.shape[2:]), x.dtype), 0.0, attributes)
        return (view.sum(axis=axes, dtype=x.dtype) / ones.sum(axis=axes, dtype=x.dtype),)


FAST_OPS: tuple[type[OpRun], ...] = (Conv, MaxPool, AveragePool)
