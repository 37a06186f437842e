"""Fold what does not depend on the inputs.

Before: ``Constant``, shape arithmetic around Pad and Reshape, transposed weights, `If` with a known condition.
After: initializers, and the branch in place of the `If` (`inline_branches`). Folding is onnx-graphsurgeon's, which
evaluates in onnxruntime; a Reshape whose target has one dimension that is not known, in front, gets the constant
target ``[-1, ...]``, also where the target is the batch and a -1, as ``view(x.size(0), -1)`` is exported. A Resize to
sizes that keep batch and channels gets constant sizes of the axes after them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from csscc import limits
from csscc.dialect.adapter import infer_shapes, name_uniquely
from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import Shape, attribute, producer, sizes_after_batch
from csscc.errors import RefusedError
from csscc.io import weights
from csscc.passes.base import BasePass
from csscc.passes.canonical.inline_branches import inline_branches


@dataclass(frozen=True)
class FoldConstants(BasePass):
    """Constant folding, and Reshape targets made constant."""

    name: ClassVar[str] = "fold-constants"

    def apply(self, network: Network) -> int:
        """Fold to a fixed point; return how many nodes went, targets became constant and branches were put in place.

        Raises:
            RefusedError: a tensor has more axes than NumPy could take beside those of time.
        """
        before = len(network.graph.nodes)
        targets = 0
        while True:
            infer_shapes(network)
            with _quiet_onnxruntime():
                network.graph.fold_constants(
                    fold_shapes=True,
                    recurse_subgraphs=True,
                    flatten_subgraphs=False,
                    partitioning=_partitioning(network.graph),
                    should_exclude_node=_makes_a_sequence,
                )
            now = inline_branches(network.graph)
            tidy(network.graph)
            name_uniquely(network.graph)
            now += sum(_constant_target(n) + _constant_sizes(n) for n in network.graph.nodes)
            targets += now
            if not now:
                break
        network.graph.cleanup()
        infer_shapes(network)
        _refuse_many_axes(network.graph)
        return before - len(network.graph.nodes) + targets


def _refuse_many_axes(graph: gs.Graph) -> None:
    for name, tensor in graph.tensors().items():
        if len(tensor.shape or ()) > limits.AXES:
            raise RefusedError(
                f"tensor '{name}' of the network has {len(tensor.shape or ())} axes; csscc takes up to {limits.AXES}"
            )


@contextlib.contextmanager
def _quiet_onnxruntime() -> Iterator[None]:
    """The graph library evaluates constants in sessions of its own, whose optimiser warns of nothing that matters."""
    import onnxruntime as ort

    ort.set_default_logger_severity(4)
    try:
        yield
    finally:
        ort.set_default_logger_severity(2)


def _makes_a_sequence(node: gs.Node) -> bool:
    """Whether what a node makes is no tensor, so that the graph library cannot hold it as a constant."""
    return node.op.startswith(("Sequence", "SplitToSequence", "Optional")) and node.op not in _OF_SEQUENCES


def _partitioning(graph: gs.Graph) -> str | None:
    """The graph library evaluates what it folds as one message; where that may be too large, piece by piece."""
    size = sum(t.values.nbytes for t in graph.tensors().values() if isinstance(t, gs.Constant))
    return "recursive" if size > weights.MAX_BYTES else None


def _constant_target(node: gs.Node) -> int:
    if node.op != "Reshape" or isinstance(node.inputs[1], gs.Constant):
        return 0
    rest = _after_batch(node.inputs[0].shape, node.outputs[0].shape)
    if rest is None:
        return 0
    node.inputs[1] = gs.Constant(f"{node.name}_shape", np.array([-1, *rest], dtype=np.int64))
    return 1


def _constant_sizes(node: gs.Node) -> int:
    if node.op != "Resize" or len(node.inputs) < 4 or "axes" in node.attrs:
        return 0
    before, after = node.inputs[0].shape, node.outputs[0].shape
    sizes = sizes_after_batch((after or [])[1:])
    if not before or not after or before[1] != after[1] or sizes is None:
        return 0
    stretched = attribute(node, "keep_aspect_ratio_policy", "stretch") == "stretch"
    roi_read = attribute(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    if not stretched or roi_read or not (before[0] == after[0] or _holds_batch_alone(node.inputs[3], before)):
        return 0
    node.attrs["axes"] = list(range(2, len(after)))
    node.inputs[3] = gs.Constant(f"{node.name}_sizes", np.array(sizes, dtype=np.int64))
    return 1


def _holds_batch_alone(sizes: gs.Tensor, shape: Shape) -> bool:
    """Whether the only number in `sizes` that is not known can be the first one of `shape`."""
    if isinstance(sizes, gs.Constant):
        return True
    node = producer(sizes)
    if node is None or node.op not in ("Shape", *_LAYOUT):
        return False
    if node.op == "Shape":
        read = node.inputs[0].shape
        return bool(read and read[0] == shape[0] is not None and sizes_after_batch(read) is not None)
    return all(_holds_batch_alone(t, shape) for t in node.inputs)


_OF_SEQUENCES = ("SequenceAt", "SequenceLength", "OptionalHasElement")
_LAYOUT = ("Concat", "Slice", "Gather", "Unsqueeze", "Squeeze", "Reshape", "Cast")


def _after_batch(before: Shape | None, after: Shape | None) -> list[int] | None:
    """What a Reshape with a free batch makes of the other dimensions; None if that is not known."""
    if not after or isinstance(after[0], int):
        return None
    known = [d for d in after[1:] if isinstance(d, int)]
    if len(known) == len(after) - 1:
        return known
    read = sizes_after_batch(before)
    if not before or before[0] is None or before[0] != after[0] or read is None or len(known) != len(after) - 2:
        return None
    missing = int(np.prod(read)) // max(1, int(np.prod(known)))
    return [d if isinstance(d, int) else missing for d in after[1:]]
