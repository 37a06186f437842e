"""Let a network that was exported for one batch size take any.

Before: ``x [1,1,28,28] -> Reshape to [1,256]``.    After: ``x [batch,1,28,28] -> Reshape to [-1,256]``.

Rewriting a Reshape that keeps the batch in front (and a Flatten of a batch of one) is exact for the exported batch,
and the spiking core, which folds time into the batch, needs it in any case. That the inputs' first dimension may be
freed is then checked in onnxruntime: the freed network on samples of several batches must give what the original gives
one batch at a time. Where it does not (for example an output without a batch axis), the batch stays fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from csscc.dialect.adapter import export_model
from csscc.dialect.network import Network
from csscc.dialect.rewrite import attribute, shape_of, sizes_after_batch
from csscc.dialect.sizes import Sizes
from csscc.errors import CssccError
from csscc.io.outputs import as_arrays, is_number
from csscc.passes.base import BasePass
from csscc.passes.canonical.foreign import learn_shapes
from csscc.runtime.session import Session
from csscc.statistics import Feeds

BATCH = "batch"
TOLERANCE = 1e-3
Values = NDArray[np.generic]


@dataclass(frozen=True)
class FreeBatch(BasePass):
    """Make the batch dimension symbolic where the network's results allow it."""

    name: ClassVar[str] = "free-batch"

    def apply(self, network: Network) -> int:
        """Return the number of Reshape and Flatten nodes rewritten, plus one if the batch was freed."""
        rewritten = sum(_keep_batch(node) for node in network.graph.nodes)
        sizes = {t.shape[0] for t in network.graph.inputs if t.shape}
        if not sizes or not all(t.shape for t in network.graph.inputs):
            return rewritten
        fixed = [s for s in sizes if isinstance(s, int)]
        if not fixed:
            network.batch = next((s for s in sizes if isinstance(s, str) and s), BATCH)
            return rewritten
        if len(sizes) > 1:
            network.report(self.name, "inputs", f"the inputs' first dimensions differ ({sizes}): batch left fixed")
            return rewritten
        return rewritten + self._free(network, fixed[0])

    def _free(self, network: Network, size: int) -> int:
        graph = network.graph
        try:
            feeds, expected = _results(Session(export_model(network), optimise=False), size, network.sizes)
            for tensor in graph.inputs:
                tensor.shape = [BATCH, *shape_of(tensor)[1:]]
            learn_shapes(network)
            got = as_arrays(Session(export_model(network), optimise=False).run(feeds))
            if all(_close(got[n], v) for n, v in expected.items()):
                network.batch = BATCH
                return 1
            reason = "results of a larger batch differ"
        except (CssccError, RuntimeError):
            reason = "a batch of another size does not run"
        for tensor in graph.inputs:
            tensor.shape = [size, *shape_of(tensor)[1:]]
        learn_shapes(network)
        network.report(self.name, "inputs", f"batch left fixed at {size}: {reason}")
        return 0


def _keep_batch(node: gs.Node) -> int:
    """Rewrite a node that states the batch size; exact for the size it states."""
    if node.op == "Flatten" and attribute(node, "axis", 1) == 0 and (node.inputs[0].shape or [None])[0] == 1:
        node.attrs["axis"] = 1
        return 1
    if node.op != "Reshape" or not isinstance(node.inputs[1], gs.Constant):
        return 0
    before, after = node.inputs[0].shape, node.outputs[0].shape
    sizes = sizes_after_batch(after)
    if not before or not after or before[0] != after[0] or sizes is None:
        return 0
    target = np.array([-1, *sizes], dtype=np.int64)
    if 0 in target or np.array_equal(target, node.inputs[1].values):
        return 0
    node.inputs[1] = gs.Constant(f"{node.name}_shape", target)
    return 1


def _results(original: Session, size: int, sizes: Sizes) -> tuple[Feeds, Feeds]:
    """Samples for the freed network, and what the original network of batches of `size` makes of them.

    They are taken across its batches, so that what depends on a sample's neighbours or place differs.
    """
    batches = [original.random_inputs(size, seed, sizes) for seed in range(3)]
    runs = [as_arrays(original.run(b)) for b in batches]
    taken = slice(min(1, size - 1), size + 2 + min(1, size - 1))
    feeds = {n: np.concatenate([b[n] for b in batches])[taken] for n in original.input_names}
    return feeds, {n: np.concatenate([np.atleast_1d(r[n]) for r in runs])[taken] for n in runs[0]}


def _close(got: Values, expected: Values) -> bool:
    if got.shape != expected.shape:
        return False
    if not is_number(expected):
        return np.array_equal(got, expected)
    tolerance = TOLERANCE * _scale(expected)
    return bool(np.allclose(got, expected, rtol=TOLERANCE, atol=tolerance, equal_nan=True))


def _scale(values: Values) -> float:
    """Largest finite magnitude; random inputs may be outside an operator's domain."""
    if values.dtype.kind != "f":
        return 0.0
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
