"""The order of nodes: that of the graph library's own sort, in graphs of any depth."""

from __future__ import annotations

import random
from graphlib import CycleError

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from csscc.dialect.order import tidy, toposort


def drawn(seed: int, size: int = 30) -> gs.Graph:
    """A random graph whose nodes stand in any order; some have a branch that reads tensors from outside."""
    rng = random.Random(seed)
    tensors = [gs.Variable("x", np.float32, [2])]
    nodes = []
    for i in range(size):
        made = gs.Variable(f"t{i}", np.float32, [2])
        read = [rng.choice(tensors[-6:]) for _ in range(rng.randint(1, 3))]
        node = gs.Node("Sum", f"n{i}", inputs=read, outputs=[made])
        if rng.random() < 0.2:
            inner = gs.Variable(f"inner{i}")
            branch = gs.Graph([gs.Node("Neg", f"b{i}", inputs=[rng.choice(tensors)], outputs=[inner])], [], [inner])
            node.op, node.attrs = "If", {"then_branch": branch, "else_branch": branch.copy()}
        nodes.append(node)
        tensors.append(made)
    rng.shuffle(nodes)
    return gs.Graph(nodes, tensors[:1], tensors[-1:])


def names(graph: gs.Graph) -> list[str]:
    return [node.name for node in graph.nodes]


@pytest.mark.parametrize("seed", range(40))
def test_it_is_the_order_of_the_graph_library(seed: int) -> None:
    unsorted = names(drawn(seed))
    expected = names(drawn(seed).toposort())
    assert unsorted != expected
    assert names(toposort(drawn(seed))) == expected
    assert names(toposort(toposort(drawn(seed)))) == expected
    assert names(tidy(drawn(seed))) == names(drawn(seed).cleanup().toposort())


def test_subgraphs_are_sorted() -> None:
    a, b = gs.Variable("a"), gs.Variable("b")
    x, y = gs.Variable("x", np.bool_, []), gs.Variable("y", np.float32, [])
    late, early = gs.Node("Neg", "late", inputs=[a], outputs=[b]), gs.Node("Neg", "early", inputs=[x], outputs=[a])
    branch = gs.Graph([late, early], [], [b])
    graph = gs.Graph([gs.Node("If", "if", {"then_branch": branch}, [x], [y])], [x], [y])
    toposort(graph)
    assert names(branch) == ["early", "late"]


def test_a_deep_graph_in_the_wrong_order() -> None:
    tensors = [gs.Variable(f"t{i}", np.float32, [2]) for i in range(5001)]
    nodes = [gs.Node("Neg", f"n{i}", inputs=[tensors[i]], outputs=[tensors[i + 1]]) for i in range(5000)]
    graph = gs.Graph(nodes[::-1], tensors[:1], tensors[-1:])
    assert names(toposort(graph)) == [f"n{i}" for i in range(5000)]


def test_a_circle_is_named() -> None:
    a, b = gs.Variable("a", np.float32, [2]), gs.Variable("b", np.float32, [2])
    nodes = [gs.Node("Neg", "one", inputs=[a], outputs=[b]), gs.Node("Neg", "two", inputs=[b], outputs=[a])]
    with pytest.raises(CycleError, match="node 'one' reads what is computed from it"):
        toposort(gs.Graph(nodes, [], [a]))
