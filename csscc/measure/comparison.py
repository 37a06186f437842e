"""A spiking network against the ANN it was compiled from, on a few samples: what compilation changed.

Both are run as they are, the ANN from the user's file and the SNN as emitted, so that no pass vouches for itself. The
samples are those that calibrated the SNN: with a handful of them, on which biases are corrected, the error is too
hopeful.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx

from csscc.coding.coding import Coding
from csscc.dialect.adapter import export_model, sized_shapes
from csscc.dialect.macs import affordable_samples
from csscc.dialect.network import Network
from csscc.errors import RefusedError
from csscc.io.data import Source
from csscc.io.weights import fits
from csscc.measure.agreement import Agreement
from csscc.measure.counts import counting_outputs
from csscc.passes.canonical.load import load
from csscc.passes.lower.kernels import open_session
from csscc.runtime.session import Session
from csscc.tables import number_of

SAMPLES = 16
BUDGET = 1e11  # multiply-accumulates of the spiking network
LIMIT = 0.05  # of an output's RMS


@dataclass(frozen=True)
class Comparison:
    """How far the outputs of SNN and ANN are apart.

    Attributes:
        samples: compared; 0 if none were.
        errors: RMS of the difference relative to the ANN's RMS, of each output; of labels, the share that differs.
        left_out: outputs that were not compared, since they are no arrays.
        labelling: outputs that are labels.
        faults: why an output could not be compared, one text for each.
        synthetic: whether the samples were synthetic inputs, for want of data.
        coding: of the spiking network, where it is known.
    """

    samples: int = 0
    errors: Mapping[str, float] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    labelling: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    synthetic: bool = False
    coding: Coding | None = None

    @staticmethod
    def of(agreement: Agreement, coding: Coding, *, synthetic: bool = False) -> Comparison:
        """What was compared."""
        return Comparison(
            agreement.samples,
            agreement.output_error,
            tuple(sorted(agreement.left_out)),
            agreement.labelling,
            agreement.faults,
            synthetic,
            coding,
        )

    @property
    def compared(self) -> str:
        """On what: the number of samples, and which they are."""
        return number_of(self.samples, "synthetic input" if self.synthetic else "calibration sample")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know: one text for each output that is far from the ANN's, or was not compared."""
        unknown = (f"output '{name}' is not compared: it cannot be an array" for name in self.left_out)
        return (*unknown, *self.faults, *far_outputs(self.errors, self.labelling, self.compared, self.coding))


def far_outputs(
    errors: Mapping[str, float], labelling: Collection[str], compared: str, coding: Coding | None
) -> tuple[str, ...]:
    """A warning for each output that is far from the ANN's.

    Args:
        errors: of each output, see `Comparison`.
        labelling: outputs that are labels.
        compared: on what.
        coding: of the spiking network, where it is known.
    """
    advice = "csscc diagnose names the layer that goes wrong first, and what to change: often more steps (--T)"
    if coding is not None and coding.grows_fast:
        advice = f"A smaller --beta helps: {coding.usual_beta:g} is usual for T={coding.T} and --silent {coding.silent}"
    found = []
    for name, error in errors.items():
        if math.isfinite(error) and error > LIMIT:
            how = f"by {100 * error:.3g} % (RMS, {compared})"
            if name in labelling:
                how = f"in {100 * error:.3g} % of its labels ({compared})"
            found.append(f"output '{name}' differs from the ANN's {how}. {advice}")
    return tuple(found)


def compare(
    ann: str | Path | onnx.ModelProto, snn: onnx.ModelProto, network: Network, source: Source, samples: int
) -> Comparison:
    """Run both on up to `samples` samples of `source`, fewer where the spiking network is large.

    Each sample is run by itself, or as many together as a network insists on: outputs need no batch axis.

    Args:
        ann: the source network.
        snn: the spiking network; one that does not fit into a message is not compared, for want of memory.
        network: what the spiking network was made of; its multiply-accumulates are counted.
        source: sample inputs.
        samples: at most so many.
    """
    if samples == 0 or not fits(snn):
        return Comparison()
    plain, spiking = source_session(ann), open_session(snn, native=False)  # stock operators: the file as anyone runs it
    at_once = max(plain.fixed_batch or 1, spiking.fixed_batch or 1)
    T, shapes = network.coding.T, sized_shapes(replace(network, graph=network.ann or network.graph))
    number = max(at_once, affordable_samples(network.ann, T, samples, BUDGET, fewest=1, shapes=shapes))
    agreement = Agreement(counts=counting_outputs(snn))
    for feeds in source.first(number).batches(at_once):
        if len(next(iter(feeds.values()))) == at_once:
            agreement.add(plain.run(feeds), spiking.run(feeds), at_once)
    return Comparison.of(agreement, network.coding, synthetic=source.synthetic)


def source_session(model: str | Path | onnx.ModelProto) -> Session:
    """The ANN as it is, or with its opset raised where it is too old for onnxruntime."""
    try:
        return Session(model)
    except RefusedError:
        return Session(export_model(load(model)))
