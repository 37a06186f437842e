"""Points of a grid of settings, and what was measured at one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from csscc.measure.evaluation import Evaluation
from csscc.options import USUAL


@dataclass(frozen=True)
class Setting:
    """One point of the grid."""

    T: int = USUAL.T
    beta: float = USUAL.beta
    silent: int | str = 1
    negative: bool = True
    adjust: bool = True

    def __lt__(self, other: Setting) -> bool:
        """The order of tables and of lines in a plot: by T within a line, ablations after the full method."""
        return self._place < other._place

    @property
    def _place(self) -> tuple[float, ...]:
        silent = math.inf if isinstance(self.silent, str) else self.silent  # auto comes last
        return (self.beta, silent, not self.negative, not self.adjust, self.T)

    def __str__(self) -> str:
        """As text for people."""
        return f"T={self.T}, {self.line}"

    @property
    def line(self) -> str:
        """The setting without T: what is one line in a plot."""
        ablations = ("" if self.negative else ", no negative spikes") + ("" if self.adjust else ", not adjusted")
        return f"β={self.beta:g}, L={self.silent}{ablations}"


def grid(
    T: Iterable[int] = (USUAL.T,),  # noqa: N803
    beta: Iterable[float] = (USUAL.beta,),
    silent: Iterable[int | str] = (1,),
    negative: Iterable[bool] = (True,),
    adjust: Iterable[bool] = (True,),
) -> list[Setting]:
    """Every combination, once, sorted."""
    return sorted({Setting(*values) for values in itertools.product(T, beta, silent, negative, adjust)})


@dataclass(frozen=True)
class Row:
    """What was measured at one setting, or why nothing was.

    Attributes:
        setting: where.
        latency: time steps from the first input spike to the answer.
        samples: samples evaluated.
        ann_accuracy, snn_accuracy, agreement: percent; None without labels, or without classes.
        loss: percentage points of accuracy.
        output_error: RMS of SNN minus ANN relative to the ANN's, of the output where it is largest; percent.
        spikes_per_neuron: for one inference, encoders included, both signs.
        synaptic_operations, ann_operations: additions caused by spikes, multiply-accumulates of the ANN; a sample.
        encoded: share of residuals with |u| <= 1 in the worst layer; percent.
        interval: time steps between two inputs.
        passes: convolution passes for one input, see `csscc.measure.costs`.
        seconds: to compile and evaluate; the calibration that all settings share is not in it.
        error: why the setting was refused; empty if it was not.
        warnings: what the user should know of the data and the outputs, see `Evaluation`.
    """

    setting: Setting
    latency: int | None = None
    samples: int | None = None
    ann_accuracy: float | None = None
    snn_accuracy: float | None = None
    loss: float | None = None
    agreement: float | None = None
    output_error: float | None = None
    spikes_per_neuron: float | None = None
    synaptic_operations: float | None = None
    ann_operations: float | None = None
    encoded: float | None = None
    interval: int | None = None
    passes: float | None = None
    seconds: float | None = None
    error: str = ""
    warnings: str = ""

    @staticmethod
    def of(setting: Setting, result: Evaluation, seconds: float) -> Row:
        """The row of an evaluation: what has the same name in both, and shares in percent."""
        names = {f.name for f in fields(Row)} & {f.name for f in fields(Evaluation)}
        figures = {n: getattr(result, n) for n in names}
        figures["output_error"] = 100 * max(result.output_error.values(), default=0.0)
        figures["encoded"] = 100 * result.encoded
        figures["warnings"] = "; ".join(result.warnings)
        return Row(setting, seconds=round(seconds, 3), **figures)

    def as_dict(self) -> dict[str, Any]:
        """One flat dictionary of plain values."""
        flat = asdict(self.setting) | asdict(self)
        del flat["setting"]
        return flat

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Row:
        """The row that `as_dict` made."""
        names = [f.name for f in fields(Setting)]
        return Row(Setting(**{n: values[n] for n in names}), **{n: v for n, v in values.items() if n not in names})
