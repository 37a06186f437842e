"""Operators of other domains for onnx's reference evaluator: each is run by onnxruntime.

They stand in the prologue and the epilogue of a network, which stay the source's own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from onnx.reference.op_run import OpRun

from csscc.runtime.session import Session


def foreign_operators(model: onnx.ModelProto, own: frozenset[str], dtype: Any) -> list[type[OpRun]]:
    """Classes for the operators of `model` in domains that are neither standard nor `own`.

    Args:
        model: the model.
        own: domains that the evaluator runs in another way.
        dtype: floats that the operators give out; onnxruntime computes in float32.
    """
    opsets = {o.domain: o.version for o in model.opset_import}
    names = {(n.domain, n.op_type) for n in model.graph.node if n.domain not in ("", "ai.onnx", *own)}
    return [
        type(op, (OpRun,), {"op_domain": domain, "opsets": opsets, "dtype": dtype, "_run": _run, "run": _run})
        for domain, op in sorted(names)
    ]


def _run(self: Any, *inputs: Any, **_: Any) -> tuple[Any, ...]:
    arrays = [a.astype(np.float32) if a is not None and a.dtype == np.float64 else a for a in inputs]
    node = self.onnx_node
    given = {name: array for name, array in zip(node.input, arrays, strict=True) if name}
    types = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in given.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    opsets = [helper.make_opsetid(domain, version) for domain, version in self.opsets.items()]
    model = helper.make_model(helper.make_graph([node], "node", types, outputs), opset_imports=opsets, ir_version=10)
    made = Session(model).run(given)
    return tuple(_as(self.dtype, made[name]) if name else None for name in node.output)


def _as(dtype: Any, value: Any) -> NDArray[Any] | list[Any]:
    return value.astype(dtype) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value
