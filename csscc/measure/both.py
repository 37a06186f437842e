"""An ANN and the spiking network made of it, side by side: every layer's activations, spikes and residuals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from csscc.dialect.adapter import export_model
from csscc.dialect.metadata import read as read_facts
from csscc.dialect.model import copy_of, with_outputs
from csscc.io.data import Arrays
from csscc.measure.layers import layers_of_both
from csscc.passes.canonical.load import read_model
from csscc.passes.lower.targets import by_layer
from csscc.pipeline import canonical
from csscc.runtime.session import Session


class BothNetworks:
    """Two networks that run on the same inputs and show what is inside.

    Args:
        ann: the source network.
        snn: the spiking network made from it.

    Attributes:
        facts: what the spiking network says of itself.
        outputs: names of the outputs.
        pairs: the layers of both, in order.
        same_source: whether the spiking network was made from this very ANN file.

    Raises:
        RefusedError: a file cannot be used, or the networks do not belong together.
    """

    def __init__(self, ann: str | Path | onnx.ModelProto, snn: str | Path | onnx.ModelProto) -> None:
        model = by_layer(copy_of(snn) if isinstance(snn, onnx.ModelProto) else read_model(snn))
        where = str(snn) if isinstance(snn, str | Path) else "the model"
        self.facts = read_facts({p.key: p.value for p in model.metadata_props}, where)
        source = canonical(ann, self.facts.fixed)
        reference = export_model(source)
        self.same_source = self.facts.source.get("sha256") == source.origin["sha256"]
        self.outputs = [o.name for o in model.graph.output]
        self.pairs = layers_of_both(model, reference, self.outputs)
        self._spiking = Session(with_outputs(model, [t for p in self.pairs for t in (p.spikes, p.residual) if t]))
        self._plain = Session(with_outputs(reference, [p.activation for p in self.pairs]))
        self.specs, self.fixed_batch = self._spiking.specs, self._spiking.fixed_batch

    def run(self, feeds: Arrays) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Tensors of the ANN and of the spiking network by name: outputs, and those that `pairs` name."""
        return self._plain.run(feeds), self._spiking.run(feeds)
