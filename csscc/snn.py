"""A spiking network in Python: run it, look into it, save and load it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from csscc.dialect.macs import samples_at_once
from csscc.dialect.metadata import Facts, Layer
from csscc.dialect.network import Event
from csscc.dialect.spiking import neurons, spiking_nodes
from csscc.errors import UsageError
from csscc.io.data import GIVEN, InputSpec, checked
from csscc.io.files import save_model
from csscc.io.items import as_array
from csscc.measure.comparison import Comparison
from csscc.measure.costs import Costs, costs_of
from csscc.measure.opened import open_spiking
from csscc.passes.lower.kernels import means_its_nodes, open_session
from csscc.passes.lower.targets import by_layer
from csscc.runtime.batches import run_in_batches
from csscc.runtime.reference import ReferenceRuntime, Trace
from csscc.runtime.session import Session
from csscc.tables import Tabular, number_of

BATCH = 256
RUNTIMES = ("onnxruntime", "numpy")


@dataclass(frozen=True)
class Report:
    """How a compilation went.

    Attributes:
        events: what the passes report.
        seconds: each pass took, and the comparison.
        changed: places that each pass changed, in all its rounds.
        comparison: with the ANN, on samples that calibrated it.
        warnings: for the user.
    """

    events: tuple[Event, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    changed: Mapping[str, int] = field(default_factory=dict)
    comparison: Comparison = field(default_factory=Comparison)
    warnings: tuple[str, ...] = ()


class SNN(Tabular):
    """A spiking network and what is known of it.

    Attributes:
        file: the network as `save` writes it and `run` runs it, lowered to its target; not to be changed.
        facts: its metadata.
        report: how the compilation went.
    """

    def __init__(self, file: onnx.ModelProto, facts: Facts, report: Report | None = None) -> None:
        self.file = file
        self.facts = facts
        self.report = report or Report()
        self._session: Session | None = None

    def __repr__(self) -> str:
        return f"<{self.headline}>"

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The time-folded network: a node a layer, and tensors that hold all steps, ``[T*B, ...]``."""
        return by_layer(self.file)

    @property
    def latency(self) -> int:
        """Time steps from the first input spike to the answer."""
        return self.facts.latency

    @cached_property
    def costs(self) -> Costs:
        """What one input takes: passes through the weights, time steps."""
        return costs_of(self.file)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Encoders, neurons and readouts, in order."""
        return self.facts.layers

    @property
    def headline(self) -> str:
        """The coding, latency and size."""
        coding, neurons = self.facts.coding, sum(layer.neurons for layer in self.layers if layer.kind != "readout")
        setting = f"T={coding.T} beta={coding.beta:g}, latency {self.latency} time steps"
        found = f"spiking network, {setting}, {neurons:,} neurons, those of encoders included"
        warned = len(self.report.warnings)
        return found + (f"; {number_of(warned, 'warning')} in report.warnings" if warned else "")

    def rows(self) -> list[dict[str, Any]]:
        """The layers."""
        return [asdict(layer) for layer in self.layers]

    @cached_property
    def silent(self) -> tuple[int, ...]:
        """Silent steps of each layer of neurons, in order."""
        return tuple(view.schedule.silent for _, view in neurons(self.model.graph))

    @cached_property
    def bursts(self) -> tuple[str, ...]:
        """Names of the encoders and layers of neurons that send up to two spikes a step, of one sign."""
        return tuple(view.name for _, view in spiking_nodes(self.model.graph) if view.schedule.burst)

    @cached_property
    def trains(self) -> int:
        """How many trains side by side send a value of an input; of several inputs, the most."""
        return max((view.trains for _, view in spiking_nodes(self.model.graph)), default=1)

    @property
    def analog(self) -> tuple[str, ...]:
        """Names of the activations that were left analog."""
        return tuple(self.facts.options.get("analog", ()))

    def run(self, x: Any, *, runtime: str = "onnxruntime") -> Any:
        """Outputs for any number of samples; onnxruntime takes as many at a time as fit into memory.

        Args:
            x: an array for the only input, or a dictionary of arrays by input name.
            runtime: ``onnxruntime`` or ``numpy``.

        Returns:
            The array of the only output, or a dictionary by output name.

        Raises:
            UsageError: there is no such runtime.
            RefusedError: the samples do not fit the network.
        """
        if runtime not in RUNTIMES:
            raise UsageError(f"runtime '{runtime}' is not known; choose one of {', '.join(RUNTIMES)}")
        feeds = self._feeds(x)
        if runtime == "numpy":
            outputs = ReferenceRuntime(self.model).run(feeds)
        else:
            if self._session is None:
                self._session = open_session(self.file, native=means_its_nodes(self.file))
            outputs = run_in_batches(self._session, feeds, self._at_once)
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    @cached_property
    def _at_once(self) -> int:
        return samples_at_once(self.file, self.facts.coding.T, BATCH)

    def trace(self, x: Any, *, dtype: Any = np.float32) -> Trace:
        """Outputs, spike trains, potentials and residuals of every layer, by the NumPy reference."""
        return ReferenceRuntime(self.model, dtype).trace(self._feeds(x))

    def save(self, path: str | Path) -> list[Path]:
        """Write the network to `path`; an existing file is replaced only once the new one is complete.

        Weights of 2 GB and more go to a second file beside it, ``<path>.<digest>.data``, which must stay there.

        Returns:
            The files written.

        Raises:
            RefusedError: the path cannot be written.
        """
        return save_model(self.file, path)

    def _feeds(self, x: Any) -> dict[str, NDArray[Any]]:
        given = x if isinstance(x, Mapping) else {self._specs[0].name: x}
        return checked({str(name): as_array(value) for name, value in given.items()}, self._specs, GIVEN)

    @cached_property
    def _specs(self) -> tuple[InputSpec, ...]:
        """What the inputs take; the batch is free, since samples are run in batches."""
        specs = []
        for value in self.model.graph.input:
            kind = value.type.tensor_type
            sizes = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim[1:]]
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            specs.append(InputSpec(value.name, (None, *sizes), dtype.name))
        return tuple(specs)


def load(path: str | Path) -> SNN:
    """The spiking network in the file at `path`.

    Raises:
        RefusedError: the file is missing, not ONNX, not made by this version of csscc, or contradicts itself.
    """
    return SNN(*open_spiking(path))
