"""Why a spiking network differs from its ANN: where it goes wrong first, for which reason, and what to change.

`csscc.measure.layers` measures what each layer adds to the error, `csscc.measure.causes` says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from csscc.dialect.adapter import export_model
from csscc.dialect.metadata import Facts
from csscc.dialect.metadata import read as read_facts
from csscc.dialect.model import copy_of, with_outputs
from csscc.errors import RefusedError
from csscc.io.data import ImageOptions, open_source
from csscc.measure.agreement import Agreement
from csscc.measure.causes import judged, sentences
from csscc.measure.layers import Cause, LayerDiagnosis, LayerSums, layers_of_both
from csscc.passes.canonical.load import read_model
from csscc.passes.convert.samples import BATCH_BYTES
from csscc.passes.lower.targets import by_layer
from csscc.pipeline import canonical
from csscc.runtime.session import Session

BATCH = 16


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
    source_network = canonical(ann, facts.fixed)
    reference = export_model(source_network)
    outputs = [o.name for o in model.graph.output]
    pairs = layers_of_both(model, reference, outputs)
    spiking = Session(with_outputs(model, [t for p in pairs for t in (p.spikes, p.residual) if t]))
    plain = Session(with_outputs(reference, [p.activation for p in pairs]))
    source = open_source(data, spiking.specs, images=images, limit=limit)
    sums = [LayerSums(p) for p in pairs]
    compared = Agreement()
    fixed = spiking.fixed_batch
    for feeds in source.batches(fixed or _batch(facts)):
        size = len(next(iter(feeds.values())))
        if fixed is not None and size < fixed:
            continue
        expected, got = plain.run(feeds), spiking.run(feeds)
        for layer in sums:
            layer.add(expected, got)
        compared.add({n: expected[n] for n in outputs}, got, size)
        if progress is not None:
            progress(compared.samples, source.size)
    if not compared.samples:
        raise RefusedError(f"the networks take {fixed} samples at a time; give at least as many")
    layers = judged([layer.result() for layer in sums])
    same = facts.source.get("sha256") == source_network.origin["sha256"]
    first = next((layer for layer in layers if layer.cause), None)
    return Diagnosis(
        samples=compared.samples,
        agreement=compared.agreement,
        output_error=compared.output_error,
        same_source=same,
        layers=layers,
        first=first.name if first is not None else None,
        cause=first.cause if first is not None else "",
        sentences=sentences(compared, layers, facts, same),
    )


def _batch(facts: Facts) -> int:
    """Samples at a time, so that spikes, residuals and activations of all layers fit in memory."""
    per_sample = 4 * sum(layer.neurons for layer in facts.layers) * (facts.coding.T + 6)
    return max(1, min(BATCH, BATCH_BYTES // max(per_sample, 1)))
