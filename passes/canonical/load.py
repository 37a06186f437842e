"""From a file to a network: read, check, inline functions, raise the opset, bring 16-bit weights to 32 bits."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from graphlib import CycleError
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError

from csscc.dialect.adapter import MIN_OPSET, export_model, import_model
from csscc.dialect.model import VERSIONS, opset_of
from csscc.dialect.network import Network
from csscc.dialect.rewrite import is_foreign
from csscc.dialect.sizes import Sizes, encoded, fix_sizes
from csscc.errors import CssccError, RefusedError, UsageError
from csscc.io.guard import refuse_hostile
from csscc.io.trial import try_out, was_not_opened
from csscc.io.weights import fits, pieces, without_weights
from csscc.passes.canonical.dequantise import dequantised
from csscc.passes.canonical.finite_weights import refuse_not_finite
from csscc.passes.canonical.float32 import in_float32
from csscc.passes.canonical.foreign import learn_shapes, refuse_unknown_operators, without_normalizers
from csscc.passes.canonical.quantised_operators import without_quantised_operators


def load(source: str | Path | onnx.ModelProto, shapes: Sizes | None = None) -> Network:
    """Network of an ONNX file or model, unchanged in meaning, in opset 20 or newer.

    Args:
        source: the file or model.
        shapes: of inputs, in place of sizes that the model leaves free.

    Raises:
        RefusedError: the file is missing, is not valid ONNX, is too large, its opset cannot be raised, or weights are
            not finite.
        RefusedModelError: the model uses operators that no function in it defines and onnxruntime does not know.
    """
    if isinstance(source, onnx.ModelProto):
        refuse_hostile(source, "the model", tried=False)  # whoever has it in memory has let onnx work on it already
    given = source if isinstance(source, onnx.ModelProto) else read_model(source)
    _refuse_spiking(given)
    model, weights = without_weights(given)
    _refuse_large_constants(model)
    with _refused_if_invalid(model):
        network = _loaded(source, model, weights, shapes)
    if was_not_opened(given):
        try_out(_exported(network, weights=True), runs=True)
    return network


def _loaded(
    source: str | Path | onnx.ModelProto,
    model: onnx.ModelProto,
    weights: dict[str, onnx.TensorProto],
    shapes: Sizes | None,
) -> Network:
    """Network of a model that lacks the values of `weights`; `source` is where it comes from."""
    origin = {
        "name": "model" if isinstance(source, onnx.ModelProto) else Path(source).name,
        "producer": " ".join(filter(None, (model.producer_name, model.producer_version))),
        "opset": str(opset_of(model)),
        "sha256": _digest(source),
    }
    model = _inlined(_without_weight_inputs(model))
    refuse_not_finite(model, weights)
    _unname_free_sizes(model)
    if shapes:
        fix_sizes(model, shapes)
        origin["fixed"] = encoded(shapes)
    model, weights = dequantised(without_quantised_operators(model, weights), weights)
    model = without_normalizers(model)
    refuse_unknown_operators(model)
    _refuse_empty_inputs(model)
    network = _valid(_raise_opset(in_float32(model)), weights)
    network.origin = origin
    if any(is_foreign(n.domain) for n in network.graph.nodes):
        learn_shapes(network)
    return network


@contextlib.contextmanager
def _refused_if_invalid(model: onnx.ModelProto) -> Iterator[None]:
    """What reads a model may rely on it being valid ONNX: where it fails, ONNX's checker shows whose fault that is."""
    try:
        yield
    except (CssccError, MemoryError, RecursionError):
        raise
    except Exception as error:
        try:
            onnx.checker.check_model(model, full_check=True)
        except Exception as verdict:
            raise RefusedError(f"the model is not valid ONNX: {_first_line(verdict)}; export it again") from error
        raise


def _refuse_spiking(model: onnx.ModelProto) -> None:
    """Refuse a network that csscc has made spiking already, with one line and not one for each of its nodes."""
    if any(n.domain in VERSIONS for n in model.graph.node):
        raise RefusedError("the model is a spiking network already; compile the network that it was made from")


def read_model(path: str | Path) -> onnx.ModelProto:
    """The model in the ONNX file at `path`, with its external data.

    Raises:
        UsageError: it is no path.
        RefusedError: the file is missing or is not an ONNX model.
    """
    if not isinstance(path, str | os.PathLike):
        raise UsageError(
            f"a network is the path of an ONNX file or an onnx.ModelProto, not {type(path).__name__}; export it first: "
            "csscc.pytorch.export for modules of PyTorch, skl2onnx.to_onnx for scikit-learn, others in "
            "docs/frameworks.md"
        )
    path = Path(path)
    if not path.is_file():
        raise RefusedError(f"{path}: no such file; give the path of an .onnx model")
    try:
        model = onnx.load(path)
    except (DecodeError, ValueError, RuntimeError) as error:
        if path.suffix in (".npy", ".npz"):
            raise RefusedError(
                f"{path}: these are samples, not a network; give the .onnx file here, and samples by --data or "
                "--calibration"
            ) from error
        raise RefusedError(f"{path}: not a readable ONNX model ({_first_line(error)}); export it to ONNX") from error
    except (onnx.checker.ValidationError, OSError) as error:
        raise RefusedError(
            f"{path}: its weights in other files cannot be read ({_first_line(error)}); keep these files beside it"
        ) from error
    if not model.graph.node or not model.opset_import:
        raise RefusedError(f"{path}: not an ONNX model (it has no graph or no opset); was it exported completely?")
    refuse_hostile(model, str(path), tried=True)
    return model


def _refuse_large_constants(model: onnx.ModelProto) -> None:
    if not fits(model):
        raise RefusedError(
            "the network has more than 2 GB in Constant nodes, too much for one model; "
            "export its weights as initializers"
        )


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.inliner.inline_local_functions(model) if model.functions else model
    except (onnx.checker.ValidationError, RuntimeError) as error:
        message = f"the model's functions cannot be inlined ({_first_line(error)}); export it without functions"
        raise RefusedError(message) from error


def _valid(model: onnx.ModelProto, weights: Mapping[str, onnx.TensorProto]) -> Network:
    """The network of a model and the `weights` it lacks that ONNX's checker accepts once its nodes are in order.

    Raises:
        RefusedError: the graph has a cycle, or is not valid ONNX in another way.
    """
    from onnx_graphsurgeon.util.exception import OnnxGraphSurgeonException

    _forget_odd_types(model)
    try:
        network = import_model(model, weights)
        onnx.checker.check_model(_exported(network, weights=False))
    except (OnnxGraphSurgeonException, CycleError, onnx.checker.ValidationError) as error:
        raise RefusedError(f"the model is not valid ONNX: {_first_line(error)}; export it again") from error
    return network


def _exported(network: Network, *, weights: bool) -> onnx.ModelProto:
    """The network as a model, with or without its large weights; the order of its nodes stays that of the file."""
    in_file_order = list(network.graph.nodes)
    model = export_model(network, weights=weights)
    network.graph.nodes = in_file_order  # exporting sorts them
    return model


def _unname_free_sizes(model: onnx.ModelProto) -> None:
    """A size of -1, and one called "?", which is no name, state nothing: two of them need not be the same."""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if (dim.HasField("dim_value") and dim.dim_value == -1) or dim.dim_param == "?":
                dim.Clear()


def _forget_odd_types(model: onnx.ModelProto) -> None:
    """Forget what is stated of tensors inside that are of no type, or of one that is not read; it is inferred anew."""
    known, graphs = frozenset(onnx.TensorProto.DataType.values()), [model.graph]
    for graph in graphs:
        graphs.extend(g for n in graph.node for a in n.attribute for g in (a.g, *a.graphs) if g.node)
        infos = list(graph.value_info)
        plain = [v for v in infos if v.type.WhichOneof("value") in ("tensor_type", "sequence_type", None)]
        plain = [v for v in plain if v.type.tensor_type.elem_type in known]
        if len(plain) < len(infos):
            kept = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in plain]
            del graph.value_info[:]
            graph.value_info.extend(kept)


def _refuse_empty_inputs(model: onnx.ModelProto) -> None:
    for value in model.graph.input:
        shape = value.type.tensor_type.shape.dim
        if any(d.HasField("dim_value") and d.dim_value < 1 for d in shape):
            sizes = [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in shape]
            raise RefusedError(f"input '{value.name}' of shape {sizes} takes no data; export with positive sizes")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _digest(source: str | Path | onnx.ModelProto) -> str:
    digest = hashlib.sha256()
    for piece in pieces(source) if isinstance(source, onnx.ModelProto) else [Path(source).read_bytes()]:
        digest.update(piece)
    return digest.hexdigest()


def _without_weight_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """Initializers that IR version 3 also lists as inputs are constants: drop them from the inputs."""
    initializers = {t.name for t in model.graph.initializer}
    if not any(i.name in initializers for i in model.graph.input):
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    inputs = [i for i in changed.graph.input if i.name not in initializers]
    del changed.graph.input[:]
    changed.graph.input.extend(inputs)
    changed.ir_version = max(changed.ir_version, 4)
    return changed


def _raise_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in opset 20 or newer, by onnx's own converter."""
    version, known = opset_of(model), onnx.defs.onnx_opset_version()
    if version > known:
        raise RefusedError(
            f"the model's opset is {version}, the installed onnx knows those up to {known}; export it with one of "
            "those, "
            "or install newer versions of onnx and onnxruntime"
        )
    if version >= MIN_OPSET:
        return model
    try:
        # With shapes known, the converter finds simpler forms (for example of a Softmax over the last axis).
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        converted = onnx.version_converter.convert_version(inferred, MIN_OPSET)
    except Exception as error:
        unknown = {n.op_type for n in model.graph.node if not n.domain and not onnx.defs.has(n.op_type, version)}
        cause = f"it has no operator {', '.join(sorted(unknown))}" if unknown else _first_line(error)
        raise RefusedError(
            f"the model's opset {version} cannot be raised to {MIN_OPSET}: {cause}; "
            f"export it again with opset {MIN_OPSET} or newer"
        ) from error
    return converted
