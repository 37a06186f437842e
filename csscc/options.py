"""What a user may ask of a compilation, checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any, Literal, get_args

from csscc import limits
from csscc.coding.coding import FINEST, SINGLE, Coding
from csscc.errors import UsageError
from csscc.passes.lower.targets import AUTO, NAMES

Preset = Literal["default", "paper"]
Method = Literal["auto", "percentile", "max", "mse", "entropy"]
CODING_FIELDS = frozenset(f.name for f in fields(Coding))


USUAL = Coding(T=8, beta=3.0)
WHOLE, NUMBER = "a whole number", "a number"
OTHER_NAMES = {"steps": "T", "timesteps": "T", "time_steps": "T", "num_steps": "T", "L": "silent"}  # of options
KINDS: tuple[tuple[type, type, str], ...] = (  # of a default, of what is taken for it (NumPy's too), and in words
    (bool, bool, "True or False"),
    (int, Integral, WHOLE),
    (float, Real, NUMBER),
    (str, str, "text"),
)


@dataclass(frozen=True)
class Options:
    """Options of `csscc.compile`, with the defaults of the preset ``default``.

    Attributes:
        coding: steps, amplification, silent period, negative spikes.
        equalise: bring the channels of neighbouring layers to like ranges, for amplitudes of whole layers.
        per_channel: an amplitude per channel where a channel is seen often enough, else per layer.
        method: how amplitudes are chosen, see `csscc.passes.convert.set_amplitudes`.
        percentile: for the method ``percentile``.
        bias_on_first_step: neurons know their bias from the start; else it arrives in T parts (paper).
        adjust: raise amplitudes where residuals are too large (A.3).
        residual_percentile: of a layer's residuals, which A.3 compares with theta. The paper's is 99.9; the default
            leaves a margin for inputs that calibration has not seen.
        residual_rms: and where the root mean square of a channel's residuals exceeds this; None for A.3 alone.
        choose_silence: each layer has as many silent steps as it needs, most of them those of the coding.
        correct_bias: shift biases by the mean difference between SNN and ANN, layer by layer; None: if the
            fake-quantised ANN errs less with it.
        form: of the file, a target of `csscc.passes.lower.targets`; ``auto`` takes the fastest in stock onnxruntime.
        calibration_samples: how many samples to use at most.
        seed: of synthetic inputs.
        analog: names of activations that stay analog, see `csscc.passes.convert.leave_analog`.
        stated: fields of the coding that were asked for; of the others, a quantised network knows better values.
    """

    coding: Coding = USUAL
    equalise: bool = False
    per_channel: bool = True
    method: Method = "auto"
    percentile: float = 99.99
    bias_on_first_step: bool = True
    adjust: bool = True
    residual_percentile: float = 99.95
    residual_rms: float | None = 0.5
    choose_silence: bool = True
    correct_bias: bool | None = None
    form: str = AUTO
    calibration_samples: int = 512
    seed: int = 0
    analog: tuple[str, ...] = ()
    stated: frozenset[str] = frozenset()

    def with_(self, **changes: Any) -> Options:
        """A copy with the given fields changed; None leaves a field as it is."""
        return replace(self, **{k: v for k, v in changes.items() if v is not None})


PRESETS: dict[Preset, Options] = {
    "default": Options(),
    "paper": Options(
        coding=Coding(halves=True, bursts=False, split=False),
        per_channel=False,
        method="percentile",
        bias_on_first_step=False,
        residual_percentile=99.9,
        residual_rms=None,
        choose_silence=False,
        correct_bias=False,
    ),
}


PLAIN: dict[str, Any] = {"bursts": False, "split": False}  # few spikes as it was published
FS: dict[str, Any] = {"T": 8, "beta": 2.0, "correct_bias": True, **PLAIN}
RATE: dict[str, Any] = {"method": "percentile", "percentile": 99.9, "bias_on_first_step": False, "adjust": False}
TTFS: dict[str, Any] = {"T": 32, "beta": 1.0, "linear": True}


@dataclass(frozen=True)
class Scheme:
    """A coding as users name it.

    Attributes:
        use: what it is, for those who choose.
        settings: where it differs from canonic signed spikes: fields of `Coding` and of `Options`.
        waits: a layer receives all of its input before it fires: the silent period is T.
    """

    use: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    waits: bool = False


CODINGS: dict[str, Scheme] = {
    "css": Scheme("canonic signed spikes"),
    "rate": Scheme("all spikes have the same weight", {"T": 64, "beta": 1.0, "silent": 0, **RATE}),
    "fs": Scheme("few spikes, layer by layer without overlap in time", FS, waits=True),
    "ttfs": Scheme("time to first spike, one spike at most", TTFS, waits=True),
    "tsc": Scheme("temporal switch coding, two spikes at most", {**TTFS, "switched": True}, waits=True),
}


def make_options(preset: str = "default", coding: str = "css", **changes: Any) -> Options:
    """Options of a preset and a coding with changes; those of `CODING_FIELDS` go to the coding.

    Rate coding takes the thresholds that are best known for it, the 99.9th percentile of each channel, and its bias
    step by step. Few spikes are as they were published, single ones and one train for an input, with corrected biases,
    which give more classes of the ANN.

    Raises:
        UsageError: an unknown preset or coding, or a value out of its range.
    """
    if preset not in PRESETS:
        raise UsageError(f"preset '{preset}' is not known; choose one of {', '.join(PRESETS)}")
    if coding not in CODINGS:
        raise UsageError(f"coding '{coding}' is not known; choose one of {', '.join(CODINGS)}")
    scheme = CODINGS[coding]
    if scheme.settings.get("beta") == 1 and changes.get("beta") not in (None, 1):
        raise UsageError(f"coding '{coding}' ({scheme.use}) has no amplification, so beta is 1, not {changes['beta']}")
    for name, value in changes.items():
        _check_kind(name, value)
    given = {**scheme.settings, **{k: v for k, v in changes.items() if v is not None}}
    stated = CODING_FIELDS if coding != "css" else {k for k in CODING_FIELDS & given.keys() if given[k] != AUTO}
    if given.get("silent") == AUTO and scheme.waits:
        del given["silent"]  # as many as it needs are all: T
    if given.get("silent") == AUTO:
        given |= {"silent": PRESETS[preset].coding.silent, "choose_silence": True}
    elif "silent" in given or scheme.waits:
        given["choose_silence"] = False
    base, silent = PRESETS[preset], given.get("silent")
    numbers = replace(base.coding, **{k: given.pop(k) for k in CODING_FIELDS if k in given})
    if scheme.waits:
        numbers = replace(numbers, silent=numbers.T if silent is None else silent)
    check_coding(numbers)
    if "beta" not in stated and preset == "default":
        numbers = replace(numbers, beta=numbers.usual_beta)
    options = base.with_(coding=numbers, stated=frozenset(stated), **given)
    if options.method not in get_args(Method):
        raise UsageError(f"method '{options.method}' is not known; choose one of {', '.join(get_args(Method))}")
    if options.form not in NAMES:
        raise UsageError(f"form '{options.form}' is not known; choose one of {', '.join(NAMES)}")
    if options.analog and options.form == "stream":
        raise UsageError("form 'stream' runs step by step and cannot wait for analog activations; choose another")
    if options.calibration_samples < 1:
        raise UsageError(f"calibration samples must be at least 1, not {options.calibration_samples}")
    if options.seed < 0:
        raise UsageError(f"the seed must be 0 or more, not {options.seed}")
    if not 50 <= options.percentile <= 100:
        raise UsageError(f"the percentile must lie between 50 and 100, not {options.percentile}")
    return options


def _check_kind(name: str, value: Any) -> None:
    """Raise `UsageError` for an option that there is not, or a value of another kind than it takes."""
    usual = {f.name: f.default for cls in (Options, Coding) for f in fields(cls)} | {"correct_bias": True}
    if name not in usual:
        meant = OTHER_NAMES.get(name, name)
        near = [n for n in usual if n.lower() == meant.lower()] or get_close_matches(name, usual, n=1, cutoff=0.75)
        raise UsageError(f"there is no option '{name}'" + (f"; did you mean '{near[0]}'?" if near else ""))
    if value is None or (name == "silent" and value == AUTO):
        return
    kind, words = next(((k, w) for t, k, w in KINDS if isinstance(usual[name], t)), (object, ""))
    if not isinstance(value, kind) or (isinstance(value, bool) and words in (WHOLE, NUMBER)):
        raise UsageError(f"{name} takes {words}{f' or {AUTO!r}' if name == 'silent' else ''}, not {value!r}")


def check_coding(coding: Coding) -> None:
    """Raise `UsageError` where a value of the coding is out of its range."""
    if not 1 <= coding.beta <= limits.BETA:
        raise UsageError(f"beta must be from 1 (rate coding) to {limits.BETA:g}, not {coding.beta}; 1.5 to 4 are usual")
    most = limits.STEPS_OF_EQUAL_WEIGHT if coding.beta == 1 else limits.STEPS
    if not 1 <= coding.T <= most:
        raise UsageError(f"T must be a whole number from 1 to {most}, not {coding.T}; 4 to 16 are usual")
    if not coding.is_possible:
        most = max(T for T in range(1, limits.STEPS) if replace(coding, T=T).levels < FINEST)
        needs = f"bursts and negative spikes, and a T of at most {most}, not {coding.T}"
        raise UsageError(f"a beta above {SINGLE:g}, such as {coding.beta:g}, needs {needs}")
    if coding.linear and coding.silent != coding.T:
        raise UsageError(f"where time is the value a layer waits for all T={coding.T} steps; leave --silent out")
    if coding.switched and not coding.negative:
        raise UsageError("temporal switch coding ends a value by a spike of the other sign; leave --no-negative out")
    if not 0 <= coding.silent <= coding.T:
        raise UsageError(f"silent steps must be from 0 to {coding.T} (T), not {coding.silent}; 1 is usual")
