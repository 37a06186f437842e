"""Why a spiking network differs from its ANN: what each layer adds to the error, and for which reason.

A neuron wants to send w = f(H), H being all of its input, and sends d = theta * sum(q*S). With a the ANN's activation::

    d - a  =  (w - a)  -  theta * u            u: the residual, in units of theta
              inherited   the layer's own

so what a layer does wrong by itself is measured, not estimated: ``theta * u``. Its square splits by neuron into

    range        w lies beyond the largest value the layer can send, theta * sum(q): the amplitude is too small
    timing       w could have been sent, yet |u| > 1/2: spikes came too late to be answered (Theorem 1 does not hold)
    resolution   |u| <= 1/2: rounding to theta

(1 instead of 1/2 without negative spikes). An encoder wants to send a itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from csscc.coding.activations import ACTIVATIONS
from csscc.coding.coding import Coding
from csscc.dialect.adapter import export_model
from csscc.dialect.functions import activation_of
from csscc.dialect.metadata import Facts
from csscc.dialect.metadata import read as read_facts
from csscc.dialect.model import coding_of, copy_of, spike_sources, with_outputs, with_residuals
from csscc.errors import RefusedError
from csscc.io.data import ImageOptions, open_source
from csscc.passes.canonical.load import read_model
from csscc.passes.convert.samples import BATCH_BYTES
from csscc.passes.lower.steps import by_layer
from csscc.pipeline import canonical
from csscc.runtime.session import Session

Cause = Literal["range", "timing", "resolution", "dead", "headroom", "shift", "foreign", ""]

# What the largest part of a layer's own error may be (RMS, share of its signal). Rounding and a few values beyond the
# range are what a calibration weighs against each other; spikes that come too late are never intended.
LIMITS: dict[Cause, float] = {"range": 0.05, "timing": 0.02, "resolution": 0.05}
JUMP_LIMIT = 0.10  # a layer also goes wrong if what it wants to send is off by more than this share of its signal
JUMP_FACTOR = 3.0  # and by more than this many times the error of any layer before it
SHIFT_SHARE = 0.5  # such a jump is a shift if the mean makes up this share of its square
HEADROOM = 0.25  # amplitudes are too large if the largest value uses less than this share of the range
BATCH = 16


@dataclass(frozen=True)
class LayerDiagnosis:
    """One layer, measured over all samples. Errors are RMS relative to the RMS of the ANN's activation.

    Attributes:
        name: node name.
        kind: ``encoder`` or the activation the neurons send.
        error: of the value sent against the ANN's activation.
        inherited: of the value the neurons wanted to send: what came in was wrong already.
        own: of the value sent against the value wanted.
        range, timing, resolution: parts of `own`; their squares add up to its square.
        bias: mean of sent minus ANN, relative to the ANN's RMS.
        wanted_bias: mean of wanted minus ANN, relative to the ANN's RMS.
        correlation: of sent values and the ANN's.
        saturated: share of the ANN's values beyond the largest the layer can send.
        reach: largest magnitude of the ANN's values as a share of the largest the layer can send.
        over_half, over_one: share of residuals with |u| > 1/2 and |u| > 1, in units of theta.
        positive, negative: spikes per neuron and inference.
        positive_by_step, negative_by_step: the same for each step t = 1..T.
        cause: why it goes wrong; empty if it does not.
    """

    name: str
    kind: str
    error: float
    inherited: float
    own: float
    range: float
    timing: float
    resolution: float
    bias: float
    wanted_bias: float
    correlation: float
    saturated: float
    reach: float
    over_half: float
    over_one: float
    positive: float
    negative: float
    positive_by_step: tuple[float, ...]
    negative_by_step: tuple[float, ...]
    cause: Cause = ""


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong, where first, and what to change.

    Attributes:
        samples: samples seen.
        agreement: how often both networks name the same class, percent; None without classes.
        output_error: RMS of SNN minus ANN relative to the ANN's, by output.
        same_source: whether the SNN was made from this very ANN file.
        layers: in order.
        first: the first layer that goes wrong, None if none does.
        cause: of `first`.
        sentences: what to say to a person.
    """

    samples: int
    agreement: float | None
    output_error: dict[str, float]
    same_source: bool
    layers: tuple[LayerDiagnosis, ...]
    first: str | None
    cause: Cause
    sentences: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Pair:
    """A layer of both networks: tensors by name, and what decodes its spikes."""

    name: str
    kind: str
    coding: Coding
    theta: NDArray[np.float64]
    activation: str
    spikes: str
    residual: str | None

    @property
    def signed(self) -> bool:
        return self.coding.signed_input if self.kind == "encoder" else self.coding.negative

    @property
    def rounding(self) -> float:
        """Largest |u| that rounding leaves."""
        return 0.5 if self.signed else 1.0


def diagnose(
    ann: str | Path | onnx.ModelProto,
    snn: str | Path | onnx.ModelProto,
    data: Any,
    *,
    images: ImageOptions | None = None,
    limit: int | None = 64,
    progress: Callable[[int, int | None], None] | None = None,
) -> Diagnosis:
    """Run both networks on `data` and compare them layer by layer.

    Args:
        ann: the source network.
        snn: the spiking network made from it.
        data: samples.
        images: how image files become inputs.
        limit: use at most so many samples.
        progress: told the samples done and their total, where it is known.

    Raises:
        RefusedError: a file or the data cannot be used, or the networks do not belong together.
    """
    model = by_layer(copy_of(snn) if isinstance(snn, onnx.ModelProto) else read_model(snn))
    facts = read_facts(
        {p.key: p.value for p in model.metadata_props}, str(snn) if isinstance(snn, str | Path) else "the model"
    )
    source_network = canonical(ann)
    reference = export_model(source_network)
    outputs = [o.name for o in model.graph.output]
    pairs = _pairs(model, reference, outputs)
    spiking = Session(with_outputs(model, [t for p in pairs for t in (p.spikes, p.residual) if t]))
    plain = Session(with_outputs(reference, [p.activation for p in pairs]))
    source = open_source(data, spiking.specs, images=images, limit=limit)
    sums = [_Sums(p) for p in pairs]
    tally = _Outputs(outputs)
    fixed = spiking.fixed_batch
    for feeds in source.batches(fixed or _batch(facts)):
        size = len(next(iter(feeds.values())))
        if fixed is not None and size < fixed:
            continue
        expected, got = plain.run(feeds), spiking.run(feeds)
        for layer in sums:
            layer.add(expected, got)
        tally.add(expected, got, size)
        if progress is not None:
            progress(tally.samples, source.size)
    layers = judged([layer.result() for layer in sums])
    same = facts.source.get("sha256") == source_network.origin["sha256"]
    first = next((layer for layer in layers if layer.cause), None)
    return Diagnosis(
        samples=tally.samples,
        agreement=tally.agreement,
        output_error=tally.errors,
        same_source=same,
        layers=layers,
        first=first.name if first is not None else None,
        cause=first.cause if first is not None else "",
        sentences=_sentences(tally, layers, facts, same),
    )


def _batch(facts: Facts) -> int:
    """Samples at a time, so that spikes, residuals and activations of all layers fit in memory."""
    per_sample = 4 * sum(layer.neurons for layer in facts.layers) * (facts.coding.T + 6)
    return max(1, min(BATCH, BATCH_BYTES // max(per_sample, 1)))


def _pairs(snn: onnx.ModelProto, ann: onnx.ModelProto, outputs: Sequence[str]) -> list[_Pair]:
    """The layers of both networks side by side; gives `snn` residuals (in place).

    Raises:
        RefusedError: the networks do not belong together.
    """
    constants = {t.name: t for t in snn.graph.initializer}
    made = {n.name: n for n in ann.graph.node}
    analog = {t for n in ann.graph.node for t in n.output} | {i.name for i in ann.graph.input}
    inputs = sorted(i.name for i in ann.graph.input) == sorted(i.name for i in snn.graph.input)
    if not inputs or sorted(outputs) != sorted(o.name for o in ann.graph.output):
        raise RefusedError("the networks do not belong together: their inputs or outputs have other names")
    residuals = with_residuals(snn)
    pairs = []
    for node in spike_sources(snn):
        encoder = node.op_type == "Encode"
        kind = "encoder" if encoder else activation_of(node.op_type)
        twin = made.get(node.name)
        if (encoder and node.input[0] not in analog) or (not encoder and (twin is None or twin.op_type != kind)):
            what = f"tensor '{node.input[0]}'" if encoder else f"{kind} '{node.name}'"
            raise RefusedError(f"the networks do not belong together: the ANN has no {what}, which the SNN sends")
        theta = numpy_helper.to_array(constants[node.input[1 if encoder else 2 * ACTIVATIONS[kind].inputs]])
        activation = node.input[0] if twin is None else twin.output[0]
        residual = residuals.get(node.name)
        pairs.append(
            _Pair(node.name, kind, coding_of(node), theta.astype(np.float64), activation, node.output[0], residual)
        )
    return pairs


class _Sums:
    """Running sums of one layer, in float64."""

    def __init__(self, pair: _Pair) -> None:
        self._pair = pair
        self._weights = pair.coding.weights
        self._number = 0
        self._sums: dict[str, float] = {}
        self._largest = 0.0
        self._positive, self._negative = np.zeros(pair.coding.T), np.zeros(pair.coding.T)

    def add(self, expected: Mapping[str, NDArray[Any]], got: Mapping[str, NDArray[Any]]) -> None:
        pair = self._pair
        a = np.asarray(expected[pair.activation], np.float64)
        spikes = got[pair.spikes].reshape(pair.coding.T, *a.shape)
        d = pair.theta * np.tensordot(self._weights, spikes.astype(np.float64), axes=1)
        own = pair.theta * got[pair.residual].reshape(a.shape).astype(np.float64) if pair.residual else a - d
        top = pair.theta * pair.coding.levels
        bottom = -top if pair.signed else 0.0 * top
        wanted, slack = d + own, pair.rounding * pair.theta
        beyond = (wanted > top + slack) | (wanted < bottom - slack)
        u = np.abs(own / pair.theta)
        late = ~beyond & (u > pair.rounding * (1 + 1e-5))
        squares = own**2
        for name, value in (
            ("a", a), ("aa", a**2), ("d", d), ("dd", d**2), ("ad", a * d), ("error", (d - a) ** 2),
            ("inherited", (wanted - a) ** 2), ("wanted", wanted), ("own", squares), ("range", squares * beyond),
            ("timing", squares * late), ("saturated", (a > top * (1 + 1e-6)) | (a < bottom * (1 + 1e-6))),
            ("half", u > 0.5 * (1 + 1e-5)), ("one", u > 1),
        ):  # fmt: skip
            self._sums[name] = self._sums.get(name, 0.0) + float(value.sum())
        self._largest = max(self._largest, float((np.abs(a) / top).max(initial=0.0)))
        self._number += a.size
        axes = tuple(range(1, spikes.ndim))
        self._positive += (spikes > 0).sum(axis=axes)
        self._negative += (spikes < 0).sum(axis=axes)

    def result(self) -> LayerDiagnosis:
        pair, s, n = self._pair, self._sums, max(self._number, 1)
        signal = np.sqrt(s["aa"] / n)

        def relative(square: float) -> float:
            return float(np.sqrt(max(square, 0.0) / n) / signal) if signal else 0.0

        def shift(name: str) -> float:
            return float((s[name] - s["a"]) / n / signal) if signal else 0.0

        spread = (s["aa"] - s["a"] ** 2 / n) * (s["dd"] - s["d"] ** 2 / n)
        return LayerDiagnosis(
            name=pair.name,
            kind=pair.kind,
            error=relative(s["error"]),
            inherited=relative(s["inherited"]) if pair.residual else 0.0,
            own=relative(s["own"]),
            range=relative(s["range"]),
            timing=relative(s["timing"]),
            resolution=relative(s["own"] - s["range"] - s["timing"]),
            bias=shift("d"),
            wanted_bias=shift("wanted"),
            correlation=float((s["ad"] - s["a"] * s["d"] / n) / np.sqrt(spread)) if spread > 0 else 0.0,
            saturated=s["saturated"] / n,
            reach=self._largest,
            over_half=s["half"] / n,
            over_one=s["one"] / n,
            positive=float(self._positive.sum() / n),
            negative=float(self._negative.sum() / n),
            positive_by_step=tuple(self._positive / n),
            negative_by_step=tuple(self._negative / n),
        )


def judged(layers: Sequence[LayerDiagnosis]) -> tuple[LayerDiagnosis, ...]:
    """The layers with their causes, by the limits at the top of this module."""
    result = []
    before = 0.0
    for layer in layers:
        result.append(replace(layer, cause=_cause(layer, before)))
        before = max(before, layer.error)
    return tuple(result)


def _cause(layer: LayerDiagnosis, before: float) -> Cause:
    """Why a layer goes wrong; `before` is the largest error of a layer in front of it."""
    if layer.inherited > max(JUMP_LIMIT, JUMP_FACTOR * before):
        return "shift" if layer.wanted_bias**2 > SHIFT_SHARE * layer.inherited**2 else "foreign"
    cause = main_part(layer)
    if parts_of(layer)[cause] <= LIMITS[cause]:
        return ""
    if not layer.positive + layer.negative:
        return "dead"
    return "headroom" if cause == "resolution" and layer.reach < HEADROOM else cause


def parts_of(layer: LayerDiagnosis) -> dict[Cause, float]:
    """What a layer's own error consists of."""
    return {"range": layer.range, "timing": layer.timing, "resolution": layer.resolution}


def main_part(layer: LayerDiagnosis) -> Cause:
    """What most of a layer's own error comes from."""
    parts = parts_of(layer)
    return max(parts, key=lambda cause: parts[cause])


class _Outputs:
    """Running comparison of the outputs."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._squares = {n: [0.0, 0.0] for n in names}
        self._agree = self._classified = 0
        self.samples = 0

    def add(self, expected: Mapping[str, NDArray[Any]], got: Mapping[str, NDArray[Any]], size: int) -> None:
        for name in self._names:
            a, b = expected[name].astype(np.float64), got[name].astype(np.float64)
            self._squares[name][0] += float(((b - a) ** 2).sum())
            self._squares[name][1] += float((a**2).sum())
        classes = [n for n in self._names if expected[n].ndim == 2 and expected[n].shape[1] > 1]
        if classes:
            self._agree += int((expected[classes[0]].argmax(axis=1) == got[classes[0]].argmax(axis=1)).sum())
            self._classified += size
        self.samples += size

    @property
    def agreement(self) -> float | None:
        return 100 * self._agree / self._classified if self._classified else None

    @property
    def errors(self) -> dict[str, float]:
        return {n: float(np.sqrt(d / v)) if v else float(d > 0) for n, (d, v) in self._squares.items()}


def _sentences(outputs: _Outputs, layers: Sequence[LayerDiagnosis], facts: Facts, same: bool) -> tuple[str, ...]:
    """What happened, where it starts, and what to change."""
    worst = max(outputs.errors, key=lambda name: outputs.errors[name])
    told = f"On {outputs.samples} samples the outputs differ by {outputs.errors[worst]:.2%} (RMS of {worst})"
    if outputs.agreement is not None:
        told += f", and both networks name the same class for {outputs.agreement:.1f} %"
    told += "." if same else "; the SNN was made from another file than this ANN (its SHA-256 differs)."
    wrong = [i for i, layer in enumerate(layers) if layer.cause]
    if not wrong:
        return (told, *_nothing_wrong(layers))
    layer = layers[wrong[0]]
    where = f"'{layer.name}', layer {wrong[0] + 1} of {len(layers)},"
    others = sum(layers[i].cause == layer.cause for i in wrong[1:])
    also = f" {others} later layer(s) go wrong for the same reason." if others else ""
    return (told, f"The first layer that goes wrong is {where} {_reason(layer)}.{also}", _advice(layer, layers, facts))


def _nothing_wrong(layers: Sequence[LayerDiagnosis]) -> tuple[str, str]:
    layer = max(layers, key=lambda layer: layer.own)
    advice: dict[Cause, str] = {
        "range": "calibration on more samples, or --method max,",
        "timing": "another silent step",
        "resolution": "a larger T",
    }
    return (
        f"No layer goes wrong by itself: the largest own error is {layer.own:.2%} of the signal, in '{layer.name}', "
        f"mostly by {main_part(layer)}; what errors there are add up from layer to layer.",
        f"If that is too much, {advice[main_part(layer)]} is the first thing to try.",
    )


def _reason(layer: LayerDiagnosis) -> str:
    own = f"which adds an error of {layer.own:.1%} of its signal by itself"
    jump = f"which wants to send values that are {layer.inherited:.1%} off, though the layers before it are right"
    reasons: dict[Cause, str] = {
        "range": f"{own}: {layer.saturated:.2%} of the ANN's values lie beyond the largest it can send, up to "
        f"{layer.reach:.2f} times",
        "timing": f"{own}: |u| > 1 in {layer.over_one:.2%} of its residuals, spikes came too late to be answered",
        "resolution": f"{own}: theta, its smallest spike, is too coarse",
        "headroom": f"{own}: the ANN's values use {layer.reach:.1%} of its range, so theta is too coarse",
        "dead": f"{own}: it sends no spike at all; the ANN's values use {layer.reach:.1%} of its range",
        "shift": f"{jump}: their mean is shifted by {layer.wanted_bias:+.1%}",
        "foreign": f"{jump}, and not by a shift of the mean",
    }
    return reasons[layer.cause]


def _advice(layer: LayerDiagnosis, layers: Sequence[LayerDiagnosis], facts: Facts) -> str:
    coding = facts.coding
    if layer.cause in ("timing", "resolution") and layer.kind != "encoder" and not coding.negative:
        return "Change: allow negative spikes (compile without --no-negative), which take back what was sent too early."
    if layer.cause == "range" and layer.kind == "encoder" and not coding.signed_input:
        return "Change: inputs are negative here, so compile with --signed-input."
    coarsest = max(other.resolution for other in layers) / LIMITS["resolution"]
    enough = coding.T + max(1, math.ceil(math.log(max(coarsest, 1.0), coding.beta)))  # theta falls as beta**-T
    advice: dict[Cause, str] = {
        "range": "Change: calibrate with more samples like these, or with --method max.",
        "timing": f"Change: --silent {coding.silent + 1}, so that the layers hear more before they speak.",
        "resolution": f"Change: a larger T; --T {enough} should bring every layer below {LIMITS['resolution']:.0%}.",
        "headroom": "Change: the calibration; look for outliers in it, or use --method mse or percentile.",
        "dead": "Change: the calibration; its samples make this layer larger than these do.",
        "shift": "Change: compile this ANN again; the biases in the file are not those of the ANN.",
        "foreign": "Change: compile this ANN again; the weights in the file are not those of the ANN.",
    }
    return advice[layer.cause]
