"""An ANN and the spiking network made of it, side by side: every layer's activations, spikes and residuals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from csscc.dialect.adapter import export_model
from csscc.dialect.model import copy_of, with_outputs
from csscc.io.batches import Arrays
from csscc.measure.counts import counting_outputs
from csscc.measure.difference import refuse_unequal, tolerance
from csscc.measure.input_range import InputRange
from csscc.measure.layers import layers_of_both
from csscc.measure.opened import SpikingFile, open_after
from csscc.passes.lower.kernels import open_session
from csscc.passes.lower.targets import by_layer
from csscc.pipeline import canonical
from csscc.runtime.session import Session


class BothNetworks:
    """Two networks that run on the same inputs and show what is inside.

    The spiking network's outputs are those of the file as it is, by the functions in it. It is looked into only where
    the functions that also show residuals answer as the file does.

    Args:
        ann: the source network.
        snn: the spiking network made from it.

    Attributes:
        facts: what the spiking network states of itself.
        outputs: names of the outputs.
        counts: those that count, see `csscc.measure.counts`.
        pairs: the layers of both, in order.
        same_source: whether the spiking network was made from this very ANN file.

    Raises:
        RefusedError: a file cannot be used, or the networks do not belong together.
        UsageError: they are in the wrong order.
    """

    def __init__(self, ann: str | Path | onnx.ModelProto, snn: SpikingFile) -> None:
        file, self.facts = open_after(ann, snn)
        model, self.counts = by_layer(copy_of(file)), counting_outputs(file)
        self._model = model
        self._file = open_session(file, native=False)
        source = canonical(ann, self.facts.fixed)
        reference = export_model(source)
        self.same_source = self.facts.source.get("sha256") == source.origin["sha256"]
        self.outputs = [o.name for o in model.graph.output]
        self.pairs = layers_of_both(model, reference, self.outputs)
        known = {i.name for i in reference.graph.input}.union(*(n.output for n in reference.graph.node))
        activations = [p.activation for p in self.pairs]
        self._digits = [name for name in activations if name not in known]  # which only the spiking network makes
        trains = [t for p in self.pairs for t in (p.spikes, p.residual) if t]
        self._spiking = Session(with_outputs(model, [*trains, *self._digits]))
        self._plain = Session(with_outputs(reference, [name for name in activations if name in known]))
        self.specs, self.fixed_batch = self._spiking.specs, self._spiking.fixed_batch

    def ranges(self) -> InputRange:
        """Looks at whether samples are of the range that the spiking network was calibrated for."""
        return InputRange(self._model)

    def run(self, feeds: Arrays) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Tensors of the ANN and of the spiking network by name: outputs, and those that `pairs` name.

        Raises:
            RefusedError: the file answers otherwise than the functions that also show residuals.
        """
        answer, inside = self._file.run(feeds), self._spiking.run(feeds)
        within = tolerance(layer.kind for layer in self.facts.layers)
        refuse_unequal(answer, {name: inside[name] for name in answer}, self.counts, within)
        return self._plain.run(feeds) | {name: inside[name] for name in self._digits}, inside | answer
