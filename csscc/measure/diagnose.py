"""Why a spiking network differs from its ANN: where it goes wrong first, for which reason, and what to change.

`csscc.measure.layers` measures what each layer adds to the error, `csscc.measure.causes` finds why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from csscc.dialect.metadata import Facts
from csscc.errors import RefusedError
from csscc.io.data import ImageOptions, open_source
from csscc.measure.agreement import Agreement
from csscc.measure.both import BothNetworks
from csscc.measure.causes import judged, sentences
from csscc.measure.layers import Cause, LayerDiagnosis, LayerSums
from csscc.measure.opened import SpikingFile
from csscc.measure.plots import bars
from csscc.passes.convert.samples import BATCH_BYTES
from csscc.tables import Tabular

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BATCH = 16


@dataclass(frozen=True)
class Diagnosis(Tabular):
    """What is wrong, where first, and what to change.

    Attributes:
        samples: samples seen.
        agreement: how often both networks name the same class, percent; None without classes.
        output_error: RMS of SNN minus ANN relative to the ANN's, by output.
        same_source: whether the SNN was made from this very ANN file.
        layers: in order.
        first: the first layer that goes wrong, None if none does.
        cause: of `first`.
        sentences: the result in words.
        faults: why an output could not be compared, one text for each.
    """

    samples: int
    agreement: float | None
    output_error: dict[str, float]
    same_source: bool
    layers: tuple[LayerDiagnosis, ...]
    first: str | None
    cause: Cause
    sentences: tuple[str, ...]
    faults: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """The first of the sentences."""
        return self.sentences[0]

    def rows(self) -> list[dict[str, Any]]:
        """The layers, without what each step sent."""
        return [{k: v for k, v in asdict(layer).items() if not k.endswith("_by_step")} for layer in self.layers]

    def plot(self, axes: Axes | None = None) -> Axes:
        """What each layer adds to the mean squared error, by cause, as bars in matplotlib; a figure without `axes`."""
        causes = ("range", "timing", "rounding")
        parts = {cause: [100 * getattr(layer, cause) ** 2 for layer in self.layers] for cause in causes}
        return bars([layer.name for layer in self.layers], parts, "squared error, % of the signal's square", axes)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def diagnose(
    ann: str | Path | onnx.ModelProto,
    snn: SpikingFile,
    data: Any,
    *,
    images: ImageOptions | None = None,
    limit: int | None = 64,
    both: BothNetworks | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Diagnosis:
    """Run both networks on `data` and compare them layer by layer.

    Outputs are those of the file as it is, see `csscc.measure.both`.

    Args:
        ann: the source network.
        snn: the spiking network made from it, or its file.
        data: samples.
        images: how image files become inputs.
        limit: use at most so many samples.
        both: the two networks, where they are open already.
        progress: called with the samples done and their total, where it is known.

    Raises:
        RefusedError: a file or the data cannot be used, or the networks do not belong together.
    """
    networks = both or BothNetworks(ann, snn)
    source = open_source(data, networks.specs, images=images, limit=limit)
    sums = [LayerSums(p) for p in networks.pairs]
    compared, ranges = Agreement(counts=networks.counts), networks.ranges()
    fixed = networks.fixed_batch
    for feeds in source.batches(fixed or _batch(networks.facts)):
        size = len(next(iter(feeds.values())))
        if fixed is not None and size < fixed:
            continue
        expected, got = networks.run(feeds)
        ranges.add(feeds)
        for layer in sums:
            layer.add(expected, got)
        compared.add({n: expected[n] for n in networks.outputs}, got, size)
        if progress is not None:
            progress(compared.samples, source.size)
    if not compared.samples:
        raise RefusedError(f"the networks take {fixed} samples at a time; give at least as many with --data")
    return _diagnosis(compared, judged([layer.result() for layer in sums]), networks, ranges.warnings)


def _diagnosis(
    compared: Agreement, layers: tuple[LayerDiagnosis, ...], networks: BothNetworks, of_inputs: tuple[str, ...]
) -> Diagnosis:
    first = next((layer for layer in layers if layer.cause), None)
    return Diagnosis(
        samples=compared.samples,
        agreement=compared.agreement,
        output_error=compared.output_error,
        same_source=networks.same_source,
        layers=layers,
        first=first.name if first is not None else None,
        cause=first.cause if first is not None else "",
        sentences=sentences(compared, layers, networks.facts, networks.same_source, of_inputs),
        faults=compared.faults,
    )


def _batch(facts: Facts) -> int:
    """Samples at a time, so that spikes, residuals and activations of all layers fit in memory."""
    per_sample = 4 * sum(layer.neurons for layer in facts.layers) * (facts.coding.T + 6)
    return max(1, min(BATCH, BATCH_BYTES // max(per_sample, 1)))
