"""The Python interface: calibrate and compile a model."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from csscc.coding.coding import Coding
from csscc.dialect import metadata
from csscc.dialect.network import Network
from csscc.dialect.sizes import Shapes, ask_for, is_free
from csscc.errors import RefusedError, UsageError
from csscc.io.data import ImageOptions, InputSpec, Source, open_source
from csscc.measure.comparison import SAMPLES, Comparison, compare
from csscc.measure.inputs import input_warnings
from csscc.options import Options, make_options
from csscc.passes.base import Pass
from csscc.passes.convert.find_regions import FindRegions
from csscc.pipeline import (
    Progress,
    calibration_passes,
    canonical_passes,
    pipeline,
    run_pipeline,
    spiking_passes,
    with_sizes,
)
from csscc.snn import SNN, Report
from csscc.tables import number_of

FEW = 8  # calibration samples, below which compile warns
RESOLVED = 2.0**24  # whole numbers that float32 has
OF_CALIBRATION = ("equalise", "per_channel", "calibration_samples", "seed")  # options that a calibration fixes


@dataclass(frozen=True)
class Calibrated:
    """An ANN that is calibrated: `compile` takes it in place of a model, any number of times.

    Attributes:
        network: after the passes that know nothing of the coding.
        source: the calibration data; adjusting amplitudes runs on it.
        options: what the calibration was asked for.
        warnings: what the user should know of the data.
    """

    network: Network
    source: Source
    options: Options
    warnings: tuple[str, ...] = ()

    def copy_for(self, options: Options) -> Network:
        """A copy of the network, to be made spiking.

        Raises:
            UsageError: `options` ask for another calibration.
        """
        changed = [name for name in OF_CALIBRATION if getattr(options, name) != getattr(self.options, name)]
        if changed:
            raise UsageError(f"the network was calibrated with another {', '.join(changed)}; calibrate it again")
        return replace(
            self.network,
            graph=self.network.graph.copy(),
            metadata=dict(self.network.metadata),
            amplitudes=dict(self.network.amplitudes),
            silent=dict(self.network.silent),
            trains=dict(self.network.trains),
            events=list(self.network.events),
        )


def calibrate(
    model: str | Path | onnx.ModelProto,
    calibration: Any = None,
    *,
    preset: str = "default",
    images: ImageOptions | None = None,
    input_shape: Shapes | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Calibrated:
    """The part of `compile` that all codings share, done once; arguments and errors are those of `compile`."""
    chosen = make_options(preset, **options)

    def run(network: Network) -> Source:
        source = calibration_source(network, calibration, chosen, images)
        run_pipeline(network, calibration_passes(chosen, source, progress))
        return source

    network, source = with_sizes(model, input_shape or {}, run)
    return Calibrated(network, source, chosen, input_warnings(network, source))


def compile(
    model: str | Path | onnx.ModelProto | Calibrated,
    calibration: Any = None,
    *,
    preset: str = "default",
    coding: str = "css",
    images: ImageOptions | None = None,
    input_shape: Shapes | None = None,
    dump_ir: str | Path | None = None,
    check_samples: int = SAMPLES,
    progress: Progress | None = None,
    **options: Any,
) -> SNN:
    """Compile a trained ANN into a spiking network.

    Args:
        model: an ONNX file or model, or one that `calibrate` has seen, which brings its calibration along.
        calibration: sample inputs: an array, a dictionary of arrays, an iterable of them, or what the command line
            takes (.npy, .npz, a folder of images, ``file.py:function``). Without it, amplitudes come from synthetic
            inputs, and the report warns.
        preset: ``default``, the best that was measured, or ``paper``, the paper's method to the letter.
        coding: ``css``, or for comparison another of `csscc.options.CODINGS`.
        images: how image files become inputs.
        input_shape: shapes of inputs by name, where the model leaves sizes free: without data, it is calibrated with
            them. The spiking network leaves the sizes free too, unless nodes of the core depend on them.
        dump_ir: a folder to which the network is written after every pass.
        check_samples: run the result and the ANN on so many calibration samples, and warn where they are far apart;
            a network that `calibrate` has seen is not compared.
        progress: called with the stage, the samples or layers newly done in it, and how many there are, if known.
        **options: fields of `csscc.options.Options` and of `csscc.coding.coding.Coding`, such as ``T=6, silent=1``.

    Raises:
        UsageError: an option has a value that cannot be used.
        RefusedError: the model or the data cannot be used; `RefusedModelError` lists every node in the way.
    """
    chosen = make_options(preset, coding, **options)
    clock = _Clock()
    dump = Path(dump_ir) if dump_ir is not None else None

    def run(network: Network) -> Source:
        source = calibration_source(network, calibration, chosen, images)
        network.coding = chosen.coding
        run_pipeline(network, pipeline(chosen, source, progress), dump=dump, then=clock)
        return source

    if isinstance(model, Calibrated):
        if calibration is not None or input_shape is not None:
            raise UsageError("the network is calibrated already; give the model itself to calibrate it with other data")
        network, source = model.copy_for(chosen), model.source
        network.coding = chosen.coding
        run_pipeline(network, spiking_passes(chosen, source, progress), dump=dump, then=clock)
    else:
        network, source = with_sizes(model, input_shape or {}, run)
    assert network.file is not None
    comparison, looks = _looked_at(model, network, source, check_samples, clock)
    facts = metadata.read({p.key: p.value for p in network.file.metadata_props})
    warnings = (*_of_coding(network.coding), *_of_data(network, source, facts), *looks, *comparison.warnings)
    return SNN(network.file, facts, Report(tuple(network.events), clock.seconds, clock.changed, comparison, warnings))


def _looked_at(
    model: str | Path | onnx.ModelProto | Calibrated, network: Network, source: Source, samples: int, clock: _Clock
) -> tuple[Comparison, tuple[str, ...]]:
    """How far the result is from the ANN, and what its inputs look like; a calibrated network's were looked at."""
    if isinstance(model, Calibrated):
        return Comparison(), model.warnings
    assert network.file is not None
    looks = input_warnings(network, source)
    clock.stop("look at inputs")
    comparison = compare(model, network.file, network, source, samples)
    clock.stop("compare")
    return comparison, looks


def input_specs(model_inputs: Any) -> tuple[InputSpec, ...]:
    """What a graph's inputs take; the first dimension is free."""
    return tuple(
        InputSpec(t.name, (None, *t.shape[1:]) if t.shape else (), np.dtype(t.dtype or np.float32).name)
        for t in model_inputs
    )


def calibration_source(
    network: Network, calibration: Any, options: Options, images: ImageOptions | None = None
) -> Source:
    """The calibration data, or synthetic inputs where there is none. `Network.sizes` become those of the data.

    Raises:
        RefusedError: the data cannot be used, or there is none and sizes of inputs are not known.
    """
    specs = input_specs(network.graph.inputs)
    if calibration is not None:
        source = open_source(calibration, specs, images=images, limit=options.calibration_samples)
        if any(is_free(spec.shape) for spec in specs):
            sample = next(source.first(1).batches(1))
            network.sizes = {spec.name: sample[spec.name].shape for spec in specs if is_free(spec.shape)}
        return source
    asked = ask_for(network.graph.inputs, network.sizes)
    if asked:
        run_pipeline(network, (*canonical_passes(), FindRegions()))  # which refuses what no sizes can help
        raise RefusedError(asked)
    from csscc.passes.convert.synthetic import synthetic_source

    return synthetic_source(network, specs, options.seed)


def _of_coding(coding: Coding) -> tuple[str, ...]:
    """A warning where float32 cannot hold what a train sends."""
    if not coding.grows_fast or coding.levels < RESOLVED:
        return ()
    return (
        f"T={coding.T} with beta={coding.beta:g} has {coding.levels:.2g} levels, and float32 resolves {RESOLVED:.2g}: "
        f"the last steps add little; --beta {coding.usual_beta:g} is usual for T={coding.T}",
    )


def _of_data(network: Network, source: Source, facts: metadata.Facts) -> tuple[str, ...]:
    """A warning where amplitudes were observed on few samples, or on synthetic inputs, and which inputs these allow."""
    if network.calibration is None or not network.calibration.histograms:
        return ()
    samples = network.calibration.samples
    if not source.synthetic:
        few = f"only {number_of(samples, 'calibration sample')}: later inputs may exceed the clipping "
        return (few + "ranges, and are cut off; pass a few hundred if you can",) if samples < FEW else ()
    ranges = [layer.clipping_range for layer in facts.layers if layer.kind == "encoder"]
    unknown = not network.statistics and len(ranges) == 1
    cut = f", so inputs beyond {ranges[0]:.2g}, as pixels of 0..255 are, will be cut off" if unknown else ""
    return (
        f"no calibration data: amplitudes come from {facts.calibration}{cut}. Accuracy may suffer; "
        "pass --calibration with a few hundred sample inputs (.npy, .npz, a folder of images, file.py:function)",
    )


class _Clock:
    """Seconds each pass took, its checks included, and the places it changed."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.changed: dict[str, int] = {}
        self._last = time.perf_counter()

    def __call__(self, p: Pass, network: Network, changed: int) -> None:
        self.changed[p.name] = self.changed.get(p.name, 0) + changed
        self.stop(p.name)

    def stop(self, name: str) -> None:
        """What took the time since the last call is called `name`."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now
