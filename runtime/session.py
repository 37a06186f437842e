"""onnxruntime sessions, made in one place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from csscc.dialect.sizes import Sizes
from csscc.dialect.sizes import read as read_sizes
from csscc.dialect.spiking import spiking_nodes
from csscc.errors import RefusedError
from csscc.io.arrays import refuse_to_make_up
from csscc.io.data import InputSpec
from csscc.io.files import temporary_folder
from csscc.io.weights import fits, without_weights
from csscc.runtime import native

PROVIDERS = ["CPUExecutionProvider"]
LONGEST = 400  # characters of a message of onnxruntime that are shown: it may list every node of a function

_threads = 0


def set_threads(threads: int) -> None:
    """Threads of the sessions that this process makes from now on without stating how many; 0: onnxruntime's choice.

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
        kernels: operators of the model that native kernels run, see `csscc.runtime.native`.
        rewrite: changes what onnxruntime's optimiser made of the model, in place, and shows whether it did.

    Raises:
        RefusedError: onnxruntime cannot load the model.
    """

    def __init__(
        self,
        model: str | Path | bytes | onnx.ModelProto,
        *,
        threads: int = 0,
        optimise: bool = True,
        kernels: frozenset[str] = frozenset(),
        rewrite: Callable[[onnx.ModelProto], bool] | None = None,
    ) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or _threads
        options.log_severity_level = 4  # failures come back as exceptions
        # Threads that spin on after a run, for tens of milliseconds, would halve the speed of the next session's run.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if not optimise:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.native = kernels
        if kernels:
            options.register_custom_ops_library(native.library())
        source: str | bytes
        self._weights: list[Any] = []
        if isinstance(model, onnx.ModelProto):
            with _named_as(model, kernels):
                source, self._weights = _serialised(model, options)
        else:
            source = model if isinstance(model, bytes) else str(model)
        try:
            if rewrite is not None and optimise and not self._weights:
                self._session = _rewritten(source, options, rewrite)
            else:
                self._session = ort.InferenceSession(source, options, providers=PROVIDERS)
        except Exception as error:
            raise RefusedError(
                f"onnxruntime cannot load the model ({_reason(error)}); export it again, or install a newer "
                "onnxruntime"
            ) from error
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
            raise RefusedError(
                f"onnxruntime cannot run the model ({_reason(error)}); are the samples prepared as for the network?"
            ) from error
        return dict(zip(names, values, strict=True))

    @property
    def specs(self) -> tuple[InputSpec, ...]:
        """What the inputs take; the first dimension is free."""
        for other in (i for i in self.inputs if not i.type.startswith("tensor(")):
            raise RefusedError(f"input '{other.name}' takes {other.type}; export it so that it takes a tensor")
        return tuple(InputSpec(i.name, (None, *i.shape[1:]), numpy_type(i.type).name) for i in self.inputs)

    def random_inputs(self, batch: int, seed: int = 0, sizes: Sizes | None = None) -> dict[str, NDArray[Any]]:
        """Seeded random inputs of the declared shapes; sizes after the batch that are free become those of `sizes`.

        Without `sizes`, they become those that the model was calibrated with, or else `batch`.
        """
        rng, known = np.random.default_rng(seed), sizes or read_sizes(self.metadata)
        shapes = {i.name: [*i.shape[:1], *known.get(i.name, i.shape)[1:]] for i in self.inputs}
        for i in self.inputs:
            sizes_made_up = [d if isinstance(d, int) and d > 0 else batch for d in shapes[i.name]]
            refuse_to_make_up(i.name, sizes_made_up, numpy_type(i.type).name)
        return {i.name: random_input(i.type, shapes[i.name], batch, rng) for i in self.inputs}


@cache
def known_operators() -> frozenset[tuple[str, str]]:
    """Domain and name of every operator that onnxruntime brings along."""
    from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

    return frozenset((schema.domain, schema.name) for schema in get_all_operator_schema())


@contextmanager
def _named_as(model: onnx.ModelProto, kernels: frozenset[str]) -> Iterator[None]:
    """Meanwhile, nodes for which there is a kernel have its name, not that of a function."""
    nodes = [(node, node.op_type, view.op) for node, view in spiking_nodes(model.graph) if view.op in kernels]
    for node, _, op in nodes:
        node.op_type = op
    try:
        yield
    finally:
        for node, name, _ in nodes:
            node.op_type = name


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


def by_layer_session(model: onnx.ModelProto) -> Session:
    """A session of a time-folded network, or of a part of one, for what a compilation measures.

    Native kernels run its neurons where they are compiled, and where what they send is the functions' bit for bit.
    """
    views = [view for _, view in spiking_nodes(model.graph)]
    exact = {view.op for view in views if view.is_encoder or (view.is_neuron and view.activation.exact)}
    return Session(model, kernels=native.operators() & exact)


def _rewritten(source: str | bytes, options: Any, rewrite: Callable[[onnx.ModelProto], bool]) -> Any:
    """A session of what onnxruntime's optimiser makes of the model, changed by `rewrite`."""
    import onnxruntime as ort

    with temporary_folder() as folder:
        path = folder / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        session = ort.InferenceSession(source, options, providers=PROVIDERS)
        model = onnx.load(path)
    if _has_free_sizes(model) or not rewrite(model):
        return session
    options.optimized_model_filepath = ""
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=PROVIDERS)


def _has_free_sizes(model: onnx.ModelProto) -> bool:
    """Whether sizes after the batch are free.

    Loading what its optimiser made, onnxruntime infers wrong sizes after convolutions and pools in blocks whose input
    has free ones. Then it refuses the model, or gives two tensors of different sizes the same memory.
    """
    shapes = (value.type.tensor_type.shape.dim for value in model.graph.input)
    return any(not dim.HasField("dim_value") for shape in shapes for dim in shape[1:])


def random_input(kind: str, shape: Sequence[int | str | None], batch: int, rng: np.random.Generator) -> NDArray[Any]:
    """One seeded random array of an onnxruntime type such as ``tensor(float)``."""
    dims = [d if isinstance(d, int) and d > 0 else batch for d in shape]
    dtype = numpy_type(kind)
    return (rng.standard_normal(dims) if dtype.kind == "f" else rng.integers(0, 2, dims)).astype(dtype)


def numpy_type(kind: str) -> np.dtype[Any]:
    """The NumPy type of one of onnxruntime's, ``tensor(float)``, for example; of text it is that of objects."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64", "string": "object"}.get(name, name))


def _reason(error: Exception) -> str:
    """The message of onnxruntime, in one line, without the place in its own source, and cut where it is endless."""
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : (/\S+:\d+ .*?\) )?", "", " ".join(str(error).split()))
    return (text if len(text) <= LONGEST else f"{text[:LONGEST]}...") or type(error).__name__
