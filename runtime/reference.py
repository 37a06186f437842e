"""The NumPy reference runtime: runs ANNs and SNNs, and shows every spike train, potential and residual.

onnx's `ReferenceEvaluator` does the walking; convolution and pooling are `csscc.runtime.numpy_ops`, and the csscc
operators are `csscc.coding.oracle`, not the model's functions, so that a comparison with onnxruntime is independent.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from csscc.coding import oracle
from csscc.coding.activations import ACTIVATIONS
from csscc.dialect.model import copy_of, in_the_usual_domain, refuse_other_version
from csscc.dialect.spiking import ATTRIBUTES, DOMAIN, activation_of, operator_of, view_of
from csscc.errors import RefusedError
from csscc.runtime.foreign import foreign_operators
from csscc.runtime.numpy_ops import FAST_OPS

Arrays = Mapping[str, NDArray[Any]]
Carried = Callable[[str, NDArray[Any]], NDArray[Any]]
# What NumPy and onnx's operators raise where shapes, types or attributes do not fit; they check nothing beforehand.
_MISFITS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass
class Trace:
    """One run of a spiking network, laid open.

    Attributes:
        outputs: the network's outputs by name.
        spikes: ``[T, B, ...]`` of each encoder and neuron, by node name.
        potentials: membrane potentials before firing ``[T, B, ...]`` of each neuron, in units of the spike
            that is about to be sent, ``theta * q[k]``.
        residuals: what was left unsent ``[B, ...]`` of each neuron, in units of theta.
    """

    outputs: dict[str, NDArray[Any]] = field(default_factory=dict)
    spikes: dict[str, NDArray[Any]] = field(default_factory=dict)
    potentials: dict[str, NDArray[Any]] = field(default_factory=dict)
    residuals: dict[str, NDArray[Any]] = field(default_factory=dict)


class ReferenceRuntime:
    """A model in NumPy.

    Args:
        model: a file or a model; a time-folded spiking network (see `csscc.passes.lower.targets.by_layer`).
        dtype: float32, or float64 for the oracle; weights and inputs are converted.

    Raises:
        RefusedError: another version of csscc made the model.
    """

    def __init__(self, model: str | Path | onnx.ModelProto, dtype: Any = np.float32) -> None:
        proto = model if isinstance(model, onnx.ModelProto) else onnx.load(model)
        refuse_other_version(proto)
        self.dtype = np.dtype(dtype)
        if self.dtype == np.float64:
            proto = in_float64(proto)
        proto = in_the_usual_domain(_without_csscc_functions(proto))
        self._trace = Trace()
        self._carried: Carried | None = None
        names = {n.op_type for n in proto.graph.node if n.domain == DOMAIN}
        own = frozenset({DOMAIN, *(f.domain for f in proto.functions)})
        operators = [*FAST_OPS, *_csscc_operators(names, self), *foreign_operators(proto, own, self.dtype)]
        with _misfits_refused():
            self._evaluator = ReferenceEvaluator(proto, new_ops=operators)
        self.input_names: list[str] = list(self._evaluator.input_names)
        self.output_names: list[str] = list(self._evaluator.output_names)

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """Outputs by name."""
        return self.trace(feeds).outputs

    def trace(self, feeds: Arrays, carried: Carried | None = None) -> Trace:
        """Outputs, and everything the neurons did.

        Args:
            feeds: arrays by input name.
            carried: of a node's name and the spikes ``[T, B, ...]`` that it sends, those that reach its readers; its
                own without.

        Raises:
            RefusedError: a node does not fit what it reads, which onnxruntime may not mind.
        """
        self._trace, self._carried = Trace(), carried
        cast = {n: a.astype(self.dtype) if a.dtype.kind == "f" else a for n, a in feeds.items()}
        with _misfits_refused():
            values: Any = self._evaluator.run(None, cast)
        self._trace.outputs = dict(zip(self.output_names, values, strict=True))
        return self._trace

    def record(self, node: str, spikes: NDArray[Any], firing: oracle.Firing | None = None) -> NDArray[Any]:
        """Note what a node did (called by the operators); the spikes that reach its readers, time-folded."""
        self._trace.spikes[node] = spikes
        if firing is not None:
            self._trace.potentials[node] = firing.potentials
            self._trace.residuals[node] = firing.residual
        return _folded(self._carried(node, spikes) if self._carried is not None else spikes)


@contextmanager
def _misfits_refused() -> Iterator[None]:
    try:
        yield
    except _MISFITS as error:
        cause = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        raise RefusedError(
            f"the NumPy reference cannot run the network ({cause}); its nodes do not fit together: compile or export "
            "it again"
        ) from error


def _without_csscc_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """The evaluator would prepare the functions though the oracle stands in for them, and fails on some bodies."""
    kept = [f for f in model.functions if f.domain != DOMAIN]
    if len(kept) == len(model.functions):
        return model
    copy = copy_of(model)
    del copy.functions[:]
    copy.functions.extend(kept)
    return copy


def in_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with all its float32 constants, casts and inputs in float64."""
    copy = copy_of(model)
    for tensor in copy.graph.initializer:
        _to_float64(tensor)
    for value in (*copy.graph.input, *copy.graph.output):
        kind = value.type.tensor_type
        if kind.elem_type == TensorProto.FLOAT:
            kind.elem_type = TensorProto.DOUBLE
    del copy.graph.value_info[:]
    for node in copy.graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                _to_float64(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
    return copy


def _to_float64(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))


def _csscc_operators(names: set[str], runtime: ReferenceRuntime) -> list[type[OpRun]]:
    bodies: dict[str, Callable[..., Any]] = {"Encode": _encode, "Decode": _decode}
    made = []
    for name in sorted(names):
        run = next((body for op, body in bodies.items() if name.startswith(op)), _tsa)
        made.append(
            type(name, (OpRun,), {"op_domain": DOMAIN, "runtime": runtime, "_run": run, "run": _with_attributes})
        )
    return made


def _with_attributes(self: Any, *args: Any, **_: Any) -> tuple[Any, ...]:
    """Call the operator with its node's view; it has no schema that the evaluator could read attributes by."""
    if not hasattr(self, "view"):
        self.view = view_of(self.onnx_node)
    return tuple(self._run(*args))


def _by_time(values: NDArray[Any], steps: int) -> NDArray[Any]:
    return values.reshape(steps, -1, *values.shape[1:])


def _folded(values: NDArray[Any]) -> NDArray[Any]:
    return values.reshape(-1, *values.shape[2:])


def _encode(self: Any, x: NDArray[Any], theta: NDArray[Any]) -> tuple[NDArray[Any]]:
    spikes = oracle.encode(x, theta, self.view.schedule)
    return (self.runtime.record(self.onnx_node.name, spikes),)


def _decode(self: Any, z: NDArray[Any], bias: NDArray[Any]) -> tuple[NDArray[Any]]:
    schedule = self.view.schedule
    return (oracle.decode(_by_time(z, schedule.T), schedule, bias),)


def _tsa(self: Any, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    view = replace(self.view, inputs=list(inputs))
    parameters = tuple(view.parameters)
    if not hasattr(self, "function") or any(map(operator.is_not, parameters, self.parameters)):
        self.parameters, opset = parameters, self.run_params["opsets"][""]  # computed ones change with the run
        self.function = activation_function(self.onnx_node, parameters, inputs[0].dtype, opset)
    firing = oracle.tsa(
        [_by_time(z, view.schedule.T) for z in view.current],
        self.function,
        view.schedule,
        view.biases,
        None if view.activation.homogeneous else view.theta,
        partial=view.activation.partial,
    )
    spikes = self.runtime.record(self.onnx_node.name, firing.spikes, firing)
    return (spikes, firing.residual)[: len(self.onnx_node.output)]


def activation_function(
    node: onnx.NodeProto, parameters: tuple[NDArray[Any] | None, ...], dtype: np.dtype[Any], opset: int
) -> Callable[..., NDArray[Any]]:
    """The activation of a TSA node as a NumPy function of its accumulated inputs, by onnx's reference."""
    op = activation_of(operator_of(node))
    activation = ACTIVATIONS[op]
    attributes = [a for a in node.attribute if a.name not in ATTRIBUTES]
    if op == "Relu":
        return lambda x: np.maximum(x, 0)
    arguments = ["x", *(f"x{i}" for i in range(2, activation.inputs + 1))]
    names = [f"param{i}" if p is not None else "" for i, p in enumerate(parameters, 1)]
    if activation.body:
        inputs = ", ".join(f"float[N] {a}" for a in arguments)
        text = f'<ir_version: 8, opset_import: ["" : {opset}]> g ({inputs}) => (float[N] y) {{ {activation.body} }}'
        graph = onnx.parser.parse_model(text).graph
        for inner in graph.node:
            if inner.op_type in ("MaxPool",):
                inner.attribute.extend(attributes)
    else:
        inner = helper.make_node(op, arguments + names, ["y"])
        inner.attribute.extend(attributes)
        graph = helper.make_graph(
            [inner], "activation", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
        )
        graph.input.extend(helper.make_tensor_value_info(a, TensorProto.FLOAT, None) for a in arguments)
    graph.initializer.extend(
        numpy_helper.from_array(p, f"param{i}") for i, p in enumerate(parameters, 1) if p is not None
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    evaluator = ReferenceEvaluator(model, new_ops=list(FAST_OPS))

    def function(*values: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(invalid="ignore"):  # as of a row of -inf: what comes of it is no number, and taken as none
            (result,) = evaluator.run(None, dict(zip(arguments, values, strict=True)))
        return np.asarray(result, dtype)

    return function
