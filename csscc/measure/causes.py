"""From what the layers do wrong to why, and to what a person should change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from csscc import limits
from csscc.coding.coding import Coding
from csscc.dialect.metadata import Facts
from csscc.measure.agreement import Agreement
from csscc.measure.layers import Cause, LayerDiagnosis
from csscc.tables import number_of, percent

# What the largest part of a layer's own error may be (RMS, share of its signal). Rounding and a few values beyond the
# range are what a calibration weighs against each other; spikes that come too late are never intended.
LIMITS: dict[Cause, float] = {"range": 0.05, "timing": 0.02, "rounding": 0.05}
JUMP_LIMIT = 0.10  # a layer also goes wrong if what it wants to send is off by more than this share of its signal
JUMP_FACTOR = 3.0  # and by more than this many times the error of any layer before it
SHIFT_SHARE = 0.5  # such a jump is a shift if the mean makes up this share of its square
LARGER_RANGES = 1.25  # with more levels, amplitudes cover more of what is rare, and theta falls a little less
FAR_BEYOND = 4.0  # times the range of an encoder: samples on another scale than the calibration's
HEADROOM = 0.25  # amplitudes are too large if the largest value uses less than this share of the range


def judged(layers: Sequence[LayerDiagnosis]) -> tuple[LayerDiagnosis, ...]:
    """The layers with their causes, by the limits at the beginning of this module."""
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
    return "headroom" if cause == "rounding" and layer.peak < HEADROOM else cause


def parts_of(layer: LayerDiagnosis) -> dict[Cause, float]:
    """What a layer's own error consists of."""
    return {"range": layer.range, "timing": layer.timing, "rounding": layer.rounding}


def main_part(layer: LayerDiagnosis) -> Cause:
    """What most of a layer's own error comes from."""
    parts = parts_of(layer)
    return max(parts, key=lambda cause: parts[cause])


def sentences(
    outputs: Agreement, layers: Sequence[LayerDiagnosis], facts: Facts, same: bool, of_inputs: Sequence[str] = ()
) -> tuple[str, ...]:
    """What happened, where it starts, and what to change; `of_inputs` are warnings of samples on another scale."""
    worst = max(outputs.output_error, key=lambda name: outputs.output_error[name])
    samples = number_of(outputs.samples, "sample")
    text = f"On {samples} the outputs differ by {outputs.output_error[worst]:.2%} (RMS of '{worst}')"
    if worst in outputs.labelling:
        text = f"On {samples} {outputs.output_error[worst]:.2%} of the labels differ in '{worst}'"
    if outputs.faults:
        text = f"On {samples} {'; '.join(outputs.faults)}"
    if outputs.agreement is not None:
        text += f", and both networks name the same class for {outputs.agreement:.1f} %"
    text += "." if same else "; the SNN was made from another file than this ANN (its SHA-256 differs)."
    wrong = [i for i, layer in enumerate(layers) if layer.cause]
    if not wrong:
        magnified = worst not in outputs.labelling and not outputs.faults
        return (text, *_nothing_wrong(layers, facts.coding, outputs.output_error[worst] if magnified else 0.0))
    layer = layers[wrong[0]]
    where = f"'{layer.name}', layer {wrong[0] + 1} of {len(layers)},"
    alike = sum(layers[i].cause == layer.cause for i in wrong[1:])
    also = f" {alike} later layer(s) go wrong for the same reason." if alike else ""
    if others := [layers[i] for i in wrong if layers[i].cause != layer.cause]:
        most = max(others, key=lambda other: other.own)
        worst = f"'{most.name}' ({most.own:.1%}, {most.cause})"
        also += f" {len(others)} layer(s) go wrong for another reason, most of all {worst}."
    advice: tuple[str, ...] = (_advice(layer, layers, facts),)
    if of_inputs and layer.cause in ("headroom", "dead"):  # the calibration may be right, for other samples
        advice = tuple(f"Change: {warning}." for warning in of_inputs)
    return (text, f"The first layer that goes wrong is {where} {_reason(layer)}.{also}", *advice)


def _nothing_wrong(layers: Sequence[LayerDiagnosis], coding: Coding, output: float) -> tuple[str, str]:
    """That no layer goes wrong, and what to change all the same; `output` is the error of the worst output."""
    layer, largest = max(layers, key=lambda layer: layer.own), max(layer.error for layer in layers)
    magnified = output > JUMP_FACTOR * largest
    after = f"what follows the last of them magnifies errors of at most {largest:.2%}"
    advice: dict[Cause, str] = {
        "range": "calibration on more samples, or --method max,",
        "timing": _smaller_beta(coding) if coding.grows_fast else f"another silent step (--silent {coding.silent + 1})",
        "rounding": "a larger T",
    }
    return (
        f"No layer goes wrong by itself: the largest own error is {layer.own:.2%} of the signal, in '{layer.name}', "
        f"mostly from {main_part(layer)}; {after if magnified else 'the errors of all layers add up'}.",
        f"If that is too much, {advice[main_part(layer)]} is the first thing to try.",
    )


def _reason(layer: LayerDiagnosis) -> str:
    own = f"which adds an error of {layer.own:.1%} of its signal by itself"
    jump = f"whose target values are {layer.inherited:.1%} off, though the layers before it are right"
    reasons: dict[Cause, str] = {
        "range": f"{own}: {percent(layer.saturated, 2)} of the ANN's values lie beyond the largest it can send, up "
        f"to {layer.peak:.2f} times",
        "timing": f"{own}: |u| > 1 in {percent(layer.over_one, 2)} of its residuals, spikes of its input arrived too "
        "late",
        "rounding": f"{own}: theta, its smallest spike, is too coarse",
        "headroom": f"{own}: the ANN's values use {layer.peak:.1%} of its range, so theta is too coarse",
        "dead": f"{own}: it sends no spike at all; the ANN's values use {layer.peak:.1%} of its range",
        "shift": f"{jump}: their mean is shifted by {layer.wanted_bias:+.1%}",
        "foreign": f"{jump}, and not by a shift of the mean",
    }
    return reasons[layer.cause]


def _smaller_beta(coding: Coding) -> str:
    return f"a smaller beta; --beta {coding.usual_beta:g} is usual for T={coding.T} and --silent {coding.silent}"


def _finer(coding: Coding, coarsest: float) -> str:
    """The options with which theta is `coarsest` times smaller, and a little more: with the usual beta if that does."""
    wanted = coarsest * _reach(coding) * (LARGER_RANGES if coding.beta > 1 else 1.0)
    most = limits.STEPS_OF_EQUAL_WEIGHT if coding.beta == 1 else limits.STEPS
    more = range(coding.T + 1, most + 1)
    usual = (replace(coding, T=T, beta=replace(coding, T=T).usual_beta) for T in more)
    same = (replace(coding, T=T) for T in more)
    by_default, found = (next((c for c in codings if _reach(c) >= wanted), None) for codings in (usual, same))
    if by_default is not None and not coding.linear and coding.beta > 1 and (found is None or by_default.T <= found.T):
        return f"--T {by_default.T}" + (" without --beta" if by_default.beta != coding.beta else "")
    return f"--T {found.T if found is not None else most} --beta {coding.beta:g}"


def _reach(coding: Coding) -> float:
    """How many theta a layer can send."""
    return coding.levels * (2 if coding.sends_bursts else 1)


def _advice(layer: LayerDiagnosis, layers: Sequence[LayerDiagnosis], facts: Facts) -> str:
    coding = facts.coding
    if layer.cause in ("timing", "rounding") and layer.kind != "encoder" and not coding.negative:
        return "Change: allow negative spikes (compile without --no-negative), which take back what was sent too early."
    if layer.cause == "range" and layer.kind == "encoder" and not coding.signed_input:
        return "Change: inputs are negative here, so compile with --signed-input."
    if layer.cause in ("timing", "rounding") and layer.kind != "encoder" and coding.grows_fast:
        return f"Change: {_smaller_beta(coding)}, so that more can be sent of what a layer receives late."
    if layer.cause == "range" and layer.kind == "encoder" and layer.peak > FAR_BEYOND:
        return (
            "Change: prepare these samples as those of the calibration: they reach much farther. If they are right, "
            "calibrate with samples like these."
        )
    coarsest = max(1.0, max(other.rounding for other in layers) / LIMITS["rounding"])
    advice: dict[Cause, str] = {
        "range": "Change: calibrate with more samples like these, or with --method max.",
        "timing": f"Change: --silent {coding.silent + 1}, so that layers receive more of their input before they fire.",
        "rounding": f"Change: a larger T; {_finer(coding, coarsest)} should bring the rounding error of "
        f"every layer below {LIMITS['rounding']:.0%}.",
        "headroom": "Change: the calibration; look for outliers in it, or use --method mse or percentile.",
        "dead": "Change: the calibration; on its samples this layer has larger values than on these.",
        "shift": "Change: compile this ANN again; the biases in the file are not those of the ANN.",
        "foreign": "Change: compile this ANN again; the weights in the file are not those of the ANN, or operators in "
        "front of the layer magnify small errors; against the latter, a larger T helps.",
    }
    return advice[layer.cause]
