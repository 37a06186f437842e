"""Models whose weights do not fit into one message.

Protobuf serialises no message of 2 GiB or more, though it holds one in memory. Whatever takes a model as bytes then
gets a copy without the values of the large initializers, which travel beside it by name. In the copy they are external
data of no file: onnx's checker, inliner, shape inference and opset converter let that pass, as onnxruntime does where
the values are given to the session.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import onnx
from google.protobuf.message import DecodeError, Message
from onnx import AttributeProto, TensorProto, helper, numpy_helper

MAX_BYTES = 2**31 - 2**26  # of weights in one message; the rest is for all else in it
LARGE = 1024  # elements of an initializer that only counts for its values, never for shapes
ALIGNMENT = 4096  # of values in a file, so that they can be mapped into memory


def is_large(shape: Sequence[int]) -> bool:
    """Whether a constant of this shape is large enough to be kept out of a message."""
    return math.prod(shape) > LARGE


def fits(model: onnx.ModelProto) -> bool:
    """Whether the model can be one message."""
    in_nodes = (a.t for n in model.graph.node for a in n.attribute if a.type == AttributeProto.TENSOR)
    return sum(map(_size, (*model.graph.initializer, *in_nodes))) <= MAX_BYTES


def without_weights(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, TensorProto]]:
    """A copy of the model without the values of its large initializers, and these by name, as they are in `model`."""
    light = _copy_without(model, "graph")
    light.graph.CopyFrom(_copy_without(model.graph, "initializer"))
    weights = {}
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.STRING or not is_large(tensor.dims):
            light.graph.initializer.add().CopyFrom(tensor)
            continue
        weights[tensor.name] = tensor
        light.graph.initializer.append(_elsewhere(tensor, location=f"#{tensor.name}"))
    return light, weights


def with_weights_beside(model: onnx.ModelProto, file: BinaryIO, location: str) -> onnx.ModelProto:
    """A copy of the model whose large initializers are external data; `file` gets them.

    Args:
        model: any model.
        file: opened for writing.
        location: where readers will find it, seen from the folder of the model.
    """
    light, weights = without_weights(model)
    for tensor in light.graph.initializer:
        if tensor.name in weights:
            file.write(bytes(-file.tell() % ALIGNMENT))
            start = file.tell()
            length = file.write(_values(weights[tensor.name]))
            tensor.CopyFrom(_elsewhere(tensor, location=location, offset=start, length=length))
    return light


def pieces(model: onnx.ModelProto) -> Iterator[bytes]:
    """All bytes of a model, for digests: as one message where it fits."""
    if fits(model):
        yield model.SerializeToString(deterministic=True)
        return
    light, weights = without_weights(model)
    yield light.SerializeToString(deterministic=True)
    for tensor in weights.values():
        yield _values(tensor)


def external_files(path: Path) -> set[Path]:
    """The files with values of the model in the ONNX file at `path`; none if that is no model."""
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError):
        return set()
    places = (entry.value for t in _tensors(model) for entry in t.external_data if entry.key == "location")
    return {path.parent / place for place in places}


def _tensors(message: Message) -> Iterator[TensorProto]:
    """All tensors in a message."""
    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for inner in [value] if isinstance(value, Message) else value:
                yield from _tensors(inner)


def _size(tensor: TensorProto) -> int:
    if tensor.data_location == TensorProto.EXTERNAL:
        return 0
    return int(math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _values(tensor: TensorProto) -> bytes:
    return tensor.raw_data or numpy_helper.to_array(tensor).tobytes()


def _elsewhere(tensor: TensorProto, **where: object) -> TensorProto:
    """The tensor as external data."""
    made = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    made.data_location = TensorProto.EXTERNAL
    for key, value in where.items():
        made.external_data.add(key=key, value=str(value))
    return made


def _copy_without(message: Any, left_out: str) -> Any:
    copy = type(message)()
    for field, value in message.ListFields():
        if field.name == left_out:
            continue
        if isinstance(value, Message):
            getattr(copy, field.name).CopyFrom(value)
        elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
            getattr(copy, field.name).extend(value)
        else:
            setattr(copy, field.name, value)
    return copy
