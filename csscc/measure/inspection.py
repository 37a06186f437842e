"""What would become of every node of an ANN, and what is in an SNN."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from csscc.coding.coding import Coding
from csscc.dialect.adapter import sized_shapes
from csscc.dialect.macs import after_batch, multiply_accumulates_of
from csscc.dialect.network import Network
from csscc.dialect.order import toposort
from csscc.dialect.regions import Regions
from csscc.dialect.rewrite import Shape
from csscc.dialect.sizes import Shapes, Sizes, ask_for, checked
from csscc.dialect.sizes import after_batch as sizes_after_batch
from csscc.errors import Offender
from csscc.measure.costs import outline_of
from csscc.options import CODING_FIELDS
from csscc.passes.canonical.activations_as_floats import ActivationsAsFloats
from csscc.passes.canonical.load import load as load_network
from csscc.passes.convert.find_regions import refusal, survey
from csscc.passes.convert.known_amplitudes import SettleCoding, known_grids
from csscc.passes.linear.core import read_tensors
from csscc.pipeline import canonical, canonical_passes, run_pipeline

BYTES_PER_NEURON = 8  # membrane and what was sent, float32 each

_PASS_ON = ("Identity", "Dropout", "Cast", "Pad", "Concat")
_BECOMES = {
    "weighted": ("converted", "weights absorb the amplitudes"),
    "linear": ("passed", "linear: acts on spikes"),
    "neuron": ("converted", "becomes a neuron"),
    "prologue": ("analog", "before the first layer: stays as it is, on values"),
    "epilogue": ("analog", "after the last layer: stays as it is, on decoded values"),
}


@dataclass(frozen=True)
class NodeFate:
    """One node of the source model: its class, what becomes of it, and why."""

    name: str
    op: str
    role: str
    fate: str
    reason: str


@dataclass(frozen=True)
class Inspection:
    """An ANN as the compiler sees it.

    Attributes:
        nodes: one row a node of the source model.
        offenders: nodes that stand in the way.
        refusal: why the model cannot be compiled, in the words of `compile`; empty if it can.
        sizes: shapes of the inputs for which neurons and operations are counted, where the model leaves sizes free.
        spiking_share: share of multiply-accumulates that become spiking, 0 to 1.
        operations: multiply-accumulates of one sample.
        neurons: neurons of one sample, encoders included.
        depth: layers on the longest path, the output layer included.
        latency: time steps at the coding asked for, from the first input spike to the answer.
        interval: time steps between two inputs at that coding.
        passes: convolution passes for one input at that coding, see `csscc.measure.costs`; None if it is refused.
        state_bytes: membrane state of one sample.
        batch: whether the spiking network takes any batch size.
        opset: of the source model.
        coding: that was asked for, or that a quantised network has by itself.
        quantised: what is quantised, in words; empty if nothing is.
    """

    nodes: tuple[NodeFate, ...]
    offenders: tuple[Offender, ...]
    refusal: str
    sizes: Sizes
    spiking_share: float
    operations: int
    neurons: int
    depth: int
    latency: int
    interval: int
    passes: float | None
    state_bytes: int
    batch: bool
    opset: int
    coding: Coding
    quantised: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def inspect_ann(
    model: str | Path | onnx.ModelProto,
    coding: Coding,
    input_shape: Shapes | None = None,
    *,
    stated: Collection[str] = CODING_FIELDS,
) -> Inspection:
    """Every node's fate, and a summary at `coding`, for samples of `input_shape` where the model leaves sizes free.

    Of the coding, a quantised network may change what was not `stated`.

    Raises:
        RefusedError: the file cannot be read, or its operators are not known at all.
    """
    source = load_network(model)
    network = load_network(model)
    given = checked(input_shape or {}, network.graph.inputs)
    network.sizes = sizes_after_batch(given, network.graph.inputs)
    regions, offenders = survey(run_pipeline(network, canonical_passes()).graph, network.events)
    if offenders and given:
        network = canonical(model, given)
        regions, offenders = survey(network.graph, network.events)
    asked = ask_for(network.graph.inputs, network.sizes)
    shapes = sized_shapes(network)
    in_the_way = {o.node: o for o in offenders}
    in_file_order = list(source.graph.nodes)
    computed = _computed(toposort(source.graph))
    nodes = tuple(_fate(n, network, regions, in_the_way, computed) for n in in_file_order)
    operations = multiply_accumulates_of(network.graph.nodes, shapes)
    neurons = _neurons(network, regions, shapes)
    depth = _depth(network, regions)
    network.coding, network.regions = coding, regions
    SettleCoding(frozenset(stated)).apply(network)
    coding = network.coding
    refused = str(refusal(network, regions, offenders) or asked)
    costs = None if refused else outline_of(network, regions).costs(coding)
    return Inspection(
        nodes=nodes,
        offenders=tuple(offenders),
        refusal=refused,
        sizes=network.sizes,
        spiking_share=_spiking(network, regions, in_the_way, shapes) / operations if operations else 0.0,
        operations=operations,
        neurons=neurons,
        depth=depth,
        latency=coding.T + coding.silent * depth,
        interval=costs.interval if costs else coding.T + coding.silent,
        passes=costs.passes if costs else None,
        state_bytes=neurons * BYTES_PER_NEURON,
        batch=network.batch is not None,
        opset=int(network.origin["opset"]),
        coding=coding,
        quantised=_quantised(network),
    )


def _quantised(network: Network) -> str:
    """What passes found out about quantisation, and how many neurons send whole numbers; empty if none is."""
    assert network.regions is not None
    neurons = [n.outputs[0].name for n in network.regions.nodes(network.graph, "neuron")]
    grids = {name: grid for name, grid in known_grids(network).items() if name in neurons}
    parts = [e.text for e in network.events if e.source in (SettleCoding.name, ActivationsAsFloats.name)]
    if grids:
        bits = "-, ".join(str(b) for b in sorted({grid.bits for grid in grids.values()}))
        parts.insert(
            0, f"{len(grids)} of {len(neurons)} layers of neurons send whole numbers of {bits}-bit activations"
        )
    return "quantised: " + "; ".join(parts) if parts else ""


def _fate(node: Any, network: Network, regions: Regions, refused: dict[str, Offender], computed: set[int]) -> NodeFate:
    """What becomes of a node of the source graph, given the network after the canonical passes."""
    notes = {e.node: e.text for e in network.events}
    if node.name in refused:
        offender = refused[node.name]
        return NodeFate(node.name, node.op, "core", "refused", f"{offender.reason}; {offender.advice}")
    if node.name in regions.roles:
        role = regions.roles[node.name]
        fate, reason = _BECOMES[role]
        return NodeFate(node.name, node.op, role, fate, notes.get(node.name, reason))
    if id(node) not in computed:
        return NodeFate(node.name, node.op, "constant", "folded", "its value does not depend on the inputs")
    if node.op in _PASS_ON:
        return NodeFate(node.name, node.op, "identity", "folded", "passes its input on")
    into = _taken_over_by(node, network.graph, regions)
    if into is None:
        return NodeFate(node.name, node.op, "dead", "folded", "nothing reads its result")
    fate = _BECOMES[regions.roles[into.name]][0]
    return NodeFate(node.name, node.op, "fused", fate, f"part of {into.op} '{into.name}'")


def _computed(graph: Any) -> set[int]:
    """Nodes of a sorted graph, by id, whose values depend on those of the inputs, not on their shapes alone."""
    known = {id(t) for t in graph.inputs}
    found = set()
    for node in graph.nodes:
        if node.op not in ("Shape", "Size") and any(id(t) in known for t in read_tensors(node)):
            found.add(id(node))
            known.update(id(t) for t in node.outputs)
    return found


def _taken_over_by(node: Any, graph: Any, regions: Regions) -> Any:
    """The canonical node that makes the result of a node that is gone, or of the first after it that is left."""
    makers = {t.name: n for n in graph.nodes for t in n.outputs}
    present = {n.name: n for n in graph.nodes}
    waiting, seen = [node], {id(node)}
    while waiting:
        current = waiting.pop(0)
        for tensor in current.outputs:
            if tensor.name in makers:
                return makers[tensor.name]
            for reader in tensor.outputs:
                if reader.name in present:
                    return present[reader.name]
                if id(reader) not in seen:
                    seen.add(id(reader))
                    waiting.append(reader)
    return None


def _spiking(network: Network, regions: Regions, refused: dict[str, Offender], shapes: Mapping[str, Shape]) -> int:
    converted = [n for n in regions.nodes(network.graph, "weighted") if n.name not in refused]
    return multiply_accumulates_of(converted, shapes)


def _neurons(network: Network, regions: Regions, shapes: Mapping[str, Shape]) -> int:
    tensors = network.graph.tensors()
    names = [*regions.encoded, *(n.outputs[0].name for n in regions.nodes(network.graph, "neuron"))]
    return sum(after_batch(shapes.get(name, tensors[name].shape)) for name in names)


def _depth(network: Network, regions: Regions) -> int:
    """Neuron layers on the longest path, plus one for the readout."""
    depth: dict[int, int] = {}
    deepest = 0
    decoded = set(regions.decoded)
    for node in network.graph.nodes:
        here = max((depth.get(id(t), 0) for t in node.inputs), default=0)
        here += regions.roles[node.name] == "neuron"
        for tensor in node.outputs:
            depth[id(tensor)] = here
            if tensor.name in decoded:
                deepest = max(deepest, here + (regions.roles[node.name] != "neuron"))
    return deepest
