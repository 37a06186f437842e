"""What a user may ask of a compilation, checked once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from csscc.errors import UsageError
from csscc.runtime.coding import Coding

Preset = Literal["default", "paper"]
Method = Literal["percentile", "max", "mse", "entropy"]
MAX_BETA = 3.0
MAX_SILENT = 16
MAX_STEPS = 64


@dataclass(frozen=True)
class Options:
    """Options of `csscc.compile`, with the defaults of the preset ``default``.

    Attributes:
        coding: steps, amplification, silent period, negative spikes.
        per_channel: an amplitude per channel where a channel is seen often enough, else per layer.
        method: how amplitudes are chosen, see `csscc.passes.set_amplitudes`.
        percentile: for the method ``percentile``.
        bias_on_first_step: neurons know their bias from the start; else it arrives in T parts (paper).
        adjust: raise amplitudes where residuals are too large (A.3).
        residual_rms: and where the root mean square of a channel's residuals exceeds this; None for A.3 alone.
        calibration_samples: how many samples to use at most.
        seed: of synthetic inputs.
    """

    coding: Coding = field(default_factory=Coding)
    per_channel: bool = True
    method: Method = "mse"
    percentile: float = 99.99
    bias_on_first_step: bool = True
    adjust: bool = True
    residual_rms: float | None = 0.5
    calibration_samples: int = 512
    seed: int = 0

    def with_(self, **changes: Any) -> Options:
        """A copy with the given fields changed; None leaves a field as it is."""
        return replace(self, **{k: v for k, v in changes.items() if v is not None})


PRESETS: dict[Preset, Options] = {
    "default": Options(),
    "paper": Options(per_channel=False, method="percentile", bias_on_first_step=False, residual_rms=None),
}


def make_options(preset: str = "default", **changes: Any) -> Options:
    """Options of a preset with changes; `T`, `beta`, `silent`, `negative` and `signed_input` go to the coding.

    Raises:
        UsageError: an unknown preset, or a value out of its range.
    """
    if preset not in PRESETS:
        raise UsageError(f"preset '{preset}' is not known; choose one of {', '.join(PRESETS)}")
    base = PRESETS[preset]
    fields = ("T", "beta", "silent", "negative", "signed_input")
    coding = replace(base.coding, **{k: changes.pop(k) for k in fields if changes.get(k) is not None})
    check_coding(coding)
    options = base.with_(coding=coding, **{k: v for k, v in changes.items() if k not in fields})
    if options.calibration_samples < 1:
        raise UsageError(f"calibration samples must be at least 1, not {options.calibration_samples}")
    if not 50 <= options.percentile <= 100:
        raise UsageError(f"the percentile must lie between 50 and 100, not {options.percentile}")
    return options


def check_coding(coding: Coding) -> None:
    """Raise `UsageError` where a value of the coding is out of its range."""
    if not 1 <= coding.T <= MAX_STEPS:
        raise UsageError(f"T must be a whole number from 1 to {MAX_STEPS}, not {coding.T}; 4 to 16 are usual")
    if not 1 < coding.beta <= MAX_BETA:
        raise UsageError(f"beta must be greater than 1 and at most 3, not {coding.beta}; 1.5 is usual")
    if not 0 <= coding.silent <= min(coding.T, MAX_SILENT):
        limit = min(coding.T, MAX_SILENT)
        raise UsageError(f"silent steps must be from 0 to {limit} (at most T), not {coding.silent}; 1 is usual")
