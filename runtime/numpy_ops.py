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
from onnx.reference.ops.op_max_pool import MaxPool as ReferenceMaxPool
from onnx.reference.ops.op_one_hot import OneHot as ReferenceOneHot

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
    """Padding before and after each spatial axis, with ``auto_pad`` resolved (Conv-11, MaxPool-12)."""
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


def windows(x: FloatArray, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> FloatArray:
    """Views of every window of a padded ``[N, C, spatial...]``: ``[N, C, positions..., kernel...]``."""
    axes = tuple(range(2, x.ndim))
    extent = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    view = sliding_window_view(x, extent, axis=axes)
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
    """Convolution of ``[N, C, spatial...]`` with ``[M, C/group, kernel...]``: one product of matrices a few samples.

    All positions of a chunk of samples are the columns of one matrix, as BLAS is called seldom that way: its threads
    meet at each call, which costs more than the product where other programs compute as well.
    """
    kernel = weights.shape[2:]
    n, samples, outputs = len(kernel), x.shape[0], weights.shape[0]
    matrix = weights.reshape(group, outputs // group, -1)
    padded = np.pad(x, [(0, 0), (0, 0), *pads]) if any(any(p) for p in pads) else x
    view = windows(padded, kernel, strides, dilations)
    positions = view.shape[2 : 2 + n]
    order = (1, *range(2 + n, 2 + 2 * n), 0, *range(2, 2 + n))
    out = np.empty((samples, group, outputs // group, int(np.prod(positions))), x.dtype)
    per_sample = x.shape[1] * int(np.prod(kernel)) * out.shape[3] * x.itemsize
    chunk = max(1, CHUNK_BYTES // max(per_sample, 1))
    for start in range(0, samples, chunk):
        part = out[start : start + chunk]
        columns = view[start : start + chunk].transpose(order).reshape(group, matrix.shape[2], -1)
        part[:] = np.matmul(matrix, columns).reshape(*part.shape[1:3], len(part), -1).transpose(2, 0, 1, 3)
    result = out.reshape(samples, outputs, *positions)
    if bias is not None:
        result += bias.reshape(1, -1, *(1,) * n)
    return result


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


class _Pooling:
    """The windows of a pooling operator over inputs of one spatial size.

    Attributes:
        around: padding that the operator states, before and after each axis.
        beyond: what ceil mode adds after it, so that the last window is whole.
    """

    def __init__(self, size: Sequence[int], attributes: dict[str, Any]) -> None:
        self.kernel = attributes["kernel_shape"]
        n = len(self.kernel)
        self.strides, self.dilations = attributes.get("strides") or [1] * n, attributes.get("dilations") or [1] * n
        auto_pad, pads = attributes.get("auto_pad") or "NOTSET", attributes.get("pads")
        self.around = paddings(auto_pad, pads, size, self.kernel, self.strides, self.dilations)
        self.beyond = []
        for (before, after), length, k, s, d in zip(
            self.around, size, self.kernel, self.strides, self.dilations, strict=True
        ):
            extent = (k - 1) * d + 1
            total = length + before + after
            count = (total - extent) // s + 1
            if attributes.get("ceil_mode"):
                count = -(-(total - extent) // s) + 1
                if (count - 1) * s >= length + before:
                    count -= 1
            self.beyond.append((0, max(0, (count - 1) * s + extent - total)))

    @property
    def axes(self) -> tuple[int, ...]:
        """The kernel's axes in `view`."""
        n = len(self.kernel)
        return tuple(range(2 + n, 2 + 2 * n))

    def view(self, x: FloatArray, around: float, beyond: float) -> FloatArray:
        """Windows ``[N, C, positions..., kernel...]`` of `x` with these values for the padding."""
        unpadded = [(0, 0), (0, 0)]
        padded = np.pad(x, [*unpadded, *self.around], constant_values=around)
        padded = np.pad(padded, [*unpadded, *self.beyond], constant_values=beyond)
        return windows(padded, self.kernel, self.strides, self.dilations)


class MaxPool(OpRun):
    """``MaxPool`` with one output; with indices, onnx's own."""

    op_domain = ""

    def _run(self, x: FloatArray, **attributes: Any) -> tuple[Any, ...]:
        if self.n_outputs > 1:
            reference: Any = ReferenceMaxPool(self.onnx_node, self.run_params)
            return tuple(reference._run(x, **attributes))
        pooling = _Pooling(x.shape[2:], attributes)
        return (pooling.view(x, -np.inf, -np.inf).max(axis=pooling.axes),)

    @property
    def n_outputs(self) -> int:
        """Outputs the node asks for."""
        return sum(bool(name) for name in self.onnx_node.output)


class AveragePool(OpRun):
    """``AveragePool``; counted padding is what the operator states, never what ceil mode adds."""

    op_domain = ""

    def _run(self, x: FloatArray, **attributes: Any) -> tuple[Any, ...]:
        pooling = _Pooling(x.shape[2:], attributes)
        ones = np.ones((1, 1, *x.shape[2:]), x.dtype)
        counted = 1.0 if attributes.get("count_include_pad") else 0.0
        number = pooling.view(ones, counted, 0).sum(axis=pooling.axes, dtype=x.dtype)
        return (pooling.view(x, 0, 0).sum(axis=pooling.axes, dtype=x.dtype) / number,)


class LRN(OpRun):
    """``LRN``; onnx's own walks over as many channels as there are samples."""

    op_domain = ""

    def _run(
        self,
        x: FloatArray,
        alpha: float | None = None,
        beta: float | None = None,
        bias: float | None = None,
        size: int | None = None,
    ) -> tuple[FloatArray]:
        assert size is not None
        around = [(0, 0), ((size - 1) // 2, size // 2), *[(0, 0)] * (x.ndim - 2)]
        squares = sliding_window_view(np.pad(x * x, around), size, axis=1).sum(axis=-1, dtype=x.dtype)
        a, b, k = (x.dtype.type(v) for v in (alpha, beta, bias))
        return (x / (k + a / x.dtype.type(size) * squares) ** b,)


class OneHot(OpRun):
    """``OneHot``; onnx's own does not take a depth of shape [1], which the standard allows."""

    op_domain = ""

    def _run(self, indices: Any, depth: Any, values: Any, axis: int | None = None) -> tuple[Any, ...]:
        reference: Any = ReferenceOneHot(self.onnx_node, self.run_params)
        return tuple(reference._run(indices, np.asarray(depth).reshape(()), values, axis=axis))


FAST_OPS: tuple[type[OpRun], ...] = (Conv, MaxPool, AveragePool, LRN, OneHot)
