"""Facts that travel with an emitted file, as ONNX metadata: written once, read by `inspect`, `evaluate` and users."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from importlib.metadata import version
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from csscc.coding.coding import Coding
from csscc.dialect import sizes
from csscc.dialect.adapter import sized_shapes
from csscc.dialect.network import Network
from csscc.dialect.order import toposort
from csscc.dialect.sizes import Sizes
from csscc.dialect.spiking import DOMAIN, Spiking, spiking
from csscc.errors import RefusedError
from csscc.io.finite import strict_json

PREFIX = "csscc."


@dataclass(frozen=True)
class Layer:
    """One encoder or neuron layer, or the readout of one output.

    Attributes:
        name: node name.
        kind: ``encoder``, ``readout``, or the activation the neurons send.
        neurons: number of neurons for one sample; 0 where shapes are not known.
        depth: silent steps from the input to here.
        amplitude: mean theta, in the ANN's units.
        clipping_range: largest value the layer can send, mean theta times `Schedule.levels`, all trains of a value
            together.
    """

    name: str
    kind: str
    neurons: int
    depth: int
    amplitude: float
    clipping_range: float


@dataclass(frozen=True)
class Facts:
    """What an emitted file states of itself; `sizes` are those for which it counts, where it leaves sizes free."""

    version: str
    coding: Coding
    latency: int
    layers: tuple[Layer, ...]
    source: Mapping[str, str]
    calibration: str
    options: Mapping[str, Any]
    sizes: Sizes = field(default_factory=dict)

    @property
    def fixed(self) -> Sizes:
        """Shapes to which inputs of the source were fixed."""
        return sizes.decoded(self.source.get("fixed", "{}"))


def facts_of(network: Network, settings: Mapping[str, Any]) -> Facts:
    """Facts of a converted network."""
    layers, latency = layers_of(network)
    calibration = network.calibration.source if network.calibration is not None else ""
    return Facts(
        version("csscc"), network.coding, latency, layers, network.origin, calibration, settings, network.sizes
    )


def layers_of(network: Network) -> tuple[tuple[Layer, ...], int]:
    """Layers in order, and the latency: T plus the silent steps of the longest path, the readout being a layer."""
    shapes = sized_shapes(network)
    nodes = toposort(network.graph).nodes
    made = {t.name: t for n in nodes for t in n.outputs}
    return _layers(
        ((spiking(n), [t.name for t in n.inputs], [t.name for t in n.outputs], n.domain or "") for n in nodes),
        network.coding,
        lambda view: np.asarray(view.theta.values),
        lambda name: shapes.get(name, made[name].shape),
    )


def layers_in(
    model: onnx.ModelProto, coding: Coding, weights: Mapping[str, onnx.TensorProto]
) -> tuple[tuple[Layer, ...], int]:
    """As `layers_of`, of a time-folded spiking network as a model; neurons are 0 where sizes are free.

    Args:
        model: the model.
        coding: that it states.
        weights: values of initializers that the model lacks.

    Raises:
        RefusedError: an amplitude is no constant, or not positive.
    """
    constants = {t.name: t for t in model.graph.initializer} | dict(weights)
    shapes = {v.name: v.type.tensor_type.shape.dim for v in (*model.graph.value_info, *model.graph.output)}

    def theta(view: Spiking[str]) -> NDArray[Any]:
        if view.theta not in constants:
            raise RefusedError(f"the amplitude of '{view.name}' is no constant; compile the network again")
        values = numpy_helper.to_array(constants[view.theta])
        floats = values.size > 0 and values.dtype == np.float32
        if not floats or not (np.isfinite(values) & (values > 0)).all():
            raise RefusedError(f"an amplitude of '{view.name}' is not a positive number; compile the network again")
        return values

    return _layers(
        ((spiking(n), list(n.input), list(n.output), n.domain) for n in model.graph.node),
        coding,
        theta,
        lambda name: [d.dim_value if d.HasField("dim_value") else d.dim_param for d in shapes.get(name, ())],
    )


def _layers(
    nodes: Iterable[tuple[Spiking[Any] | None, list[str], list[str], str]],
    coding: Coding,
    theta: Callable[[Spiking[Any]], NDArray[Any]],
    shape: Callable[[str], Any],
) -> tuple[tuple[Layer, ...], int]:
    """Layers and latency of nodes in order, each with its view, the names that it reads and makes, and its domain."""
    depth: dict[str, int] = {}
    domains: dict[str, str] = {}
    layers: list[Layer] = []
    deepest = 0
    for view, read, made, domain in nodes:
        here = max((depth.get(name, 0) for name in read), default=0)
        if view is not None and not view.is_merge:
            if view.is_neuron:
                here += view.schedule.silent
            elif view.is_readout:
                here += 0 if domains.get(read[0]) == DOMAIN else coding.silent
                deepest = max(deepest, here)
            mean = 0.0 if view.is_readout else float(np.mean(theta(view)))
            largest = mean * view.schedule.levels * view.trains
            layers.append(Layer(view.name, view.kind, _size(shape(made[0])), here, mean, largest))
        domains |= dict.fromkeys(made, domain)
        known = here + coding.T if view is not None and view.is_readout else here  # a value, after the whole train
        depth |= dict.fromkeys(filter(None, made), known)
    return tuple(layers), coding.T + deepest


def _size(shape: Any) -> int:
    known = [d for d in (shape or [0, 0])[1:] if isinstance(d, int)]
    return int(np.prod(known)) if shape and len(known) == len(shape) - 1 else 0


_FLAGS = frozenset(f.name for f in fields(Coding) if isinstance(f.default, bool))


def _coding_fields() -> list[tuple[Field[Any], type[int] | type[float]]]:
    """The fields of `Coding`, and the kind of number of each; flags are 0 or 1."""
    return [(f, float if isinstance(f.default, float) else int) for f in fields(Coding)]


def write(facts: Facts) -> dict[str, str]:
    """Facts as ONNX metadata properties."""
    plain = {
        "version": facts.version,
        **{f.name: repr(kind(getattr(facts.coding, f.name))) for f, kind in _coding_fields()},
        "latency": str(facts.latency),
        "calibration": facts.calibration,
        "source": strict_json(facts.source),
        "options": strict_json(facts.options),
        "layers": strict_json([asdict(layer) for layer in facts.layers]),
    }
    return {PREFIX + k: v for k, v in plain.items()} | sizes.written(facts.sizes)


def read(metadata: Mapping[str, str], where: str = "the file") -> Facts:
    """Facts out of ONNX metadata properties.

    Raises:
        RefusedError: the file was not emitted by csscc, or its facts are damaged.
    """
    facts = {k.removeprefix(PREFIX): v for k, v in metadata.items() if k.startswith(PREFIX)}
    if "T" not in facts:
        raise RefusedError(
            f"{where}: not a spiking network made by csscc; make one with: csscc compile {where} -o snn.onnx"
        )
    try:
        given: dict[str, Any] = {f.name: kind(facts[f.name]) for f, kind in _coding_fields()}
        coding = Coding(**{name: bool(v) if name in _FLAGS else v for name, v in given.items()})
        listed = _strict(facts["layers"])
        if not isinstance(listed, list):
            raise TypeError("its layers are no list")
        layers = tuple(_typed(Layer(**layer)) for layer in listed)
        source, options = _strict(facts["source"]), _strict(facts["options"])
        if not isinstance(source, dict) or not isinstance(options, dict):
            raise TypeError("its source and its options are no mappings")
        if other := [key for key, value in source.items() if not isinstance(value, str)]:
            raise TypeError(f"of its source, {', '.join(other)} is no text")
        latency = int(facts["latency"])
        if not re.fullmatch(r"\d[\w.+!-]*", facts["version"]):
            raise ValueError(f"{facts['version']!r} is no version")
        known = sizes.read(metadata)
        return Facts(facts["version"], coding, latency, layers, source, facts["calibration"], options, known)
    except (KeyError, ValueError, TypeError) as error:
        raise RefusedError(f"{where}: its csscc metadata is damaged ({error}); compile it again") from error


def _strict(text: str) -> Any:
    """A value out of JSON, which knows no NaN."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    return json.loads(text, parse_constant=refuse)


def _typed(layer: Layer) -> Layer:
    """The layer, if its fields are text and numbers as they should be."""
    kinds = {"str": str, "int": int, "float": int | float}
    wrong = [f.name for f in fields(Layer) if not isinstance(getattr(layer, f.name), kinds[str(f.type)])]
    if wrong:
        raise TypeError(f"of its layers, {', '.join(wrong)} is something else")
    return layer
