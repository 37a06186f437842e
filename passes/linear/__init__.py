"""The linear operators of the spiking core: one table, from the ONNX operator to what the passes need to know of it."""

from __future__ import annotations

from csscc.passes.linear.arithmetic import Scale, Sum
from csscc.passes.linear.base import LinearOp
from csscc.passes.linear.convolutions import Conv, ConvTranspose
from csscc.passes.linear.layout import Concat, Selection
from csscc.passes.linear.mixing import Col2Im, Pool, Reduce, Resize
from csscc.passes.linear.products import Gemm, MatMul
from csscc.passes.linear.weighted import WeightedOp

_SELECTIONS = (
    "Identity Dropout Transpose Reshape Flatten Squeeze Unsqueeze Slice Split Gather Pad "
    "DepthToSpace SpaceToDepth Expand Tile"
)

LINEAR: dict[str, LinearOp] = {
    "Conv": Conv(),
    "ConvTranspose": ConvTranspose(),
    "Gemm": Gemm(),
    "MatMul": MatMul(),
    "Add": Sum(),
    "Sub": Sum(),
    "Sum": Sum(),
    "Mul": Scale(),
    "Div": Scale(),
    "Neg": Scale(),
    "AveragePool": Pool(),
    "GlobalAveragePool": Pool(),
    "ReduceMean": Reduce(),
    "ReduceSum": Reduce(),
    "Col2Im": Col2Im(),
    "Resize": Resize(),
    "Concat": Concat(),
    **dict.fromkeys(_SELECTIONS.split(), Selection()),
}

WEIGHTED = frozenset(op for op, rule in LINEAR.items() if rule.weighted)

__all__ = ["LINEAR", "WEIGHTED", "LinearOp", "WeightedOp"]
