"""What each layer of a spiking network does wrong: its activations beside the ANN's.

A neuron wants to send w = f(H), H being all of its input, and sends d = theta * sum(q*S). With a the ANN's activation::

    d - a  =  (w - a)  -  theta * u            u: the residual, in units of theta
              inherited   the layer's own

so what a layer does wrong by itself is measured, not estimated: ``theta * u``. Its square splits by neuron into

    range        w lies beyond the largest value the layer can send, theta * sum(q): the amplitude is too small
    timing       w could have been sent, yet |u| > 1/2: spikes came too late to be answered (Theorem 1 does not hold)
    rounding     |u| <= 1/2: rounding to theta

(1 instead of 1/2 without negative spikes). An encoder wants to send a itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from csscc.coding.schedule import Schedule
from csscc.dialect.model import spike_sources, with_residuals
from csscc.dialect.spiking import view_of
from csscc.errors import RefusedError
from csscc.io.finite import not_finite

Cause = Literal["range", "timing", "rounding", "dead", "headroom", "shift", "foreign", ""]


@dataclass(frozen=True)
class LayerDiagnosis:
    """One layer, measured over all samples. Errors are RMS relative to the RMS of the ANN's activation.

    Attributes:
        name: node name.
        kind: ``encoder`` or the activation the neurons send.
        error: of the value sent against the ANN's activation.
        inherited: of the value the neurons wanted to send: what came in was wrong already.
        own: of the value sent against the value wanted.
        range, timing, rounding: parts of `own`; their squares add up to its square.
        bias: mean of sent minus ANN, relative to the ANN's RMS.
        wanted_bias: mean of wanted minus ANN, relative to the ANN's RMS.
        correlation: of sent values and the ANN's.
        saturated: share of the ANN's values beyond the largest the layer can send.
        peak: largest magnitude of the ANN's values as a share of the largest the layer can send.
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
    rounding: float
    bias: float
    wanted_bias: float
    correlation: float
    saturated: float
    peak: float
    over_half: float
    over_one: float
    positive: float
    negative: float
    positive_by_step: tuple[float, ...]
    negative_by_step: tuple[float, ...]
    cause: Cause = ""


@dataclass(frozen=True)
class Pair:
    """A layer of both networks: tensors by name, what decodes its spikes, and how many trains send one value."""

    name: str
    kind: str
    schedule: Schedule
    theta: NDArray[np.float64]
    activation: str
    spikes: str
    residual: str | None
    trains: int = 1

    @property
    def signed(self) -> bool:
        """Whether the layer sends negative spikes."""
        return self.schedule.negative

    @property
    def rounding(self) -> float:
        """Largest |u| that rounding leaves."""
        return 0.5 if self.signed else 1.0


def layers_of_both(snn: onnx.ModelProto, ann: onnx.ModelProto, outputs: Sequence[str]) -> list[Pair]:
    """The layers of both networks side by side; gives `snn` residuals (in place).

    Raises:
        RefusedError: the networks do not belong together.
    """
    constants = {t.name: t for t in snn.graph.initializer}
    made = {n.name: n for n in ann.graph.node}
    analog = {t for n in ann.graph.node for t in n.output} | {i.name for i in ann.graph.input}
    inputs = sorted(i.name for i in ann.graph.input) == sorted(i.name for i in snn.graph.input)
    if not inputs or sorted(outputs) != sorted(o.name for o in ann.graph.output):
        raise RefusedError(
            "the networks do not belong together: their inputs or outputs have other names; compile this ANN"
        )
    residuals = with_residuals(snn)
    pairs = []
    for node in spike_sources(snn):
        view = view_of(node)
        encoder, kind = view.is_encoder, view.kind
        twin = made.get(node.name)
        read = node.input[0] in analog or view.trains > 1  # or is made of digits, by the spiking network itself
        if (encoder and not read) or (not encoder and (twin is None or twin.op_type != kind)):
            what = f"tensor '{node.input[0]}'" if encoder else f"{kind} '{node.name}'"
            raise RefusedError(
                f"the networks do not belong together: the ANN has no {what}, which the SNN sends; compile this ANN"
            )
        theta = numpy_helper.to_array(constants[view.theta])
        activation = node.input[0] if twin is None else twin.output[0]
        residual = residuals.get(node.name)
        theta = theta.astype(np.float64)
        pairs.append(Pair(node.name, kind, view.schedule, theta, activation, node.output[0], residual, view.trains))
    return pairs


class LayerSums:
    """Running sums of one layer, in float64."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._weights = np.array(pair.schedule.weights)
        self._number = 0
        self._sums: dict[str, float] = {}
        self._largest = 0.0
        self._positive, self._negative = np.zeros(pair.schedule.T), np.zeros(pair.schedule.T)

    def add(self, expected: Mapping[str, NDArray[Any]], got: Mapping[str, NDArray[Any]]) -> None:
        """Add a batch: tensors of the ANN and of the spiking network, by name.

        Raises:
            RefusedError: a value of either is NaN or infinite, so that there is no error.
        """
        pair = self._pair
        for network, name, values in (("ANN", pair.activation, expected), ("SNN", pair.residual or pair.spikes, got)):
            if bad := not_finite(values[name]):
                raise RefusedError(
                    f"layer '{pair.name}' cannot be diagnosed: {bad} value(s) of '{name}' in the {network} are NaN or "
                    "infinite; are the samples prepared as for the network?"
                )
        a = np.asarray(expected[pair.activation], np.float64)
        spikes = got[pair.spikes].reshape(pair.schedule.T, *a.shape)
        d = pair.theta * np.tensordot(self._weights, spikes.astype(np.float64), axes=1)
        own = pair.theta * got[pair.residual].reshape(a.shape).astype(np.float64) if pair.residual else a - d
        high = pair.theta * pair.schedule.levels
        low = -high if pair.signed else 0.0 * high
        wanted, slack = d + own, pair.rounding * pair.theta
        beyond = (wanted > high + slack) | (wanted < low - slack)
        u = np.abs(own / pair.theta)
        late = ~beyond & (u > pair.rounding * (1 + 1e-5))
        squares = own**2
        for name, value in (
            ("a", a), ("aa", a**2), ("d", d), ("dd", d**2), ("ad", a * d), ("error", (d - a) ** 2),
            ("inherited", (wanted - a) ** 2), ("wanted", wanted), ("own", squares), ("range", squares * beyond),
            ("timing", squares * late), ("saturated", (a > high * (1 + 1e-6)) | (a < low * (1 + 1e-6))),
            ("half", u > 0.5 * (1 + 1e-5)), ("one", u > 1),
        ):  # fmt: skip
            self._sums[name] = self._sums.get(name, 0.0) + float(value.sum())
        self._largest = max(self._largest, float((np.abs(a) / high).max(initial=0.0)))
        self._number += a.size
        axes = tuple(range(1, spikes.ndim))
        self._positive += spikes.clip(0, None).sum(axis=axes, dtype=np.float64)
        self._negative -= spikes.clip(None, 0).sum(axis=axes, dtype=np.float64)

    def result(self) -> LayerDiagnosis:
        """The result of all batches for the layer; its cause is still to be found."""
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
            rounding=relative(s["own"] - s["range"] - s["timing"]),
            bias=shift("d"),
            wanted_bias=shift("wanted"),
            correlation=float((s["ad"] - s["a"] * s["d"] / n) / np.sqrt(spread)) if spread > 0 else 0.0,
            saturated=s["saturated"] / n,
            peak=self._largest,
            over_half=s["half"] / n,
            over_one=s["one"] / n,
            positive=float(self._positive.sum() / n),
            negative=float(self._negative.sum() / n),
            positive_by_step=tuple(self._positive / n),
            negative_by_step=tuple(self._negative / n),
        )
