"""The pipeline: what happens to a network, in order.

load -> canonicalise -> fuse BatchNormalization -> find regions -> calibrate -> choose amplitudes
     -> insert neurons -> rescale -> (bias on the first step) -> snap weights
     -> (choose silence) -> (adjust amplitudes) -> (correct biases) -> merge silence -> lower
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import onnx

from csscc.dialect.adapter import export_model
from csscc.dialect.network import Network
from csscc.dialect.sizes import Shapes, Sizes, after_batch, checked
from csscc.dialect.verifier import verify_spiking
from csscc.errors import PassError, RefusedModelError
from csscc.io.data import Source
from csscc.io.files import made_folder, save_model
from csscc.io.weights import without_weights
from csscc.options import Options
from csscc.passes.base import Callback, Pass, Passes, Repeat, run_passes
from csscc.passes.canonical.activations_as_floats import ActivationsAsFloats
from csscc.passes.canonical.attention_as_products import AttentionAsProducts
from csscc.passes.canonical.batch_first import BatchFirst
from csscc.passes.canonical.broadcast_constants import BroadcastConstants
from csscc.passes.canonical.carry_known import CarryKnown
from csscc.passes.canonical.constants_out_of_concat import ConstantsOutOfConcat
from csscc.passes.canonical.einsum_to_matmul import EinsumToMatMul
from csscc.passes.canonical.fold_constants import FoldConstants
from csscc.passes.canonical.fold_quantised import FoldQuantised
from csscc.passes.canonical.free_batch import FreeBatch
from csscc.passes.canonical.fuse_batchnorm import FuseBatchNorm
from csscc.passes.canonical.fuse_quantisers import FuseQuantisers
from csscc.passes.canonical.fuse_relu_maxpool import FuseReluMaxPool
from csscc.passes.canonical.gather_elements_as_gather import GatherElementsAsGather
from csscc.passes.canonical.gather_nd_as_gather import GatherNDAsGather
from csscc.passes.canonical.known_factors import KnownFactors
from csscc.passes.canonical.known_sizes import KnownSizes
from csscc.passes.canonical.load import load
from csscc.passes.canonical.masks_as_sums import MasksAsSums
from csscc.passes.canonical.merge_attention import MergeAttention
from csscc.passes.canonical.merge_softmax import MergeSoftmax
from csscc.passes.canonical.pad_with_zeros import PadWithZeros
from csscc.passes.canonical.pool_before_concat import PoolBeforeConcat
from csscc.passes.canonical.recognise_activations import RecogniseActivations
from csscc.passes.canonical.recognise_normalizations import RecogniseNormalizations
from csscc.passes.canonical.recognise_quantisers import RecogniseQuantisers
from csscc.passes.canonical.remove_identities import RemoveIdentities
from csscc.passes.canonical.repeated_constants import RepeatedConstants
from csscc.passes.canonical.rotary_as_products import RotaryAsProducts
from csscc.passes.canonical.simplify_operands import SimplifyOperands
from csscc.passes.convert.adjust_amplitudes import AdjustAmplitudes
from csscc.passes.convert.averages_as_sums import AveragesAsSums
from csscc.passes.convert.bias_on_first_step import BiasOnFirstStep
from csscc.passes.convert.calibrate import Calibrate
from csscc.passes.convert.choose_amplitudes import ChooseAmplitudes
from csscc.passes.convert.choose_bursts import ChooseBursts
from csscc.passes.convert.choose_silence import ChooseSilence
from csscc.passes.convert.constants_after_layers import ConstantsAfterLayers
from csscc.passes.convert.correct_bias import CorrectBias
from csscc.passes.convert.equalise import Equalise
from csscc.passes.convert.find_regions import FindRegions
from csscc.passes.convert.fine_weights import FineWeights
from csscc.passes.convert.insert_neurons import InsertNeurons
from csscc.passes.convert.integer_weights import IntegerWeights
from csscc.passes.convert.known_amplitudes import SettleCoding
from csscc.passes.convert.leave_analog import LeaveAnalog
from csscc.passes.convert.rescale import Rescale
from csscc.passes.convert.set_amplitudes import SetAmplitudes
from csscc.passes.convert.snap_weights import SnapWeights
from csscc.passes.convert.spikes_between_layers import SpikesBetweenLayers
from csscc.passes.convert.split_inputs import SplitInputs
from csscc.passes.linear import LINEAR, WEIGHTED
from csscc.passes.lower.lower import Lower
from csscc.passes.lower.merge_silence import MergeSilence
from csscc.passes.lower.targets import merges

Progress = Callable[[str, int, int | None], None]  # a stage, what is newly done in it, how much there is
ADJUST_ROUNDS = 4
DUMPED = r"\d{2,}-[\w-]+\.onnx(\.\w+\.data)?"  # what the network after a pass is called, see `Checked`
SHOWN = 3  # nodes that are named as examples
T = TypeVar("T")


def canonical_passes() -> tuple[Pass, ...]:
    """From any exporter's graph to few kinds of nodes: no constants to compute, the batch stated nowhere."""
    return (
        FoldConstants(),
        FoldQuantised(),
        ActivationsAsFloats(),
        KnownSizes(),
        FoldConstants(),
        RemoveIdentities(),
        MergeSoftmax(),
        AttentionAsProducts(),
        RotaryAsProducts(),
        EinsumToMatMul(),
        GatherNDAsGather(),
        RepeatedConstants(),
        GatherElementsAsGather(),
        BatchFirst(),
        BroadcastConstants(),
        ConstantsOutOfConcat(),
        PadWithZeros(),
        FreeBatch(),
        FoldConstants(),
        FuseBatchNorm(),
        MasksAsSums(),
        RecogniseQuantisers(),
        RecogniseNormalizations(),
        RecogniseActivations(),
        SimplifyOperands(),
        PoolBeforeConcat(),
        FuseReluMaxPool(),
        FuseQuantisers(),
        KnownFactors(),
        MergeAttention(),
        ConstantsAfterLayers(),
        AveragesAsSums(),
        SpikesBetweenLayers(),
        CarryKnown(),
    )


def conversion_passes(options: Options) -> tuple[Pass, ...]:
    """From an ANN with amplitudes to a spiking network."""
    bias = BiasOnFirstStep(neurons=options.bias_on_first_step)
    return (InsertNeurons(), Rescale(), bias, IntegerWeights(), FineWeights(), SnapWeights())


def pipeline(options: Options, source: Source, progress: Progress | None = None) -> Passes:
    """All passes of a compilation, after `load`."""
    return (*calibration_passes(options, source, progress), *spiking_passes(options, source, progress))


def calibration_passes(options: Options, source: Source, progress: Progress | None = None) -> tuple[Pass, ...]:
    """The part that knows nothing of the coding: done once, it serves any T, beta and silent period."""
    return (
        *canonical_passes(),
        *((Equalise(),) if options.equalise else ()),
        FindRegions(),
        Calibrate(
            source,
            per_channel=options.per_channel,
            hold_out=options.method == "auto" and not source.synthetic,
            progress=_named(progress, "calibrating"),
        ),
    )


def spiking_passes(options: Options, source: Source, progress: Progress | None = None) -> Passes:
    """From a calibrated ANN to a spiking network.

    Synthetic inputs show little of an activation's tail, nothing of means: without data, amplitudes cover the largest
    activation seen, and biases stay as they are. Residuals they do show: where spikes come too late, or do not reach
    far enough, they mostly do so for any input.
    """
    convert = conversion_passes(options)
    if source.synthetic:
        options = options.with_(method="max", correct_bias=False)
    improve: tuple[Pass | Repeat, ...] = ()
    if options.choose_silence:
        improve += (Repeat(ChooseSilence(source, progress=_named(progress, "choosing silent steps")), convert, 1),)
    if options.adjust:
        advance = _named(progress, "adjusting amplitudes")
        percentile, rms = options.residual_percentile, options.residual_rms
        adjust = AdjustAmplitudes(source, percentile=percentile, rms=rms, progress=advance)
        improve += (Repeat(adjust, convert, ADJUST_ROUNDS),)
    if options.correct_bias is not False:
        advance = _named(progress, "correcting biases")
        improve += (CorrectBias(source, if_it_helps=options.correct_bias is None, progress=advance),)
    amplitudes: Pass = SetAmplitudes(options.method, options.percentile)
    if options.method == "auto":
        amplitudes = ChooseAmplitudes(source)
    begin = (SettleCoding(options.stated), ChooseBursts(), amplitudes, SplitInputs("split" in options.stated))
    analog = (LeaveAnalog(options.analog),) if options.analog else ()
    return (*begin, *analog, *convert, *improve, *lowering_passes(options))


def lowering_passes(options: Options) -> tuple[Pass, ...]:
    """From a time-folded spiking network to the file that is written and run."""
    settings = {k: v for k, v in asdict(options).items() if k not in ("coding", "stated")}
    merge = (MergeSilence(),) if merges(options.form) else ()
    return (*merge, Lower(options.form, settings))


def _named(progress: Progress | None, stage: str) -> Callable[[int, int | None], None] | None:
    return None if progress is None else lambda done, total: progress(stage, done, total)


def _light(network: Network) -> onnx.ModelProto:
    """What a pass left, without the values of large weights."""
    return export_model(network, weights=False) if network.file is None else without_weights(network.file)[0]


class Checked:
    """What runs after every pass: ONNX's checker, shape inference, the spiking verifier, and the dump.

    A pass that changed nothing leaves nothing to check, but for the first one: what it was given is checked as well.
    """

    def __init__(self, dump: Path | None = None, then: Callback | None = None) -> None:
        self._dump, self._then, self._count = dump, then, 0

    def __call__(self, p: Pass, network: Network, changed: int) -> None:
        """Check the network; write it where dumps go.

        Raises:
            PassError: the graph is not valid ONNX or breaks a rule of spiking graphs.
        """
        if changed or not self._count:
            _check(network)
        if self._dump is not None:
            folder = made_folder(self._dump)
            save_model(network.file or export_model(network), folder / f"{self._count:02d}-{p.name}.onnx")
        self._count += 1
        if self._then is not None:
            self._then(p, network, changed)


def _check(network: Network) -> None:
    try:
        onnx.checker.check_model(_light(network), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise PassError(f"left an invalid graph: {error}") from error
    verify_spiking(network, LINEAR, WEIGHTED)


def run_pipeline(
    network: Network, passes: Passes, *, dump: Path | None = None, then: Callback | None = None
) -> Network:
    """Run `passes` on `network` with all checks."""
    return run_passes(passes, network, Checked(dump, then))


def canonical(model: str | Path | onnx.ModelProto, shapes: Sizes | None = None) -> Network:
    """The network of a model after the canonical passes: what `csscc inspect` looks at; `shapes` fix its inputs'."""
    return run_pipeline(load(model, shapes), canonical_passes())


def with_sizes(model: str | Path | onnx.ModelProto, shapes: Shapes, run: Callable[[Network], T]) -> tuple[Network, T]:
    """Load a model, and `run` passes on it: with the sizes free that it leaves free, else fixed to those of `shapes`.

    Raises:
        UsageError: the model's inputs do not take these shapes.
        RefusedError: the model cannot be used in either way.
    """
    network = load(model)
    given = checked(shapes, network.graph.inputs)
    network.sizes = after_batch(given, network.graph.inputs)
    try:
        return network, run(network)
    except RefusedModelError as refusal:
        if not given:
            raise
        network = load(model, given)
        names = ", ".join(f"{o.op} '{o.node}'" for o in refusal.offenders[:SHOWN])
        text = f"sizes fixed to those given, since nodes depend on them ({names}, {len(refusal.offenders)} in all)"
        network.report("load", "inputs", text)
        return network, run(network)
