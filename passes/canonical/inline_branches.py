"""Put the branch that is taken in place of an ``If`` whose condition is known.

    before:  If(true) {then: h = Relu(x) -> h, c | else: ...} -> y, z
    after:   Relu(x) -> y    Identity(c) -> z

A result that the branch gives out once takes the place of the result of the ``If``. Any other (a constant, one result
given out twice, one that a graph inside the branch gives out) is passed on by an Identity. What the branch makes gets
names of its own, since another branch may use the same ones.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from csscc.dialect.rewrite import constant, is_output, producer, replace_readers, subgraphs


def inline_branches(graph: gs.Graph) -> int:
    """Return the number of ``If`` nodes replaced, those in subgraphs included."""
    replaced = 0
    for node in list(graph.nodes):
        replaced += sum(inline_branches(g) for g in node.attrs.values() if isinstance(g, gs.Graph))
        condition = constant(node, 0) if node.op == "If" else None
        if condition is not None and condition.size == 1:
            branch = node.attrs["then_branch" if condition.item() else "else_branch"]
            assert isinstance(branch, gs.Graph)
            _inline(graph, node, branch)
            replaced += 1
    return replaced


def _inline(graph: gs.Graph, node: gs.Node, branch: gs.Graph) -> None:
    nodes = list(branch.nodes)
    made = {id(t): t for n in nodes for t in n.outputs}
    for tensor in made.values():
        tensor.name = f"{tensor.name}_{node.name}" if tensor.name else ""
    place = graph.nodes.index(node)
    results, outputs = list(branch.outputs), list(node.outputs)
    node.inputs.clear()
    node.outputs.clear()
    for index, (result, output) in enumerate(zip(results, outputs, strict=False)):
        if not output.name:
            continue
        maker = producer(result)
        if maker is None or id(result) not in made or _given_out_again(nodes, results, result):
            nodes.append(gs.Node("Identity", f"{node.name}_output_{index}", inputs=[result], outputs=[output]))
            continue
        maker.outputs[next(i for i, t in enumerate(maker.outputs) if t is result)] = output
        replace_readers(result, output)
    graph.nodes[place : place + 1] = nodes


def _given_out_again(nodes: list[gs.Node], results: list[gs.Tensor], tensor: gs.Tensor) -> bool:
    inner = (g for n in nodes for g in subgraphs(n))
    return sum(tensor is t for t in results) > 1 or any(is_output(g, tensor) for g in inner)
