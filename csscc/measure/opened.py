"""Open a spiking network: read the file, its facts, and check that these are those of its nodes.

What tables print of a file comes from its metadata. So a file whose metadata state something else than its nodes is
refused where it is opened, before a number of either is believed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from onnx import numpy_helper

from csscc.coding.coding import Coding
from csscc.dialect.metadata import Facts, Layer, layers_in
from csscc.dialect.metadata import read as read_facts
from csscc.dialect.model import VERSIONS, in_stream, in_the_usual_domain, refuse_other_version
from csscc.dialect.sizes import misfits
from csscc.dialect.spiking import Spiking, numbers, spiking, spiking_nodes
from csscc.errors import RefusedError, UsageError
from csscc.io.finite import not_finite
from csscc.io.weights import without_weights
from csscc.options import check_coding
from csscc.passes.canonical.finite_weights import refuse_not_finite
from csscc.passes.canonical.load import read_model
from csscc.passes.lower.folded import is_in_steps
from csscc.passes.lower.targets import NAMES, by_layer


class HasFile(Protocol):
    """What holds a spiking network as `save` writes it, as `csscc.SNN` does."""

    @property
    def file(self) -> onnx.ModelProto:
        """The network."""


SpikingFile = str | Path | onnx.ModelProto | HasFile
SAME = 1e-5  # relative difference of numbers that are the same, written as text and read again
SHOWN = 3
# What reading a node raises that lacks an input or an attribute, or has one of another type, wherever that is missed.
DAMAGE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def open_spiking(snn: SpikingFile, name: str = "the model") -> tuple[onnx.ModelProto, Facts]:
    """The spiking network in a file, or given as a model called `name`, and what it states of itself.

    Raises:
        RefusedError: it is missing, not ONNX, not made by this version of csscc, or contradicts itself.
    """
    if isinstance(snn, str | Path):
        model, where = read_model(snn), str(snn)
    else:
        model, where = snn if isinstance(snn, onnx.ModelProto) else snn.file, name
    facts = read_facts({p.key: p.value for p in model.metadata_props}, where)
    refuse_other_version(model)
    with _damage_refused(where):
        usual = in_the_usual_domain(model)
        onnx.checker.check_model(without_weights(usual)[0])
        found = list(contradictions(usual, facts))
    if found:
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise RefusedError(f"{where}: contradicts itself: {'; '.join(found[:SHOWN])}{more}; compile it again")
    return model, facts


def open_after(ann: str | Path | onnx.ModelProto, snn: SpikingFile) -> tuple[onnx.ModelProto, Facts]:
    """`open_spiking` of the network that a user gave after the ANN.

    Raises:
        UsageError: it cannot be opened, and `ann` is a spiking network: they are in the wrong order.
        RefusedError: as `open_spiking`.
    """
    try:
        return open_spiking(snn)
    except RefusedError:
        first = ann if isinstance(ann, onnx.ModelProto) else read_model(ann)
        if any(node.domain in VERSIONS for node in first.graph.node):
            text = "the networks are in the wrong order: the ANN comes first, then the spiking network"
            raise UsageError(text) from None
        raise


def refuse_damaged(model: onnx.ModelProto, where: str) -> None:
    """Refuse spiking nodes that nobody could run, in a model that need not state what it is.

    Raises:
        RefusedError: they lack an input or an attribute, or have spikes of different numbers of steps.
    """
    with _damage_refused(where):
        light, weights = without_weights(model)
        layers = by_layer(light)
        _refuse_unknown_numbers(layers, weights)
        steps = {view.schedule.T for _, view in spiking_nodes(layers.graph)}
        if len(steps) > 1:
            raise ValueError(f"spikes come in {', '.join(map(str, sorted(steps)))} steps")


@contextmanager
def _damage_refused(where: str) -> Iterator[None]:
    try:
        yield
    except (onnx.checker.ValidationError, *DAMAGE) as error:
        cause = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        raise RefusedError(f"{where}: its nodes are damaged ({cause}); compile it again") from error


def _refuse_unknown_numbers(layers: onnx.ModelProto, weights: Mapping[str, onnx.TensorProto]) -> None:
    """Refuse what makes a potential no number: a spike is decided by a comparison, and runtimes compare NaN otherwise.

    Raises:
        RefusedError: a bias or a weight is not finite, or a constant of an activation is NaN.
    """
    refuse_not_finite(layers, weights, advice="compile it again")
    constants = {t.name: t for t in layers.graph.initializer} | dict(weights)
    for _, view in spiking_nodes(layers.graph):
        biases = [] if view.is_encoder or view.is_merge else view.biases
        for name in (n for n in (*biases, *view.parameters) if n in constants):
            values = numpy_helper.to_array(constants[name])
            if np.isnan(values).any() or (name in biases and not_finite(values)):
                raise RefusedError(f"'{name}' of '{view.name}' is not a number; compile the network again")


def contradictions(model: onnx.ModelProto, facts: Facts) -> Iterator[str]:
    """What the metadata state of the network, and its nodes do not."""
    try:
        check_coding(facts.coding)
    except UsageError as error:
        yield f"of its metadata, {error}"
        return
    light, weights = without_weights(model)
    layers = by_layer(light)
    onnx.checker.check_model(layers)  # nodes in steps are none of those that the checker knows, folded they are
    views = [view for _, view in spiking_nodes(layers.graph) if not view.is_merge]
    names = Counter(view.name for view in views)
    if shared := [name for name, number in names.items() if number > 1 or not name]:
        yield f"its layers have no names of their own: {len(views)} have {len(names)}, '{shared[0]}' among them"
        return
    coding = facts.coding
    steps = {view.schedule.T for view in views}
    if steps != {coding.T}:
        yield f"its metadata state T={coding.T}, its spikes come in {', '.join(map(str, sorted(steps)))} steps"
        return
    yield from islice((text for view in views if (text := _other_coding(view, facts))), 1)
    yield from _other_form(model, facts.options.get("form"))
    for name in misfits(model, {**facts.sizes, **facts.fixed}):
        yield f"its metadata state sizes of an input '{name}', which it lacks, or which has other sizes"
    values = {node.name for node in layers.graph.node if spiking(node) is None}
    missing = sorted({*facts.options.get("analog", ())} - values)
    yield from (f"its metadata state '{name}' as left analog, its nodes have no such activation" for name in missing)
    _refuse_unknown_numbers(layers, weights)
    constants = {t.name: t for t in layers.graph.initializer} | weights
    yield from islice((text for view in views if (text := _other_trains(view, coding, constants))), 1)
    found, latency = layers_in(layers, coding, weights)
    if latency != facts.latency:
        yield f"its metadata state a latency of {facts.latency} time steps, its nodes take {latency}"
    yield from _other_layers(facts.layers, found)


def _other_coding(view: Spiking[str], facts: Facts) -> str:
    """What a node does otherwise than the coding that the metadata state; empty if nothing."""
    coding, schedule = facts.coding, view.schedule
    wanted = coding.encoder() if view.is_encoder else coding.neuron(schedule.silent)
    if view.is_encoder and facts.options.get("analog"):
        wanted = replace(wanted, constant=schedule.constant)
    if schedule.weights != tuple(numbers(wanted.weights)):
        return f"the spike weights of '{view.name}' are not those of beta={coding.beta:g}"
    if view.is_readout:
        return ""
    other = schedule.burst and not coding.sends_bursts
    if other or (schedule.negative, schedule.constant, schedule.most) != (
        wanted.negative,
        wanted.constant,
        wanted.most,
    ):
        return f"'{view.name}' sends other spikes than the coding in its metadata"
    alike = not facts.options.get("choose_silence", True)
    usual = coding.neuron().silent
    if view.is_neuron and alike and schedule.silent != usual:
        return f"its metadata state {usual} silent step(s) in every layer, '{view.name}' has {schedule.silent}"
    return ""


def _other_trains(view: Spiking[str], coding: Coding, constants: Mapping[str, onnx.TensorProto]) -> str:
    """How the amplitudes of an encoder are not those of the digits of a value, most of them first; empty if they are.

    A spike of one train counts as many of the next one as that can send, and one: see `SplitInputs`.
    """
    if view.trains == 1:
        return ""
    theta = numpy_helper.to_array(constants[view.theta]) if view.theta in constants else np.zeros(0)
    if theta.size and theta.size % view.trains == 0:
        digits = theta.reshape(view.trains, -1)
        if np.allclose(digits[:-1], digits[1:] * (view.schedule.levels + 1), rtol=SAME, atol=0):
            return ""
    return f"'{view.name}' states {view.trains} trains for a value, its amplitudes are not those of so many"


def _other_form(model: onnx.ModelProto, stated: Any) -> Iterator[str]:
    folded = stated if stated in NAMES else "unrolled"  # any form has those nodes in `SNN.model`
    form = "stream" if in_stream(model) else "stepwise" if is_in_steps(model) else folded
    if form != stated:
        yield f"its metadata state the form '{stated}', its nodes are those of '{form}'"


def _other_layers(stated: Sequence[Layer], found: Sequence[Layer]) -> Iterator[str]:
    if [layer.name for layer in stated] != [layer.name for layer in found]:
        yield f"its metadata list {len(stated)} layers that are not its {len(found)} layers of nodes"
        return
    for listed, layer in zip(stated, found, strict=True):
        neurons = layer.neurons or listed.neurons  # not known without the sizes that the network leaves free
        same = (listed.kind, listed.depth, listed.neurons) == (layer.kind, layer.depth, neurons)
        same = same and _close(listed.amplitude, layer.amplitude)
        if not same or not _close(listed.clipping_range, layer.clipping_range):
            nodes = _values(replace(layer, neurons=neurons))
            yield f"of layer '{layer.name}' its metadata state {_values(listed)}, its nodes {nodes}"


def _values(layer: Layer) -> str:
    values = f"theta {layer.amplitude:.6g}, up to {layer.clipping_range:.6g}"
    return f"{layer.kind}, {layer.neurons} neurons, depth {layer.depth}, {values}"


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=SAME, abs_tol=0.0)
