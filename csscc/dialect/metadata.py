"""Facts that travel with an emitted file, as ONNX metadata: written once, read by `inspect`, `evaluate` and users."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from importlib.metadata import version
from typing import Any

import numpy as np

from csscc.coding.coding import Coding
from csscc.dialect import sizes
from csscc.dialect.adapter import sized_shapes
from csscc.dialect.network import Network
from csscc.dialect.sizes import Sizes
from csscc.dialect.spiking import DOMAIN, Spiking, spiking
from csscc.errors import RefusedError

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
        top: largest value the layer can send, ``mean theta * sum(q)``.
    """

    name: str
    kind: str
    neurons: int
    depth: int
    amplitude: float
    top: float


@dataclass(frozen=True)
class Facts:
    """What an emitted file says of itself; `sizes` are those for which it counts, where it leaves sizes free."""

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
    depth: dict[int, int] = {}
    layers: list[Layer] = []
    deepest = 0
    levels, shapes = network.coding.levels, sized_shapes(network)
    network.graph.toposort()
    for node in network.graph.nodes:
        before = max((depth.get(id(t), 0) for t in node.inputs), default=0)
        here = before
        view = spiking(node)
        if view is not None and not view.is_merge:
            if view.is_neuron:
                here += view.schedule.silent
            elif view.is_readout:
                made_by = node.inputs[0].inputs[0] if node.inputs[0].inputs else None
                direct = made_by is not None and made_by.domain == DOMAIN
                here += 0 if direct else network.coding.silent
                deepest = max(deepest, here)
            made = node.outputs[0]
            layers.append(_layer(view, shapes.get(made.name, made.shape), here, levels))
        for tensor in node.outputs:
            depth[id(tensor)] = 0 if view is not None and view.is_readout else here
    return tuple(layers), network.coding.T + deepest


def _layer(view: Spiking[Any], shape: Any, depth: int, levels: float) -> Layer:
    theta = 0.0 if view.is_readout else float(np.mean(view.theta.values))
    return Layer(view.name, view.kind, _size(shape), depth, theta, theta * levels)


def _size(shape: Any) -> int:
    known = [d for d in (shape or [0, 0])[1:] if isinstance(d, int)]
    return int(np.prod(known)) if shape and len(known) == len(shape) - 1 else 0


_FLAGS = frozenset(f.name for f in fields(Coding) if isinstance(f.default, bool))


def _coding_fields() -> list[tuple[Field[Any], type[int] | type[float]]]:
    """The fields of `Coding`, and the kind of number that says each; flags are 0 or 1."""
    return [(f, float if isinstance(f.default, float) else int) for f in fields(Coding)]


def write(facts: Facts) -> dict[str, str]:
    """Facts as ONNX metadata properties."""
    plain = {
        "version": facts.version,
        **{f.name: repr(kind(getattr(facts.coding, f.name))) for f, kind in _coding_fields()},
        "latency": str(facts.latency),
        "calibration": facts.calibration,
        "source": json.dumps(dict(facts.source)),
        "options": json.dumps(dict(facts.options)),
        "layers": json.dumps([asdict(layer) for layer in facts.layers]),
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
        listed = json.loads(facts["layers"])
        if not isinstance(listed, list):
            raise TypeError("its layers are no list")
        layers = tuple(Layer(**layer) for layer in listed)
        source, options = json.loads(facts["source"]), json.loads(facts["options"])
        latency = int(facts["latency"])
        known = sizes.read(metadata)
        return Facts(facts["version"], coding, latency, layers, source, facts["calibration"], options, known)
    except (KeyError, ValueError, TypeError) as error:
        raise RefusedError(f"{where}: its csscc metadata is damaged ({error}); compile it again") from error
