"""What csscc uses of onnx-graphsurgeon, which has no types of its own; its defaults are left out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import DTypeLike, NDArray

class Tensor:
    """A Variable or a Constant."""

    name: str
    inputs: list[Node]
    outputs: list[Node]
    @property
    def shape(self) -> Sequence[int | str | None] | None: ...
    @property
    def dtype(self) -> DTypeLike | None: ...

class Variable(Tensor):
    shape: Sequence[int | str | None] | None
    dtype: DTypeLike | None
    def __init__(
        self, name: str, dtype: DTypeLike | None = ..., shape: Sequence[int | str | None] | None = ...
    ) -> None: ...
    @staticmethod
    def empty() -> Variable: ...

class Constant(Tensor):
    values: NDArray[Any]
    data_location: int | None
    def __init__(self, name: str, values: NDArray[Any]) -> None: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...

class Node:
    op: str
    name: str
    attrs: dict[str, object]
    inputs: list[Tensor]
    outputs: list[Variable]
    domain: str | None
    def __init__(
        self,
        op: str,
        name: str = ...,
        attrs: Mapping[str, object] | None = ...,
        inputs: Sequence[Tensor] | None = ...,
        outputs: Sequence[Variable] | None = ...,
        domain: str | None = ...,
    ) -> None: ...

class Graph:
    nodes: list[Node]
    inputs: list[Variable]
    outputs: list[Tensor]
    opset: int
    def tensors(self) -> dict[str, Tensor]: ...
    def copy(self) -> Graph: ...
    def cleanup(self) -> Graph: ...
    def fold_constants(
        self,
        *,
        fold_shapes: bool = ...,
        recurse_subgraphs: bool = ...,
        flatten_subgraphs: bool = ...,
        partitioning: str | None = ...,
        should_exclude_node: Callable[[Node], bool] | None = ...,
    ) -> Graph: ...

def import_onnx(onnx_model: onnx.ModelProto) -> Graph: ...
def export_onnx(graph: Graph) -> onnx.ModelProto: ...
