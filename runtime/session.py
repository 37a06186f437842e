"""onnxruntime sessions, made in one place."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from csscc.dialect.model import VERSIONS, other_version
from csscc.errors import RefusedError
from csscc.io.data import InputSpec
from csscc.io.weights import fits, without_weights
from csscc.passes.lower.nchwc import in_blocks, lanes_of_blocks, uses_blocks
from csscc.passes.lower.steps import by_layer, is_in_steps
from csscc.runtime import native as kernels

PROVIDERS = ["CPUExecutionProvider"]

_threads = 0


def set_threads(threads: int) -> None:
    """Threads of the sessions that this process makes from now on without saying how many; 0: onnxruntime's choice.

    For processes that share a machine.
    """
    global _threads
    _threads = threads


class Session:
    """A model in onnxruntime's CPU provider.

    Args:
        model: a file, its bytes, or a model.
        threads: threads within an operator; 0 leaves the choice to `set_threads`, else to onnxruntime.
        optimise: False switches all graph optimisations off.
        native: use the native kernels for the spiking operators, where they are compiled, and with
            optimisations, and weights that fit into one message, let them work in the layout of
            onnxruntime's convolutions.

    Attributes:
        native: the operators of the model that native kernels run.

    Raises:
        RefusedError: onnxruntime cannot load the model.
    """

    def __init__(
        self,
        model: str | Path | bytes | onnx.ModelProto,
        *,
        threads: int = 0,
        optimise: bool = True,
        native: bool = False,
    ) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or _threads
        options.log_severity_level = 4  # failures come back as exceptions
        # Threads that spin on behind a run, for tens of milliseconds, would halve the speed of the next session's run.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if not optimise:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.native: frozenset[str] = frozenset()
        if native:
            model, self.native = _for_kernels(model)
        if self.native:
            options.register_custom_ops_library(kernels.library())
        source: str | bytes
        self._weights: list[Any] = []
        if isinstance(model, onnx.ModelProto):
            source, self._weights = _serialised(model, options)
        else:
            source = model if isinstance(model, bytes) else str(model)
        try:
            if self.native and optimise and not self._weights:
                self._session = _session_in_blocks(source, options, self.native)
            else:
                self._session = ort.InferenceSession(source, options, providers=PROVIDERS)
        except Exception as error:
            raise RefusedError(f"onnxruntime cannot load the model: {_reason(error)}") from error
        self.inputs: list[Any] = self._session.get_inputs()
        self.outputs: list[Any] = self._session.get_outputs()

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs, in the model's order."""
        return [i.name for i in self.inputs]

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in the model's order."""
        return [o.name for o in self.outputs]

    @property
    def fixed_batch(self) -> int | None:
        """The batch size the model insists on, or None if it takes any."""
        first = self.inputs[0].shape[0] if self.inputs and self.inputs[0].shape else None
        return first if isinstance(first, int) else None

    @property
    def metadata(self) -> dict[str, str]:
        """The model's metadata."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """Outputs by name.

        Raises:
            RefusedError: onnxruntime fails on these inputs.
        """
        names = list(outputs) if outputs is not None else self.output_names
        if not names:
            return {}
        try:
            values = self._session.run(names, dict(feeds))
        except Exception as error:
            raise RefusedError(f"onnxruntime cannot run the model on this data: {_reason(error)}") from error
        return dict(zip(names, values, strict=True))

    @property
    def specs(self) -> tuple[InputSpec, ...]:
        """What the inputs take; the first dimension is free."""
        kinds = {"float": "float32", "double": "float64"}
        names = [(i, i.type.removeprefix("tensor(").removesuffix(")")) for i in self.inputs]
        return tuple(InputSpec(i.name, (None, *i.shape[1:]), kinds.get(kind, kind)) for i, kind in names)

    def random_inputs(self, batch: int, seed: int = 0) -> dict[str, NDArray[Any]]:
        """Seeded random inputs of the declared shapes; dimensions that are not fixed become `batch`."""
        rng = np.random.default_rng(seed)
        return {i.name: random_input(i.type, i.shape, batch, rng) for i in self.inputs}


def _serialised(model: onnx.ModelProto, options: Any) -> tuple[bytes, list[Any]]:
    """The model's bytes; weights that do not fit in go to `options`, and are to be kept as long as the session."""
    import onnxruntime as ort

    if fits(model):
        return model.SerializeToString(), []
    light, weights = without_weights(model)
    values = [ort.OrtValue.ortvalue_from_numpy(numpy_helper.to_array(t)) for t in weights.values()]
    options.add_external_initializers(list(weights), values)
    options.add_session_config_entry("session.disable_prepacking", "1")  # which would hold the weights once more
    return light.SerializeToString(), values


def _session_in_blocks(source: str | bytes, options: Any, operators: frozenset[str]) -> Any:
    """A session of what onnxruntime's optimiser makes of the model, with spikes in the layout of its convolutions."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        session = ort.InferenceSession(source, options, providers=PROVIDERS)
        model = onnx.load(path)
    if not uses_blocks(model) or not in_blocks(model, lanes_of_blocks(), operators):
        return session
    options.optimized_model_filepath = ""
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=PROVIDERS)


def random_input(kind: str, shape: Sequence[int | str | None], batch: int, rng: np.random.Generator) -> NDArray[Any]:
    """One seeded random array of an onnxruntime type such as ``tensor(float)``."""
    dims = [d if isinstance(d, int) and d > 0 else batch for d in shape]
    name = kind.removeprefix("tensor(").removesuffix(")")
    dtype = {"float": "float32", "double": "float64", "bool": "bool"}.get(name, name)
    if name in ("float", "double", "float16"):
        return rng.standard_normal(dims).astype(dtype)
    return rng.integers(0, 2, dims).astype(dtype)


def _for_kernels(
    model: str | Path | bytes | onnx.ModelProto,
) -> tuple[str | Path | bytes | onnx.ModelProto, frozenset[str]]:
    """The model's spiking operators that have a native kernel, and the model in which they stand by layer."""
    if isinstance(model, onnx.ModelProto):
        proto = model
    elif isinstance(model, bytes):
        proto = onnx.load_from_string(model)
    else:
        proto = onnx.load(model, load_external_data=False)
    used = set[str]()
    if other_version(proto) is None:
        used = {n.op_type for n in proto.graph.node if n.domain in VERSIONS}
    operators = kernels.operators() & used if used else frozenset[str]()
    if not operators or not is_in_steps(proto):
        return model, operators
    return by_layer(onnx.load(model) if isinstance(model, str | Path) else proto), operators


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
