"""What the passes need to know of a linear operator in the spiking core."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_graphsurgeon as gs

from csscc.passes.linear.factors import ZERO, Factor


class LinearOp:
    """One linear operator: how factors and constants move through it.

    Every method works on a node whose core inputs (those that carry spikes) the caller names or has checked with
    `refuse`. Axis 0 of a core tensor is the batch, into which time is folded, so no operator may mix along it.
    """

    weighted = False

    def refuse(self, node: gs.Node, core: Sequence[int]) -> str:
        """Why the node is not linear in its inputs `core`, or mixes the batch; empty if it is fine."""
        return ""

    def additive(self, node: gs.Node) -> list[int]:
        """Indices of the constant inputs that are added to the result."""
        return []

    def push(self, graph: gs.Graph, node: gs.Node, index: int, factor: Factor) -> Factor | None:
        """Take over a `factor` that multiplied input `index`.

        Returns the factor that must multiply the output instead (one without axes and equal to 1 where the node
        absorbed it), or None, with the node unchanged, where it cannot be taken over.
        """
        return factor if factor.ndim == 0 and not self.additive(node) else None

    def pull(self, graph: gs.Graph, node: gs.Node, factor: Factor) -> dict[int, Factor] | None:
        """Take over a `factor` that multiplied the output.

        Returns the factors that must multiply inputs instead (none where the node absorbed it), or None, with the
        node unchanged, where it cannot be taken over.
        """
        return None

    def take_constant(self, graph: gs.Graph, node: gs.Node) -> Factor:
        """Remove what the node adds and return it, as a constant on its output (0 where it adds nothing)."""
        return ZERO

    def carry_constant(self, node: gs.Node, index: int, value: Factor) -> Factor | None:
        """What a constant on input `index` is at the output; None where that is not a constant per channel."""
        return None
