"""Function bodies as ONNX text: lines, with every constant defined once and every result named once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import onnx
import onnx.parser


class Body:
    """The lines of a function body, in order."""

    def __init__(self, within: Body | None = None) -> None:
        """The body of a function, or of a subgraph `within` one, which must not use its names again."""
        self.lines: list[str] = []
        self._constants: dict[str, str] = {}
        self._names: dict[str, int] = {} if within is None else within._names

    def name(self, stem: str) -> str:
        """A name that nothing has yet."""
        self._names[stem] = self._names.get(stem, 0) + 1
        return f"{stem}_{self._names[stem]}"

    def add(self, stem: str, expression: str) -> str:
        """A line ``name = expression``; returns the name, made from `stem`."""
        name = self.name(stem)
        self.lines.append(f"{name} = {expression}")
        return name

    def once(self, stem: str, expression: str) -> str:
        """The name of what `expression` gives, which is computed at its first use."""
        if expression not in self._constants:
            self._constants[expression] = self.add(stem, expression)
        return self._constants[expression]

    def number(self, value: float) -> str:
        """A float32 constant without axes."""
        return self.once("number", f"Constant <value_float = {float(value)!r}> ()")

    def integer(self, value: int) -> str:
        """An integer without axes."""
        return self.once("integer", f"Constant <value_int = {value}> ()")

    def integers(self, *values: int) -> str:
        """A vector of integers."""
        return self.once("ints", f"Constant <value_ints = [{', '.join(map(str, values))}]> ()")

    def vector(self, values: Sequence[float]) -> str:
        """A vector of float32 numbers."""
        listed = ", ".join(map(repr, map(float, values)))
        return self.once("vector", f"Constant <value = float[{len(values)}] {{{listed}}}> ()")

    def let(self, name: str, value: str) -> None:
        """A line that gives a value the name it has outside."""
        self.lines.append(f"{name} = Identity({value})")


def parts(name: str, number: int) -> list[str]:
    """Names of a tensor's slabs in a function."""
    return [f"{name}_at{t}" for t in range(1, number + 1)]


def split(body: Body, name: str, number: int, opset: int) -> list[str]:
    """Names of the equal parts into which the first axis of a tensor is split."""
    attributes = f"axis = 0, num_outputs = {number}" if opset >= 18 else "axis = 0"
    into = parts(name, number)
    body.lines.append(f"{', '.join(into)} = Split <{attributes}> ({name})")
    return into


def parse(
    name: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    attributes: Iterable[str],
    lines: Sequence[str],
    opset: int,
    domain: str,
) -> onnx.FunctionProto:
    """The function of a body's lines in ONNX text, without those that lead to no output or only give it its name."""
    names, body = sorted(attributes), "\n".join(lines)
    declared = f"<{', '.join(names)}>" if names else ""
    text = (
        f'<domain: "{domain}", opset_import: ["" : {opset}]>\n'
        f"{name} {declared} ({', '.join(inputs)}) => ({', '.join(outputs)})\n{{\n{body}\n}}"
    )
    made = onnx.parser.parse_function(text)
    needed, kept = set(outputs), list[onnx.NodeProto]()
    for node in reversed(made.node):
        if not needed.isdisjoint(node.output):
            kept.append(node)
            needed.update(_read(node))
    del made.node[:]
    made.node.extend(_without_names(kept[::-1], inputs))
    return made


def _without_names(nodes: Sequence[onnx.NodeProto], inputs: Sequence[str]) -> list[onnx.NodeProto]:
    """The nodes without an Identity that only names an output, as `Body.let` writes: what gives the value names it.

    onnxruntime takes such an Identity away, and with it what the file states of the output's shape. Where it knows no
    shapes, it cannot write a sum to where an operand was, and copies that.
    """
    inner = {name for n in nodes for a in n.attribute for node in a.g.node for name in _read(node)}
    named: dict[str, str] = {}
    kept = list[onnx.NodeProto]()
    for node in nodes:
        value = node.input[0] if node.op_type == "Identity" else ""
        if not value or value in named or value in inner or value in inputs:
            kept.append(node)
        else:
            named[value] = node.output[0]
    for node in kept:
        node.input[:] = [named.get(name, name) for name in node.input]
        node.output[:] = [named.get(name, name) for name in node.output]
    return kept


def _read(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node reads, its subgraphs included."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _read(inner)
