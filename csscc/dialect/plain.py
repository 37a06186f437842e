"""A neuron in plain ONNX operators: the algebra in which the functions of the domain ``csscc`` are written.

Spikes are int8 until others read them. Firing divides and rounds, see `Plain.fire`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from csscc.coding.activations import ACTIVATIONS
from csscc.coding.schedule import Schedule
from csscc.dialect.text import Body

NEWEST_QUANTIZATION = 27  # onnxruntime 1.32 has no kernel for the QuantizeLinear of later opsets


@dataclass(frozen=True)
class NeuronSignature:
    """What a neuron's function must accept; `attributes` pairs each of the activation with its ONNX text type."""

    op: str
    parameters: int = 0
    attributes: tuple[tuple[str, str], ...] = ()

    @property
    def inputs(self) -> int:
        """How many accumulated inputs the activation takes."""
        return ACTIVATIONS[self.op].inputs

    @property
    def currents(self) -> list[str]:
        """Names of the currents in a function."""
        return [f"z{i}" for i in range(1, self.inputs + 1)]

    @property
    def biases(self) -> list[str]:
        """Names of the biases in a function."""
        return [f"bias{i}" for i in range(1, self.inputs + 1)]

    @property
    def names(self) -> list[str]:
        """Names of all inputs of a time-folded function, in order."""
        pairs = zip(self.currents, self.biases, strict=True)
        return [*(name for pair in pairs for name in pair), "theta", *self.parameter_names]

    @property
    def parameter_names(self) -> list[str]:
        """Names of the activation's constant inputs in a function."""
        return [f"param{i}" for i in range(1, self.parameters + 1)]


class Plain:
    """`csscc.coding.program.Algebra` over names of tensors.

    Args:
        body: gets the lines.
        schedule: of the node.
        opset: of the standard operators.
        signature: of the neuron; None for an encoder or a merge, which have no target.
        likeness: a tensor with the shape of a membrane.
    """

    def __init__(
        self,
        body: Body,
        schedule: Schedule,
        opset: int,
        signature: NeuronSignature | None = None,
        likeness: str = "z1_at1",
    ) -> None:
        self._body, self._schedule, self._opset, self._signature = body, schedule, opset, signature
        self._likeness = likeness
        self._int8: set[str] = set()

    def plus(self, before: str | None, value: str, factor: float | str) -> str:
        """A Mul, unless the factor is 1, and an Add."""
        product = value if factor == 1 else self._body.add("product", f"Mul({value}, {self.number(factor)})")
        return product if before is None else self._body.add("sum", f"Add({before}, {product})")

    def target(self, membranes: Sequence[str]) -> str:
        """The activation, divided by theta where it is not homogeneous."""
        signature = self._signature
        assert signature is not None
        activation = ACTIVATIONS[signature.op]
        value = self._pooled(membranes[0]) if activation.scope == "window" else apply(self._body, signature, membranes)
        return self.cut(value if activation.homogeneous else self._body.add("target", f"Div({value}, theta)"))

    def units(self) -> str:
        """What an encoder is to send, in units of theta."""
        return self.cut(self._body.add("units", "Div(x, theta)"))

    def cut(self, value: str) -> str:
        """Cut to what the schedule lets a train send."""
        most = self._schedule.most
        return value if math.isinf(most) else self._clip("cut", value, -most, most)

    def _clip(self, name: str, value: str, least: float, most: float) -> str:
        return self._body.add(name, f"Clip({value}, {self._body.number(least)}, {self._body.number(most)})")

    def potential(self, target: str, sent: str | None) -> str:
        """A Sub; nothing where an activation that is not defined everywhere is not finite."""
        known = target if sent is None else self._body.add("rest", f"Sub({target}, {sent})")
        if self._signature is None or not ACTIVATIONS[self._signature.op].partial:
            return known
        gap = self._body.add("gap", f"Sub({known}, {known})")  # inf - inf is NaN, so one test finds both
        unknown = self._body.add("unknown", f"IsNaN({gap})")
        return self._body.add("potential", f"Where({unknown}, {self._body.number(0.0)}, {known})")

    def fire(self, potential: str, decides: float | str) -> str:
        """An int8 spike, see `csscc.coding.oracle.fire`; or a float32 burst.

        QuantizeLinear divides, rounds halves to the even number, and saturates at the bounds of int8. Rounded, ``o /
        2c`` is 0 exactly where ``-c <= o <= c``; its sign is the spike. (A Clip between QuantizeLinear and
        DequantizeLinear would not survive onnxruntime's optimiser.)
        """
        add = self._body.add
        if self._schedule.burst:
            return self._rounded(add("part", f"Mul({potential}, {self.number(decides)})"), *self._schedule.counts)
        if not self._schedule.negative:
            fired = add("fired", f"Greater({potential}, {self.number(decides)})")
        else:
            named = isinstance(decides, str)
            twice = add("twice", f"Add({decides}, {decides})") if named else self.number(2 * decides)
            if self._opset <= NEWEST_QUANTIZATION:
                spike = add("spike", f"Sign({add('level', f'QuantizeLinear({potential}, {twice}, {self._zero})')})")
                self._int8.add(spike)
                return spike
            level = add("level", f"Div({potential}, {twice})")
            fired = add("level", f"Sign({add('level', f'Round({level})')})")
        spike = add("spike", f"Cast <to = {onnx.TensorProto.INT8}> ({fired})")
        self._int8.add(spike)
        return spike

    def with_spike(self, sent: str | None, spike: str, weight: float | str) -> str:
        """An Add."""
        value = self._valued(spike, weight)
        return value if sent is None else self._body.add("sent", f"Add({sent}, {value})")

    def left(self, rest: str, spike: str, weight: float | str) -> str:
        """A Sub."""
        return self._body.add("left", f"Sub({rest}, {self._valued(spike, weight)})")

    def nearest(self, value: str, per: float, least: float, most: float) -> str:
        """A Div, a Round and a Clip."""
        part = value if per == 1 else self._body.add("part", f"Div({value}, {self._body.number(per)})")
        return self._rounded(part, least, most)

    def _rounded(self, value: str, least: float, most: float) -> str:
        rounded = self._body.add("rounded", f"Round({value})")
        return rounded if math.isinf(most) else self._clip("nearest", rounded, least, most)

    def share(self, sent: str | None, weight: float, extra: str | None) -> str:
        """A Div, which is exact, and an Add."""
        if sent is None:
            assert extra is not None
            return extra
        share = sent if weight == 1 else self._body.add("share", f"Div({sent}, {self._body.number(weight)})")
        return share if extra is None else self._body.add("head", f"Add({share}, {extra})")

    def step(self, spike: str) -> str:
        """A Cast to float32."""
        if spike not in self._int8:
            return spike
        return self._body.add("step", f"Cast <to = {onnx.TensorProto.FLOAT}> ({spike})")

    def number(self, value: float | str) -> str:
        """A number's name; a name stands for itself."""
        return value if isinstance(value, str) else self._body.number(value)

    def _valued(self, spike: str, weight: float | str) -> str:
        """A spike times its weight."""
        q = self.number(weight)
        if spike in self._int8 and self._opset <= NEWEST_QUANTIZATION:
            return self._body.add("valued", f"DequantizeLinear({spike}, {q}, {self._zero})")
        value = self.step(spike)
        return value if weight == 1 else self._body.add("valued", f"Mul({value}, {q})")

    @property
    def _zero(self) -> str:
        return self._body.once("zero", "Constant <value = int8 {0}> ()")

    def _pooled(self, membrane: str) -> str:
        """A pool on planes ``[B*C, 1, ...]``.

        onnxruntime brings a pool over many channels into the layout of its convolutions, and back, at every step. What
        has one channel stays as it is.
        """
        assert self._signature is not None
        body, likeness = self._body, self._likeness
        number = body.once("channels", f"Shape <start = 1, end = 2> ({likeness})")
        size = body.once("area", f"Shape <start = 2> ({likeness})")
        free, one = body.integers(-1), body.integers(1)
        planes = body.once("planes", f"Concat <axis = 0> ({free}, {one}, {size})")
        pooled = apply(body, self._signature, [body.add("plane", f"Reshape({membrane}, {planes})")])
        area = body.add("area", f"Shape <start = 2> ({pooled})")
        image = body.add("image", f"Concat <axis = 0> ({free}, {number}, {area})")
        return body.add("value", f"Reshape({pooled}, {image})")


def apply(body: Body, signature: NeuronSignature, arguments: Sequence[str]) -> str:
    """The activation itself: its operator with the node's attributes and parameters, or its text."""
    references = ", ".join(f"{name} : {kind} = @{name}" for name, kind in signature.attributes)
    attributes = f"<{references}>" if references else ""
    text = ACTIVATIONS[signature.op].body
    if not text:
        return body.add("value", f"{signature.op} {attributes} ({', '.join([*arguments, *signature.parameter_names])})")
    names = dict(zip(["x", *(f"x{i}" for i in range(2, len(arguments) + 1))], arguments, strict=True))
    result = body.name("value")
    body.lines.append(body_text(text, attributes, names, result))
    return result


def body_text(text: str, attributes: str, names: dict[str, str], result: str) -> str:
    """A composed activation's ONNX text with its inputs and its result renamed and its locals made unique."""
    local = {m: f"{result}_{m}" for m in re.findall(r"(\w+) =", re.sub(r"<[^>]*>", "", text))}
    local |= {"y": result} | names
    pattern = r"\b(" + "|".join(map(re.escape, local)) + r")\b"
    renamed = re.sub(pattern, lambda m: local[m[1]], text)
    return renamed.replace("MaxPool(", f"MaxPool {attributes} (")
